from __future__ import annotations

from itertools import combinations

import pytest

from audit.report.sections import GRAVITY, VERDICT_WORDS, in_plain_words, judged, overview
from audit.runs.schema import AuditSection, Finding, Findings, RunRecord, Verdict


def with_verdicts(*audits: tuple[Verdict, ...]) -> Findings:
    """One section per tuple of verdicts."""
    return Findings(sections=tuple(section(verdicts) for verdicts in audits))


def section(verdicts: tuple[Verdict, ...]) -> AuditSection:
    found = tuple(
        Finding(id=f"t.{at}", audit="t", claim=f"claim {at}", verdict=verdict, how_to_read="so")
        for at, verdict in enumerate(verdicts)
    )
    return AuditSection(audit="t", title="Traps", method="m", assumptions=(), cannot_show=(), findings=found)


def test_no_finding_is_no_result_and_not_a_pass() -> None:
    top = overview(Findings(sections=()))
    assert (top.verdict, top.label) == (None, "No result")
    assert "not a pass" in top.meaning


@pytest.mark.parametrize(("graver", "lighter"), list(combinations(GRAVITY, 2)))
def test_the_gravest_verdict_stands_on_top(graver: Verdict, lighter: Verdict) -> None:
    assert overview(with_verdicts((lighter,), (graver,), (lighter,))).verdict == graver


@pytest.mark.parametrize("verdict", ["inconclusive", "confounded"])
def test_an_open_question_never_reads_like_a_pass(verdict: Verdict) -> None:
    top = overview(with_verdicts(("not found",), (verdict, "not found")))
    assert top.verdict == verdict
    assert "not a pass" in VERDICT_WORDS[verdict][1]
    assert "not found" not in top.label.lower()


def test_the_box_quotes_the_gravest_findings_and_counts_the_rest() -> None:
    top = overview(
        with_verdicts(("information", "not found", "not found"), ("not found", "not found", "found", "inconclusive"))
    )
    assert [one.verdict for one in top.most_important] == ["found", "inconclusive", *["not found"] * 3]
    assert top.others == 2
    assert top.counts == (("Found", 1), ("Inconclusive", 1), ("Not found", 4), ("Information", 1))


def test_a_confounded_finding_takes_the_ground_from_its_whole_audit() -> None:
    top = overview(with_verdicts(("found", "not found", "information", "confounded")))
    assert top.verdict == "confounded"
    assert top.counts == (("Confounded", 3), ("Information", 1))
    assert [one.finding.verdict for one in top.most_important] == ["confounded"]


def test_a_confounded_audit_leaves_other_audits_alone() -> None:
    top = overview(with_verdicts(("found", "confounded"), ("found",)))
    assert top.counts == (("Found", 1), ("Confounded", 2))
    assert [one.remark for one in top.most_important] == ["", ""]


def test_a_verdict_that_does_not_hold_says_why() -> None:
    found, control, confounded = judged(section(("found", "information", "confounded")))
    assert found.remark == (
        'By itself this finding says "found", but another finding of the same audit is confounded, so its numbers '
        "are no evidence."
    )
    assert (control.remark, confounded.remark) == ("", "")


def test_the_plain_paragraph_of_a_confounded_audit_finds_nothing(record: RunRecord) -> None:
    words = in_plain_words(record, with_verdicts(("found", "confounded")))
    assert "the effect was found" not in words
    assert "in 2 another explanation fits as well" in words


def test_the_plain_paragraph_counts_each_outcome(record: RunRecord, findings: Findings) -> None:
    words = in_plain_words(record, findings)
    assert words.startswith(
        'On 2026-03-01 (UTC) the software Palimpsest, version 0.1.0, examined the model "out/subject"'
    )
    assert "carried out: a test for copyright traps" in words
    assert "It reached 3 findings: in 1 the effect was found; in 1 the evidence was too weak" in words
    assert "95% range of uncertainty" in words
    assert "It does not show how text came into training data" in words


def test_the_plain_paragraph_explains_p_values_only_where_there_are_any(record: RunRecord) -> None:
    assert "p-value" not in in_plain_words(record, with_verdicts(("found",)))


def test_an_incomplete_run_is_called_so(record: RunRecord, findings: Findings) -> None:
    running = record.model_copy(update={"status": "running"})
    assert "has not ended" in in_plain_words(running, findings)
