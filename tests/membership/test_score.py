from __future__ import annotations

import copy
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from audit.errors import DataError, ModelError
from audit.lm.load import LanguageModel
from audit.lm.logprobs import TokenScores
from audit.membership.parts import score_in_parts
from audit.membership.score import lowest_mean, mean_of_lowest, score_texts, standardised

TEXTS = ["the cat sat on the mat", "hill", "dog dog dog ran over and over the mat on the hill the cat sat"]


def test_scores_agree_with_the_definitions_worked_slowly(random_llama: LanguageModel) -> None:
    lm = random_llama
    scores = score_texts(lm, TEXTS, ids=["a", "b", "c"], k=0.3)
    for place, text in enumerate(TEXTS):
        ids = torch.tensor([[0, *lm.tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            log_p = lm.model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        chosen = log_p.gather(1, ids[0, 1:, None])[:, 0].numpy()
        p = log_p.exp()
        mean = (p * log_p).sum(-1)
        std = (p * (log_p - mean[:, None]) ** 2).sum(-1).sqrt()
        z = (torch.from_numpy(chosen) - mean) / std
        n_lowest = max(1, int(0.3 * len(chosen)))
        assert scores.n_tokens[place] == len(chosen)
        assert scores.loss[place] == pytest.approx(-chosen.mean(), abs=1e-4)
        assert scores.perplexity[place] == pytest.approx(np.exp(-chosen.mean()), rel=1e-4)
        assert scores.min_k[place] == pytest.approx(np.sort(chosen)[:n_lowest].mean(), abs=1e-4)
        assert scores.min_k_plus_plus[place] == pytest.approx(np.sort(z.numpy())[:n_lowest].mean(), abs=1e-3)
        n_bytes = len(zlib.compress(text.encode()))
        assert scores.zlib[place] == pytest.approx(chosen.mean() / n_bytes, rel=1e-4)
        assert scores.min_20[place] == pytest.approx(np.sort(chosen)[:20].mean(), abs=1e-4)
        assert scores.zlib_rate[place] == pytest.approx(chosen.mean() / (n_bytes / len(text)), rel=1e-4)


@pytest.mark.parametrize(("n", "k", "lowest"), [(5, 0.2, 1), (15, 0.2, 3), (4, 0.2, 1), (100, 0.29, 29), (3, 1.0, 3)])
def test_min_k_averages_the_floor_of_k_t_lowest_and_at_least_one(n: int, k: float, lowest: int) -> None:
    values = np.arange(n, dtype=np.float32)[::-1].copy()
    assert lowest_mean(values, k) == pytest.approx((lowest - 1) / 2)


@pytest.mark.parametrize(("n", "lowest"), [(30, 20), (20, 20), (3, 3)])
def test_min_20_averages_the_twenty_lowest_or_all_there_are(n: int, lowest: int) -> None:
    values = np.arange(n, dtype=np.float32)[::-1].copy()
    assert mean_of_lowest(values, 20) == pytest.approx((lowest - 1) / 2)


def test_zlib_by_characters_differs_from_zlib_by_bytes_only_by_the_length(byte_level: LanguageModel) -> None:
    """-NLL / (bytes / characters) is -NLL / bytes times the characters; "東" is one of them and three bytes."""
    texts = ["the cat 東", "ÄÖÜ", "a hill and a hill"]
    scores = score_texts(byte_level, texts, ids=["a", "b", "c"])
    np.testing.assert_allclose(scores.zlib_rate, scores.zlib * [len(text) for text in texts])


def test_min_k_plus_plus_without_moments_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="moments=True"):
        standardised(TokenScores(np.zeros(2, np.float32), None, None))


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0]])
def test_order_never_changes_a_score(random_llama: LanguageModel, order: list[int]) -> None:
    expected = score_texts(random_llama, TEXTS, ids=["a", "b", "c"])
    found = score_texts(random_llama, [TEXTS[i] for i in order], ids=["x", "y", "z"])
    np.testing.assert_allclose(found.loss, expected.loss[order], atol=1e-4)
    np.testing.assert_allclose(found.min_k_plus_plus, expected.min_k_plus_plus[order], atol=1e-3)


def test_a_text_that_is_too_long_is_refused_or_cut_and_marked(random_llama: LanguageModel) -> None:
    long = " ".join(["cat"] * 300)
    with pytest.raises(DataError, match="text 'b' has"):
        score_texts(random_llama, ["cat", long], ids=["a", "b"])
    scores = score_texts(random_llama, ["cat", long], ids=["a", "b"], truncate=True)
    assert scores.truncated.tolist() == [False, True]
    assert scores.n_tokens[1] == random_llama.n_context - 1


def test_the_zlib_score_of_a_cut_text_does_not_depend_on_what_was_cut_off(random_llama: LanguageModel) -> None:
    start = "the cat sat on the mat and the dog ran over the hill " * 40
    scores = score_texts(random_llama, [start, start + "dog " * 4000], ids=["a", "b"], truncate=True)
    assert scores.truncated.all()
    assert scores.zlib[0] == scores.zlib[1]
    kept = random_llama.tokenizer(start, add_special_tokens=False)["input_ids"][: random_llama.n_context - 1]
    n_bytes = len(zlib.compress(random_llama.tokenizer.decode(kept).encode()))
    assert start.startswith(random_llama.tokenizer.decode(kept))
    assert scores.zlib[0] == pytest.approx(-scores.loss[0] / n_bytes)


@pytest.fixture
def broken_llama(random_llama: LanguageModel) -> LanguageModel:
    """Its head is broken for the word "hill" only."""
    model = copy.deepcopy(random_llama.model)
    (token,) = random_llama.tokenizer("hill", add_special_tokens=False)["input_ids"][:1]
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = torch.inf
    return replace(random_llama, model=model)


def test_scores_that_are_not_finite_are_refused(broken_llama: LanguageModel) -> None:
    with pytest.raises(ModelError, match=r"gives 2 texts a score that is not a finite number; first: 'b'.*--dtype"):
        score_texts(broken_llama, ["the cat", "hill the cat", "hill the mat"], ids=["a", "b", "c"])


class Stopped(Exception):  # noqa: N818 - no error
    pass


def key_of(lm: LanguageModel) -> str:
    keys: list[str] = []

    def open_parts(key: str, _n: int) -> object:
        keys.append(key)
        raise Stopped

    def silent(*_args: object) -> None:
        pass

    with pytest.raises(Stopped):
        score_in_parts(
            lm,
            TEXTS,
            list("abc"),
            open_parts=open_parts,
            k=0.2,
            truncate=False,
            what="x",
            progress=silent,  # type: ignore[arg-type]
        )
    return keys[0]


def test_parts_of_another_kind_of_device_are_not_mixed_in(random_llama: LanguageModel) -> None:
    assert key_of(random_llama) == key_of(random_llama)
    assert key_of(replace(random_llama, device=torch.device("cuda:0"))) != key_of(random_llama)
    assert key_of(replace(random_llama, device=torch.device("cuda:1"))) == key_of(
        replace(random_llama, device=torch.device("cuda:0"))
    )
