"""What is looked at while a model forgets: losses on text and familiarity with names, for the report alone.

    loss            mean over passages of the mean of -log p(x_i | x_<i) over a passage's tokens, nats
    familiarity     `audit.forgetting.probability`, at places of the forget text where a name of its own is due

Familiarity by probability after Eldan and Russinovich 2023, arXiv:2310.02238; what is departed from stands there. The
forget text itself is measured, so that these numbers say whether training reaches it and nothing about other prompts.
They decide nothing: no training, no stopping, no choice of weights reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from audit.errors import AuditError, DataError, InputError
from audit.forgetting.continuing import continued
from audit.forgetting.measured import Measured
from audit.forgetting.names import find_names
from audit.forgetting.probability import FirstTokens, expected_probabilities, find_first_tokens, next_token_mass
from audit.forgetting.prompts import Passage, Prompt, cut_passages, gap_after, make_prompts
from audit.lm.load import LanguageModel, Tokens
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import encode, prefix_ids
from audit.text.safe import counted, quoted

FORGET, RETAIN, NAME, MASS = "forget_loss", "retain_loss", "name_probability", "next_token_mass"
#: Measure -> what reports call it. Ours, the numbers below too: enough for an interval, few enough for a CPU.
NAMES = {
    FORGET: "loss on the forget text, nats a token",
    RETAIN: "loss on held-out text, nats a token",
    NAME: "probability of the whole name that is due",
    MASS: "probability of idiosyncratic next tokens",
}
MOST_PASSAGES = 64
MOST_PROMPTS = 200
ENOUGH = 20  # passages, below which an interval is too narrow
WORDS = (40, 300)  # of a passage: fewest and most
HELD_OUT = 0.1  # share of the retain text's passages that is kept out of training
Some = TypeVar("Some")


@dataclass(frozen=True, slots=True)
class Watch:
    """What is measured at each evaluation.

    Attributes:
        forget: Passages of the forget text.
        held_out: Passages of text like the retained one that nothing trains on; none: no retain loss.
        prompts: Places where a name is due; none: no familiarity.
        first_tokens: The names' first tokens; None: those that the prompts themselves mark.
        missing: Measure -> why it is not measured.
        notes: What was left out of what is measured, in sentences.
    """

    forget: tuple[Passage, ...]
    held_out: tuple[Passage, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    first_tokens: FirstTokens | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured, in the order of reports."""
        return tuple(name for name in NAMES if name not in self.missing)

    def to_record(self) -> dict[str, Any]:
        """What determines the values for a given model, as plain JSON values."""
        tokens = self.first_tokens
        return {
            "forget": [list(one) for one in self.forget],
            "held_out": [list(one) for one in self.held_out],
            "prompts": [{name: list(v) if isinstance(v, tuple) else v for name, v in asdict(one).items()} for one in
                        self.prompts],
            "first_tokens": None if tokens is None else {"spaced": dict(tokens.spaced), "bare": dict(tokens.bare)},
            "missing": dict(self.missing),
        }  # fmt: skip


def make_watch(
    tokens: Tokens | LanguageModel,
    forget: str,
    *,
    held_out: Sequence[Passage] = (),
    why_no_held_out: str = "no text to hold out was given",
    contrast: str = "",
    prompts: Sequence[Prompt] | None = None,
    seed: int = 0,
) -> Watch:
    """Choose passages, names and prompts; what cannot be measured is left out with its reason.

    Args:
        tokens: The model that is to forget, or its tokenizer.
        forget: The whole forget text.
        held_out: Passages that nothing trains on, from `hold_out` or `passages`.
        why_no_held_out: Said where there are none.
        contrast: Other text, which the forget text's names must not stand in.
        prompts: Written ones, in place of those cut from the text; what they mark as due is measured.
        seed: Of the draw where there are more passages or prompts than are measured.

    Raises:
        InputError: Written prompts mark nothing that is due.
        DataError: A written prompt, with what is due, does not fit the model's context; cut ones are left out.
    """
    missing: dict[str, str] = {} if held_out else {RETAIN: why_no_held_out}
    whole = passages(forget)
    first: FirstTokens | None = None
    notes: list[str] = []
    if prompts is not None:
        chosen = [prompt for prompt in prompts if prompt.expected]
        if not chosen:
            raise InputError(
                f'none of the {counted(len(prompts), "prompt")} says which name is due; give "expected" in the file of '
                "prompts, or leave it out: prompts are then cut from the forget text."
            )
        if long := _too_long(tokens, chosen):
            raise DataError(
                f"the prompt {quoted(long[0].id)}, with the name that is due, does not fit the model's context of "
                f"{tokens.n_context:,} tokens ({len(long):,} such in all). Shorten it."
            )
    else:
        chosen, first, reasons, n_long = _cut(tokens, whole, contrast)
        missing |= reasons
        if n_long:
            notes.append(f"{counted(n_long, 'prompt')} did not fit the model's context and were left out.")
    for what, n, most in (
        ("passages of the forget text", len(whole), MOST_PASSAGES),
        ("passages that were held out", len(held_out), MOST_PASSAGES),
        ("prompts", len(chosen), MOST_PROMPTS),
    ):
        if n > most:
            notes.append(f"Of {n:,} {what} {most:,} are measured, drawn at random.")
    return Watch(
        tuple(_some(whole, MOST_PASSAGES, seed)),
        tuple(_some(held_out, MOST_PASSAGES, seed)),
        tuple(_some(chosen, MOST_PROMPTS, seed)),
        first,
        missing,
        tuple(notes),
    )


def passages(text: str) -> list[Passage]:
    """Passages of a text, about `ENOUGH` of them or more where it is long enough.

    Paragraphs end at blank lines; where that gives fewer than `ENOUGH` passages, at every line's end.
    """
    least, most = WORDS
    n_words = min(most, max(least, len(text.split()) // (2 * ENOUGH)))
    found = cut_passages(text, n_words=n_words)
    return found if len(found) >= ENOUGH else cut_passages(re.sub(r"\n+", "\n\n", text), n_words=n_words)


def hold_out(text: str, *, seed: int) -> tuple[str, list[Passage], str]:
    """Keep a tenth of a text's passages, at least one, out of training.

    Returns:
        The text without them, the passages, and why there are none where the text is a single passage.
    """
    whole = passages(text)
    if len(whole) < 2:
        return text, [], "the retain text is one passage, of which none can be kept out; give text of its own for this"
    n_out = max(1, round(HELD_OUT * len(whole)))
    out = set(np.random.default_rng([seed, 4]).permutation(len(whole))[:n_out].tolist())
    kept = "\n\n".join(one.text for place, one in enumerate(whole) if place not in out)
    return kept, [one for place, one in enumerate(whole) if place in out], ""


def _some(items: Sequence[Some], most: int, seed: int) -> list[Some]:
    """At most so many, drawn at random, in their order."""
    if len(items) <= most:
        return list(items)
    drawn = np.random.default_rng([seed, 5]).choice(len(items), most, replace=False)
    return [items[place] for place in sorted(drawn.tolist())]


def _too_long(tokens: Tokens | LanguageModel, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Prompts that the model cannot read with what is due after them."""
    pairs = [(place, gap_after(one.text) + name) for place, one in enumerate(prompts) for name in one.expected]
    whole = continued(tokens, [prompts[place].text for place, _ in pairs], [after for _, after in pairs])
    room = tokens.n_context - len(prefix_ids(tokens))
    long = {place for (place, _), one in zip(pairs, whole, strict=True) if len(one.ids) > room}
    return [prompts[place] for place in sorted(long)]


def _cut(
    tokens: Tokens | LanguageModel, whole: Sequence[Passage], contrast: str
) -> tuple[list[Prompt], FirstTokens | None, dict[str, str], int]:
    """Prompts at names that the contrast text lacks, first tokens, what is not measured, how many prompts were lost."""
    if not contrast.strip():
        why = "no other text was given (contrast, retain or held-out text), so the forget text's own names are unknown"
        return [], None, {NAME: why, MASS: why}, 0
    names = find_names([one.text for one in whole], [contrast])
    try:
        made = make_prompts(whole, names)
    except InputError as error:
        why = f"no prompt could be cut: {error}" if names else "no name stands in the forget text and not in the other"
        return [], None, {NAME: why, MASS: why}, 0
    long = {one.id for one in _too_long(tokens, made)}
    cut = [one for one in made if one.id not in long]
    if not cut:
        why = "no prompt fits the model's context"
        return [], None, {NAME: why, MASS: why}, len(long)
    try:
        first = find_first_tokens(tokens, names, [contrast])
    except InputError as error:
        return cut, None, {MASS: str(error)}, len(long)
    if not any(first.after(prompt) for prompt in cut):
        return cut, None, {MASS: "no prompt has an idiosyncratic next token"}, len(long)
    return cut, first, {}, len(long)


def measure(lm: LanguageModel, watch: Watch) -> dict[str, Measured]:
    """Every measure of a model as it is now; it is left as it was.

    Where a measure cannot be made (a collapsed model has no finite numbers), each of its items says why instead: no
    training ends because of what is only looked at.
    """
    makers: dict[str, tuple[Callable[[], Measured], Sequence[Passage | Prompt]]] = {
        FORGET: (lambda: loss(lm, watch.forget, NAMES[FORGET]), watch.forget),
        RETAIN: (lambda: loss(lm, watch.held_out, NAMES[RETAIN]), watch.held_out),
        NAME: (lambda: expected_probabilities(lm, watch.prompts), watch.prompts),
        MASS: (lambda: next_token_mass(lm, watch.prompts, watch.first_tokens), watch.prompts),
    }
    found: dict[str, Measured] = {}
    for name in watch.measures:
        make, items = makers[name]
        try:
            found[name] = make()
        except AuditError as error:
            found[name] = Measured(NAMES[name], (), (), np.zeros(0), {item.id: str(error) for item in items})
    return found


def loss(lm: LanguageModel, texts: Sequence[Passage], name: str) -> Measured:
    """Mean of -log p over each passage's tokens, read in windows that fit the context.

    Args:
        lm: The model.
        texts: Passages; one without two tokens is left out.
        name: What is measured.

    Raises:
        DataError: No passage has a token to predict.
        ModelError: As `token_log_probs`.
    """
    lead = prefix_ids(lm)
    width = lm.n_context - len(lead)
    windows: list[list[int]] = []
    homes: list[int] = []
    for place, ids in enumerate(encode(lm, [one.text for one in texts])):
        for start in range(0, len(ids), width):
            window = ids[start : start + width]
            if len(window) + len(lead) >= 2:
                windows.append(window)
                homes.append(place)
    if not windows:
        raise DataError(f"{name}: no passage has two tokens, so there is nothing to predict. Give a longer text.")
    sums, counts = np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
    for place, scores in zip(homes, token_log_probs(lm, windows, prefix=lead), strict=True):
        sums[place] -= scores.log_probs.sum(dtype=np.float64)
        counts[place] += len(scores.log_probs)
    kept = np.flatnonzero(counts)
    names = tuple(texts[place].id for place in kept)
    left_out = {texts[place].id: "it has no token to predict" for place in np.flatnonzero(counts == 0)}
    return Measured(name, names, names, sums[kept] / counts[kept], left_out)
