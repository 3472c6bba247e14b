"""The figure of retraining: what each arm's loss differs by from each other arm's, measure by measure."""

from __future__ import annotations

from ..runs.schema import EstimateRecord, Findings
from ..runs.store import Run
from .figures import Figure, Panel
from .intervals import interval_chart
from .numbers import estimate
from .sources import table_rows

AUDIT = "retraining"
_TITLE = "Differences between arms"
_KINDS = {"over_both": "rows and trainings", "over_rows": "rows", "over_seeds": "trainings"}


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run that trained the base on extracted rows."""
    return retraining_figures(findings)


def retraining_figures(findings: Findings) -> list[Figure]:
    """One panel for each measure, from the table "differences"; nothing is estimated here."""
    rows = table_rows(findings, AUDIT, "differences")
    panels, left_out = [], 0
    for measure in dict.fromkeys(str(row["measure"]) for row in rows):
        drawn, told = [], []
        for row in rows:
            if row["measure"] != measure:
                continue
            name = f"{row['arm']} less {row['other']}"
            for key, kind in _KINDS.items():
                cell = row.get(key)
                if not isinstance(cell, EstimateRecord) or cell.value is None:
                    left_out += isinstance(cell, EstimateRecord)
                    continue
                drawn.append({"name": name, "group": kind, "value": cell.value, "low": cell.low, "high": cell.high})
                if key == "over_both":
                    told.append(f"{name} {estimate(cell)}")
        if drawn:
            chart = interval_chart(drawn, axis="difference", groups="interval over")
            panels.append(Panel(measure, f"{measure}: {'; '.join(told)}.", chart))
    if not panels:
        return [Figure("differences", _TITLE, "Not drawn: no difference could be estimated.", ())]
    caption = (
        "One arm's mean less the other's, on the same held-out rows; an interval that holds 0 shows no difference. "
        "The verdict rests on the answer loss and its interval over rows and trainings together."
    )
    if left_out:
        caption += f" Left out: {left_out:,} not estimable (see the table)."
    return [Figure("differences", _TITLE, caption, tuple(panels))]
