"""Similarity of texts: known values, and the same hits in tiles and bands as in a dense comparison."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import process
from rapidfuzz.distance import Indel, Levenshtein

from audit.errors import InputError
from audit.matching import strings, trigrams
from audit.matching.strings import TextCorpus, cap, similarity

SCORERS: dict[str, Any] = {"levenshtein": Levenshtein.normalized_similarity, "indel": Indel.normalized_similarity}
TEXTS = st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=12)
SUM = "What is 3 + 4? The answer is 7.", "What is 5 + 9? The answer is 14."


@pytest.mark.parametrize(
    ("a", "b", "levenshtein", "indel"),
    [
        ("kitten", "sitting", 1 - 3 / 7, 1 - 5 / 13),  # 0.5714, 0.6154: three edits; five, as a replacement is two
        ("abc", "abcabc", 0.5, 2 / 3),
        (*SUM, 0.8750, 0.8889),
    ],
)
def test_known_values(a: str, b: str, levenshtein: float, indel: float) -> None:
    assert similarity(a, b, "levenshtein") == pytest.approx(levenshtein, abs=5e-5)
    assert similarity(a, b, "indel") == pytest.approx(indel, abs=5e-5)


def test_abc_and_abcabc_lie_on_the_caps() -> None:
    assert similarity("abc", "abcabc", "levenshtein") == cap(3, 6, "levenshtein") == 0.5
    assert similarity("abc", "abcabc", "indel") == cap(3, 6, "indel") == pytest.approx(2 * 0.5 / 1.5)
    for measure in ("levenshtein", "indel"):
        on_it = cap(3, 6, measure)  # type: ignore[arg-type]
        assert TextCorpus(["abc"], measure).best(["abcabc"], on_it).rows.tolist() == [0]  # type: ignore[arg-type]


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12), st.sampled_from(["levenshtein", "indel"]))
def test_no_similarity_is_above_its_cap(a: str, b: str, measure: Any) -> None:
    shorter, longer = sorted((len(a), len(b)))
    assert similarity(a, b, measure) <= cap(shorter, longer, measure)


@settings(deadline=None)
@given(
    TEXTS,
    TEXTS,
    st.sampled_from(["levenshtein", "indel"]),
    st.sampled_from([0.3, 0.5, 2 / 3, 0.7, 0.75, 0.8, 0.9, 1.0]),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_tiled_is_dense(
    queries: list[str], texts: list[str], measure: Any, cutoff: float, n_rows: int, n_queries: int
) -> None:
    with (
        patch.object(strings, "_ROWS", n_rows),
        patch.object(strings, "_QUERIES", n_queries),
        patch.object(strings, "_GROUP", 2 * n_queries),
        patch.object(trigrams, "LEAST_CHARACTERS", 4),
        patch.object(trigrams, "LEAST_CUTOFF", 0.6),
    ):
        assert_dense(queries, texts, measure, cutoff)


def assert_dense(queries: list[str], texts: list[str], measure: Any, cutoff: float) -> int:
    corpus = TextCorpus(texts, measure, workers=1)
    whole = process.cdist(queries, texts, scorer=SCORERS[measure], dtype=np.float64)
    whole[whole < cutoff] = 0
    best = corpus.best(queries, cutoff)
    reached = whole.max(axis=1) > 0
    np.testing.assert_array_equal(best.rows, np.where(reached, whole.argmax(axis=1), -1))
    np.testing.assert_array_equal(best.similarity, np.where(reached, whole.max(axis=1), np.nan))
    pairs = corpus.pairs_above(queries, cutoff)
    np.testing.assert_array_equal(np.stack([pairs.queries, pairs.rows]), np.stack(np.nonzero(whole)))
    np.testing.assert_array_equal(pairs.similarity, whole[whole > 0])
    return int(reached.sum())


@pytest.mark.parametrize("measure", ["levenshtein", "indel"])
@pytest.mark.parametrize("cutoff", [0.85, 0.9, 0.95])
def test_long_texts_with_edits_are_all_found(measure: str, cutoff: float) -> None:
    """Texts of 600 to 900 letters with 0 to 20% edited, so that many lie near the cutoff; the trigram filter is on."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("etaoin shr"), size=n)) for n in rng.integers(600, 900, size=60)]
    queries = []
    for text in texts:
        letters = list(text)
        for at in rng.integers(len(text), size=int(len(text) * rng.uniform(0, 0.2))):
            letters[at] = ("", "z", letters[at] + "q")[rng.integers(3)]
        queries.append("".join(letters))
    with patch.object(trigrams, "may_reach", wraps=trigrams.may_reach) as asked:
        n_found = assert_dense(queries, texts, measure, cutoff)
    assert asked.called
    assert 5 < n_found < 60 or cutoff == 0.85


def test_trigrams_keep_out_what_is_unlike() -> None:
    rng = np.random.default_rng(0)
    texts = sorted(("".join(rng.choice(list("etaoin shrdlu"), size=n)) for n in range(600, 640)), key=len)
    side = trigrams.Side(texts, "levenshtein", 0.9)
    own, rows = trigrams.may_reach(side, side)
    assert own.tolist() == rows.tolist() == list(range(40))


def test_a_corpus_against_itself_gives_each_text_or_its_first_twin() -> None:
    texts = ["one text", "another text", "one text", "öther", "\ud800 lone"]
    assert TextCorpus(texts, "indel").best(texts, 0.9).rows.tolist() == [0, 1, 0, 3, 4]


@pytest.mark.parametrize("measure", ["levenshtein", "indel"])
@pytest.mark.parametrize("pair", [("abc", "abcabc"), SUM, ("a" * 600 + "b" * 37, "a" * 600 + "c" * 11)])
def test_a_pair_at_the_very_cutoff_is_a_hit_and_just_above_none(measure: Any, pair: tuple[str, str]) -> None:
    """rapidfuzz alone, given the similarity as its cutoff, drops half of such pairs."""
    corpus, cutoff = TextCorpus([pair[0]], measure), similarity(*pair, measure)
    assert corpus.best([pair[1]], cutoff).rows.tolist() == [0]
    assert corpus.best([pair[1]], float(np.nextafter(cutoff, 1))).rows.tolist() == [-1]


def test_one_corpus_meets_several_sets_of_queries_and_tells_its_progress() -> None:
    corpus = TextCorpus(["abcd", "wxyz", "abcdefghijkl"], "levenshtein")
    told: list[int] = []
    assert corpus.best(["abcx", "wxyz"], 0.7, on_done=told.append).rows.tolist() == [0, 1]
    assert corpus.best(["qqqqqqqqqqqqqqqqqqqqqqqqq"], 0.7, on_done=told.append).rows.tolist() == [-1]
    assert told == [6, 3]


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: TextCorpus(["a", ""], "indel"), "corpus text 1 is empty; expected a character or more"),
        (lambda: TextCorpus([], "indel"), "there is no corpus text"),
        (lambda: TextCorpus(["a"], "jaro"), "measure is 'jaro'"),  # type: ignore[arg-type]
        (lambda: TextCorpus(["a"], "indel").best(["", "b"], 0.5), "query 0 is empty"),
        (lambda: TextCorpus(["a"], "indel").best(["b"], 0.0), "cutoff is 0.0"),
        (lambda: TextCorpus(["a", "a"], "indel").pairs_above(["a"], 0.5, most_pairs=1), "more than 1 pairs"),
        (lambda: similarity("", "", "indel"), "text 0 is empty"),
    ],
)
def test_what_cannot_be_compared_is_refused(work: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        work()
