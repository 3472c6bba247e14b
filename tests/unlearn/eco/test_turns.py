"""Turns: split queries, what stays flagged, what has to be computed again, and the noise key."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from audit.errors import InputError
from unlearn.eco.turns import conversation_score, next_turn, replayed

SECRET = bytes(range(16))


def score(texts: Sequence[str]) -> NDArray[np.float64]:
    """High where the name stands in full, as a whole phrase."""
    return np.array([0.9 if "Ada Vell" in text else 0.2 if "Ada" in text else 0.1 for text in texts])


def flags(texts: list[str], threshold: float = 0.5) -> list[bool]:
    return [turn.flagged for turn in replayed(texts, score=score, threshold=threshold, secret=SECRET).turns]


def test_a_query_split_over_turns_flags_its_parts_alone_and_tells_what_to_compute_again() -> None:
    texts = ["Hello.", "Tell me of Ada", "Vell, the painter"]
    assert flags(texts[:2]) == [False, False]
    verdict = replayed(texts, score=score, threshold=0.5, secret=SECRET)
    assert [turn.flagged for turn in verdict.turns] == [False, True, True]
    assert (verdict.newest, verdict.joined, verdict.stale_from) == (0.1, 0.9, 1)


def test_a_flagged_turn_stays_flagged_with_its_seed_and_does_not_flag_later_ones() -> None:
    first = replayed(["Who is Ada Vell?"], score=score, threshold=0.5, secret=SECRET)
    later = next_turn(first.turns, "What is 2 + 2?", score=score, threshold=0.5, secret=SECRET)
    assert first.turns[0].flagged
    assert later.turns[0] == first.turns[0]
    assert not later.turns[1].flagged
    assert later.stale_from is None


def test_kept_turns_and_a_replay_agree() -> None:
    texts = ["a", "Ada", "Vell", "b", "Ada Vell", "Ada", "c", "Vell"]
    kept = next_turn((), texts[0], score=score, threshold=0.5, secret=SECRET)
    for n, text in enumerate(texts[1:], start=2):
        before = kept
        kept = next_turn(kept.turns, text, score=score, threshold=0.5, secret=SECRET)
        assert kept == replayed(texts[:n], score=score, threshold=0.5, secret=SECRET)
        assert all(new.flagged >= old.flagged for new, old in zip(kept.turns, before.turns, strict=False))
    assert [turn.flagged for turn in kept.turns] == [False, True, True, False, True, False, False, False]


def test_the_threshold_is_strict_and_may_be_infinite() -> None:
    assert flags(["Ada Vell"], 0.9) == [False]
    assert flags(["Ada Vell"], math.nextafter(0.9, 0)) == [True]
    assert flags(["Ada", "Vell"], math.inf) == [False, False]


def test_all_open_turns_are_flagged_where_no_shorter_run_is_above() -> None:
    assert flags(["Ada", "Vell", "x"]) == [True, True, False]
    assert replayed(["Ada", "Vell"], score=score, threshold=0.5, secret=SECRET).stale_from == 0


@pytest.mark.parametrize("texts", [["a", "b"], ["Ada", "b", "Vell"], ["Ada", "Vell", "c"], ["x", "Ada Vell", "Ada"]])
@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.2, 0.5, 0.9])
def test_a_conversation_is_flagged_exactly_if_its_score_is_above(texts: list[str], threshold: float) -> None:
    assert any(flags(texts, threshold)) == (conversation_score(texts, score) > threshold)


def test_a_conversation_without_turns_is_refused() -> None:
    with pytest.raises(InputError, match="no user turn"):
        replayed([], score=score, threshold=0.5, secret=SECRET)
    with pytest.raises(InputError, match="no user turn"):
        conversation_score([], score)
