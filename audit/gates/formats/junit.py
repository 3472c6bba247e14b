"""A gate's result as JUnit XML: one test case for each rule, and one for the verdict.

The form is that of Jenkins' junit-10.xsd, which most pipelines read: a blocking rule that is breached or missing is a
``failure``, one that is inconclusive an ``error``; what does not block is ``skipped`` with its reason, so that a
pipeline goes red for nothing else. The verdict's own case, `VERDICT`, is an ``error`` unless the verdict is a pass:
where every rule was waived or skipped nothing else would be red.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Final

from ..policy import RESERVED
from ..result import GateResult, RuleOutcome
from .plain import plain
from .text import day_text

VERDICT: Final = f"{RESERVED}verdict"


def as_junit(result: GateResult) -> str:
    """The XML, ends in a line feed."""
    kinds = [_kind(rule) for rule in result.rules]
    of_verdict = None if result.verdict == "pass" else "error"
    every = [*kinds, of_verdict]
    counts = {"tests": str(len(every)), "failures": str(every.count("failure")), "errors": str(every.count("error"))}
    root = ET.Element("testsuites", {"name": "palimpsest gate", **counts})
    suite = ET.SubElement(
        root,
        "testsuite",
        {"name": f"palimpsest gate {result.policy.name}", **counts, "skipped": str(kinds.count("skipped"))},
    )
    facts = ET.SubElement(suite, "properties")
    for name, value in _facts(result):
        ET.SubElement(facts, "property", {"name": name, "value": plain(value)})
    for rule, kind in zip(result.rules, kinds, strict=True):
        named = {"name": plain(rule.id), "classname": f"palimpsest.gate.{result.policy.name}"}
        case = ET.SubElement(suite, "testcase", named)
        told = f"{rule.title}. {rule.reason}"
        about = f"{rule.evidence.capitalize()}: {rule.clause}. " if rule.clause is not None else ""
        about += f"Not covered: {rule.not_covered}" if rule.not_covered is not None else ""
        if kind is not None:
            message = {"type": rule.outcome, "message": plain(f"{rule.outcome}: {rule.reason}")}
            told += f" What would have to change: {rule.change}"
            ET.SubElement(case, kind, message).text = plain(f"{told} {about}")
        else:
            ET.SubElement(case, "system-out").text = plain(f"{told} {about}")
    named = {"name": VERDICT, "classname": f"palimpsest.gate.{result.policy.name}"}
    case = ET.SubElement(suite, "testcase", named)
    told = f"{result.verdict}: {result.summary} {day_text(result)}"
    if of_verdict is not None:
        ET.SubElement(case, of_verdict, {"type": result.verdict, "message": plain(told)}).text = plain(told)
    else:
        ET.SubElement(case, "system-out").text = plain(told)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _kind(rule: RuleOutcome) -> str | None:
    if rule.outcome == "pass":
        return None
    return {"breached": "failure", "inconclusive": "error"}.get(rule.counts_as, "skipped")


def _facts(result: GateResult) -> list[tuple[str, str]]:
    facts = [
        ("verdict", result.verdict),
        ("summary", result.summary),
        ("policy.sha256", result.policy.sha256),
        ("policy.reading", result.policy.reading),
        ("today", result.today),
        ("today.given", str(result.today_given).lower()),
    ]
    for place, run in enumerate(result.runs, 1):
        facts += [(f"run.{place}.id", run.id), (f"run.{place}.weights", run.model_weights or "not recorded")]
    return facts
