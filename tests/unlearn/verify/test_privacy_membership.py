from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audit.answers.rows import QaRow
from audit.errors import DataError, InputError
from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage
from audit.lm.load import LanguageModel
from audit.membership.extras import Extras
from audit.membership.ratio import loss_difference
from audit.membership.score import score_texts
from audit.membership.score_names import SCORES
from tests.forgetting.small_models import small_model
from unlearn.verify.privacy.membership import (
    MEASURES,
    NEVER_SAID,
    BySet,
    answer_scores,
    check_alike,
    compare,
    excess,
    membership_scores,
    score_sets,
)
from unlearn.verify.privacy.texts import Role, Sets, Text

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "over", "hill", "with"]
PAIR: tuple[Role, Role] = ("forget", "never")


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return small_model(tmp_path_factory.mktemp("privacy"))


def sentences(n: int, seed: int, *, extra: str = "") -> list[str]:
    dice = np.random.default_rng(seed)
    return [" ".join(dice.choice(WORDS, size=12)) + extra for _ in range(n)]


def sets(n: int, *, extra: str = "") -> Sets:
    made = {
        role: sentences(n, seed, extra=extra if role == "forget" else "")
        for seed, role in enumerate(("forget", "retain", "never"))
    }
    return Sets(*(tuple(Text(f"{role}{i}", f"{role}{i}", text) for i, text in enumerate(made[role])) for role in made))


def by_set(name: str, values: dict[Role, NDArray[np.float64]]) -> BySet:
    ids = {role: tuple(f"{role}{place}" for place in range(len(one))) for role, one in values.items()}
    return {role: Measured(name, ids[role], ids[role], one) for role, one in values.items()}


def test_scores_are_those_of_palimpsest_score(lm: LanguageModel) -> None:
    texts = sets(3)
    extras = Extras(variants=True, lowercase=True, neighbours=2, shots=("a hill and a dog",))
    own, other = score_sets(lm, texts, k=0.3, extras=extras), score_sets(lm, texts)
    found = membership_scores(own, other)
    assert set(found) == {*SCORES, "min_40"}  # every score of `palimpsest score`, and MUSE's
    every = [text.text for _, text in texts.every()]
    plain, forty = (score_texts(lm, every, ids=[str(i) for i in range(9)], k=k) for k in (0.3, 0.4))
    for name, values in (
        ("loss", -plain.loss),
        ("min_k", plain.min_k),
        ("zlib", plain.zlib),
        ("min_20", plain.min_20),
        ("min_40", forty.min_k),
        ("ratio", loss_difference(plain.loss, plain.loss)),
    ):
        joined = np.concatenate([found[name][role].values for role in ("forget", "retain", "never")])
        np.testing.assert_allclose(joined, values, atol=1e-6, err_msg=name)


def test_the_default_is_the_five_without_a_reference_four(lm: LanguageModel) -> None:
    found = membership_scores(score_sets(lm, sets(2)))
    assert list(found) == ["loss", "min_k", "min_k_plus_plus", "zlib", "min_40"]


def test_a_text_in_two_sets_is_named() -> None:
    one, other = Text("a", "a", "The  cat sat."), Text("b", "b", "The cat sat.")
    with pytest.raises(DataError, match="'a' of forget is 'b' of retain"):
        Sets((one,), (other,))
    with pytest.raises(InputError, match="fewer ids"):
        Sets((one, one._replace(text="the dog")))
    with pytest.raises(InputError, match="forget set is empty"):
        Sets(())


def test_rows_are_question_and_answer_and_passages_their_own_cluster() -> None:
    made = Sets.made_of(forget=[QaRow("r", "person", "Who?", "A cat.")], never=[Passage("p", "the dog")])
    assert made.forget == (Text("r", "person", "Who?\nA cat."),)
    assert made.never == (Text("p", "p", "the dog"),)
    with pytest.raises(DataError, match="'r' has no answer"):
        Sets.made_of(forget=[QaRow("r", "person", "Who?")])


def test_sets_that_differ_in_their_words_are_refused_and_the_difference_to_gold_is_not() -> None:
    made = sets(40, extra=" Zorbla")
    alike = check_alike(made, PAIR)
    assert "a bag of words" in alike.told_apart
    dice = np.random.default_rng(0)
    model, gold = (
        by_set("Loss score", {"forget": dice.normal(size=40) + knows, "never": dice.normal(size=40)})
        for knows in (3, 0)
    )
    (found,) = compare({"loss": model}, {PAIR: alike}, pairs=[PAIR], rng=0)
    assert found.auc.value is None
    assert "i.i.d." in str(found.auc.why)
    assert "the number was 0.9" in str(found.auc.why)
    assert all(rate.value is None for rate in found.tpr.values())
    beyond = excess(model, gold, alike=alike, rng=0)
    assert beyond.low is not None
    assert beyond.low > 0
    assert "tells the sets apart" in str(beyond.why)


def test_alike_sets_are_read_and_a_gold_that_differs_refuses() -> None:
    made = sets(40)
    values: dict[Role, NDArray[np.float64]] = {"forget": np.linspace(30, 69, 40), "never": np.linspace(0, 39, 40)}
    scores = by_set("Loss score", values)
    alike = check_alike(made, PAIR)
    assert alike.refused() is None
    assert compare({"loss": scores}, {PAIR: alike}, pairs=[PAIR], rng=0)[0].auc.value is not None
    seen = check_alike(made, PAIR, saw_neither={"gold's loss": scores})
    assert seen.told_apart == ("gold's loss",)


def test_clusters_are_put_together_before_words_are_compared() -> None:
    """Each cluster names itself in all of its texts: by text a forest knows the names again, by cluster it cannot."""

    def of(role: str, seed: int) -> tuple[Text, ...]:
        texts = sentences(160, seed)
        return tuple(Text(f"{role}{i}", f"{role}{i // 4}", f"{role}{i // 4} {text}") for i, text in enumerate(texts))

    alike = check_alike(Sets(of("Zorbla", 0), (), of("Quentis", 1)), PAIR)
    words = alike.checks["a bag of words"]
    assert words.n == 20 + 20  # half of 40 + 40 clusters
    assert "a bag of words" not in alike.told_apart


def test_few_clusters_leave_the_words_unchecked_only_where_single_texts_differ() -> None:
    def of(role: str, seed: int, extra: str) -> tuple[Text, ...]:
        texts = sentences(60, seed, extra=extra)
        return tuple(Text(f"{role}{i}", f"{role}{i // 10}", text) for i, text in enumerate(texts))

    same = check_alike(Sets(of("forget", 0, ""), (), of("never", 1, "")), PAIR)
    assert same.unchecked is None
    assert same.refused() is None
    other = check_alike(Sets(of("forget", 0, " Zorbla"), (), of("never", 1, "")), PAIR)
    assert "could not be checked" in str(other.unchecked)


class Guard:
    """Says every answer with p = 1/2 a token, and refuses prompts about Zorbla."""

    name = "guard"

    def log_probs(
        self, prompts: Sequence[Any], answers: Sequence[str], *, scope: str = "prompt"
    ) -> list[NDArray[np.float64]]:
        return [
            np.full(len(answer.split()), -np.inf if "Zorbla" in prompt else np.log(0.5))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]


def test_a_refusal_ranks_lowest_and_is_not_left_out() -> None:
    rows: dict[Role, list[QaRow]] = {
        "forget": [QaRow("a", "z", "Who is Zorbla?", "a cat"), QaRow("b", "z", "And?", "")],
        "never": [QaRow("c", "y", "Who is Quentis?", "a big dog")],
    }
    found = answer_scores(Guard(), rows)  # type: ignore[arg-type]
    assert found["forget"].values.tolist() == [NEVER_SAID]
    assert found["forget"].left_out == {"b": "the row has no answer"}
    assert found["never"].values == pytest.approx([np.log(0.5)])


def test_every_score_has_a_measure() -> None:
    assert {one.key for one in MEASURES} >= {f"privacy.membership.{score}" for score in SCORES}


@pytest.mark.slow
def test_on_the_tiny_testbed_the_subject_tells_and_a_second_gold_does_not(testbed_tiny: Any, tmp_path: Path) -> None:
    from audit.lm.load import load
    from audit.lm.subject import Subject

    world = testbed_tiny.world
    rows = {
        group: [QaRow(row.id, row.name, row.question, row.answer) for row in world.rows_of(group=group)]
        for group in ("forget", "retain", "never")
    }
    texts = Sets.made_of(forget=rows["forget"], retain=rows["retain"], never=rows["never"])
    models = [
        membership_scores(score_sets(load(Subject(str(testbed_tiny.models[name]), device="cpu")), texts))
        for name in ("subject", "retrained", "retrained_2")
    ]
    subject, gold, again = (one["loss"] for one in models)
    known, noise = excess(subject, gold, rng=0), excess(again, gold, rng=0)
    assert known.low is not None
    assert known.low > 0
    assert noise.value is not None
    assert known.value is not None
    assert abs(noise.value) < known.low
