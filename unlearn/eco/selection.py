r"""Which tokens of a prompt are corrupted: all but the last, or those of names.

The last token of the prompt stays clean, since the next token is read there; padding is never selected. Source: the
authors' code of arXiv:2406.07933. Departures: they find names with a BERT tagger, every entity of any kind; here names
come from a list of the forget set and are looked up in the text, with nothing to download. They corrupt an answer that
is scored after its prompt as well, though an answer that is generated is never corrupted; that is the scope
"prompt+answer", and a result says which scope it has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

import torch
from rapidfuzz import process
from rapidfuzz.distance import Indel
from torch import Tensor

from audit.answers.systems import Scope
from audit.errors import InputError

from .plain_text import plain

_WORD: Final = re.compile(r"[^\W_]+")
_SPELLED: Final = 6
"""Letters and digits from which a name is found however it is spaced: of shorter ones, two words make too many."""


class Span(NamedTuple):
    """Characters ``start`` to ``end`` (exclusive) of a text."""

    start: int
    end: int


class Finder(Protocol):
    """Where names stand in a text: `NameMatcher`, or a token classifier."""

    def find(self, text: str) -> list[Span]: ...


class NameMatcher:
    """Finds names of the forget set in texts as they look (`plain_text`), case ignored and misspellings forgiven.

    As many words of the text as a name has are compared with it: 1 - Indel distance / both lengths >= ``ratio``.
    Whole words that make a name together are found too, spaced and joined as may be: "H a r r y-Potter", "HarryPotter".
    Only what is listed is found: list "Potter" beside "Harry Potter". In scripts without spaces a name is found only
    where it stands between other characters than letters.

    Args:
        names: At least one; each has a letter or a digit.
        ratio: Likeness from which a name counts as found, above 0 and at most 1 (1: equal but for case and looks). The
            default is ours: a letter too many or too few in a word of five is forgiven, a wrong one (it counts twice)
            in a name of ten.

    Raises:
        InputError: No name, a name without a letter, or a ratio out of range.
    """

    def __init__(self, names: Sequence[str], *, ratio: float = 0.9) -> None:
        if not 0 < ratio <= 1:
            raise InputError(f"ratio is {ratio!r}; expected a number above 0 and at most 1.")
        self._ratio = ratio
        self._names: dict[int, list[str]] = {}  # by number of words
        self._joined: set[str] = set()
        for name in names:
            shown = plain(name).text
            words = _words(shown)
            if not words:
                raise InputError(f"the name {name!r} has no letter or digit, so it cannot be found; leave it out.")
            self._names.setdefault(len(words), []).append(_folded(shown, words))
            joined = _folded(shown, words, between="")
            if len(joined) >= _SPELLED:
                self._joined.add(joined)
        if not self._names:
            raise InputError("there is no name to look for; give at least one, or select all tokens but the last.")

    def find(self, text: str) -> list[Span]:
        """Where names stand in a text, by start; spans can overlap."""
        shown, origins = plain(text)
        words = _words(shown)
        found = self._spelled(shown, words)
        for size, names in self._names.items():
            windows = [words[first : first + size] for first in range(len(words) - size + 1)]
            if not windows:
                continue
            folded = [_folded(shown, window) for window in windows]
            likeness = process.cdist(folded, names, scorer=Indel.normalized_similarity)  # (windows, names), float32
            hits = likeness.max(axis=1) >= self._ratio - 1e-6
            found |= {Span(window[0].start, window[-1].end) for window, hit in zip(windows, hits, strict=True) if hit}
        return sorted(Span(origins[start], origins[end]) for start, end in found)

    def _spelled(self, text: str, words: Sequence[Span]) -> set[Span]:
        """Words of a text that make a name where what stands between them is left out."""
        parts = [_folded(text, [word]) for word in words]
        ends = list(accumulate(map(len, parts)))
        starting = {end - len(part): word.start for end, part, word in zip(ends, parts, words, strict=True)}
        ending = {end: word.end for end, word in zip(ends, words, strict=True)}
        letters = "".join(parts)
        found = set()
        for name in self._joined:
            start = letters.find(name)
            while start >= 0:
                end = start + len(name)
                if start in starting and end in ending:
                    found.add(Span(starting[start], ending[end]))
                start = letters.find(name, start + 1)
        return found


def _words(text: str) -> list[Span]:
    return [Span(*one.span()) for one in _WORD.finditer(text)]


def _folded(text: str, words: Sequence[Span], *, between: str = " ") -> str:
    return between.join(text[one.start : one.end].casefold() for one in words)


def all_but_last(
    attention_mask: Tensor, *, prompt_lengths: Sequence[int] | None = None, scope: Scope = "prompt"
) -> Tensor:
    """Every token but the last: of the prompt, or of prompt and answer.

    Args:
        attention_mask: 1 at tokens and 0 at padding, on either side; shape (B, T).
        prompt_lengths: Tokens of each prompt, where an answer stands behind it; None where there is no answer.
        scope: How far the corruption reaches.

    Returns:
        Boolean mask, shape (B, T); a prompt of one token has none selected.

    Raises:
        InputError: The scope is unknown, or a prompt is empty or longer than its row.
    """
    if scope not in ("prompt", "prompt+answer"):
        raise InputError(f'scope is {scope!r}; expected "prompt" or "prompt+answer".')
    is_token = attention_mask.bool()
    lengths = is_token.sum(1)
    last = lengths
    if prompt_lengths is not None:
        prompts = torch.tensor(list(prompt_lengths), device=lengths.device)
        if prompts.shape != lengths.shape or bool(((prompts < 1) | (prompts > lengths)).any()):
            raise InputError(
                f"prompts have {prompts.tolist()} tokens and rows {lengths.tolist()}; expected one number for each "
                "row, from 1 to its own length."
            )
        last = prompts if scope == "prompt" else lengths
    return is_token & (is_token.cumsum(1) < last[:, None])


def of_names(
    texts: Sequence[str], offsets: Tensor | Sequence[Sequence[Sequence[int]]], matcher: Finder, *, among: Tensor
) -> tuple[Tensor, list[bool]]:
    """The tokens that names stand in; where a text has none, all of ``among``, as in the authors' code.

    Args:
        texts: One for each row, as given to the tokenizer.
        offsets: Characters (start, end) of each token, shape (B, T, 2): "offset_mapping" of a fast tokenizer that was
            called with ``return_offsets_mapping=True``.
        matcher: The names.
        among: Tokens that may be selected, see `all_but_last`; shape (B, T).

    Returns:
        Boolean mask, shape (B, T), and for each row whether a name was found.

    Raises:
        InputError: Texts, offsets and mask differ in shape.
    """
    places = torch.as_tensor(offsets, device=among.device)
    if places.shape != (*among.shape, 2) or len(texts) != len(among):
        raise InputError(
            f"{len(texts)} texts, offsets of shape {tuple(places.shape)} and a mask of shape {tuple(among.shape)} do "
            "not fit; expected B texts, (B, T, 2) and (B, T), from one call of the tokenizer."
        )
    mask = among.clone()
    found = []
    for row, text in enumerate(texts):
        start, end = places[row, :, 0], places[row, :, 1]
        inside = torch.zeros_like(among[row])
        for span in matcher.find(text):
            inside |= (start < span.end) & (end > span.start) & (start < end)
        inside &= among[row]
        found.append(bool(inside.any()))
        if found[-1]:
            mask[row] = inside
    return mask, found
