"""A report in which every text is hostile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from audit.gates.result import Family, GatedPolicy, GateResult, RuleOutcome, WaiverOutcome
from audit.report.charts import auc_by_repetition
from audit.report.content import Report
from audit.report.figures import Comparison, Figure, MarkedPiece, MarkedText, MarkedTexts, Panel
from audit.report.side_by_side import side_by_side
from audit.runs.schema import Findings, RunRecord, SelfTestRecord

PAYLOADS = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "</style></title><iframe srcdoc=x>",
    "</svg><svg onload=alert(1)><foreignObject><a href='javascript:alert(1)'>",
    "\x00\x07\x1b[31m\x9b2J\x1b]8;;http://evil.example\x07",
    "\u202egnp.exe\u2066",
    "\ud800",
    "{{ 7*7 }}{% raw %}",
    "x" * 100_000,
    "[a](javascript:alert(1)) ![b](http://evil.example/x.png) <http://evil.example> www.evil.example",
    "# head\n\n- item\n\n1. one\n\n```\ncode\n| a | b |\n|---|---|\n> quoted\n***\n    code\n[^1]: note\n",
    "=HYPERLINK(\"http://evil.example\")",
    "+cmd|' /C calc'!A0",
    "$\\frac{1}{0}$ `code` **bold** ~~out~~ &lt;b&gt; &#60; a@evil.example :smile:",
    "- ",
    "12) ",
]  # fmt: skip


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Every string of a record changed, keys of mappings too, but verdicts, states and audits' names."""
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        kept = {"verdict", "status", "audit", "kind"}
        return value.model_copy(update={k: v if k in kept else mapped(v, change) for k, v in fields.items()})
    if isinstance(value, dict):
        return {change(key): mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return tuple(mapped(inner, change) for inner in value)
    return change(value) if isinstance(value, str) else value


def hostile_report(payload: str, record: RunRecord, findings: Findings) -> Report:
    """The payload before every text that a model, a file, a plan, a policy or a waiver can put into a report."""

    def change(text: str) -> str:
        return f"{payload} {text}"

    table = findings.sections[0].tables[0]
    short = table.model_copy(update={"rows": table.rows[:3]})
    section = findings.sections[0].model_copy(update={"tables": (short,)})
    listed = mapped(Findings(sections=(section,), limitations=("x",), deviations=("y",)), change)
    test = SelfTestRecord(
        moment="m", palimpsest="p", commit="c", passed=False, instruments={"scores": False}, sha256="s"
    )
    ran = mapped(record.model_copy(update={"self_test": test, "plan_folder": "/plans"}), change)
    rows = [{"score": change("a"), "n_rep": 1, "length": change("b"), "value": 0.7, "low": 0.6, "high": 0.8}]
    panels = tuple(Panel(name, change("words"), chart) for name, chart in auc_by_repetition(rows).items())
    texts = (change("left"), change("left and more")), (change("right"), change("right\u2067"))
    compared = (
        side_by_side(change("title"), change("note"), *texts),
        Comparison(change("title"), change("note"), ((change("side"), ((change("piece"), True),)),)),
    )
    pieces = (MarkedPiece(change("piece"), 1, change("hint")), MarkedPiece(change("piece"), 0, ""))
    marked = MarkedTexts(
        change("title"), change("how"), ((1, change("legend")),), (MarkedText(change("t"), change("n"), pieces),)
    )
    rule = {name: change(name) for name in ("id", "title", "reason", "clause", "not_covered", "change", "evidence")}
    waiver = {name: change(name) for name in ("rule", "reason", "approver", "expires", "why")}
    gate = GateResult(
        palimpsest="p", verdict="breached", exit_code=1, summary=change("summary"), today=change("today"),
        policy=GatedPolicy(title=change("policy"), name=change("name"), reading=change("r"), sha256=change("hash")),
        runs=(),
        family=Family(p_values=0, runs_with_p_values=0, alpha=0.05, intervals=0, false_block_by_intervals=0.0,
                      false_pass=None),
        rules=(
            RuleOutcome(**rule, severity="block", outcome="breached", counts_as="breached", line=1),
            RuleOutcome(**rule, severity="block", outcome="pass", counts_as="pass", line=2),
        ),
        waivers=(WaiverOutcome(**waiver, applied=False),),
    )  # fmt: skip
    return Report(
        record=ran,
        findings=listed,
        figures={"traps": [Figure(change("id"), change("title"), change("caption"), panels)]},
        comparisons={"traps": compared},
        marked={"traps": marked},
        gate=gate,
        deviations=listed.deviations,
        item_hashes={change("path"): change("hash")},
        head=change("head"),
        broken_seal=(change("seal"),),
    )
