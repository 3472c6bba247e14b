"""A run in which every text is hostile: what a model, a file, a plan or a name can put into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from audit.runs.schema import Findings
from audit.runs.store import Run
from tests.report.hostile import PAYLOADS as OF_REPORTS
from tests.report.hostile import mapped

MARK = "window.__ran=1"  # a browser test asks whether it was set
PAYLOADS = (
    *(payload for payload in OF_REPORTS if "\ud800" not in payload),  # which no file of a run can hold
    f"<script>{MARK}</script><img src=x onerror={MARK}>",
    f"[link](javascript:{MARK}) ![pixel](http://evil.example/pixel.png) http://evil.example/ ftp://evil.example",
    ":red[red] :blue-background[blue] :smile: :material/delete: :streamlit: :badge[b] :small[s] :rainbow[r]",
    "$$\\frac{1}{0}$$ $x^2$ \\(y\\) -> <- <-> -- >= <= ~=",
    "| a | b |\n|---|---|\n| c | d |\n\n---\n\n> quoted\n\n```\nfence\n```",
    "{{ 7*7 }} ${7*7} #{7*7} %s %(x)s {0} {x.__class__}",
    "../../../../etc/passwd",
    "مرحبا \u202eevil\u202c \u200bzero\u2066",
)
ALL = "\n".join(payload for payload in PAYLOADS if len(payload) < 10_000)
FOLDER = "<b onclick=alert(1)>[a](javascript:alert(1)) $x$ :smile: & 'quotes' \"double\""


def hostile_run(
    folder: Path,
    findings: Findings,
    *,
    payload: str = ALL,
    kind: str = "audit",
    plan: Mapping[str, Any] | None = None,
    tables: Mapping[str, pa.Table] | None = None,
    finish: bool = True,
) -> Path:
    """A run on disk with ``payload`` before every text of its plan, subjects, findings and items.

    Args:
        folder: Of the run; `FOLDER` is a hostile name for it.
        findings: What it found, before the payload was put in; ids of findings and columns change as well.
        payload: One of `PAYLOADS`, or `ALL` of them at once.
        kind: Of the run.
        plan: Its plan; keys stay, texts change.
        tables: Items: name -> table; values of text columns change.
        finish: Whether the run ends.
    """

    def change(text: str) -> str:
        return f"{payload} {text}"

    command = ["palimpsest", "audit", change("plan.toml")]
    made = {"seed": 1, "traps": {"table": change("traps.parquet")}} | dict(mapped_values(plan or {}, change))
    with Run.start(folder, kind=kind, plan=made, plan_text=change("[subject]\n"), command=command) as run:
        run.add_subject("subject", {"model": change("model"), "fingerprint": {"weights": change("w")}})
        run.add_seed(change("seed"), 3)
        with run.stage(change("score")) as detail:
            detail["what"] = change("detail")
        for name, table in (tables or {"scores": pa.table({"id": ["a", "b"], "text": ["one", "two"]})}).items():
            run.write_items(name, hostile_table(table, payload))
        run.write_findings(mapped(findings, change))
        if finish:
            run.finish()
    return folder


def hostile_table(table: pa.Table, payload: str = ALL) -> pa.Table:
    """The table with ``payload`` before each value of its text columns."""
    columns = [
        pa.array([None if value is None else f"{payload} {value}" for value in column.to_pylist()], pa.large_string())
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def mapped_values(value: Any, change: Any) -> Any:
    """Every text among the values changed; keys stay."""
    if isinstance(value, Mapping):
        return {key: mapped_values(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mapped_values(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value
