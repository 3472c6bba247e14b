"""Relearning: what is tuned is never measured, every model gets the same, and nothing of the model is touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import DataError, InputError, ModelError
from audit.forgetting.measured import Measured
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint
from unlearn.lora import LoraPlan, attach
from unlearn.sequences import NO_LABEL
from unlearn.training import Recipe
from unlearn.verify.robustness.relearn import (
    FACTS,
    FORGET_ROWS,
    UNRELATED,
    Curve,
    RelearnPlan,
    Text,
    Tuning,
    plain_texts,
    question_texts,
    relearn,
)

FORM = PromptFormat("text", "the ", ":")
ROWS = [
    QaRow(f"{who}-{what}", who, f"{what} of {who}", answer)
    for who in ("ann", "bob", "cat", "dog")
    for what, answer in (("hat", "red"), ("mat", "over the hill"))
]
PLAN = RelearnPlan(Recipe(1e-2, 4), every=2, batch_size=2, seeds=(0, 1, 2))
SETTINGS = {"familiarity": "probability"}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(Subject(str(build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")), device="cpu"))


def familiarity(lm: LanguageModel, rows: Sequence[QaRow]) -> Measured:
    scores = Bare(lm, FORM).log_probs([row.prompt for row in rows], [row.answer for row in rows])
    values = np.array([np.exp(one.mean()) for one in scores])
    return Measured("probability", tuple(row.id for row in rows), tuple(row.cluster for row in rows), values)


def tuning(lm: LanguageModel, kind: str = FORGET_ROWS, share: float = 0.25) -> Tuning:
    return Tuning(kind, question_texts(lm, FORM, ROWS), share)


def curves_of(lm: LanguageModel, name: str = "gold", plan: RelearnPlan = PLAN, **options: object) -> list[Curve]:
    return relearn(lm, name, [tuning(lm)], ROWS, familiarity, plan, settings=SETTINGS, **options)


def test_no_cluster_that_is_tuned_is_measured_and_the_model_stays_as_it_is(lm: LanguageModel) -> None:
    before = {name: one.clone() for name, one in lm.model.state_dict().items()}
    told: list[tuple[int, int]] = []
    curves = curves_of(lm, progress=lambda _, done, total: told.append((done, total)))
    assert [(one.seed, one.steps, one.values.shape) for one in curves] == [(k, (0, 2, 4), (3, 6)) for k in range(3)]
    for one in curves:
        assert len(one.tuned) == 1
        assert set(one.clusters) == {"ann", "bob", "cat", "dog"} - set(one.tuned)
        assert len(one.losses) == 4
    assert len({one.tuned for one in curves}) > 1
    assert told[-1] == (12, 12)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(torch.equal(one, before[name]) for name, one in lm.model.state_dict().items())
    assert not any(one.requires_grad for one in lm.model.parameters())


def test_a_curve_begins_at_the_model_itself_and_tuning_brings_the_tuned_rows_back(lm: LanguageModel) -> None:
    """Rows of all clusters are the same answers here, so unseen ones rise with them; the first value is the model's."""
    plan = dataclasses.replace(PLAN, recipe=Recipe(1e-2, 30), every=30, seeds=(0,))
    (curve,) = curves_of(lm, plan=plan)
    unseen = [row for row in ROWS if row.cluster not in curve.tuned]
    np.testing.assert_array_equal(curve.values[0], familiarity(lm, unseen).values)
    assert curve.values[-1].mean() > 2 * curve.values[0].mean()
    assert curve.losses[-1] < curve.losses[0] / 2
    assert curve.measured(0).to_record() == familiarity(lm, unseen).to_record()


def test_every_model_is_tuned_on_the_same_texts_in_the_same_order(lm: LanguageModel) -> None:
    """Same model, other name: the same numbers. Other weights: the same settings, and another key."""
    first, again = curves_of(lm), curves_of(lm, "gold_2")
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    weights = dataclasses.replace(lm.fingerprint, weights="others")
    (other, *_) = curves_of(dataclasses.replace(lm, fingerprint=weights))
    assert (other.settings, other.tuned) == (first[0].settings, first[0].tuned)
    assert other.key != first[0].key


def test_a_model_that_was_saved_anew_compares_though_its_configuration_is_written_otherwise(lm: LanguageModel) -> None:
    """Whoever saves a model writes tokenizer_config.json anew; how text is cut stands in tokenizer.json."""
    print_ = lm.fingerprint
    saved = dataclasses.replace(lm, fingerprint=dataclasses.replace(print_, tokenizer="written anew"))
    files = {**print_.files, "tokenizer.json": "another"}
    other = dataclasses.replace(lm, fingerprint=dataclasses.replace(print_, files=files))
    plan = dataclasses.replace(PLAN, seeds=(0,))
    settings = [
        relearn(one, "m", [tuning(lm)], ROWS, familiarity, plan, settings=SETTINGS)[0].settings
        for one in (lm, saved, other)
    ]
    assert settings[0] == settings[1] != settings[2]


def test_work_that_was_killed_goes_on_with_the_next_curve(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "made" / "curves.jsonl"

    def killed(_: str, done: int, total: int) -> None:
        if done == 6:  # in the middle of the second curve
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curves_of(lm, path=path, progress=killed)
    assert len(path.read_text().splitlines()) == 1
    whole = curves_of(lm)
    asked: list[int] = []

    def counted(model: LanguageModel, rows: Sequence[QaRow]) -> Measured:
        asked.append(len(rows))
        return familiarity(model, rows)

    resumed = relearn(lm, "gold", [tuning(lm)], ROWS, counted, PLAN, settings=SETTINGS, path=path)
    assert len(asked) == 6  # two curves of three measurements
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.losses == other.losses
    relearn(lm, "gold", [tuning(lm)], ROWS, counted, PLAN, settings=SETTINGS, path=path)
    assert len(asked) == 6
    relearn(lm, "gold", [tuning(lm)], ROWS, counted, PLAN, settings={"familiarity": "another"}, path=path)
    assert len(asked) == 15
    path.write_text('{"model": "gold"}\n')
    with pytest.raises(DataError, match="curve cannot be read"):
        curves_of(lm, path=path)


def test_text_without_a_cluster_among_the_rows_leaves_every_row_to_measure(lm: LanguageModel) -> None:
    texts = plain_texts(lm, [("a", "a", "the dog ran over the hill"), ("b", "b", "the cat sat")], block=6)
    assert all(text.tokens.n_tokens <= 6 for text in texts)
    assert {text.cluster for text in texts} == {"a", "b"}
    (curve,) = relearn(
        lm, "gold", [Tuning(UNRELATED, texts, 1.0)], ROWS, familiarity, dataclasses.replace(PLAN, seeds=(0,)),
        settings=SETTINGS,
    )  # fmt: skip
    assert curve.ids == tuple(row.id for row in ROWS)


def test_the_loss_is_on_the_answer_and_what_ends_it(lm: LanguageModel) -> None:
    (text, *_) = question_texts(lm, FORM, ROWS)
    wanted = text.tokens.ids[text.tokens.labels != NO_LABEL]
    assert lm.tokenizer.decode(wanted[:-1]) == " red"
    assert int(wanted[-1]) == lm.tokenizer.eos_token_id


def test_an_adapter_can_be_tuned_over_the_very_weights_and_one_that_is_there_is_merged(tmp_path: Path) -> None:
    lm = load(Subject(str(build_checkpoint(tmp_path, "llama")), device="cpu"))
    before = {name: one.clone() for name, one in lm.model.state_dict().items()}
    plan = dataclasses.replace(PLAN, recipe=Recipe(1e-2, 10), every=10, seeds=(0,), lora=LoraPlan(rank=2))
    (curve,) = curves_of(lm, plan=plan)
    assert curve.values[-1].mean() > curve.values[0].mean()
    assert all(torch.equal(one, before[name]) for name, one in lm.model.state_dict().items())
    twin = attach(lm, LoraPlan(rank=2), seed=0)
    for name, one in twin.lm.model.named_parameters():
        if "lora_B" in name:
            one.data.normal_(std=0.05)
    held = {name: one.clone() for name, one in twin.lm.model.state_dict().items()}
    (adapted,) = curves_of(twin.lm, plan=dataclasses.replace(plan, lora=None))
    unseen = [row for row in ROWS if row.cluster not in adapted.tuned]
    np.testing.assert_allclose(adapted.values[0], familiarity(twin.lm, unseen).values, rtol=1e-3)
    assert not np.allclose(adapted.values[0], curve.values[0], rtol=1e-3)
    assert all(torch.equal(one, held[name]) for name, one in twin.lm.model.state_dict().items())


def test_a_row_without_a_value_after_one_step_counts_after_none(lm: LanguageModel) -> None:
    calls: list[int] = []

    def lacking(model: LanguageModel, rows: Sequence[QaRow]) -> Measured:
        calls.append(0)
        found = familiarity(model, rows)
        if len(calls) != 2:
            return found
        return Measured("probability", found.ids[1:], found.passages[1:], found.values[1:], {found.ids[0]: "it broke"})

    plan = dataclasses.replace(PLAN, seeds=(0,))
    (curve,) = relearn(lm, "gold", [tuning(lm)], ROWS, lacking, plan, settings=SETTINGS)
    assert list(curve.left_out.values()) == ["after 2 steps: it broke"]
    assert curve.values.shape == (3, 5)
    assert Curve.of_record(curve.to_record()).left_out == curve.left_out


def test_bad_input_is_refused_with_what_mends_it(lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row is unseen"):
        relearn(lm, "gold", [tuning(lm, share=1.0)], ROWS, familiarity, PLAN, settings=SETTINGS)
    with pytest.raises(InputError, match="each once"):
        relearn(lm, "gold", [tuning(lm), tuning(lm)], ROWS, familiarity, PLAN, settings=SETTINGS)
    elsewhere = tuple(dataclasses.replace(text, cluster="x") for text in question_texts(lm, FORM, ROWS))
    with pytest.raises(InputError, match="would tune on what it measures: 'ann-hat'"):
        relearn(lm, "gold", [Tuning(FACTS, elsewhere, 1.0)], ROWS, familiarity, PLAN, settings=SETTINGS)
    with pytest.raises(InputError, match="does not speak of the rows"):
        relearn(lm, "gold", [tuning(lm)], ROWS, lambda model, _: familiarity(model, ROWS), PLAN, settings=SETTINGS)
    with pytest.raises(InputError, match="different ids"):
        relearn(lm, "gold", [tuning(lm)], [*ROWS, ROWS[0]], familiarity, PLAN, settings=SETTINGS)
    with pytest.raises(InputError, match="no text"):
        Tuning(FACTS, (), 0.5)
    with pytest.raises(InputError, match="share is 0"):
        tuning(lm, share=0)
    for options in ({"every": 5}, {"every": 0}, {"batch_size": 0}, {"seeds": ()}, {"seeds": (1, 1)}):
        with pytest.raises(InputError, match="relearning:"):
            dataclasses.replace(PLAN, **options)
    long = Text("long", "x", plain_texts(lm, [("a", "a", "the cat " * 40)], block=100)[0].tokens)
    short = dataclasses.replace(lm, n_context=20)
    with pytest.raises(DataError, match=r"text to relearn from \(unrelated text\) has"):
        relearn(short, "gold", [Tuning(UNRELATED, (long,), 1.0)], ROWS, familiarity, PLAN, settings=SETTINGS)


def test_a_training_that_explodes_is_told_and_finished_curves_stay(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "curves.jsonl"
    curves_of(lm, path=path)
    with pytest.raises(ModelError, match=r"relearning of gold on forget rows, seed 0: .* smaller learning rate"):
        curves_of(lm, plan=dataclasses.replace(PLAN, recipe=Recipe(1e30, 4)), path=path)
    assert len(path.read_text().splitlines()) == 3
