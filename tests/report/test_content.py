"""What a report says of a run: deviations, calibration, what it lacks, before and after; one table of figures."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from audit.report.calibration import calibration
from audit.report.content import Report, before_and_after, read_report, without_quotes
from audit.report.deviations import deviations_of
from audit.report.drawing import DRAWN, QUOTED
from audit.report.layout import laid_out, reading
from audit.report.limits import LEVELS
from audit.report.render import render_html
from audit.report.sections import VERDICT_WORDS
from audit.runs.schema import (
    AuditSection,
    Column,
    EstimateRecord,
    Finding,
    Findings,
    OpeningRecord,
    RunRecord,
    Table,
)
from audit.runs.store import Run
from tests.benchmarks.report import make_run

ESTIMATE = EstimateRecord(value=0.9, low=0.8, high=0.95, level=0.95, n=60, method="simulation of 2,000 audits")


def section(audit: str, *findings: Finding, tables: tuple[Table, ...] = ()) -> AuditSection:
    return AuditSection(
        audit=audit, title=audit, method="m", assumptions=(), cannot_show=(), findings=findings, tables=tables
    )


def finding(id_: str, verdict: str = "information", **fields: object) -> Finding:
    values = {"id": id_, "audit": "traps", "claim": f"Claim of {id_}.", "verdict": verdict, "how_to_read": "Thus."}
    return Finding.model_validate(values | fields)


@pytest.mark.parametrize("place", [*DRAWN.values(), *QUOTED.values()])
def test_every_place_in_the_table_of_figures_exists(place: str) -> None:
    module, name = place.split(":")
    assert callable(getattr(import_module(f"audit.report.{module}"), name))


def test_a_clean_run_has_no_deviation(record: RunRecord) -> None:
    clean = record.model_copy(update={"provenance": record.provenance.model_copy(update={"dirty": False})})
    made = record.provenance.created
    opening = OpeningRecord(id=record.id, kind="traps", created=made, plan_sha256=record.plan_sha256)
    assert deviations_of(clean, Findings(sections=()), (clean.provenance,), opening) == ()


def test_each_departure_from_the_plan_is_told(record: RunRecord) -> None:
    """Of the findings, a second attempt with another version, uncommitted code, and an opening that was exchanged."""
    later = record.provenance.model_copy(update={"packages": {**record.provenance.packages, "numpy": "2.3.6"}})
    opening = OpeningRecord(id=record.id, kind="traps", created="2020-01-01T00:00:00+00:00", plan_sha256="0" * 64)
    found = Findings(sections=(), deviations=("Three rows were left out.",))
    told = deviations_of(record, found, (record.provenance, later), opening)
    assert told[0] == "Three rows were left out."
    assert "it took 2 attempts" in told[1]
    assert told[2] == "Between the first attempt and attempt 2 these changed: numpy from 2.3.5 to 2.3.6."
    assert "changes that were not committed" in told[3]
    assert "does not fit run.json: the plan, the moment when it began differ" in told[4]
    assert "There is no opening.json" in deviations_of(record, found, (record.provenance,), None)[-1]


def test_controls_calibrate_and_where_there_are_none_that_is_said(record: RunRecord) -> None:
    controls = finding("traps.controls", estimates={"auc_all": ESTIMATE})
    assert [one.id for one, _ in calibration(section("traps", finding("traps.overall"), controls))] == [
        "traps.controls"
    ]
    report = Report(record, Findings(sections=(section("traps", controls), section("steer"))))
    traps, steer = laid_out(report, LEVELS[0]).sections
    assert traps.calibration == (("Claim of traps.controls.", "auc_all 0.900 [0.800, 0.950], n 60", "Thus."),)
    assert traps.no_calibration == ""
    assert steer.calibration == ()
    assert steer.no_calibration.startswith("Not stated")


def test_a_finding_tells_its_power_or_that_none_is_stated(record: RunRecord) -> None:
    told = finding("a", "not found", power=ESTIMATE, power_for="an AUC of 0.7 with 60 members")
    others = (finding("b", "inconclusive"), finding("c", "found"), finding("d", "not found"))
    findings = Findings(sections=(section("traps", told, *others),))
    first, second, third, fourth = laid_out(Report(record, findings), LEVELS[0]).findings
    assert first.power == (
        "Power: the chance of seeing an AUC of 0.7 with 60 members is 0.900 [0.800, 0.950] (simulation of 2,000 "
        "audits)."
    )
    assert second.power == "Power: not stated for this finding."
    assert third.power == ""
    assert fourth.power == "Power: not stated for this finding; what it excludes, its intervals exclude."
    assert "power" not in VERDICT_WORDS["not found"][1]  # which is said of every "not found", stated or not
    assert "No p-value is given" in second.p_note


def table(name: str, *cells: object) -> Table:
    return Table.model_validate(
        {"name": name, "title": name, "columns": [{"key": "a", "label": "A"}], "rows": [{"a": cell} for cell in cells]}
    )


def test_tables_of_change_stand_apart_from_their_audits_section(record: RunRecord) -> None:
    told = section("unlearning", finding("a"), tables=(table("changes", ESTIMATE), table("cost", 1)))
    assert [one.name for one in before_and_after(told)] == ["changes"]
    page = laid_out(Report(record, Findings(sections=(told,))), LEVELS[0])
    assert [shown.title for _, shown, _ in page.sections[0].tables] == ["cost"]
    assert [shown.title for _, shown, _ in page.changes[0][1]] == ["changes"]
    html = render_html(Report(record, Findings(sections=(told,))))
    at = [html.index(f'<h2 id="{name}">') for name in ("summary", "findings", "a1", "changes", "deviations", "verify")]
    assert at == sorted(at)


@pytest.mark.parametrize("high", [0.6004, 0.59996])
def test_a_bound_near_a_limit_of_the_plan_is_told_from_it(record: RunRecord, high: float) -> None:
    near = ESTIMATE.model_copy(update={"value": 0.55, "low": 0.5, "high": high})
    planned = record.model_copy(update={"plan": {"traps": {"negligible_auc": 0.6}}})
    told = section("traps", finding("traps.overall", estimates={"auc": near}), tables=(table("aucs", near),))
    assert render_html(Report(planned, Findings(sections=(told,)))).count(f"{high}]") == 2


def test_every_table_with_numbers_says_how_to_read_them() -> None:
    assert "value [interval]" in reading(table("t", ESTIMATE))
    assert "without brackets" in reading(table("t", 3))
    assert reading(table("t", "word")) == ""


def test_quoted_columns_are_hidden_with_a_note() -> None:
    quoting = Table(
        name="flagged", title="Flagged", columns=(Column(key="id", label="Row"), Column(key="prompt", label="Prompt")),
        rows=({"id": "7", "prompt": "a secret"},),
    )  # fmt: skip
    hidden = without_quotes(Findings(sections=(section("eco", tables=(quoting,)),))).sections[0].tables[0]
    assert hidden.rows == ({"id": "7", "prompt": "[hidden]"},)
    assert "--show-text" in hidden.note


def test_a_loop_draws_its_audits_from_the_subjects_own_run(tmp_path: Path) -> None:
    inner = make_run(tmp_path / "loop" / "audits" / "subject", 200)
    traps = next(one for one in inner.findings().sections if one.audit == "traps")
    inner.folder.rename(tmp_path / "subject")
    (tmp_path / "loop" / "audits").rmdir()
    with Run.start(tmp_path / "loop", kind="remediation", plan={}, plan_text=None, command=()) as run:
        run.write_findings(Findings(sections=(section("remediation"), traps)))
        run.finish()
    (tmp_path / "loop" / "audits").mkdir()
    (tmp_path / "subject").rename(tmp_path / "loop" / "audits" / "subject")
    figures = read_report(Run.open(tmp_path / "loop")).figures
    assert [figure.id for figure in figures["traps"]] == ["auc", "tpr", "scores", "roc", "roc_log", "ranks"]
    assert figures["remediation"][0].panels == ()
