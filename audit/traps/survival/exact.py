r"""Exact substring deduplication of a corpus, without a hash: spans of n tokens that occur more than once are removed.

Source: Lee et al. 2022, *Deduplicating Training Data Makes Language Models Better* (arXiv:2107.06499), as their
released code says it works: spans of 50 tokens or more; every token that is part of a repeated span goes, all
occurrences of it ("completely striking them from the dataset"); run twice, because removal brings new repeats
together. Departures: a span never reaches over the end of a document, a repeat is found by naming instead of a suffix
array (the spans are the same), and tokens can be words.

Naming (Karp, Miller, Rosenberg 1972): name_1(i) is token i, and two spans of length 2 w at i and j are the same where

    (name_w(i), name_w(i + w)) = (name_w(j), name_w(j + w)),

so sorting the pairs names all spans of twice the length. A span of length n is the pair of two of length w <= n < 2 w
that overlap. Places whose span occurs once are dropped at each step: no longer span there can repeat. Time O(N log n)
in numpy's sorts, memory about 60 bytes a token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ...errors import InputError
from .plan import Keep

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
_WORD = re.compile(r"\s*(\S+)")
_DOCUMENTS_AT_ONCE = 64  # of a tokenizer, whose offsets take much memory


class Cut(NamedTuple):
    """Texts cut into tokens, one after another.

    Attributes:
        names: What each token is: equal tokens have equal numbers, (N,).
        starts: First character of each token in its text, (N,); of a word, the white space before it included.
        ends: One past its last character, (N,).
        bounds: Where the tokens of each text begin, and N at the end, (texts + 1,).
    """

    names: Integers
    starts: Integers
    ends: Integers
    bounds: Integers


Cutter = Callable[[Sequence[str]], Cut]


def by_words(texts: Sequence[str]) -> Cut:
    """Words between white space."""
    known: dict[str, int] = {}
    names: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    bounds = [0]
    for text in texts:
        for match in _WORD.finditer(text):
            names.append(known.setdefault(match[1], len(known)))
            starts.append(match.start())
            ends.append(match.end())
        bounds.append(len(names))
    return Cut(*(np.array(column, dtype=np.int64) for column in (names, starts, ends, bounds)))


def by_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Cutter:
    """Tokens of a tokenizer that knows where its tokens stand in a text.

    Raises:
        InputError: It does not.
    """
    if not tokenizer.is_fast:
        raise InputError(
            "the tokenizer cannot say where its tokens stand in a text, so nothing can be cut out by it. Give one with "
            "a tokenizer.json, or leave --tokenizer out to cut by words."
        )

    def cut(texts: Sequence[str]) -> Cut:
        parts: list[tuple[Integers, Integers]] = []
        for start in range(0, len(texts), _DOCUMENTS_AT_ONCE):
            encoded = tokenizer(
                list(texts[start : start + _DOCUMENTS_AT_ONCE]),
                add_special_tokens=False,
                split_special_tokens=True,
                return_offsets_mapping=True,
                verbose=False,
            )
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                parts.append((np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2)))
        empty = np.zeros(0, dtype=np.int64)
        offsets = np.concatenate([part[1] for part in parts]) if parts else empty.reshape(0, 2)
        bounds = np.cumsum([0, *(len(part[0]) for part in parts)])
        names = np.concatenate([part[0] for part in parts]) if parts else empty
        return Cut(names, offsets[:, 0], offsets[:, 1], bounds)

    return cut


def repeated_tokens(names: Integers, bounds: Integers, n: int, *, keep: Keep = "none") -> Flags:
    """Which tokens belong to a span of ``n`` that occurs more than once.

    Args:
        names: Tokens of all texts, (N,), each >= 0.
        bounds: Where each text begins, and N, (texts + 1,).
        n: Length of the spans, 1 or more.
        keep: "none" marks every occurrence; "first" leaves the first in the corpus, except for tokens that also belong
            to a later occurrence of another span.

    Returns:
        Shape (N,).
    """
    if n < 1:
        raise InputError(f"the length of a repeated span is {n}; expected 1 token or more.")
    starts, spans = _repeated_spans(names, bounds, n)
    if keep == "first":
        _, first = np.unique(spans, return_index=True)  # the first index is that of the first place
        starts = np.delete(starts, first)
    depth = np.zeros(len(names) + 1, dtype=np.int64)  # +1 where a span begins, -1 behind its end
    np.add.at(depth, starts, 1)
    np.add.at(depth, starts + n, -1)
    covered: Flags = np.cumsum(depth[:-1]) > 0
    return covered


def _repeated_spans(names: Integers, bounds: Integers, n: int) -> tuple[Integers, Integers]:
    """Places, in order, at which a span of ``n`` tokens begins that occurs elsewhere too, and the span's name there."""
    room = np.repeat(bounds[1:], np.diff(bounds)) - np.arange(len(names))  # tokens up to the end of the text
    named = names.copy()
    width = 1
    places = _shared(np.arange(len(names)), named)
    while width < n:
        step = min(width, n - width)  # the second half overlaps the first where n is no power of two
        places = places[room[places] >= width + step]
        second = named[places + step]  # of a place that lies too near the end too
        places, second = places[second >= 0], second[second >= 0]
        pairs = named[places] * (int(named.max(initial=0)) + 1) + second
        named = np.full(len(names), -1, dtype=np.int64)
        if len(places):
            named[places] = np.unique(pairs, return_inverse=True)[1]
        places = _shared(places, named)
        width += step
    return places, named[places]


def _shared(places: Integers, named: Integers) -> Integers:
    """The places whose name another place has too; the names of the others are taken away."""
    if not len(places):
        return places
    _, inverse, counts = np.unique(named[places], return_inverse=True, return_counts=True)
    shared = counts[inverse] > 1
    named[places] = np.where(shared, inverse, -1)
    return places[shared]


def without(texts: Sequence[str], cut: Cut, gone: Flags) -> list[str]:
    """The texts without the tokens that are gone, and without the characters of each token that is.

    Args:
        texts: As they were cut.
        cut: Their tokens.
        gone: Shape (N,).
    """
    return [
        _one_without(text, cut, gone, first, last)
        for text, first, last in zip(texts, cut.bounds[:-1].tolist(), cut.bounds[1:].tolist(), strict=True)
    ]


def _one_without(text: str, cut: Cut, gone: Flags, first: int, last: int) -> str:
    inside = gone[first:last]
    if not inside.any():
        return text
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]))).reshape(-1, 2) + first
    pieces, done = [], 0
    for begin, end in edges.tolist():
        pieces.append(text[done : max(done, int(cut.starts[begin]))])
        done = max(done, int(cut.ends[end - 1]))
    return "".join([*pieces, text[done:]])
