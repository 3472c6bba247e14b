"""Near-duplicate clusters: planted ones are found, and nothing else is joined."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import InputError
from audit.matching.clusters import near_duplicates, normalised, shingles

WORDS = [f"w{n}" for n in range(500)]


def made(n: int, length: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=length)) for _ in range(n)]


def joined(texts: list[str], threshold: float) -> list[int]:
    """By comparing all pairs."""
    labels = list(range(len(texts)))
    sets = [shingles(normalised(text), 3) for text in texts]
    for a, b in combinations(range(len(texts)), 2):
        if len(sets[a] & sets[b]) >= threshold * len(sets[a] | sets[b]):
            low, high = sorted((labels[a], labels[b]))
            labels = [low if label == high else label for label in labels]
    return labels


def test_planted_near_copies_are_found() -> None:
    """Of 60 words, each changed word breaks 3 of 58 runs: one leaves J = 55/61 = 0.90, two 52/64 = 0.81 or more."""
    texts = made(40, 60, 0)
    for row in range(20):
        parts = texts[row].split()
        parts[10] = "new"
        if row % 2:
            parts[40] = "other"
        texts.append(" ".join(parts))
    found = near_duplicates(texts, seed=1).tolist()
    assert found == [*range(40), *range(20)] == joined(texts, 0.7)


def test_texts_less_alike_than_the_threshold_stay_apart() -> None:
    texts = made(1, 60, 0)
    parts = texts[0].split()
    for at in (5, 15, 25, 35, 45):  # 43 of 73 runs are left: J = 0.59
        parts[at] = "new"
    texts.append(" ".join(parts))
    assert near_duplicates(texts, seed=1, threshold=0.7).tolist() == [0, 1]
    assert near_duplicates(texts, seed=1, threshold=0.55).tolist() == [0, 0]


def test_a_chain_is_one_cluster() -> None:
    texts = made(1, 60, 0)
    for at in (5, 15, 25, 35, 45):
        parts = texts[-1].split()
        parts[at] = f"new{at}"
        texts.append(" ".join(parts))
    assert near_duplicates(texts[::-1], seed=1, threshold=0.8).tolist() == [0] * 6


def test_equal_texts_share_a_cluster_whatever_their_spaces_and_accents() -> None:
    texts = ["caf\u00e9  au lait", "Yes.", " cafe\u0301 au\nlait", "", "yes.", "\t", "Yes. "]
    assert near_duplicates(texts, seed=0).tolist() == [0, 1, 0, 3, 4, 3, 1]


@given(st.lists(st.text("ab ", max_size=12), max_size=12), st.integers(0, 3))
def test_labels_are_lowest_rows_and_the_same_again(texts: list[str], seed: int) -> None:
    found = near_duplicates(texts, seed=seed, words=1)
    assert np.array_equal(found, near_duplicates(texts, seed=seed, words=1))
    for row, label in enumerate(found.tolist()):
        assert label <= row
        assert found[label] == label
        assert all(found[other] == label for other in range(row) if normalised(texts[other]) == normalised(texts[row]))


def test_progress_and_no_texts() -> None:
    told: list[int] = []
    near_duplicates(["a", "b"], seed=0, on_done=told.append)
    assert told == [1, 2]
    assert near_duplicates([], seed=0).shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threshold": 0.4}, "threshold is 0.4"), ({"words": 0}, "words is 0"), ({"seed": -1}, "seed is -1")],
)
def test_options_out_of_range_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        near_duplicates(["a"], **{"seed": 0, **options})
