from __future__ import annotations

import numpy as np
import pytest

from audit.errors import InputError
from audit.stats.estimate import Estimate
from unlearn.eco.surrogates import Surrogate, chance, where_not_learnt


def test_chance_is_the_mean_of_one_over_the_options() -> None:
    found = chance([4, 4, 2, 5])
    assert found.value == pytest.approx((0.25 + 0.25 + 0.5 + 0.2) / 4)
    assert (found.estimate.low, found.estimate.high, found.estimate.n) == (found.value, found.value, 4)
    with pytest.raises(InputError, match=r"options\[1\] is 1; expected a whole number of at least 2"):
        chance([4, 1])
    with pytest.raises(InputError, match="options is empty"):
        chance([])


def test_rows_of_one_entity_are_resampled_together() -> None:
    """Each entity's 20 rows are equal: the rows count as 10, not as 200."""
    values = np.repeat(np.random.default_rng(0).uniform(0.1, 0.4, 10), 20)
    alone = where_not_learnt(values, source="base model", rng=0).estimate
    together = where_not_learnt(values, clusters=np.repeat(np.arange(10), 20), source="base model", rng=0)
    assert together.value == pytest.approx(values.mean())
    assert together.estimate.n == 10
    assert together.estimate.high - together.estimate.low > 3 * (alone.high - alone.low)  # type: ignore[operator]


def test_a_target_without_a_value_is_refused() -> None:
    with pytest.raises(InputError, match=r"the target from base model has no value \(no rows\)"):
        Surrogate(Estimate.undefined(method="mean", why="no rows"), "base model")
