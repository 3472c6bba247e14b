"""A gate's result as SARIF 2.1.0: each rule a reporting descriptor, each one that does not hold a result.

A result lies at the rule's line in the policy file. Its partial fingerprint is made of the policy's name and the rule's
id alone, so that the same rule is the same alert from run to run. ``kind`` is "fail" where a rule is breached or its
estimate is missing, "open" where it is inconclusive (then the format fixes ``level`` to "none"); a waiver is an
accepted suppression. Rules that hold have a result of kind "pass".
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..result import GateResult, RuleOutcome
from .plain import plain

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVEL = {"block": "error", "warn": "warning", "info": "note"}


def as_sarif(result: GateResult, policy: Path) -> str:
    """The JSON with sorted keys, ASCII, one line feed at the end."""
    places = {rule.id: place for place, rule in enumerate(result.rules)}
    run = {
        "tool": {
            "driver": {
                "name": "palimpsest gate",
                "version": result.palimpsest,
                "rules": [_descriptor(rule) for rule in result.rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "artifacts": [{"location": {"uri": _uri(policy)}, "hashes": {"sha-256": result.policy.sha256}}],
        "automationDetails": {"id": f"palimpsest-gate/{result.policy.name}/"},
        "invocations": [
            {
                "executionSuccessful": True,
                "exitCode": result.exit_code,
                "exitCodeDescription": plain(f"{result.verdict}: {result.summary}"),
            }
        ],
        "results": [_result(rule, places[rule.id], result, policy) for rule in result.rules],
        "properties": {
            "policy.reading": plain(result.policy.reading),
            "today": result.today,
            "today.given": result.today_given,
            "verdict": result.verdict,
            "runs": [plain(one.id) for one in result.runs],
        },
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _descriptor(rule: RuleOutcome) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": rule.id,
        "shortDescription": {"text": plain(rule.title)},
        "defaultConfiguration": {"level": _LEVEL[rule.severity]},
    }
    if rule.clause is not None:
        found["fullDescription"] = {"text": plain(f"{rule.clause}. Not covered: {rule.not_covered}")}
    return found


def _result(rule: RuleOutcome, place: int, result: GateResult, policy: Path) -> dict[str, Any]:
    kind, level = _kind(rule)
    found: dict[str, Any] = {
        "ruleId": rule.id,
        "ruleIndex": place,
        "kind": kind,
        "level": level,
        "message": {"text": plain(f"{rule.outcome}: {rule.reason} What would have to change: {rule.change}")},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(policy), "index": 0},
                    "region": {"startLine": rule.line},
                }
            }
        ],
        "partialFingerprints": {"palimpsestRule/v1": _fingerprint(result.policy.name, rule.id)},
        "properties": {"outcome": rule.outcome, "evidence": rule.evidence, "severity": rule.severity},
    }
    if rule.outcome == "waived":
        found["suppressions"] = [{"kind": "external", "status": "accepted", "justification": plain(rule.reason)}]
    return found


def _kind(rule: RuleOutcome) -> tuple[str, str]:
    outcome = rule.before_waiver or rule.outcome
    if outcome in ("breached", "missing"):
        return "fail", _LEVEL[rule.severity]
    kind = {"pass": "pass", "inconclusive": "open"}.get(outcome, "notApplicable")
    return kind, "none"


def _fingerprint(policy: str, rule: str) -> str:
    return hashlib.sha256(f"{policy}\n{rule}".encode()).hexdigest()


def _uri(path: Path) -> str:
    """A relative path as a relative reference, an absolute one as a file's URI."""
    text = quote(path.as_posix().encode("utf-8", "surrogateescape"), safe="/._-~")
    return f"file://{text}" if path.is_absolute() else text
