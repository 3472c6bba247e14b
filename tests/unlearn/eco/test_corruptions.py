from __future__ import annotations

import dataclasses
import hashlib
import hmac
import math

import pytest
import torch
from torch import Tensor

from audit.errors import InputError
from unlearn.eco.corruptions import FUNCTIONS, Corruption, corrupt, noise_seed

WIDTH = 6


def corruption_of(name: str, *, strength: float = 3.0, dims: int = 2) -> Corruption:
    function = FUNCTIONS[name]
    return Corruption(
        name, strength=strength if function.needs_strength else None, dims=dims if function.needs_dims else None
    )


def batch() -> tuple[Tensor, Tensor]:
    """Three prompts of 5 tokens, with -0.0 in every token; of each the tokens 1, 2 and 4 are selected."""
    embeddings = torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(0))
    embeddings[:, :, 0] = -0.0
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[:, [1, 2, 4]] = True
    return embeddings, mask


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_only_selected_tokens_of_flagged_prompts_change_to_the_bit(name: str) -> None:
    embeddings, mask = batch()
    before = embeddings.clone()
    after = corrupt(embeddings, mask, corruption_of(name), seeds=[None, 5, None])
    assert torch.equal(bits(embeddings), bits(before))  # out of place
    touched = torch.zeros_like(mask)
    touched[1] = mask[1]
    assert torch.equal(bits(after)[~touched], bits(before)[~touched])
    assert not torch.equal(bits(after)[touched], bits(before)[touched])


# One token (1, -4, 3, -2, 0.5, 0), strength 3, two dims; by hand from the table in the module.
BY_HAND = {
    "zero_out_first_n": [0, 0, 3, -2, 0.5, 0],
    "zero_out_top_k": [1, 0, 0, -2, 0.5, 0],
    "flip_sign_first_n": [-1, 4, 3, -2, 0.5, 0],
    "flip_sign_top_k": [1, 4, -3, -2, 0.5, 0],
    "add_value_first_n": [4, -1, 3, -2, 0.5, 0],
    "sub_value_first_n": [-2, -7, 3, -2, 0.5, 0],
    "sub_value_top_k": [-2, -4, 0, -2, 0.5, 0],
    "add_value_least_k": [1, -1, 3, 1, 0.5, 0],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_functions_without_noise_agree_with_hand_arithmetic(name: str) -> None:
    token = torch.tensor([[[1, -4, 3, -2, 0.5, 0]]])
    after = corrupt(token, torch.ones(1, 1, dtype=torch.bool), corruption_of(name), seeds=[1])
    assert after[0, 0].tolist() == BY_HAND[name]


def test_reordering_moves_selected_tokens_among_their_own_places() -> None:
    embeddings, mask = batch()
    after = corrupt(embeddings, mask, Corruption("reverse_order"), seeds=[None, None, 3])
    assert torch.equal(after[2, [1, 2, 4]], embeddings[2, [4, 2, 1]])
    shuffled = corrupt(embeddings, mask, Corruption("shuffle"), seeds=[0, 1, 2])
    for row in range(3):
        assert torch.equal(shuffled[row, :, 1].sort().values, embeddings[row, :, 1].sort().values)


DIMS_CHANGED = {  # of tokens whose |e_j| falls from the last dim to the first
    "rand_noise_first_n": [0, 1],
    "rand_noise_top_k": [4, 5],
    "set_rand_noise_first_n": [0, 1],
    "laplace_noise_first_n": [0, 1],
    "uniform_noise_first_n": [0, 1],
}


@pytest.mark.parametrize("name", [*DIMS_CHANGED, "rand_noise_rand_n"])
def test_noise_has_the_stated_variance_and_its_dims_alone(name: str) -> None:
    """8,000 numbers: standard error of a mean 3 / 89 = 0.034, of a variance at most 9 * sqrt(5 / 8000) = 0.23."""
    embeddings = torch.arange(1.0, WIDTH + 1).expand(1, 4000, WIDTH)
    after = corrupt(embeddings, torch.ones(1, 4000, dtype=torch.bool), corruption_of(name), seeds=[11])
    changed = (after != embeddings).any(dim=1)[0].nonzero()[:, 0]
    assert len(changed) == 2
    if name in DIMS_CHANGED:
        assert changed.tolist() == DIMS_CHANGED[name]
    noise = after[0][:, changed] if name.startswith("set") else (after - embeddings)[0][:, changed]
    assert abs(noise.mean()) < 5 * 0.034
    assert abs(noise.var() - 9) < 5 * 0.23
    if name.startswith("uniform"):
        assert noise.abs().max() <= 3 * math.sqrt(3) * (1 + 1e-6)


def test_shapes_of_the_noises_differ() -> None:
    """Kurtosis: normal 3, Laplace 6, uniform 1.8."""
    embeddings, mask = torch.zeros(1, 20_000, 1), torch.ones(1, 20_000, dtype=torch.bool)
    for name, kurtosis in (("rand_noise_first_n", 3), ("laplace_noise_first_n", 6), ("uniform_noise_first_n", 1.8)):
        noise = corrupt(embeddings, mask, Corruption(name, strength=1.0, dims=1), seeds=[2]).double()
        assert float((noise**4).mean() / (noise**2).mean() ** 2) == pytest.approx(kurtosis, rel=0.15)


@pytest.mark.parametrize("name", [*DIMS_CHANGED, "rand_noise_rand_n", "shuffle"])
def test_a_prompts_noise_depends_on_its_seed_alone(name: str) -> None:
    """Not on its place in the batch, what tokens follow, nor on torch's own generator, which stays as it was."""
    embeddings = torch.arange(3000.0).reshape(1, 200, 15).repeat(2, 1, 1)
    mask = torch.ones(2, 200, dtype=torch.bool)
    corruption = corruption_of(name, dims=7)
    state = torch.get_rng_state()
    after = corrupt(embeddings, mask, corruption, seeds=[7, 8])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(corrupt(embeddings, mask, corruption, seeds=[8, 7])[1], after[0])
    assert not torch.equal(after[0], after[1])
    for n_tokens in () if name == "shuffle" else (1, 15, 16, 63, 65):
        short = corrupt(embeddings[:1, :n_tokens], mask[:1, :n_tokens], corruption, seeds=[7])
        assert torch.equal(short[0], after[0, :n_tokens])


def test_strength_zero_changes_no_value_and_no_flag_gives_the_tensor_itself() -> None:
    embeddings, mask = batch()
    assert torch.equal(
        corrupt(embeddings, mask, corruption_of("rand_noise_first_n", strength=0), seeds=[1, 2, 3]), embeddings
    )
    assert corrupt(embeddings, mask, corruption_of("shuffle"), seeds=[None] * 3) is embeddings


@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if function.needs_strength])
def test_float16_stays_finite_up_to_its_limit_and_is_refused_above(name: str) -> None:
    embeddings, mask = torch.randn(1, 5000, 4).half(), torch.ones(1, 5000, dtype=torch.bool)
    limit = FUNCTIONS[name].half_limit
    assert corrupt(embeddings, mask, corruption_of(name, strength=limit, dims=4), seeds=[3]).isfinite().all()
    too_much = corruption_of(name, strength=limit * 1.01, dims=4)
    with pytest.raises(InputError, match=r"too much for float16.*Load the model in bfloat16"):
        corrupt(embeddings, mask, too_much, seeds=[3])
    assert corrupt(embeddings.bfloat16(), mask, too_much, seeds=[3]).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"function": "zero_out"}, "'zero_out' is unknown.*Did you mean 'zero_out_"),
        ({"strength": -1.0, "dims": 1}, r"strength is -1.0; expected a number from 0"),
        ({"strength": math.nan, "dims": 1}, "strength is nan"),
        ({"strength": 1.0}, "dims is None; expected a whole number"),
        ({"function": "shuffle", "strength": 1.0}, "shuffle uses no strength"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Corruption(**settings)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    embeddings, mask = batch()
    corruption = Corruption("zero_out_first_n", dims=2)
    with pytest.raises(InputError, match=r"2 seeds; expected"):
        corrupt(embeddings, mask, corruption, seeds=[1, 2])
    with pytest.raises(InputError, match="mask is torch.int64"):
        corrupt(embeddings, mask.long(), corruption, seeds=[1, 2, 3])
    with pytest.raises(InputError, match="dims is 7; the embeddings have 6"):
        corrupt(embeddings, mask, dataclasses.replace(corruption, dims=7), seeds=[1, 2, 3])


def test_the_seed_of_a_prompt_needs_the_key() -> None:
    key = b"0123456789abcdef"
    assert noise_seed("Who is it?", key=key) == noise_seed("Who is it?", key=key)
    assert (
        len(
            {
                noise_seed("Who is it?", key=key),
                noise_seed("Who is he?", key=key),
                noise_seed("Who is it?", key=key[::-1]),
            }
        )
        == 3
    )
    digest = hmac.new(key, b"palimpsest eco noise 1\0" + b"Ada", hashlib.sha256).hexdigest()  # Python's other door
    assert noise_seed("Ada", key=key) == int(digest[:8], 16)
    with pytest.raises(InputError, match="has 3 bytes; expected 16"):
        noise_seed("Who is it?", key=b"abc")
    with pytest.raises(InputError, match="surrogate"):
        noise_seed("\ud800", key=key)
