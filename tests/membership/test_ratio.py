from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audit.membership.ratio import MIN_LOSS, loss_difference, loss_ratio, perplexity_ratio
from audit.stats.auc import roc_auc

LOSSES = st.integers(1, 2**20).map(lambda n: n / 2**17)  # up to 8 nats in steps that double precision holds


def auc(scores: np.ndarray) -> float:
    value = roc_auc(scores[: len(scores) // 2], scores[len(scores) // 2 :]).value
    assert value is not None
    return value


def test_the_three_forms_are_those_of_the_papers() -> None:
    """Losses 1 and 3: difference 3 - 1 = 2, perplexities e / e^3 = e^-2, losses 1 / 3."""
    own, other = np.array([1.0]), np.array([3.0])
    assert loss_difference(own, other) == [2.0]
    assert perplexity_ratio(own, other) == pytest.approx([-np.exp(-2.0)])
    assert loss_ratio(own, other) == pytest.approx([-1 / 3])


@given(arrays(np.float64, (2, 12), elements=LOSSES))
def test_difference_and_perplexity_ratio_have_equal_aucs(losses: np.ndarray) -> None:
    own, other = losses
    assert auc(loss_difference(own, other)) == auc(perplexity_ratio(own, other))


def test_the_ratio_of_losses_ranks_otherwise() -> None:
    """(own, ref) = (1, 2) and (6, 7.5): differences 1 < 1.5, ratios -0.5 > -0.8."""
    own, other = np.array([1.0, 6.0]), np.array([2.0, 7.5])
    assert np.argmax(loss_difference(own, other)) == np.argmax(perplexity_ratio(own, other)) == 1
    assert np.argmax(loss_ratio(own, other)) == 0


@given(arrays(np.float64, (2, 12), elements=LOSSES))
def test_negated_scores_have_one_minus_the_auc(losses: np.ndarray) -> None:
    for form in (loss_difference, perplexity_ratio, loss_ratio):
        scores = form(*losses)
        assert auc(-scores) == pytest.approx(1 - auc(scores))


def test_a_text_known_by_heart_gives_a_number() -> None:
    assert loss_ratio(np.array([0.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx([-1.0, -MIN_LOSS])


def test_a_perplexity_beyond_any_number_ranks_last_without_a_warning() -> None:
    assert perplexity_ratio(np.array([800.0, 1.0]), np.array([1.0, 1.0])).tolist() == [-np.inf, -1.0]
