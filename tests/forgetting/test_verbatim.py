"""ROUGE-L, extraction strength and argmax hits against slow oracles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import DataError, InputError, ModelError
from audit.forgetting.prompts import Passage
from audit.forgetting.verbatim import (
    VerbatimPlan,
    argmax_hits,
    continue_greedily,
    extraction_strength,
    memorised,
    rouge_l,
)
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from tests.forgetting.small_models import plain_log_probs, small_model


def longest_common_subsequence(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return 0
    if a[0] == b[0]:
        return 1 + longest_common_subsequence(a[1:], b[1:])
    return max(longest_common_subsequence(a[1:], b), longest_common_subsequence(a, b[1:]))


def test_rouge_by_hand() -> None:
    """LCS "the cat on mat" of 6 and 5 words: P = 4/5, R = 4/6, F1 = 8/11."""
    assert rouge_l("The cat sat on the mat.", "the cat, on a mat") == pytest.approx(8 / 11)
    assert rouge_l("the cat", "THE CAT!") == 1.0
    assert rouge_l("the cat", "...") == 0.0


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_rouge_agrees_with_a_slow_recursion(a: list[str], b: list[str]) -> None:
    common = longest_common_subsequence(a, b)
    precision, recall = common / max(1, len(b)), common / len(a)
    expected = 2 * precision * recall / (precision + recall) if common else 0.0
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("hits", "strength"),
    [
        ([True, False, True, True], 0.5),
        ([True, True], 1.0),
        ([True, True, False], 0.0),
        ([False, True, True, True], 0.75),
    ],
)
def test_extraction_strength_by_hand(hits: list[bool], strength: float) -> None:
    assert extraction_strength(hits) == pytest.approx(strength)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_extraction_strength_is_the_smallest_prefix_after_which_all_is_right(hits: list[bool]) -> None:
    n = len(hits)
    smallest = next(k for k in range(n + 1) if all(hits[k:]))
    assert extraction_strength(hits) == pytest.approx(1 - smallest / n)


TEXTS = ["the cat sat on the mat and the dog ran over the hill", "hill", "a dog, a cat and forty-two mats " * 3]


@pytest.fixture(scope="module", params=["llama", "phi3", "gpt2", "gemma2"])
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return small_model(tmp_path_factory.mktemp(request.param), request.param, bos=request.param != "gpt2")


def test_hits_are_those_of_one_plain_pass_for_each_text(lm: LanguageModel) -> None:
    sequences = encode(lm, TEXTS)
    lead = prefix_ids(lm)
    for ids, hits in zip(sequences, argmax_hits(lm, sequences), strict=True):
        best = plain_log_probs(lm, lead + ids).argmax(dim=1).tolist()
        whole = lead + ids
        assert hits == [best[i - 1] == whole[i] for i in range(1, len(whole))]


def test_a_models_own_greedy_text_is_memorised_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    lm = small_model(tmp_path_factory.mktemp("own"))
    ids = encode(lm, ["the cat sat"])[0]
    for _ in range(20):
        ids.append(int(plain_log_probs(lm, prefix_ids(lm) + ids)[-1].argmax()))
    [hits] = argmax_hits(lm, [ids])
    assert all(hits[-20:])
    assert extraction_strength(hits) >= 20 / len(ids)


def test_nothing_predicted_is_nothing_extracted(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="there is no predicted token, so no extraction strength"):
        extraction_strength([])
    text = "" if prefix_ids(lm) else "h"
    with pytest.raises(DataError, match="passage 'b' has .* expected at least"):
        memorised(lm, [Passage("a", TEXTS[0]), Passage("b", text)])


def test_a_broken_model_is_refused_and_not_taken_for_a_forgetful_one(tmp_path: Path) -> None:
    """One row of the embedding is NaN, so only the texts with this token show it."""
    lm = small_model(tmp_path)
    [[broken, *_]] = encode(lm, [" hill"])
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[broken] = torch.nan
    with pytest.raises(ModelError, match="logits are not finite in 1 of 2 texts"):
        memorised(lm, [Passage("a", TEXTS[0]), Passage("b", "the cat sat")])


def test_passages_too_short_to_continue_are_left_out_and_said(lm: LanguageModel) -> None:
    passages = [Passage("long", TEXTS[2]), Passage("short", "hill")]
    found = continue_greedily(lm, passages, plan=VerbatimPlan(4, 6))
    assert found.rouge.ids == ("long",)
    assert "fewer than 10" in found.rouge.left_out["short"]
    assert TEXTS[2].startswith(found.written[0].prompt + found.written[0].truth)
    with pytest.raises(InputError, match="no passage has 10 tokens"):
        continue_greedily(lm, passages[1:], plan=VerbatimPlan(4, 6))
    with pytest.raises(InputError, match="n_prompt is 64 and n_new 128; the model holds 128 tokens"):
        continue_greedily(lm, passages)


def test_a_text_beyond_the_context_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(DataError, match="the model accepts at most"):
        memorised(lm, [Passage("a", "the cat " * 200)])
    with pytest.raises(InputError, match="there are no passages"):
        memorised(lm, [])


@pytest.mark.parametrize("field", ["n_prompt", "n_new"])
def test_a_plan_out_of_range_is_refused(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} is 0; expected 1 or more"):
        VerbatimPlan(**{field: 0})
