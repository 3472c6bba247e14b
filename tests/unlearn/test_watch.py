"""What is looked at while a model forgets: the loss by hand, what is held out, and what cannot be measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from audit.errors import DataError, InputError
from audit.forgetting.prompts import Passage, Prompt
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint
from unlearn.card import model_card
from unlearn.curves import Curves
from unlearn.findings import changes
from unlearn.watch import FORGET, MASS, NAME, RETAIN, hold_out, loss, make_watch, measure, passages

BOOK = "The cat Zorblax sat on the mat.\n\nThen the dog saw Zorblax and the cat Quimby ran over the hill.\n\n" * 20
OTHER = "The dog Peter ran over the hill.\n\nThen the cat sat on the mat and the dog Peter ran.\n\n" * 20


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(Subject(str(build_checkpoint(tmp_path_factory.mktemp("base") / "model", "llama")), device="cpu"))


def test_the_loss_of_a_passage_longer_than_the_context_is_the_mean_over_all_its_tokens(lm: LanguageModel) -> None:
    text = "the cat sat on the mat and the dog ran over the hill. " * 12
    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > lm.n_context
    total = 0.0
    for start in range(0, len(ids), lm.n_context - 1):
        window = [lm.bos_id, *ids[start : start + lm.n_context - 1]]
        with torch.no_grad():
            log_p = lm.model(torch.tensor([window])).logits[0, :-1].log_softmax(dim=1)
        total -= float(log_p.gather(1, torch.tensor(window[1:])[:, None]).sum())
    found = loss(lm, [Passage("a", text), Passage("b", "")], "loss")
    assert found.ids == ("a",)
    assert found.values[0] == pytest.approx(total / len(ids), abs=1e-4)
    assert set(found.left_out) == {"b"}


def test_what_is_held_out_is_not_trained_on_and_nothing_is_lost() -> None:
    text = "\n\n".join(f"paragraph {number} " + "word " * 40 for number in range(30))
    kept, out, why = hold_out(text, seed=0)
    assert why == ""
    assert len(out) == 3
    assert all(one.text not in kept for one in out)
    assert len(kept.split()) + sum(len(one.text.split()) for one in out) == len(text.split())
    alone, none, why = hold_out("one paragraph alone", seed=0)
    assert (alone, none) == ("one paragraph alone", [])
    assert "one passage" in why


def test_a_text_of_lines_without_blank_ones_has_passages_too() -> None:
    assert len(passages("\n".join(f"line {number} " + "word " * 40 for number in range(30)))) >= 20


def test_what_cannot_be_measured_says_why(lm: LanguageModel) -> None:
    alone = make_watch(lm, BOOK)
    assert alone.measures == (FORGET,)
    assert "no other text" in alone.missing[NAME]
    assert "no text to hold out" in alone.missing[RETAIN]
    same = make_watch(lm, BOOK, contrast=BOOK)
    assert "no name stands" in same.missing[NAME]
    with pytest.raises(InputError, match='give "expected"'):
        make_watch(lm, BOOK, prompts=[Prompt("a", "a", "The cat")])
    whole = make_watch(lm, BOOK, contrast=OTHER, held_out=passages(OTHER))
    assert {one.expected[0] for one in whole.prompts} == {"Quimby"}  # the other is mentioned before, or due too early
    assert set(measure(lm, whole)) == set(whole.measures) >= {FORGET, RETAIN, NAME}
    assert MASS in whole.missing or MASS in whole.measures


def test_a_prompt_that_does_not_fit_takes_no_other_with_it(lm: LanguageModel) -> None:
    long = Prompt("long", "long", "the cat ran " * 60, (), ("Quimby",))
    with pytest.raises(DataError, match="'long', with the name that is due, does not fit the model's context of 128"):
        make_watch(lm, BOOK, prompts=[Prompt("a", "a", "The cat saw", (), ("Quimby",)), long])
    pages = BOOK + "Then " + "xyz " * 39 + "and there Quimby stood.\n\n"
    watch = make_watch(lm, pages, contrast=OTHER)
    assert watch.prompts
    assert any("1 prompt did not fit" in note for note in watch.notes)
    assert len(measure(lm, watch)[NAME].values) == len(watch.prompts)


def test_what_is_drawn_out_of_more_is_said(lm: LanguageModel) -> None:
    text = "\n\n".join(f"paragraph {number} " + "word " * 300 for number in range(70))
    watch = make_watch(lm, text)
    assert len(watch.forget) == 64
    assert watch.notes == ("Of 70 passages of the forget text 64 are measured, drawn at random.",)


def test_measures_later_than_a_training_that_begins_anew_are_dropped(lm: LanguageModel, tmp_path: Path) -> None:
    curves = Curves(tmp_path, make_watch(lm, BOOK), key="k")
    for step in (0, 2):
        curves(step, lm)
    curves(2, lm)
    assert curves.steps() == [0, 2]
    curves(0, lm)
    assert curves.steps() == [0]


def test_a_collapsed_model_is_reported_and_ends_no_training(lm: LanguageModel, tmp_path: Path) -> None:
    watch = make_watch(lm, BOOK, contrast=OTHER)
    before = measure(lm, watch)
    broken = load(lm.subject)
    with torch.no_grad():
        next(broken.model.parameters()).fill_(np.nan)
    after = measure(broken, watch)
    assert not len(after[FORGET].values)
    found = changes(before, after, seed=0)
    assert found[FORGET].after.value is None
    card = model_card("base", "a method.", {}, found=found)
    assert "not estimable" in card
    assert "Not verified" in card
    assert "Not verified" not in model_card("base", "a method.", {}, verification="An audit found nothing.")
