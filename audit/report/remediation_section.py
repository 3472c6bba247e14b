"""The figure of a loop: what is left of the subject's lead over gold, system by system and attack by attack."""

from __future__ import annotations

import altair as alt

from ..runs.schema import EstimateRecord, Findings
from ..runs.store import Run
from .chart_rows import inline
from .figures import Figure, Panel
from .palette import QUIET, SERIES, SHAPES, styled
from .sources import table_rows

AUDIT = "remediation"
TOLERANCE = 0.2
_SPAN = (-1.0, 1.5)  # of the axis; what lies beyond is drawn at its end and told
_ROW, _WIDE = 17, 700  # px
_KINDS = ("direct", "attack")
_LETTER = 6.4  # px of a label's letter, in a font that is wider than the measured one


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a loop."""
    return remediation_figures(findings)


def remediation_figures(findings: Findings) -> list[Figure]:
    """One panel for each judged system, from the table "residuals"; nothing is estimated here."""
    listed = table_rows(findings, AUDIT, "residuals")
    title = "What is left of what was to be forgotten"
    if not listed:
        return [Figure("residuals", title, "Not drawn: nothing could be compared.", ())]
    panels, undefined, beyond = [], 0, 0
    for system in dict.fromkeys(str(row["system"]) for row in listed):
        rows = [row for row in listed if row["system"] == system]
        drawn = []
        for row in rows:
            one = row["residual"]
            if not isinstance(one, EstimateRecord) or one.value is None:
                undefined += 1
                continue
            low, high = (one.value if end is None else end for end in (one.low, one.high))
            beyond += low < _SPAN[0] or high > _SPAN[1]
            drawn.append(
                {
                    "measure": str(row["measure"]),
                    "value": _inside(one.value),
                    "low": _inside(low),
                    "high": _inside(high),
                    "kind": _KINDS[row["kind"] != "direct"],
                }
            )
        if drawn:
            panels.append(Panel(system, f"Residuals of {system}, {len(drawn)} of {len(rows)}.", _chart(drawn)))
    caption = (
        "0 is as what never learnt it, 1 as before the remedy; bars are 95% intervals. Circles: asked as anybody would "
        "ask; squares: under an attack that tries to bring it back. The dashed lines are the "
        "tolerance; verdicts look at wider intervals too, and the strongest of many ways has a bound of its own."
    )
    if beyond:
        caption += f" {beyond} intervals go beyond the axis and are cut at its ends."
    if undefined:
        caption += f" Not drawn, because r is undefined there, mostly for want of a gap: {undefined}."
    return [Figure("residuals", title, caption, tuple(panels))]


def _inside(value: float) -> float:
    return min(max(value, _SPAN[0]), _SPAN[1])


def _chart(rows: list[dict[str, object]]) -> alt.LayerChart:
    order = [str(row["measure"]) for row in rows]
    room = round(_LETTER * max(map(len, order))) + 8
    y = alt.Y("measure:N", sort=order, title=None, axis=alt.Axis(labelLimit=room, minExtent=room))
    x = alt.X("low:Q", title="residual r", scale=alt.Scale(domain=list(_SPAN)))
    legend = alt.Legend(title=None, columns=2, symbolStrokeWidth=0, symbolOpacity=1)
    kinds, shapes = (
        channel("kind:N", scale=alt.Scale(domain=list(_KINDS), range=list(choices[:2])), legend=legend)
        for channel, choices in ((alt.Color, SERIES), (alt.Shape, SHAPES))
    )
    data = inline(rows)
    borders = inline({"value": value} for value in (-TOLERANCE, TOLERANCE))
    ends = inline({"value": value} for value in (0.0, 1.0))
    return styled(
        alt.layer(
            ends.mark_rule(color=QUIET, strokeWidth=1).encode(x="value:Q"),
            borders.mark_rule(color=QUIET, strokeDash=[4, 3]).encode(x="value:Q"),
            data.mark_rule(strokeWidth=2).encode(y=y, x=x, x2="high:Q", color=kinds),
            data.mark_point(filled=True, size=45, opacity=1).encode(y=y, x=alt.X("value:Q"), color=kinds, shape=shapes),
        ),
        width=_WIDE,
        height=_ROW * len(order) + 10,
    )
