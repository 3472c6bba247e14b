"""What a retraining keeps of its rows beside the items, and its section anew from both."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ..runs.replay import Replayed
from ..runs.store import Run
from ..stats.checks import label_codes
from .finetune import Pair, Recipe
from .retrain_findings import AUDIT, make_section
from .retrain_rows import Arms

STAGE = "retraining.train"
HELD_OUT = f"{AUDIT}-held-out"


def kept_of(arms: Arms) -> dict[str, Any]:
    """How many rows there were of each kind, as plain JSON values."""
    return {
        "rows": {name: len(rows) for name, rows in arms.rows.items()},
        "left_out": {name: dict(reasons) for name, reasons in arms.left_out.items()},
        "cut": dict(arms.cut),
        "n_generations": arms.n_generations,
        "n_rejected": arms.n_rejected,
        "n_near": arms.n_near,
        "other_opening": arms.other_opening,
    }


def held_out_table(arms: Arms) -> pa.Table:
    """The rows that were asked, and a label for what was dealt as one."""
    codes, _ = label_codes(arms.clusters, "clusters", n=len(arms.held_out))
    return pa.table({"id": [one.id for one in arms.held_out], "cluster": codes})


def replay(run: Run) -> Replayed:
    """The section anew, from ``items/retraining*.parquet`` and run.json alone.

    Raises:
        DataError: A table is missing or damaged.
    """
    plan = run.record.plan
    kept = next((stage.detail for stage in run.record.stages if stage.name == STAGE), {})
    if "arms" not in kept:
        return Replayed((), {AUDIT: "this run kept nothing of what its held-out rows were dealt as; later ones do"})
    asked = run.read_items(HELD_OUT).to_pandas()
    told = dict(kept["arms"])
    rows = {name: [Pair("", "", "")] * n for name, n in told.pop("rows").items()}  # only their number is told
    held_out = [Pair(str(name), "", "") for name in asked["id"]]
    arms = Arms(rows=rows, dealings={}, held_out=held_out, clusters=asked["cluster"].tolist(), **told)
    settings = plan["retraining"]
    section = make_section(
        run.read_items(AUDIT),
        arms,
        recipe=Recipe(**plan["recipe"]),
        chat_name=plan["chat"]["name"],
        seeds=range(settings["seed"], settings["seed"] + settings["seeds"]),
        seed=settings["seed"],
        level=settings["level"],
    )
    return Replayed((section,))
