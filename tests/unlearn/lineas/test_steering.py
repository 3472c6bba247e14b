"""What must hold of steering a real architecture, whatever the maps are."""

from __future__ import annotations

import gc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.errors import DataError, InputError, ModelError
from audit.lm.generate import Sampling, generate
from audit.lm.load import LanguageModel, load
from audit.lm.logprobs import token_log_probs
from tests.checkpoints import ARCHITECTURES, build_checkpoint
from unlearn.lineas.maps import AffineMap
from unlearn.lineas.network import Sentences, pooled_activations
from unlearn.lineas.pooling import Pooling
from unlearn.lineas.sites import PRESET_NAMES, PRESETS, find_sites
from unlearn.lineas.steer import SteeredModel, steered
from unlearn.lineas.texts import encode_texts, make_batch

TEXTS = ["the cat sat on the mat", "the dog ran", "a hill and a dog and a cat over the mat", "over"]
Load = Callable[[str], LanguageModel]


@pytest.fixture(scope="session")
def lm_of(tmp_path_factory: pytest.TempPathFactory) -> Load:
    known: dict[str, LanguageModel] = {}

    def get(architecture: str) -> LanguageModel:
        if architecture not in known:
            known[architecture] = load(build_checkpoint(tmp_path_factory.mktemp(architecture), architecture))
        return known[architecture]

    return get


def random_maps(lm: LanguageModel, sites: str = "norms", seed: int = 0) -> dict[str, AffineMap]:
    generator = torch.Generator().manual_seed(seed)
    return {
        site.name: AffineMap(
            1 + 0.3 * torch.randn(site.width, generator=generator), 0.3 * torch.randn(site.width, generator=generator)
        )
        for site in find_sites(lm, sites)
    }


def logits(lm: LanguageModel, ids: Tensor, **named: Tensor) -> Tensor:
    with torch.no_grad():
        return lm.model(input_ids=ids, use_cache=False, **named).logits


IDS = torch.tensor([[0, 20, 30, 40, 50], [0, 60, 70, 80, 90], [0, 21, 22, 23, 24]])


@pytest.mark.parametrize("architecture", sorted(PRESETS.keys() & ARCHITECTURES.keys()))
def test_presets_match_what_they_say(lm_of: Load, architecture: str) -> None:
    """A site in each layer at least (two for Gemma's, NeoX's, OPT's and GPT-2's norms), never the last norm."""
    lm = lm_of(architecture)
    n_layers = lm.model.config.num_hidden_layers
    for preset in PRESET_NAMES:
        found = find_sites(lm, preset)
        twice = preset == "norms" and architecture in ("gemma2", "gemma3_text", "gpt2", "gpt_neox", "opt")
        assert len(found) == n_layers * (2 if twice else 1), (preset, [one.name for one in found])
        assert all(f".{number}" in found[place].name for number, place in ((0, 0), (n_layers - 1, -1)))
        assert {one.width for one in found} == {32}


@pytest.mark.parametrize("architecture", sorted(PRESETS.keys() & ARCHITECTURES.keys()))
def test_strength_0_and_identity_maps_leave_the_logits_to_the_bit(lm_of: Load, architecture: str) -> None:
    lm = lm_of(architecture)
    bare, maps = logits(lm, IDS), random_maps(lm)
    for used, strength in (
        (maps, 0.0),
        (maps, [0.0, 0.0, 0.0]),
        ({site: AffineMap.identity(len(one)) for site, one in maps.items()}, 1.0),
    ):
        with steered(lm.model, used, strength):
            assert torch.equal(logits(lm, IDS), bare)
    with steered(lm.model, maps, 1.0) as done:
        assert not torch.allclose(logits(lm, IDS), bare, atol=1e-3)
    assert set(done.calls.values()) == {1}
    assert torch.equal(logits(lm, IDS), bare)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "gpt_neox"])
def test_a_cache_changes_nothing(lm_of: Load, architecture: str) -> None:
    lm = lm_of(architecture)
    with torch.no_grad(), steered(lm.model, random_maps(lm), 0.7) as done:
        whole = lm.model(input_ids=IDS, use_cache=False).logits
        first = lm.model(input_ids=IDS[:, :3], use_cache=True)
        rest = lm.model(input_ids=IDS[:, 3:], past_key_values=first.past_key_values, use_cache=True).logits
    assert torch.allclose(torch.cat([first.logits, rest], dim=1), whole, atol=1e-5)
    assert set(done.calls.values()) == {3}


def test_each_text_has_its_own_strength(lm_of: Load) -> None:
    lm = lm_of("llama")
    maps = random_maps(lm)
    strengths = [0.0, 0.4, 1.0]
    with steered(lm.model, maps, strengths):
        together = logits(lm, IDS)
    for row, strength in enumerate(strengths):
        with steered(lm.model, maps, strength):
            alone = logits(lm, IDS[row : row + 1])[0]
        assert torch.allclose(together[row], alone, atol=1e-5)
    assert torch.equal(together[0], logits(lm, IDS)[0])  # its batch mates are steered, it is not


def test_generate_is_steered_at_every_step_and_with_copies(lm_of: Load) -> None:
    lm = lm_of("llama")
    maps = random_maps(lm)
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 2}
    mask = torch.ones_like(IDS)
    with steered(lm.model, maps, [1.0, 0.0, 0.5]) as done:
        mixed = lm.model.generate(IDS, attention_mask=mask, **settings)
    assert set(done.calls.values()) == {6} == {done.passes}
    with steered(lm.model, maps, 1.0):
        assert torch.equal(lm.model.generate(IDS[:1], attention_mask=mask[:1], **settings)[0], mixed[0])
    assert torch.equal(lm.model.generate(IDS[1:2], attention_mask=mask[1:2], **settings)[0], mixed[1])
    with steered(lm.model, maps, [1.0, 0.0, 0.5]):  # beams repeat each text
        beams = lm.model.generate(IDS, attention_mask=mask, num_beams=2, **settings)
    assert torch.equal(beams[1], lm.model.generate(IDS[1:2], attention_mask=mask[1:2], num_beams=2, **settings)[0])


def test_another_strength_needs_another_cache(lm_of: Load) -> None:
    lm = lm_of("llama")
    maps = random_maps(lm)
    with torch.no_grad():
        bare = lm.model(input_ids=IDS, use_cache=True).past_key_values
        with steered(lm.model, maps, 1.0):
            with pytest.raises(InputError, match="read without steering"):
                lm.model(input_ids=IDS[:, :1], past_key_values=bare)
            own = lm.model(input_ids=IDS, use_cache=True).past_key_values
        with (
            steered(lm.model, maps, 0.5),
            pytest.raises(InputError, match="at strength 1, and the model is now read at strength 0.5"),
        ):
            lm.model(input_ids=IDS[:, :1], past_key_values=own)
        with steered(lm.model, maps, 1.0):
            lm.model(input_ids=IDS[:, :1], past_key_values=own)


def test_what_sorts_texts_is_refused_a_strength_for_each(lm_of: Load) -> None:
    """Else each text would silently get another's."""
    lm = lm_of("llama")
    maps = random_maps(lm)
    rows = [row.tolist()[: 4 + n] for n, row in enumerate(IDS)]
    with steered(lm.model, maps, [1.0, 0.0, 0.5]):
        with pytest.raises(InputError, match="generate sorts texts by length"):
            generate(lm, rows[::-1], sampling=Sampling(2), seed=0)
        with pytest.raises(InputError, match="iter_token_log_probs sorts texts by length"):
            token_log_probs(lm, rows[::-1])
        logits(lm, IDS)
    with steered(lm.model, maps, 0.5):
        assert len(generate(lm, rows, sampling=Sampling(2), seed=0)) == 3


def n_hooks(lm: LanguageModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in lm.model.modules())


def test_hooks_go_away_after_any_error(lm_of: Load) -> None:
    lm = lm_of("llama")
    before, bare = n_hooks(lm), logits(lm, IDS)
    maps = random_maps(lm)
    with pytest.raises(KeyError), steered(lm.model, maps):
        raise KeyError
    with (
        pytest.raises(InputError, match="32 neurons"),
        steered(lm.model, {"model.layers.0.mlp.up_proj": maps.popitem()[1]}),
    ):
        logits(lm, IDS)
    with (
        pytest.raises(InputError, match="no module 'model.layers.9"),
        steered(lm.model, {"model.layers.9": AffineMap.identity(32)}),
    ):
        pass
    with pytest.raises(InputError, match="2 strengths for a batch of 3"), steered(lm.model, maps, [1.0, 0.5]):
        logits(lm, IDS)
    for strength in (float("nan"), float("inf"), [1.0, float("nan")], [], None, "1"):
        with pytest.raises(InputError, match="strength"), steered(lm.model, maps, strength):
            pass
    assert n_hooks(lm) == before
    assert torch.equal(logits(lm, IDS), bare)


def test_a_module_that_is_never_called_is_told(lm_of: Load) -> None:
    lm = lm_of("llama")
    lm.model.add_module("unused", torch.nn.Linear(4, 4))
    try:
        with (
            pytest.raises(ModelError, match="unused was never called"),
            steered(lm.model, {"unused": AffineMap.identity(4)}),
        ):
            logits(lm, IDS)
    finally:
        del lm.model.unused


def test_a_steered_model_stays_steered_until_told(lm_of: Load) -> None:
    lm = lm_of("llama")
    maps, bare, before = random_maps(lm), logits(lm, IDS), n_hooks(lm)
    with steered(lm.model, maps, 0.5):
        half = logits(lm, IDS)
    model = SteeredModel(lm.model, maps)
    assert not torch.allclose(logits(lm, IDS), bare, atol=1e-3)
    model.strength = 0.5
    assert torch.equal(logits(lm, IDS), half)
    with pytest.raises(InputError, match="finite"):
        model.strength = float("nan")
    assert torch.equal(logits(lm, IDS), half)
    assert set(model.done.calls.values()) == {2}
    model.stop()
    assert torch.equal(logits(lm, IDS), bare)
    assert n_hooks(lm) == before


def test_a_cache_belongs_to_maps_and_not_to_a_strength_alone(lm_of: Load) -> None:
    lm = lm_of("llama")
    one, two = random_maps(lm), random_maps(lm, seed=1)
    with torch.no_grad():
        with steered(lm.model, one):
            cache = lm.model(input_ids=IDS, use_cache=True).past_key_values
            copy = deepcopy(cache)
            lm.model(input_ids=IDS[:, :1], past_key_values=copy)  # a copy is as good
            plain = lm.model(input_ids=IDS, use_cache=True, return_dict=False)[1]
            lm.model(input_ids=IDS[:, :1], past_key_values=plain)
        with steered(lm.model, two), pytest.raises(InputError, match="read with other maps"):
            lm.model(input_ids=IDS[:, :1], past_key_values=cache)
        with (
            steered(lm.model, one, 0.0),
            pytest.raises(InputError, match="at strength 1, .* now read without steering"),
        ):
            lm.model(input_ids=IDS[:, :1], past_key_values=cache)
        lm.model(input_ids=IDS[:, :1], past_key_values=cache)  # outside of any block nobody looks
        with steered(lm.model, one), pytest.raises(InputError, match="6 tokens that were read in part without"):
            lm.model(input_ids=IDS[:, :1], past_key_values=cache)


def test_blocks_of_other_strengths_inside_each_other_generate(lm_of: Load) -> None:
    lm = lm_of("llama")
    one, two = random_maps(lm), random_maps(lm, seed=1)
    with torch.no_grad(), steered(lm.model, one), steered(lm.model, two, 0.5):
        first = lm.model(input_ids=IDS[:, :3], use_cache=True)
        rest = lm.model(input_ids=IDS[:, 3:], past_key_values=first.past_key_values).logits
        whole = lm.model(input_ids=IDS, use_cache=False).logits
    assert torch.allclose(rest, whole[:, 3:], atol=1e-5)


def test_a_steered_model_need_not_be_kept_by_its_caller(lm_of: Load) -> None:
    lm = lm_of("llama")
    bare = logits(lm, IDS)
    hooks = [dict(module._forward_hooks) for module in lm.model.modules()]
    SteeredModel(lm.model, random_maps(lm))
    gc.collect()
    try:
        assert not torch.allclose(logits(lm, IDS), bare, atol=1e-3)
        assert not torch.allclose(deepcopy(lm.model)(input_ids=IDS).logits, bare, atol=1e-3)
    finally:
        for module, own in zip(lm.model.modules(), hooks, strict=True):
            module._forward_hooks.clear()
            module._forward_hooks.update(own)
        lm.model._forward_pre_hooks.clear()
        gc.collect()


@pytest.mark.slow
def test_a_model_can_be_compiled_while_it_is_steered(lm_of: Load) -> None:
    lm = lm_of("llama")
    maps = random_maps(lm)
    with steered(lm.model, maps):
        expected = logits(lm, IDS)
    bare = logits(lm, IDS)
    lm.model.forward = torch.compile(lm.model.forward, backend="eager")
    try:
        with steered(lm.model, maps) as done:
            assert torch.allclose(logits(lm, IDS), expected, atol=1e-5)
        assert set(done.calls.values()) == {1}
        assert torch.allclose(logits(lm, IDS), bare, atol=1e-5)
    finally:
        del lm.model.forward


@pytest.mark.parametrize("kind", ["mean", "last", "max"])
def test_padding_and_batch_mates_leave_pooled_vectors(lm_of: Load, kind: str) -> None:
    lm = lm_of("llama")
    rows = encode_texts(lm, TEXTS, "source", max_tokens=128)
    sites = [one.name for one in find_sites(lm, "norms")]
    pooling = Pooling(kind)  # type: ignore[arg-type]
    together = pooled_activations(lm, rows, sites, pooling)
    for place, row in enumerate(rows):
        alone = pooled_activations(lm, [row], sites, pooling)
        for site in sites:
            assert torch.allclose(together[site][place], alone[site][0], atol=1e-5)
    # On the left, with positions counted from the first token.
    width = max(map(len, rows))
    ids = torch.tensor([[2] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    seen: dict[str, Tensor] = {}

    def keep(z: Tensor) -> Tensor:
        seen[sites[-1]] = pooling(z, mask.bool())
        return z

    from audit.lm.hooks import patched

    with torch.no_grad(), patched(lm.model, {sites[-1]: keep}):
        lm.model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0))
    assert torch.allclose(seen[sites[-1]], together[sites[-1]], atol=1e-5)


def test_pooling_commutes_with_the_map_and_skips_what_it_is_told(lm_of: Load) -> None:
    lm = lm_of("llama")
    rows = encode_texts(lm, TEXTS, "source", max_tokens=128)
    last = find_sites(lm, "norms")[-1]
    one = AffineMap(torch.linspace(0.5, 2, last.width), torch.linspace(-1, 1, last.width))
    bare = pooled_activations(lm, rows, [last.name], Pooling())[last.name]
    mapped = pooled_activations(lm, rows, [last.name], Pooling(), maps={last.name: one})[last.name]
    assert torch.allclose(mapped, one(bare), atol=1e-5)
    without = pooled_activations(lm, rows, [last.name], Pooling(skip_bos=True))[last.name]
    assert not torch.allclose(without, bare, atol=1e-3)
    batch = make_batch(lm, [[0], [0, 5, 6]], skip_bos=True)
    assert batch.counted.tolist() == [[True, False, False], [False, True, True]]


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "opt"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_site_has_a_gradient_and_the_model_has_none(lm_of: Load, architecture: str, checkpointing: bool) -> None:
    lm = lm_of(architecture)
    before = {name: one.clone() for name, one in lm.model.state_dict().items()}
    rows = encode_texts(lm, TEXTS, "source", max_tokens=128)
    found = find_sites(lm, "norms")
    maps = {
        one.name: (torch.ones(one.width, requires_grad=True), torch.zeros(one.width, requires_grad=True))
        for one in found
    }
    hooks = n_hooks(lm)
    network = Sentences(lm, rows, [one.name for one in found], Pooling(), checkpointing=checkpointing)
    with network.opened(maps) as pooled:
        torch.stack([one.square().sum() for one in pooled([0, 1, 2, 3]).values()]).sum().backward()
    for w, b in maps.values():
        for one in (w, b):
            assert one.grad is not None
            assert bool((one.grad.abs() > 0).any())
    assert all(one.grad is None and not one.requires_grad for one in lm.model.parameters())
    assert all(torch.equal(one, before[name]) for name, one in lm.model.state_dict().items())
    assert n_hooks(lm) == hooks
    assert not any("forward" in vars(module) for module in lm.model.modules())


def test_recomputed_activations_give_the_same_gradient(lm_of: Load) -> None:
    lm = lm_of("llama")
    rows = encode_texts(lm, TEXTS, "source", max_tokens=128)
    found = find_sites(lm, "norms")
    gradients = []
    for checkpointing in (False, True):
        maps = {one.name: tuple(p.requires_grad_() for p in (torch.ones(32), torch.zeros(32))) for one in found}
        network = Sentences(lm, rows, [one.name for one in found], Pooling(), checkpointing=checkpointing)
        with network.opened(maps) as pooled:  # type: ignore[arg-type]
            torch.stack([one.sin().sum() for one in pooled([0, 1, 2, 3]).values()]).sum().backward()
        gradients.append(torch.cat([part.grad for pair in maps.values() for part in pair]))  # type: ignore[misc]
    assert torch.equal(*gradients)


def test_sites_that_match_nothing_or_cannot_be_sites(lm_of: Load) -> None:
    lm = lm_of("llama")
    with pytest.raises(InputError, match="no module of LlamaForCausalLM.*Did you mean.*post_attention_layernorm"):
        find_sites(lm, r".*\.post_atention_layernorm")
    with pytest.raises(InputError, match="no regular expression"):
        find_sites(lm, "(")
    with pytest.raises(InputError, match=r"shape \(1, 2"):
        find_sites(lm, r"model\.rotary_emb|model\.norm")
    cohere = lm_of("cohere")
    with pytest.raises(InputError, match='no preset "norms" for .cohere. models.*input_layernorm'):
        find_sites(cohere, "norms")
    assert len(find_sites(cohere, r".*input_layernorm")) == 3


def test_broken_sentences_and_activations_are_told(lm_of: Load, tmp_path: Path) -> None:
    lm = lm_of("llama")
    with pytest.raises(DataError, match="source sentence 2 is ''"):
        encode_texts(lm, ["a", ""], "source", max_tokens=8)
    broken = load(build_checkpoint(tmp_path / "broken", "llama"))
    with torch.no_grad():
        broken.model.get_submodule("model.layers.1.post_attention_layernorm").weight[3] = torch.inf
    sites = [one.name for one in find_sites(lm, "norms")]
    with pytest.raises(ModelError, match=r"target sentences at model\.layers\.1\.post.* not finite"):
        pooled_activations(broken, encode_texts(lm, TEXTS, "t", max_tokens=8), sites, Pooling(), what="target")


def test_bfloat16_is_mapped_in_float32() -> None:
    z = torch.tensor([[[1.0, 2.0, 300.0]]], dtype=torch.bfloat16)
    one = AffineMap(torch.full((3,), 1.001), torch.zeros(3))
    exact = (z.float() * 1.001).to(torch.bfloat16)
    assert torch.equal(one(z), exact)
    assert torch.equal(one.each(z, torch.tensor([0.0])), z)


def test_a_caches_key_knows_which_site_a_clipped_map_stands_at(lm_of: Load) -> None:
    from unlearn.lineas.caches import Caches

    model = lm_of("llama").model
    one = AffineMap(torch.ones(2), torch.zeros(2), torch.zeros(2), torch.ones(2))
    keys = {Caches(model, {site: one}, (1.0,)).key for site in ("a", "b")}
    assert len(keys) == 2
