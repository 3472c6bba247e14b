"""The policies that come with the program: sound, in the right words, and right about models whose truth is known."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, norm

from audit.errors import InputError
from audit.gates.asked import instruments_of
from audit.gates.estimates import entries
from audit.gates.lint import lint
from audit.gates.policy import load_policy
from audit.gates.shipped import find_policy, shipped
from audit.gates.verdict import _judge_all, gate
from audit.runs.schema import Findings, SelfTestRecord
from audit.runs.seal.make import seal_run
from audit.runs.store import Run
from tests.gates.made import estimate, finding, findings, p_value, power, run_of, simulated_traps

TODAY = date(2026, 11, 28)
NAMES = ["eu-gpai-code", "iso-42001", "nist-ai-600-1", "research", "strict"]
MAPPINGS = NAMES[:3]
CLAUSES = {
    "nist-ai-600-1": {"MS-2.10-001"},
    "eu-gpai-code": {f"Copyright, Measure {one}" for one in ("1.1", "1.3", "1.4", "1.5")}
    | {"Transparency, Measure 1.1", "Transparency, Measure 1.3"},
    "iso-42001": {"A.6.2.4", "A.6.2.7", "A.6.2.8", "A.7.5"},
}


def test_they_are_the_files_of_data_policies() -> None:
    folder = Path(__file__).parents[2] / "data" / "policies"
    assert list(shipped()) == NAMES
    assert sorted(path.stem for path in folder.glob("*.toml")) == NAMES
    for name, path in shipped().items():
        assert path.read_bytes() == (folder / f"{name}.toml").read_bytes()
        assert find_policy(name) == path
    with pytest.raises(InputError, match="no shipped policy has that name.*Did you mean 'strict'?"):
        find_policy("strickt")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_without_a_problem_and_claims_no_compliance(name: str) -> None:
    path = shipped()[name]
    assert lint(path, today=TODAY) == []
    text = path.read_text(encoding="utf-8").lower()
    for word in ("complian", "conform", "certif", "fulfil"):
        assert word not in text
    policy = load_policy(path).policy
    assert policy.name == name
    assert "2026-11-28" in policy.reading
    for rule in policy.rules:
        if rule.kind in ("number", "p-value") and rule.severity == "block":
            assert rule.why, rule.id  # no limit without where it comes from


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_mapping_says_whose_reading_it_is_and_what_is_not_covered(name: str) -> None:
    policy = load_policy(shipped()[name]).policy
    assert "reading" in policy.reading
    assert "has seen it" in policy.reading or "has not seen it" in policy.reading
    about_the_model = [rule for rule in policy.rules if not rule.id.startswith("instrument.")]
    assert all(rule.clause and rule.not_covered for rule in about_the_model)
    for clause in CLAUSES[name]:
        assert any((rule.clause or "").startswith(clause) for rule in policy.rules), clause


DRAWS = 500


def test_a_model_that_saw_nothing_is_rarely_blocked_by_the_strict_policys_p_values() -> None:
    """Exact p-values of 4 tests that share their decoys, in steps of 1/10,000, drawn under the null.

    At most 5% may be called breached, up to the binomial noise of the draws (99.9%).
    """
    loaded = load_policy(shipped()["strict"])
    rng = np.random.default_rng(20261128)
    z = np.sqrt(0.1) * rng.standard_normal((DRAWS, 1)) + np.sqrt(0.9) * rng.standard_normal((DRAWS, 4))
    ps = np.maximum(np.ceil(norm.sf(z) * 10_000), 1) / 10_000
    blocked = sum(_p_values_breached(_arms(row), loaded) for row in ps.tolist())
    assert 1 <= blocked <= binom.ppf(0.999, DRAWS, 0.05)


def _arms(ps: list[float]) -> Findings:
    return findings(
        *(
            finding(f"traps.copies_{place}", p_values={"arm": p_value(p)}, power=power(0.9), power_for="an AUC of 0.6")
            for place, p in enumerate(ps)
        )
    )


@pytest.mark.slow
def test_that_holds_from_scores_on() -> None:
    """Simulated trap audits of models without a trace: 60 traps at each of 4 numbers of copies, shared decoys."""
    loaded = load_policy(shipped()["strict"])
    rng = np.random.default_rng(20261128)
    blocked = sum(_p_values_breached(simulated_traps(rng), loaded) for _ in range(500))
    assert 1 <= blocked <= binom.ppf(0.999, 500, 0.05)


def test_a_model_that_carries_the_traps_is_blocked_by_them() -> None:
    loaded = load_policy(shipped()["strict"])
    rng = np.random.default_rng(1)
    assert all(_p_values_breached(simulated_traps(rng, shift=1.0), loaded) for _ in range(5))


def _p_values_breached(made: Findings, loaded: object) -> bool:
    judged = _judge_all(loaded, entries("run", made))  # type: ignore[arg-type]
    rules = loaded.policy.rules  # type: ignore[attr-defined]
    return any(
        one.outcome == "breached"
        for rule, tests in zip(rules, judged.tests, strict=True)
        if rule.kind == "p-value"
        for one in tests
    )


def _known(*, planted: bool) -> Findings:
    """What the audits say of a large clean audit, or of a model that carries its traps and gives its rows back."""
    said = "found" if planted else "not found"
    rate = estimate(0.4, 0.36, 0.44, n=600) if planted else estimate(0.0, 0.0, 0.0064, n=600)
    auc = estimate(0.8, 0.77, 0.83) if planted else estimate(0.5, 0.462, 0.538)
    return findings(
        finding("traps.overall", said),
        *(
            finding(
                f"traps.copies_{copies}",
                said,
                estimates={"auc": auc},
                p_values={"arm": p_value(0.0001 if planted else 0.5)},
                power=power(0.99),
            )
            for copies in (1, 4)
        ),
        finding("traps.controls", estimates={"auc_all": estimate(0.494, 0.447, 0.541)}),
        finding("extraction.overall", said, estimates={"memorisation_rate": rate, "rate_of_compared": rate}),
        finding("extraction.sensitivity", estimates={"sensitivity": estimate(0.95, 0.9, 0.98)}),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_model_passes_and_one_that_memorised_does_not(tmp_path: Path, name: str) -> None:
    """Planted truth, under every policy; the strict one also asks for a self-test, a seal and to be named before."""
    loaded = load_policy(shipped()[name])
    for planted, verdict in ((False, "pass"), (True, "breached")):
        folder = tmp_path / f"{name}-{planted}"
        run_of(folder, _known(planted=planted), policy_sha256=loaded.sha256)
        record = Run.open(folder).record
        made = record.provenance
        known = SelfTestRecord(
            moment=made.created, palimpsest=made.palimpsest, commit=made.commit, passed=True,
            instruments=dict.fromkeys(instruments_of("traps", "extraction"), True), sha256="0" * 64,
        )  # fmt: skip
        (folder / "run.json").write_text(
            record.model_copy(update={"self_test": known}).model_dump_json(), encoding="utf-8"
        )
        seal_run(folder)
        result = gate([folder], loaded, today=TODAY)
        assert result.verdict == verdict, [(one.id, one.reason) for one in result.rules if one.counts_as != "pass"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_was_taught_to_suppress_its_traps_does_not_pass(tmp_path: Path, name: str) -> None:
    """Traps score far below their decoys, which the one-sided test cannot see."""
    made = [
        one.model_copy(update={"verdict": "inconclusive"})
        if one.id == "traps.overall"
        else one.model_copy(update={"estimates": {"auc": estimate(0.05, 0.02, 0.1)}})
        if one.id.startswith("traps.copies_")
        else one
        for one in _known(planted=False).sections[0].findings
    ]
    result = gate([run_of(tmp_path / "run", findings(*made))], load_policy(shipped()[name]), today=TODAY)
    refused = {one.id for one in result.rules if one.id.partition(".")[0] != "policy" and one.counts_as != "nothing"}
    refused -= {one.id for one in result.rules if one.counts_as == "pass"}
    assert result.verdict != "pass"
    assert refused  # by a rule, whatever is asked of the run itself


def test_research_blocks_what_extraction_found(tmp_path: Path) -> None:
    """A rate below the limit whose hits fall on the trained half."""
    rate = estimate(0.02, 0.012, 0.034, n=500)
    estimates = {"memorisation_rate": rate, "rate_of_compared": rate}
    for verdict, told in (("found", "breached"), ("not found", "pass"), ("inconclusive", "inconclusive")):
        made = findings(finding("extraction.overall", verdict, estimates=estimates))
        run = run_of(tmp_path / verdict, made)
        assert gate([run], load_policy(shipped()["research"]), today=TODAY).verdict == told


def test_a_file_of_a_shipped_policys_name_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strict").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert find_policy("strict") == shipped()["strict"]
    assert find_policy("./strict") == Path("strict")


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_audited_nothing_passes_no_policy(tmp_path: Path, name: str) -> None:
    run = run_of(tmp_path / "run", findings())
    assert gate([run], load_policy(shipped()[name]), today=TODAY).exit_code in (1, 4, 5)


@pytest.mark.parametrize("name", NAMES)
def test_traps_found_of_one_owner_pass_no_policy(tmp_path: Path, name: str) -> None:
    """The arms dilute one owner's traps among those of many; the audit says "found" of the owner and overall."""
    made = [
        one.model_copy(update={"verdict": "found"}) if one.id == "traps.overall" else one
        for one in _known(planted=False).sections[0].findings
    ]
    owner = finding(
        "traps.owner_1", "found", estimates={"auc": estimate(0.8, 0.72, 0.87)}, p_values={"all": p_value(0.0001)}
    )
    result = gate([run_of(tmp_path / "run", findings(*made, owner))], load_policy(shipped()[name]), today=TODAY)
    assert any(one.counts_as == "breached" and not one.id.startswith("policy.") for one in result.rules), name


@pytest.mark.parametrize("name", NAMES)
def test_power_counts_for_the_effect_that_the_policy_means(tmp_path: Path, name: str) -> None:
    """A plan that calls an AUC of 0.95 negligible has power 0.99 for it with 10 traps, and excludes it soon."""
    weak = {"power": power(0.999), "power_for": "an AUC of 0.95 with 10 traps", "power_effect": 0.95}
    known = _known(planted=False).sections[0].findings
    for estimates, at in (({"auc": estimate(0.62, 0.42, 0.8, n=604)}, "size"), (None, "test")):
        made = [
            one.model_copy(update=weak | ({} if estimates is None else {"estimates": estimates}))
            if one.id.startswith("traps.copies_")
            else one
            for one in known
        ]
        run = run_of(tmp_path / at, findings(*made))
        result = gate([run], load_policy(shipped()[name]), today=TODAY)
        by_test = next(one for one in result.rules if any("/p:arm" in test.address for test in one.tests))
        assert "Its power is for an effect of 0.95, and counts for 0.6 or less" in by_test.reason
        assert result.verdict != "pass"


def test_what_confirms_nothing_is_no_evidence_for_a_clause(tmp_path: Path) -> None:
    """Traps that are not found confirm no record of the data, and sound scores verify no AI system."""
    result = gate([run_of(tmp_path / "run", _known(planted=False))], load_policy(shipped()["iso-42001"]), today=TODAY)
    told = {one.id: one for one in result.rules}
    assert (told["a.7.5.traps"].outcome, told["a.7.5.traps"].evidence) == ("not assessed", "not assessed")
    assert told["instrument.controls"].clause is None
    assert {one.evidence for one in result.rules} <= {"evidence for", "evidence against", "not assessed"}
