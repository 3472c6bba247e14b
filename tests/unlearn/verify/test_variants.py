"""Other forms of a question: what each makes, what none may give, and how an answer that is begun is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import InputError
from tests.forgetting.small_models import plain_log_probs, small_model
from tests.unlearn.eco.evaluate.small_systems import FORM, Told
from unlearn.verify.robustness.variants import (
    GIVES_AWAY,
    Prefilled,
    Variant,
    asked_words,
    carrier,
    probability,
    rouge,
    variants,
    vary,
)

ROW = QaRow(
    "1", "Zorbla", "What does Zorbla eat?", "Every day it is figs for Zorbla.",
    paraphrased_prompt="Tell me Zorbla's favourite food.", paraphrased_answer="Zorbla eats figs daily.",
    wrong=("Zorbla eats old bread daily.", "Zorbla eats plums daily."),
)  # fmt: skip


def named(name: str, **given: tuple[QaRow, ...]) -> Variant:
    return next(one for one in variants(**given) if one.name == name)  # type: ignore[arg-type]


def test_what_is_asked_is_what_tells_right_from_wrong() -> None:
    assert asked_words(ROW) == {"figs"}
    found = carrier(ROW)
    assert found is not None
    assert found == ("Zorbla eats", ("figs", "old bread", "plums"), "daily.")
    assert carrier(replace(ROW, wrong=("No idea.",))) is None


def test_forms_by_hand() -> None:
    made = {name: vary(named(name), [ROW], seed=0) for name in ("cloze", "completion", "prefix, first words", "JSON")}
    assert made["cloze"].rows[0].prompt.endswith("Fill in the gap: Zorbla eats ____ daily.")
    assert made["cloze"].rows[0].answer == "figs"
    assert made["completion"].rows[0].answer == "figs daily."
    assert made["completion"].rows[0].wrong == ("old bread daily.", "plums daily.")
    first = made["prefix, first words"]
    assert list(first.prefills.values()) == ["Every day it"]  # half of seven words, before "figs"
    assert first.rows[0].answer == "is figs for Zorbla."
    assert first.given.values == pytest.approx([3 / 7])
    assert made["JSON"].rows[0].prompt.endswith('{"question": "What does Zorbla eat?", "answer": "')


def test_multiple_choice_is_shuffled_and_read_by_its_letters() -> None:
    """Logits 2 for the right letter and 0 for two others: e^2 / (e^2 + 2)."""
    varied = vary(named("multiple choice"), [replace(ROW, id=str(place)) for place in range(20)], seed=0)
    assert len({row.answer for row in varied.rows}) == 3
    right = {row.prompt: "ABC".index(row.answer) for row in varied.rows}
    for row in varied.rows:
        assert f"{row.answer}. Zorbla eats figs daily." in row.prompt.splitlines()
    system = Told(logits=lambda prompt: [2.0 * (place == right[prompt]) for place in range(3)])
    assert probability(system, varied).values == pytest.approx(np.e**2 / (np.e**2 + 2))
    silent = probability(Told(logits=lambda _: [np.nan] * 3), varied)
    assert len(silent.left_out) == 20


def test_ids_stay_and_no_variant_gives_what_is_asked() -> None:
    given = (replace(ROW, id="2", prompt="Where is Zorbla?", answer="In Ost."),)
    tells = (replace(ROW, id="3", prompt="What does Zorbla buy?", answer="Mostly figs."),)
    for one in variants(shots=given, retain=()):
        varied = vary(one, [ROW], seed=0)
        assert {row.id for row in varied.rows} | set(varied.left_out) == {"1"}
        for row in varied.rows:
            assert one.options or "figs" not in row.prompt.lower()
    assert (
        vary(named("hints, other facts", shots=given), [ROW], seed=0).rows[0].prompt.startswith("Q: Where is Zorbla?")
    )
    assert "all of them would give" in vary(named("hints, other facts", shots=tells), [ROW], seed=0).left_out["1"]
    worded = replace(ROW, paraphrased_prompt="Does Zorbla eat figs?")
    assert vary(named("paraphrase, given"), [worded], seed=0).left_out == {"1": GIVES_AWAY}


def test_a_shot_that_is_evaluated_is_refused() -> None:
    with pytest.raises(InputError, match="is a shot and is evaluated too"):
        vary(named("hints, other facts", shots=(replace(ROW, id="9"),)), [ROW], seed=0)


def test_an_answer_that_is_begun_is_scored_behind_its_beginning(tmp_path: Path) -> None:
    """log p(" sat on" | prompt, " the cat") by one plain forward pass; and greedy text goes on from there."""
    lm = small_model(tmp_path)
    bare = Bare(lm, FORM)
    begun = Prefilled(bare, {"who": "the cat"})
    (found,) = begun.log_probs(["who"], ["sat on"])
    ids = FORM.encode(lm, "who").ids
    told = lm.tokenizer("the cat sat on", add_special_tokens=False)["input_ids"]
    expected = plain_log_probs(lm, ids + told)
    n = len(found)
    assert lm.tokenizer.decode(told[-n:]) == " sat on"
    wanted = [float(expected[len(ids) + len(told) - n + place - 1, told[len(told) - n + place]]) for place in range(n)]
    assert found == pytest.approx(wanted, abs=1e-4)
    assert begun.log_probs(["other"], ["sat on"])[0] == pytest.approx(bare.log_probs(["other"], ["sat on"])[0])
    said = begun.answers(["who", "other"], max_new_tokens=4)
    assert said[1] == bare.answers(["other"], max_new_tokens=4)[0]


def test_a_system_that_cannot_be_begun_says_so() -> None:
    varied = vary(named("prefix, sure"), [ROW], seed=0)
    found = rouge(Told(), varied)
    assert "cannot be made to go on" in found.left_out["1"]
    told = Told(said=lambda _: "figs")
    plain = rouge(told, vary(named("as given"), [ROW], seed=0))
    assert plain.values == pytest.approx([1 / 7])
