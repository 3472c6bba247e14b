from __future__ import annotations

import numpy as np
import pytest

from unlearn.eco.brackets import brackets, depends_on_strength, noise_band

STRENGTHS = [1.0, 10.0, 100.0, 1000.0, 10000.0]


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([5, 4, -3, -4, -5], [(10, 100, "falls")]),
        ([5, 4, 0.5, -4, -5], [(10, 1000, "falls")]),  # at the target in between: it may cross on either side
        ([5, 0.5, -0.5, 0.9, 0], [(1, 10, "arrives")]),
        ([5, 4, -3, 4, 5], [(10, 100, "falls"), (100, 1000, "rises")]),
        ([5, 0.5, 5, 5, 5], [(1, 100, "touches")]),
        ([-5, -4, 3, 3, 3], [(10, 100, "rises")]),
        ([5, 4, 3, 2, 1.5], []),
        ([0.5, -0.5, 0, 0, 0], []),
    ],
)
def test_crossings_of_a_target_with_a_band_of_one(gaps: list[float], expected: list[tuple[float, float, str]]) -> None:
    assert [tuple(one) for one in brackets(STRENGTHS, np.array(gaps, dtype=float), 1.0)] == expected


def test_the_band_is_three_pooled_standard_errors() -> None:
    """Variances 1 and 3 over 3 seeds: 3 sqrt(2 / 3)."""
    values = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    assert noise_band(values) == pytest.approx(3 * np.sqrt(2 / 3))


def test_what_a_seed_does_at_every_strength_does_not_hide_that_the_strength_matters() -> None:
    seeds = np.array([0.0, 5.0, -5.0])
    small = np.array([[0.0], [0.1], [0.2], [0.3]])
    assert depends_on_strength(small + seeds)
    assert not depends_on_strength(np.zeros((4, 1)) + seeds)
    assert not depends_on_strength(np.full((1, 3), 0.5))
    noise = np.random.default_rng(0).normal(size=(400, 12, 3))
    assert sum(depends_on_strength(one) for one in noise) <= 3  # 0.4 expected; P(4 or more) < 0.001
