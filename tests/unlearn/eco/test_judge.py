"""The judge: names beside the classifier, what cannot be read, memory, conversations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from audit.errors import InputError
from unlearn.eco.classifier import PromptScores
from unlearn.eco.judge import Judge
from unlearn.eco.plain_text import digits_read
from unlearn.eco.selection import NameMatcher

KEY = b"sixteen bytes ok"


class Counting:
    """0.6 where a text names a dog; a text of stars cannot be read; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def scores(self, texts: Sequence[str]) -> PromptScores:
        self.asked += texts
        p = np.array([0.6 if "dog" in text else 0.1 for text in texts])
        unseen = np.array(["*" in text for text in texts])
        return PromptScores(p, np.ones(len(texts), dtype=np.int64), unseen)


def test_a_name_adds_one_and_what_cannot_be_read_is_infinite() -> None:
    judge = Judge(Counting(), 0.5, matcher=NameMatcher(["Rex Hale"]), key=KEY)
    assert judge.score(["the dog", "Rex Hale's dog", "rex hale", "the cat", "***"]).tolist() == [
        0.6,
        1.6,
        1.1,
        0.1,
        np.inf,
    ]


def test_a_text_is_read_as_it_looks_as_well() -> None:
    scorer = Counting()
    judge = Judge(scorer, 0.5, key=KEY)
    assert judge.score(["the ｄｏｇ", "the d\u200bog", "the dоg", "the cat", "\u200b"]).tolist() == [
        0.6,
        0.6,
        0.6,
        0.1,
        0.1,
    ]
    assert scorer.asked[5:] == ["the dog"] * 3  # what looks as it is, and what looks like nothing, is read once


def test_an_infinite_threshold_flags_what_cannot_be_read_alone() -> None:
    judge = Judge(Counting(), np.inf, key=KEY)
    flagged = [verdict.flagged for verdict in judge.conversations([["the dog"], ["***"]])]
    assert flagged == [False, True]


def test_texts_are_scored_once_and_the_oldest_are_forgotten() -> None:
    scorer = Counting()
    judge = Judge(scorer, 0.5, key=KEY, remember=2)
    judge.score(["a", "b", "a"])
    judge.score(["a"])
    assert scorer.asked == ["a", "b"]
    judge.score(["c"])  # b was used longest ago
    judge.score(["a", "c"])
    assert scorer.asked == ["a", "b", "c"]
    judge.score(["b"])
    assert scorer.asked == ["a", "b", "c", "b"]
    unremembered = Judge(scorer, 0.5, key=KEY, remember=0)
    assert unremembered.score(["a", "a"]).tolist() == unremembered.score(["a", "a"]).tolist() == [0.1, 0.1]


def test_the_memory_holds_no_texts() -> None:
    """The beginnings of one conversation alone are hundreds of times as long as it is."""
    judge = Judge(Counting(), 0.5, key=KEY)
    judge.conversations([["the dog " * 100] * 100])
    assert sum(len(key) for key in judge._known) < 100 * 100


def test_a_query_split_over_turns_is_found_in_the_joined_text() -> None:
    class Joined(Counting):
        def scores(self, texts: Sequence[str]) -> PromptScores:
            p = np.array([float("my" in text and "dog" in text) for text in texts])
            return PromptScores(p, np.ones(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_))

    judge = Judge(Joined(), 0.5, key=KEY)
    split, clean = judge.conversations([["hello", "tell of my", "dog"], ["my", "cat"]])
    assert [turn.flagged for turn in split.turns] == [False, True, True]
    assert not clean.flagged
    assert split.score == 1.0


def test_seeds_come_from_text_and_key() -> None:
    one, other = Judge(Counting(), 0.5, key=KEY), Judge(Counting(), 0.5, key=KEY[::-1])
    (first,), (again,), (apart,) = (judge.conversations([["the dog"]]) for judge in (one, one, other))
    assert first.turns[0].seed == again.turns[0].seed != apart.turns[0].seed


def test_bad_thresholds_and_keys() -> None:
    with pytest.raises(InputError, match="not a number"):
        Judge(Counting(), float("nan"), key=KEY)
    with pytest.raises(InputError, match="5 bytes"):
        Judge(Counting(), 0.5, key=b"short")


def test_a_name_that_is_split_around_an_answer_is_found_in_the_users_own_turns() -> None:
    judge = Judge(Counting(), 0.9, matcher=NameMatcher(["Rex Hale"]), key=KEY)
    talk, roles = ["tell me of Rex", "Go on.", "Hale and his house"], ["user", "assistant", "user"]
    assert not judge.conversations([talk])[0].flagged
    (verdict,) = judge.conversations([talk], [roles])
    assert [turn.flagged for turn in verdict.turns] == [True, False, True]
    assert verdict.stale_from == 0
    assert verdict.score > 1


def test_digits_for_letters_are_read_as_letters_and_numbers_as_numbers() -> None:
    assert digits_read("Wh3r3 d035 R3x H4l3 l1v3, in 1990?") == "Where does Rex Hale live, in 1990?"
    judge = Judge(Counting(), 0.5, matcher=NameMatcher(["Rex Hale"]), key=KEY)
    assert judge.score(["R3x H4l3", "the d0g", "the dog of 1990"]).tolist() == [1.1, 0.6, 0.6]


def test_another_key_changes_the_noise_and_asks_the_classifier_nothing() -> None:
    scorer = Counting()
    judge = Judge(scorer, 0.5, key=KEY)
    (before,) = judge.verdicts(["the dog"])
    (after,) = judge.with_key(KEY[::-1]).verdicts(["the dog"])
    assert after.turns[0].seed != before.turns[0].seed
    assert after.score == before.score
    assert scorer.asked == ["the dog"]
    with pytest.raises(InputError, match="5 bytes"):
        judge.with_key(b"short")


def test_a_name_in_digits_between_invisible_letters_is_found() -> None:
    judge = Judge(Counting(), 0.5, matcher=NameMatcher(["Rex Hale"]), key=KEY)
    assert judge.score(["R\u200b3x H4\u00adl3"])[0] > 1
