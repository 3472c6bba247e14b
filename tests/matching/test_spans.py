"""The longest common run of tokens."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audit.matching.spans import Span, longest_common_span

IDS = st.lists(st.integers(0, 3), max_size=40)


def slow(a: list[int], b: list[int]) -> Span:
    runs = [
        Span(length, s, t)
        for length in range(1, min(len(a), len(b)) + 1)
        for s in range(len(a) - length + 1)
        for t in range(len(b) - length + 1)
        if a[s : s + length] == b[t : t + length]
    ]
    return min(runs, key=lambda span: (-span.length, span.start_a, span.start_b), default=Span(0, 0, 0))


@given(IDS, IDS)
def test_as_by_trying_all_runs(a: list[int], b: list[int]) -> None:
    assert longest_common_span(a, b) == slow(a, b)


@given(IDS, st.integers(0, 40), st.integers(0, 40))
def test_a_part_is_found_whole(ids: list[int], start: int, length: int) -> None:
    part = ids[start : start + length]
    assert longest_common_span([7, *ids], [9, 8, *part]).length == len(part)


def test_by_hand() -> None:
    """5 6 7 from place 1 of one and place 2 of the other; 1 2 is shorter."""
    assert longest_common_span([1, 5, 6, 7, 2], [1, 2, 5, 6, 7, 9]) == Span(3, 1, 2)


def test_two_thousand_tokens_each_take_milliseconds() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(50_000, size=(2, 2_000))
    b[300:1_700] = a[100:1_500]
    start = time.process_time()
    assert longest_common_span(a, b) == Span(1_400, 100, 300)
    assert time.process_time() - start < 0.5  # 4 ms was measured
