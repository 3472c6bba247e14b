"""Rounding of weights: by hand, its bounds, what is left alone, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from audit.errors import InputError, ModelError
from audit.forgetting.measured import Measured
from audit.lm.hooks import recorded
from tests.forgetting.small_models import small_model
from unlearn.verify.robustness.quantise import (
    INT4,
    INT8,
    NF4,
    NF4_LEVELS,
    Quantisation,
    ingredients,
    measure_quantised,
    quantised,
    round_weight,
    surviving_update,
)

SHAPE = {"vocab_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
PLANS = (INT8, INT4, NF4, Quantisation(4, group=5), Quantisation(4, group=8, scheme="asymmetric"), Quantisation(3))


def llama(*, tied: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, intermediate_size=24, tie_word_embeddings=tied)).eval()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def differing(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}


def steps(weight: Tensor, plan: Quantisation) -> Tensor:
    """The step s of each weight's group, by a plain loop."""
    found = torch.empty_like(weight)
    size = plan.group or weight.shape[1]
    for row in range(len(weight)):
        for start in range(0, weight.shape[1], size):
            part = weight[row, start : start + size]
            wide = (part.clamp(min=0).max() - part.clamp(max=0).min()) / (2**plan.bits - 1)
            found[row, start : start + size] = (
                wide if plan.scheme == "asymmetric" else part.abs().max() / (2 ** (plan.bits - 1) - 1)
            )
    return found


def test_rounding_by_hand() -> None:
    """INT4 has q from -7 to 7. Row 1: max |w| = 7, s = 1: 3.4 -> 3, -2.6 -> -3, 0.5 and 1.5 tie and go to 0 and 2.
    Row 2: s = .1: .26 -> 3 steps, -.04 -> none. With groups of 2, row 1 has s = 1 and 2.6/7.

    Asymmetric, from -1 to 2: s = 3/15 = .2, z = 5: .33 -> round(1.65) = 2 -> .4, and both ends stay.

    INT8: s = 127/127 = 1.
    """
    w = torch.tensor([[7.0, 3.4, -2.6, 0.5, 1.5], [0.7, 0.26, -0.04, -0.7, 0.0]])
    expected = torch.tensor([[7.0, 3.0, -3.0, 0.0, 2.0], [0.7, 0.3, 0.0, -0.7, 0.0]])
    torch.testing.assert_close(round_weight(w, Quantisation(4)), expected)
    grouped = round_weight(w, Quantisation(4, group=2))
    torch.testing.assert_close(grouped[0], torch.tensor([7.0, 3.0, -2.6, 2.6 / 7, 1.5]))
    ends = round_weight(torch.tensor([[-1.0, 0.33, 2.0]]), Quantisation(4, scheme="asymmetric"))
    torch.testing.assert_close(ends, torch.tensor([[-1.0, 0.4, 2.0]]))
    torch.testing.assert_close(
        round_weight(torch.tensor([[127.0, -3.4, 3.6]]), INT8), torch.tensor([[127.0, -3.0, 4.0]])
    )


def test_nf4_takes_the_nearest_published_level_of_each_block() -> None:
    """Blocks of 64 are scaled by max |w| = 2: every level is its own nearest; .79 / 2 = .395 lies nearest .4407."""
    levels = torch.tensor(NF4_LEVELS)
    w = torch.zeros(1, 64)
    w[0, :16], w[0, 16] = 2 * levels, 0.79
    after = round_weight(w, NF4)
    torch.testing.assert_close(after[0, :16], 2 * levels)
    assert float(after[0, 16]) == pytest.approx(2 * 0.44070982933044434)


@given(st.integers(0, 2**31), st.sampled_from(PLANS), st.sampled_from([1, 7, 16, 33]))
@settings(max_examples=60)
def test_the_error_is_at_most_half_a_step_and_rounding_again_changes_nothing(
    seed: int, plan: Quantisation, n_in: int
) -> None:
    w = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, n_in)).astype(np.float32))
    w[1] = 0.0
    after = round_weight(w, plan)
    assert torch.equal(after[1], w[1])
    if plan.scheme != "nf4":
        assert bool(((w - after).abs() <= steps(w, plan) * 0.5001 + 1e-7).all())
    torch.testing.assert_close(round_weight(after, plan), after, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_only_linear_weights_change_and_come_back_to_the_bit(plan: Quantisation) -> None:
    model = llama()
    before = weights(model)
    with quantised(model, plan) as told:
        assert differing(model, before) == set(told.names)
        assert all("proj" in name for name in told.names)
        assert len(told.names) == 2 * 7
        for name in told.names:
            torch.testing.assert_close(dict(model.named_parameters())[name].data, round_weight(before[name], plan))
    assert not differing(model, before)
    assert told.left_out.keys() == {"model.embed_tokens.weight", "lm_head.weight"}
    assert told.error is not None
    assert 0 < told.error < 0.5


def test_weights_come_back_after_an_error_and_hooks_stay() -> None:
    model = llama()
    before = weights(model)
    ids = torch.tensor([[1, 2, 3]])
    with recorded(model, ["model.layers.0"]) as seen:
        with contextlib.suppress(KeyboardInterrupt), quantised(model, INT4):
            model(ids)
            raise KeyboardInterrupt
        model(ids)
    assert not differing(model, before)
    assert len(seen["model.layers.0"]) == 2
    assert not torch.equal(*seen["model.layers.0"])
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = torch.nan  # after others were rounded
    before = weights(model)
    with pytest.raises(ModelError, match=r"up_proj\.weight of LlamaForCausalLM: .* not finite"), quantised(model, INT4):
        pass
    changed = differing(model, before) - {"model.layers.1.mlp.up_proj.weight"}  # NaN equals nothing
    assert not changed


def test_a_tied_head_is_an_embedding_and_a_shared_layer_is_rounded_once() -> None:
    model = llama(tied=True)
    model.model.layers[1].mlp.up_proj.weight = model.model.layers[0].mlp.up_proj.weight
    before = weights(model)
    with quantised(model, Quantisation(4, head=True)) as told:
        assert told.left_out == {"model.embed_tokens.weight": "an embedding, or tied to one"}
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert model.model.layers[1].mlp.up_proj.weight is model.model.layers[0].mlp.up_proj.weight
        shared = "model.layers.0.mlp.up_proj.weight"
        torch.testing.assert_close(
            model.model.layers[1].mlp.up_proj.weight.data, round_weight(before[shared], Quantisation(4))
        )
    assert not differing(model, before)
    untied = llama()
    with quantised(untied, Quantisation(4, head=True)) as told:
        assert "lm_head.weight" in told.names


def test_the_transposed_weights_of_gpt2_are_rounded_along_their_inputs() -> None:
    """Conv1D holds (inputs, outputs): a scale belongs to a column. One output channel is made 100 times as large; the
    others, which have scales of their own, are rounded as they would be without it."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=32)).eval()
    weight = model.transformer.h[0].mlp.c_fc.weight
    weight.data[:, 3] *= 100
    before = weight.detach().clone()
    with quantised(model, Quantisation(4)) as told:
        assert len(told.names) == 4
        torch.testing.assert_close(weight.data, round_weight(before.t(), Quantisation(4)).t())
        assert float((weight.data - before)[:, :3].abs().max()) <= float(before[:, :3].abs().max()) / 7 / 2 * 1.001
    assert torch.equal(weight, before)
    embeddings = ("transformer.wte.weight", "transformer.wpe.weight")
    assert told.left_out == dict.fromkeys(embeddings, "an embedding, or tied to one")


def test_a_tiny_update_vanishes_in_four_bits_and_not_in_eight() -> None:
    """The base lies on INT4's grid, so half a step is the least that shows: an update of a fifth of a step is gone
    after INT4, and stays after INT8, whose step is 18 times smaller."""
    base = llama()
    plan = Quantisation(4)
    with quantised(base, plan) as told:
        grid = copy.deepcopy(base)
    moved = copy.deepcopy(grid)
    for name, one in moved.named_parameters():
        if name in told.names:
            step = one.data.abs().amax(1, keepdim=True) / 7
            inner = one.data.abs() < one.data.abs().amax(1, keepdim=True)  # the largest sets the scale
            one.data += torch.where(inner, 0.2 * step, torch.zeros_like(step))
    ids = torch.tensor([[1, 2, 3, 4]])
    with quantised(grid, plan), quantised(moved, plan):
        torch.testing.assert_close(moved(ids).logits, grid(ids).logits)
    with torch.no_grad(), quantised(grid, INT8), quantised(moved, INT8):
        assert float((moved(ids).logits - grid(ids).logits).abs().max()) > 1e-3
    gone, kept = (surviving_update(grid, moved, one) for one in (plan, INT8))
    assert gone["changed"] > 0.8
    assert gone["norm kept"] < 1e-5
    assert kept["norm kept"] == pytest.approx(1.0, abs=0.1)


def test_an_adapter_keeps_its_precision_and_its_base_is_rounded(tmp_path: Path) -> None:
    from unlearn.lora import LoraPlan, attach

    lm = small_model(tmp_path)
    twin = attach(lm, LoraPlan(rank=2), seed=0)
    with quantised(twin.lm.model, INT4) as told:
        assert all("base_layer" in name for name in told.names)
        assert {why for name, why in told.left_out.items() if "lora_" in name} == {"an adapter's own"}


def test_what_cannot_be_rounded_is_refused() -> None:
    for options in ({"bits": 1}, {"bits": 9}, {"bits": 4, "group": 0}, {"bits": 8, "scheme": "nf4"}):
        with pytest.raises(InputError, match="quantisation"):
            Quantisation(**options)
    with pytest.raises(ModelError, match="no linear layer"), quantised(nn.Embedding(3, 3), INT4):
        pass
    already = nn.Linear(2, 2)
    already.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ModelError, match="quantised already"), quantised(already, INT4):
        pass


@pytest.fixture
def measured() -> dict[str, dict[str, Measured]]:
    def of(values: list[float]) -> Measured:
        names = tuple(f"r{place}" for place in range(len(values)))
        return Measured("p", names, names, np.array(values))

    spread = np.linspace(-0.02, 0.02, 30)
    return {
        "subject": {"whole": of(list(0.9 + spread)), "INT4": of(list(0.8 + spread))},
        "remedied": {"whole": of(list(0.1 + spread)), "INT4": of(list(0.6 + spread[::-1]))},
        "gold": {"whole": of(list(0.1 + spread)), "INT4": of(list(0.2 + spread))},
    }


def test_what_rounding_brings_back_by_hand(measured: dict[str, dict[str, Measured]]) -> None:
    """The gap is .8; under INT4 (.6 - .2) / .8 = .5 came back."""
    (one,) = ingredients(**measured, rng=0)
    assert (one.key, one.kind) == ("quantisation.int4", "quantisation")
    found = one.at(0.95)
    assert found.value == pytest.approx(0.5)
    assert found.low is not None
    assert found.low > 0.45
    assert (found.n, one.at(0.99).level) == (30, 0.99)


def test_without_a_gap_nothing_is_said_and_models_under_other_roundings_are_refused(
    measured: dict[str, dict[str, Measured]],
) -> None:
    (one,) = ingredients(measured["gold"], measured["remedied"], measured["gold"], rng=0)
    assert one.at(0.95).value is None
    assert "no gap" in str(one.at(0.95).why)
    with pytest.raises(InputError, match="expected the same roundings"):
        ingredients(measured["subject"], measured["remedied"], {"whole": measured["gold"]["whole"]}, rng=0)


def test_a_measure_is_taken_of_the_model_as_it_is_and_of_each_rounding(tmp_path: Path) -> None:
    lm = small_model(tmp_path)
    before = weights(lm.model)
    told: list[tuple[int, int]] = []

    def measure(lm: object) -> Measured:
        value = float(dict(small.named_parameters())["model.layers.0.mlp.up_proj.weight"].abs().sum())
        return Measured("size", ("a",), ("a",), np.array([value]))

    small = lm.model
    found = measure_quantised(lm, [INT8, INT4], measure, progress=lambda _, done, total: told.append((done, total)))
    assert list(found) == ["whole", "INT8, per channel", "INT4, groups of 32"]
    assert len({float(one.values[0]) for one in found.values()}) == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert not differing(lm.model, before)
    with pytest.raises(InputError, match="expected each once"):
        measure_quantised(lm, [INT8, INT8], measure)
