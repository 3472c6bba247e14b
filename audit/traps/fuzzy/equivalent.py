r"""The exact-duplicate equivalent: how many exact copies a set of near copies was worth to a model.

Shilov, Meeus, de Montjoye, *Mosaic Memory* (arXiv:2405.15523), with its released code. phi_nu is the AUC of a
membership score for traps planted nu times verbatim, nu = 1 ... m; phi_fuzzy the AUC for traps planted once verbatim
and ``n_dup - 1`` times as near copies:

    s_1 = phi_1,  s_m = phi_m,  s_nu = (phi_{nu-1} + phi_nu + phi_{nu+1}) / 3    3-point moving average, ends kept
    nu_eq = 1                                                where phi_fuzzy <= s_1
    nu_eq = nu + (phi_fuzzy - s_nu) / (s_{nu+1} - s_nu)      at the last step with s_nu <= phi_fuzzy <= s_{nu+1}
    nu_eq = m + (phi_fuzzy - s_m) / g                        where phi_fuzzy >= s_m
    g     = (|s_m - s_{m-1}| + |s_{m-1} - s_{m-2}| + |s_{m-2} - s_{m-3}|) / 3
    rho   = (nu_eq - 1) / (n_dup - 1)

rho = 1: each near copy is worth one exact copy; 0: the near copies are worth nothing. Departures from the code: at and
below s_1 the answer is always 1 (the code can exceed 1 there when s_2 < s_1), ``n_dup`` is an argument (the code
divides by 9), and on a level step the smaller nu is taken (the code divides by zero).

Worked: phi = .612 .706 .782 .836 .872 .910 .928 .946 .955 .964 and phi_fuzzy = .923. s_6 = (.872 + .910 + .928) / 3 =
.9033, s_7 = (.910 + .928 + .946) / 3 = .928, so nu_eq = 6 + .0197 / .0247 = 6.797 and rho = 5.797 / 9 = .644.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from ...errors import InputError
from ...stats.bootstrap import bootstrap
from ...stats.checks import Floats, Labels, Seed, count, finite_array, finite_vector
from ...stats.estimate import Estimate

LEAST_EXACT = 4  # the extrapolation takes three steps
LEVEL = 1e-9  # a smaller step of the curve is rounding: AUCs move by 1 / (2 n1 n0)


def exact_duplicate_equivalent(exact_aucs: ArrayLike, fuzzy_auc: float, n_dup: int) -> float:
    """rho of the equations above.

    Args:
        exact_aucs: phi_1 ... phi_m, shape (m,), m >= 4, each in [0, 1].
        fuzzy_auc: phi_fuzzy, in [0, 1].
        n_dup: Copies behind phi_fuzzy, the exact one included, 2 or more.

    Returns:
        rho >= 0; above 1 where near copies were worth more than exact ones, or by extrapolation.

    Raises:
        InputError: An AUC is outside [0, 1], there are fewer than 4, or rho is undefined because phi_fuzzy lies above a
            curve whose last four points are level.
    """
    exact = finite_vector(exact_aucs, "exact_aucs")
    fuzzy = float(finite_vector([fuzzy_auc], "fuzzy_auc")[0])
    count(n_dup, "n_dup", least=2)
    if len(exact) < LEAST_EXACT:
        raise InputError(
            f"exact_aucs has {len(exact)} values; expected {LEAST_EXACT} or more, the AUCs for 1, 2, 3, ... copies."
        )
    for name, value in [*((f"exact_aucs[{place}]", auc) for place, auc in enumerate(exact)), ("fuzzy_auc", fuzzy)]:
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}; expected an AUC, from 0 to 1.")
    rho = _rho(exact, fuzzy, n_dup)
    if math.isnan(rho):
        raise InputError(
            f"rho is undefined: the fuzzy AUC {fuzzy:g} lies above the last exact one, {exact[-1]:g}, and the smoothed "
            "curve is level there, so it cannot be extrapolated. Measure the exact AUCs for more copies."
        )
    return rho


def exact_duplicate_equivalent_interval(
    exact_members: ArrayLike,
    exact_decoys: ArrayLike,
    fuzzy_members: ArrayLike,
    fuzzy_decoys: ArrayLike,
    *,
    n_dup: int,
    member_strata: Labels | None = None,
    decoy_strata: Labels | None = None,
    n_draws: int = 2000,
    level: float = 0.95,
    rng: Seed,
) -> Estimate:
    """rho with a percentile bootstrap over traps.

    A draw resamples the members and, apart from them, the decoys, and takes the same traps in all m + 1 models, so that
    what the models share cancels. It says nothing about training the models again: repeat with other seeds for that.

    Args:
        exact_members: Scores of the n1 members under the model that saw nu exact copies, shape (m, n1), higher for
            likelier members.
        exact_decoys: Scores of the n0 decoys under the same models, shape (m, n0).
        fuzzy_members: Scores of the same members, in the same order, where they were planted as near copies, (n1,).
        fuzzy_decoys: Scores of the same decoys there, (n0,).
        n_dup: Copies behind the fuzzy scores, the exact one included.
        member_strata: Label of each member; members are resampled within their stratum.
        decoy_strata: Label of each decoy likewise; give both or neither.
        n_draws: Number of draws.
        level: Level of the interval, in (0, 1).
        rng: Generator or seed.

    Returns:
        ``n`` is n1 + n0. A value of 0 with an interval down to 0 is the clamp, not certainty.

    Raises:
        InputError: Shapes do not fit, a score is not finite, or an option is out of range.
    """
    exact = finite_array(exact_members, "exact_members"), finite_array(exact_decoys, "exact_decoys")
    fuzzy = finite_vector(fuzzy_members, "fuzzy_members"), finite_vector(fuzzy_decoys, "fuzzy_decoys")
    count(n_dup, "n_dup", least=2)
    for name, table, row in zip(("members", "decoys"), exact, fuzzy, strict=True):
        if table.ndim != 2 or len(table) < LEAST_EXACT or table.shape[1] != len(row):
            raise InputError(
                f"exact_{name} has shape {table.shape} and fuzzy_{name} {row.shape}; expected (m, n) with m >= "
                f"{LEAST_EXACT} and (n,), the same traps in the same order under every model."
            )
    if len(exact[0]) != len(exact[1]):
        raise InputError(
            f"exact_members has {len(exact[0])} models and exact_decoys {len(exact[1])}; expected the same models."
        )
    if (member_strata is None) != (decoy_strata is None):
        raise InputError("strata are given for one side only; give member_strata and decoy_strata, or neither.")
    members = np.vstack([exact[0], fuzzy[0]])  # (m + 1, n1)
    decoys = np.vstack([exact[1], fuzzy[1]])  # (m + 1, n0)

    def rho(member_rows: Floats, decoy_rows: Floats) -> float:
        aucs = _aucs(members[:, member_rows.astype(np.int64)], decoys[:, decoy_rows.astype(np.int64)])
        return _rho(aucs[:-1], float(aucs[-1]), n_dup)

    strata: Sequence[Labels] | None = None
    if member_strata is not None and decoy_strata is not None:
        strata = [member_strata, decoy_strata]
    found = bootstrap(
        rho,
        np.arange(members.shape[1]),  # what is resampled is the numbers of the traps
        np.arange(decoys.shape[1]),
        strata=strata,
        n_draws=n_draws,
        level=level,
        rng=rng,
    )
    method = f"exact-duplicate equivalent, n_dup {n_dup}, {len(exact[0])} exact models; {found.method}"
    return Estimate(found.value, found.low, found.high, found.level, found.n, method, found.why)


def smoothed(exact_aucs: Floats) -> Floats:
    """3-point moving average with both end points kept, shape (m,)."""
    middle = np.convolve(exact_aucs, np.full(3, 1 / 3), mode="valid")
    return np.concatenate([exact_aucs[:1], middle, exact_aucs[-1:]])


def _rho(exact: Floats, fuzzy: float, n_dup: int) -> float:
    return (_equivalent_copies(smoothed(exact), fuzzy) - 1) / (n_dup - 1)


def _equivalent_copies(curve: Floats, fuzzy: float) -> float:
    """nu_eq, or NaN above a level end."""
    if fuzzy <= curve[0]:
        return 1.0
    if fuzzy >= curve[-1]:
        slope = float(np.abs(np.diff(curve[-4:])).mean())
        over = fuzzy - float(curve[-1])
        if over <= LEVEL:
            return float(len(curve))
        return len(curve) + over / slope if slope > LEVEL else math.nan
    # The curve starts below and ends above, so that there is a step that holds it.
    place = int(np.flatnonzero((curve[:-1] <= fuzzy) & (fuzzy <= curve[1:]))[-1])
    step = float(curve[place + 1] - curve[place])
    return place + 1 + ((fuzzy - float(curve[place])) / step if step > LEVEL else 0.0)


def _aucs(members: Floats, decoys: Floats) -> Floats:
    """AUC of each row: (k, n1) against (k, n0), ties half."""
    n1, n0 = members.shape[1], decoys.shape[1]
    ranks = rankdata(np.hstack([members, decoys]), axis=1)
    found: Floats = (ranks[:, :n1].sum(axis=1) - n1 * (n1 + 1) / 2) / (n1 * n0)
    return found
