from __future__ import annotations

import numpy as np
import pytest
import torch

from audit.errors import DataError
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode
from audit.membership.neighbourhood import neighbourhood_scores
from audit.membership.swaps import best_swaps, never_proposed

TEXTS = ["the cat sat on the mat and the dog ran", "a hill", "the dog 東 ran over"]
NAMES = ["a", "b", "c"]


def log_softmax(lm: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        log_p: torch.Tensor = lm.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return log_p


def mean_log_prob(lm: LanguageModel, lead: list[int], ids: list[int]) -> float:
    whole = [*lead, *ids]
    log_p = log_softmax(lm, whole)
    return float(np.mean([float(log_p[place - 1, whole[place]]) for place in range(1, len(whole))]))


def oracle(lm: LanguageModel, text: str, n: int, top_k: int) -> float:
    """Every neighbour spelled out and run whole, in the words of the docstring."""
    lead = [] if lm.bos_id is None else [lm.bos_id]
    (ids,) = encode(lm, [text])
    log_p = log_softmax(lm, [*lead, *ids])
    candidates = []
    for place in range(0 if lead else 1, len(ids)):
        p = log_p[len(lead) + place - 1].exp().clone()
        own = float(p[ids[place]])
        p[[i for i in range(len(p)) if i in lm.tokenizer.all_special_ids or i >= len(lm.tokenizer)]] = -1.0
        for token in p.topk(top_k).indices.tolist():
            if token != ids[place]:
                candidates.append((float(p[token]) / (1 - own), place, token))
    candidates.sort(key=lambda one: -one[0])
    means = []
    for _, place, token in candidates[:n]:
        neighbour = list(ids)
        neighbour[place] = token
        means.append(mean_log_prob(lm, lead, neighbour))
    return mean_log_prob(lm, lead, ids) - float(np.mean(means))


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "without_bos"])
@pytest.mark.parametrize(("n", "top_k"), [(12, 4), (1000, 3)])
def test_the_score_agrees_with_every_neighbour_run_whole(
    kind: str, n: int, top_k: int, request: pytest.FixtureRequest
) -> None:
    """1,000 neighbours are more than there are; then the last token's, which need no pass, are among them."""
    lm: LanguageModel = request.getfixturevalue(kind)
    found = neighbourhood_scores(lm, encode(lm, TEXTS), TEXTS, ids=NAMES, n=n, top_k=top_k)
    expected = [oracle(lm, text, n, top_k) for text in TEXTS]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_order_and_company_never_change_a_score(byte_level: LanguageModel) -> None:
    sequences = encode(byte_level, TEXTS)
    whole = neighbourhood_scores(byte_level, sequences, TEXTS, ids=NAMES, n=9)
    for place in range(3):
        (alone,) = neighbourhood_scores(byte_level, [sequences[place]], [TEXTS[place]], ids=["x"], n=9, token_budget=16)
        assert alone == pytest.approx(whole[place], abs=1e-5)


def test_all_passes_are_told_as_done_even_where_a_text_has_fewer_neighbours(byte_level: LanguageModel) -> None:
    done: list[int] = []
    neighbourhood_scores(byte_level, encode(byte_level, TEXTS), TEXTS, ids=NAMES, n=40, top_k=2, on_done=done.append)
    assert sum(done) == 3 * 40


def test_the_best_swaps_are_those_of_the_highest_odds() -> None:
    """p(x) = 0.5, 0.9: odds 0.2 / 0.5 = 0.4 and 0.1 / 0.5 = 0.2; 0.04 / 0.1 = 0.4 and 0.08 / 0.1 = 0.8."""
    places, ranks = best_swaps(np.log([0.5, 0.9]), np.log([[0.2, 0.1], [0.04, 0.08]]), 3)
    assert list(zip(places.tolist(), ranks.tolist(), strict=True)) in (
        [(1, 1), (0, 0), (1, 0)],
        [(1, 1), (1, 0), (0, 0)],
    )


def test_a_certain_token_and_a_barred_candidate_make_no_nonsense() -> None:
    places, ranks = best_swaps(np.array([0.0, -1.0]), np.array([[-30.0, -np.inf], [-2.0, -np.inf]]), 9)
    assert sorted(zip(places.tolist(), ranks.tolist(), strict=True)) == [(0, 0), (1, 0)]


def test_control_tokens_and_unknown_rows_are_never_proposed(byte_level: LanguageModel) -> None:
    n_known = len(byte_level.tokenizer)
    assert never_proposed(byte_level.tokenizer, n_known + 2) == [0, 1, 2, n_known, n_known + 1]


def test_a_text_without_a_neighbour_is_named(byte_level: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.membership.neighbourhood.never_proposed", lambda *_: list(range(300)))
    with pytest.raises(DataError, match="text 'a' has no neighbour"):
        neighbourhood_scores(byte_level, [[5, 6]], ["x"], ids=["a"])
