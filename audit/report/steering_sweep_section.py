"""The figures of a sweep of steering: effect against cost, both by strength, comparisons, support; and examples.

Everything is drawn from the run's findings and from its tables of items; nothing is estimated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from ..runs.schema import EstimateRecord, Findings, Table
from ..runs.store import Run
from .chart_rows import inline, is_number, labels
from .figures import Figure, MarkedPiece, MarkedText, MarkedTexts, Panel
from .intervals import interval_chart
from .palette import DASHES, INK, SERIES, SHAPES, cycled, legend_columns, styled
from .sources import items_of, tables_of
from .steering_charts import NUMBERS, ROOM, UPRIGHT, by_gamma, padded

SWEEP, POINTS, TEXTS = "steer-sweep", "sweep-points", "sweep-continuations"
_FAR = 200.0  # percent
_EXAMPLES = 8  # prompts that are quoted


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run that swept strengths; none where it kept no points."""
    points = items_of(run, POINTS)
    return [] if points is None else sweep_figures(tables_of(findings, SWEEP), points)


def quote(run: Run) -> MarkedTexts | None:
    """What was written, where the run keeps it."""
    texts, points = items_of(run, TEXTS), items_of(run, POINTS)
    return None if texts is None or points is None else examples(texts, points)


def sweep_figures(tables: dict[str, Table], points: pd.DataFrame) -> list[Figure]:
    """Of a sweep.

    Args:
        tables: Of its section, by name.
        points: A row for each judge, set of texts, arm and strength: ``rate``, ``perplexity`` and ``change`` with
            their ends, whether it is ``ours``, ``is_compared`` and ``instructed``.
    """
    rows = [{key: _plain(value) for key, value in row.items()} for row in points.to_dict("records")]
    found = [*_frontiers(rows), *_by_strength(rows)]
    if "matched" in tables:
        found.append(_matched(tables["matched"]))
    support = _support(tables["arms"], rows)
    return found if support is None else [*found, support]


def concept_figures(points: pd.DataFrame) -> list[Figure]:
    """Of rates of concepts, whose judges are lists of words; ``points`` as in `sweep_figures`."""
    rows = [{key: _plain(value) for key, value in row.items()} for row in points.to_dict("records")]
    line = "A line follows the maps from strength 0, where the model is as it is, to the greatest; bars are intervals."
    drawn = [replace(one, caption=line) if one.panels else one for one in _frontiers(rows)]
    rate, cost = _by_strength(rows)
    return [*drawn, replace(rate, caption="Bars are intervals."), replace(cost, caption="Paired text by text.")]


def _frontiers(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    """Rate against the change of perplexity of every arm along its strengths; a figure for each set of texts."""
    arms = _arms(rows)
    caption = (
        "A line follows one arm from strength 0, where it is the model as it is, to its greatest; bars are intervals "
        "of the rate. The large diamond is our arm at the strength at which it is compared. Better is up where the "
        "rate is to rise, down where it is to fall, and always left. Words before a prompt stand at no change, because "
        "their cost is not measured."
    )
    for number, texts in enumerate(dict.fromkeys(row["texts"] for row in rows)):
        own = [row for row in rows if row["texts"] == texts and is_number(row["rate"]) and is_number(row["change"])]
        title = f"Effect against cost, {texts} texts"
        if not own:
            yield Figure(f"frontier-{texts}", title, "Not drawn: no rate or no perplexity could be estimated.", ())
            continue
        x = _change_axis(alt.X, "change", f"change of perplexity of {texts} texts, %", [row["change"] for row in own])
        panels = tuple(
            Panel(
                f"Judge: {judge}",
                f"Rate by {judge} against the change of perplexity of {texts} texts, for {', '.join(arms.values())}.",
                _arm_chart([row for row in own if row["judge"] == judge], arms, x, "rate", _rate_axis(own, judge)),
            )
            for judge in dict.fromkeys(row["judge"] for row in own)
        )
        yield Figure(f"frontier-{texts}", title, "To be read as the figure above." if number else caption, panels)


def _by_strength(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    """Rate by strength, a panel for each judge; and the cost, a panel for each set of texts."""
    arms = _arms(rows)
    texts = list(dict.fromkeys(row["texts"] for row in rows))
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    strengths = padded([row["strength"] for row in rows])
    x = alt.X("strength:Q", title="strength", scale=alt.Scale(domain=strengths, nice=False), axis=NUMBERS)
    panels = []
    for judge in judges:
        own = [row for row in rows if row["judge"] == judge and row["texts"] == texts[0] and is_number(row["rate"])]
        if own:
            chart = _arm_chart(own, arms, x, "rate", _rate_axis(own, judge))
            panels.append(Panel(f"Judge: {judge}", f"Rate by {judge} by strength.", chart))
    caption = "One strength means another thing in each method: compare arms in the figures above. Bars are intervals."
    yield Figure("strength", "Effect by strength", caption, tuple(panels))
    panels = []
    for name in texts:
        own = [
            row
            for row in rows
            if row["judge"] == judges[0] and row["texts"] == name and is_number(row["change"]) and not row["instructed"]
        ]
        if own:
            title = f"change of perplexity of {name} texts, %"
            ends = [row[key] for row in own for key in ("change", "change_low", "change_high") if is_number(row[key])]
            y = partial(_change_axis, alt.Y, title=title, values=ends)
            chart = _arm_chart(own, arms, x, "change", y)
            panels.append(
                Panel(f"{name.capitalize()} texts", f"Change of perplexity of {name} texts by strength.", chart)
            )
    caption = (
        "Paired with the model as it is, text by text. On target texts perplexity may fall because steering works."
    )
    yield Figure("cost", "Cost by strength", caption, tuple(panels))


def _rate_axis(rows: list[dict[str, Any]], judge: str) -> Callable[[str], alt.Y]:
    ends = [row[key] for row in rows for key in ("rate", "rate_high") if is_number(row[key])]
    scale = alt.Scale(domain=[0, min(1.0, max(0.1, 1.08 * max(ends)))], nice=False)
    return lambda field: alt.Y(f"{field}:Q", title=f"rate by {judge}", scale=scale, axis=UPRIGHT)


def _change_axis(channel: Any, field: str, title: str, values: Sequence[float]) -> Any:
    """In percent; far changes are drawn nearer together, so that one broken arm does not hide the others."""
    low, high = padded([*values, 0.0])
    room = alt.Undefined if channel is alt.X else ROOM
    if max(abs(low), abs(high)) <= _FAR:
        axis = alt.Axis(tickCount=5, format=".4~r", minExtent=room)
        return channel(f"{field}:Q", title=title, scale=alt.Scale(domain=[low, high], nice=False), axis=axis)
    ticks = [sign * far for far in (10.0**power for power in range(1, 13)) for sign in (-1, 1)]
    return channel(
        f"{field}:Q",
        title=f"{title} (logarithmic beyond 10)",
        scale=alt.Scale(type="symlog", constant=10, domain=[min(low, -1.0), 1.3 * high], nice=False),
        axis=alt.Axis(values=[0.0, *(one for one in ticks if low <= one <= 1.3 * high)], format=".4~r", minExtent=room),
    )


def _arm_chart(
    rows: list[dict[str, Any]], arms: dict[str, str], x: alt.X, field: str, axis: Callable[[str], alt.Y]
) -> ChartType:
    """A line for each arm through its points with intervals, along ascending strengths; ``axis`` gives a field's."""
    bottom, top = f"{field}_low", f"{field}_high"
    y, low = axis(field), axis(bottom)
    names = list(arms.values())
    legend = alt.Legend(title=None, columns=legend_columns(names), symbolStrokeWidth=0, symbolOpacity=1)

    def by_arm(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=names, range=cycled(values, len(names)))

    color = alt.Color("arm:N", scale=by_arm(SERIES), legend=legend)
    dash = alt.StrokeDash("arm:N", scale=by_arm([list(dash) for dash in DASHES]), legend=None)
    shape = alt.Shape("arm:N", scale=by_arm(SHAPES), legend=legend)
    fields = dict.fromkeys(("strength", "change", field, bottom, top, "is_compared"))
    kept = [{"arm": arms[row["arm"]], **{key: row[key] for key in fields}} for row in rows]
    plain = list(arms.values())[-1]
    own = [row for row in kept if row["strength"] != 0 or row["arm"] == plain]  # at 0 all are the model as it is
    layers: list[alt.Chart] = [
        inline(kept)
        .mark_line(strokeWidth=1.4, opacity=0.8)
        .encode(x=x, y=y, color=color, strokeDash=dash, order=alt.Order("strength:Q")),
        inline(row for row in own if is_number(row[bottom]) and is_number(row[top]))
        .mark_rule(strokeWidth=1.3, opacity=0.5)
        .encode(x=x, y=low, y2=f"{top}:Q", color=color),
        inline(own).mark_point(filled=True, size=42, opacity=1).encode(x=x, y=y, color=color, shape=shape),
    ]
    compared = [row for row in kept if row["is_compared"]]
    if compared:
        layers.append(
            inline(compared)
            .mark_point(filled=True, size=170, opacity=1, shape="diamond", color=SERIES[0], stroke=INK, strokeWidth=1.2)
            .encode(x=x, y=y)
        )
    return styled(alt.layer(*layers), height=250)


def _matched(table: Table) -> Figure:
    """Differences of rates at one perplexity, an arm a line and a panel for each set of texts."""
    rows = [dict(row) for row in table.rows]
    names = labels([str(row["baseline"]) for row in rows])
    drawn: list[dict[str, Any]] = [
        {
            "arm": names[str(row["baseline"])], "judge": str(row["judge"]), "texts": str(row["texts"]),
            "value": one.value, "low": one.low, "high": one.high,
        }
        for row in rows
        if isinstance(one := row["difference"], EstimateRecord) and one.value is not None
    ]  # fmt: skip
    ends = [one[key] for one in drawn for key in ("value", "low", "high") if is_number(one[key])]
    panels = []
    for texts in dict.fromkeys(one["texts"] for one in drawn):
        own = [one for one in drawn if one["texts"] == texts]
        told = "; ".join(f"{one['arm']} by {one['judge']} {one['value']:+.3g}" for one in own)
        chart = interval_chart(
            [{**one, "name": one["arm"], "group": one["judge"]} for one in own],
            axis="difference of rates, ours less theirs",
            groups="judge",
            domain=padded([*ends, 0.0]),
        )
        panels.append(Panel(f"Perplexity of {texts} texts", f"Difference of rates: {told}.", chart))
    n_lacking = len(rows) - len(drawn)
    caption = (
        "Our rate less the other arm's, interpolated where its perplexity is ours; bars are intervals, and one that "
        "holds 0 shows no difference."
    )
    if not drawn:
        caption = "Not drawn: no other arm could be brought to our perplexity (the table says why)."
    elif n_lacking:
        caption += f" Not comparable: {n_lacking} of {len(rows)} (the table says why)."
    title = "Ours against each other arm at the same perplexity"
    return Figure("matched", title, caption, tuple(panels))


def _support(table: Table, rows: list[dict[str, Any]]) -> Figure | None:
    """Where arms of several gammas are measured: their support, and their rate at the greatest strength up to 1."""
    arms: list[dict[str, Any]] = sorted(
        (dict(row) for row in table.rows if is_number(row["gamma"]) and is_number(row["support"])),
        key=lambda row: row["gamma"],
    )
    if len({row["gamma"] for row in arms}) < 2 or len({row["gamma"] for row in arms}) < len(arms):
        return None
    order = [f"{row['gamma']:g}" for row in arms]
    ours = {row["arm"] for row in rows if row["ours"]}
    points = [{"gamma": f"{row['gamma']:g}", "value": row["support"], "chosen": row["name"] in ours} for row in arms]
    panels = [
        Panel("Share of neurons", "Support by gamma.", by_gamma(points, order, "share of neurons changed", most=1))
    ]
    at = max((row["strength"] for row in rows if 0 < row["strength"] <= 1), default=None)
    by_name = {str(row["name"]): f"{row['gamma']:g}" for row in arms}
    for judge in dict.fromkeys(row["judge"] for row in rows):
        rates = {
            row["arm"]: row["rate"]
            for row in rows
            if row["judge"] == judge and row["strength"] == at and row["arm"] in by_name and is_number(row["rate"])
        }
        points = [{"gamma": by_name[arm], "value": rate, "chosen": arm in ours} for arm, rate in rates.items()]
        if points:
            told = f"Rate by {judge} at strength {at:g}, by gamma."
            panels.append(Panel(f"Rate by {judge}, strength {at:g}", told, by_gamma(points, order, f"rate by {judge}")))
    caption = "Maps of one method at several weights of the sparse group lasso; the diamond is ours."
    return Figure("support", "Support against gamma", caption, tuple(panels))


def examples(texts: pd.DataFrame, points: pd.DataFrame) -> MarkedTexts:
    """Some prompts with what each arm wrote after them.

    Args:
        texts: ``arm``, ``strength``, ``prompt``, ``seed``, ``continuation`` and ``flagged_by`` of each continuation.
        points: As in `sweep_figures`; of each arm the strength is shown at which ours is compared, or its nearest.
    """
    at = float(points.loc[points["is_compared"], "strength"].iloc[0])
    found = []
    first = texts[texts["seed"] == texts["seed"].min()]
    for number, prompt in enumerate(list(dict.fromkeys(first["prompt"]))[:_EXAMPLES], start=1):
        pieces = [MarkedPiece(str(prompt), -1, "")]
        for arm, part in first[first["prompt"] == prompt].groupby("arm", sort=False):
            row = part.loc[(part["strength"] - at).abs().idxmin()]
            flags = list(row["flagged_by"])
            name = str(arm) if row["strength"] == 0 else f"{arm} at {row['strength']:g}"
            told = f"flagged by {', '.join(flags)}" if flags else "flagged by no judge"
            pieces.append(MarkedPiece(f"\n\n{name}: ", -1, ""))
            pieces.append(MarkedPiece(str(row["continuation"]).strip(), min(len(flags), 3), told))
        found.append(MarkedText(f"Prompt {number}", "", tuple(pieces)))
    return MarkedTexts(
        "What was written",
        f"The first {_EXAMPLES} prompts at most, in the order of the run, and the first sample of each arm: they were "
        "not picked.",
        (
            (-1, "the prompt, and whose continuation follows"),
            (1, "flagged by one judge"),
            (2, "by two"),
            (3, "by three or more"),
        ),
        tuple(found),
    )


def _arms(rows: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Arm -> its label, ours first so that it has the first colour, the unsteered model last."""
    listed = list(rows)
    ours = [row["arm"] for row in listed if row["ours"]]
    others = [row["arm"] for row in listed if not row["ours"]]
    plain = others[:1]  # points begin with the unsteered model
    return labels([*ours, *(one for one in others if one not in plain), *plain])


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
