from __future__ import annotations

from audit.report.text import summary_text
from audit.runs.schema import AuditSection, EstimateRecord, Finding, Findings


def one(finding: Finding, *limitations: str) -> Findings:
    section = AuditSection(audit="t", title="Traps", method="m", assumptions=(), cannot_show=(), findings=(finding,))
    return Findings(sections=(section,), limitations=limitations)


def finding(**changes: object) -> Finding:
    values: dict[str, object] = {
        "id": "t.a",
        "audit": "t",
        "claim": "Members score above decoys.",
        "verdict": "found",
        "estimates": {
            "AUC": EstimateRecord(value=0.95312, low=0.92146, high=0.97333, level=0.95, n=40, method="DeLong"),
            "TPR at 1%": EstimateRecord(
                value=None, low=None, high=None, level=0.95, n=40, method="bootstrap", why="40 decoys are too few"
            ),
        },
        "how_to_read": "0.5 is chance.",
    }
    return Finding.model_validate({**values, **changes})


def test_numbers_stand_in_columns_below_their_claim() -> None:
    assert summary_text(one(finding(), "One seed.")).splitlines() == [
        "FOUND: The effect that was tested for is there.",
        "",
        "Traps",
        "",
        "  FOUND         Members score above decoys.",
        "                AUC        0.953 [0.921, 0.973]  n 40",
        "                TPR at 1%  not estimable         n 40",
        "                  why: 40 decoys are too few",
        "                0.5 is chance.",
        "",
        "Limitations",
        "  - One seed.",
    ]


def test_no_control_character_reaches_the_terminal() -> None:
    hostile = "\x1b]0;pwned\x07\u202e\x9b2J\r\x00"
    text = summary_text(one(finding(claim=hostile, how_to_read=hostile, estimates={}), hostile))
    assert all(character == "\n" or character.isprintable() for character in text)


def test_a_long_claim_is_wrapped() -> None:
    lines = summary_text(one(finding(claim="word " * 200))).splitlines()
    assert max(map(len, lines)) <= 100


def test_an_empty_result_is_not_a_pass() -> None:
    assert summary_text(Findings(sections=())).startswith("NO RESULT: Nothing was concluded.")
    empty = AuditSection(audit="t", title="Traps", method="m", assumptions=(), cannot_show=(), findings=())
    assert "no finding: this is not a pass" in summary_text(Findings(sections=(empty,)))


def test_a_found_effect_beside_a_confounded_one_is_not_announced_as_found() -> None:
    section = one(finding()).sections[0]
    both = section.model_copy(update={"findings": (finding(), finding(verdict="confounded"))})
    text = summary_text(Findings(sections=(both,)))
    assert "FOUND " not in text
    assert text.count('By itself this finding says "found"') == 1
