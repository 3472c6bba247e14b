"""What the audit could have seen at all, whatever it did see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ...runs.schema import Cell, Column, EstimateRecord, Finding, Table
from ...text.numbers import fixed
from ...text.safe import counted
from ..config import DetectionPlan
from ..power.design import designs
from ..power.model import arm_power
from ..power.needed import Detectable, detectable

POWER = 0.9


@dataclass(frozen=True, slots=True)
class Stated:
    """A power, and the effect that it is for, in words and as an AUC."""

    power: EstimateRecord
    effect: str
    auc: float


def detectable_by_arm(items: pd.DataFrame, *, plan: DetectionPlan, n_tests: int) -> dict[int, Detectable]:
    """Number of copies -> what its arm could have shown; empty where alpha lies above the power asked for.

    Args:
        items: Traps: ``arm, n_rep, stratum``.
        plan: Error rate, re-draws and level.
        n_tests: Tests that can say "found".
    """
    if plan.alpha >= POWER:
        return {}
    rows = zip(items["arm"].tolist(), items["n_rep"].tolist(), items["stratum"].tolist(), strict=True)
    arms = designs(rows)
    return {
        n_rep: detectable(
            design, alpha=plan.alpha, arms=n_tests, n_draws=plan.n_draws, level=plan.level, powers=(POWER,)
        )
        for n_rep, design in arms.items()
    }


def power_by_arm(items: pd.DataFrame, *, plan: DetectionPlan, n_tests: int) -> dict[int, Stated]:
    """Number of copies -> the chance that its arm test finds the least AUC that the plan does not call negligible."""
    rows = zip(items["arm"].tolist(), items["n_rep"].tolist(), items["stratum"].tolist(), strict=True)
    return {
        n_rep: Stated(
            EstimateRecord(
                value=arm_power(plan.negligible_auc, design, alpha=plan.alpha, arms=n_tests, n_draws=plan.n_draws),
                low=None,
                high=None,
                level=plan.level,
                n=design.n_members,
                method="binormal scores, arm test by moments of T, Holm counted as alpha / tests",
                why="computed from the design before any score is seen, so it has no interval",
            ),
            f"an AUC of {plan.negligible_auc:g} with {counted(design.n_members, 'trap')}",
            plan.negligible_auc,
        )
        for n_rep, design in designs(rows).items()
    }


def least_power(stated: Mapping[int, Stated]) -> Stated | None:
    """The weakest arm's; None where there is no arm."""
    return min(stated.values(), key=lambda one: one.power.value or 0.0, default=None)


def power_finding(found: Mapping[int, Detectable]) -> Finding:
    """One sentence on the weakest arm."""
    smallest = [one.smallest_auc[POWER] for one in found.values()]
    known = [auc for auc in smallest if auc is not None]
    if len(known) < len(smallest):
        claim = "By its size, this audit could hardly have found anything at some number of copies."
    else:
        claim = (
            f"By its size, this audit finds an effect of AUC {math.ceil(100 * max(known)) / 100:.2f} or more with "
            f"{POWER:.0%} power at every number of copies."
        )
    return Finding(
        id="traps.power",
        audit="traps",
        claim=claim,
        verdict="information",
        items="items/traps.parquet",
        how_to_read=(
            "Computed from the numbers of traps and decoys alone, for normal scores and before any score is seen; the "
            "table gives each number of copies. A smaller effect may be there and be missed. How another training run "
            "would have come out is not covered."
        ),
    )


def power_table(found: Mapping[int, Detectable]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "n_rep": n_rep,
            "n_members": one.n_members,
            "n_decoys": one.n_decoys,
            "smallest_auc": _shown(one.smallest_auc[POWER]),
            "excluded_auc": _shown(one.excluded_auc[POWER]),
            "attainable": one.attainable,
            "rank_attainable": one.rank_attainable,
        }
        for n_rep, one in found.items()
    ]
    return Table(
        name="power",
        title="What this design could have seen",
        note="Computed, not estimated: normal scores of one spread in each stratum, Holm over all tests.",
        columns=(
            Column(key="n_rep", label="Copies"),
            Column(key="n_members", label="Traps"),
            Column(key="n_decoys", label="Decoys"),
            Column(key="smallest_auc", label=f"Smallest AUC found with {POWER:.0%} power"),
            Column(
                key="excluded_auc",
                label=f"AUC ruled out in {POWER:.0%} of models that saw nothing",
                help="Upper bound of the interval; none with fewer than 10 traps or a stratum of fewer than 10 decoys.",
            ),
            Column(key="attainable", label="Smallest corrected p"),
            Column(key="rank_attainable", label="Smallest rank p of one trap"),
        ),
        rows=tuple(rows),
    )


def _shown(auc: float | None) -> str:
    return "none" if auc is None else fixed(auc, 3)
