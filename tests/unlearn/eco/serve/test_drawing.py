from __future__ import annotations

import numpy as np
import pytest
import torch

from unlearn.eco.serve.drawing import Draw, draw

LOGITS = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
UNIFORMS = np.linspace(0, 1, 2_000, endpoint=False)


def shares(**settings: float) -> np.ndarray:
    """How often each token is drawn when u goes through [0, 1) evenly."""
    n = len(UNIFORMS)
    tokens, fine = draw(LOGITS.repeat(n, 1), [Draw(**settings)] * n, UNIFORMS.tolist())
    assert fine.all()
    return np.bincount(tokens.numpy(), minlength=4) / n


def test_tokens_are_drawn_with_the_softmax_of_the_logits_over_the_temperature() -> None:
    assert shares(temperature=2.0) == pytest.approx((LOGITS[0] / 2).softmax(0).numpy(), abs=1e-3)


def test_the_nucleus_is_the_smallest_set_with_the_probability() -> None:
    """Probabilities 0.089, 0.657, 0.242 and 0.012: two tokens have 0.85, one alone 0.6."""
    assert shares(top_p=0.85) == pytest.approx([0, 0.731, 0.269, 0], abs=1e-3)
    assert shares(top_p=0.6).tolist() == shares(top_p=0.0).tolist() == shares(temperature=0.0).tolist() == [0, 1, 0, 0]
    assert shares(temperature=1e-9).tolist() == [0, 1, 0, 0]


def test_rows_keep_their_own_settings_and_a_row_that_is_not_finite_spoils_no_other() -> None:
    logits = torch.cat([LOGITS, LOGITS, torch.full_like(LOGITS, torch.nan), LOGITS])
    draws = [Draw(), Draw(top_p=0.6), Draw(), Draw(temperature=0.0)]
    tokens, fine = draw(logits, draws, [0.99, 0.99, 0.5, 0.99])
    assert fine.tolist() == [True, True, False, True]
    assert tokens[[0, 1, 3]].tolist() == [3, 1, 1]


def test_numbers_come_from_seed_and_place_alone() -> None:
    first = Draw(seed=-5, index=2).uniforms().random(4).tolist()
    assert Draw(seed=-5, index=2, temperature=0.3).uniforms().random(4).tolist() == first
    assert Draw(seed=-5, index=3).uniforms().random(4).tolist() != first
