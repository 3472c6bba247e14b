"""The figures of the trap audit: rows of findings.json and of items/traps.parquet, arranged to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError
from ..membership.score_names import NAMES
from ..runs.schema import EstimateRecord, Findings
from ..runs.store import Run
from ..stats.auc import roc_curve
from .chart_rows import copies_label, length_label
from .charts import auc_by_repetition, roc, thinned, tpr_by_repetition
from .distributions import DECOY_GROUP, rank_p_histogram, score_distribution
from .figures import Figure, Panel
from .numbers import estimate
from .sources import items_of, table_rows

AUDIT = "traps"
TABLE = "auc"
SCORE_LABELS = NAMES | {"ratio": "Ratio to reference"}
_NOT_PICKED = "The score was named beforehand or follows from a fixed order; it was not picked for its result."
_COLUMNS = ("arm", "n_rep", "length", "stratum", "rank_p")


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run's trap audit; none where it kept no items."""
    items = items_of(run, AUDIT, (*_COLUMNS, *(f"{name}_score" for name in SCORE_LABELS)))
    plan = run.record.plan.get(AUDIT)
    primary = plan.get("primary") if isinstance(plan, Mapping) else None
    return [] if items is None else trap_figures(items, findings, primary=primary)


def trap_figures(items: pd.DataFrame, findings: Findings, *, primary: str | None = None) -> list[Figure]:
    """Figures of the trap audit, in reading order; one that cannot be drawn says why in its caption.

    AUC and true-positive rates are those of the findings. Nothing is estimated here: the ROC curves, the
    distributions and the histograms show the items themselves.

    Args:
        items: One row per trap: ``arm`` ("member" or "decoy"), ``n_rep``, ``length`` (tokens),
            ``stratum``, ``rank_p`` (members only) and one or more of ``*_score`` (higher = more like a member).
        findings: What the audit found; tables "auc" of sections "traps" are read.
        primary: The score that the distributions and ROC curves show, as in the detection plan ("ratio"). By
            default the first with any value of a fixed order that begins with ratio and loss, never the best one.

    Raises:
        DataError: A column is missing, an arm is neither "member" nor "decoy", or ``primary`` has no column.
    """
    _check(items)
    score = _primary(items, primary)
    figures = _estimate_figures(findings)
    if score is None:
        why = "Not drawn: the items hold no value of any score."
        return [*figures, Figure("scores", "Scores", why, ()), rank_figure(items)]
    finite = items[np.isfinite(items[f"{score}_score"].astype(float))]
    left_out = len(items) - len(finite)
    note = _left_out(left_out, f"traps without a {SCORE_LABELS[score]} score")
    return [
        *figures,
        _distribution_figure(finite, score, note),
        *_roc_figures(finite, score, note),
        rank_figure(items),
    ]


def _check(items: pd.DataFrame) -> None:
    missing = [name for name in _COLUMNS if name not in items]
    if missing:
        raise DataError(
            f"items/traps.parquet has no column {', '.join(missing)}; the figures need {', '.join(_COLUMNS)} and "
            f"scores. Draw the report with the version that made the run."
        )
    arms = sorted(set(map(str, items["arm"].unique())) - {"member", "decoy"})
    if arms:
        raise DataError(f'items/traps.parquet: arm is {arms[0]!r}; expected "member" or "decoy"')


def _primary(items: pd.DataFrame, primary: str | None) -> str | None:
    present = [name for name in SCORE_LABELS if f"{name}_score" in items]
    if primary is not None:
        if primary not in present:
            raise DataError(
                f"items/traps.parquet has no {primary}_score, the primary score; it has {', '.join(present)}"
            )
        present = [primary]
    return next((name for name in present if np.isfinite(items[f"{name}_score"].astype(float)).any()), None)


def _left_out(count: int, what: str) -> str:
    return f" Left out: {count:,} {what}." if count else ""


def _estimate_figures(findings: Findings) -> list[Figure]:
    """AUC and TPR by repetition, from the tables of the findings."""
    rows = table_rows(findings, AUDIT, TABLE)
    read = "Points are estimates, bars their intervals; the dashed line is chance."
    return [
        _estimate_figure("auc", "AUC by number of copies", rows, "auc", f"AUC: the chance that a random member "
                         f"scores above a random decoy; 0.5 means that the score tells nothing. {read}"),
        _estimate_figure("tpr", "Members found at 1% false positives", rows, "tpr_at_1pct_fpr", f"The share of "
                         f"members above a threshold that at most 1% of decoys pass. {read}"),
    ]  # fmt: skip


def _estimate_figure(id: str, title: str, rows: Sequence[Mapping[str, Any]], key: str, read: str) -> Figure:
    cells = [(row, row.get(key)) for row in rows]
    drawn = [_estimate_row(row, cell) for row, cell in cells if isinstance(cell, EstimateRecord)]
    with_value = [row for row in drawn if row["value"] is not None]
    if not with_value:
        reasons = sorted({cell.why for _, cell in cells if isinstance(cell, EstimateRecord) and cell.why})
        why = f"Not drawn: {'; '.join(reasons) or 'the findings hold no such estimate'}."
        return Figure(id, title, why, ())
    charts = auc_by_repetition(drawn) if key == "auc" else tpr_by_repetition(drawn)
    lengths = {length_label(row["length"]): row["length"] for row in with_value}
    panels = tuple(
        Panel(name, _in_words(title, [row for row in with_value if row["length"] == lengths[name]]), chart)
        for name, chart in charts.items()
    )
    bare = sum(row["low"] is None for row in with_value)
    read += f" {bare} without an interval have no bar." if bare else ""
    return Figure(id, title, read + _left_out(len(drawn) - len(with_value), "not estimable (see the table)"), panels)


def _estimate_row(row: Mapping[str, Any], cell: EstimateRecord) -> dict[str, Any]:
    score = str(row.get("score")).removesuffix("_score")
    fields = {"score": SCORE_LABELS.get(score, score), "n_rep": row.get("n_rep"), "length": row.get("length")}
    return {**fields, "value": cell.value, "low": cell.low, "high": cell.high, "words": estimate(cell)}


def _in_words(title: str, rows: list[dict[str, Any]]) -> str:
    listed = (f"{row['score']}, {row['n_rep']} copies: {row['words']}" for row in rows)
    return f"{title}. {'; '.join(listed)}."


def _groups(part: pd.DataFrame, score: str) -> dict[str, NDArray[np.float64]]:
    """Scores of the decoys, then of members from fewest to most copies; only groups that have any."""
    column = part[f"{score}_score"]
    groups: dict[str, NDArray[np.float64]] = {}
    groups[DECOY_GROUP] = np.asarray(column[part["arm"] == "decoy"], dtype=np.float64)
    members = part["arm"] == "member"
    for n_rep in sorted(part.loc[members, "n_rep"].unique()):
        groups[str(n_rep)] = np.asarray(column[members & (part["n_rep"] == n_rep)], dtype=np.float64)
    return {name: values for name, values in groups.items() if len(values)}


def _distribution_figure(items: pd.DataFrame, score: str, note: str) -> Figure:
    title = f"Scores of members and decoys: {SCORE_LABELS[score]}"
    panels = []
    for length, part in items.groupby("length"):
        groups = _groups(part, score)
        rows = pd.DataFrame(
            {
                "score": np.concatenate(list(groups.values())),
                "group": pd.Categorical.from_codes(
                    np.repeat(np.arange(len(groups)), [*map(len, groups.values())]), list(groups)
                ),
            }
        )
        words = "; ".join(
            f"{name}: n {len(values):,}, median {np.median(values):.4g}" for name, values in groups.items()
        )
        chart = score_distribution(rows, score=SCORE_LABELS[score])
        panels.append(Panel(length_label(length), f"{title}. {words}.", chart))
    read = (
        "Higher means more like a member. Dots are traps (percentiles, where a group has more than 101), boxes the "
        f"middle half, bars the median. {_NOT_PICKED}"
    )
    return Figure("scores", title, read + note, tuple(panels))


def _roc_figures(items: pd.DataFrame, score: str, note: str) -> list[Figure]:
    title = f"ROC curves: {SCORE_LABELS[score]}"
    linear: list[Panel] = []
    logarithmic: list[Panel] = []
    for length, part in items.groupby("length"):
        groups = _groups(part, score)
        decoys = groups.pop(DECOY_GROUP, None)
        name = length_label(length)
        if decoys is None or not groups:
            note += f" Not drawn for {name}: members or decoys are missing."
            continue
        rows = [row for group, members in groups.items() for row in _curve(group, members, decoys)]
        resolution = 1 / len(decoys)
        words = f"{title}, {name}, against {len(decoys):,} decoys; copies: {', '.join(groups)}."
        linear.append(Panel(name, words, roc(rows, resolution=resolution)))
        if resolution < 1:
            logarithmic.append(Panel(name, words, roc(rows, resolution=resolution, log_x=True)))
    read = (
        "Share of members found against share of decoys wrongly flagged; the dashed curve is chance. In grey: rates "
        f"below 1 / (number of decoys), which so few decoys cannot measure. {_NOT_PICKED}"
    )
    zoomed = "The same curves with a logarithmic axis, for few wrongly flagged decoys."
    return [
        Figure("roc", title, read + note, tuple(linear)),
        Figure("roc_log", f"{title}, at low false-positive rates", zoomed + note, tuple(logarithmic)),
    ]


def _curve(group: str, members: NDArray[np.float64], decoys: NDArray[np.float64]) -> list[dict[str, Any]]:
    curve = roc_curve(members, decoys)
    points = zip(*thinned(curve.fpr, curve.tpr), strict=True)
    return [{"fpr": float(f), "tpr": float(t), "group": group} for f, t in points]


def rank_figure(items: pd.DataFrame) -> Figure:
    """Histograms of the rank p-values by number of copies; of ``items`` as in `trap_figures` no score is read."""
    title = "Rank p-values of single traps"
    is_member = items["arm"] == "member"
    members = items[is_member & items["rank_p"].notna()]
    if members.empty:
        return Figure("ranks", title, "Not drawn: the items hold no rank p-value.", ())
    counts = members.groupby("n_rep").size()
    rows = pd.DataFrame(
        {"p": members["rank_p"].astype(float), "n_rep": members["n_rep"], "n_controls": _controls(items, members)}
    )
    panels = tuple(
        Panel(name, f"{title}, {name}: histogram of p-values from 0 to 1, with the expected counts.", chart)
        for name, chart in rank_p_histogram(rows).items()
    )
    read = (
        "The dashed line is what is expected when nothing was memorised: every p-value equally likely. For traps "
        "dealt at random, a pile at the left is evidence of memory. Single p-values are not corrected for their "
        "number (traps drawn: " + ", ".join(f"{count:,} with {copies_label(n)}" for n, count in counts.items()) + ")."
    )
    missing = int(is_member.sum()) - len(members)
    return Figure("ranks", title, read + _left_out(missing, "members without a rank p-value"), panels)


def _controls(items: pd.DataFrame, members: pd.DataFrame) -> pd.Series[float]:
    """How many decoys each member's p-value was made of: those of its stratum, if the p-value fits; else NaN."""
    decoys = items[items["arm"] == "decoy"].groupby("stratum").size()
    n = members["stratum"].map(decoys).astype(float)
    rank = members["rank_p"].astype(float) * (n + 1)
    return n.where((rank - rank.round()).abs() < 1e-6)
