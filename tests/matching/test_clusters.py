"""Near-duplicate clusters: planted ones are found, and nothing else is joined."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import InputError
from audit.matching import clusters
from audit.matching.clusters import near_duplicates, normalised
from audit.matching.words import words as words_of

WORDS = [f"w{n}" for n in range(500)]


def made(n: int, length: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=length)) for _ in range(n)]


def runs(text: str, words: int) -> set[tuple[str, ...]]:
    parts = words_of(normalised(text))
    return {tuple(parts[start : start + words]) for start in range(max(1, len(parts) - words + 1))}


def joined(texts: list[str], threshold: float, words: int = 3) -> list[int]:
    """By comparing all pairs."""
    labels = list(range(len(texts)))
    sets = [runs(text, words) for text in texts]
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


LIKE = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=14)
CHANGES = st.lists(st.tuples(st.integers(0, 13), st.sampled_from("abxy")), max_size=3)


@given(st.lists(st.tuples(LIKE, st.lists(CHANGES, max_size=4)), max_size=6), st.sampled_from([0.5, 0.6, 0.7, 0.8, 1]))
def test_all_pairs_at_the_threshold_are_joined_and_no_others(
    drawn: list[tuple[list[str], list[list[tuple[int, str]]]]], threshold: float
) -> None:
    """Texts of few words, each with copies in which some are changed: J of all sizes, many at the threshold itself."""
    texts = []
    for parts, copies in drawn:
        for changes in ([], *copies):
            changed = dict(changes)
            texts.append(" ".join(changed.get(at, part) for at, part in enumerate(parts)))
    assert near_duplicates(texts, seed=0, threshold=threshold, words=2).tolist() == joined(texts, threshold, 2)


@pytest.mark.parametrize("per_slot", [3, 20, 10**9])
@pytest.mark.parametrize("seed", [0, 1])
def test_rows_of_a_template_are_joined_as_by_comparing_all_pairs(per_slot: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(150):
        parts = WORDS[: rng.integers(40, 60)]
        for at in (5, 14, 23, 32):
            parts[at] = f"v{rng.integers(per_slot)}"
        texts.append(" ".join(parts))
    assert near_duplicates(texts, seed=seed).tolist() == joined(texts, 0.7)


def test_hashes_sorted_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text for text in made(30, 60, 2) for _ in range(2)]
    texts = [text + f" end{row}" for row, text in enumerate(texts)]
    expected = near_duplicates(texts, seed=0).tolist()
    monkeypatch.setattr(clusters, "_SORTED_AT_ONCE", 500)
    assert near_duplicates(texts, seed=0).tolist() == expected == [row // 2 * 2 for row in range(60)]


def n_compared(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Pairs whose similarity is computed."""
    n = 0

    class Counted(clusters._Shared):
        def __call__(self, place: int, others: Any) -> Any:
            nonlocal n
            n += len(others)
            return super().__call__(place, others)

    monkeypatch.setattr(clusters, "_Shared", Counted)
    near_duplicates(texts, seed=0)
    return n


def test_rows_of_a_template_below_the_threshold_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 58 runs 12 are a row's own: J = 46/70 = 0.66 for each of 79,800 pairs."""
    texts = []
    for row in range(400):
        parts = WORDS[:60]
        for at in (10, 25, 40, 55):
            parts[at] = f"own{row}-{at}"
        texts.append(" ".join(parts))
    assert n_compared(texts, monkeypatch) == 0


def test_pairs_of_one_cluster_are_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 79,800 pairs are near-duplicates; each row but the first is compared once."""
    texts = [" ".join([*WORDS[:60], f"own{row}"]) for row in range(400)]
    assert n_compared(texts, monkeypatch) == 399


def test_near_duplicates_without_spaces_are_found() -> None:
    rng = np.random.default_rng(0)
    rows = ["".join(map(chr, rng.integers(0x4E00, 0x5200, size=60))) + "。" for _ in range(20)]
    texts = rows + [row[:30] + "新" + row[31:] for row in rows]
    assert near_duplicates(texts, seed=0).tolist() == [*range(20), *range(20)] == joined(texts, 0.7)


def test_texts_that_show_nothing_are_alike_and_near_to_no_other() -> None:
    assert near_duplicates(["", "\u200b", "a", "\u200b \ufffd", " "], seed=0).tolist() == [0, 0, 2, 0, 0]


def test_progress_and_no_texts() -> None:
    told: list[int] = []
    near_duplicates(["a", "b", "a", ""] * 200, seed=0, on_done=told.append)
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == 800
    assert near_duplicates([], seed=0).shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threshold": 0.4}, "threshold is 0.4"), ({"words": 0}, "words is 0"), ({"seed": -1}, "seed is -1")],
)
def test_options_out_of_range_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        near_duplicates(["a"], **{"seed": 0, **options})
