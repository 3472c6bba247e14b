"""Support by gamma, rates by number of sentences, and a concept's share of one opening's continuations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from audit.errors import InputError
from audit.stats.estimate import Estimate
from audit.stats.proportion import wilson
from tests.unlearn.lineas.evaluate.small_parts import HAS_X, Told, model_and_arm, point
from unlearn.lineas.evaluate.concept import continue_opening
from unlearn.lineas.evaluate.rate import attribute_rate
from unlearn.lineas.evaluate.tables import over_fits, rises, size_rows, support_rows
from unlearn.lineas.maps import AffineMap


def maps(*n_changed: int) -> dict[str, AffineMap]:
    return {
        f"site {place}": AffineMap(torch.ones(4) + torch.tensor([1.0] * n + [0.0] * (4 - n)), torch.zeros(4))
        for place, n in enumerate(n_changed)
    }


def test_support_falls_along_gamma_or_the_row_is_named() -> None:
    rows = support_rows({0.1: maps(1, 0), 0.0: maps(4, 2), 1.0: maps(2, 0)})
    assert [row.gamma for row in rows] == [0.0, 0.1, 1.0]
    assert [row.support.value for row in rows] == [6 / 8, 1 / 8, 2 / 8]
    assert [row.empty_sites for row in rows] == [0, 1, 1]
    assert rows[0].by_site == {"site 0": 1.0, "site 1": 0.5}
    assert rises(rows) == [(0.1, 1.0)]
    assert "nothing was sampled" in str(rows[0].support.why)
    with pytest.raises(InputError, match="gamma 1 have other sites"):
        support_rows({0.0: maps(1, 1), 1.0: maps(1)})


def test_rates_by_number_of_sentences_have_an_interval_between_fits() -> None:
    plain = point("unsteered", 0.0, [False] * 10, 1.0, scaled=False)
    fits = [point(f"fit {n}", 1.0, [place < n for place in range(10)], 1.0 + 0.1 * n) for n in (4, 5, 6)]
    (small, large) = size_rows({8: fits, 4: fits[:1]}, plain, HAS_X, "raise")
    assert (small.n, large.n) == (4, 8)
    assert large.rate.value == pytest.approx(0.5)
    assert large.rate.low == pytest.approx(0.5 - 0.2484, abs=1e-4)
    assert large.rate.n == 3
    assert small.rate.low is None
    assert len(large.fits) == 3
    assert large.perplexity_change["neutral"].value is not None
    with pytest.raises(InputError, match="no fits from 8"):
        size_rows({8: []}, plain, HAS_X, "raise")


def test_a_fit_without_a_value_leaves_no_mean() -> None:
    gone = Estimate.undefined(method="rate", why="all are empty")
    assert "all are empty" in str(over_fits([gone, gone]).why)


def test_one_openings_continuations_are_the_units(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    found = continue_opening(lm, arm, 1.0, opening="the cat", n=20)
    assert len(set(found.texts[0])) > 10
    rate = attribute_rate(Told(lambda text: len(text) % 2 == 0), found)
    k = round(20 * (rate.rate.value or 0))
    assert rate.rate.n == 20 - rate.n_empty
    assert rate.rate.low == wilson(k, 20).low
