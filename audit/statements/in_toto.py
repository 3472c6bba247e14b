"""A sealed run as an in-toto statement, v1 (in-toto Attestation Framework).

With a gate's result the predicate is ``test-result`` v0.1: its rules are the tests, the policy and the plan are the
configuration. Without one there is no result to state, for findings alone neither pass nor fail; the predicate is then
``reference`` v0.1, which only says that this evidence speaks of this model. The subjects are the weights files, because
in-toto matches subjects by digest, each by itself: of an adapter on a base model the adapter's alone, for the base is
shared by others. The base then stands in the predicate, and what is said is said of the two together. Fields of our own
have names that are URIs, as the framework asks.
"""

from __future__ import annotations

from typing import Any

from .. import __version__
from ..runs.seal.record import SEAL_NAME, SealRecord
from .judged import Judged, state_of
from .subject import ModelSubject

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
REFERENCE = "https://in-toto.io/attestation/reference/v0.1"
_OURS = "urn:palimpsest"


def statement(
    seal: SealRecord, seal_sha256: str, subject: ModelSubject, gate: Judged | None, *, location: str | None = None
) -> dict[str, Any]:
    """The statement.

    Args:
        seal: The seal.
        seal_sha256: SHA-256 of seal.json.
        subject: The model.
        gate: A gate's result on this run, when there is one.
        location: URI of the folder in which the run can be fetched; without it, documents have names but no place.
    """
    predicate = _reference(seal, seal_sha256, location) if gate is None else _result(seal, seal_sha256, gate, location)
    if subject.base:
        predicate[f"{_OURS}:base"] = [
            {"name": f"{subject.name}/{name}", "digest": {"sha256": sha256}} for name, sha256 in subject.base.items()
        ]
    return {
        "_type": STATEMENT,
        "subject": [
            {
                "name": f"{subject.name}/{name}",
                "digest": {"sha256": sha256},
                "annotations": {"palimpsest.role": subject.role, "palimpsest.weights": subject.combined},
            }
            for name, sha256 in subject.own.items()
        ],
        "predicateType": REFERENCE if gate is None else TEST_RESULT,
        "predicate": predicate,
    }


def _result(seal: SealRecord, seal_sha256: str, gate: Judged, location: str | None) -> dict[str, Any]:
    named: dict[str, list[str]] = {"passed": [], "warned": [], "failed": [], "unjudged": []}
    said = gate.result
    for rule in said.rules:
        named[state_of(rule)].append(rule.id)
    configuration = [
        {"name": "plan, as canonical JSON", "digest": {"sha256": seal.heading.plan_sha256}},
        {
            "name": f"policy {said.policy.name}",
            "digest": {"sha256": said.policy.sha256},
            "mediaType": "application/toml",
        },
    ]
    result: dict[str, Any] = {
        "result": gate.word,
        "configuration": configuration,
        "passedTests": named["passed"],
        "warnedTests": named["warned"],
        "failedTests": named["failed"],
        f"{_OURS}:notAssessed": named["unjudged"],
        f"{_OURS}:gate": {
            "verdict": said.verdict,
            "judgedAnew": gate.anew,
            "waiversReadOn": said.today,
            "dayWasGiven": said.today_given,
            "outcomes": {rule.id: rule.outcome for rule in said.rules},
            "digest": {"sha256": gate.sha256},
        },
        f"{_OURS}:evidence": [_seal_descriptor(seal, seal_sha256, location)],
    }
    if location is not None:
        result["url"] = location
    return result


def _reference(seal: SealRecord, seal_sha256: str, location: str | None) -> dict[str, Any]:
    shown = ("findings.json", "run.json", "report.html")
    kinds = {"json": "application/json", "html": "text/html"}
    documents = [
        {
            "name": entry.path,
            "downloadLocation": _place(seal, entry.path, location),
            "digest": {"sha256": entry.sha256},
            "mediaType": kinds[entry.path.rsplit(".", 1)[1]],
        }
        for entry in seal.files
        if entry.path in shown
    ]
    return {
        "attester": {"id": f"{_OURS}:{__version__}"},
        "references": [_seal_descriptor(seal, seal_sha256, location), *documents],
    }


def _seal_descriptor(seal: SealRecord, seal_sha256: str, location: str | None) -> dict[str, Any]:
    return {
        "name": SEAL_NAME,
        "downloadLocation": _place(seal, SEAL_NAME, location),
        "digest": {"sha256": seal_sha256},
        "mediaType": "application/json",
        "annotations": {"palimpsest.head": seal.head, "palimpsest.run": seal.heading.id},
    }


def _place(seal: SealRecord, path: str, location: str | None) -> str:
    """Where a document lies; a name (URN) of it where that is not known."""
    return f"{_OURS}:run:{seal.heading.id}:{path}" if location is None else f"{location.rstrip('/')}/{path}"
