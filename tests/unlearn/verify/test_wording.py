"""Wording of passages and answers: by hand, by a plain forward pass, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.errors import InputError
from audit.forgetting.prompts import Passage
from audit.forgetting.verbatim import VerbatimPlan
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from tests.forgetting.small_models import plain_log_probs, small_model
from tests.unlearn.eco.evaluate.small_systems import Told
from unlearn.verify.wording import (
    MEASURES,
    NO_ARGMAX,
    common_span,
    measure_answer_wording,
    measure_said_wording,
    measure_wording,
)

PLAN = VerbatimPlan(4, 6)
FORM = PromptFormat("text", "Q: ", "\nA:")
PASSAGES = [
    Passage("a", "the cat sat on the mat and the dog ran over the hill"),
    Passage("b", "the dog sat on the hill and the cat ran over the mat"),
    Passage("short", "the cat"),
]


@pytest.fixture(scope="module", params=[True, False], ids=["bos", "no bos"])
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return small_model(tmp_path_factory.mktemp("model"), bos=request.param)


def test_the_longest_run_of_common_words() -> None:
    assert common_span("the cat sat on the mat", "A CAT sat, on a mat") == 3
    assert common_span("one two three", "three two one") == 1
    assert common_span("", "one") == common_span("one", "...") == common_span("one", "two") == 0


def test_passages_by_a_plain_forward_pass(lm: LanguageModel) -> None:
    found = measure_wording(lm, PASSAGES, plan=PLAN)
    assert set(found.measured) == {"wording.rouge", "wording.span", "wording.extraction", "wording.exact"}
    assert not found.missing
    for key in ("wording.rouge", "wording.span"):
        assert found.measured[key].ids == ("a", "b")
        assert "tokens, fewer than 10" in found.measured[key].left_out["short"]
    lead = prefix_ids(lm)
    for place, ids in enumerate(encode(lm, [passage.text for passage in PASSAGES])):
        whole = [*lead, *ids]
        best = plain_log_probs(lm, whole).argmax(dim=1).tolist()[:-1]
        hits = [one == other for one, other in zip(best, whole[1:], strict=True)]
        n = len(hits)
        k = next(k for k in range(n + 1) if all(hits[k:]))
        assert found.measured["wording.exact"].values[place] == pytest.approx(np.mean(hits))
        assert found.measured["wording.extraction"].values[place] == pytest.approx(1 - k / n)


def test_what_does_not_fit_is_told_and_the_rest_is_measured(lm: LanguageModel) -> None:
    long = Passage("long", "the cat sat on the mat " * 40)
    found = measure_wording(lm, [PASSAGES[0], Passage("empty", ""), long], plan=PLAN)
    assert found.measured["wording.exact"].ids == ("a",)
    assert "more than" in found.measured["wording.exact"].left_out["long"]
    assert "0 tokens" in found.measured["wording.exact"].left_out["empty"]
    none = measure_wording(lm, PASSAGES, plan=VerbatimPlan(20, 50))
    assert "no passage has 70 tokens" in none.missing["wording.rouge"]
    assert len(none.measured["wording.exact"].ids) == 3
    nothing = measure_wording(lm, [])
    assert nothing.missing["wording.exact"] == "there are no passages"
    assert set(nothing.missing) == {"wording.rouge", "wording.span", "wording.extraction", "wording.exact"}
    with pytest.raises(InputError, match="two passages have one id"):
        measure_wording(lm, [PASSAGES[0], PASSAGES[0]], plan=PLAN)


def test_a_system_that_only_answers_is_asked_and_its_argmax_is_missing(lm: LanguageModel) -> None:
    """It says the truth of "a" and refuses "b": ROUGE 1 and 0, spans of all the truth's words and 0."""
    ids = encode(lm, [PASSAGES[0].text])[0]
    rest = lm.tokenizer.decode(ids[PLAN.n_prompt : PLAN.n_prompt + PLAN.n_new])
    start = lm.tokenizer.decode(ids[: PLAN.n_prompt])
    system = Told(lm, said=lambda prompt: rest if prompt == start else "")
    found = measure_said_wording(system, PASSAGES, plan=PLAN)
    assert found.measured["wording.said_rouge"].values.tolist() == [1.0, 0.0]
    assert found.measured["wording.said_span"].values.tolist() == [len(rest.split()), 0]
    assert found.measured["wording.said_span"].left_out.keys() == {"short"}
    assert found.missing["wording.extraction"] == NO_ARGMAX
    assert not measure_said_wording(system, PASSAGES, plan=PLAN, reads=True).missing
    blank = measure_said_wording(system, [Passage("blank", " " * 60 + "cat")], plan=PLAN)
    assert "blank" in blank.missing["wording.said_rouge"]


def test_answers_by_a_plain_forward_pass(lm: LanguageModel) -> None:
    rows = [
        QaRow("1", "x", "who sat?", "the cat sat"),
        QaRow("2", "y", "who ran?", "the dog ran over the hill"),
        QaRow("3", "y", "who?", " "),
        QaRow("4", "y", "who? " * 60, "the dog"),
    ]
    found = measure_answer_wording(lm, FORM, rows, "forget")
    exact, strength = found.measured["wording.answer_exact"], found.measured["wording.answer_extraction"]
    assert exact.ids == strength.ids == ("1", "2")
    assert exact.left_out["3"] == "it has no answer"
    assert "reads at most" in exact.left_out["4"]
    for place, row in enumerate(rows[:2]):
        before, after = (encode(lm, [text])[0] for text in (f"Q: {row.prompt}\nA:", f" {row.answer}"))
        ids = [*prefix_ids(lm), *before, *after]
        best = plain_log_probs(lm, ids).argmax(dim=1).tolist()
        hits = [best[at - 1] == ids[at] for at in range(len(ids) - len(after), len(ids))]
        k = next(k for k in range(len(hits) + 1) if all(hits[k:]))
        assert exact.values[place] == pytest.approx(np.mean(hits))
        assert strength.values[place] == pytest.approx(1 - k / len(hits))
    assert "there are no items" in measure_answer_wording(lm, FORM, [], "forget").missing["wording.answer_exact"]


def test_every_key_is_a_measure(lm: LanguageModel, tmp_path: Path) -> None:
    system = Told(lm, said=lambda _: "")
    keys: set[str] = set()
    for found in (
        measure_wording(lm, PASSAGES, plan=PLAN),
        measure_said_wording(system, PASSAGES, plan=PLAN),
        measure_answer_wording(lm, FORM, [QaRow("1", "x", "who?", "the cat")], "forget"),
    ):
        keys |= set(found.measured) | set(found.missing)
    assert keys == {measure.key for measure in MEASURES}
