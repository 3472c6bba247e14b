"""A sealed run as a CycloneDX 1.7 document with ``declarations``.

The target is the model, a component of type machine-learning-model with the SHA-256 of its weights. Each finding is a
claim about it, whose evidence holds the finding's numbers and the hash of findings.json under the seal's head. With a
gate's result the policy is a standard and each of its rules a requirement, and the attestation maps requirements to
claims: a rule that passed to a claim, one that was breached to a counter claim, one that stayed open to neither, with
the reason. No conformance score is given: what is stated is evidence for, evidence against, or not assessed.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from .. import __version__
from ..gates.result import GateResult, RuleOutcome
from ..runs.schema import EstimateRecord, Finding, Findings
from ..runs.seal.record import SealRecord
from .judged import Judged, side_of
from .subject import ModelSubject

_NAMESPACE = uuid.UUID("5a1b6c1e-6d53-5b0c-9d3f-7b9e6f0a4c21")  # drawn once; serial numbers follow from heads
_MODEL, _ASSESSOR, _STANDARD, _SEAL = "model", "assessor", "policy", "evidence:seal"
_WORDS = {"for": "Evidence for", "against": "Evidence against", "open": "Not assessed"}


def document(
    seal: SealRecord,
    findings: Findings,
    subject: ModelSubject,
    gate: Judged | None,
    *,
    assessor: str | None = None,
    third_party: bool | None = None,
    location: str | None = None,
) -> dict[str, Any]:
    """The document; the same run, gate and options give the same one.

    Args:
        seal: The seal.
        findings: What the run found.
        subject: The model.
        gate: A gate's result on this run, when there is one.
        assessor: Name of the organisation that audited.
        third_party: Whether that is another one than the model's maker; None where it is not said.
        location: URI of the folder in which the run can be fetched.
    """
    every = _referenced(findings)
    rules = () if gate is None else gate.result.rules
    serial = uuid.uuid5(_NAMESPACE, "\n".join((seal.head, gate.sha256 if gate else "", assessor or "", location or "")))
    whole: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": seal.heading.created,
            "tools": {"components": [{"type": "application", "name": "palimpsest-audit", "version": __version__}]},
        },
        "declarations": {
            "assessors": [_assessor(assessor, third_party)],
            "attestations": [
                {
                    "summary": _summary(seal, gate),
                    "assessor": _ASSESSOR,
                    "map": [_mapped(rule) for rule in rules] or [{"claims": [f"claim:{ref}" for ref in every]}],
                }
            ],
            "claims": [
                *(_claim(ref, finding) for ref, finding in every.items()),
                *(_rule_claim(rule) for rule in rules if side_of(rule) != "open"),
            ],
            "evidence": [
                _seal_evidence(seal, location),
                *(_evidence(ref, finding, seal) for ref, finding in every.items()),
            ],
            "targets": {"components": [_component(subject)]},
        },
    }
    if gate is not None:
        whole["definitions"] = {"standards": [_standard(gate.result)]}
    return whole


def _assessor(name: str | None, third_party: bool | None) -> dict[str, Any]:
    told: dict[str, Any] = {"bom-ref": _ASSESSOR}
    if third_party is not None:
        told["thirdParty"] = third_party
    if name is not None:
        told["organization"] = {"name": name}
    return told


def _summary(seal: SealRecord, gate: Judged | None) -> str:
    start = f"Audit {seal.heading.id}, sealed with the head {seal.head}."
    if gate is None:
        return f"{start} No policy was applied: these are findings, not a judgement of a release."
    how = "judged anew for this document" if gate.anew else "as a file of the gate's result says, which was believed"
    said = gate.result
    policy = f"Policy {said.policy.name}, SHA-256 {said.policy.sha256}, waivers read on {said.today}"
    return f"{start} {policy}: the gate's verdict is {said.verdict}, {how}."


def _component(subject: ModelSubject) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": subject.name,
        "properties": [
            {"name": "palimpsest:role", "value": subject.role},
            {"name": "palimpsest:weights", "value": subject.combined},
        ],
        "components": [
            {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": sha256}]}
            for name, sha256 in subject.weights.items()
        ],
    }
    if len(subject.weights) == 1:
        told["hashes"] = [{"alg": "SHA-256", "content": next(iter(subject.weights.values()))}]
    if subject.revision is not None:
        told["version"] = subject.revision
    return told


def _referenced(findings: Findings) -> dict[str, Finding]:
    """Each finding under its id; where an id comes again, as in a run of several audits, with a number.

    What a confounded finding of the same audit takes the ground from is confounded too, as in the report.
    """
    every: dict[str, Finding] = {}
    for section in findings.sections:
        refused = any(finding.verdict == "confounded" for finding in section.findings)
        for finding in section.findings:
            ref, number = finding.id, 1
            while ref in every:
                number += 1
                ref = f"{finding.id}#{number}"
            beside = refused and finding.verdict not in ("confounded", "information")
            every[ref] = finding.model_copy(update={"verdict": "confounded"}) if beside else finding
    return every


def _claim(ref: str, finding: Finding) -> dict[str, Any]:
    open_ = " That is no evidence." if finding.verdict == "confounded" else ""
    return {
        "bom-ref": f"claim:{ref}",
        "target": _MODEL,
        "predicate": f"{finding.claim} (verdict: {finding.verdict}){open_}",
        "reasoning": finding.how_to_read,
        "evidence": [f"evidence:{ref}", _SEAL],
    }


def _evidence(ref: str, finding: Finding, seal: SealRecord) -> dict[str, Any]:
    numbers = {
        "estimates": {name: _estimate(one) for name, one in finding.estimates.items()},
        "p_values": finding.model_dump(mode="json")["p_values"],
        "power": None if finding.power is None else _estimate(finding.power),
        "power_for": finding.power_for,
        "power_effect": finding.power_effect,
    }
    return {
        "bom-ref": f"evidence:{ref}",
        "propertyName": finding.id,
        "description": "The numbers that the claim rests on, as findings.json holds them.",
        "created": seal.heading.created,
        "data": [
            {
                "name": "numbers",
                "contents": {"attachment": {"contentType": "application/json", "content": _json(numbers)}},
            }
        ],
    }


def _estimate(estimate: EstimateRecord) -> dict[str, Any]:
    return estimate.model_dump(mode="json")


def _seal_evidence(seal: SealRecord, location: str | None) -> dict[str, Any]:
    listed = {entry.path: entry.sha256 for entry in seal.files}
    contents: dict[str, Any] = {
        "attachment": {
            "contentType": "application/json",
            "content": _json(
                {
                    "head": seal.head,
                    "heading": seal.heading.model_dump(mode="json"),
                    "public_key": seal.public_key,
                    "signature": seal.signature,
                    "findings.json": listed.get("findings.json"),
                }
            ),
        }
    }
    if location is not None:
        contents["url"] = f"{location.rstrip('/')}/seal.json"
    return {
        "bom-ref": _SEAL,
        "propertyName": "palimpsest:seal",
        "description": "The head of the run's seal and what it is the hash of.",
        "created": seal.heading.created,
        "data": [{"name": "seal", "contents": contents}],
    }


def _standard(gate: GateResult) -> dict[str, Any]:
    return {
        "bom-ref": _STANDARD,
        "name": gate.policy.name,
        "version": f"sha256:{gate.policy.sha256}",
        "description": f"A policy for Palimpsest: rules over named estimates. {gate.policy.reading}",
        "requirements": [
            {
                "bom-ref": f"rule:{rule.id}",
                "identifier": rule.id,
                "title": rule.title or rule.id,
                **({"text": f"{rule.clause}. Not covered: {rule.not_covered}"} if rule.clause else {}),
            }
            for rule in gate.rules
        ],
    }


def _rule_claim(rule: RuleOutcome) -> dict[str, Any]:
    return {
        "bom-ref": f"claim:rule:{rule.id}",
        "target": _MODEL,
        "predicate": f"{_WORDS[side_of(rule)]} rule {rule.id}{': ' if rule.title else ''}{rule.title}",
        "reasoning": rule.reason or f"The gate's outcome is {rule.outcome}.",
        "evidence": [_SEAL],
    }


def _mapped(rule: RuleOutcome) -> dict[str, Any]:
    mapped: dict[str, Any] = {"requirement": f"rule:{rule.id}"}
    side = side_of(rule)
    if side == "for":
        mapped["claims"] = [f"claim:rule:{rule.id}"]
    elif side == "against":
        mapped["counterClaims"] = [f"claim:rule:{rule.id}"]
    else:
        mapped["confidence"] = {"score": 0, "rationale": f"Not assessed ({rule.outcome}). {rule.reason}".strip()}
    return mapped


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
