"""n-gram overlap and BLEU, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import InputError
from audit.matching.overlap import bleu, ngram_overlap

WORDS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=12)


def test_overlap_by_hand() -> None:
    """the cat the dog / the dog sat: words the, dog of 4 (the once); one of the 3 pairs, the dog; no triple."""
    training, generation = ["the", "cat", "the", "dog"], ["the", "dog", "sat"]
    assert ngram_overlap(training, generation, 1) == 2 / 4
    assert ngram_overlap(training, generation, 2) == 1 / 3
    assert ngram_overlap(training, generation, 3) == 0
    assert ngram_overlap(training, generation, 5) is None


def test_bleu_by_hand() -> None:
    """a b c d e / a b c d x: p = 4/5, (3+1)/(4+1), (2+1)/(3+1), (1+1)/(2+1); no brevity penalty."""
    assert bleu("abcde", "abcdx") == pytest.approx((4 / 5 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)


def test_a_short_generation_is_penalised() -> None:
    """a b c d of a b c d e f: all n-grams are right, the penalty is exp(1 - 6/4)."""
    assert bleu("abcdef", "abcd") == pytest.approx(math.exp(-0.5))


def test_repeating_a_word_does_not_count_twice() -> None:
    """a b / a a: p_1 = 1/2, p_2 = (0+1)/(1+1), p_3 = p_4 = 1/1."""
    assert bleu("ab", "aa") == pytest.approx(0.25**0.25)


def test_nothing_in_common_is_zero() -> None:
    assert bleu("abcd", "wxyz") == 0


@given(WORDS, WORDS)
def test_bleu_and_overlap_lie_between_0_and_1(a: list[str], b: list[str]) -> None:
    assert 0 <= bleu(a, b) <= 1 + 1e-12
    assert bleu(a, a) == pytest.approx(1)
    for n in (1, 2, 3):
        share = ngram_overlap(a, b, n)
        assert (share is None) == (len(a) < n)
        assert share is None or 0 <= share <= 1
        assert ngram_overlap(a, [*b, *a], n) in (None, 1)


def test_empty_sides_and_orders_are_refused() -> None:
    with pytest.raises(InputError, match="the generation text has no tokens"):
        bleu("a", "")
    with pytest.raises(InputError, match="n is 0"):
        ngram_overlap("a", "a", 0)
