"""Near copies against the definition, worked out by the plainest of loops."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from audit.errors import InputError
from audit.traps.scan.near import NearFinder, Run, largest_distance, least_tokens
from audit.traps.scan.rare import rare_pieces

PATIENT = settings(deadline=None, max_examples=200)


def copies(text: list[int], trap: list[int], most: int) -> list[tuple[int, int, int]]:
    """(start, end, distance) as the module's docstring defines them."""
    runs = []
    for end in range(1, len(text) + 1):
        choices = []
        for start in range(max(0, end - len(trap) - most - 1), end + 1):
            edits, length = Levenshtein.distance(trap, text[start:end]), end - start
            choices.append((edits, abs(length - len(trap)), length, start))
        edits, _, _, start = min(choices)
        if edits <= most:
            runs.append((edits, end, start))
    taken: list[tuple[int, int, int]] = []
    for edits, end, start in sorted(runs):
        if all(end <= a or b <= start for a, b, _ in taken):
            taken.append((start, end, edits))
    return sorted(taken)


def ids(tokens: list[int]) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]], int]:
    """Traps, texts and a distance: few tokens, so that copies are near, overlap and repeat, and copies with edits."""
    token = st.integers(0, draw(st.sampled_from([1, 3, 30])))
    most = draw(st.integers(0, 4))
    length = st.integers(least_tokens(most), least_tokens(most) + draw(st.sampled_from([1, 12, 40])))
    traps = draw(st.lists(length.flatmap(lambda n: st.lists(token, min_size=n, max_size=n)), min_size=1, max_size=3))
    texts = []
    for _ in range(draw(st.integers(0, 3))):
        text = draw(st.lists(token, max_size=30))
        for trap in draw(st.lists(st.sampled_from(traps), max_size=3)):
            copy = list(trap)
            for _ in range(draw(st.integers(0, most + 1))):
                at = draw(st.integers(0, max(0, len(copy) - 1)))
                copy[at : at + draw(st.integers(0, 1))] = draw(st.lists(token, max_size=1))
            text += copy + draw(st.lists(token, max_size=3))
        texts.append(text)
    return traps, texts, most


@PATIENT
@given(problems())
def test_copies_are_those_of_the_definition(problem: tuple[list[list[int]], list[list[int]], int]) -> None:
    traps, texts, most = problem
    found = NearFinder(traps, most).find([ids(text) for text in texts])
    expected = [
        Run(number, place, *copy)
        for number, text in enumerate(texts)
        for place, trap in enumerate(traps)
        for copy in copies(text, trap, most)
    ]
    assert found == expected


@pytest.mark.parametrize(("length", "most"), [(25, 10), (25, 12), (50, 10), (100, 10), (100, 0), (100, 40)])
def test_a_copy_with_as_many_edits_as_allowed_is_found_at_its_place(length: int, most: int) -> None:
    """Edits at random places of a random sequence, inside text of tokens that the trap has not: Lev is at most d."""
    rng = random.Random(length * 100 + most)
    traps = [[rng.randrange(1000) for _ in range(length)] for _ in range(40)]
    finder = NearFinder(traps, most)
    for _ in range(30):
        number = rng.randrange(len(traps))
        copy = list(traps[number])
        for _ in range(most):
            at = rng.randrange(1, len(copy) - 1)
            copy[at : at + rng.choice([0, 1, 1])] = [rng.randrange(1000, 2000)] * rng.choice([0, 1, 1])
        before = [rng.randrange(2000, 3000) for _ in range(rng.randrange(200))]
        text = before + copy + [rng.randrange(2000, 3000) for _ in range(rng.randrange(200))]
        (run,) = finder.find([ids(text)])
        assert run.trap == number
        assert run.distance == Levenshtein.distance(traps[number], text[run.start : run.end]) <= most
        assert run.start < len(before) + len(copy)
        assert run.end > len(before)


def test_copies_back_to_back_count_one_by_one() -> None:
    trap = list(range(20))
    found = NearFinder([trap], 4).find([ids(trap * 3), ids([]), ids(trap[1:] + trap)])
    assert [(run.text, run.start, run.end, run.distance) for run in found] == [
        (0, 0, 20, 0),
        (0, 20, 40, 0),
        (0, 40, 60, 0),
        (2, 0, 19, 1),
        (2, 19, 39, 0),
    ]


def test_a_copy_that_two_texts_make_together_is_in_neither() -> None:
    trap = list(range(30))
    assert NearFinder([trap], 5).find([ids(trap[:15]), ids(trap[15:])]) == []


def test_a_trap_too_short_for_the_distance_is_refused_with_the_largest_that_would_do() -> None:
    with pytest.raises(InputError, match="has 20 tokens; within a distance of 10 it needs 21 or more. .* of 9 or less"):
        NearFinder([list(range(20))], 10)
    assert [largest_distance(n) for n in (1, 2, 3, 20, 21)] == [None, 0, 1, 9, 10]
    for n_tokens in range(2, 50):
        largest = largest_distance(n_tokens)
        assert largest is not None
        assert least_tokens(largest) <= n_tokens < least_tokens(largest + 1)


@PATIENT
@given(st.data())
def test_pieces_share_no_token_and_none_is_empty(data: st.DataObject) -> None:
    n_pieces = data.draw(st.integers(1, 5))
    lengths = data.draw(st.lists(st.integers(n_pieces, 40), min_size=1, max_size=4))
    traps = np.full((len(lengths), max(lengths)), -1, dtype=np.int32)
    for row, length in enumerate(lengths):
        traps[row, :length] = data.draw(st.lists(st.integers(0, 5), min_size=length, max_size=length))
    numbers, offsets, sizes = rare_pieces(traps, np.array(lengths), n_pieces)
    for row, length in enumerate(lengths):
        own = sorted(zip(offsets[numbers == row].tolist(), sizes[numbers == row].tolist(), strict=True))
        assert len(own) == n_pieces
        assert all(size >= 1 for _, size in own)
        assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(own))
        assert own[0][0] >= 0
        assert own[-1][0] + own[-1][1] <= length


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=9), st.integers(1, 3))
def test_pieces_are_the_rarest_of_all_choices(trap: list[int], n_pieces: int) -> None:
    """The oracle tries every way to place that many pieces; shares are those of the trap's own tokens."""
    shares = [trap.count(token) / len(trap) for token in trap]

    def least(start: int, left: int) -> float:
        if not left:
            return 0.0
        tried = [
            float(np.prod(shares[at : at + size])) + least(at + size, left - 1)
            for at in range(start, len(trap))
            for size in range(1, min(8, len(trap) - at) + 1)
        ]
        return min(tried, default=float("inf"))

    _, offsets, sizes = rare_pieces(np.array([trap], dtype=np.int32), np.array([len(trap)]), n_pieces)
    pairs = zip(offsets.tolist(), sizes.tolist(), strict=True)
    cost = sum(float(np.prod(shares[at : at + size])) for at, size in pairs)
    assert len(trap) >= 4 * n_pieces or cost == pytest.approx(least(0, n_pieces), rel=1e-4)
