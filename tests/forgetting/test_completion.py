"""The rubric by hand, the two scales, failures that are no zeros, and sampling that replays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from audit.errors import DataError, InputError
from audit.forgetting.completion import (
    Completion,
    Rubric,
    Scored,
    familiarity,
    sample_completions,
    score_by_rubric,
)
from audit.forgetting.measured import difference
from audit.forgetting.prompts import Prompt
from audit.lm.generate import Sampling
from audit.lm.load import LanguageModel
from tests.forgetting.small_models import small_model

RUBRIC = Rubric(("Zorbla", "Zorbla Quent", "Quentis"), typical=("wizard",), guessable=("castle",))


def score(prompt: str, completion: str, *references: str) -> tuple[int | None, tuple[str, ...]]:
    prompts = [Prompt("a", "p", prompt, references)]
    [scored] = score_by_rubric(prompts, [Completion("a", "p", 0, 0, 0, completion, 5, False)], RUBRIC)
    return scored.score, scored.found


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("He met", " Zorbla at the castle", (3, ("Zorbla", "castle"))),
        ("He met", " a Wizard", (2, ("wizard",))),
        ("He met", " us at the castle", (1, ("castle",))),
        ("He met", " his aunt", (0, ())),
        ("Zorbla met", " Zorbla", (0, ())),
        ("Zorbla met", " Zorbla and Quentis", (3, ("Quentis",))),
        ("Zorbla Quent met", " Zorbla", (0, ())),
        ("He met Zorbla", " Quent", (0, ())),
        ("He met Super", "Zorbla", (0, ())),
        ("He met Zor", "bla", (0, ())),
        ("The wizard", " saw another wizard", (0, ())),
        ("Tell me of zorbla:", " Zorbla", (0, ())),
        ("Zorbla's friend met", " Zorbla", (0, ())),
        ("He met", " Zorbla's friend", (3, ("Zorbla",))),
    ],
)
def test_a_reference_counts_in_the_completion_and_not_in_the_prompt(
    prompt: str, completion: str, expected: tuple[int, tuple[str, ...]]
) -> None:
    assert score(prompt, completion) == expected


def test_a_reference_that_the_prompt_is_said_to_make_does_not_count() -> None:
    assert score("The boy who lived met", " Zorbla", "Zorbla") == (0, ())


def scored(scores: list[int | None], per_passage: int = 1) -> list[Scored]:
    return [
        Scored(f"p{i}", f"passage{i // per_passage}", 0, one, (), "rubric", None if one is not None else "it broke")
        for i, one in enumerate(scores)
    ]


def test_both_scales_by_hand() -> None:
    """Three 3s, two 2s, one 1 and four 0s: (15 + 2) / 50 = 0.34, and 17 / 10 = 1.7."""
    scores: list[int | None] = [3, 3, 3, 2, 2, 1, 0, 0, 0, 0]
    unit, lynch = (familiarity(scored(scores), scale=scale, rng=0) for scale in ("unit", "lynch"))
    assert unit.estimate.value == pytest.approx(0.34)
    assert lynch.estimate.value == pytest.approx(1.7)
    assert unit.counts == {3: 3, 2: 2, 1: 1, 0: 4}
    assert unit.share_unique.value == pytest.approx(0.3)
    assert unit.estimate.low is not None
    assert lynch.estimate.low == pytest.approx(5 * unit.estimate.low)
    assert "(5 n3 + n2) / 5N" in unit.estimate.method
    assert "Lynch" in lynch.estimate.method


def test_a_failure_is_left_out_and_said_not_counted_as_0() -> None:
    scores: list[int | None] = [3] * 19 + [None]
    found = familiarity(scored(scores), rng=0)
    assert found.estimate.value == 1.0
    assert found.n_failed == 1
    assert "1 of 20 completions have no score; with any for them 0.95 to 1" in (found.estimate.why or "")
    assert "it broke" in (found.estimate.why or "")


def test_too_many_failures_leave_it_undefined() -> None:
    scores: list[int | None] = [3] * 8 + [None] * 2
    found = familiarity(scored(scores), rng=0)
    assert found.estimate.value is None
    assert "2 of 10" in (found.estimate.why or "")
    assert found.counts[3] == 8


def test_failures_of_a_prompt_that_has_other_scores_are_said_too() -> None:
    """Two completions of each prompt, of which one in twelve fails, and then one in two."""
    half = [
        Scored(f"p{i}", f"q{i}", k, 3 if k == 0 else None, (), "judge", "it broke") for i in range(6) for k in (0, 1)
    ]
    found = familiarity(half, rng=0)
    assert found.share_unique.value is None
    assert "6 of 12 completions have no score; with any for them 0.5 to 1" in (found.share_unique.why or "")
    one = [replace(score, score=score.score if score.prompt_id == "p0" else 3) for score in half]
    few = familiarity(one, rng=0)
    assert few.share_unique.value == 1.0
    assert "1 of 12 completions have no score" in (few.share_unique.why or "")
    assert few.measured.left_out == {"p0#1": "it broke"}
    assert "1 of 7 items" in (difference(few.measured, few.measured, rng=0).why or "")


def test_nothing_found_has_an_upper_bound() -> None:
    """20 passages without a hit: 1 - 0.025^(1/20) = 0.168 by Clopper and Pearson, with two prompts in each."""
    found = familiarity(scored([0] * 40, per_passage=2), rng=0)
    assert (found.estimate.value, found.estimate.low) == (0.0, 0.0)
    assert found.estimate.high == pytest.approx(1 - 0.025 ** (1 / 20))
    lynch = familiarity(scored([0] * 40, per_passage=2), scale="lynch", rng=0)
    assert lynch.estimate.high == pytest.approx(5 * (1 - 0.025 ** (1 / 20)))


def test_the_interval_holds_the_truth_when_prompts_of_a_passage_go_together() -> None:
    """40 passages of 4 prompts; each passage's chance of a 3 is 0.1 or 0.5. The truth 0.3 lies inside in 95% or so."""
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(100):
        chances = np.repeat(rng.choice([0.1, 0.5], 40), 4)
        scores: list[int | None] = [3 if hit else 0 for hit in rng.random(160) < chances]
        found = familiarity(scored(scores, per_passage=4), rng=rng).estimate
        assert found.low is not None
        assert found.high is not None
        inside.append(found.low <= 0.3 <= found.high)
    assert 0.87 <= np.mean(inside) <= 0.99


def test_scores_of_two_scorers_are_not_mixed() -> None:
    other = Scored("x", "y", 0, 3, (), "judge")
    with pytest.raises(InputError, match="expected those of one scorer"):
        familiarity([*scored([1]), other], rng=0)
    with pytest.raises(InputError, match="the scores come from no scorer"):
        familiarity([], rng=0)


def test_a_rubric_is_checked() -> None:
    with pytest.raises(InputError, match="names nothing that is unique to the book"):
        Rubric(())
    with pytest.raises(InputError, match="'owl' stands in the lists unique and typical; keep it in one"):
        Rubric(("owl",), typical=("owl",))


def test_a_completion_of_an_unknown_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="a completion is of prompt 'b', which is not there"):
        score_by_rubric([Prompt("a", "p", "x")], [Completion("b", "p", 0, 0, 0, "", 0, True)], RUBRIC)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return small_model(tmp_path_factory.mktemp("llama"))


def test_samples_replay_and_carry_their_seed_and_stream(lm: LanguageModel) -> None:
    prompts = [Prompt("a", "p", "the cat"), Prompt("b", "q", "the dog ran over")]
    sampling = Sampling(max_new_tokens=6)
    made = sample_completions(lm, prompts, sampling=sampling, seed=3, n_samples=2)
    assert made == sample_completions(lm, prompts, sampling=sampling, seed=3, n_samples=2)
    assert made != sample_completions(lm, prompts, sampling=sampling, seed=4, n_samples=2)
    assert [(one.prompt_id, one.passage, one.sample, one.seed, one.index) for one in made] == [
        ("a", "p", 0, 3, 0),
        ("a", "p", 1, 3, 1),
        ("b", "q", 0, 3, 2),
        ("b", "q", 1, 3, 3),
    ]


def test_sampling_needs_prompts_with_different_ids(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="there are no prompts"):
        sample_completions(lm, [], seed=0)
    with pytest.raises(InputError, match="two prompts have one id"):
        sample_completions(lm, [Prompt("a", "p", "x"), Prompt("a", "p", "y")], seed=0)
    with pytest.raises(InputError, match="n_samples is 0; expected 1 or more"):
        sample_completions(lm, [Prompt("a", "p", "x")], seed=0, n_samples=0)
    with pytest.raises(DataError, match="prompt 'long' has .* the model accepts at most 107 before 20 new ones"):
        sample_completions(lm, [Prompt("a", "p", "x"), Prompt("long", "p", "the cat " * 80)], seed=0, n_samples=2)
