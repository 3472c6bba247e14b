"""Statements for other tools, against their specifications."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from audit.errors import DataError, InputError
from audit.gates.result import (
    EVIDENCE,
    EXIT_CODES,
    Family,
    GatedPolicy,
    GatedRun,
    GateResult,
    RuleOutcome,
)
from audit.runs.seal.make import seal_run
from audit.statements.export import export_run
from tests.runs.seal.made import KEY, WEIGHTS, make_run

SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("exports") / "run", policy="a" * 64)
    seal_run(folder, key=KEY)
    return folder


def made(run: Path, format_: Any, **options: Any) -> dict[str, Any]:
    content, _ = export_run(run, format_, **options)
    assert content == export_run(run, format_, **options)[0]
    return dict(json.loads(content))


def seal_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "seal.json").read_text()))


def findings_of(run: Path) -> str:
    return str(next(entry["sha256"] for entry in seal_of(run)["files"] if entry["path"] == "findings.json"))


def gate_result(run: Path, verdict: Any, outcomes: dict[str, tuple[str, str]]) -> GateResult:
    """As a gate gives it; outcomes: rule -> (severity, outcome)."""
    rules = tuple(
        RuleOutcome.model_validate(
            {
                "id": id_,
                "title": f"Title of {id_}",
                "severity": severity,
                "outcome": outcome,
                "counts_as": "nothing",
                "evidence": EVIDENCE[outcome],  # type: ignore[index]
                "reason": "Because.",
                "change": "",
                "line": 1,
            }
        )
        for id_, (severity, outcome) in outcomes.items()
    )
    judged = GatedRun(
        id=seal_of(run)["heading"]["id"],
        kind="audit",
        created="2026-11-28T00:00:00+00:00",
        plan_sha256="0" * 64,
        findings_sha256=findings_of(run),
        policy_sha256="a" * 64,
        model_weights="f" * 64,
        seal="sealed",
    )
    return GateResult(
        palimpsest="0",
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        summary="",
        today="2026-11-28",
        policy=GatedPolicy(name="strict", title="Strict", reading="ours", sha256="a" * 64),
        runs=(judged,),
        family=Family(
            p_values=0, runs_with_p_values=0, alpha=0.05, intervals=0, false_block_by_intervals=0.0, false_pass=None
        ),
        rules=rules,
    )


def gate_file(
    path: Path, run: Path, verdict: Any, outcomes: dict[str, tuple[str, str]], change: dict[str, Any] | None = None
) -> Path:
    """As `palimpsest gate --format json` writes it, with some of its fields changed."""
    told = json.loads(gate_result(run, verdict, outcomes).canonical())
    path.write_text(json.dumps(told | (change or {})), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def cyclonedx() -> jsonschema.Draft7Validator:
    registry: Registry[Any] = Registry()
    for path in SCHEMAS.glob("*.schema.json"):
        schema = json.loads(path.read_text(encoding="utf-8"))
        base = "http://cyclonedx.org/schema/"
        registry = registry.with_resources(
            [(base + path.name, Resource.from_contents(schema)), (schema["$id"], Resource.from_contents(schema))]
        )
    whole = json.loads((SCHEMAS / "bom-1.7.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft7Validator(whole, registry=registry, format_checker=jsonschema.FormatChecker())


OUTCOMES = {
    "traps.auc": ("block", "pass"),
    "traps.p": ("block", "breached"),
    "membership.auc": ("block", "inconclusive"),
    "loss": ("warn", "breached"),
    "old": ("block", "waived"),
    "clause-7": ("info", "not assessed"),
}


@pytest.mark.parametrize("gated", [False, True])
def test_cyclonedx_is_valid_and_says_for_against_or_not_assessed(
    run: Path, tmp_path: Path, gated: bool, cyclonedx: jsonschema.Draft7Validator
) -> None:
    gate = gate_file(tmp_path / "gate.json", run, "breached", OUTCOMES) if gated else None
    bom = made(run, "cyclonedx", gate=gate, assessor="Auditors Ltd", third_party=True, location="https://x.example/run")
    assert [error.message for error in cyclonedx.iter_errors(bom)] == []
    refs = re.findall(r'"bom-ref": "([^"]+)"', json.dumps(bom))
    assert len(refs) == len(set(refs))
    told = bom["declarations"]
    used = {ref for claim in told["claims"] for ref in [claim["target"], *claim["evidence"]]}
    for one in told["attestations"][0]["map"]:
        used |= {*one.get("claims", ()), *one.get("counterClaims", ()), *([one["requirement"]] if gated else [])}
    assert used <= set(refs)
    assert seal_of(run)["head"] in told["attestations"][0]["summary"]
    assert "complian" not in json.dumps(bom).lower()
    numbers = json.loads(told["evidence"][1]["data"][0]["contents"]["attachment"]["content"])
    assert numbers["estimates"]["auc"]["low"] == 0.6
    if gated:
        mapped = {one["requirement"]: one for one in told["attestations"][0]["map"]}
        assert mapped["rule:traps.auc"]["claims"] == ["claim:rule:traps.auc"]
        assert mapped["rule:traps.p"]["counterClaims"] == ["claim:rule:traps.p"]
        assert mapped["rule:membership.auc"].keys() == {"requirement", "confidence"}
        assert mapped["rule:clause-7"]["confidence"]["rationale"].startswith("Not assessed")


def _check_descriptor(told: dict[str, Any]) -> None:
    """in-toto, ResourceDescriptor v1.1: at least one of name's identifying fields; digests of lower-case digits."""
    assert told.keys() & {"uri", "digest", "content"}
    assert told.keys() <= {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in told["digest"].values())


def _check_statement(told: dict[str, Any]) -> None:
    assert told.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert told["_type"] == "https://in-toto.io/Statement/v1"
    for subject in told["subject"]:
        _check_descriptor(subject)
    names = [subject["name"] for subject in told["subject"]]
    assert len(names) == len(set(names))
    assert {subject["digest"]["sha256"] for subject in told["subject"]} == set(WEIGHTS.values())
    assert "/home/someone" not in json.dumps(told)


def test_a_test_result_comes_from_a_gate(run: Path, tmp_path: Path) -> None:
    gate = gate_file(tmp_path / "gate.json", run, "breached", OUTCOMES)
    told = made(run, "in-toto", gate=gate, location="https://x.example/run")
    _check_statement(told)
    assert told["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    predicate = told["predicate"]
    assert predicate["result"] == "FAILED"
    for descriptor in predicate["configuration"]:
        _check_descriptor(descriptor)
    assert {one["digest"]["sha256"] for one in predicate["configuration"]} >= {"a" * 64}
    assert predicate["passedTests"] == ["traps.auc"]
    assert predicate["failedTests"] == ["traps.p", "membership.auc"]
    assert predicate["warnedTests"] == ["loss", "old"]
    own = predicate.keys() - {"result", "configuration", "url", "passedTests", "warnedTests", "failedTests"}
    assert all(name.startswith("urn:") for name in own)


@pytest.mark.parametrize(
    ("verdict", "outcomes", "expected"),
    [
        ("pass", {"a": ("block", "pass")}, "PASSED"),
        ("pass", {"a": ("block", "pass"), "b": ("info", "not assessed")}, "PASSED"),
        ("pass", {"a": ("block", "pass"), "b": ("warn", "breached")}, "WARNED"),
        ("pass", {"a": ("block", "pass"), "b": ("block", "waived")}, "WARNED"),
        ("pass", {"a": ("block", "pass"), "b": ("block", "breached")}, "FAILED"),
        ("pass", {}, "FAILED"),
        ("pass", {"a": ("block", "skipped")}, "FAILED"),
        ("breached", {"a": ("block", "pass")}, "FAILED"),
        ("inconclusive", {"a": ("block", "pass")}, "FAILED"),
        ("self-test failed", {"a": ("block", "pass")}, "FAILED"),
    ],
)
def test_only_a_pass_of_something_is_passed(
    run: Path, tmp_path: Path, verdict: str, outcomes: dict[str, tuple[str, str]], expected: str
) -> None:
    gate = gate_file(tmp_path / "gate.json", run, verdict, outcomes)
    assert made(run, "in-toto", gate=gate)["predicate"]["result"] == expected


def test_without_a_gate_there_is_no_result_but_a_reference(run: Path) -> None:
    told = made(run, "in-toto")
    _check_statement(told)
    assert told["predicateType"] == "https://in-toto.io/attestation/reference/v0.1"
    assert told["predicate"]["attester"]["id"].startswith("urn:")
    assert "PASSED" not in json.dumps(told)
    for descriptor in told["predicate"]["references"]:
        _check_descriptor(descriptor)
        assert descriptor["downloadLocation"]
        assert descriptor["mediaType"]
    names = [descriptor["name"] for descriptor in told["predicate"]["references"]]
    assert names == ["seal.json", "findings.json", "run.json"]


def test_the_gate_must_speak_of_this_run_and_policy(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    passed = {"a": ("block", "pass")}
    whole = json.loads(gate_result(run, "pass", passed).canonical())
    own, rule = whole["runs"][0], whole["rules"][0]
    for change, message in (
        ({"runs": [{**own, "id": "other"}]}, "is the gate's result of 'other'"),
        ({"runs": [own, {**own, "id": "other"}]}, "a statement speaks of one run"),
        ({"runs": [{**own, "findings_sha256": "0" * 64}]}, "judged other findings"),
        ({"policy": {**whole["policy"], "sha256": "b" * 64}}, "was judged by the policy of SHA-256 b"),
        ({"rules": [rule, rule]}, "two rules have one id"),
        ({"rules": [{"id": "a"}]}, "is no gate's result"),
        ({"rules": [{**rule, "outcome": "something new"}]}, "is no gate's result"),
        ({"verdict": "something new"}, "is no gate's result"),
        ({"runs": None}, "is no gate's result"),
        ({"rules": ["a"]}, "is no gate's result"),
        ({"schema_version": 2}, "has schema version"),
    ):
        with pytest.raises(DataError, match=message):
            export_run(run, "in-toto", gate=gate_file(path, run, "pass", passed, change))
    path.write_text("[")
    with pytest.raises(DataError, match="is no gate's result"):
        export_run(run, "in-toto", gate=path)
    with pytest.raises(InputError, match="there is no file"):
        export_run(run, "in-toto", gate=tmp_path / "none.json")


def test_nothing_that_was_found_is_said_of_another_model(tmp_path: Path) -> None:
    """A run names its reference model as well: what passed, or was found, is the subject's alone."""
    folder = make_run(tmp_path / "run", policy="a" * 64)
    record = json.loads((folder / "run.json").read_text())
    other = {"weights": "e" * 64, "files": {"model.safetensors": "4" * 64}}
    record["subjects"]["reference"] = {**record["subjects"]["subject"], "fingerprint": other}
    (folder / "run.json").write_text(json.dumps(record))
    seal_run(folder)
    passed = {"a": ("block", "pass")}
    gate = gate_file(tmp_path / "gate.json", folder, "pass", passed)
    with pytest.raises(InputError, match="the role 'reference' is the model of eeeeeeeeeeee...: nothing was found of"):
        export_run(folder, "in-toto", gate=gate, role="reference")
    with pytest.raises(InputError, match="nothing was found of it"):
        export_run(folder, "cyclonedx", role="reference")
    own = json.loads(gate_result(folder, "pass", passed).canonical())["runs"][0]
    runs = [{**own, "model_weights": "e" * 64}]
    edited = gate_file(tmp_path / "edited.json", folder, "pass", passed, {"runs": runs})
    for role in (None, "reference"):
        with pytest.raises(InputError, match="nothing was found of it"):
            export_run(folder, "in-toto", gate=edited, role=role)
    told = made(folder, "in-toto", role="reference")
    assert told["predicateType"].endswith("reference/v0.1")
    assert made(folder, "in-toto", gate=gate)["predicate"]["result"] == "PASSED"


def test_a_result_that_was_judged_anew_is_stated_and_an_edited_file_refused(run: Path, tmp_path: Path) -> None:
    breached = gate_file(tmp_path / "true.json", run, "breached", {"a": ("block", "breached")})
    judged = gate_result(run, "breached", {"a": ("block", "breached")})
    told = made(run, "in-toto", judged=judged)["predicate"]
    assert (told["result"], told["urn:palimpsest:gate"]["judgedAnew"]) == ("FAILED", True)
    assert told["urn:palimpsest:gate"]["waiversReadOn"] == "2026-11-28"
    assert made(run, "in-toto", judged=judged, gate=breached)["predicate"]["failedTests"] == ["a"]
    edited = gate_file(tmp_path / "edited.json", run, "pass", {"a": ("block", "pass")})
    with pytest.raises(DataError, match="verdict 'pass', and not 'breached'; rule 'a': 'block pass', and not"):
        export_run(run, "in-toto", judged=judged, gate=edited)
    assert made(run, "in-toto", gate=edited)["predicate"]["urn:palimpsest:gate"]["judgedAnew"] is False


def test_nothing_is_stated_of_a_broken_or_unsealed_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(InputError, match="is not sealed"):
        export_run(folder, "in-toto")
    seal_run(folder)
    with pytest.raises(InputError, match="no model in the role 'gold'; it has subject"):
        export_run(folder, "in-toto", role="gold")
    (folder / "plan.toml").write_text("x")
    with pytest.raises(DataError, match="nothing is stated about it:\n- 'plan.toml'"):
        export_run(folder, "in-toto")


def test_an_export_that_quotes_secret_findings_is_secret(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "findings.json").chmod(0o600)
    seal_run(folder)
    assert export_run(folder, "cyclonedx")[1]
    assert not export_run(folder, "in-toto")[1]


@pytest.mark.parametrize("kind", ["remediation", "unlearning", "eco", "steer"])
def test_what_passed_of_a_changed_model_is_not_said_of_the_model_before(tmp_path: Path, kind: str) -> None:
    """A loop's findings speak of remedied models; its subject, and a baseline, are the model before."""
    folder = make_run(tmp_path / "run", policy="a" * 64, kind=kind)
    seal_run(folder)
    gate = gate_file(tmp_path / "gate.json", folder, "pass", {"forgetting.verdict": ("block", "pass")})
    judged = gate_result(folder, "pass", {"forgetting.verdict": ("block", "pass")})
    for given in ({"gate": gate}, {"judged": judged}):
        with pytest.raises(InputError, match=f"is a run of kind '{kind}': its findings speak of models that it made"):
            export_run(folder, "in-toto", **given)  # type: ignore[arg-type]
    for given in ({"gate": gate}, {}):
        with pytest.raises(InputError, match="no verdict, claim or pass can be stated of a model"):
            export_run(folder, "cyclonedx", **given)  # type: ignore[arg-type]
    assert made(folder, "in-toto")["predicateType"].endswith("reference/v0.1")


@pytest.mark.parametrize("gated", [False, True])
def test_a_base_model_alone_is_not_said_to_have_passed(tmp_path: Path, gated: bool) -> None:
    """in-toto matches each subject by itself: a base that many adapters share is none."""
    folder = make_run(tmp_path / "run", policy="a" * 64)
    record = json.loads((folder / "run.json").read_text())
    files = {"model.safetensors": "4" * 64, "adapter/adapter_model.safetensors": "5" * 64}
    record["subjects"]["subject"]["fingerprint"]["files"] = files
    (folder / "run.json").write_text(json.dumps(record))
    seal_run(folder)
    gate = gate_file(tmp_path / "gate.json", folder, "pass", {"a": ("block", "pass")}) if gated else None
    told = made(folder, "in-toto", gate=gate)
    assert [one["digest"]["sha256"] for one in told["subject"]] == ["5" * 64]
    (base,) = told["predicate"]["urn:palimpsest:base"]
    assert base["digest"]["sha256"] == "4" * 64
    _check_descriptor(base)


def test_a_waived_breach_stays_a_counter_claim(run: Path, tmp_path: Path) -> None:
    result = gate_result(run, "pass", {"a": ("block", "pass"), "old": ("block", "waived")})
    rules = [one.model_copy(update={"before_waiver": "breached"}) if one.id == "old" else one for one in result.rules]
    bom = made(run, "cyclonedx", judged=result.model_copy(update={"rules": tuple(rules)}))
    mapped = {one["requirement"]: one for one in bom["declarations"]["attestations"][0]["map"]}
    assert mapped["rule:old"]["counterClaims"] == ["claim:rule:old"]


def test_a_claim_beside_a_confounded_one_is_no_evidence(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    told = json.loads((folder / "findings.json").read_text())
    (first,) = told["sections"][0]["findings"]
    told["sections"][0]["findings"].append({**first, "id": "traps.overall", "verdict": "confounded"})
    (folder / "findings.json").write_text(json.dumps(told))
    seal_run(folder)
    claims = made(folder, "cyclonedx")["declarations"]["claims"]
    assert [one["predicate"].rpartition("(")[2] for one in claims] == ["verdict: confounded) That is no evidence."] * 2
