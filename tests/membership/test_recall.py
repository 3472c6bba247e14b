from __future__ import annotations

import numpy as np
import pytest
import torch

from audit.errors import DataError, InputError
from audit.lm.load import LanguageModel
from audit.membership.recall import leave_room, recall_scores, shot_tokens
from audit.membership.score import score_texts

TEXTS = ["the cat sat on the mat", "a hill", "the dog ran over and over the hill and the mat"]
NAMES = ["a", "b", "c"]
SHOTS = ["a dog on a mat ran", "the mat and the hill"]


def recall(lm: LanguageModel, texts: list[str], shots: list[str]) -> np.ndarray:
    sequences = [lm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    loss = score_texts(lm, texts, ids=NAMES[: len(texts)]).loss
    return recall_scores(lm, sequences, loss, shots=shot_tokens(lm, shots, texts, ids=NAMES[: len(texts)]))


def oracle(lm: LanguageModel, before: list[int], ids: list[int], first: int) -> float:
    """Sum of the log-probabilities of ids[first:] after ``before`` and ids[:first]."""
    whole = torch.tensor([[*before, *ids]])
    with torch.no_grad():
        log_p = lm.model(input_ids=whole).logits[0, :-1].double().log_softmax(-1)
    chosen = log_p.gather(1, whole[0, 1:, None])[:, 0]
    return float(chosen[len(before) + first - 1 :].sum())


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "without_bos"])
def test_recall_is_the_likelihood_after_the_shots_over_that_alone(kind: str, request: pytest.FixtureRequest) -> None:
    """Only tokens of x count; without a first token, x's own first is in neither likelihood."""
    lm: LanguageModel = request.getfixturevalue(kind)
    lead = [] if lm.bos_id is None else [lm.bos_id]
    before = [*lead, *lm.tokenizer("a dog on a mat ran\nthe mat and the hill\n", add_special_tokens=False)["input_ids"]]
    for text, found in zip(TEXTS, recall(lm, TEXTS, SHOTS), strict=True):
        ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        first = 0 if lead else 1
        assert found == pytest.approx(oracle(lm, before, ids, first) / oracle(lm, lead, ids, first), rel=1e-4)


def test_a_text_that_becomes_less_likely_after_the_shots_scores_above_one() -> None:
    """LL(x | P) = -6 and LL(x) = -3 give 2: the fall that members show is a rise of the score."""
    from audit.membership.ratio import loss_ratio

    assert -loss_ratio(np.array([6.0]), np.array([3.0])) == pytest.approx([2.0])


@pytest.mark.parametrize("shot", [TEXTS[1], f" {TEXTS[1]}\r\n", "a  hill"])
def test_a_shot_that_is_scored_is_refused(byte_level: LanguageModel, shot: str) -> None:
    with pytest.raises(InputError, match="shot 2 is the text 'b', which is scored.*not scored"):
        shot_tokens(byte_level, ["dog", shot], TEXTS, ids=NAMES)


def test_an_empty_shot_is_refused(byte_level: LanguageModel) -> None:
    with pytest.raises(InputError, match="shot 1 is empty"):
        shot_tokens(byte_level, [" \n"], TEXTS, ids=NAMES)


def test_texts_are_refused_or_cut_where_the_shots_leave_too_little_room(byte_level: LanguageModel) -> None:
    sequences = [[5] * 20, [6] * 40]
    with pytest.raises(DataError, match="text 'b' has 40 tokens and the shots 100; the model .* at most 128 together"):
        leave_room(byte_level, ["a", "b"], sequences, n_shots=100, truncate=False)
    kept, cut = leave_room(byte_level, ["a", "b"], sequences, n_shots=100, truncate=True)
    assert ([len(one) for one in kept], cut) == ([20, 28], ["b"])


def test_shots_that_fill_the_context_are_refused(byte_level: LanguageModel) -> None:
    with pytest.raises(InputError, match="the shots take 128 tokens of the 128.*fewer or shorter shots"):
        leave_room(byte_level, ["a"], [[5]], n_shots=128, truncate=True)
