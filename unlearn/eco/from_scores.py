"""What the fit of a guard says, from the scores and measures that were kept: by the run itself, and by a replay.

The search of the strength is made anew from what was measured at each strength under each noise seed; it is
deterministic, so that it takes the same way again. It would ask for a strength that was never measured only where
something was changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa

from audit.errors import DataError
from audit.runs.records import plain, read_json
from audit.runs.replay import Derived, Replayed
from audit.runs.store import Run

from . import from_verdicts
from .aims import Aim, ByRow
from .calibration import Drawn, calibrate
from .conversations import Asked
from .evaluation_findings import AUDIT as EVALUATION
from .findings import AUDIT, fit_section
from .fit import all_warnings, calibration_record, searched_for, threshold_of
from .fit_made import FitMade, Reworded
from .guard_files import RECORD as GUARD_FILE
from .guard_files import read_guard
from .search import SearchSettings
from .search_ledger import Measurement
from .search_result import SearchResult

GUARD, RECORD = "guard", "fit.json"
SCORES, DEALT, SEARCH, DRAWN, AIMS = "eco-scores", "eco-dealt", "eco-search", "eco-calibration", "eco-aims"


# Tables of items


def score_table(made: FitMade) -> pa.Table:
    """Held-out scores."""
    test, reworded = made.test, made.reworded
    scores = np.concatenate([made.passing, reworded.scores])
    return pa.table(
        {
            "id": [row.id for row in test] + list(reworded.ids),
            "cluster": [row.cluster for row in test] + list(reworded.clusters),
            "side": ["retain"] * len(test) + ["forget"] * len(reworded.ids),
            "score": scores,
            "flagged": scores > made.threshold,
        }
    )


def dealt_table(made: FitMade) -> pa.Table:
    rows = [(part, row.id, row.cluster) for part, listed in made.dealt.items() for row in listed]
    columns = list(zip(*rows, strict=True))
    return pa.table({"part": list(columns[0]), "id": list(columns[1]), "cluster": list(columns[2])})


def drawn_table(drawn: Drawn) -> pa.Table:
    """What the threshold rests on."""
    groups = drawn.groups or [None] * len(drawn.ids)
    rows = [
        {"side": "retain", "id": name, "group": group, "score": score}
        for name, group, score in zip(drawn.ids, groups, drawn.scores.tolist(), strict=True)
    ]
    forget = [] if drawn.forget is None else drawn.forget.tolist()
    rows += [
        {"side": "forget", "id": name, "group": None, "score": score}
        for name, score in zip(drawn.forget_ids, forget, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def aim_table(aims: Sequence[Aim]) -> pa.Table:
    """What targets and bare values are the means of."""
    return pa.Table.from_pylist(
        [
            {"metric": one.name, "source": one.source, "of": of, "id": name, "cluster": home, "value": value}
            for one in aims
            for of, rows in (("target", one.target), ("bare", one.bare))
            for name, home, value in zip(rows.ids, rows.clusters, rows.values.tolist(), strict=True)
        ]
    )


def search_table(found: SearchResult) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"order": order, "stage": one.stage, "strength": one.strength, "seed": one.seed, "metric": metric.name,
             "value": value}
            for order, one in enumerate(found.trace, start=1)
            for metric, value in zip(found.metrics, one.values, strict=True)
        ]
    )  # fmt: skip


# And back


def replay(run: Run) -> Replayed:
    """The section of the fit anew, and that of the evaluation where the plan asked for one.

    Raises:
        DataError: A table is missing or damaged.
    """
    parts = [_fit(run)]
    if any(one.audit == EVALUATION for one in run.findings().sections):
        parts.append(from_verdicts.replay(run))
    return Replayed.joined(parts)


def _fit(run: Run) -> Replayed:
    if not run.items_path(DRAWN).exists():
        why = "this run did not keep the scores that its threshold was calibrated on; later ones do"
        return Replayed((), {AUDIT: why})
    told = read_json(run.folder / RECORD, missing=f"{run.folder} has no {RECORD}; restore it from a copy.")
    plan, guard = run.record.plan["eco"], read_guard(run.folder / GUARD)
    drawn = _drawn(run.read_items(DRAWN).to_pandas())
    calibration, warnings = calibrate(
        drawn,
        alpha=plan["alpha"],
        alpha_forget=plan.get("alpha_forget"),
        on_both=plan["on_both"],
        on_none=plan["on_none"],
    )
    found: SearchResult | None = None
    derived: list[Derived] = []
    if told["search"] is not None:
        found, derived = _searched(run, told["search"]["settings"], seed=plan["seed"])
    strength = guard.settings.corruption.strength if found is None else found.strength
    corruption = replace(guard.settings.corruption, strength=strength)
    promise = calibration_record(calibration, turns=plan["turns"])
    again = replace(
        guard,
        settings=replace(guard.settings, corruption=corruption),
        threshold=threshold_of(calibration),
        evidence={"threshold": promise},
    )
    scores = run.read_items(SCORES).to_pandas()
    test, reworded = (scores[scores["side"] == side] for side in ("retain", "forget"))
    made = FitMade(
        again,
        calibration,
        tuple(Asked(*row, "") for row in zip(test["id"], test["cluster"], strict=True)),
        test["score"].to_numpy(dtype=float),
        found,
        _dealt(run.read_items(DEALT).to_pandas()),
        all_warnings(warnings, found, guard.settings.format),
        Reworded(
            tuple(reworded["id"]),
            tuple(reworded["cluster"]),
            reworded["score"].to_numpy(dtype=float),
            told["reworded"],
        ),
        tuple(told["selected_rms"]),
        told["classifier"],
    )
    section = fit_section(made, show_text=plan["show_text"])
    derived += [
        Derived.column(SCORES, "flagged", scores, score_table(made).to_pandas()),
        _of_guard("threshold", guard.threshold, again.threshold),
        _of_guard("corruption/strength", guard.settings.corruption.strength, strength),
        _of_guard("evidence/threshold", guard.evidence["threshold"], plain(promise, GUARD_FILE)),
    ]
    return Replayed((section,), _quoted(made) if plan["show_text"] else {}, tuple(derived))


def _searched(run: Run, settings: Mapping[str, Any], *, seed: int) -> tuple[SearchResult | None, list[Derived]]:
    """The search anew, and its trace beside the stored one."""
    stored = run.read_items(SEARCH).to_pandas()
    done = [
        Measurement(float(own["strength"].iloc[0]), int(own["seed"].iloc[0]), tuple(own["value"].astype(float)),
                    own["stage"].iloc[0])
        for _, own in stored.groupby("order", sort=True)
    ]  # fmt: skip
    try:
        found = searched_for(
            _aims(run.read_items(AIMS).to_pandas()), _unmeasured, SearchSettings(**settings), seed=seed, done=done
        )
    except _UnmeasuredError as error:
        return None, [Derived(f"items/{SEARCH}.parquet/strength", [None], [error.strength])]
    again = search_table(found).to_pandas()
    return found, [Derived.column(SEARCH, name, stored, again) for name in stored.columns]


class _UnmeasuredError(DataError):
    """A search anew asks for what the first one never measured."""

    def __init__(self, strength: float) -> None:
        super().__init__(f"strength {strength:g} was never measured")
        self.strength = strength


def _unmeasured(strength: float, seeds: Sequence[int], /) -> NoReturn:
    raise _UnmeasuredError(strength)


def _drawn(table: pd.DataFrame) -> Drawn:
    retain, forget = (table[table["side"] == side] for side in ("retain", "forget"))
    return Drawn(
        tuple(retain["id"]),
        retain["score"].to_numpy(dtype=float),
        tuple(retain["group"]) if retain["group"].notna().any() else None,
        tuple(forget["id"]),
        forget["score"].to_numpy(dtype=float) if len(forget) else None,
    )


def _aims(table: pd.DataFrame) -> list[Aim]:
    def rows(own: pd.DataFrame, of: str) -> ByRow:
        part = own[own["of"] == of]
        return ByRow(tuple(part["id"]), tuple(part["cluster"]), part["value"].to_numpy(dtype=float))

    return [
        Aim(str(name), str(own["source"].iloc[0]), rows(own, "target"), rows(own, "bare"))
        for name, own in table.groupby("metric", sort=False)
    ]


def _dealt(table: pd.DataFrame) -> dict[str, tuple[Asked, ...]]:
    return {
        str(part): tuple(Asked(*row, "") for row in zip(own["id"], own["cluster"], strict=True))
        for part, own in table.groupby("part", sort=False)
    }


def _of_guard(name: str, stored: Any, again: Any) -> Derived:
    return Derived.record(f"{GUARD}/{GUARD_FILE}/{name}", stored, again)


def _quoted(made: FitMade) -> dict[str, str]:
    """Cells that quote a prompt, which stands nowhere else."""
    why = "a prompt that is quoted stands in the findings alone, and is no statistic"
    n = int((made.passing > made.threshold).sum())
    return {f"{AUDIT}:false-positives[{place}]/prompt": why for place in range(1, n + 1)}
