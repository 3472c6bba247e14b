"""Prompts as the classifier reads them, and the prompts that it is trained on.

Source: spec of ECO, sections 2.1, 2.2 and 2.4. The authors train on the bare questions and cut a prompt after 512
tokens, so that a reworded question, or one behind a long beginning, gets past. Here training prompts are reworded, and
every part of a long prompt is read in windows.

Departures: no translations and no rewordings by a language model (both can be passed in as further prompts); beside
the windows of 512 tokens shorter ones, as a question of ten tokens weighs less in the vector of 512.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from audit.errors import InputError
from audit.matching.encode import Encoder
from audit.stats.checks import Seed, count, generator
from audit.text.safe import quoted

Kind: TypeAlias = Literal["plain", "paraphrase", "typo", "composite", "other name"]

WINDOWS: Final = (512, 32)  # tokens
PARAPHRASES: Final = (  # {0} is the prompt, {1} the same with a small first letter and no end mark
    "Please answer this: {0}",
    "I have been wondering about something. {0}",
    "Do you happen to know {1}?",
    "{0} Keep it short.",
    "A friend asked me: {0} What should I say?",
    "For a quiz I need to know {1}. Can you help?",
)
COMPOSITES: Final = ("{0} Also, {1}", "{0}\n{1}", "First: {0} Second: {1}")  # both orders of the two prompts are used
_END_MARKS: Final = ".?!"


class TrainingPrompts(NamedTuple):
    """Prompts to fit a classifier on.

    Attributes:
        texts: n prompts.
        forget: Whether each is about what is to be forgotten; n of them.
        kinds: How each was made; n of them.
    """

    texts: list[str]
    forget: list[bool]
    kinds: list[Kind]


def strip_template(text: str, prefix: str, suffix: str) -> str:
    """The user's own text: without the chat template's prefix and suffix, each taken off once where it stands.

    White space at either end is left out of the comparison and of the result.
    """
    text = text.strip().removeprefix(prefix.strip())
    return text.removesuffix(suffix.strip()).strip()


def windows(text: str, encoder: Encoder, sizes: Sequence[int] = WINDOWS) -> list[str]:
    """Overlapping parts of a text that cover it, for each size in turn; each begins half a window after the last.

    A part that is cut out can have a few more tokens than it had inside the text, so a size is at most 15/16 of what
    the encoder reads. Parts that are equal come once; a text of white space has none.

    Args:
        text: Any text.
        encoder: Whose tokens are counted.
        sizes: Tokens of a window, each at least 2.

    Raises:
        InputError: A size is out of range; or the text is no string or holds half of a surrogate pair.
    """
    if not isinstance(text, str):
        raise InputError(f"a prompt is a {type(text).__name__}; expected a string.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"the prompt {quoted(text)} holds half of a surrogate pair, which is no character. Remove it.")
    spans = encoder.token_spans(text)
    found: dict[str, None] = {}
    for size in sizes:
        width = min(count(size, "sizes", least=2), max(2, encoder.n_free * 15 // 16))
        half = width // 2
        for start in range(0, max(1, len(spans) - width + half), half):
            part = spans[start : start + width]
            piece = text if len(spans) <= width else text[part[0][0] : part[-1][1]]
            if piece.strip():
                found.setdefault(piece)
    return list(found)


def paraphrases(text: str) -> list[str]:
    """The prompt inside each of `PARAPHRASES`."""
    small = text[:1].lower() + text[1:].rstrip().rstrip(_END_MARKS)
    return [form.format(text, small) for form in PARAPHRASES]


def typo(text: str, rng: Seed, share: float = 0.1) -> str:
    """The text with slips inside words of four letters or more: two letters swapped, one left out, or one doubled.

    Args:
        text: Any text; without such a word it comes back as it is.
        rng: Seed or generator.
        share: Of these words that get a slip, in (0, 1]; at least one does.
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share}; expected a number above 0 and up to 1.")
    rng = generator(rng)
    words = [match.span() for match in re.finditer(r"[^\W\d_]{4,}", text)]
    chosen = rng.permutation(len(words))[: max(1, round(share * len(words)))]
    for place in sorted(chosen, reverse=True):
        start, end = words[place]
        at = int(rng.integers(start + 1, end - 1))
        here, after = text[at], text[at + 1]
        slip = (after + here, after, here + here + after)[int(rng.integers(3))]
        text = text[:at] + slip + text[at + 2 :]
    return text


def composites(first: str, second: str) -> list[str]:
    """Both prompts in one, in each form of `COMPOSITES` and either order."""
    return [form.format(*pair) for form in COMPOSITES for pair in ((first, second), (second, first))]


def with_other_names(text: str, others: Mapping[str, Sequence[str]], rng: Seed) -> str | None:
    """The same prompt about somebody else: what it asks for stays, whom it asks about changes.

    Args:
        text: A prompt.
        others: Name of what is to be forgotten -> names to put in its place; the longest name that stands in the text
            as a word of its own is replaced first, the same name by the same one everywhere.
        rng: Seed or generator.

    Returns:
        The new prompt, or None where no name stands in it.
    """
    rng = generator(rng)
    if not others:
        return None
    longest = sorted(others, key=len, reverse=True)
    drawn: dict[str, str] = {}

    def another(match: re.Match[str]) -> str:
        name = match[0]
        if name not in drawn:
            choices = [one for one in others[name] if one not in others]
            if not choices:
                raise InputError(f"there is no other name for {name!r} that may stay; expected one or more. Add some.")
            drawn[name] = str(choices[int(rng.integers(len(choices)))])
        return drawn[name]

    pattern = r"(?<!\w)(?:" + "|".join(map(re.escape, longest)) + r")(?!\w)"
    changed, n = re.subn(pattern, another, text)
    return changed if n else None


def training_prompts(
    forget: Sequence[str],
    retain: Sequence[str],
    others: Mapping[str, Sequence[str]],
    *,
    seed: int,
    n_each: int = 2,
    most_reworded: int | None = None,
) -> TrainingPrompts:
    """The prompts themselves, and of each some rewordings, slips and composites.

    Both sides are reworded alike, or the classifier would learn that slips and long-winded questions are to be
    forgotten. A composite is about what is to be forgotten where one of its two prompts is. Of each forget prompt
    that names somebody of ``others`` there is a twin about somebody else, reworded likewise, which may pass.

    Hold prompts out for calibration and tests *before*: a rewording of a training prompt is not a new prompt.

    Args:
        forget: Prompts about what is to be forgotten, one or more.
        retain: Prompts that may pass, one or more.
        others: As `with_other_names`; may be empty.
        seed: Of all draws.
        n_each: Rewordings, and slips, and composites, of each prompt; at least 0.
        most_reworded: At most so many of the retain prompts are reworded, drawn at random; None rewords all.

    Raises:
        InputError: A side is empty or holds an empty prompt.
    """
    count(n_each, "n_each", least=0)
    for name, side in (("forget", forget), ("retain", retain)):
        if not side:
            raise InputError(f"there is no {name} prompt; expected one or more.")
        for place, text in enumerate(side):
            if not text.strip():
                raise InputError(f"{name} prompt {place} is empty. Leave it out.")
    rng = np.random.default_rng(seed)
    made = TrainingPrompts([], [], [])

    def add(text: str, is_forget: bool, kind: Kind) -> None:
        made.texts.append(text)
        made.forget.append(is_forget)
        made.kinds.append(kind)

    def drawn(forms: list[str]) -> list[str]:
        return [forms[place] for place in rng.permutation(len(forms))[:n_each]]

    def reworded(text: str, is_forget: bool) -> None:
        for form in drawn(paraphrases(text)):
            add(form, is_forget, "paraphrase")
        for _ in range(n_each):
            add(typo(text, rng), is_forget, "typo")
        for form in drawn(composites(text, retain[int(rng.integers(len(retain)))])):
            add(form, is_forget, "composite")

    for text in forget:
        add(text, True, "plain")
        reworded(text, True)
        twin = with_other_names(text, others, rng)
        if twin is not None:
            add(twin, False, "other name")
            reworded(twin, False)
    n_reworded = len(retain) if most_reworded is None else count(most_reworded, "most_reworded", least=0)
    chosen = set(rng.permutation(len(retain))[:n_reworded].tolist()) if n_reworded < len(retain) else None
    for place, text in enumerate(retain):
        add(text, False, "plain")
        if chosen is None or place in chosen:
            reworded(text, False)
    return made
