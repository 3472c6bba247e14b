"""The figures of steering: distances, changes by site, losses and the path of a fit; effect and cost of a sweep.

Everything is drawn from the run's findings and from its tables of items; nothing is estimated here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from ..runs.schema import EstimateRecord, Findings, Table
from ..runs.store import Run
from ..text.numbers import percent
from .chart_rows import inline, is_number, labels
from .figures import Figure, MarkedPiece, MarkedText, MarkedTexts, Panel
from .palette import DASHES, INK, QUIET, SERIES, SHAPES, cycled, legend_columns, ramp, styled

FIT = "steer"
SITES, NEURONS, LOSSES = "steer-sites", "steer-neurons", "steer-losses"
SWEEP = "steer-sweep"
SWEEP_POINTS, SWEEP_TEXTS = "sweep-points", "sweep-continuations"
_WIDE = 700
_CELLS = 2_400  # of one map of changes, so that a page does not grow with the model
_MOST_BINS, _LEAST_BINS = 48, 12
_LEVELS = 6  # of a change's size
_MOST_STEPS = 250  # of the curve of losses
_EXAMPLES = 8  # prompts that are quoted


def steering_figures(run: Run, findings: Findings) -> dict[str, list[Figure]]:
    """Audit -> its figures, of a run that fitted maps or swept them.

    Raises:
        DataError: Items are damaged or lack a column.
    """

    def items(name: str) -> pd.DataFrame | None:
        return run.read_items(name).to_pandas() if run.items_path(name).exists() else None

    drawn: dict[str, list[Figure]] = {}
    for section in findings.sections:
        tables = {table.name: table for table in section.tables}
        if section.audit == FIT:
            drawn[FIT] = fit_figures(tables, items(SITES), items(NEURONS), items(LOSSES))
        elif section.audit == SWEEP and (points := items(SWEEP_POINTS)) is not None:
            drawn[SWEEP] = sweep_figures(tables, points)
    return drawn


def fit_figures(
    tables: dict[str, Table], sites: pd.DataFrame | None, neurons: pd.DataFrame | None, losses: pd.DataFrame | None
) -> list[Figure]:
    """Of a fit.

    Args:
        tables: Of its section, by name.
        sites: ``site``, ``neurons`` and ``changed`` of each map, in the model's order.
        neurons: ``site``, ``neuron``, ``scale`` and ``shift`` of each neuron that is changed.
        losses: ``step`` and ``loss``.
    """
    found = [_distances(tables)]
    if sites is not None and neurons is not None:
        found.append(_changes(sites, neurons))
    if losses is not None and len(losses):
        found.append(_losses(losses, tables.get("losses")))
    if "path" in tables:
        found.append(_path(tables["path"]))
    return found


def short_names(sites: Sequence[str]) -> dict[str, str]:
    """Site -> its name without the parts that all begin with: "model.layers.3.mlp" -> "3.mlp"; all differ."""
    split = [site.split(".") for site in sites]
    shared = 0
    while all(len(parts) > shared + 1 for parts in split) and len({parts[shared] for parts in split}) == 1:
        shared += 1
    return labels_of({site: ".".join(parts[shared:]) for site, parts in zip(sites, split, strict=True)})


def labels_of(names: dict[str, str]) -> dict[str, str]:
    """The same with names that a chart has room for, no two alike."""
    shown = labels(names.values())
    return {site: shown[name] for site, name in names.items()}


def _distances(tables: dict[str, Table]) -> Figure:
    title = "Distance between source and target, site by site"
    held_out = "held-out-distances" in tables
    table = tables["held-out-distances" if held_out else "distances"]
    rows = [dict(row) for row in table.rows]
    sites = [str(row["site"]) for row in rows]
    names = short_names(sites[:-1]) | {sites[-1]: sites[-1]}  # the last is that of all sites
    ends: list[dict[str, Any]] = []
    for row in rows:
        before, after = (_value(row[side]) for side in ("before", "after"))
        if before is not None and after is not None:
            ends.append({"site": names[str(row["site"])], "without maps": before, "with maps": after})
    least = min((min(one["without maps"], one["with maps"]) for one in ends), default=0.0)
    logarithmic = bool(ends) and least > 0
    most = max((max(one["without maps"], one["with maps"]) for one in ends), default=1.0)
    order = [one["site"] for one in ends]
    y = alt.Y("site:N", sort=order, title=None, axis=_site_axis(order))
    scale = alt.Scale(type="log", domain=[least / 1.3, most * 1.3]) if logarithmic else alt.Scale(zero=True)
    x = alt.X(
        "value:Q",
        title="squared Wasserstein distance" + (", logarithmic" if logarithmic else ""),
        scale=scale,
        axis=_NUMBERS,
    )
    kinds = ["without maps", "with maps"]
    color, shape = (
        channel("kind:N", scale=alt.Scale(domain=kinds, range=list(choices[:2])), legend=alt.Legend(title=None))
        for channel, choices in ((alt.Color, SERIES), (alt.Shape, SHAPES))
    )
    points = inline({"site": one["site"], "kind": kind, "value": one[kind]} for one in ends for kind in kinds)
    lines = inline({"site": one["site"], "value": one[kinds[0]], "to": one[kinds[1]]} for one in ends)
    chart = styled(
        alt.layer(
            lines.mark_rule(color=QUIET, strokeWidth=1.4).encode(y=y, x=x, x2="to:Q"),
            points.mark_point(filled=True, size=40, opacity=1).encode(y=y, x=x, color=color, shape=shape),
        ),
        width=_WIDE,
        height=_rows_height(len(order)),
    )
    whole = ends[-1] if ends else {"without maps": math.nan, "with maps": math.nan}
    of = (
        "held-out sentences, corrected for sampling"
        if held_out
        else "the sentences that were fitted on: a training loss"
    )
    caption = (
        f"Of {of}. A site's line leads from its distance without maps to that with them; sites stand in the model's "
        "order, and the last line is that of all sites."
    )
    if len(ends) < len(rows):
        caption += f" Not drawn, because not estimable: {len(rows) - len(ends)}."
    told = f"All sites: {whole['without maps']:.3g} without maps, {whole['with maps']:.3g} with them."
    return Figure("distances", title, caption, (Panel("", told, chart),))


def _changes(sites: pd.DataFrame, neurons: pd.DataFrame) -> Figure:
    """Share of changed neurons by site, and where in each site which changes lie."""
    title = "What the maps change"
    names = short_names([str(one) for one in sites["site"]])
    order = list(names.values())
    shares = [
        {"site": names[str(row["site"])], "share": row["changed"] / row["neurons"]} for row in sites.to_dict("records")
    ]
    height = _rows_height(len(order))
    bars = styled(
        inline(shares)
        .mark_bar(color=SERIES[0], height={"band": 0.7})
        .encode(
            y=alt.Y("site:N", sort=order, title=None, axis=_site_axis(order)),
            x=alt.X("share:Q", title="share of neurons changed", scale=alt.Scale(domain=[0, 1]), axis=_NUMBERS),
        ),
        height=height,
    )
    whole = float(sites["changed"].sum() / sites["neurons"].sum())
    panels = [Panel("Share of neurons", f"Share of changed neurons by site; {percent(round(whole, 4))} of all.", bars)]
    bins = max(_LEAST_BINS, min(_MOST_BINS, _CELLS // max(1, len(order)), int(sites["neurons"].max())))
    widths = dict(zip(sites["site"], sites["neurons"], strict=True))
    frame = neurons.assign(
        scaled=(neurons["scale"] - 1).abs(),
        shifted=neurons["shift"].abs(),
        bin=(neurons["neuron"] * bins // neurons["site"].map(widths)) if len(neurons) else 0,
    )
    for field, name in (("scaled", "|scale - 1|"), ("shifted", "|shift|")):
        largest = frame[frame[field] > 0].groupby(["site", "bin"], sort=False)[field].max()
        cells = [
            {"site": names[str(site)], "bin": int(place), "to": int(place) + 1, "value": float(value)}
            for (site, place), value in largest.items()
        ]
        if not cells:
            continue
        panels.append(Panel(f"Largest {name}", f"{name} by site and neuron.", _heat(cells, order, bins, name, height)))
    caption = (
        f"First, of each site the share of neurons that the maps change ({percent(round(whole, 4))} of all). Then the "
        f"largest change in each of {bins} equal parts of a site's neurons, white where none is changed: a vertical "
        "line is a part that is changed at many sites. Shifts are in units of the site's activations."
    )
    return Figure("changes", title, caption, tuple(panels))


def _heat(cells: list[dict[str, Any]], order: list[str], bins: int, name: str, height: int) -> ChartType:
    """Cells in `_LEVELS` steps of equal ratio, at most a hundredfold: a legend of a gradient cannot be drawn."""
    values = [one["value"] for one in cells]
    high = max(values)
    low = min(max(min(values), high * 1e-2), high)
    ratio = (high / low) ** (1 / _LEVELS) if high > low else 1.0
    edges = [low * ratio**step for step in range(_LEVELS)] if ratio > 1 else [low]
    names = [f"from {edge:.2g}" if step else f"below {edges[1]:.2g}" for step, edge in enumerate(edges[:-1])]
    names += [f"{edges[-1]:.2g} to {high:.2g}"]
    levels = [max(0, sum(value >= edge for edge in edges) - 1) for value in values]
    drawn = [
        {"site": one["site"], "bin": one["bin"], "to": one["to"], "level": names[level]}
        for one, level in zip(cells, levels, strict=True)
    ]
    color = alt.Color(
        "level:N",
        scale=alt.Scale(domain=names, range=["#c6ddf0", *ramp(len(names) - 1)] if len(names) > 1 else ramp(1)),
        legend=alt.Legend(title=None, symbolType="square", symbolStrokeWidth=0, columns=2),
    )
    return styled(
        inline(drawn)
        .mark_rect()
        .encode(
            y=alt.Y("site:N", sort=order, title=None, scale=alt.Scale(domain=order), axis=_site_axis(order)),
            x=alt.X(
                "bin:Q",
                title="neurons, first to last",
                scale=alt.Scale(domain=[0, bins], nice=False),
                axis=alt.Axis(labels=False, ticks=False, grid=False),
            ),
            x2="to:Q",
            color=color,
        ),
        height=height,
    )


def _losses(losses: pd.DataFrame, table: Table | None) -> Figure:
    steps = losses["step"].to_numpy()
    every = -(-len(steps) // _MOST_STEPS)
    means = losses.groupby((steps - 1) // every).mean()
    curve = [{"step": float(row["step"]), "loss": float(row["loss"])} for row in means.to_dict("records")]
    looks: list[dict[str, Any]] = [
        {"step": row["step"], "loss": row["held_out"]}
        for row in ([] if table is None else table.rows)
        if is_number(row.get("held_out"))
    ]
    told = f"Loss from {curve[0]['loss']:.3g} to {curve[-1]['loss']:.3g} in {len(steps):,} steps."
    most = float(steps.max())
    panels = [Panel("Batches", told, _loss_chart(curve, most, points=False))]
    caption = "The line is the loss of each step's batch, before the step"
    caption += f", the mean of {every} steps at a time" if every > 1 else ""
    if looks:
        told = f"Held-out loss from {looks[0]['loss']:.3g} to {looks[-1]['loss']:.3g}."
        panels.append(Panel("Held-out sentences", told, _loss_chart(looks, most, points=True)))
        caption += ". Held-out sentences' loss, after a step, is greater the fewer they are: compare it with itself."
    else:
        caption += "; no sentences were held out."
    return Figure("losses", "The fit, step by step", caption, tuple(panels))


def _loss_chart(rows: list[dict[str, Any]], most: float, *, points: bool) -> ChartType:
    values = [one["loss"] for one in rows]
    logarithmic = min(values) > 0 and max(values) > 20 * min(values)
    x = alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, most], nice=False), axis=_NUMBERS)
    y = alt.Y(
        "loss:Q",
        title="loss" + (", logarithmic" if logarithmic else ""),
        scale=alt.Scale(type="log") if logarithmic else alt.Scale(zero=False),
        axis=_UPRIGHT,
    )
    color = SERIES[1] if points else SERIES[0]
    line = inline(rows).mark_line(color=color, strokeWidth=1.4).encode(x=x, y=y)
    if not points:
        return styled(line)
    mark = inline(rows).mark_point(color=color, filled=True, shape="square", size=36, opacity=1).encode(x=x, y=y)
    return styled(alt.layer(line, mark))


def _path(table: Table) -> Figure:
    rows = [dict(row) for row in table.rows]
    order = [f"{row['gamma']:g}" for row in rows]
    panels = []
    for field, name in (("support", "share of neurons changed"), ("held_out", "loss of held-out sentences")):
        points = [
            {"gamma": f"{row['gamma']:g}", "value": row[field], "chosen": bool(row["chosen"])}
            for row in rows
            if is_number(row[field])
        ]
        panels.append(
            Panel("", f"{name} by gamma.", _by_gamma(points, order, name, most=1 if field == "support" else None))
        )
    caption = "Weights of the sparse group lasso from weak to strong; the diamond is the one that was chosen."
    return Figure("path", "Sparser maps along the path of gammas", caption, tuple(panels))


def _by_gamma(points: list[dict[str, Any]], order: list[str], name: str, *, most: float | None = None) -> ChartType:
    x = alt.X("gamma:O", sort=order, title="gamma", axis=alt.Axis(labelAngle=0))
    scale = alt.Scale(domain=[0, most], nice=False) if most is not None else alt.Scale(zero=False)
    y = alt.Y("value:Q", title=name, scale=scale, axis=_UPRIGHT)
    layers: list[alt.Chart] = [
        inline(points).mark_line(color=SERIES[0], strokeWidth=1.4).encode(x=x, y=y),
        inline(points).mark_point(color=SERIES[0], filled=True, size=44, opacity=1).encode(x=x, y=y),
    ]
    chosen = [one for one in points if one["chosen"]]
    if chosen:
        layers.append(
            inline(chosen)
            .mark_point(color=SERIES[1], filled=True, size=130, opacity=1, shape="diamond")
            .encode(x=x, y=y)
        )
    return styled(alt.layer(*layers), height=200)


def sweep_figures(tables: dict[str, Table], points: pd.DataFrame) -> list[Figure]:
    """Of a sweep.

    Args:
        tables: Of its section, by name.
        points: A row for each judge, set of texts, arm and strength: ``rate``, ``perplexity`` and ``change`` with
            their ends, whether it is ``ours``, ``is_compared`` and ``instructed``.
    """
    rows = [{key: _plain(value) for key, value in row.items()} for row in points.to_dict("records")]
    found = [_frontier(rows), _strengths(rows)]
    if "matched" in tables:
        found.append(_matched(tables["matched"]))
    support = _support(tables["arms"], rows)
    return found if support is None else [*found, support]


def _frontier(rows: list[dict[str, Any]]) -> Figure:
    """Rate against perplexity of every arm along its strengths."""
    arms = _arms(rows)
    panels = []
    for judge in dict.fromkeys(row["judge"] for row in rows):
        for texts in dict.fromkeys(row["texts"] for row in rows):
            own = [row for row in rows if row["judge"] == judge and row["texts"] == texts]
            drawn = [row for row in own if is_number(row["rate"]) and is_number(row["perplexity"])]
            if drawn:
                chart = _frontier_chart(drawn, arms, f"perplexity of {texts} texts, logarithmic", f"rate by {judge}")
                told = f"Rate by {judge} against the perplexity of {texts} texts, for {', '.join(arms.values())}."
                panels.append(Panel(f"{judge}, {texts} texts", told, chart))
    caption = (
        "A line follows one arm from strength 0, where it is the model as it is, to its greatest; bars are intervals "
        "of the rate. The large diamond is our arm at the strength at which it is compared. Better is up where the "
        "rate is to rise, down where it is to fall, and always left. Words before a prompt stand at the untouched "
        "model's perplexity, because their cost is not measured."
    )
    title = "Effect against cost"
    if not panels:
        return Figure("frontier", title, "Not drawn: no rate or no perplexity could be estimated.", ())
    return Figure("frontier", title, caption, tuple(panels))


def _frontier_chart(rows: list[dict[str, Any]], arms: dict[str, str], cost: str, rate: str) -> ChartType:
    costs = [row["perplexity"] for row in rows]
    low, high = min(costs), max(costs)
    x = alt.X(
        "perplexity:Q",
        title=cost,
        scale=alt.Scale(type="log", domain=[low / 1.03, high * 1.03], nice=False),
        axis=alt.Axis(tickCount=5, format=".3~r", labelOverlap=True),
    )
    return _arm_chart(rows, arms, x, rate)


def _strengths(rows: list[dict[str, Any]]) -> Figure:
    """Rate by strength, a panel for each judge, and the cost on each set of texts."""
    arms = _arms(rows)
    texts = list(dict.fromkeys(row["texts"] for row in rows))
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    ends = [row["strength"] for row in rows]
    x = alt.X("strength:Q", title="strength", scale=alt.Scale(domain=_padded(ends), nice=False), axis=_NUMBERS)
    panels = []
    for judge in judges:
        own = [row for row in rows if row["judge"] == judge and row["texts"] == texts[0] and is_number(row["rate"])]
        if own:
            told = f"Rate by {judge} by strength."
            panels.append(Panel(f"Rate by {judge}", told, _arm_chart(own, arms, x, f"rate by {judge}")))
    for name in texts:
        own = [
            row
            for row in rows
            if row["judge"] == judges[0] and row["texts"] == name and is_number(row["perplexity"])
            and not row["instructed"]
        ]  # fmt: skip
        if own:
            told = f"Perplexity of {name} texts by strength."
            chart = _arm_chart(own, arms, x, f"perplexity of {name} texts", field="perplexity")
            panels.append(Panel(f"Perplexity, {name} texts", told, chart))
    caption = (
        "One strength means another thing in each method: read arms beside one another in the figure above. Bars are "
        "intervals; perplexities are on a logarithmic axis."
    )
    return Figure("strength", "Effect and cost by strength", caption, tuple(panels))


def _arm_chart(
    rows: list[dict[str, Any]], arms: dict[str, str], x: alt.X, name: str, *, field: str = "rate"
) -> ChartType:
    """A line for each arm through its points with intervals, along ascending strengths."""
    for_drawing = [
        {**row, "arm": arms[row["arm"]], "low": row[f"{field}_low"], "high": row[f"{field}_high"]} for row in rows
    ]
    ends = [row[key] for row in for_drawing for key in (field, "low", "high") if is_number(row[key])]
    if field == "rate":
        scale = alt.Scale(domain=[0, min(1.0, max(0.1, 1.08 * max(ends)))], nice=False)
    else:
        scale = alt.Scale(type="log", domain=[min(ends) / 1.03, max(ends) * 1.03], nice=False)
    y, low = (alt.Y(f"{key}:Q", title=name, scale=scale, axis=_UPRIGHT) for key in (field, "low"))
    names = list(arms.values())
    legend = alt.Legend(title=None, columns=legend_columns(names), symbolStrokeWidth=0, symbolOpacity=1)

    def by_arm(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=names, range=cycled(values, len(names)))

    color = alt.Color("arm:N", scale=by_arm(SERIES), legend=legend)
    dash = alt.StrokeDash("arm:N", scale=by_arm([list(dash) for dash in DASHES]), legend=None)
    shape = alt.Shape("arm:N", scale=by_arm(SHAPES), legend=legend)
    kept = [
        {key: row[key] for key in ("arm", "strength", "perplexity", field, "low", "high", "is_compared")}
        for row in for_drawing
    ]
    layers: list[alt.Chart] = [
        inline(kept)
        .mark_line(strokeWidth=1.4, opacity=0.8)
        .encode(x=x, y=y, color=color, strokeDash=dash, order=alt.Order("strength:Q")),
        inline(row for row in kept if is_number(row["low"]) and is_number(row["high"]))
        .mark_rule(strokeWidth=1.3, opacity=0.55)
        .encode(x=x, y=low, y2="high:Q", color=color),
        inline(kept).mark_point(filled=True, size=42, opacity=1).encode(x=x, y=y, color=color, shape=shape),
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
    judges = list(dict.fromkeys(str(row["judge"]) for row in rows))
    drawn: list[dict[str, Any]] = [
        {
            "arm": names[str(row["baseline"])], "judge": str(row["judge"]), "texts": str(row["texts"]),
            "value": one.value, "low": one.low, "high": one.high,
        }
        for row in rows
        if isinstance(one := row["difference"], EstimateRecord) and one.value is not None
    ]  # fmt: skip
    order = list(dict.fromkeys(one["arm"] for one in drawn))
    ends = [one[key] for one in drawn for key in ("value", "low", "high") if is_number(one[key])]
    panels = []
    for texts in dict.fromkeys(one["texts"] for one in drawn):
        own = [one for one in drawn if one["texts"] == texts]
        told = "; ".join(f"{one['arm']} by {one['judge']} {one['value']:+.3g}" for one in own)
        chart = _matched_chart(own, order, judges, _padded([*ends, 0.0]))
        panels.append(Panel(f"Perplexity of {texts} texts", f"Difference of rates: {told}.", chart))
    n_lacking = len(rows) - len(drawn)
    caption = (
        "Our rate less the other arm's, interpolated where its perplexity is ours; bars are intervals, and one that "
        "holds 0 shows no difference."
    )
    if n_lacking:
        caption += f" Not comparable: {n_lacking} of {len(rows)} (the table says why)."
    title = "Ours against each other arm at the same perplexity"
    return Figure("matched", title, caption, tuple(panels))


def _matched_chart(rows: list[dict[str, Any]], order: list[str], judges: list[str], domain: list[float]) -> ChartType:
    y = alt.Y("arm:N", sort=order, scale=alt.Scale(domain=order), title=None, axis=alt.Axis(labelLimit=170, grid=True))
    offset = alt.YOffset("judge:N", sort=judges, scale=alt.Scale(domain=judges, paddingOuter=0.5))
    scale = alt.Scale(domain=domain, nice=False)
    value, low = (
        alt.X(f"{key}:Q", title="difference of rates, ours less theirs", scale=scale, axis=_NUMBERS)
        for key in ("value", "low")
    )
    color, shape = (
        channel(
            "judge:N",
            scale=alt.Scale(domain=judges, range=cycled(choices, len(judges))),
            legend=alt.Legend(title="judge", symbolStrokeWidth=0),
        )
        for channel, choices in ((alt.Color, SERIES), (alt.Shape, SHAPES))
    )
    return styled(
        alt.layer(
            inline([{"value": 0.0}]).mark_rule(strokeDash=[5, 4], color=QUIET, strokeWidth=1.2).encode(x=value),
            inline(row for row in rows if is_number(row["low"]) and is_number(row["high"]))
            .mark_rule(strokeWidth=1.8)
            .encode(y=y, yOffset=offset, x=low, x2="high:Q", color=color),
            inline(rows)
            .mark_point(filled=True, size=48, opacity=1)
            .encode(y=y, yOffset=offset, x=value, color=color, shape=shape),
        ),
        height=max(60, (16 * len(judges) + 12) * len(order)),
    )


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
        Panel("Share of neurons", "Support by gamma.", _by_gamma(points, order, "share of neurons changed", most=1))
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
            panels.append(
                Panel(f"Rate by {judge}, strength {at:g}", told, _by_gamma(points, order, f"rate by {judge}"))
            )
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
    for prompt in list(dict.fromkeys(first["prompt"]))[:_EXAMPLES]:
        own = first[first["prompt"] == prompt]
        for arm, part in own.groupby("arm", sort=False):
            row = part.loc[(part["strength"] - at).abs().idxmin()]
            flags = list(row["flagged_by"])
            note = f"flagged by {', '.join(flags)}" if flags else "flagged by no judge"
            title = str(arm) if row["strength"] == 0 else f"{arm} at strength {row['strength']:g}"
            pieces = (MarkedPiece(str(prompt), -1, ""), MarkedPiece(str(row["continuation"]), min(len(flags), 3), note))
            found.append(MarkedText(title, note, pieces))
    return MarkedTexts(
        "What was written",
        f"The first {_EXAMPLES} prompts at most, in the order of the run, and the first sample of each arm: they were "
        "not picked.",
        ((-1, "the prompt"), (1, "flagged by one judge"), (2, "by two"), (3, "by three or more")),
        tuple(found),
    )


_NUMBERS = alt.Axis(tickCount=5, format=".4~r")
_UPRIGHT = alt.Axis(tickCount=5, format=".4~r", minExtent=34)  # so that the title stands clear of the numbers


def _arms(rows: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Arm -> its label, ours first so that it has the first colour, the unsteered model last."""
    listed = list(rows)
    ours = [row["arm"] for row in listed if row["ours"]]
    others = [row["arm"] for row in listed if not row["ours"]]
    plain = others[:1]  # points begin with the unsteered model
    return labels([*ours, *(one for one in others if one not in plain), *plain])


def _site_axis(order: Sequence[str]) -> alt.Axis:
    size = 10 if len(order) <= 40 else 8
    room = math.ceil(0.58 * size * max(map(len, order), default=0)) + 8  # or a panel cuts its labels off
    return alt.Axis(labelLimit=room, minExtent=room, labelFontSize=size, labelOverlap=False, grid=False)


def _rows_height(n: int) -> int:
    return 16 * n + 10 if n <= 16 else 12 * n + 10 if n <= 40 else 9 * n + 10


def _padded(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05
    return [low - room, high + room]


def _value(cell: Any) -> float | None:
    value: Any = cell.value if isinstance(cell, EstimateRecord) else cell
    return float(value) if is_number(value) else None


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
