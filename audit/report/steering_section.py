"""The figures of steering: distances, changes by site, losses and the path of a fit.

Everything is drawn from the run's findings and from its tables of items; nothing is estimated here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from ..runs.schema import EstimateRecord, Findings, Table
from ..runs.store import Run
from ..text.numbers import percent
from .chart_rows import inline, is_number, labels
from .figures import Figure, Panel
from .palette import QUIET, SERIES, SHAPES, ramp, styled
from .sources import items_of, tables_of
from .steering_charts import NUMBERS, UPRIGHT, by_gamma

FIT = "steer"
SITES, NEURONS, LOSSES = "steer-sites", "steer-neurons", "steer-losses"
_WIDE = 700
_CELLS = 2_400  # of one map of changes, so that a page does not grow with the model
_MOST_BINS, _LEAST_BINS = 48, 12
_LEVELS = 6  # of a change's size
_MOST_STEPS = 250  # of the curve of losses


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run that fitted maps.

    Raises:
        DataError: Items are damaged.
    """
    return fit_figures(
        tables_of(findings, FIT),
        items_of(run, SITES, ("site", "neurons", "changed")),
        items_of(run, NEURONS, ("site", "neuron", "scale", "shift")),
        items_of(run, LOSSES, ("step", "loss")),
    )


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
        axis=NUMBERS,
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
            x=alt.X("share:Q", title="share of neurons changed", scale=alt.Scale(domain=[0, 1]), axis=NUMBERS),
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
    x = alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, most], nice=False), axis=NUMBERS)
    y = alt.Y(
        "loss:Q",
        title="loss" + (", logarithmic" if logarithmic else ""),
        scale=alt.Scale(type="log") if logarithmic else alt.Scale(zero=False),
        axis=UPRIGHT,
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
            Panel("", f"{name} by gamma.", by_gamma(points, order, name, most=1 if field == "support" else None))
        )
    caption = "Weights of the sparse group lasso from weak to strong; the diamond is the one that was chosen."
    return Figure("path", "Sparser maps along the path of gammas", caption, tuple(panels))


def _site_axis(order: Sequence[str]) -> alt.Axis:
    size = 10 if len(order) <= 40 else 8
    room = math.ceil(0.58 * size * max(map(len, order), default=0)) + 8  # or a panel cuts its labels off
    return alt.Axis(labelLimit=room, minExtent=room, labelFontSize=size, labelOverlap=False, grid=False)


def _rows_height(n: int) -> int:
    return 16 * n + 10 if n <= 16 else 12 * n + 10 if n <= 40 else 9 * n + 10


def _value(cell: Any) -> float | None:
    value: Any = cell.value if isinstance(cell, EstimateRecord) else cell
    return float(value) if is_number(value) else None
