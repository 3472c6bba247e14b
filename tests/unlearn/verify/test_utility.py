"""Losses and guessing by hand and against a plain forward pass, sound answers, and what cannot be measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.errors import InputError
from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage
from audit.forgetting.verbatim import Continuation
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode
from tests.forgetting.small_models import plain_log_probs, small_model
from tests.unlearn.eco.evaluate.small_systems import Told, qa_rows
from unlearn.verify.utility import (
    MEASURES,
    NOT_FINITE,
    Knowledge,
    TextLosses,
    Useful,
    continuation_repetitions,
    damage,
    guessing_losses,
    loss,
    measure_knowledge,
    measure_losses,
    perplexity,
    sound_answers,
)

TEXTS = ["the cat sat on the mat", "the dog ran", "over the hill the cat ran and sat and ran", "a mat"]
PASSAGES = [Passage(f"p{place}", text) for place, text in enumerate(TEXTS)]


def losses(values: list[float], n_tokens: list[float], **changes: object) -> TextLosses:
    ids = tuple(f"p{place}" for place in range(len(values)))
    measured = Measured("loss on general text, nats per token", ids, ids, np.array(values))
    made = TextLosses("general", measured, np.array(n_tokens), np.full(len(values), 5.0))
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return small_model(tmp_path_factory.mktemp("lm"))


def test_guessing_by_hand() -> None:
    """V = 4, the other document is a a b: p(a) = (2 + 2/4) / 5 = 1/2, p(c) = (2/4) / 5 = 1/10."""
    found = guessing_losses([[0, 2], [0, 0, 1]], ["x", "y"], 4)
    assert found[0] == pytest.approx((math.log(2) + math.log(10)) / 2)
    assert guessing_losses([[0, 2], [0, 0, 1]], ["x", "x"], 4) == pytest.approx([math.log(4)] * 2)  # nothing else
    sums = sum(math.exp(-guessing_losses([[token], [0, 0, 1, 3]], ["x", "y"], 7)[0]) for token in range(7))
    assert sums == pytest.approx(1.0)  # a distribution over the vocabulary


def test_a_set_is_weighted_by_tokens_and_damage_is_paired() -> None:
    """Losses 2 and 4 of 1 and 3 tokens: (2 + 12) / 4 = 3.5; 2 and 5 after: damage 3/4."""
    before, after = losses([2.0, 4.0], [1.0, 3.0]), losses([2.0, 5.0], [1.0, 3.0])
    assert loss(before, rng=0).value == pytest.approx(3.5)
    assert perplexity(before, rng=0).value == pytest.approx(math.exp(3.5))
    assert damage(after, before, rng=0).value == pytest.approx(0.75)
    same = damage(before, before, rng=0)
    assert (same.value, same.low) == (0.0, None)
    assert "same value" in str(same.why)


def test_losses_are_those_of_a_plain_pass(lm: LanguageModel) -> None:
    found = measure_losses(lm, PASSAGES, "neighbour")
    for place, ids in enumerate(encode(lm, TEXTS)):
        rows = plain_log_probs(lm, [int(lm.bos_id or 0), *ids])
        own = -float(rows[range(len(ids)), ids].mean())
        assert found.measured.values[place] == pytest.approx(own, abs=1e-4)
        assert found.n_tokens[place] == len(ids)
    assert found.found.measured["utility.neighbour_loss"] is found.measured


def test_what_does_not_fit_is_cut_or_left_out_and_told(lm: LanguageModel) -> None:
    long = Passage("long", "the cat sat on the mat and " * 40)
    found = measure_losses(lm, [*PASSAGES, long, Passage("empty", "")], "general")
    assert found.cut == ("long",)
    assert found.n_tokens[-1] == lm.n_context - 1
    assert found.measured.left_out == {"empty": "0 tokens, fewer than 1"}
    assert "of 1 passages only the first tokens fit" in str(loss(found, rng=0).why)


def test_broken_weights_have_no_loss_and_say_so(tmp_path: Path) -> None:
    broken = small_model(tmp_path)
    with torch.no_grad():
        broken.model.get_output_embeddings().weight.fill_(torch.nan)
    found = measure_losses(broken, PASSAGES, "general")
    assert set(found.measured.left_out.values()) == {NOT_FINITE}
    assert found.found.missing == {"utility.general_loss": f"no item has a value; first: {NOT_FINITE}"}
    assert loss(found, rng=0).value is None


def test_bad_input_is_named(lm: LanguageModel) -> None:
    one = losses([2.0, 4.0], [1.0, 3.0])
    with pytest.raises(InputError, match="'p1' has 4 and 3 scored tokens in the two models: they have different"):
        damage(replace(one, n_tokens=np.array([1.0, 4.0])), one, rng=0)
    with pytest.raises(InputError, match="general text cannot be compared with losses on neighbour"):
        damage(one, replace(one, text="neighbour"), rng=0)
    with pytest.raises(InputError, match="2 general passages with 1 ids"):
        measure_losses(lm, [PASSAGES[0], PASSAGES[0]], "general")
    with pytest.raises(InputError, match="no neighbour rows"):
        measure_knowledge(Told(), [])


def test_sound_answers_by_hand() -> None:
    """10 questions, 4 answered "I do not know.": each shares its words with 3 of 9 others, 1/3 > 1/5; 2 alike pass."""
    rows = qa_rows(10)
    own = [f"it is the mat {place} there" for place in range(10)]
    said = ["I do not know.", "i do  not KNOW", *own[2:8], "I do not know", "I do not know"]
    assert sound_answers(rows, said).values.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    said = [own[1], own[1], *own[2:8], " .. ", "on and on and on and on and on and on"]  # 2 alike, no words, a loop
    assert sound_answers(rows, said).values.tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    alike = [replace(row, answer="yes") for row in rows]  # one right answer for all: the same words are no stock
    assert sound_answers(alike, ["yes"] * 10).values.tolist() == [1] * 10


def test_knowledge_asks_a_system_once_and_keeps_what_it_said() -> None:
    rows = qa_rows(6)
    answers = {row.prompt: row.answer for row in rows}
    asked: list[str] = []

    def said(prompt: str) -> str:
        asked.append(prompt)
        return answers[prompt]

    found = measure_knowledge(Told(said=said, log_probs=lambda prompt, answer: [-0.5]), rows)
    assert asked == [row.prompt for row in rows]
    assert found.qa.rouge.values.tolist() == found.sound.values.tolist() == [1.0] * 6
    assert found.qa.probability.values == pytest.approx([math.exp(-0.5)] * 6)
    assert set(found.repetition.left_out.values()) == {"fewer than 4 words"}
    assert set(found.found.measured) == {
        "utility.probability",
        "utility.rouge",
        "utility.truth",
        "utility.sound",
    }
    assert "utility.repetition" in found.found.missing


def test_continuations_that_loop() -> None:
    found = continuation_repetitions([Continuation("a", "x", "on and on and on and on", "y")])
    assert found.measured["utility.continuation_repetition"].values == pytest.approx([1 - 2 / 4])


def test_records_come_back_to_the_bit(lm: LanguageModel) -> None:
    rows = qa_rows(4)
    useful = Useful(measure_losses(lm, PASSAGES, "general"), None, measure_knowledge(Told(), rows), {"x": "y"})
    again = Useful.of_record(json.loads(json.dumps(useful.to_record())))
    assert isinstance(again.knowledge, Knowledge)
    assert again.neighbour is None
    assert again.to_record() == useful.to_record()


def test_every_measured_key_is_described() -> None:
    rows = [replace(row, answer=f"the mat {row.id} lies on the floor") for row in qa_rows(6)]
    found = measure_knowledge(Told(said=lambda prompt: f"{prompt} and so on"), rows).found
    assert set(found.measured) <= {one.key for one in MEASURES}
    assert len({one.key for one in MEASURES}) == len(MEASURES)
