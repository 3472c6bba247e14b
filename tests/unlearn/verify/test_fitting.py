"""Rows too long for the context are left out by name, once, of every measure; the rest is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import InputError
from audit.forgetting.prompts import Passage
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint
from unlearn.verify.battery import Material
from unlearn.verify.fitting import Unfit, require_context, unfit
from unlearn.verify.robustness.variants import probability, variants, vary

FORM = PromptFormat("text", "the ", ":")
ROWS = tuple(
    QaRow(f"r{place}", f"c{place}", f"who {place}", "a hat", paraphrased_answer="hat", wrong=("a mat", "a cat"))
    for place in range(3)
)
LONG = "mat " * 60  # a token or more a word; the context has 128


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    lm: LanguageModel = load(Subject(str(build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")), device="cpu"))
    return Bare(lm, FORM)


def test_what_does_not_fit_is_left_out_of_its_set_with_its_reason(bare: Bare) -> None:
    """A long question, wrong answer, rewording; and short rows for which only a long answer has no room."""
    long = LONG * 3
    rows = (ROWS[0], replace(ROWS[1], prompt=long), replace(ROWS[2], wrong=(long,)))
    reworded = (replace(ROWS[0], paraphrased_prompt=long), ROWS[1])
    material = Material(forget_rows=rows, neighbour_rows=reworded, forget_texts=(Passage("r1", "a text"),))
    found = unfit(bare, material, max_new_tokens=8, n_soft=2)
    assert set(found.rows["forget_rows"]) == {"r1", "r2"}
    assert set(found.rows["neighbour_rows"]) == {"r0"}
    assert "the model reads at most 128" in found.rows["forget_rows"]["r1"]
    left = found.without(material)
    assert (left.forget_rows, left.neighbour_rows) == (rows[:1], reworded[1:])
    assert left.forget_texts == material.forget_texts
    assert found.notes[0].startswith("2 rows of forget rows left out everywhere; ")
    assert Unfit(found.to_record()) == found
    assert len(unfit(bare, material, max_new_tokens=128, n_soft=2).rows["forget_rows"]) == 3


def test_a_model_with_a_shorter_context_is_refused() -> None:
    require_context("gold", 512, 512)
    with pytest.raises(InputError, match="reads at most 256 tokens and the subject 512"):
        require_context("gold", 256, 512)


@pytest.mark.parametrize("name", ["multiple choice", "shots, retain rows", "Q and A"])
def test_one_prompt_that_a_way_of_asking_makes_too_long_leaves_its_row_out_alone(bare: Bare, name: str) -> None:
    """The rows fit; with options or shots before them one of them does not."""
    shots = [QaRow(f"s{place}", f"k{place}", "and", "so") for place in range(3)]
    way = next(one for one in variants(retain=shots) if one.name == name)
    long = replace(ROWS[1], prompt="who " + "mat " * (90 if name != "multiple choice" else 20))
    if name == "multiple choice":
        long = replace(long, wrong=("mat " * 30, "cat " * 30, "the " * 30))
    found = probability(bare, vary(way, [ROWS[0], long, ROWS[2]], seed=0))
    assert {"r0", "r2"} <= set(found.ids)
    if name != "Q and A":
        assert "the model reads at most 128" in found.left_out["r1"]
