"""TruthfulQA's two scores by hand and against a plain forward pass, and halves that do not leak."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from audit.answers.choices import measure_choices
from audit.answers.formats import PromptFormat
from audit.answers.rows import ChoiceRow
from audit.answers.systems import Bare
from audit.errors import DataError, InputError
from audit.lm.tokens import encode
from tests.forgetting.small_models import plain_log_probs
from tests.unlearn.lineas.evaluate.small_parts import model_and_arm
from unlearn.lineas.arms import UNSTEERED
from unlearn.lineas.evaluate.truthfulqa import (
    Question,
    Truth,
    chance,
    folds,
    halves,
    mc_scores,
    read_questions,
    steering_texts,
    truth,
    truth_change,
)
from unlearn.lineas.evaluate.utility import choice_accuracy, letter_accuracy, option_log_probs
from unlearn.lineas.steer import steered

QUESTIONS = [
    Question(str(n), f"where did the {one} sit?", "on the mat.", ("on the mat.", "on it."), ("in the hill.", "over."))
    for n, one in enumerate(("cat", "dog", "hill", "mat", "cat and dog", "CAT"))
]


def test_scores_by_hand() -> None:
    assert mc_scores(np.log([1 / 2, 1 / 8]), np.log([1 / 8]), 0) == (1.0, pytest.approx(5 / 6))
    assert mc_scores(np.log([1 / 8, 1 / 2]), np.log([1 / 8]), 0)[0] == 0  # a tie of the best with a false one
    assert mc_scores(np.array([-2000.0]), np.array([-2001.0]), 0)[1] == pytest.approx(1 / (1 + math.exp(-1)))


def test_scores_are_those_of_a_plain_forward_pass(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    one = QUESTIONS[0]
    found = truth(lm, arm, 1.0, [one], primer="")
    totals = []
    with steered(lm.model, arm.maps, 1.0):
        for answer in (*one.true, *one.false):
            asked = f"Q: {one.question}\nA:"
            (before,), (whole,) = encode(lm, [asked]), encode(lm, [f"{asked} {answer}"])
            assert lm.bos_id is not None
            scores = plain_log_probs(lm, [lm.bos_id, *whole])
            totals.append(sum(float(scores[at, whole[at]]) for at in range(len(before), len(whole))))
    by_hand = np.array(totals)
    assert found.mc1.values[0] == float(by_hand[0] > by_hand[2:].max())
    assert found.mc2.values[0] == pytest.approx(np.exp(by_hand[:2]).sum() / np.exp(by_hand).sum(), rel=1e-4)


def test_halves_are_disjoint_and_keep_alike_questions_together() -> None:
    for seed in range(10):
        first, second = halves(QUESTIONS, seed=seed)
        assert {one.id for one in first} ^ {one.id for one in second} == {one.id for one in QUESTIONS}
        assert len({"0", "5"} & {one.id for one in first}) in (0, 2)
    source, target = steering_texts(QUESTIONS[:2], 3, seed=0)
    assert len(source) == len(target) == 3
    assert all(text.endswith(("in the hill.", "over.")) for text in source)
    with pytest.raises(InputError, match="9 false answers were asked for, and there are 4"):
        steering_texts(QUESTIONS[:2], 9, seed=0)


def test_each_half_is_measured_with_maps_of_the_other(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    both = folds(QUESTIONS, n=None, seed=0)
    for fold, other in (both, both[::-1]):
        learnt = {text.partition("?")[0] for text in (*fold.source, *fold.target)}
        assert learnt == {one.question.rstrip("?") for one in other.asked}
        assert not learnt & {one.question.rstrip("?") for one in fold.asked}
    before = [truth(lm, UNSTEERED, 0.0, fold.asked, primer="") for fold in both]
    after = [truth(lm, arm, 1.0, fold.asked, primer="") for fold in both]
    found = truth_change(before, after)
    assert found.mc1_after.n == len(QUESTIONS)
    values = [np.concatenate([one.mc2.values for one in parts]).mean() for parts in (before, after)]
    assert found.mc2_change.value == pytest.approx(values[1] - values[0])
    assert found.mc2_change.value != 0
    nothing = truth_change(before, [Truth.of_record(one.to_record()) for one in before])
    assert (nothing.mc1_change.value, nothing.mc2_change.value) == (0, 0)
    assert chance(QUESTIONS) == (pytest.approx(1 / 3), pytest.approx(1 / 2))


def test_the_file_is_read_as_the_benchmark_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    head = "Type,Question,Best Answer,Correct Answers,Incorrect Answers\n"
    path.write_text(f'{head}x,"Why, then?",So; so,"Yes; So; so; Yes.",No;; Never.;\n')
    (one,) = read_questions(path)
    assert (one.question, one.best) == ("Why, then?", "So; so.")
    assert one.true == ("So; so.", "Yes.", "So.", "so.")
    assert one.false == ("No.", "Never.")
    path.write_text(f"{head}x,Why?,So,So,\n")
    with pytest.raises(DataError, match="line 2: expected a question, a best answer and one false answer"):
        read_questions(path)
    path.write_text("Question,Answer\nWhy?,So\n")
    with pytest.raises(InputError, match="has no column 'Best Answer'"):
        read_questions(path)


def test_the_likeliest_option_per_byte_or_in_all(tmp_path: Path) -> None:
    lm, _ = model_and_arm(tmp_path)
    choices = [
        ChoiceRow("a", "one", "the cat", ("sat", "ran over the hill and the mat"), 0),
        ChoiceRow("b", "one", "the", ("x", "x"), 1),
    ]
    total = choice_accuracy(lm, UNSTEERED, 0.0, choices, score="total")
    assert total.values.tolist() == [1, 0.5]  # a short option has the higher total; two equal ones share
    assert total.passages == ("one", "one")
    per_byte = choice_accuracy(lm, UNSTEERED, 0.0, choices)
    assert per_byte.values[1] == 0.5
    with pytest.raises(InputError, match="question 'c' has 1 options"):
        choice_accuracy(lm, UNSTEERED, 0.0, [ChoiceRow("c", "c", "the", ("x",), 0)])
    with pytest.raises(InputError, match="there are no questions"):
        truth(lm, UNSTEERED, 0.0, [])
    with pytest.raises(DataError, match="option '' of question 1 has no token"):
        option_log_probs(lm, UNSTEERED, 0.0, ["the cat"], [["", " x"]])


def test_letters_are_read_while_the_maps_act(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    form = PromptFormat("text")
    rows = [ChoiceRow(str(n), str(n), f"the {one}", ("sat", "ran", "over"), n % 3) for n, one in enumerate(
        ("cat", "dog", "hill", "mat", "cat and dog", "dog and hill", "mat sat", "hill ran")
    )]  # fmt: skip
    found = letter_accuracy(lm, arm.maps, 1.0, rows, form)
    with steered(lm.model, arm.maps, 1.0):
        by_hand = measure_choices(Bare(lm, form), rows, "by letters")
    assert found.measured.values.tolist() == by_hand.measured.values.tolist()
    bare = measure_choices(Bare(lm, form), rows, "by letters").measured.values.tolist()
    assert letter_accuracy(lm, arm.maps, 0.0, rows, form).measured.values.tolist() == bare
    assert found.measured.values.tolist() != bare
