"""Judges know the attribute, know nothing where there is none, and never saw what they judge."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from audit.errors import DataError, InputError
from audit.testbed.styles import StyleText, make_style_texts
from tests.unlearn.lineas.evaluate.small_parts import Told
from unlearn.lineas.evaluate.judge_texts import deal, normalised, shared_places
from unlearn.lineas.evaluate.judge_words import Joined, WordList
from unlearn.lineas.evaluate.judges import Remembered, best_threshold, train_sentences, train_words

STYLES = [one for one in make_style_texts((10, 40, 120), seed=0, known=[]) if one.attribute == "mood"]


def of_split(split: str) -> list[StyleText]:
    return [one for one in STYLES if one.split == split]


def dealt(*, labels: Sequence[bool] | None = None, apart_from: dict[str, list[str]] | None = None) -> Any:
    texts = of_split("judge")
    shown = labels if labels is not None else [one.present for one in texts]
    return deal([one.text for one in texts], shown, apart_from=apart_from or {}, seed=0)


def test_the_threshold_by_hand() -> None:
    scores, labels = np.array([0.0, 1, 2, 3]), np.array([False, True, False, True])
    assert best_threshold(scores, labels, "balanced") == 2.5
    assert best_threshold(scores, labels, "f1") == 0.5  # F1 0.8; above 2.5 it is 2/3
    assert best_threshold(np.array([0.0, 4.0]), np.array([False, True]), "f1") == 2.0


def test_a_judge_of_words_knows_new_texts_and_says_what_it_was_made_of() -> None:
    judge = train_words(dealt())
    test = of_split("test")
    quality = judge.measured([one.text for one in test], [one.present for one in test])
    assert (quality.auroc.low or 0) > 0.9
    assert judge.quality.auroc.n == 60
    assert "chosen on these texts" in str(judge.quality.f1.why)
    assert judge.quality.auroc.why is None
    record = judge.to_record()
    assert record["scikit-learn"].count(".") >= 1
    assert (record["n_train"], record["n_validation"]) == (180, 60)
    assert train_words(dealt()).scores([test[0].text]) == judge.scores([test[0].text])


def test_shuffled_labels_teach_nothing() -> None:
    """Pooled over eight shuffles: AUROC of 0.5 with 480 validation texts has a standard error of about 0.026."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(8):
        labels = rng.permutation([one.present for one in of_split("judge")]).tolist()
        found.append(train_words(dealt(labels=labels)).quality.auroc.value or 0.0)
    assert abs(np.mean(found) - 0.5) < 0.1


def test_a_judge_of_sentences_reads_the_encoders_vectors() -> None:
    def encode(texts: Sequence[str]) -> SimpleNamespace:
        bright = [[1.0 + 0.01 * len(text), 0.0] if "joy" in text else [0.0, 1.0] for text in texts]
        return SimpleNamespace(vectors=np.array(bright, dtype=np.float32))

    encoder: Any = SimpleNamespace(encode=encode, to_record=lambda: {"name": "two numbers"})
    texts = [f"day {n} was full of {'joy' if n % 2 else 'rain'}" for n in range(80)]
    judge = train_sentences(deal(texts, [n % 2 == 1 for n in range(80)], apart_from={}, seed=0), encoder)
    assert judge.flags(["pure joy", "more rain"]).tolist() == [True, False]
    assert judge.flags([]).shape == (0,)
    assert judge.to_record()["encoder"] == {"name": "two numbers"}
    assert judge.quality.f1.value == 1
    assert (judge.quality.f1.low or 1) < 1


def test_texts_that_steer_or_prompt_are_refused_also_in_other_case_and_punctuation() -> None:
    judge_texts = of_split("judge")
    near = judge_texts[5].text.upper().replace(".", " !")
    with pytest.raises(DataError, match=r"judge text 6, .* also stands in the prompts .* 1 such text in all"):
        dealt(apart_from={"the source sentences": [of_split("train")[0].text], "the prompts": ["", near]})
    dealt(apart_from={"the source sentences": [one.text for one in of_split("train")], "nothing": ["...", ""]})
    assert normalised("\uff34HE  Cat's\n") == "the cat s"
    assert shared_places(["a b", "c"], {"x": ["A, B!"]}) == [(0, "x")]


def test_repeated_and_contradicted_texts_are_left_out_and_counted() -> None:
    texts = [f"text {n}" for n in range(60)]
    found = deal(
        [*texts, "Text 1!", "text 0", "..."],
        [*(n % 2 == 0 for n in range(60)), False, False, True],
        apart_from={},
        seed=0,
    )
    assert (found.n_repeated, found.n_contradicted, found.n_wordless) == (1, 2, 1)
    assert len(found.train) + len(found.validation) == 59
    assert not {*map(normalised, found.train)} & {*map(normalised, found.validation)}


def test_too_few_texts_one_class_and_wrong_labels_are_refused() -> None:
    texts = [f"text {n}" for n in range(50)]
    with pytest.raises(InputError, match="0 judge texts with the attribute .* expected 20 or more of each class"):
        deal(texts, [False] * 50, apart_from={}, seed=0)
    with pytest.raises(InputError, match="19 judge texts with the attribute"):
        deal(texts, [n < 19 for n in range(50)], apart_from={}, seed=0)
    with pytest.raises(InputError, match="2 labels for 50 judge texts"):
        deal(texts, [True, False], apart_from={}, seed=0)
    with pytest.raises(InputError, match='the rule is "best"'):
        train_words(dealt(), rule="best")  # type: ignore[arg-type]


def test_a_judge_that_remembers_reads_each_text_once() -> None:
    asked: list[str] = []

    def rule(text: str) -> bool:
        asked.append(text)
        return "x" in text

    judge = Remembered(Told(rule))
    assert judge.flags(["x", "o", "x"]).tolist() == [True, False, True]
    assert judge.flags(["o", "ox"]).tolist() == [False, True]
    assert asked == ["x", "o", "ox"]
    assert judge.name == "told"


def test_word_lists_and_their_joins() -> None:
    cats, dogs = WordList("cats", ["cat", "tom cat"]), WordList("dogs", ["dog"])
    texts = ["a Cat.", "concatenate", "the dog and the cat", "a dog"]
    assert cats.flags(texts).tolist() == [True, False, True, False]
    assert Joined("either", (cats, dogs)).flags(texts).tolist() == [True, False, True, True]
    assert Joined("both", (cats, dogs)).flags(texts).tolist() == [False, False, True, False]
    assert Joined("both", (cats, dogs)).name == "words of cats and words of dogs"
    with pytest.raises(InputError, match='word list of "x" is empty'):
        WordList("x", [])
