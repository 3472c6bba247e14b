"""Knowledge by hand, refusals, empty answers, rows that lack something, and options in an order that tells nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.forgetting.prompts import Prompt
from audit.lm.tokens import encode, prefix_ids
from tests.forgetting.small_models import plain_log_probs, small_model
from tests.unlearn.eco.evaluate.small_systems import Told
from unlearn.verify.knowledge import (
    MEASURES,
    choice_row,
    measure_choice,
    measure_knowledge,
    measure_names,
)

ROW = QaRow(
    "1", "Ora", "What does Ora keep?", "Ora has candle stubs",
    paraphrased_prompt="What is in her box?", paraphrased_answer="She keeps candle stubs",
    wrong=("She keeps paper fans", "She keeps bird bones"),
)  # fmt: skip
LOG_PROBS = {
    "Ora has candle stubs": [-0.1, -0.1, -0.4, -0.2],
    "She keeps candle stubs": [-1.0, -1.0, -0.5, -0.5],
    "She keeps paper fans": [-1.0, -1.0, -1.5, -0.5],
    "She keeps bird bones": [-1.0, -1.0, -2.0, -1.0],
    "She keeps": [-1.0, -1.0],
    "Ora has": [-0.1, -0.1],
    "Ora has paper fans": [-0.1, -0.1, -2.0, -0.6],
    "Ora has bird bones": [-0.1, -0.1, -2.0, -1.6],
}
KEYS = {measure.key for measure in MEASURES}


def log_probs(prompt: str, answer: str) -> Sequence[float]:
    less = 0.5 if "box" in prompt else 0.0  # the reworded question is known less
    return [one - less for one in LOG_PROBS[answer]]


def knows(said: str = "Ora has candle stubs", logits: Sequence[float] = (0.0, 0.0, 0.0)) -> Told:
    return Told(said=lambda _: said, log_probs=log_probs, logits=lambda _: logits)


REFUSES = Told(said=lambda _: "I am sorry.", log_probs=lambda _, answer: [-np.inf] * 4, logits=lambda _: [np.nan] * 3)


def test_measures_by_hand() -> None:
    """p = exp(-0.8 / 4), exp(-2.8 / 4) of the other question, exp(-3 / 4) of the other words. Blank of the answer:
    "candle stubs" -0.6, "paper fans" -2.6, "bird bones" -3.6: share 1 / (1 + e^-2 + e^-3); of the reworded one
    -1, -2, -3. By token and byte the right one is the highest."""
    found = measure_knowledge(knows(), [ROW], "forget").measured
    values = {key: one.values.item() for key, one in found.items()}
    assert values["knowledge.probability"] == pytest.approx(math.exp(-0.2))
    assert values["knowledge.probability.paraphrased"] == pytest.approx(math.exp(-0.7))
    assert values["knowledge.reworded"] == pytest.approx(math.exp(-0.75))
    assert values["knowledge.answered"] == values["knowledge.answered.paraphrased"] == 1.0
    assert values["knowledge.rouge"] == 1.0
    assert values["knowledge.cloze"] == pytest.approx(math.exp(-0.6))
    assert values["knowledge.cloze_share"] == pytest.approx(1 / (1 + math.exp(-2) + math.exp(-3)))
    assert values["knowledge.cloze.reworded"] == pytest.approx(math.exp(-1))
    assert values["knowledge.cloze_share.reworded"] == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-2)))
    assert values["knowledge.choice_letters"] == pytest.approx(1 / 3)  # all letters tie
    assert values["knowledge.choice_tokens"] == values["knowledge.choice_bytes"] == 1.0


def test_every_key_is_measured_or_missing_with_a_reason() -> None:
    for rows in ([ROW], [replace(ROW, wrong=(), paraphrased_answer="", paraphrased_prompt="")], []):
        found = measure_knowledge(knows(), rows, "forget")
        assert not set(found.measured) & set(found.missing)
        assert set(found.measured) | set(found.missing) == KEYS - {"knowledge.name"}
        assert all(found.missing.values())


def test_what_a_row_lacks_leaves_it_out_of_that_measure_alone() -> None:
    bare = replace(ROW, id="2", wrong=(), paraphrased_answer="", paraphrased_prompt="")
    found = measure_knowledge(knows(), [ROW, bare, replace(bare, id="3", answer=" ")], "forget").measured
    assert found["knowledge.probability"].ids == ("1", "2")
    assert found["knowledge.probability"].left_out == {"3": "it has no answer"}
    assert found["knowledge.answered"].left_out == {"2": "it has no wrong answers", "3": "it has no answer"}
    assert found["knowledge.rouge"].left_out == {"3": "its answer has no words"}
    assert found["knowledge.cloze"].left_out == {"2": "it has no wrong answers", "3": "it has no answer"}
    assert found["knowledge.choice_bytes"].left_out == found["knowledge.choice_letters"].left_out
    assert found["knowledge.reworded"].left_out["2"] == "it has no answer in other words"


def test_a_refusal_is_no_knowledge_and_never_a_tie() -> None:
    """All options at -inf share the highest value; that is no choice, so 0 and not 1/3."""
    found = measure_knowledge(REFUSES, [ROW], "forget").measured
    assert {key: one.values.item() for key, one in found.items()} == dict.fromkeys(found, 0.0)
    assert measure_knowledge(knows(said=""), [ROW], "forget").measured["knowledge.answered"].values.item() == 0.0


def test_the_wrong_fact_in_the_right_words_is_not_right() -> None:
    found = measure_knowledge(knows(said="Ora has paper fans"), [ROW], "forget").measured
    assert found["knowledge.answered"].values.item() == 0.0
    assert found["knowledge.rouge"].values.item() == 0.5  # and ROUGE does not see it


def test_the_right_option_stands_anywhere_and_where_does_not_depend_on_the_text() -> None:
    """300 rows of 3 options: each place is right 100 times, give or take 5 standard deviations of 8.2."""
    rows = [replace(ROW, id=str(place), cluster=str(place)) for place in range(300)]
    made = [choice_row(row) for row in rows]
    places = Counter(one.right for one in made if not isinstance(one, str))
    assert all(abs(places[place] - 100) < 41 for place in range(3))
    assert [choice_row(replace(row, prompt="Another?")).right for row in rows] == [one.right for one in made]  # type: ignore[union-attr]
    first = Told(log_probs=log_probs, logits=lambda _: [1.0, 0.0, 0.0])  # always says A
    accuracy = measure_choice(first, rows, "forget").measured["knowledge.choice_letters"]
    low, high = accuracy.mean(rng=0).low, accuracy.mean(rng=0).high
    assert "chance 0.333" in accuracy.name
    assert low is not None
    assert high is not None
    assert low < 1 / 3 < high


def test_rows_whose_options_tell_nothing_are_left_out() -> None:
    same = replace(ROW, wrong=("she keeps Candle stubs",))
    assert choice_row(same) == "a wrong answer is the right one"
    assert "letters for 25" in str(choice_row(replace(ROW, wrong=tuple(map(str, range(26))))))
    found = measure_choice(knows(), [same], "forget")
    assert "a wrong answer is the right one" in found.missing["knowledge.choice_letters"]


def test_a_blank_that_leaves_no_tokens_is_left_out() -> None:
    told = Told(
        log_probs=lambda _, answer: [-1.0] * 2, logits=lambda _: [0.0] * 2
    )  # as many tokens with the span as without
    found = measure_knowledge(told, [replace(ROW, wrong=ROW.wrong[:1])], "forget")
    assert "across the border" in found.missing["knowledge.cloze"]


def test_what_is_too_long_for_the_model_is_left_out_and_the_rest_is_asked(tmp_path: Path) -> None:
    """128 tokens hold the question and each answer, but not all four options in one prompt."""
    lm = small_model(tmp_path)
    system = Bare(lm, PromptFormat("text", "Q: ", "\nA:"))
    wrong = tuple(f"the {word} sat on {'q' * 30}" for word in ("hill", "dog", "mat"))
    long = QaRow("long", "x", "who sat on the mat?", wrong[0].replace("hill", "cat", 1), wrong=wrong)
    short = QaRow("short", "y", "who sat?", "the cat sat on", wrong=("the dog sat on", "the hill sat on"))
    found = measure_knowledge(system, [long, short], "forget", max_new_tokens=4).measured
    assert "the model reads at most 128" in found["knowledge.choice_letters"].left_out["long"]
    assert found["knowledge.choice_letters"].ids == ("short",)
    for key in ("knowledge.choice_bytes", "knowledge.answered", "knowledge.probability", "knowledge.cloze"):
        assert found[key].ids == ("long", "short")
    endless = replace(short, id="endless", prompt="who sat? " * 60)
    found = measure_knowledge(system, [short, endless, long], "forget", max_new_tokens=4).measured
    for key in ("knowledge.rouge", "knowledge.probability", "knowledge.cloze", "knowledge.choice_bytes"):
        assert found[key].ids == ("short", "long")
        assert "reads at most 128" in found[key].left_out["endless"]


def test_a_cloze_by_a_plain_forward_pass(tmp_path: Path) -> None:
    lm = small_model(tmp_path)
    system = Bare(lm, PromptFormat("text", "Q: ", "\nA:"))
    row = QaRow("1", "x", "who sat?", "the cat sat on", wrong=("the dog sat on", "the hill sat on"))
    found = measure_knowledge(system, [row], "forget", max_new_tokens=4).measured
    before = [*prefix_ids(lm), *encode(lm, ["Q: who sat?\nA:"])[0], *encode(lm, [" the"])[0]]
    ps = []
    for word in (" cat", " dog", " hill"):
        (span,) = encode(lm, [word])
        values = plain_log_probs(lm, [*before, *span])
        ps.append(math.exp(sum(float(values[len(before) - 1 + at, token]) for at, token in enumerate(span))))
    assert found["knowledge.cloze"].values.item() == pytest.approx(ps[0], rel=1e-4)
    assert found["knowledge.cloze_share"].values.item() == pytest.approx(ps[0] / sum(ps), rel=1e-4)


def test_names_that_are_due(tmp_path: Path) -> None:
    lm = small_model(tmp_path)
    prompts = [Prompt("1", "a", "the cat sat on", expected=("mat",)), Prompt("2", "a", "the dog")]
    found = measure_names(lm, prompts).measured["knowledge.name"]
    assert (found.ids, found.left_out) == (("1",), {"2": "it marks nothing that is due"})
    assert "due" in measure_names(lm, prompts[1:]).missing["knowledge.name"]
