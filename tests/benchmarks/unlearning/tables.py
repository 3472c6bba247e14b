"""What is said of each model of the experiments: estimates from the measured values, as a record and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from audit.forgetting.gap import forget_quality, gap_closed
from audit.forgetting.measured import Measured, difference, joined, paired_bootstrap
from audit.report.numbers import estimate as shown
from audit.runs.schema import EstimateRecord
from audit.stats.checks import Floats
from audit.stats.estimate import Estimate
from audit.text.numbers import p_number

Measures = Mapping[str, Measured]
Said = dict[str, dict[str, Any]]


class Aims(NamedTuple):
    """Measures that should move from the target's to retrained's, that should stay, and that have a KS test."""

    gaps: tuple[str, ...]
    kept: tuple[str, ...]
    quality: tuple[str, ...]


def by_passage(one: Measured) -> Measured:
    """The mean of each passage's items; passages that have none are left out."""
    names = list(dict.fromkeys(one.passages))
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([places[name] for name in one.passages])
    means = np.bincount(codes, weights=one.values) / np.bincount(codes)
    return Measured(one.name, tuple(names), tuple(names), means)


def relative_rise(after: Measured, before: Measured) -> Estimate:
    """Mean of one model's losses over another's on the same passages, less 1; whole passages resampled."""
    values, passages, note = joined([after, before])

    def rise(x: Floats, y: Floats, axis: int = -1) -> Floats:
        return np.asarray(x.mean(axis=axis) / y.mean(axis=axis) - 1)

    return paired_bootstrap(rise, values, passages, name=f"{after.name}: relative rise", note=note, rng=0, level=0.95)


def said_of(own: Measures, references: Mapping[str, Measures], aims: Aims) -> Said:
    """Every estimate of one model against the target and the retrained one, as plain values."""
    target, retrained = references["target"], references["retrained"]
    said: Said = {}
    for name, one in own.items():
        estimates = {"mean": one.mean(rng=0)}
        if name in retrained:
            estimates["less_retrained"] = difference(one, retrained[name], rng=0)
        if name in aims.gaps:
            estimates["gap_closed"] = gap_closed(target[name], one, retrained[name], rng=0)
        if name in aims.kept:
            estimates["rise"] = relative_rise(one, target[name])
        said[name] = {key: EstimateRecord.of(value).model_dump() for key, value in estimates.items()}
        if name in aims.quality:
            found = forget_quality(one, retrained[name])
            distance = EstimateRecord.of(found.distance).model_dump()
            said[name]["forget_quality"] = {"p": found.p_value.value, "n": found.p_value.n, "distance": distance}
        said[name]["values"] = [round(float(value), 6) for value in one.values]
        said[name]["ids"] = list(one.ids)
    return said


def tables(record: Mapping[str, Any], aims: Aims) -> list[str]:
    """The reference models and arms with the gaps they closed; what else moved; how the settings were chosen."""
    lines = [(name, said) for name, said in record["models"].items()]
    for arm, found in record["arms"].items():
        at = found.get("at", {})
        same = "stop" in at and "equal" in at and at["stop"]["point"] == at["equal"]["point"]
        for place, one in at.items():
            if not (same and place == "equal"):
                lines.append((f"{arm} ({'both' if same else place})", one["said"]))
    others = [line for line in lines if line[0] != "target"]
    moved = [line for line in others if line[0] != "retrained"]
    found = [_table("Model", moved, [(name, "gap_closed") for name in aims.gaps])]
    found.append(_table("Model", others, [(name, "rise") for name in aims.kept]))
    rest = list(dict.fromkeys(name for _, said in lines for name in said))
    found.append(_table("Model, means", lines, [(name, "mean") for name in rest]))
    found.append(_quality(lines, aims))
    for arm, one in record.get("placebo", {}).items():
        noise = record["models"]["retrained_2"]
        rows = [
            [name, _cell(said, "less_target"), _cell(noise.get(name, {}), "less_retrained")]
            for name, said in one["said"].items()
        ]
        head = [f"Placebo by {arm}, rate {one['rate']:g}, step {one['step']}", "Less target", "Two retrained models"]
        found.append(_markdown([head, *rows]))
    found.append(_choices(record))
    return found


def across(records: Sequence[Mapping[str, Any]], aims: Aims, *, place: str) -> str:
    """Several seeds side by side: gaps closed by measure, then rises; one value for each seed, without intervals.

    Args:
        records: Of one experiment.
        aims: Its measures.
        place: Which weights of an arm: "stop" or "equal".
    """
    columns = [(name, "gap_closed") for name in aims.gaps] + [(name, "rise") for name in aims.kept]
    models = {name: [record["models"].get(name, {}) for record in records] for name in ("retrained", "retrained_2")}
    arms = list(dict.fromkeys(arm for record in records for arm in record["arms"]))
    found = {
        arm: [record["arms"].get(arm, {}).get("at", {}).get(place, {}).get("said", {}) for record in records]
        for arm in arms
    }
    rows = [["Model", *(name for name, _ in columns)]]
    for name, saids in {**models, **found}.items():
        rows.append(
            [name, *(", ".join(_short(said.get(column, {}), what) for said in saids) for column, what in columns)]
        )
    return _markdown(rows)


LEVELS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the damage that is allowed


def frontier(records: Sequence[Mapping[str, Any]]) -> str:
    """The lowest validation familiarity at no more than so much damage, as a share of the target's; a value a seed."""
    arms = list(dict.fromkeys(arm for record in records for arm in record["arms"]))
    rows = [["Arm", *(f"{level:g}" for level in LEVELS)]]
    for arm in arms:
        cells = []
        for level in LEVELS:
            values = []
            for record in records:
                points = record["arms"].get(arm, {}).get("points", [])
                fit = [one["familiarity"] for one in points if one["rise"] <= level * record["given"]["limit"]]
                start = next((one["familiarity"] for one in points if one["step"] == 0), None)
                values.append("-" if start is None else f"{min([start, *fit]) / start:.2f}")
            cells.append(" ".join(values))
        rows.append([arm, *cells])
    return _markdown(rows)


def _short(said: Mapping[str, Any], what: str) -> str:
    value = said.get(what, {}).get("value")
    if value is None:
        return "-"
    return f"{value:+.1%}" if what == "rise" else f"{value:.2f}"


def _table(first: str, lines: Sequence[tuple[str, Said]], columns: Sequence[tuple[str, str]]) -> str:
    head = [first, *(f"{name}: {what.replace('_', ' ')}" for name, what in columns), "n"]
    rows = []
    for name, said in lines:
        n = sorted({said[column][what]["n"] for column, what in columns if what in said.get(column, {})})
        rows.append([name, *(_cell(said.get(column, {}), what) for column, what in columns), _span(n)])
    return _markdown([head, *rows])


def _quality(lines: Sequence[tuple[str, Said]], aims: Aims) -> str:
    rows = [["Model", *(f"{name}: KS distance to retrained, p" for name in aims.quality), "n"]]
    for name, said in lines:
        found = [said[column]["forget_quality"] for column in aims.quality if column in said]
        cells = [f"{shown(EstimateRecord(**one['distance']))}, p = {p_number(one['p'])}" for one in found]
        rows.append([name, *cells, _span(sorted({one["n"] for one in found}))])
    return _markdown(rows)


def _choices(record: Mapping[str, Any]) -> str:
    rows = [["Arm", "Kept", "Rate (of those tried)", "Step", "Validation familiarity", "Rise on validation", "Seconds"]]
    for arm, found in record["arms"].items():
        rates = ", ".join(f"{rate:g}" for rate in found.get("rates", ()))
        for place, one in found.get("at", {}).items():
            point = one["point"]
            cells = [f"{point['rate']:g} ({rates})", str(point["step"]), f"{point['familiarity']:.4g}"]
            rows.append([arm, place, *cells, f"{point['rise']:+.2%}", f"{found['seconds']:.0f}"])
        if found.get("failures"):
            rows.append([arm, "failed", "; ".join(found["failures"]), "", "", "", ""])
    return _markdown(rows)


def _cell(said: Mapping[str, Any], what: str) -> str:
    if what not in said:
        return ""
    record = EstimateRecord(**said[what])
    if record.value is None:
        return "no gap" if "no gap" in (record.why or "") else "undefined"
    return shown(record)


def _span(numbers: Sequence[int]) -> str:
    return "" if not numbers else f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rest])
