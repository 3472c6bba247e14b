"""Adjusted p-values: several tests of which one is to be quoted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from .checks import Floats, finite_vector


def holm(p_values: ArrayLike) -> Floats:
    """P-values adjusted by Holm (1979): rejecting those <= alpha keeps the family-wise error <= alpha.

    Valid under any dependence. Sorted upwards, the i-th of m becomes the running maximum of (m - i + 1) p_(i),
    at most 1. Worked: (0.01, 0.04, 0.03) gives 3 x 0.01 = 0.03, then 2 x 0.03 = 0.06, then
    max(0.06, 1 x 0.04) = 0.06, that is (0.03, 0.06, 0.06).

    Args:
        p_values: Valid p-values, shape (m,), in [0, 1].

    Returns:
        Adjusted p-values in the order given, shape (m,), in [0, 1].

    Raises:
        InputError: Empty, not 1-D, not finite, or outside [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """P-values adjusted by Benjamini & Hochberg (1995), through scipy: for screening, not for proof.

    Rejecting those <= alpha keeps the expected share of false rejections <= alpha, for independent tests and
    for positively dependent ones (Benjamini & Yekutieli 2001, PRDS). Worked: (0.01, 0.04, 0.03) gives
    min(3/1 x 0.01, 3/2 x 0.03, 0.04) = 0.03, then min(3/2 x 0.03, 0.04) = 0.04, then 0.04.

    Args, Returns, Raises: as `holm`.
    """
    from scipy.stats import false_discovery_control  # a second of importing, which a gate needs not

    return np.asarray(false_discovery_control(_checked(p_values), method="bh"), dtype=np.float64)


def _checked(p_values: ArrayLike) -> Floats:
    p = finite_vector(p_values, "p_values")
    bad = np.flatnonzero((p < 0) | (p > 1))
    if len(bad):
        raise InputError(f"p_values[{bad[0]}] is {p[bad[0]]}; expected a p-value from 0 to 1.")
    return p
