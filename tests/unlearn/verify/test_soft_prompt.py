"""Soft prompts: the model stays as it is, rows do not see each other, and what is attacked is what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import InputError
from tests.forgetting.small_models import small_model
from tests.unlearn.eco.evaluate.small_systems import FORM
from unlearn.verify.robustness.soft_prompt import (
    SoftSettings,
    Target,
    attack,
    attack_pairs,
    attack_universal,
    never_controls,
    wrong_controls,
)

QUICK = SoftSettings(n_soft=2, n_steps=6, rate=0.3)
TARGETS = [
    Target("1", "a", "who", "the cat"),
    Target("2", "b", "who sat on the mat and the dog", "Zorbla ran over the hill"),
    Target("3", "c", "where", "the hill"),
]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "opt"])
def test_rows_stand_alone_and_the_model_stays_the_same(architecture: str, tmp_path: Path) -> None:
    """Without a soft prompt the loss is `Bare`'s; a row alone gets what it gets in a padded batch; twice the same."""
    lm = small_model(tmp_path, architecture)
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    asked = [parameter.requires_grad for parameter in lm.model.parameters()]
    found = attack(lm, FORM, TARGETS, QUICK)
    plain = Bare(lm, FORM).log_probs([one.prompt for one in TARGETS], [one.answer for one in TARGETS])
    assert found.before.values == pytest.approx([-one.mean() for one in plain], abs=1e-4)
    assert (found.after.values < found.before.values).all()
    alone = attack(lm, FORM, TARGETS[:1], QUICK)
    assert alone.after.values == pytest.approx(found.after.values[:1], rel=2e-3)
    assert (attack(lm, FORM, TARGETS, QUICK).after.values == found.after.values).all()
    assert all(torch.equal(before[name], value) for name, value in lm.model.state_dict().items())
    assert asked == [parameter.requires_grad for parameter in lm.model.parameters()]
    assert all(parameter.grad is None for parameter in lm.model.parameters())


def test_an_answer_is_elicited_and_the_step_is_that_of_greedy_decoding(tmp_path: Path) -> None:
    found = attack(small_model(tmp_path), FORM, TARGETS[:1], SoftSettings(n_soft=8, n_steps=60, rate=0.5))
    assert found.elicited.values.tolist() == [1.0]
    assert 0 < found.steps.values[0] <= 60
    never = attack(small_model(tmp_path), FORM, TARGETS[1:2], SoftSettings(n_soft=1, n_steps=1, rate=1e-6))
    assert never.elicited.values.tolist() == [0.0]
    assert never.steps.values.tolist() == [2.0]  # n_steps + 1
    assert len(never.curve) == 2


def test_target_and_control_alike_have_no_advantage(tmp_path: Path) -> None:
    """The same random start and settings: the same string on both sides differs by nothing; turned round, the sign."""
    lm = small_model(tmp_path)
    row = QaRow("1", "a", "who", "the cat", wrong=("the dog",))
    (pair,), _ = wrong_controls([row], seed=0)
    same = attack_pairs(lm, FORM, [type(pair)(pair.target, pair.target, "same")], QUICK)
    assert same.advantage.values.tolist() == [0.0]
    there, back = (attack_pairs(lm, FORM, [one], QUICK).advantage.values for one in
                   (pair, type(pair)(pair.control, pair.target, "turned")))  # fmt: skip
    assert there == pytest.approx(-back)


def test_controls_are_of_the_same_form() -> None:
    row = QaRow(
        "1", "a", "What does Zorbla eat?", "Every day it is figs.", paraphrased_answer="Zorbla eats figs daily.",
        wrong=("Zorbla eats plums daily.",),
    )  # fmt: skip
    unlike = QaRow("2", "a", "Who?", "It was he.", paraphrased_answer="Zorbla did it.", wrong=("Zorbla saw it.",))
    pairs, left_out = wrong_controls([row, unlike, QaRow("3", "a", "Where?", "There.")], seed=0)
    assert pairs[0].control.answer == "Every day it is plums."
    assert (pairs[1].target.answer, pairs[1].control.answer) == ("Zorbla did it.", "Zorbla saw it.")
    assert left_out == {"3": "it has no wrong answers"}
    never = [QaRow("8", "n", "What?", "A much longer answer."), QaRow("9", "n", "Who?", "It was I.")]
    (nearest,) = never_controls([unlike], never)
    assert (nearest.control.prompt, nearest.control.answer) == ("Who?", "It was I.")
    assert nearest.control.cluster == "a"
    with pytest.raises(InputError, match="is a forget row and a never row"):
        never_controls([row], [row])


def test_a_universal_soft_prompt_is_measured_on_other_clusters(tmp_path: Path) -> None:
    """A cluster's number changes with the other cluster's answer, which its soft prompt was trained on."""
    lm = small_model(tmp_path)
    two = [TARGETS[0], TARGETS[1]]
    found = attack_universal(lm, FORM, two, QUICK)
    assert all(end < start for start, end in found.trained)
    other = attack_universal(lm, FORM, [TARGETS[0], TARGETS[1]._replace(answer="the cat sat")], QUICK)
    assert other.after.values[0] != found.after.values[0]
    assert other.before.values[0] == pytest.approx(found.before.values[0])
    with pytest.raises(InputError, match="2 folds of 1 clusters"):
        attack_universal(lm, FORM, [TARGETS[0]], QUICK)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    lm = small_model(tmp_path)
    with pytest.raises(InputError, match="nothing to elicit"):
        attack(lm, FORM, [], QUICK)
    with pytest.raises(InputError, match="two targets have one id"):
        attack(lm, FORM, [TARGETS[0], TARGETS[0]], QUICK)
    with pytest.raises(InputError, match="n_soft"):
        SoftSettings(n_soft=0)
    with pytest.raises(InputError, match="prompt 0 has"):
        attack(lm, FORM, [TARGETS[0]], SoftSettings(n_soft=200))
