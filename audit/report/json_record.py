"""What a report says as JSON, for programs: versioned, canonical, in full precision.

Canonical: keys in alphabetical order, ASCII alone, so that no control or direction character stands in it as such.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..runs.records import plain
from ..runs.schema import Finding
from .calibration import NOT_STATED, calibration
from .content import Report, before_and_after
from .gate import shown_gate
from .sections import Judged, in_plain_words, judged, overview

FORMAT: Final = "palimpsest-report"
VERSION: Final = 1


def render_json(report: Report) -> str:
    """The report as one line-broken JSON object; the same report gives the same text.

    Raises:
        InputError: A number in it is NaN or infinite.
    """
    record = plain(report_record(report), FORMAT)
    return json.dumps(record, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def report_record(report: Report) -> dict[str, Any]:
    """The report as plain JSON values: front matter, findings as judged, tables, provenance."""
    record, findings = report.record, report.findings
    gate = None if report.gate is None else shown_gate(report.gate)
    top = overview(findings)
    return {
        "format": FORMAT,
        "schema_version": VERSION,
        "run": {
            "id": record.id,
            "kind": record.kind,
            "status": record.status,
            "created": record.provenance.created,
            "finished": record.finished,
        },
        "front": {
            "verdict": top.verdict,
            "label": top.label,
            "meaning": top.meaning,
            "counts": dict(top.counts),
            "in_plain_words": in_plain_words(record, findings, gate, is_broken=bool(report.broken_seal)),
        },
        "gate": None
        if gate is None
        else {
            "verdict": gate.verdict,
            "label": gate.label,
            "meaning": gate.meaning,
            "policy": gate.policy,
            "applied": gate.applied,
            "reading": gate.reading,
            "blocking": [rule.id for rule in gate.blocking],
            "waivers": list(gate.waivers),
            "rules": [
                {
                    "id": rule.id,
                    "title": rule.title,
                    "outcome": rule.outcome,
                    "reason": rule.reason,
                    "clause": rule.clause,
                    "evidence": rule.evidence,
                    "not_covered": rule.not_covered,
                }
                for rule in (*gate.blocking, *gate.others)
            ],
        },
        "sections": [
            {
                **section.model_dump(exclude={"findings", "tables"}),
                "findings": [_finding(one) for one in judged(section)],
                "tables": [table.model_dump() for table in section.tables],
                "before_and_after": [table.name for table in before_and_after(section)],
                "calibration": {
                    "findings": [finding.id for finding, _ in calibration(section)],
                    "note": "" if calibration(section) else NOT_STATED,
                },
                "figures": [
                    {
                        "id": figure.id,
                        "title": figure.title,
                        "caption": figure.caption,
                        "panels": [{"title": panel.title, "description": panel.description} for panel in figure.panels],
                    }
                    for figure in report.figures.get(section.audit, ())
                ],
                "quoted": _quoted(report, section.audit),
            }
            for section in findings.sections
        ],
        "deviations": list(report.deviations),
        "limitations": list(findings.limitations),
        "provenance": {
            **record.provenance.model_dump(),
            "plan": record.plan,
            "plan_sha256": record.plan_sha256,
            "policy_sha256": record.policy_sha256,
            "subjects": record.subjects,
            "seeds": record.seeds,
            "stages": [stage.model_dump() for stage in record.stages],
            "self_test": None if record.self_test is None else record.self_test.model_dump(),
        },
        "files": dict(report.item_hashes),
        "seal_head": report.head,
        "broken_seal": list(report.broken_seal),
        "hides_text": report.hides_text,
    }


def _finding(one: Judged) -> dict[str, Any]:
    finding: Finding = one.finding
    return {**finding.model_dump(), "stated_verdict": finding.verdict, "verdict": one.verdict, "remark": one.remark}


def _quoted(report: Report, audit: str) -> Mapping[str, Any]:
    marked = report.marked.get(audit)
    return {
        "comparisons": [
            {
                "title": one.title,
                "note": one.note,
                "sides": [{"name": name, "text": "".join(text for text, _ in pieces)} for name, pieces in one.sides],
            }
            for one in report.comparisons.get(audit, ())
        ],
        "marked": []
        if marked is None
        else [
            {"title": one.title, "note": one.note, "text": "".join(piece.text for piece in one.pieces)}
            for one in marked.texts
        ],
    }
