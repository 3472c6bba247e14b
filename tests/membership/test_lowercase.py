from __future__ import annotations

import numpy as np
import pytest

from audit.errors import DataError
from audit.lm.load import LanguageModel
from audit.membership import lowercase
from audit.membership.lowercase import lowercase_scores, lowered_tokens
from audit.membership.score import score_texts

TEXTS = ["The Cat sat on the Mat", "the cat sat", "ÄRGER ÜBER 東京", "DOG", "İ"]


def scores_of(lm: LanguageModel, texts: list[str]) -> np.ndarray:
    ids = [str(place) for place in range(len(texts))]
    loss = score_texts(lm, texts, ids=ids).loss
    return lowercase_scores(lm, lowered_tokens(lm, texts, ids=ids, truncate=False), loss)


def test_the_score_is_minus_the_ratio_of_the_losses(byte_level: LanguageModel) -> None:
    names = list("abcde")
    own = score_texts(byte_level, TEXTS, ids=names).loss
    lowered = score_texts(byte_level, [text.lower() for text in TEXTS], ids=names).loss
    np.testing.assert_allclose(scores_of(byte_level, TEXTS), -own / lowered, rtol=1e-5)


def test_a_text_in_lower_case_gets_exactly_minus_one_and_is_not_run_again(
    byte_level: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, run = lowercase.token_log_probs, []

    def counted(lm: LanguageModel, sequences: list[list[int]], **named: object) -> object:
        run.append(len(sequences))
        return real(lm, sequences, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(lowercase, "token_log_probs", counted)
    assert scores_of(byte_level, TEXTS)[1] == -1.0
    assert scores_of(byte_level, ["the cat", "東京 1234", "the dog"]).tolist() == [-1.0] * 3
    assert run == [4, 0]


def test_every_text_is_told_as_done(byte_level: LanguageModel) -> None:
    done: list[int] = []
    lowered = lowered_tokens(byte_level, TEXTS, ids=list("abcde"), truncate=False)
    lowercase_scores(byte_level, lowered, np.ones(5), on_done=done.append)
    assert sum(done) == 5


def test_a_text_that_is_too_long_only_in_lower_case_is_refused_or_cut(byte_level: LanguageModel) -> None:
    """ "İ" is two bytes, and in lower case i and a dot above, three: 60 of them are 120 and 180 tokens of 127."""
    with pytest.raises(DataError, match="text 'a in lower case' has 180 tokens.*at most 127.*--truncate"):
        lowered_tokens(byte_level, ["İ" * 60], ids=["a"], truncate=False)
    (cut,) = lowered_tokens(byte_level, ["İ" * 60], ids=["a"], truncate=True)
    assert cut is not None
    assert len(cut) == 127
