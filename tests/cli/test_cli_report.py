"""``palimpsest report``: what it draws anew, what it prints, and what it leaves alone."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from audit.report.write import write_report
from audit.runs.schema import AuditSection, Column, Finding, Findings, Table
from audit.runs.seal.make import seal_run
from audit.runs.store import Run
from tests.benchmarks.report import make_run
from tests.cli.conftest import Call

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of three audits; read only."""
    return make_run(tmp_path_factory.mktemp("made") / "run", 300).folder


def quoting(folder: Path) -> Path:
    """A run of unlearning that keeps token-level views, and a table that quotes a prompt."""
    section = AuditSection(
        audit="unlearning",
        title="Unlearning",
        method="Trained.",
        assumptions=(),
        cannot_show=(),
        findings=(Finding(id="unlearning.model", audit="unlearning", claim="Trained.", verdict="information",
                          how_to_read="Audit it."),),
        tables=(Table(name="flagged", title="Flagged", columns=(Column(key="prompt", label="Prompt"),),
                      rows=({"prompt": "the secret prompt"},)),),
    )  # fmt: skip
    views = {
        "view": [0],
        "title": ["One"],
        "note": [""],
        "text": ["the secret passage"],
        "label": [None],
        "nats": [0.0],
    }
    schema = pa.schema([("view", pa.int64()), *((one, pa.string()) for one in ("title", "note", "text", "label"))])
    table = pa.table({name: pa.array(views[name], schema.field(name).type) for name in schema.names} | {"nats": [0.0]})
    with Run.start(folder, kind="unlearning", plan={"unlearn": {"show_text": True}}, plan_text=None, command=()) as run:
        run.write_items("unlearning-labels", table)
        run.write_findings(Findings(sections=(section,)))
        run.finish()
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_drawn_again_to_the_byte_and_nothing_else_of_it_changes(call: Call, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 300).folder
    page = write_report(Run.open(folder))
    drawn = page.read_bytes()
    before = files(folder)
    page.unlink()
    code, out, _ = call("report", folder)
    assert (code, out) == (0, "Report: run/report.html\n")
    assert files(folder) == before
    assert drawn.count(b"<svg ") > 10


def test_an_ending_that_names_no_format_is_refused(refused: Refused, made: Path) -> None:
    assert "--out page.txt has none of the endings .html" in refused("report", made, "--out", "page.txt")
    assert not Path("page.txt").exists()


def test_the_ending_names_the_format_and_json_and_markdown_are_printed(call: Call, made: Path) -> None:
    before = files(made)
    assert call("report", made, "--out", "r.md", "--quiet").code == 0
    assert Path("r.md").read_text(encoding="utf-8") == call("report", made, "--format", "md").out
    printed = json.loads(call("report", made, "--format", "json").out)
    assert [section["audit"] for section in printed["sections"]] == ["traps", "membership", "extraction"]
    assert files(made) == before


def test_a_sealed_run_is_left_alone(call: Call, refused: Refused, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 300).folder
    (folder / "seal.json").write_text('{"head": "ab12"}', encoding="utf-8")
    inner = make_run(folder / "audits" / "subject", 200).folder  # of a loop: it lies under the same seal
    before = files(folder)
    for run in (folder, inner):
        assert "is sealed: a report drawn into it would break the seal. Give --out FILE" in refused("report", run)
        assert "holds evidence alone" in refused("report", run, "--out", run / "report.html")
    assert call("report", folder, "--out", "page.html").code == 0
    assert "palimpsest runs verify RUN --head ab12" in Path("page.html").read_text(encoding="utf-8")
    assert files(folder) == before


def test_a_run_that_is_not_as_it_was_sealed_says_so_first(call: Call, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 200).folder
    seal_run(folder)
    warning = "This run is not as it was sealed."
    for name in ("page.html", "page.md"):
        assert call("report", folder, "--out", name).code == 0
        assert warning not in Path(name).read_text(encoding="utf-8")
    findings = folder / "findings.json"
    findings.write_text(findings.read_text(encoding="utf-8").replace("Traps", "Tripe"), encoding="utf-8")
    for name in ("page.html", "page.md"):
        assert call("report", folder, "--out", name).code == 0
        text = Path(name).read_text(encoding="utf-8")
        assert text.index(warning) < text.index("In plain words")
        assert "must not be relied on" in text
    told = json.loads(call("report", folder, "--format", "json").out)
    assert "'findings.json' was changed" in told["broken_seal"][0]
    (folder / "seal.json").unlink()
    assert "holds seal.secret and no seal.json" in call("report", folder, "--format", "json").out


def test_places_that_hold_evidence_and_a_printed_pdf_are_refused(refused: Refused, made: Path) -> None:
    for out in (made / "items" / "report.html", made / "findings.json", made / "report.md"):
        assert "holds evidence alone" in refused("report", made, "--out", out)
    assert "Give --out FILE.pdf" in refused("report", made, "--format", "pdf")


def test_a_run_without_findings_is_incomplete(call: Call, tmp_path: Path) -> None:
    with Run.start(tmp_path / "run", kind="traps", plan={}, plan_text=None, command=()):
        pass
    code, out, err = call("report", tmp_path / "run")
    assert (code, out) == (3, "")
    assert "findings" in err


def test_texts_are_hidden_unless_asked_for_and_then_kept_from_others(call: Call, tmp_path: Path) -> None:
    folder = quoting(tmp_path / "run")
    for flags, shown in (((), False), (("--show-text",), True)):
        for name in ("page.html", "page.md", "page.json"):
            assert call("report", folder, "--out", name, *flags).code == 0
            text = Path(name).read_text(encoding="utf-8")
            assert ("the secret passage" in text, "the secret prompt" in text) == (shown, shown)
            assert stat.S_IMODE(Path(name).stat().st_mode) & 0o077 == 0 if shown else True


def test_a_policys_verdict_stands_first_with_what_blocks(call: Call, made: Path, tmp_path: Path) -> None:
    policy = tmp_path / "release.toml"
    policy.write_text(
        """
schema_version = 1
name = "release"
title = "Release of the model"
reading = "Ours, for a test."
[[rules]]
id = "traps.auc"
title = "No trap is remembered"
estimate = "traps.0/auc"
direction = "at_most"
limit = 0.55
unit = "auc"
level = 0.95
why = "For a test."
severity = "block"
clause = "T-1"
not_covered = "Texts without traps."
""",
        encoding="utf-8",
    )
    code, out, err = call("report", made, "--policy", policy, "--format", "json")
    assert code == 0, err
    gate = json.loads(out)["gate"]
    assert (gate["verdict"], gate["blocking"]) == ("breached", ["traps.auc"])
    assert call("report", made, "--policy", policy, "--out", "page.html").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    against = "Evidence for 0, evidence against 1, not assessed 0"  # of the clauses; nobody passed or was blocked
    assert page.index(against) < page.index("No trap is remembered") < page.index("In plain words")
    assert "At least one blocking rule of the policy is breached." in page
    code, markdown, _ = call("report", made, "--policy", policy, "--format", "md")
    for told in (page.replace("<bdi>", "").replace("</bdi>", ""), markdown):
        assert "Ours, for a test." in told
        assert "Not covered: Texts without traps." in told
        assert "evidence against: T-1" in told
    assert (gate["label"], gate["reading"]) == (against, "Ours, for a test.")
    assert [(rule["evidence"], rule["not_covered"]) for rule in gate["rules"] if rule["clause"]] == [
        ("evidence against", "Texts without traps.")
    ]
    given = call("report", made, "--policy", policy, "--format", "json", "--today", "2999-01-01")
    assert "judged on 2999-01-01, a day that was given" in json.loads(given.out)["gate"]["applied"]
    assert "Release of the model" in page
    assert f"(<bdi>release, SHA-256 {hashlib.sha256(policy.read_bytes()).hexdigest()}, judged on " in page
    text = policy.read_text(encoding="utf-8")
    waiver = '[[waivers]]\nrule = "traps.auc"\nreason = "For a test."\napprover = "A."\nexpires = "2999-12-31"\n'
    skipped = '[[rules]]\nid = "x"\ntitle = "x"\nestimate = "x/verdict"\none_of = ["found"]\non_missing = "skip"\n'
    held = text[text.index("[[rules]]") :].replace('"traps.auc"', '"traps.wide"').replace("0.55", "0.999")
    policy.write_text((text + held + skipped + waiver).replace('clause = "T-1"\n', ""), encoding="utf-8")
    told = json.loads(call("report", made, "--policy", policy, "--format", "json").out)["gate"]
    assert (told["verdict"], told["label"]) == ("pass", "Gate passed")
    assert "Of 3 blocking rules: 1 held, 1 waived, 1 skipped." in told["meaning"]
    assert "Every blocking rule" not in told["meaning"]


def test_a_folder_that_is_no_run_is_refused_by_name(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no run" in refused("report", tmp_path / "empty")
