"""What is tried of one system: rows and texts apart, kinds one at a time, what was tuned on left out."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.forgetting.prompts import Passage
from audit.forgetting.verbatim import VerbatimPlan
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint
from unlearn.lora import LoraPlan, attach, merge_layers
from unlearn.training import DivergedError
from unlearn.verify import attempts
from unlearn.verify.attempts import (
    FACTS,
    FORGET_ROWS,
    FORGET_TEXTS,
    UNRELATED,
    UNRELATED_OF_TEXTS,
    AttemptPlan,
    known_items,
    try_evasion,
    try_membership,
    try_prompts,
    try_relearning,
    try_roundings,
)
from unlearn.verify.battery import TUNED, Material, Subjected, measure_battery

FORM = PromptFormat("text", "the ", ":")
ROWS = tuple(
    QaRow(f"{who}-{what}", who, f"{what} of {who}", answer, f"whose {what} is {who}'s", answer, ("a dog",))
    for who in ("ann", "bob", "cat", "dog")
    for what, answer in (("hat", "red"), ("mat", "over the hill"))
)
TEXTS = tuple(
    Passage(f"t{place}", f"the cat {place} sat on the mat and the dog ran over the hill") for place in range(4)
)
GENERAL = (Passage("g0", "the dog ran over the mat"), Passage("g1", "the cat sat on the hill"))
BOTH = Material(forget_rows=ROWS, forget_texts=TEXTS, never_rows=tuple(
    dataclasses.replace(row, id=f"n{row.id}", cluster=f"n{row.cluster}", prompt=f"{row.prompt} then") for row in ROWS
), general_texts=GENERAL)  # fmt: skip
PLAN = AttemptPlan(bits=(4,), relearn_seeds=1, relearn_steps=2, relearn_rate=1e-3)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(Subject(str(build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")), device="cpu"))


def subjected(lm: LanguageModel, *seen: str, guard: bool = False) -> Subjected:
    return Subjected("one", Bare(lm, FORM), None if guard else lm, FORM, lambda prompt: prompt in seen)


def test_rows_and_texts_are_rounded_apart(lm: LanguageModel) -> None:
    found = try_roundings(lm, FORM, BOTH, PLAN)
    assert {what: set(one) for what, one in found.items()} == {"rows": {"whole", "int4"}, "texts": {"whole", "int4"}}
    assert found["texts"]["int4"]["ids"] == ["t0", "t1", "t2", "t3"]
    assert "rows" not in try_roundings(lm, FORM, Material(forget_texts=TEXTS), PLAN)


def test_an_adapter_is_rounded_with_its_base(lm: LanguageModel) -> None:
    """As the merged model rounded, and the adapter stays an adapter."""
    copied = dataclasses.replace(lm, model=copy.deepcopy(lm.model))
    over = attach(copied, LoraPlan(rank=2), seed=0).lm
    with torch.no_grad():
        for name, weight in over.model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    whole = dataclasses.replace(over, model=copy.deepcopy(over.model))
    merge_layers(whole.model, adapter="a")
    found, expected = (try_roundings(one, FORM, BOTH, PLAN)["rows"]["int4"] for one in (over, whole))
    assert found["values"] == pytest.approx(expected["values"], rel=1e-5)
    assert any("lora_" in name for name, _ in over.model.named_parameters())


def test_each_kind_of_relearning_is_of_rows_or_of_texts(lm: LanguageModel, tmp_path: Path) -> None:
    curves, missing, for_good = try_relearning(lm, "one", FORM, BOTH, PLAN, path=tmp_path / "curves.jsonl")
    assert [one.kind for one in curves] == [FORGET_ROWS, FACTS, UNRELATED, FORGET_TEXTS, UNRELATED_OF_TEXTS]
    assert [one.name for one in curves] == ["probability of answers"] * 3 + ["exact memorisation"] * 2
    assert (missing, for_good) == ({}, True)


def test_a_kind_that_breaks_takes_no_other_with_it(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attempts.relearn

    def broken(lm: LanguageModel, name: str, tunings: list, *rest: object, **more: object) -> list:  # type: ignore[type-arg]
        if tunings[0].kind == FACTS:
            raise DivergedError("the loss is nan")
        return real(lm, name, tunings, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(attempts, "relearn", broken)
    curves, missing, for_good = try_relearning(lm, "one", FORM, BOTH, PLAN, path=tmp_path / "curves.jsonl")
    assert missing == {FACTS: "the loss is nan"}
    assert [one.kind for one in curves] == [FORGET_ROWS, UNRELATED, FORGET_TEXTS, UNRELATED_OF_TEXTS]
    assert for_good


def test_known_rows_are_as_many_of_each_cluster(lm: LanguageModel) -> None:
    found = known_items(BOTH, lm, 5)
    assert [row.id for row in found["rows"]] == ["ann-hat", "bob-hat", "cat-hat", "dog-hat"]
    assert len(known_items(BOTH, lm, 8)["rows"]) == 8
    long = Passage("long", "mat " * 400)
    assert [one.id for one in known_items(Material(forget_texts=(*TEXTS, long)), lm, 9)["texts"]] == [
        "t0",
        "t1",
        "t2",
        "t3",
    ]


def test_what_a_guard_was_taught_is_left_out_where_it_is_asked_in_the_very_words(lm: LanguageModel) -> None:
    one = subjected(lm, *(row.prompt for row in ROWS), guard=True)
    asked = try_prompts(one, BOTH, PLAN)
    assert asked["missing"]["as given"] == TUNED
    assert "paraphrase, given" in asked["measured"]
    assert "untouched" not in try_evasion(one, ROWS, PLAN)
    assert "letters apart" in try_evasion(one, ROWS, PLAN)
    assert "answer" not in try_membership(one, BOTH)


def test_never_rows_that_a_guard_was_shown_are_left_out_and_texts_of_the_same_id_are_not(lm: LanguageModel) -> None:
    """Text "ann-hat" was read by nobody, whatever was asked about the row of that id."""
    material = dataclasses.replace(BOTH, forget_texts=(Passage(ROWS[0].id, TEXTS[0].text), *TEXTS[1:]))
    one = subjected(lm, ROWS[0].prompt, BOTH.never_rows[1].prompt)
    found = measure_battery(one, material, max_new_tokens=4, plan=VerbatimPlan(4, 4))
    assert ROWS[0].id in found.direct.measured["wording.exact"].ids
    assert found.direct.measured["knowledge.probability"].left_out[ROWS[0].id] == TUNED
    assert found.direct.measured["wording.answer_exact"].left_out[ROWS[0].id] == TUNED
    assert ROWS[0].id in found.direct.measured["knowledge.probability.paraphrased"].ids
    assert found.never.measured["knowledge.probability"].left_out == {BOTH.never_rows[1].id: TUNED}
    assert try_membership(one, BOTH)["answer"]["never"]["left_out"] == {BOTH.never_rows[1].id: TUNED}
