from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from audit.errors import InputError, ModelError
from audit.lm.hooks import recorded
from tests.checkpoints import build_checkpoint
from unlearn.eco.corruptions import Corruption, corrupt
from unlearn.eco.hook import corrupted
from unlearn.eco.selection import all_but_last

KINDS = ("llama", "gpt_neox", "gemma3_text")
NOISE = Corruption(strength=2.0, dims=8)
SEEDS = [None, 5, None]  # the prompt in the middle is flagged


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = build_checkpoint(tmp_path_factory.mktemp("eco") / request.param, request.param)
    loaded = AutoModelForCausalLM.from_pretrained(folder).eval()
    loaded.generation_config.eos_token_id = None
    loaded.generation_config.pad_token_id = 2
    return loaded


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    loaded = AutoModelForCausalLM.from_pretrained(build_checkpoint(tmp_path_factory.mktemp("eco"), "llama")).eval()
    loaded.generation_config.eos_token_id = None
    loaded.generation_config.pad_token_id = 2
    return loaded


def prompts(side: str = "left") -> dict[str, Tensor]:
    """Three prompts of 9, 6 and 9 tokens."""
    ids = torch.randint(3, 290, (3, 9), generator=torch.Generator().manual_seed(3))
    attention = torch.ones_like(ids)
    padding = slice(0, 3) if side == "left" else slice(6, 9)
    ids[1, padding], attention[1, padding] = 2, 0
    return {"input_ids": ids, "attention_mask": attention}


def hooks_of(model: Any) -> list[int]:
    return [len(module._forward_hooks) for module in model.modules()]


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_flagged_rows_alone_change_and_as_if_corrupted_embeddings_were_given(model: Any, side: str) -> None:
    inputs = prompts(side)
    mask = all_but_last(inputs["attention_mask"])
    bare = model(**inputs).logits
    with corrupted(model, inputs["input_ids"], mask, NOISE, seeds=SEEDS) as done:
        mixed = model(**inputs).logits
    assert done.calls == 1
    assert torch.equal(mixed[[0, 2]].view(torch.int32), bare[[0, 2]].view(torch.int32))
    assert not torch.allclose(mixed[1], bare[1], atol=0.1)
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    by_hand = corrupt(embeddings, mask, NOISE, seeds=SEEDS)
    assert torch.equal(mixed, model(inputs_embeds=by_hand, attention_mask=inputs["attention_mask"]).logits)
    assert done.selected_rms[::2] == [None, None]
    assert done.selected_rms[1] == pytest.approx(float(embeddings[1][mask[1]].square().mean().sqrt()), rel=1e-5)


@torch.no_grad()
def test_an_open_gate_with_strength_zero_and_a_closed_one_give_the_bare_model(model: Any) -> None:
    inputs = prompts()
    mask = all_but_last(inputs["attention_mask"])
    bare = model(**inputs).logits
    for strength, seeds in ((0.0, [1, 2, 3]), (100.0, [None] * 3)):
        with corrupted(model, inputs["input_ids"], mask, Corruption(strength=strength, dims=1), seeds=seeds):
            assert torch.equal(model(**inputs).logits, bare)


@torch.no_grad()
def test_generation_corrupts_the_prompt_once_and_unflagged_samples_stay(model: Any) -> None:
    inputs = prompts()
    mask = all_but_last(inputs["attention_mask"])
    options = {"max_new_tokens": 6, "do_sample": True, "top_k": 0}
    torch.manual_seed(0)
    bare = model.generate(**inputs, **options)
    name = next(name for name, one in model.named_modules() if one is model.get_input_embeddings())
    torch.manual_seed(0)
    with corrupted(model, inputs["input_ids"], mask, NOISE, seeds=SEEDS) as done, recorded(model, [name]) as seen:
        mixed = model.generate(**inputs, **options)
    assert done.calls == 1
    assert torch.equal(mixed[[0, 2]], bare[[0, 2]])
    assert not torch.equal(mixed[1], bare[1])
    assert [one.shape[1] for one in seen[name]] == [9, 1, 1, 1, 1, 1]
    for step, given in enumerate(seen[name][1:]):  # a new token's embeddings are its own
        assert torch.equal(given, model.get_input_embeddings()(mixed[:, 9 + step : 10 + step]))


@torch.no_grad()
@pytest.mark.parametrize("search", [{"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}])
def test_without_a_cache_and_with_beams_the_noise_stays_the_same(model: Any, search: dict[str, int]) -> None:
    """The reference gives the corrupted embeddings to ``generate``, which puts nothing in their place."""
    inputs = prompts()
    mask = all_but_last(inputs["attention_mask"])
    embeddings = corrupt(model.get_input_embeddings()(inputs["input_ids"]), mask, NOISE, seeds=SEEDS)
    options = {"max_new_tokens": 5, "do_sample": False, **search}
    expected = model.generate(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"], **options)
    assert not torch.equal(model.generate(**inputs, **options)[:, 9:], expected)
    for use_cache, calls in ((True, 1), (False, 5)):
        with corrupted(model, inputs["input_ids"], mask, NOISE, seeds=SEEDS) as done:
            found = model.generate(**inputs, use_cache=use_cache, **options)
        assert done.calls == calls
        assert torch.equal(found[:, 9:], expected)


@torch.no_grad()
def test_a_prompt_of_one_token_is_corrupted_only_where_it_is_selected(llama: Any) -> None:
    """The model then answers with the very token of the prompt, which must not be taken for the prompt."""
    ids = torch.tensor([[7]])
    bare = llama(ids).logits
    with corrupted(llama, ids, all_but_last(torch.ones_like(ids)), NOISE, seeds=[1]) as done:
        assert torch.equal(llama(ids).logits, bare)
        assert done.selected_rms == [None]
    with corrupted(llama, ids, torch.tensor([[True]]), NOISE, seeds=[1]) as done:
        assert not torch.equal(llama(ids).logits, bare)
        assert torch.equal(llama(ids).logits, bare)
        assert done.calls == 1


@torch.no_grad()
def test_the_scope_reaches_the_answer_only_where_it_says_so(llama: Any) -> None:
    """Logits before the first corrupted token stay; those after an answer that is corrupted too differ."""
    ids = torch.arange(10, 20)[None]
    results = {}
    for scope in ("prompt", "prompt+answer"):
        mask = all_but_last(torch.ones_like(ids), prompt_lengths=[4], scope=scope)
        with corrupted(llama, ids, mask, NOISE, seeds=[1]):
            results[scope] = llama(ids).logits[0]
    assert torch.equal(results["prompt"][:3], results["prompt+answer"][:3])  # the same noise in the prompt
    assert not torch.allclose(results["prompt"][3:], results["prompt+answer"][3:], atol=0.1)


@torch.no_grad()
def test_two_spans_with_noise_of_their_own_are_two_blocks(llama: Any) -> None:
    ids = torch.arange(10, 20)[None]
    first, second = torch.zeros(2, 1, 10, dtype=torch.bool)
    first[0, :3], second[0, 5:8] = True, True
    embeddings = llama.get_input_embeddings()(ids)
    by_hand = corrupt(corrupt(embeddings, first, NOISE, seeds=[1]), second, NOISE, seeds=[2])
    with corrupted(llama, ids, first, NOISE, seeds=[1]), corrupted(llama, ids, second, NOISE, seeds=[2]):
        assert torch.equal(llama(ids).logits, llama(inputs_embeds=by_hand).logits)


@torch.no_grad()
def test_a_huge_strength_hides_what_the_selected_tokens_were(llama: Any) -> None:
    """sigma = 1e6 in one dim: RMSNorm leaves a sign of them, so that other tokens give the same next one."""
    next_tokens = []
    for content in (torch.arange(10, 18), torch.arange(200, 208)):
        ids = torch.cat([content, torch.tensor([5])])[None]
        mask = all_but_last(torch.ones_like(ids))
        with corrupted(llama, ids, mask, Corruption(strength=1e6, dims=1), seeds=[1]):
            next_tokens.append(llama(ids).logits[0, -1].double().log_softmax(0))
        bare = llama(ids).logits[0, -1].double().log_softmax(0)
        assert (bare.exp() * (bare - next_tokens[-1])).sum() > 0.1
    one, other = next_tokens
    assert (one.exp() * (one - other)).sum() < 1e-3


@torch.no_grad()
def test_hooks_of_others_survive_and_none_of_ours_is_left_after_an_error(llama: Any) -> None:
    inputs = prompts()
    handle = llama.get_input_embeddings().register_forward_hook(lambda *_: None)
    before = hooks_of(llama)
    inside: list[list[int]] = []

    def fail() -> None:
        with corrupted(llama, inputs["input_ids"], all_but_last(inputs["attention_mask"]), NOISE, seeds=SEEDS):
            inside.append(hooks_of(llama))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert hooks_of(llama) == before != inside[0]
    handle.remove()


REFUSED = {
    "another prompt": lambda model, ids: model(ids.flip(1)),
    "a part of the batch": lambda model, ids: model(ids[1:2]),
    "a part of the prompt": lambda model, ids: model(ids[:, 1:]),
    "a second prompt": lambda model, ids: (model(ids), model(ids.flip(1))),
    "in chunks": lambda model, ids: model.generate(ids, max_new_tokens=2, prefill_chunk_size=4),
    "speculative": lambda model, ids: model.generate(ids, max_new_tokens=60, prompt_lookup_num_tokens=2),
}


@torch.no_grad()
@pytest.mark.parametrize("way", REFUSED)
def test_a_call_that_could_pass_a_prompt_uncorrupted_is_refused(llama: Any, way: str) -> None:
    ids = torch.tensor([[5, 6, 7, 5, 6, 7, 5, 6]]).repeat(1 if way == "speculative" else 2, 1)
    mask = all_but_last(torch.ones_like(ids))

    def call() -> None:
        with corrupted(llama, ids, mask, NOISE, seeds=[1] * len(ids)):
            REFUSED[way](llama, ids)

    REFUSED[way](llama, ids)  # without us it is a call like any other
    with pytest.raises(InputError, match="do not begin with the prompts"):
        call()
    assert not any(hooks_of(llama))


@torch.no_grad()
def test_a_block_in_which_the_prompts_never_reach_the_embeddings_is_refused(llama: Any) -> None:
    inputs = prompts()
    embeddings = llama.get_input_embeddings()(inputs["input_ids"])

    def call() -> None:
        with corrupted(llama, inputs["input_ids"], inputs["attention_mask"].bool(), NOISE, seeds=SEEDS):
            llama(inputs_embeds=embeddings)

    with pytest.raises(InputError, match="nothing was corrupted; call it inside"):
        call()


def test_shapes_and_models_that_do_not_fit_are_refused(llama: Any) -> None:
    ids = prompts()["input_ids"]
    mask = torch.ones_like(ids, dtype=torch.bool)
    for given, seeds, message in ((mask[:, 1:], SEEDS, "expected .B, T. twice"), (mask, [1], "1 seeds for 3 prompts")):
        with pytest.raises(InputError, match=message), corrupted(llama, ids, given, NOISE, seeds=seeds):
            pass
    second = torch.nn.Module()
    second.embed_tokens_per_layer = torch.nn.Embedding(3, 3)
    with pytest.raises(ModelError, match="second time in 'embed_tokens_per_layer'"):  # noqa: SIM117
        with corrupted(second, ids, mask, NOISE, seeds=SEEDS):
            pass
