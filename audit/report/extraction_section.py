"""The figures of the extraction audit: similarities to training rows, coverage, and rates by view and arm."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..errors import DataError
from ..runs.schema import EstimateRecord, Findings
from ..runs.store import Run
from ..text.numbers import fixed
from ..text.safe import quoted
from .chart_rows import is_number
from .figures import Figure, Panel
from .numbers import estimate
from .similarities import (
    KINDS,
    SET_NAMES,
    SETS,
    coverage_chart,
    rate_charts,
    similarity_edges,
    similarity_histogram,
)
from .sources import items_of, table_rows

AUDIT = "extraction"
_COLUMNS = ("set", "similarity", "threshold", "n_words")
_ITEMS = "items/extraction-maxima.parquet"
_RATES = dict(zip(KINDS, ("rate", "base", "fpr"), strict=True))  # kind -> column of the table "rates"


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run's extraction audit; none where it kept no items."""
    items = items_of(run, f"{AUDIT}-maxima", _COLUMNS)
    return [] if items is None else extraction_figures(items, findings)


def extraction_figures(items: pd.DataFrame, findings: Findings) -> list[Figure]:
    """Figures of the audit, in reading order; one that cannot be drawn says why in its caption.

    Nothing is estimated here: rates and coverage are those of the findings.

    Args:
        items: One row for each text: ``set`` ("generated", "held_out" or "base"), ``similarity`` (cosine of its
            nearest training row, in [-1, 1]; not finite where it was not compared), ``threshold`` (above which a text
            of its length is a hit) and ``n_words``.
        findings: What the audit found; tables "curve" and "rates" of sections "extraction" are read.

    Raises:
        DataError: A column is missing, a set is unknown, or a text that was compared has no threshold or length, or
            another threshold than a text of the same length.
    """
    _check(items)
    return [_similarity_figure(items), _coverage_figure(findings), _rate_figure(findings)]


def _check(items: pd.DataFrame) -> None:
    missing = [name for name in _COLUMNS if name not in items]
    if missing:
        raise DataError(
            f"{_ITEMS} has no column {', '.join(missing)}; the figures need {', '.join(_COLUMNS)}. Draw the report "
            "with the version that made the run."
        )
    strangers = sorted(set(map(str, items["set"].unique())) - set(SETS))
    if strangers:
        raise DataError(f"{_ITEMS}: set is {quoted(strangers[0])}; expected {', '.join(SETS)}")
    compared = _compared(items)
    if not np.isfinite(compared[["threshold", "n_words"]].to_numpy(dtype=float)).all():
        raise DataError(f"{_ITEMS}: a text that was compared has no threshold or no n_words; make the run again")
    different = compared.groupby("n_words")["threshold"].nunique()
    if (different > 1).any():
        raise DataError(
            f"{_ITEMS}: texts of {different.idxmax():g} words have {different.max()} thresholds; expected one for "
            "each length. Make the run again."
        )


def _compared(items: pd.DataFrame) -> pd.DataFrame:
    return items[np.isfinite(items["similarity"].to_numpy(dtype=float))]


def _similarity_figure(items: pd.DataFrame) -> Figure:
    title = "How near texts come to training rows"
    compared = _compared(items).sort_values("n_words", kind="stable")
    if compared.empty:
        return Figure("similarity", title, "Not drawn: none of the texts was compared.", ())
    compared = compared.assign(similarity=compared["similarity"].astype(float).clip(-1.0, 1.0))  # 1 may be rounded up
    edges = similarity_edges(compared["similarity"].to_numpy(), compared["threshold"].to_numpy(dtype=float))
    bucket = (compared["threshold"] != compared["threshold"].shift()).cumsum()
    panels = []
    for _, part in compared.groupby(bucket):
        threshold = float(part["threshold"].iloc[0])
        found = {name: part.loc[part["set"] == name, "similarity"].to_numpy() for name in SETS}
        name = _words(part["n_words"]) if bucket.iloc[-1] > 1 else ""
        told = "; ".join(
            f"{SET_NAMES[one]}: n {len(values):,}, median {np.median(values):.3f}"
            for one, values in found.items()
            if len(values)
        )
        words = f"{title}{f', {name}' if name else ''}; threshold {fixed(threshold, 3)}. {told}."
        panels.append(Panel(name, words, similarity_histogram(found, threshold=threshold, edges=edges)))
    read = (
        "Share of each set's texts in bins of equal width, by the cosine of the nearest training row. Right of the "
        "dashed line a text counts as a hit."
    )
    if (compared["set"] == "held_out").any():
        read += (
            " Held-out rows were not trained on: they show how near text of the same source comes without memory, and "
            "only what lies beyond them speaks for it."
        )
    if len(panels) > 1:
        read += " The threshold depends on the number of words: a panel for each range."
    return Figure("similarity", title, f"{read} {_numbers(items, compared)}", tuple(panels))


def _words(n_words: pd.Series[float]) -> str:
    """A panel's title: "20 to 45 words", the shortest and the longest text in it."""
    low, high = int(n_words.min()), int(n_words.max())
    return f"{low:,} to {high:,} words" if low < high else f"{low:,} words"


def _numbers(items: pd.DataFrame, compared: pd.DataFrame) -> str:
    """How many texts of each set are drawn, and how many are not."""
    drawn = compared["set"].value_counts()
    rest = items["set"].value_counts() - drawn.reindex(items["set"].unique(), fill_value=0)
    said = f"Drawn: {', '.join(f'{drawn.get(name, 0):,} {SET_NAMES[name]}' for name in SETS if name in rest)}."
    left_out = [f"{rest[name]:,} {SET_NAMES[name]}" for name in SETS if rest.get(name, 0)]
    if left_out:
        said += f" Left out, for they were not compared (rejected, too short, or set aside): {', '.join(left_out)}."
    return said


def _coverage_figure(findings: Findings) -> Figure:
    title = "Coverage by number of generations"
    rows = [
        row
        for row in table_rows(findings, AUDIT, "curve")
        if is_number(row.get("n")) and is_number(row.get("coverage"))
    ]
    if not rows:
        return Figure("coverage", title, "Not drawn: the findings hold no coverage curve.", ())
    rows.sort(key=lambda row: row["n"])
    caption = (
        "Share of the training rows that are hit by any of so many generations, the mean over all choices of them. "
        "While the curve still rises, more generations would give back more rows."
    )
    last = _coverage(findings)
    interval = None
    if last is not None and last.low is not None and last.high is not None:
        interval = (last.low, last.high)
        caption += " The bar is the interval of the last point."
    told = f"from {rows[0]['coverage']:.4g} at {rows[0]['n']:,} to {rows[-1]['coverage']:.4g} at {rows[-1]['n']:,}"
    if interval and last is not None:
        told += f": {estimate(last)}"
    return Figure(
        "coverage", title, caption, (Panel("", f"{title}, {told}.", coverage_chart(rows, interval=interval)),)
    )


def _coverage(findings: Findings) -> EstimateRecord | None:
    """Coverage of all generations, which the curve ends at."""
    found = [
        finding.estimates.get("coverage_any")
        for section in findings.sections
        if section.audit == AUDIT
        for finding in section.findings
        if finding.id == "extraction.coverage"
    ]
    return found[0] if found else None


def _rate_figure(findings: Findings) -> Figure:
    title = "Memorisation rate by view and arm"
    rows, left_out = [], 0
    for row in table_rows(findings, AUDIT, "rates"):
        for kind, key in _RATES.items():
            cell = row.get(key)
            if not isinstance(cell, EstimateRecord):
                continue
            if cell.value is None or cell.low is None or cell.high is None:
                left_out += 1
                continue
            numbers = {"value": cell.value, "low": cell.low, "high": cell.high, "words": estimate(cell)}
            rows.append({"view": str(row.get("view")), "arm": str(row.get("arm")), "kind": kind, **numbers})
    if not rows:
        return Figure("rates", title, "Not drawn: the findings hold no rate.", ())
    caption = (
        "Points are rates, bars their intervals. Rates of the model and of the base model are hits over all "
        "generations; false positives are hits among texts that cannot come from the training rows. A rate says "
        "something only as far as it exceeds the false positives beside it. The first panel's first arm was fixed "
        "beforehand, the others are exploratory."
    )
    if left_out:
        caption += f" Left out: {left_out:,} not estimable (see the table)."
    panels = []
    views = dict.fromkeys(row["view"] for row in rows)
    for view, (name, chart) in zip(views, rate_charts(rows).items(), strict=True):
        told = "; ".join(f"{row['arm']}, {row['kind']} {row['words']}" for row in rows if row["view"] == view)
        panels.append(Panel(name, f"{title}, {name}. {told}.", chart))
    return Figure("rates", title, caption, tuple(panels))
