r"""Forget quality: can a system be told from a model that was never trained on the forget set?

Two-sample Kolmogorov-Smirnov test of the forget set's truth ratios R, a system's against those of the gold model:

    raw                    of R, as TOFU does (Maini et al. 2024, arXiv:2401.06121); the primary one
    folded (ECO's code)    of min(R, 1/R), which does not see whether wrong answers became likelier or less likely:
                           two log-normals that mirror each other give p = 8e-54 raw and 0.52 folded
    raw, by cluster        of each cluster's mean ln R, since an author's rows are not independent

A large p says only that these rows do not suffice to tell the two apart: it needs a distance below about
1.36 sqrt(2 / n), 0.30 with 40 rows. It says less still as both systems answer the same rows: what makes a row hard
makes it so for both, which the test, made for independent samples, does not know, so that p is too large (rows of
standard deviation 1, noise 0.3, 120 rows: a shift of 0.2 passes in 97 of 100 draws). The paired difference of ln R
beside it sees such a shift. Where a system refuses, R is not defined, and a test of the rows that are left
would say nothing of those; the quality is then undefined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ..errors import InputError
from ..forgetting.gap import forget_quality as by_passage
from ..forgetting.measured import joined
from ..stats.checks import Floats
from ..stats.estimate import Estimate, PValue
from ..stats.ks import ks_two_sample
from ..text.safe import counted
from .qa import Qa

_FAR: Final = math.sqrt(-math.log(0.025) / 2)  # asymptotic 5% point of D / sqrt(1/n + 1/n)


@dataclass(frozen=True, slots=True)
class Tested:
    """KS distance and its p-value; None where the test is undefined, and ``distance.why`` says so."""

    name: str
    distance: Estimate
    p_value: PValue | None


def forget_quality(system: Qa, gold: Qa, *, level: float = 0.95) -> tuple[Tested, Tested, Tested]:
    """Raw, folded, and raw by cluster.

    Args:
        system: Measures on the forget rows.
        gold: Those of the model that never saw them, on the same rows in the same scope.
        level: Confidence level of the distances, in (0, 1).

    Raises:
        InputError: Another part than "forget", two scopes, or no row in common.
    """
    if {system.part, gold.part} != {"forget"} or system.scope != gold.scope:
        raise InputError(
            f"forget quality compares {system.part} in scope {system.scope} with {gold.part} in scope {gold.scope}; "
            "expected the forget rows of both in one scope."
        )
    names = ("raw", "folded (ECO's code)", "raw, by cluster")
    why = _not_defined(system, gold)
    if why is not None:
        undefined = [Estimate.undefined(method=f"KS distance, {name}", why=why, level=level) for name in names]
        raw, folded, clustered = (Tested(name, one, None) for name, one in zip(names, undefined, strict=True))
        return raw, folded, clustered
    (own, gold_own), _, note = joined([system.log_ratio, gold.log_ratio])
    means = by_passage(system.log_ratio, gold.log_ratio, level=level)
    return (
        _tested(names[0], own, gold_own, note, level),
        _tested(names[1], -np.abs(own), -np.abs(gold_own), note, level),
        Tested(names[2], replace(means.distance, method=f"{means.distance.method}, {names[2]}"), means.p_value),
    )


def _not_defined(system: Qa, gold: Qa) -> str | None:
    for who, one in (("the system", system), ("gold", gold)):
        if one.refused:
            n = len(one.refused)
            return f"{who} refuses {counted(n, 'row')}, where R is not defined; the others would say nothing of them"
        if not len(one.log_ratio.values):
            return f"{who} has no row with a truth ratio"
    return None


def _tested(name: str, own: Floats, gold: Floats, note: str | None, level: float) -> Tested:
    """The test on ln R, or on -|ln R| = ln min(R, 1/R); a test of ranks does not mind the logarithm."""
    distance, p_value = ks_two_sample(own, gold, level=level)
    far = f"p > 0.05 needs a distance below about {_FAR * math.sqrt(2 / len(own)):.2g}"
    same = "the rows are the same for both, so p is rather too large"
    why = "; ".join(part for part in (note, far, same) if part)
    return Tested(name, replace(distance, method=f"{distance.method}, {name}", why=why), p_value)
