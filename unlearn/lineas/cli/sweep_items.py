"""Tables of a sweep's items: a row for each point and judge, comparisons, and what was written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from audit.stats.estimate import Estimate

from ..evaluate.judges import Judge
from ..sweep_made import Swept

_TEXT, _NUMBER, _FLAG = pa.string(), pa.float64(), pa.bool_()
_ENDS = ("", "_low", "_high")
_POINTS = {
    "judge": _TEXT, "texts": _TEXT, "arm": _TEXT, "strength": _NUMBER,
    **{f"{name}{end}": _NUMBER for name in ("rate", "perplexity", "change") for end in _ENDS},
    "n_empty": pa.int64(), "ours": _FLAG, "is_compared": _FLAG, "instructed": _FLAG, "on_frontier": _FLAG,
    "outside_paper": _FLAG,
}  # fmt: skip


def point_items(made: Swept, *, comparing: bool = True) -> pa.Table:
    """Rate, perplexity per token and its change in percent of each arm at each strength, by judge and set of texts."""
    rows: list[dict[str, Any]] = []
    for judge, listed in made.rows.items():
        for place, (point, row) in enumerate(zip(made.points, listed, strict=True)):
            for name in made.texts:
                rows.append({
                    "judge": judge, "texts": name, "arm": row.arm, "strength": row.strength,
                    **_ended("rate", row.rate.rate),
                    **_ended("perplexity", row.perplexity[name]["per token"]),
                    **_ended("change", row.perplexity_change[name]["per token"]),
                    "n_empty": row.rate.n_empty,
                    "ours": row.arm == made.ours.arm,
                    "is_compared": comparing and place == made.our_place,
                    "instructed": point.instructed,
                    "on_frontier": row.on_frontier[name],
                    "outside_paper": row.outside_paper,
                })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(_POINTS))


def text_items(made: Swept, judges: tuple[Judge, ...]) -> pa.Table:
    """Every continuation with the judges that say that it shows the attribute."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("arm", "strength", "prompt", "seed", "continuation", "flagged_by")
    }
    for point in made.points:
        for seed, texts in zip(point.continuations.seeds, point.continuations.texts, strict=True):
            kept = [text for text in dict.fromkeys(texts) if text.strip()]
            said = {
                judge.name: dict(zip(kept, judge.flags(kept).tolist(), strict=True)) if kept else {} for judge in judges
            }
            for prompt, text in zip(point.continuations.prompts, texts, strict=True):
                flags = [name for name, one in said.items() if one.get(text, False)]
                for column, value in zip(columns, (point.arm, point.strength, prompt, seed, text, flags), strict=True):
                    columns[column].append(value)
    kinds = (_TEXT, _NUMBER, _TEXT, pa.int64(), _TEXT, pa.list_(_TEXT))
    return pa.table({
        name: pa.array(values, kind) for (name, values), kind in zip(columns.items(), kinds, strict=True)
    })  # fmt: skip


def _ended(name: str, one: Estimate) -> dict[str, float | None]:
    return {f"{name}{end}": value for end, value in zip(_ENDS, (one.value, one.low, one.high), strict=True)}
