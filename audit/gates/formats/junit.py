"""A gate's result as JUnit XML: one test case for each rule.

The form is that of Jenkins' junit-10.xsd, which most pipelines read: a blocking rule that is breached or missing is a
``failure``, one that is inconclusive an ``error``; what does not block is ``skipped`` with its reason, so that a
pipeline goes red for nothing else.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ..result import GateResult, RuleOutcome
from .plain import plain


def as_junit(result: GateResult) -> str:
    """The XML, ends in a line feed."""
    kinds = [_kind(rule) for rule in result.rules]
    counts = {"tests": str(len(kinds)), "failures": str(kinds.count("failure")), "errors": str(kinds.count("error"))}
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
        if kind is not None:
            message = {"type": rule.outcome, "message": plain(f"{rule.outcome}: {rule.reason}")}
            ET.SubElement(case, kind, message).text = plain(f"{told} What would have to change: {rule.change}")
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
        ("today", result.today),
    ]
    for place, run in enumerate(result.runs, 1):
        facts += [(f"run.{place}.id", run.id), (f"run.{place}.weights", run.model_weights or "not recorded")]
    return facts
