"""Continuations and their rate: nothing at strength 0, prompts are the units, empty ones count nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.errors import DataError, InputError
from audit.forgetting.measured import difference
from audit.stats.proportion import wilson
from tests.unlearn.lineas.evaluate.small_parts import HAS_X, PROMPTS, Told, model_and_arm
from unlearn.lineas.arms import UNSTEERED, Arm
from unlearn.lineas.evaluate.rate import EMPTY, Continuations, attribute_rate, continue_prompts, judged


def test_strength_0_is_the_unsteered_model_to_the_byte_and_1_is_not(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    both = Arm("both", arm.maps, "say nothing")
    plain = continue_prompts(lm, UNSTEERED, 0.0, PROMPTS, seeds=(3, 4))
    assert continue_prompts(lm, arm, 0.0, PROMPTS, seeds=(3, 4)).texts == plain.texts
    assert continue_prompts(lm, both, 0.0, PROMPTS, seeds=(3, 4)).texts == plain.texts
    assert continue_prompts(lm, arm, 1.0, PROMPTS, seeds=(3, 4)).texts != plain.texts
    assert continue_prompts(lm, UNSTEERED, 0.0, PROMPTS, seeds=(3, 4)).texts == plain.texts  # no hook was left behind
    assert plain.texts[0] != plain.texts[1]
    assert Continuations.from_record(plain.to_record()) == plain


def test_an_instruction_is_read_and_not_judged(tmp_path: Path) -> None:
    lm, _ = model_and_arm(tmp_path)
    told = continue_prompts(lm, Arm("prompt", instruction="be kind:"), 1.0, PROMPTS)
    by_hand = continue_prompts(lm, UNSTEERED, 0.0, [f"be kind: {prompt}" for prompt in PROMPTS])
    assert told.texts == by_hand.texts
    assert told.prompts == PROMPTS


def test_one_seed_has_wilsons_interval_and_several_resample_prompts() -> None:
    one = Continuations("a", 1.0, tuple("pqrs"), (0,), (("x", "o", "ox", "o"),))
    assert attribute_rate(HAS_X, one).rate.low == wilson(2, 4).low
    several = Continuations("a", 1.0, tuple("pqrs"), (1, 11), (("x", "o", "ox", "o"), ("x", "x", "x", "o")))
    found = attribute_rate(HAS_X, several)
    assert found.rate.value == 5 / 8
    assert found.rate.n == 4
    assert [seed.value for seed in found.by_seed] == [2 / 4, 3 / 4]
    assert found.n == 8


def test_empty_continuations_are_counted_apart() -> None:
    found = Continuations("a", 1.0, tuple("pqr"), (0,), (("x", " \n", "o"),))
    rate = attribute_rate(HAS_X, found)
    assert (rate.rate.value, rate.rate.n, rate.n_empty, rate.n) == (1 / 2, 2, 1, 3)
    assert judged(HAS_X, found).left_out == {"prompt 2, seed 0": EMPTY}
    nothing = attribute_rate(HAS_X, Continuations("a", 1.0, ("p",), (0,), (("",),)))
    assert nothing.rate.value is None
    assert EMPTY in str(nothing.rate.why)


def test_identical_arms_differ_by_nothing(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    twin = Arm("twin", arm.maps)
    judge = Told(lambda text: len(text) % 2 == 0)
    a, b = (judged(judge, continue_prompts(lm, one, 1.0, PROMPTS, seeds=(0, 1))) for one in (arm, twin))
    assert difference(a, b, rng=0).value == 0


def test_prompts_and_seeds_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    with pytest.raises(InputError, match=r"seeds \[1, 1\]"):
        continue_prompts(lm, arm, 1.0, PROMPTS, seeds=(1, 1))
    with pytest.raises(DataError, match="prompt 2 is blank"):
        continue_prompts(lm, arm, 1.0, ["the", "  "])
    with pytest.raises(DataError, match="prompt 1 .* accepts at most 95 before 32 new ones"):
        continue_prompts(lm, arm, 1.0, ["the cat " * 60])
