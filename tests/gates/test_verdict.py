"""A whole policy over runs: verdicts, exit codes, waivers, what is asked of the runs themselves."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from audit.errors import DataError, IncompleteRunError, InputError
from audit.gates.formats.text import as_text
from audit.gates.result import GateResult
from audit.gates.verdict import gate
from audit.runs.schema import Findings, SelfTestRecord
from audit.runs.store import Run
from tests.gates.made import estimate, finding, findings, p_value, policy_of, power, rule, run_of

TODAY = date(2026, 11, 28)
AUC = {"estimate": "traps.copies_*/auc", "direction": "at_most", "limit": 0.6, "unit": "auc"}
VERDICT = {"id": "v", "estimate": "traps.overall/verdict", "one_of": ["not found"]}
P = {"id": "p", "estimate": "traps.copies_*/p:arm", "min_power": 0.8, "max_effect": 0.6}
CLEAR, UNSURE, OVER = (0.5, 0.45, 0.55), (0.5, 0.4, 0.65), (0.9, 0.85, 0.95)


def traps(*aucs: tuple[float, float, float], verdict: str = "not found", p: float = 0.5) -> Findings:
    return findings(
        finding("traps.overall", verdict),
        *(
            finding(
                f"traps.copies_{4**place}",
                verdict,
                estimates={"auc": estimate(*auc)},
                p_values={"arm": p_value(p)},
                power=power(0.9),
            )
            for place, auc in enumerate(aucs)
        ),
    )


def judged(tmp_path: Path, text: str, made: Findings, **more: Any) -> GateResult:
    run = run_of(tmp_path / "run", made, **more)
    return gate([run], policy_of(tmp_path, text), today=TODAY)


def outcomes(result: GateResult) -> dict[str, str]:
    return {one.id: one.outcome for one in result.rules}


@pytest.mark.parametrize(
    ("aucs", "verdict", "code"),
    [
        ((CLEAR, CLEAR), "pass", 0),
        ((CLEAR, UNSURE), "inconclusive", 4),
        ((OVER, UNSURE), "breached", 1),
        ((CLEAR, OVER), "breached", 1),
    ],
)
def test_every_match_of_a_rule_must_hold(tmp_path: Path, aucs: Any, verdict: str, code: int) -> None:
    result = judged(tmp_path, rule(**AUC), traps(*aucs))
    assert (result.verdict, result.exit_code) == (verdict, code)
    assert len(next(one for one in result.rules if one.id == "r").tests) == 2


@pytest.mark.parametrize(
    ("on_missing", "verdict", "outcome"),
    [("fail", "breached", "missing"), ("inconclusive", "inconclusive", "missing"), ("skip", "inconclusive", "skipped")],
)
def test_what_is_missing_never_passes_and_the_nearest_is_named(
    tmp_path: Path, on_missing: str, verdict: str, outcome: str
) -> None:
    result = judged(tmp_path, rule(**AUC | {"estimate": "traps.copies_2/auc"}, on_missing=on_missing), traps(CLEAR))
    assert result.verdict == verdict
    assert outcomes(result)["r"] == outcome
    assert "Did you mean 'traps.copies_1/auc'?" in next(one.reason for one in result.rules if one.id == "r")


@pytest.mark.parametrize("keys", [{"estimate": "traps.copies_*/auroc"}, {"estimate": "traps.copies_1/auk"}, {
    "reference": "gold/auc", "direction": "between", "limits": [-0.2, 0.2], "limit": None}])  # fmt: skip
def test_what_is_mistyped_is_not_skipped(tmp_path: Path, keys: dict[str, Any]) -> None:
    """The audit was run: only its estimate, or what it is compared with, is not there."""
    given = {key: value for key, value in (AUC | keys).items() if value is not None}
    result = judged(tmp_path, rule(**given, on_missing="skip") + rule(**VERDICT), traps(OVER))
    assert (result.verdict, outcomes(result)["r"]) == ("inconclusive", "missing")


def test_a_pattern_that_matches_nothing_is_missing(tmp_path: Path) -> None:
    result = judged(tmp_path, rule(**AUC | {"estimate": "extraction.*/rate"}), traps(CLEAR))
    assert result.verdict == "breached"
    assert outcomes(result)["r"] == "missing"


def test_warnings_do_not_block_and_alone_are_no_pass(tmp_path: Path) -> None:
    warn = rule(**AUC, severity="warn")
    assert judged(tmp_path, warn + rule(**VERDICT), traps(OVER)).verdict == "pass"
    skipped = rule(**VERDICT | {"estimate": "x/verdict"}, on_missing="skip")
    result = gate([tmp_path / "run"], policy_of(tmp_path, warn + skipped), today=TODAY)
    assert (result.verdict, result.exit_code) == ("inconclusive", 4)
    assert "No blocking rule was tested and held" in result.summary


def test_a_finding_that_makes_no_claim_is_passed_by_where_a_pattern_names_many(tmp_path: Path) -> None:
    made = findings(finding("remediation.npo", "not found"), finding("remediation.subject", "information"))
    text = rule(estimate="remediation.*/verdict", one_of=["not found"])
    assert judged(tmp_path, text, made).verdict == "pass"
    named = rule(estimate="remediation.subject/verdict", one_of=["not found"])
    assert gate([tmp_path / "run"], policy_of(tmp_path, named), today=TODAY).verdict == "inconclusive"


def test_holm_is_over_all_p_values_of_blocking_rules(tmp_path: Path) -> None:
    """p = 0.02 alone is a breach; over 4 p-values it is 0.08, and none."""
    made = traps(CLEAR, p=0.02)
    assert judged(tmp_path, rule(**P), made).verdict == "breached"
    four = traps(CLEAR, CLEAR, CLEAR, CLEAR, p=0.02)
    result = gate([run_of(tmp_path / "four", four)], policy_of(tmp_path, rule(**P)), today=TODAY)
    assert result.verdict == "pass"
    assert {one.p_corrected for one in result.rules[-1].tests} == {0.08}
    assert (result.family.p_values, result.family.alpha) == (4, 0.05)


def test_a_breach_stays_one_beside_runs_without_a_trace(tmp_path: Path) -> None:
    """p = 0.02 in one run: three runs with nothing in them do not make it 0.08."""
    breached = run_of(tmp_path / "run", traps(CLEAR, p=0.02))
    clean = [run_of(tmp_path / f"clean-{place}", traps(CLEAR, p=0.9)) for place in range(3)]
    result = gate([breached, *clean], policy_of(tmp_path, rule(**P)), today=TODAY)
    assert result.verdict == "breached"
    assert (result.family.p_values, result.family.runs_with_p_values) == (4, 4)
    assert "run by run" in as_text(result)
    assert "for each run" in as_text(result)


def test_two_things_under_one_address_are_refused(tmp_path: Path) -> None:
    """Else a harmless p-value would take the place of the one that breaches."""
    loaded = policy_of(tmp_path, rule(**P))
    for place, ps in enumerate(((0.001, 0.9), (0.9, 0.001))):
        twice = findings(*(finding("traps.copies_1", p_values={"arm": p_value(p)}, power=power(0.9)) for p in ps))
        with pytest.raises(DataError, match="has the address 'traps.copies_1/verdict' twice"):
            gate([run_of(tmp_path / f"run-{place}", twice)], loaded, today=TODAY)


def test_one_confounded_finding_takes_the_ground_from_under_its_audit(tmp_path: Path) -> None:
    """Estimates, p-values and verdicts beside it pass no rule and breach none; checks of the instrument stand."""
    made = findings(
        finding("traps.overall", "confounded"),
        finding("traps.copies_1", "not found", estimates={"auc": estimate(*CLEAR)}, p_values={"arm": p_value(0.5)},
                power=power(0.9)),
        finding("traps.copies_4", "found", estimates={"auc": estimate(*OVER)}, p_values={"arm": p_value(0.001)},
                power=power(0.9)),
        finding("traps.all", estimates={"auc": estimate(*CLEAR)}),
        finding("traps.controls", estimates={"auc": estimate(*CLEAR)}),
    )  # fmt: skip
    text = rule(**AUC) + rule(**P) + rule(**VERDICT | {"estimate": "traps.copies_*/verdict"})
    text += rule(**AUC | {"estimate": "traps.all/auc"}, id="all")
    text += rule(**AUC | {"estimate": "traps.controls/auc"}, id="controls")
    result = judged(tmp_path, text, made)
    told = outcomes(result)
    assert {told[one] for one in ("r", "p", "v", "all")} == {"inconclusive"}
    assert told["controls"] == "pass"
    assert all(one.outcome == "inconclusive" for of in result.rules if of.id in ("r", "p", "v") for one in of.tests)


def test_the_errors_that_interval_rules_make_are_told(tmp_path: Path) -> None:
    family = judged(tmp_path, rule(**AUC), traps(CLEAR, CLEAR, CLEAR)).family
    assert (family.intervals, family.false_block_by_intervals, family.false_pass) == (3, 0.075, 0.025)
    waived = rule(**AUC) + rule(**P) + rule(**VERDICT) + waiver() + waiver(rule="p")
    result = gate([tmp_path / "run"], policy_of(tmp_path, waived), today=TODAY)
    assert (result.family.intervals, result.family.p_values) == (0, 0)


# Waivers


def waiver(**keys: str) -> str:
    given = {
        "rule": "r",
        "reason": "Known, and mended in March.",
        "approver": "A. Person",
        "expires": "2026-12-31",
    } | keys
    return "[[waivers]]\n" + "".join(f'{key} = "{value}"\n' for key, value in given.items())


@pytest.mark.parametrize(
    ("keys", "applied", "why"),
    [
        ({}, True, "Applied"),
        ({"expires": "2026-11-28"}, True, "Applied"),
        ({"expires": "2026-11-27"}, False, "Not applied: it expired on 2026-11-27."),
        ({"run": "audit-of-another-day"}, False, "it is for the run 'audit-of-another-day' alone"),
        ({"model": "a" * 64}, True, "Applied"),
        ({"model": "b" * 64}, False, "it is for the model bbbbbbbbbbbb... alone"),
    ],
)
def test_a_waiver_counts_until_its_day_for_its_run_and_model(
    tmp_path: Path, keys: dict[str, str], applied: bool, why: str
) -> None:
    result = judged(tmp_path, rule(**AUC) + rule(**VERDICT) + waiver(**keys), traps(OVER))
    assert result.verdict == ("pass" if applied else "breached")
    assert outcomes(result)["r"] == ("waived" if applied else "breached")
    assert result.waivers[0].applied is applied
    assert why in result.waivers[0].why
    if applied:
        reason = next(one.reason for one in result.rules if one.id == "r")
        assert "by A. Person: Known, and mended in March. It was breached: traps.copies_1/auc is 0.9" in reason


def test_no_day_before_the_run_brings_an_expired_waiver_back(tmp_path: Path) -> None:
    loaded = policy_of(tmp_path, rule(**AUC) + rule(**VERDICT) + waiver(expires="2026-11-26"))
    run = run_of(tmp_path / "run", traps(OVER))
    assert gate([run], loaded, today=TODAY).verdict == "breached"
    with pytest.raises(InputError, match="was made on 2026-11-27. Give that day or a later one"):
        gate([run], loaded, today=date(2026, 11, 26))


def test_waivers_alone_make_no_pass(tmp_path: Path) -> None:
    result = judged(tmp_path, rule(**AUC) + waiver(), traps(OVER))
    assert result.verdict == "inconclusive"
    assert result.summary == "No blocking rule was tested and held, which is no pass. 1 rule waived."


def test_a_waiver_that_is_not_needed_is_told(tmp_path: Path) -> None:
    result = judged(tmp_path, rule(**AUC) + waiver(), traps(CLEAR))
    assert result.verdict == "pass"
    assert result.waivers[0].why == "Not needed: the rule did not fail."


# What is asked of the runs


def self_test(**keys: Any) -> SelfTestRecord:
    given = {"moment": "2026-11-20T12:00:00+00:00", "palimpsest": "0.1.0", "commit": "c", "passed": True,
             "instruments": dict.fromkeys(("statistics", "log-probabilities", "traps"), True),
             "sha256": "0" * 64}  # fmt: skip
    return SelfTestRecord(**given | keys)


ASKED = "[self_test]\nrequired = true\nmax_age_days = 30\n"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (self_test(), None),
        (None, "no self-test of this code on that machine stood"),
        (self_test(passed=False), "the self-test of 2026-11-20T12:00:00+00:00 failed"),
        (self_test(instruments={"traps": True, "eco": False}), "failed (eco)"),
        (self_test(instruments={}), "names no instrument"),
        (self_test(moment="2026-10-18T12:00:00+00:00"), "40.0 days old when the run began; at most 30"),
        (self_test(moment="2026-11-29T13:00:00+00:00"), "is not from before the run"),
        (self_test(moment="yesterday"), "is not from before the run"),
        (self_test(commit="d"), "is of other code (0.1.0, d)"),
    ],
)
def test_a_self_test_that_is_asked_for_must_have_passed_in_time(tmp_path: Path, found: Any, said: str | None) -> None:
    run = run_of(tmp_path / "run", traps(CLEAR))
    made = Run.open(run).record.provenance
    changed = {"palimpsest": "0.1.0", "commit": "c"}
    record = {"self_test": found, "provenance": made.model_copy(update=changed)}
    run = run_of(tmp_path / "other", traps(CLEAR), record=record)
    result = gate([run], policy_of(tmp_path, ASKED + rule(**AUC)), today=TODAY)
    assert (result.verdict, result.exit_code) == (("pass", 0) if said is None else ("self-test failed", 5))
    assert said is None or said in result.rules[0].reason
    assert outcomes(result)["r"] == "pass"  # the rules are told all the same


def test_a_self_test_that_failed_counts_though_nobody_asks(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", traps(CLEAR), record={"self_test": self_test(passed=False)})
    assert gate([run], policy_of(tmp_path, rule(**AUC)), today=TODAY).exit_code == 5


@pytest.mark.parametrize("demand", ["fail", "note"])
def test_the_policy_that_was_named_before_scoring_is_compared(tmp_path: Path, demand: str) -> None:
    loaded = policy_of(tmp_path, f'require_preregistered = "{demand}"\n' + rule(**AUC))
    for name, sha256, said in (
        ("same", loaded.sha256, None),
        ("none", None, "no policy was named before scoring"),
        ("other", "f" * 64, "another policy was named before scoring (ffffffffffff..."),
    ):
        run = run_of(tmp_path / name, traps(CLEAR), policy_sha256=sha256)
        result = gate([run], loaded, today=TODAY)
        one = next(one for one in result.rules if one.id == "policy.preregistered")
        assert result.verdict == ("breached" if said and demand == "fail" else "pass")
        assert said is None or said in one.reason
    run = run_of(tmp_path / "later", traps(CLEAR), record={"policy_sha256": loaded.sha256})  # written in afterwards
    one = next(one for one in gate([run], loaded, today=TODAY).rules if one.id == "policy.preregistered")
    assert "opening.json does not say" in one.reason


def test_a_seal_is_asked_for_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    from audit.runs.seal.make import seal_run

    run = run_of(tmp_path / "run", traps(CLEAR))
    loaded = policy_of(tmp_path, 'require_seal = "fail"\n' + rule(**AUC))
    assert gate([run], loaded, today=TODAY).verdict == "breached"
    seal_run(run)
    result = gate([run], loaded, today=TODAY)
    assert result.verdict == "pass"
    assert result.runs[0].seal == "sealed, as it was"
    head = result.runs[0].head
    assert head is not None
    assert f"head {head}" in as_text(result)
    pinned = gate([run], loaded, today=TODAY, heads=[head])
    assert pinned.runs[0].seal == "sealed, as it was, with the head that was given"
    with pytest.raises(DataError, match="not the one that was given"):
        gate([run], loaded, today=TODAY, heads=["0" * 64])
    with pytest.raises(InputError, match="2 heads for 1 run"):
        gate([run], loaded, today=TODAY, heads=[head, head])
    content = (run / "findings.json").read_text(encoding="utf-8")
    (run / "findings.json").write_text(content.replace("0.55", "0.45"), encoding="utf-8")
    with pytest.raises(DataError, match=r"is not as it was sealed(.|\n)*'findings.json' was changed"):
        gate([run], loaded, today=TODAY)


def test_a_seal_that_was_taken_away_is_no_run_without_one(tmp_path: Path) -> None:
    from audit.runs.seal.make import seal_run

    run = run_of(tmp_path / "run", traps(CLEAR))
    seal_run(run)
    (run / "seal.json").unlink()
    with pytest.raises(DataError, match="sealed once and the seal was taken away"):
        gate([run], policy_of(tmp_path, rule(**AUC)), today=TODAY)


def test_an_opening_of_another_moment_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", traps(CLEAR))
    content = (run / "opening.json").read_text(encoding="utf-8")
    (run / "opening.json").write_text(content.replace("2026-11-27", "2026-11-01"), encoding="utf-8")
    with pytest.raises(DataError, match="opening.json is of another run, plan or moment"):
        gate([run], policy_of(tmp_path, rule(**AUC)), today=TODAY)


def test_an_audit_that_was_not_run_is_named_and_no_other_offered_in_its_place(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", traps(CLEAR))
    asked = rule(id="x", estimate="extraction.overall/verdict", one_of=["not found"])
    reason = gate([run], policy_of(tmp_path, asked), today=TODAY).rules[-1].reason
    assert "None of them holds an audit 'extraction'" in reason
    assert "traps.overall" not in reason
    typo = rule(id="y", estimate="traps.ovrall/verdict", one_of=["not found"])
    reason = gate([run], policy_of(tmp_path, typo), today=TODAY).rules[-1].reason
    assert "Did you mean 'traps.overall/verdict'?" in reason


def test_a_long_claim_is_cut_between_its_parts_and_never_inside_a_number(tmp_path: Path) -> None:
    claim = "; ".join(f"measure {number} of the answers 0.68 [0.60, 0.74] (n 12)" for number in range(9))
    told = findings(finding("traps.overall", "found").model_copy(update={"claim": claim}))
    asked = rule(id="x", estimate="traps.overall/verdict", one_of=["not found"])
    reason = gate([run_of(tmp_path / "run", told)], policy_of(tmp_path, asked), today=TODAY).rules[-1].reason
    assert "(n 12) (and more, in the report)." in reason
    assert reason.count("[") == reason.count("]")


def test_runs_of_unknown_weights_are_not_one_model(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, traps(CLEAR), record={"subjects": {}}) for name in ("one", "two")]
    loaded = policy_of(tmp_path, rule(**AUC))
    assert gate(runs[:1], loaded, today=TODAY).verdict == "pass"
    with pytest.raises(InputError, match=r"may be of different models \(weights not recorded and not recorded\)"):
        gate(runs, loaded, today=TODAY)
    assert gate(runs, loaded, today=TODAY, different_models=True).verdict == "pass"


@pytest.mark.parametrize("role", ["subject", "model", "baseline"])
def test_the_model_is_the_one_that_the_run_speaks_of_in_whatever_role(tmp_path: Path, role: str) -> None:
    subjects = {role: {"model": "m", "fingerprint": {"weights": "c" * 64}}, "reference": {"model": "r"}}
    run = run_of(tmp_path / "run", traps(CLEAR), record={"subjects": subjects})
    assert gate([run], policy_of(tmp_path, rule(**AUC)), today=TODAY).runs[0].model_weights == "c" * 64


def test_a_run_that_has_not_ended_and_one_that_is_none(tmp_path: Path) -> None:
    loaded = policy_of(tmp_path, rule(**AUC))
    run = run_of(tmp_path / "run", traps(CLEAR), finished=False)
    with pytest.raises(IncompleteRunError, match=r"has not ended \(interrupted\), so there is nothing to judge"):
        gate([run], loaded, today=TODAY)
    with pytest.raises(InputError, match="there is no run folder at"):
        gate([tmp_path / "rum"], loaded, today=TODAY)
    with pytest.raises(InputError, match="no run was named"):
        gate([], loaded, today=TODAY)


def test_a_number_that_json_turns_into_infinity_never_passes(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", traps(CLEAR))
    content = json.loads((run / "findings.json").read_text(encoding="utf-8"))
    content["sections"][0]["findings"][1]["estimates"]["auc"]["low"] = "LOW"
    (run / "findings.json").write_text(json.dumps(content).replace('"LOW"', "-1e999"), encoding="utf-8")
    result = gate([run], policy_of(tmp_path, rule(**AUC)), today=TODAY)
    assert result.verdict == "breached"
    assert result.rules[-1].reason == "traps.copies_1/auc: its low is -inf, which is no finite number."


def test_runs_are_judged_together_and_must_be_of_one_model(tmp_path: Path) -> None:
    loaded = policy_of(
        tmp_path, rule(**AUC) + rule(id="x", estimate="extraction.overall/verdict", one_of=["not found"])
    )
    one = run_of(tmp_path / "one", traps(CLEAR))
    two = run_of(tmp_path / "two", findings(finding("extraction.overall", "not found")))
    assert gate([one], loaded, today=TODAY).verdict == "breached"
    assert gate([one, two], loaded, today=TODAY).verdict == "pass"
    worse = run_of(tmp_path / "worse", traps(OVER))
    assert gate([one, two, worse], loaded, today=TODAY).verdict == "breached"
    with pytest.raises(InputError, match="are the same run. Name it once"):
        gate([one, one], loaded, today=TODAY)
    other = run_of(tmp_path / "other", findings(finding("extraction.overall", "not found")), model="other")
    with pytest.raises(InputError, match=r"are of different models \(weights aaaaaaaaaaaa... and bbbbbbbbbbbb...\)"):
        gate([one, other], loaded, today=TODAY)
    assert gate([one, other], loaded, today=TODAY, different_models=True).verdict == "pass"


def test_two_gates_on_one_run_give_the_same_bytes(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", traps(CLEAR, UNSURE, OVER, p=0.01))
    loaded = policy_of(tmp_path, rule(**AUC) + rule(**P) + rule(**VERDICT) + waiver())
    first, second = (gate([run], loaded, today=TODAY).canonical() for _ in range(2))
    assert first == second
    read = GateResult.model_validate_json(first)
    assert read.canonical() == first


@pytest.mark.parametrize("on_missing", ["skip", "inconclusive", "fail"])
def test_an_audit_that_was_run_is_not_skipped_by_a_mistyped_finding(tmp_path: Path, on_missing: str) -> None:
    """extraction.overal/verdict: the audit is there, its finding's name is not."""
    made = findings(finding("extraction.overall", "found"), finding("traps.overall", "not found"))
    mistyped = rule(id="x", estimate="extraction.overal/verdict", one_of=["not found"], on_missing=on_missing)
    result = judged(tmp_path, mistyped + rule(**VERDICT), made)
    assert outcomes(result)["x"] == "missing"
    assert result.verdict == ("breached" if on_missing == "fail" else "inconclusive")
    absent = rule(id="x", estimate="membership.overall/verdict", one_of=["not found"], on_missing="skip")
    result = gate([tmp_path / "run"], policy_of(tmp_path, absent + rule(**VERDICT)), today=TODAY)
    assert (result.verdict, outcomes(result)["x"]) == ("pass", "skipped")  # that audit was not run


@pytest.mark.parametrize(("on_missing", "outcome"), [("fail", "missing"), ("skip", "inconclusive")])
def test_a_pattern_looks_at_every_finding_that_it_names(tmp_path: Path, on_missing: str, outcome: str) -> None:
    """An arm whose p-value was left out is not passed by; a finding that makes no claim is."""
    made = findings(
        finding("traps.copies_1", "not found", p_values={"arm": p_value(0.5)}, power=power(0.9)),
        finding("traps.copies_64", "found", estimates={"auc": estimate(*OVER)}, power=power(0.9)),
        finding("traps.copies_all", "information"),
    )
    result = judged(tmp_path, rule(**P, on_missing=on_missing), made)
    assert result.verdict != "pass"
    assert (outcomes(result)["p"], len(result.rules[-1].tests)) == (outcome, 2)
    assert "traps.copies_64 is 'found' and has no p:arm" in result.rules[-1].reason


def test_a_rule_that_can_only_speak_against_is_breached_or_says_nothing(tmp_path: Path) -> None:
    """Traps that are found contradict a record; traps that are not found confirm none."""
    against = rule(id="a", estimate="traps.overall/verdict", one_of=["not found"], only_against=True)
    for verdict, outcome, counts in (
        ("found", "breached", "breached"),
        ("not found", "not assessed", "nothing"),
        ("inconclusive", "not assessed", "nothing"),
    ):
        run = run_of(tmp_path / verdict, traps(CLEAR, verdict=verdict))
        result = gate([run], policy_of(tmp_path, against + rule(**AUC)), today=TODAY)
        one = next(one for one in result.rules if one.id == "a")
        assert (one.outcome, one.counts_as) == (outcome, counts)
        assert one.evidence == ("evidence against" if verdict == "found" else "not assessed")
        assert result.verdict == ("breached" if verdict == "found" else "pass")
        assert ("1 rule not assessed." in result.summary) is (verdict != "found")


def test_a_waiver_changes_no_evidence(tmp_path: Path) -> None:
    result = judged(tmp_path, rule(**AUC) + rule(**VERDICT) + waiver(), traps(OVER))
    one = next(one for one in result.rules if one.id == "r")
    assert (one.outcome, one.evidence) == ("waived", "evidence against")


def test_the_text_says_on_which_day_waivers_were_read_and_that_models_differ(tmp_path: Path) -> None:
    one = run_of(tmp_path / "one", traps(CLEAR))
    other = run_of(tmp_path / "other", findings(finding("x", "not found")), model="other")
    loaded = policy_of(tmp_path, rule(**AUC))
    result = gate([one, other], loaded, today=TODAY, different_models=True)
    text = " ".join(as_text(result).split())
    assert f"Waivers are read on {TODAY.isoformat()}, today, by the clock." in text
    assert "The runs are of different models" in result.summary
    assert result.different_models
    given = gate([one], loaded, today=TODAY, today_given=True, different_models=True)
    assert f"{TODAY.isoformat()}, the day that was given" in as_text(given)
    assert not given.different_models


def test_the_weights_of_a_loop_are_said_to_be_those_before(tmp_path: Path) -> None:
    loaded = policy_of(tmp_path, rule(**AUC))
    for kind in ("audit", "remediation"):
        run = run_of(tmp_path / kind, traps(CLEAR), record={"kind": kind})
        (run / "opening.json").unlink()
        text = " ".join(as_text(gate([run], loaded, today=TODAY)).split())
        assert ("findings are of models made from them" in text) is (kind == "remediation")


def test_what_the_corrections_hold_for_is_told(tmp_path: Path) -> None:
    told = " ".join(as_text(judged(tmp_path, rule(**AUC), traps(CLEAR))).split())
    assert "This holds for runs that were not picked out of several; waived rules are left out." in told
    assert "called breached though all hold in at most about 0.025 of cases" in told


def test_a_limit_is_shown_with_all_its_digits(tmp_path: Path) -> None:
    result = judged(tmp_path, rule(**AUC | {"limit": 0.9999999}), traps(CLEAR))
    assert "it must be at most 0.9999999" in result.rules[-1].reason


def test_a_seal_of_another_key_is_refused(tmp_path: Path) -> None:
    from audit.runs.seal.make import seal_run
    from tests.runs.seal.made import KEY, OTHER_KEY

    run = run_of(tmp_path / "run", traps(CLEAR))
    signed = seal_run(run, key=KEY).record.public_key
    loaded = policy_of(tmp_path, rule(**AUC))
    result = gate([run], loaded, today=TODAY, public_key=signed)
    assert result.runs[0].seal == "sealed and signed, as it was, with the key that was given"
    other = run_of(tmp_path / "other", traps(CLEAR))
    with pytest.raises(DataError, match="agrees with its own seal, and that is not the one that you expect"):
        gate([run], loaded, today=TODAY, public_key=seal_run(other, key=OTHER_KEY).record.public_key)
