"""The whole fit on the tiny testbed: classifier, threshold, target, strength; and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import InputError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.testbed.planted import Testbed
from unlearn.eco.calibration import one_sided, one_sided_by_group, two_sided
from unlearn.eco.classifier import PromptScores
from unlearn.eco.corruptions import Corruption
from unlearn.eco.fit import FitPlan, NotEnoughError, Texts, fit, prompt_mark, threshold_of
from unlearn.eco.objective import row_values
from unlearn.eco.search import SearchSettings
from unlearn.eco.search_ledger import Measurement

QUICK = SearchSettings(scan_points=4, local_points=1, n_fresh=3, sensitivity_points=0)


class Words:
    """Share of a text's words that stand in forget prompts and in no other one: a classifier without an encoder."""

    def __init__(self, texts: Sequence[str], forget: Sequence[bool]) -> None:
        words: list[set[str]] = [set(), set()]
        for text, label in zip(texts, forget, strict=True):
            words[label] |= set(text.lower().split())
        self._own = words[1] - words[0]

    def scores(self, texts: Sequence[str]) -> PromptScores:
        p = np.array([len(self._own & set(text.lower().split())) / (1 + len(text.split())) for text in texts])
        return PromptScores(p, np.ones(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_))


def rows(testbed: Testbed, group: str) -> list[QaRow]:
    return [
        QaRow(row.id, row.name, row.question, row.answer, row.novel_question, row.paraphrased_answer, row.wrong_answers)
        for row in testbed.world.rows_of(group=group)
    ]


@pytest.fixture(scope="module")
def lm(testbed_tiny: Testbed) -> LanguageModel:
    return load(Subject(str(testbed_tiny.models["subject"]), device="cpu"))


@pytest.fixture(scope="module")
def texts(testbed_tiny: Testbed) -> Texts:
    forget, never = rows(testbed_tiny, "forget"), rows(testbed_tiny, "never")
    return Texts(forget, [*rows(testbed_tiny, "retain"), *never], never)


PLAN = FitPlan("two people", alpha=0.1, search=QUICK, most_reworded=10)


def test_a_fit_from_rows_to_guard(lm: LanguageModel, texts: Texts) -> None:
    names = tuple({row.cluster for row in texts.forget})
    named = dataclasses.replace(texts, names=names)
    made = fit(lm, named, PLAN, form=PromptFormat(), teach=Words, key=b"k" * 16)
    assert made.found is not None
    guard = made.guard
    assert guard.settings.corruption == Corruption("rand_noise_first_n", made.found.strength, 1)
    assert guard.flagged([row.prompt for row in made.dealt.audit]).all()
    assert made.calibration.n == len(made.dealt.calibration)  # type: ignore[union-attr]
    metric = made.found.metrics[0]
    assert metric.target.source == "entities never learnt"
    never = row_values(Bare(lm, guard.form), tuple(texts.never), "probability", max_new_tokens=1).mean()
    assert metric.target.value == pytest.approx(never)
    seen = made.record.evidence["seen"]
    assert prompt_mark(made.dealt.tuning[0].asked) in seen["tuning"]
    marks = {mark for part in seen.values() for mark in part}
    assert not marks & {prompt_mark(row.asked) for row in (*made.dealt.audit, *made.dealt.test)}
    taught = set(made.record.evidence["taught"])  # the classifier is taught every forget prompt, the audit's too
    assert {prompt_mark(row.asked) for row in texts.forget} <= taught
    assert not taught & {prompt_mark(row.asked) for row in texts.retain}
    assert not taught & {prompt_mark(row.paraphrased_prompt) for row in made.dealt.audit}  # type: ignore[union-attr]
    assert len(made.held_out["retain"]) == len(made.dealt.test)
    json.dumps(made.record.evidence)


def test_a_fit_that_was_cut_off_goes_on_with_what_it_measured(lm: LanguageModel, texts: Texts) -> None:
    kept: list[Measurement] = []
    first = fit(lm, texts, PLAN, form=PromptFormat(), teach=Words, key=b"k" * 16, on_measured=kept.append)
    told: list[Measurement] = []
    again = fit(
        lm, texts, PLAN, form=PromptFormat(), teach=Words, key=b"k" * 16, done=kept[:5], on_measured=told.append
    )
    assert told == kept[5:]
    assert again.guard.settings == first.guard.settings
    assert again.record == first.record


def test_nothing_to_forget_is_said(lm: LanguageModel, texts: Texts) -> None:
    retain = [*texts.retain[:24], *texts.forget]
    strangers = Texts(texts.never, retain, texts.forget)
    with pytest.raises(InputError, match="nothing is to be forgotten"):
        fit(lm, strangers, PLAN, form=PromptFormat(), teach=Words, key=b"k" * 16)


def test_promises_that_cannot_be_held_are_refused(lm: LanguageModel, texts: Texts) -> None:
    strict = dataclasses.replace(PLAN, alpha=0.001)
    with pytest.raises(NotEnoughError, match=r"at least 999 are needed"):
        fit(lm, texts, strict, form=PromptFormat(), teach=Words, key=b"k" * 16)
    misses = dataclasses.replace(PLAN, alpha_forget=0.01)
    with pytest.raises(NotEnoughError, match="forget scores cannot hold a rate of 0.01"):
        fit(lm, texts, misses, form=PromptFormat(), teach=Words, key=b"k" * 16)


def test_prompts_that_the_classifier_cannot_read_void_no_promise(lm: LanguageModel, texts: Texts) -> None:
    class Blind(Words):
        """Cannot read one prompt in four, and such prompts are always flagged."""

        def scores(self, texts: Sequence[str]) -> PromptScores:
            unseen = np.array([sum(map(ord, text)) % 4 == 0 for text in texts])
            return super().scores(texts)._replace(unseen=unseen)

    with pytest.raises(NotEnoughError, match="knows no character"):
        fit(lm, texts, PLAN, form=PromptFormat(), teach=Blind, key=b"k" * 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"never": ()}, "no target for the strength"),
        ({"forget": [QaRow("a", "a", "who?"), QaRow("b", "b", "what?")]}, "has no answer"),
        ({"groups": {"x": "en"}}, "has no group"),
    ],
)
def test_rows_that_do_not_do(lm: LanguageModel, texts: Texts, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(lm, dataclasses.replace(texts, **changes), PLAN, form=PromptFormat(), teach=Words, key=b"k" * 16)  # type: ignore[arg-type]


def test_a_given_strength_is_taken_as_it_is_also_0(lm: LanguageModel, texts: Texts) -> None:
    plan = dataclasses.replace(PLAN, strength=0.0)
    made = fit(lm, texts, plan, form=PromptFormat(), teach=Words, key=b"k" * 16)
    assert made.guard.settings.corruption.strength == 0.0
    assert made.found is None


def test_plans_that_contradict_themselves() -> None:
    for changes in (
        {"alpha": 0.0},
        {"alpha_forget": 1.5},
        {"targets": (0.1, 0.2)},
        {"function": "zero_out_top_k", "strength": 3.0},
        {"function": "nonsense"},
        {"on_both": "maybe"},
    ):
        with pytest.raises(InputError):
            FitPlan("x", **changes)  # type: ignore[arg-type]


def test_one_number_flags_as_the_sets_do() -> None:
    """Each policy of the two-sided sets, and groups, against a threshold on the score."""
    rng = np.random.default_rng(0)
    retain, forget = rng.beta(1, 5, 60).round(2), rng.beta(5, 1, 60).round(2)
    new = np.concatenate([rng.random(300).round(2), retain, forget])
    for both in ("corrupt", "pass"):
        for none in ("corrupt", "pass"):
            for alphas in ((0.1, 0.1), (0.5, 0.5)):
                sets = two_sided(
                    retain, forget, alpha_retain=alphas[0], alpha_forget=alphas[1], on_both=both, on_none=none
                )  # type: ignore[arg-type]
                assert ((new > threshold_of(sets)) == sets.flags(new)).all()
    groups = one_sided_by_group(retain, ["en", "de"] * 30, alpha=0.1)
    assert threshold_of(groups) == max(one.value for one in groups.values())
    assert math.isinf(threshold_of(one_sided(retain[:5], alpha=0.01)))
