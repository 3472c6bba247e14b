"""Two models combined at every token: the same text through a processor, through one model, and by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LogitsProcessorList

from audit.errors import InputError, ModelError
from audit.lm.generate import Sampling, generate
from audit.lm.logprobs import token_log_probs
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint
from unlearn.baselines.inference_whp import GenericLogits, generic_model
from unlearn.lora import LoraPlan
from unlearn.whp.config import Optimisation, Reinforcement, WhpPlan
from unlearn.whp.generic_labels import generic_logits
from unlearn.whp.pair import Pair, open_pair
from unlearn.whp.reinforce import reinforce

BLOCKS = [[5 + (7 * at + 3 * step) % 200 for step in range(12)] for at in range(5)]
PROMPTS = [BLOCKS[0][:3], [9, 9, 40, 41, 7], BLOCKS[1][:1]]
NEW = 8


@pytest.fixture(scope="module", params=["full", "lora"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A baseline that knows a text, and the model that was trained on it again."""
    folder = tmp_path_factory.mktemp(request.param)
    random = Subject(str(build_checkpoint(folder / "random", "llama")), device="cpu")
    first = Reinforcement("full", 10, Optimisation(learning_rate=1e-2, batch_size=2))
    subject = reinforce(random, BLOCKS, WhpPlan(reinforce=first), out=folder / "model").subject
    again = Reinforcement(request.param, 10, Optimisation(learning_rate=1e-2, batch_size=2), LoraPlan(rank=4))
    found = reinforce(subject, BLOCKS, WhpPlan(reinforce=again), out=folder / "reinforced")
    return open_pair(subject, found.subject)


def by_hand(pair: Pair, prompt: list[int], alpha: float) -> list[int]:
    """Greedy text, everything run again for each token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(NEW):
            given = torch.tensor([ids])
            with pair.off():
                before = pair.baseline.model(input_ids=given).logits[:, -1]
            after = pair.reinforced.model(input_ids=given).logits[:, -1]
            ids.append(int(generic_logits(before, after, alpha=alpha).argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 5.0])
def test_the_processor_and_the_model_say_what_the_formula_says(pair: Pair, alpha: float) -> None:
    expected = [by_hand(pair, prompt, alpha) for prompt in PROMPTS]
    sampling = Sampling(max_new_tokens=NEW, temperature=0.0)
    found = generate(generic_model(pair, alpha=alpha), PROMPTS, sampling=sampling, seed=0)
    assert [list(one.token_ids) for one in found] == expected
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    processor = GenericLogits(pair, alpha=alpha, attention_mask=mask)
    said = pair.reinforced.model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=2,
        logits_processor=LogitsProcessorList([processor]),
    )
    assert said[:, width:].tolist() == expected


def test_alpha_changes_what_is_said(pair: Pair) -> None:
    sampling = Sampling(max_new_tokens=NEW, temperature=0.0)
    baseline, reinforced, generic = (
        generate(lm, PROMPTS, sampling=sampling, seed=0)[0].token_ids
        for lm in (generic_model(pair, alpha=0.0), pair.reinforced, generic_model(pair, alpha=5.0))
    )
    assert list(baseline) == list(reinforced) == BLOCKS[0][3 : 3 + NEW]
    assert sum(said == told for said, told in zip(generic, baseline, strict=True)) <= NEW // 2


def test_the_combined_model_gives_logits_for_every_place(pair: Pair) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        with pair.off():
            before = pair.baseline.model(input_ids=ids).logits
        after = pair.reinforced.model(input_ids=ids).logits
        found = generic_model(pair, alpha=2.0).model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(found, before - 2.0 * (after - before).clamp_min(0))
    assert float((found - before).abs().max()) > 0.01


@pytest.mark.parametrize("prefix", [[], [0], list(range(5, 25))])
def test_texts_are_scored_with_the_combination(pair: Pair, prefix: list[int]) -> None:
    lm = generic_model(pair, alpha=2.0)
    for ids, scores in zip(BLOCKS, token_log_probs(lm, BLOCKS, prefix=prefix), strict=True):
        whole = torch.tensor([[*prefix, *ids]])
        with torch.no_grad():
            log_probs = lm.model(input_ids=whole, use_cache=False).logits[0].log_softmax(dim=1)
        first = max(1, len(prefix))
        expected = log_probs[first - 1 : -1].gather(1, whole[0, first:, None])[:, 0]
        torch.testing.assert_close(torch.from_numpy(scores.log_probs), expected, rtol=1e-4, atol=1e-4)
    (alone,) = token_log_probs(pair.reinforced, BLOCKS[-1:], prefix=prefix)
    assert float((torch.from_numpy(alone.log_probs) - expected).abs().max()) > 0.01


def test_a_model_whose_logits_are_capped_is_refused_where_its_texts_would_be_scored(tmp_path: Path) -> None:
    subject = Subject(str(build_checkpoint(tmp_path / "gemma", "gemma2")), device="cpu")
    lm = generic_model(open_pair(subject, subject), alpha=1.0)
    with pytest.raises(ModelError, match="changes its logits after the head"):
        token_log_probs(lm, BLOCKS)


def test_the_fingerprint_is_that_of_no_single_model(pair: Pair) -> None:
    found = {generic_model(pair, alpha=alpha).fingerprint.weights for alpha in (1.0, 2.0)}
    assert len(found | {pair.baseline.fingerprint.weights, pair.reinforced.fingerprint.weights}) >= 3
    assert pair.baseline.fingerprint.weights not in found


def test_a_processor_that_meets_other_rows_begins_again(pair: Pair) -> None:
    processor = GenericLogits(pair, alpha=1.0)
    with torch.no_grad():
        for ids in ([[5, 6]], [[5, 6, 7]], [[8, 6, 7, 9]], [[1, 2, 3]]):
            given = torch.tensor(ids)
            with pair.off():
                before = pair.baseline.model(input_ids=given).logits[:, -1]
            after = pair.reinforced.model(input_ids=given).logits[:, -1]
            torch.testing.assert_close(processor(given, after), generic_logits(before, after, alpha=1.0))


def test_a_negative_strength_is_refused(pair: Pair) -> None:
    for make in (generic_model, GenericLogits):
        with pytest.raises(InputError, match="alpha is -1.0; expected 0 or a positive number"):
            make(pair, alpha=-1.0)
