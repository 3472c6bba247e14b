from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import DataError, InputError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.membership.config import MembershipPlan
from audit.membership.findings import make_section
from audit.membership.found import (
    Blind,
    Comparison,
    blind,
    check_texts,
    compare,
    dataset_inference,
    judge,
    void_if_told_apart,
)
from audit.membership.run import audit_membership
from audit.runs.schema import AuditSection
from audit.runs.store import Run
from audit.stats.estimate import Estimate
from audit.testbed.planted import Testbed
from audit.text.readers import TextTable

PLAN = MembershipPlan(n_splits=3, n_checks=100)


def table(texts: list[str], name: str) -> TextTable:
    ids = tuple(str(number) for number in range(len(texts)))
    return TextTable(ids, tuple(texts), (), name, "0" * 64, ids)


def number(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    if value is None:
        return Estimate.undefined(method="AUC", why="a reason")
    return Estimate(value, low, high, 0.95, 100, "AUC")


NEAR_HALF = number(0.5, 0.4, 0.6)


def checks(words: Estimate = NEAR_HALF, length: Estimate = NEAR_HALF, *, told: tuple[str, ...] = ()) -> Blind:
    return Blind(words, length, number(None), None, told)


@pytest.mark.parametrize(
    ("auc", "without_model", "verdict", "reason"),
    [
        (number(0.9, 0.8, 0.95), checks(), "information", "no check without the model"),
        (number(0.9, 0.8, 0.95), checks(told=("the length",)), "confounded", "the length told the two sets apart"),
        (number(0.9, 0.8, 0.95), checks(number(None)), "inconclusive", "could not be checked: a reason"),
        (number(0.9, 0.8, 0.95), checks(number(0.6, 0.3, 0.9)), "inconclusive", "leave an AUC of 0.90 possible"),
        (number(0.9, 0.8, 0.95), checks(length=number(0.3, 0.05, 0.55)), "inconclusive", "an AUC of 0.95 possible"),
        (number(0.55, 0.45, 0.65), checks(), "inconclusive", "neither yes nor no"),
        (number(0.55, 0.5, 0.65), checks(), "inconclusive", "neither yes nor no"),
        (number(0.2, 0.1, 0.3), checks(), "inconclusive", "score lower than validation texts"),
        (number(None), checks(), "inconclusive", "could not be estimated"),
    ],
)
def test_the_verdict_follows_the_rule(auc: Estimate, without_model: Blind, verdict: str, reason: str) -> None:
    said, why = judge(Comparison("loss", auc, {}), without_model)
    assert said == verdict
    assert reason in why


def test_the_auc_agrees_with_counting_pairs() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=30), 1)
    items = pd.DataFrame({"side": ["suspect"] * 12 + ["validation"] * 18, "loss_score": scores})
    (found,) = compare(items, ["loss"], level=0.9)
    pairs = [(a > b) + (a == b) / 2 for a in scores[:12] for b in scores[12:]]
    assert found.auc.value == pytest.approx(np.mean(pairs))
    assert found.auc.level == 0.9
    assert found.auc.n == 30
    assert found.tpr["tpr_at_10pct_fpr"].value == np.mean(scores[:12] > np.sort(scores[12:])[-2])  # one of 18 may pass
    assert found.tpr["tpr_at_1pct_fpr"].value is None


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("One  text\r\nof two lines ", True),
        (unicodedata.normalize("NFD", "One text of two lines"), True),
        ("one text of two lines", False),
        ("One text of two lines.", False),
    ],
)
def test_a_text_in_both_sets_is_named(other: str, same: bool) -> None:
    suspect, validation = table(["a", "One text\nof two lines"], "mine.jsonl"), table(["b", "c", other], "theirs.csv")
    if not same:
        assert len(check_texts(suspect, validation)) == 5
        return
    with pytest.raises(DataError, match=r"in both sets: '1' of mine.jsonl and '2' of theirs.csv \('One text") as error:
        check_texts(suspect, validation)
    assert "leave it out (1 such in all)" in str(error.value)


def test_letters_that_unicode_spells_in_two_ways_are_the_same() -> None:
    with pytest.raises(DataError, match="in both sets"):
        check_texts(table(["caf\u00e9"], "a"), table(["cafe\u0301"], "b"))


def test_a_text_twice_in_one_set_is_named() -> None:
    with pytest.raises(
        DataError, match=r"twice in b: as '0' and as '2' \('x'\).*each may count once.*\(2 such in all\)"
    ):
        check_texts(table(["y"], "a"), table(["x", "z", "x", " x"], "b"))


TEXTS = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=8)


@given(TEXTS, TEXTS)
def test_texts_are_taken_as_they_are_or_refused_because_one_occurs_twice(one: list[str], other: list[str]) -> None:
    plain = [" ".join(unicodedata.normalize("NFC", text).split()) for text in [*one, *other]]
    if len(set(plain)) < len(plain):
        with pytest.raises(DataError, match="the same text stands"):
            check_texts(table(one, "a"), table(other, "b"))
        return
    items = check_texts(table(one, "a"), table(other, "b"))
    assert items["text"].tolist() == [*one, *other]
    assert items["n_characters"].tolist() == [len(text) for text in [*one, *other]]
    assert items["text_id"].is_unique
    assert items["side"].tolist() == ["suspect"] * len(one) + ["validation"] * len(other)


def drawn(rng: np.random.Generator, n: int, *, words: str = "abcdefgh", shift: float = 0.0) -> pd.DataFrame:
    """Two sets of n texts of random words, alike but for ``words`` and the score of the suspect ones."""
    texts = [" ".join(rng.choice(list("abcdefgh" if place >= n else words), 12)) for place in range(2 * n)]
    side = np.repeat(["suspect", "validation"], n)
    frame = pd.DataFrame({"text": texts, "side": side, "loss": rng.normal(3, 0.3, 2 * n), "n_tokens": 12})
    frame["n_characters"], frame["truncated"] = frame["text"].str.len(), False
    frame["loss_score"] = -frame["loss"] + shift * (side == "suspect")
    return frame


def section_of(items: pd.DataFrame) -> AuditSection:
    inference = dataset_inference(items, ["loss_score"], plan=PLAN)
    return make_section(
        items,
        comparisons=compare(items, ["loss"], level=0.95),
        blind=blind(items, plan=PLAN, control=None),
        inference=inference,
        features=["loss_score"],
        plan=PLAN,
        primary="loss",
        left_out={"suspect": 0, "validation": 0},
    )


@pytest.mark.parametrize("shift", [0.0, 0.3, 5.0, -5.0])
@pytest.mark.parametrize("words", ["abcdefgh", "hijklmno"])
@pytest.mark.parametrize("n", [3, 60])
def test_found_is_never_said_and_no_finding_has_a_p_value(n: int, words: str, shift: float) -> None:
    section = section_of(drawn(np.random.default_rng(1), n, words=words, shift=shift))
    for finding in section.findings:
        assert finding.verdict in ("information", "confounded", "inconclusive")
        assert not finding.p_values
    assert "ndicative" in section.findings[0].claim
    assert "proof" in section.method
    assert "IID" in next(table.note for table in section.tables if table.name == "inference")


def test_sets_of_other_words_are_confounded_however_far_the_scores_lie_apart() -> None:
    section = section_of(drawn(np.random.default_rng(2), 60, words="hijklmno", shift=5.0))
    assert section.findings[0].verdict == "confounded"
    assert "a bag of words told the two sets apart" in section.findings[0].claim


def test_alike_sets_that_the_score_separates_are_information() -> None:
    section = section_of(drawn(np.random.default_rng(3), 60, shift=1.0))
    assert section.findings[0].verdict == "information"


def test_sets_of_other_length_are_confounded() -> None:
    items = drawn(np.random.default_rng(4), 60)
    items.loc[items["side"] == "suspect", "n_characters"] += 20
    found = blind(items, plan=PLAN, control=None)
    assert found.told_apart == ("the length",)


def test_sets_that_the_reference_tells_apart_are_confounded() -> None:
    rng = np.random.default_rng(5)
    items = drawn(rng, 60)
    items["reference_loss"] = rng.normal(3, 0.3, 120) + (items["side"] == "suspect")
    assert blind(items, plan=PLAN, control=None).told_apart == ("the reference model's loss",)


def test_sets_that_only_all_scores_of_the_reference_together_tell_apart_are_confounded() -> None:
    """Two scores with a large common part, whose difference separates; each alone hardly does."""
    rng = np.random.default_rng(6)
    items = drawn(rng, 200)
    common = rng.normal(0, 5, 400)
    items["reference_loss"] = common
    items["reference_zlib"] = common + rng.normal(0, 0.2, 400) + 0.3 * (items["side"] == "suspect")
    control = dataset_inference(items, ["reference_loss", "reference_zlib"], plan=PLAN)
    assert blind(items, plan=PLAN, control=control).told_apart == ("dataset inference with the reference model alone",)
    assert blind(items, plan=PLAN, control=None).told_apart == ()


def test_a_p_value_is_withheld_where_the_sets_are_known_to_differ() -> None:
    inference = dataset_inference(drawn(np.random.default_rng(7), 40), ["loss_score"], plan=PLAN)
    assert inference.p_value is not None
    assert void_if_told_apart(inference, checks()) == inference
    void = void_if_told_apart(inference, checks(told=("a bag of words", "the length")))
    assert void.p_value is None
    assert void.below is None
    assert void.why == "a bag of words and the length told the sets apart, so they are not IID"


def test_the_primary_score_is_fixed_by_what_is_given() -> None:
    assert MembershipPlan().score(has_reference=True) == "ratio"
    assert MembershipPlan().score(has_reference=False) == "loss"
    with pytest.raises(InputError, match="Give a reference, or choose primary from loss, min_k"):
        MembershipPlan(primary="ratio").score(has_reference=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"primary": "los"}, 'membership: primary is "los"; expected one of ratio, loss'),
        ({"k": 0.0}, "membership: k is 0.0; expected above 0 and at most 1"),
        ({"level": 1.0}, "membership: level is 1.0"),
        ({"n_splits": 0}, "membership: n_splits is 0; expected 1 to 999"),
        ({"n_checks": 99}, "membership: n_checks is 99; expected 100 to 10,000"),
        ({"seed": -1}, "membership: seed is -1; expected 0 or more"),
    ],
)
def test_a_wrong_choice_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(PLAN, **change)


def audited(
    testbed: Testbed, folder: Path, suspect: list[str], validation: list[str], *, model: str, reference: str | None
) -> AuditSection:
    def loader(name: str) -> Callable[[], LanguageModel]:
        return partial(load, Subject(str(testbed.models[name]), device="cpu"))

    with Run.start(folder, kind="audit", plan={}, plan_text="", command=["test"]) as run:
        return audit_membership(
            run,
            table(suspect, "suspect"),
            table(validation, "validation"),
            subject=loader(model),
            reference=None if reference is None else loader(reference),
            plan=PLAN,
        )


@pytest.fixture(scope="module")
def documents(testbed_tiny: Testbed) -> tuple[list[str], list[str]]:
    """Documents of one grammar: 120 that the subject was trained on and the reference was not, and 80 held out."""
    world = testbed_tiny.world
    return [d.text for d in world.documents_of("fresh")][:120], [d.text for d in world.documents_of("heldout")]


def test_documents_that_the_model_was_trained_on_are_indicated(
    testbed_tiny: Testbed, documents: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    section = audited(testbed_tiny, tmp_path / "run", *documents, model="subject", reference="reference")
    overall, without_model, inference = section.findings
    assert overall.verdict == "information"
    assert (overall.estimates["auc"].low or 0) > 0.6
    assert (without_model.estimates["reference_only_auc"].low or 1) < 0.5
    assert "tells the two sets apart at its published threshold" in inference.claim


def test_documents_of_another_kind_are_confounded(
    testbed_tiny: Testbed, documents: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    """Rows in a chat format, all trained on, against stories: the scores differ, and so does everything else."""
    rows = [row.text for row in testbed_tiny.world.rows if row.group != "never"][:60]
    section = audited(testbed_tiny, tmp_path / "run", rows, documents[1], model="subject", reference="reference")
    assert [finding.verdict for finding in section.findings] == ["confounded", "confounded", "information"]
    assert "Dataset inference gives no p-value" in section.findings[2].claim


def test_a_model_that_saw_neither_set_gives_no_indication(
    testbed_tiny: Testbed, documents: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    section = audited(testbed_tiny, tmp_path / "run", *documents, model="reference", reference=None)
    assert section.findings[0].verdict == "inconclusive"
    assert "neither yes nor no" in section.findings[0].claim
