"""Every format holds to its published schema, and keeps hostile text inert."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from lxml import etree

from audit.gates.formats.github import as_github
from audit.gates.formats.junit import as_junit
from audit.gates.formats.plain import plain
from audit.gates.formats.sarif import as_sarif
from audit.gates.formats.text import as_text, explain_text
from audit.gates.policy import LoadedPolicy
from audit.gates.result import GateResult
from audit.gates.verdict import gate
from tests.gates.made import estimate, finding, findings, p_value, policy_of, power, rule, run_of

SCHEMAS = Path(__file__).parent / "schemas"
TODAY = date(2026, 11, 28)
HOSTILE = (
    "\x1b[2J\x1b]0;title\x07 \x9b31m red\r\n::error file=x::gone\n##[error]x ##vso[task.complete]##teamcity[x] "
    "\u202egnp.exe \u2066 \ufffe\uffff\x00\x0b <script>alert(1)</script> ]]> &amp; %0A::stop-commands::x "
    "\u2028::set-env::"
)
BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\ufffe\uffff]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateResult, LoadedPolicy]:
    """One rule for each outcome; hostile text in titles, clauses, waivers, claims, estimates' whys and names."""
    folder = tmp_path_factory.mktemp("gate")
    auc = {"direction": "at_most", "limit": 0.6, "unit": "auc"}
    text = "".join(
        [
            rule(id="passes", estimate="a/auc", **auc, title=HOSTILE, clause=HOSTILE, not_covered=HOSTILE),
            rule(id="breached", estimate="b/auc", **auc),
            rule(id="inconclusive", estimate="c/auc", **auc),
            rule(id="missing", estimate=HOSTILE + "/x", **auc),
            rule(id="waived", estimate="b/auc", **auc),
            rule(id="skipped", estimate="no/auc", **auc, on_missing="skip"),
            rule(id="warned", estimate="b/auc", **auc, severity="warn"),
            rule(id="verdict", estimate="d*/verdict", one_of=["not found"]),
            rule(id="p", estimate="a/p:*", min_power=0.8, max_effect=0.6),
            rule(id="clause", severity="info", clause="1.5", not_covered="All of it."),
            '[[waivers]]\nrule = "waived"\nexpires = "2026-12-31"\n',
            rule(reason=HOSTILE, approver=HOSTILE).split("\n", 3)[3],
        ]
    )
    run = run_of(
        folder / "run",
        findings(
            finding(
                "a",
                "not found",
                estimates={"auc": estimate(0.5, 0.4, 0.55)},
                p_values={HOSTILE.replace("/", "|"): p_value(0.9)},
                power=power(0.5),
                power_for=HOSTILE,
            ),
            finding("b", "found", estimates={"auc": estimate(0.9, 0.8, 1.0)}),
            finding("c", estimates={"auc": estimate(0.5, None, None, why=HOSTILE)}),
            finding(f"d{HOSTILE.replace('/', '|')}", "found", claim=HOSTILE * 40),
        ),
    )
    loaded = policy_of(folder, text)
    return gate([run], loaded, today=TODAY), loaded


def test_the_made_result_has_every_outcome(made: tuple[GateResult, LoadedPolicy]) -> None:
    outcomes = {one.outcome for one in made[0].rules}
    assert outcomes == {"pass", "breached", "inconclusive", "missing", "waived", "skipped", "not assessed"}


def test_junit_holds_to_the_schema_with_a_case_for_each_rule(made: tuple[GateResult, LoadedPolicy]) -> None:
    result, _ = made
    text = as_junit(result)
    tree = etree.fromstring(text.encode())
    etree.XMLSchema(etree.parse(SCHEMAS / "junit-10.xsd")).assertValid(tree)
    cases = {case.get("name"): case for case in tree.iter("testcase")}
    assert list(cases) == [*(one.id for one in result.rules), "policy.verdict"]
    kinds = {name: [child.tag for child in case] for name, case in cases.items()}
    assert kinds["passes"] == ["system-out"]
    assert kinds["breached"] == kinds["missing"] == kinds["verdict"] == ["failure"]
    assert kinds["inconclusive"] == kinds["p"] == ["error"]
    for name in ("waived", "skipped", "warned", "clause"):  # told, and no reason for a pipeline to go red
        assert kinds[name] == ["skipped"]
    (suite,) = tree.iter("testsuite")
    assert kinds["policy.verdict"] == ["error"]
    assert (suite.get("failures"), suite.get("errors")) == ("3", "3")
    assert "Not covered: All of it." in text
    assert not BAD.search(text)
    assert tree.find(".//script") is None


def test_junit_goes_red_where_nothing_was_tested(tmp_path: Path) -> None:
    """All skipped: without the verdict's own case nothing would be red."""
    skipped = rule(estimate="no/auc", direction="at_most", limit=0.6, unit="auc", on_missing="skip")
    run = run_of(tmp_path / "run", findings(finding("a", "not found", estimates={"auc": estimate(0.5, 0.4, 0.55)})))
    result = gate([run], policy_of(tmp_path, skipped), today=TODAY)
    (suite,) = etree.fromstring(as_junit(result).encode()).iter("testsuite")
    assert (result.exit_code, suite.get("failures"), suite.get("errors")) == (4, "0", "1")
    held = gate([run], policy_of(tmp_path, skipped.replace("no/auc", "a/auc")), today=TODAY)
    (suite,) = etree.fromstring(as_junit(held).encode()).iter("testsuite")
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")


def test_whose_reading_a_policy_is_stands_in_every_format(made: tuple[GateResult, LoadedPolicy]) -> None:
    result, loaded = made
    for text in (as_text(result), as_junit(result), as_github(result, loaded.path), as_sarif(result, loaded.path)):
        assert "Ours, for tests." in text
        assert result.policy.sha256 in text


def test_sarif_holds_to_the_schema_and_points_at_the_rules(made: tuple[GateResult, LoadedPolicy]) -> None:
    result, loaded = made
    text = as_sarif(result, Path("policies/my policy#1.toml"))
    log = json.loads(text)
    Draft4Validator(json.loads((SCHEMAS / "sarif-2.1.0.json").read_text(encoding="utf-8"))).validate(log)
    lines = loaded.path.read_text(encoding="utf-8").split("\n")
    (run,) = log["runs"]
    for one in run["results"]:
        assert run["tool"]["driver"]["rules"][one["ruleIndex"]]["id"] == one["ruleId"]
        where = one["locations"][0]["physicalLocation"]
        assert where["artifactLocation"]["uri"] == "policies/my%20policy%231.toml"
        if not one["ruleId"].startswith("policy."):
            assert lines[where["region"]["startLine"] - 1] == f'id = "{one["ruleId"]}"'
        assert one["kind"] == "fail" or one["level"] == "none"  # the specification, 3.27.10
    kinds = {one["ruleId"]: (one["kind"], one["level"]) for one in run["results"]}
    assert kinds["breached"] == kinds["missing"] == ("fail", "error")
    assert kinds["inconclusive"] == ("open", "none")
    assert kinds["warned"] == ("fail", "warning")
    waived = next(one for one in run["results"] if one["ruleId"] == "waived")
    assert waived["suppressions"][0]["status"] == "accepted"
    assert run["invocations"][0]["exitCode"] == 1
    assert not any(BAD.search(value) for value in strings(log))


def test_fingerprints_stay_when_a_rule_moves_and_differ_between_rules(
    made: tuple[GateResult, LoadedPolicy],
) -> None:
    result, _ = made

    def prints(of: GateResult) -> dict[str, str]:
        results = json.loads(as_sarif(of, Path("p.toml")))["runs"][0]["results"]
        return {one["ruleId"]: one["partialFingerprints"]["palimpsestRule/v1"] for one in results}

    moved = result.model_copy(
        update={"rules": tuple(one.model_copy(update={"line": 99, "reason": "x"}) for one in result.rules)}
    )
    assert prints(result) == prints(moved)
    assert len(set(prints(result).values())) == len(result.rules)


def test_annotations_are_one_command_a_line_and_come_back_whole(made: tuple[GateResult, LoadedPolicy]) -> None:
    result, _ = made
    text = as_github(result, Path("a,b:c%.toml"))
    shape = re.compile(r"::(error|warning|notice) file=([^,:]*),line=(\d+),title=([^,:]*)::(.*)")
    read = [shape.fullmatch(line) for line in text.removesuffix("\n").split("\n")]
    assert all(read)
    assert {one[2] for one in read if one} == {"a%2Cb%3Ac%25.toml"}
    levels = {one[4].split("%3A")[0]: one[1] for one in read if one}
    assert levels["breached"] == levels["missing"] == levels["inconclusive"] == "error"
    assert levels["warned"] == "warning"
    assert levels["waived"] == levels["skipped"] == "notice"
    assert "passes" not in levels
    assert not any("::" in one[5] or BAD.search(one[5]) for one in read if one)


@pytest.mark.parametrize("which", ["text", "explain"])
def test_the_terminal_gets_no_escape_and_no_command_of_a_runner(
    made: tuple[GateResult, LoadedPolicy], which: str
) -> None:
    result, _ = made
    text = as_text(result) if which == "text" else "".join(map(explain_text, result.rules))
    assert not BAD.search(text)
    for line in text.split("\n"):
        assert not line.lstrip().startswith("::")
        assert "##" not in line
        assert len(line) <= 100
    assert "not assessed: 1.5" in text
    assert "complian" not in text


def test_json_is_canonical_and_ascii(made: tuple[GateResult, LoadedPolicy]) -> None:
    text = made[0].canonical()
    assert text.isascii()
    assert json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n" == text
    assert not BAD.search(text)
    assert {"verdict", "rules"} <= json.loads(text).keys()


@given(st.text(max_size=200))
def test_plain_text_is_one_line_that_steers_nothing(text: str) -> None:
    found = plain(text)
    assert "\n" not in found
    assert "::" not in found
    assert "##" not in found
    assert not BAD.search(found)
    etree.fromstring(f"<x>{found.replace('&', '').replace('<', '')}</x>")
    found.encode()


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []
