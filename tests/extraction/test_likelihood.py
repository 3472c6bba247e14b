"""The likelihood of questions before and after post-training: what is counted, and that nothing else moves it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from audit.errors import DataError, InputError, ModelError
from audit.extraction import likelihood as module
from audit.extraction import shift_statistics
from audit.extraction.likelihood import cut, log_likelihoods, require_same, scored
from audit.extraction.prefixes import encode_prefix
from audit.extraction.shift_statistics import curve, likelihood_shift, powers
from audit.lm.load import LanguageModel, load
from audit.lm.tokens import encode
from audit.progress import silent
from audit.runs.store import Run
from tests.checkpoints import build_checkpoint

QUESTIONS = ["the cat sat", "on the mat and the hill", "the dog ran over the hill and the mat", "cat"]
NAMES = ["a", "b", "c", "d"]
SHORT, LONG = "<s>the cat\n", "<s>the dog ran over the hill and the cat sat on the mat and\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return load(folder)


@pytest.mark.parametrize("text", [SHORT, LONG], ids=["short prefix", "prefix computed once"])
def test_only_the_questions_tokens_are_added_up(lm: LanguageModel, text: str) -> None:
    prefix = encode_prefix(lm, text)
    found = log_likelihoods(lm, cut(lm, prefix, QUESTIONS, NAMES))
    for question, value in zip(QUESTIONS, found, strict=True):
        ids = [*prefix.ids, *encode(lm, [question])[0]]
        with torch.inference_mode():
            log_probs = lm.model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        places = range(len(prefix.ids), len(ids))
        assert value == pytest.approx(sum(float(log_probs[at - 1, ids[at]]) for at in places), abs=1e-4)


def test_a_beginning_of_sequence_token_outside_the_text_stands_before_it(lm: LanguageModel) -> None:
    inside = cut(lm, encode_prefix(lm, "<s>the\n"), QUESTIONS, NAMES)
    outside = cut(lm, encode_prefix(lm, "the\n", bos=True), QUESTIONS, NAMES)
    without = cut(lm, encode_prefix(lm, "the\n"), QUESTIONS, NAMES)
    assert inside.token_ids == outside.token_ids != without.token_ids
    assert inside.token_ids[0][0] == lm.bos_id
    assert inside.n_before == outside.n_before


def test_a_token_that_holds_characters_of_both_belongs_to_the_question(lm: LanguageModel) -> None:
    prefix = encode_prefix(lm, "<s>on the c")
    prompts = cut(lm, prefix, ["at sat", "! sat"], ["grown", "apart"])
    assert prompts.n_straddling == 1
    first = prompts.token_ids[0][prompts.n_before[0]]
    assert lm.tokenizer.decode([first]) == " cat"
    assert prompts.n_before[1] == len(prefix.ids)
    assert lm.tokenizer.decode(list(prompts.token_ids[0])) == "<s>on the cat sat"
    values = log_likelihoods(lm, prompts)
    alone = [log_likelihoods(lm, cut(lm, prefix, [text], ["x"]))[0] for text in ("at sat", "! sat")]
    np.testing.assert_allclose(values, alone, atol=1e-4)


def test_special_tokens_in_a_question_are_refused(lm: LanguageModel) -> None:
    with pytest.raises(DataError, match="1 question of 2 hold.*'b'"):
        cut(lm, encode_prefix(lm, SHORT), ["the cat", "the </s> cat"], ["a", "b"])


def test_what_cannot_be_scored_is_refused(lm: LanguageModel) -> None:
    prefix = encode_prefix(lm, SHORT)
    with pytest.raises(DataError, match="question 'b' is empty"):
        cut(lm, prefix, ["the cat", ""], ["a", "b"])
    with pytest.raises(DataError, match="question 'b' has .* accepts at most 128"):
        cut(lm, prefix, ["the cat", "!?" * 100], ["a", "b"])
    with pytest.raises(InputError, match="expected one of each"):
        cut(lm, prefix, ["the cat"], ["a", "b"])
    with pytest.raises(DataError, match="nothing stands before it"):
        cut(lm, encode_prefix(lm, "t"), ["he cat"], ["a"])


def test_models_that_cut_otherwise_are_refused_by_the_first_question(lm: LanguageModel, tmp_path: Path) -> None:
    other = load(build_checkpoint(tmp_path, "llama", letters_only=True))
    prefix = encode_prefix(lm, "<s>t\n")
    own = cut(lm, prefix, QUESTIONS, NAMES)
    require_same(own, own)
    with pytest.raises(ModelError, match="cuts the prefix"):
        cut(other, prefix, QUESTIONS, NAMES)
    changed = module.Prompts(
        own.ids, (own.token_ids[0], (*own.token_ids[1], 5), *own.token_ids[2:]), own.n_before, own.prefix_ids
    )
    with pytest.raises(ModelError, match="cut 1 question of 4 into different tokens; first: 'b'"):
        require_same(own, changed)


def test_a_base_against_itself_is_exactly_0(folder: Path) -> None:
    questions = [f"{question} {number}" for number in range(8) for question in QUESTIONS]
    names = [str(number) for number in range(len(questions))]
    values = []
    for _ in range(2):
        lm = load(folder)
        values.append(log_likelihoods(lm, cut(lm, encode_prefix(lm, SHORT), questions, names)))
    trained = np.arange(len(questions)) % 2 == 0
    found = likelihood_shift(values[0], values[1], trained, names, seed=0)
    for estimate in (found.trained, found.held_out, found.difference, found.median_difference):
        assert estimate.value == 0.0
        assert estimate.low is None
        assert estimate.why == "every draw gave the same value"
    assert found.p_value.value == 1.0
    assert found.trained_curve.base == found.trained_curve.post


def test_a_killed_job_goes_on_and_gives_the_same(
    lm: LanguageModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_QUESTIONS", 2)
    prompts = cut(lm, encode_prefix(lm, SHORT), QUESTIONS, NAMES)
    calls: list[tuple[str, ...]] = []
    real = log_likelihoods

    def dying(lm: LanguageModel, prompts: module.Prompts, **named: object) -> np.ndarray:
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(prompts.ids)
        return real(lm, prompts, **named)  # type: ignore[arg-type]

    def start() -> Run:
        return Run.start(tmp_path / "run", kind="audit", plan={}, plan_text="", command=["test"])

    monkeypatch.setattr(module, "log_likelihoods", dying)
    with start() as run, pytest.raises(KeyboardInterrupt):
        scored(run, "reference", prompts, lambda: lm, progress=silent, what="questions")
    monkeypatch.setattr(module, "log_likelihoods", lambda lm, own, **named: (calls.append(own.ids), real(lm, own))[1])
    with start() as run:
        found = scored(run, "reference", prompts, lambda: lm, progress=silent, what="questions")
        assert calls == [("a", "b"), ("c", "d")]

        def never() -> LanguageModel:
            raise AssertionError("loaded again")

        np.testing.assert_array_equal(
            scored(run, "reference", prompts, never, progress=silent, what="questions"), found
        )
        assert run.read_items("extraction-likelihood-reference").column_names == ["id", "n_tokens", "log_likelihood"]
    np.testing.assert_allclose(found, real(lm, prompts), atol=1e-4)


def halves(rng: np.random.Generator, n_clusters: int = 60) -> tuple[np.ndarray, list[int]]:
    """Clusters of one to three questions, half of them trained."""
    clusters = np.repeat(np.arange(n_clusters), rng.integers(1, 4, n_clusters))
    trained = (rng.permutation(n_clusters) < n_clusters // 2)[clusters]
    return trained, clusters.tolist()


def test_the_shift_is_what_was_planted() -> None:
    rng = np.random.default_rng(0)
    trained, clusters = halves(rng, 200)
    base = rng.normal(-40, 10, len(trained))
    post = base + 3.0 + np.where(trained, 2.0, 0.0) + rng.normal(0, 1, len(trained))
    found = likelihood_shift(base, post, trained, clusters, seed=0)
    assert found.trained.value == pytest.approx(float((post - base)[trained].mean()))
    assert found.held_out.value == pytest.approx(float((post - base)[~trained].mean()))
    assert found.difference.value == pytest.approx((found.trained.value or 0) - (found.held_out.value or 0))
    for estimate in (found.difference, found.median_difference):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < 2.0 < estimate.high
        assert estimate.low > 1.0
        assert estimate.n == 200
    assert found.p_value.value == found.p_value.attainable == pytest.approx(1e-4)
    swapped = likelihood_shift(base, post, ~trained, clusters, seed=0)
    assert swapped.difference.value == pytest.approx(-(found.difference.value or 0))
    assert swapped.p_value.value > 0.99


@pytest.mark.slow
def test_p_values_are_uniform_and_intervals_hold_where_the_division_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Questions of one cluster move together, so that only whole clusters can be dealt again."""
    monkeypatch.setattr(shift_statistics, "N_DRAWS", 199)
    rng = np.random.default_rng(1)
    values, held = [], 0
    for seed in range(60):
        trained, clusters = halves(rng, 20)
        shift = rng.normal(0, 2, 20)[clusters] + rng.normal(0, 0.5, len(trained))
        found = likelihood_shift(np.full(len(trained), -30.0), shift - 30, trained, clusters, seed=seed)
        values.append(found.p_value.value)
        held += (found.difference.low or 0) <= 0 <= (found.difference.high or 0)
    assert kstest(values, "uniform").pvalue > 0.001
    assert sum(value <= 0.05 for value in values) <= 8
    assert held >= 46  # of 60; some 91% of intervals from 20 clusters hold, 4 standard deviations below allowed


def test_few_clusters_are_dealt_in_all_ways() -> None:
    """Worked: shifts 1, 2 (trained: 3, 4), one question a cluster: 1 of C(4, 2) = 6 dealings is as high."""
    shift = np.array([1.0, 2.0, 3.0, 4.0])
    found = likelihood_shift(np.zeros(4) - 9, shift - 9, np.array([False, False, True, True]), list("abcd"), seed=0)
    assert found.p_value.value == pytest.approx(1 / 6)
    assert found.difference.value == pytest.approx(2.0)


def test_halves_that_cannot_be_compared_are_refused() -> None:
    zeros = np.zeros(4)
    with pytest.raises(InputError, match="lies in both halves"):
        likelihood_shift(zeros, zeros, np.array([True, False, True, False]), ["a", "a", "b", "c"], seed=0)
    with pytest.raises(InputError, match="all questions are of one half"):
        likelihood_shift(zeros, zeros, np.ones(4, bool), list("abcd"), seed=0)
    with pytest.raises(InputError, match="4 base, 3 post"):
        likelihood_shift(zeros, zeros[:3], np.ones(4, bool), list("abcd"), seed=0)


def test_the_curve_counts_questions_at_or_above_each_power_of_ten() -> None:
    base = np.log([1e-11, 1e-3, 0.5])
    post = np.log([1e-5, 1e-3, 1.0])
    found = curve(base + 1e-9, post + 1e-9, powers(base, post))
    assert found.log10[0] == 0
    assert found.log10[-1] <= -11
    at = {
        round(power): (before, after) for power, before, after in zip(found.log10, found.base, found.post, strict=True)
    }
    assert at[0] == (0, 1)
    assert at[-1] == (1, 1)
    assert at[-3] == (2, 2)
    assert at[-5] == (2, 3)
    assert at[-10] == (2, 3)
    assert at[-11] == (3, 3)
    assert found.n == 3
    unlikely, likelier = np.array([-5_000.0, -3.0]), np.array([-4_000.0, -1.0])
    long = curve(unlikely, likelier, powers(unlikely, likelier))
    assert len(long.log10) <= shift_statistics.MOST_THRESHOLDS + 1
    assert long.base[-1] == long.post[-1] == 2
    assert long.log10[-1] * math.log(10) <= -5_000
