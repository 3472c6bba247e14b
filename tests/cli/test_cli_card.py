"""``palimpsest card``: whose numbers go into which card, and what is left alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.runs.schema import AuditSection, EstimateRecord, Finding, Findings, PValueRecord
from audit.runs.store import Run
from tests.cli.conftest import Call

Refused = Callable[..., str]
WEIGHTS = b"the weights that were audited"
CARD = "---\nlicense: mit  # a comment\n---\n\n# Model\n"
POLICY = """schema_version = 1
name = "release"
title = "Release"
reading = "Ours."
require_preregistered = "note"

[[rules]]
id = "traps.auc"
title = "Traps are hardly told from decoys"
estimate = "traps.copies_64/auc"
direction = "at_most"
limit = 0.6
unit = "auc"
severity = "block"
why = "A test."
"""


def make_run(folder: Path, *, kind: str = "audit", finished: bool = True, prefix: str = "") -> Path:
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    auc = EstimateRecord(value=0.9, low=0.8, high=0.95, level=0.95, n=120, method="AUC, DeLong")
    finding = Finding(
        id="traps.copies_64", audit="traps", claim="Traps stand out.", verdict="found", estimates={"auc": auc},
        p_values={"arm": PValueRecord(value=0.001, attainable=0.001, n=999, method="exact")},
        how_to_read="Half is chance.",
    )  # fmt: skip
    part = AuditSection(
        audit="traps", title="Copyright traps", method="m", assumptions=(), cannot_show=("Who planted them.",),
        findings=(finding,),
    )  # fmt: skip
    files = {f"{prefix}model.safetensors": digest} if not prefix else {
        "model.safetensors": "0" * 64, "adapter/adapter_model.safetensors": digest,
    }  # fmt: skip
    with Run.start(folder, kind=kind, plan={"traps": {}}, plan_text=None, command=("palimpsest",)) as run:
        run.add_subject("subject", {"model": "org/model", "fingerprint": {"weights": "w" * 64, "files": files}})
        run.write_findings(Findings(sections=(part,)))
        if finished:
            run.finish()
    return folder


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A card beside the weights that were audited."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "README.md").write_text(CARD)
    return folder / "README.md"


def test_a_card_gets_the_results_once_and_the_run_is_not_touched(call: Call, card: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, out, err = call("card", run, "--model-card", card)
    assert (code, err) == (0, "")
    assert out == "model/README.md: 1 result in its metadata, and a section in its body\n"
    written = card.read_bytes()
    assert written.startswith(CARD[:30].encode())
    assert b"value: 0.9\n" in written
    assert call("card", run, "--model-card", card) == (0, "model/README.md says this already\n", "")
    assert card.read_bytes() == written
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_dry_run_shows_the_lines_and_writes_nothing(call: Call, card: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    code, out, _ = call("card", run, "--model-card", card, "--diff")
    assert code == 0
    assert "+model-index:\n" in out
    assert not [line for line in out.splitlines() if line.startswith("-") and not line.startswith("---")]
    assert card.read_text() == CARD
    call("card", run, "--model-card", card)
    assert call("card", run, "--model-card", card, "--diff").out == ""


def test_a_gate_and_a_seal_are_told(call: Call, card: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    Path("release.toml").write_text(POLICY)
    assert call("runs", "seal", run, "--quiet").code == 0
    assert call("gate", run, "--policy", "release.toml", "--format", "json", "--out", "gate.json").code == 1
    assert call("card", run, "--model-card", card, "--gate", "gate.json").code == 0
    told = card.read_text()
    sha256 = hashlib.sha256(Path("release.toml").read_bytes()).hexdigest()
    assert f"By the policy Release (release, SHA-256 {sha256}, judged on " in told
    assert "**Blocked.**" in told
    assert "A file with this verdict was believed, not made anew for this card." in told
    assert told.count(json.loads((run / "seal.json").read_text())["head"]) == 2  # in the metadata and in the body


def test_an_edited_result_of_a_gate_is_refused_where_the_policy_is_given_and_else_said_to_be_believed(
    call: Call, refused: Refused, card: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    Path("release.toml").write_text(POLICY)
    call("gate", run, "--policy", "release.toml", "--format", "json", "--out", "gate.json")
    honest = ("card", run, "--model-card", card, "--policy", "release.toml", "--gate", "gate.json")
    assert call(*honest).code == 0
    assert "**Blocked.**" in card.read_text()
    assert "believed" not in card.read_text()
    card.write_text(CARD)
    told = json.loads(Path("gate.json").read_text())
    told.update(verdict="pass", exit_code=0)
    for one in told["rules"]:
        one.update(outcome="pass", counts_as="pass")
    Path("gate.json").write_text(json.dumps(told))
    assert "is not what the policy gives on this run: verdict 'pass', and not 'breached'" in refused(*honest)
    assert card.read_text() == CARD
    done = call("card", run, "--model-card", card, "--gate", "gate.json")
    assert "gate.json was believed: --policy judges the run anew" in done.err
    written = card.read_text()
    assert "was believed" in written
    assert told["policy"]["sha256"] in written
    assert call(*honest[:-2], "--today", "2999-01-01").code == 0  # no file at all: judged for the card
    assert "judged on 2999-01-01, a day that was given" in card.read_text()
    assert "--today is for --policy" in refused("card", run, "--model-card", card, "--today", "2999-01-01")


def test_the_policys_reading_and_what_it_does_not_cover_stand_in_the_card(
    call: Call, card: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    Path("release.toml").write_text(POLICY + 'clause = "Measure 1.4"\nnot_covered = "Works without traps."\n')
    assert call("card", run, "--model-card", card, "--policy", "release.toml").code == 0
    told = card.read_text()
    assert "**Evidence for 0, evidence against 1, not assessed 0.**" in told
    assert "\nOurs.\n" in told
    assert "- Evidence against: Measure 1.4 (traps.auc). Not covered: Works without traps." in told


def test_a_gate_of_another_run_is_refused(call: Call, refused: Refused, card: Path, tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other")
    Path("release.toml").write_text(POLICY)
    call("gate", other, "--policy", "release.toml", "--format", "json", "--out", "gate.json")
    assert "a statement speaks of one run" in refused("card", run, "--model-card", card, "--gate", "gate.json")
    Path("gate.json").write_text("[]")
    code, _, err = call("card", run, "--model-card", card, "--gate", "gate.json")
    assert code == 2
    assert "is no gate's result" in err
    assert card.read_text() == CARD


def test_numbers_of_another_model_are_refused(refused: Refused, card: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (card.parent / "model.safetensors").write_bytes(b"other weights")
    message = refused("card", run, "--model-card", card)
    assert "holds other weights than those that were audited: model.safetensors has the SHA-256" in message
    assert "The numbers are of another model." in message
    assert card.read_text() == CARD


def test_a_card_without_weights_beside_it_gets_a_warning(call: Call, card: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (card.parent / "model.safetensors").unlink()
    code, _, err = call("card", run, "--model-card", card)
    assert code == 0
    assert err.startswith("warning: no safetensors lie beside model/README.md")


def test_an_adapters_card_is_held_to_the_adapter_and_its_base_models_is_refused(
    call: Call, refused: Refused, card: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", prefix="adapter/")
    assert "other weights" in refused("card", run, "--model-card", card)
    (card.parent / "model.safetensors").rename(card.parent / "adapter_model.safetensors")
    (card.parent / "adapter_config.json").write_text("{}")
    assert call("card", run, "--model-card", card).code == 0
    plain = make_run(tmp_path / "plain")
    assert "other weights" in refused("card", plain, "--model-card", card)


def test_a_run_that_has_not_ended_is_no_result(call: Call, card: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    code, out, err = call("card", run, "--model-card", card)
    assert (code, out) == (3, "")
    assert "has not ended" in err
    assert card.read_text() == CARD


def test_a_run_of_several_models_is_refused(refused: Refused, card: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", kind="remediation")
    assert "kind 'remediation', which may hold numbers of several models" in refused("card", run, "--model-card", card)


def test_a_run_that_was_changed_after_its_seal_is_refused(
    call: Call, refused: Refused, card: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    call("runs", "seal", run, "--quiet")
    findings = run / "findings.json"
    findings.write_text(findings.read_text().replace("0.9", "0.5"))
    assert "is not as it was sealed" in refused("card", run, "--model-card", card)


def test_places_that_hold_no_card_are_refused(refused: Refused, card: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert "holds evidence alone" in refused("card", run, "--model-card", run / "README.md")
    assert "there is no folder" in refused("card", run, "--model-card", tmp_path / "nowhere" / "README.md")
    card.write_bytes(b"\xff\xfe")
    assert "is not UTF-8: byte 1" in refused("card", run, "--model-card", card)
