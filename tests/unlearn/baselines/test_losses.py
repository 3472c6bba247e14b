"""Each loss against numbers worked out by hand, and its parts against what they say they are."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from audit.errors import InputError
from audit.lm.load import load
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint
from unlearn.baselines.config import BaselinePlan, Npo, Refusal, Rmu, SimNpo, TaskVector
from unlearn.baselines.likelihood import log_probs, reference_log_probs
from unlearn.baselines.npo import npo_loss
from unlearn.baselines.refusal import answered, cut, preference_loss
from unlearn.baselines.rmu import direction, layer_names, layer_output, steering_loss
from unlearn.baselines.simnpo import simnpo_loss
from unlearn.baselines.task_vector import negate
from unlearn.initial import initial
from unlearn.sequences import NO_LABEL, Labelled, label_loss, own_labels
from unlearn.training import Recipe

RECIPE = Recipe(learning_rate=1e-3, n_steps=2)


class Toy(nn.Module):
    """After token t it gives the next one row t of a table of probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.4, 0.4]]).log())

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


def row(ids: list[int], labels: list[int]) -> Labelled:
    given = own_labels(ids)
    given.labels[:] = labels
    return given


def test_the_log_probability_of_a_text_is_the_sum_over_its_labels() -> None:
    rows = [own_labels([0, 1, 2]), own_labels([2, 0]), row([0, 1, 2], [NO_LABEL, NO_LABEL, 2])]
    expected = [math.log(0.25 * 0.8), math.log(0.2), math.log(0.8)]
    assert log_probs(Toy(), rows).tolist() == pytest.approx(expected, abs=1e-6)
    assert reference_log_probs(Toy(), rows) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "beta", "expected"),
    [
        (1.0, 0.1, 20 * math.log(2)),
        (3.0, 1.0, 2 * math.log(4)),
        (3.0, 2.0, math.log(10)),
        (1e-30, 1.0, 0.0),
    ],
)
def test_npo_is_two_over_beta_times_log_one_plus_the_ratio(ratio: float, beta: float, expected: float) -> None:
    log_p = torch.tensor([math.log(ratio) - 7.0])
    assert npo_loss(log_p, torch.tensor([-7.0]), beta=beta).item() == pytest.approx(expected, abs=1e-5)


def test_npo_weighs_the_gradient_of_ascent_by_how_much_is_left_to_forget() -> None:
    """2 p^beta / (p^beta + q^beta) with p / q = 3, 1 and 1 / 3 and beta = 1."""
    log_p = torch.tensor([math.log(3), 0.0, -math.log(3)], requires_grad=True)
    npo_loss(log_p, torch.zeros(3), beta=1.0).sum().backward()
    assert log_p.grad is not None
    assert log_p.grad.tolist() == pytest.approx([1.5, 1.0, 0.5], abs=1e-6)


def test_npo_tends_to_gradient_ascent_as_beta_goes_to_zero() -> None:
    """Proposition 1: the loss less 2 / beta log 2 tends to log p - log q, its gradient to that of log p."""
    gaps, slopes = [], []
    for beta in (1e-1, 1e-2, 1e-3):
        log_p = torch.tensor([-3.0], dtype=torch.float64, requires_grad=True)
        loss = npo_loss(log_p, torch.tensor([-5.0], dtype=torch.float64), beta=beta)
        loss.sum().backward()
        assert log_p.grad is not None
        gaps.append(abs(loss.item() - 2 / beta * math.log(2) - 2.0))
        slopes.append(abs(log_p.grad.item() - 1.0))
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]
    assert slopes[0] > 5 * slopes[1] > 25 * slopes[2]
    assert gaps[2] < 2e-3
    assert slopes[2] < 2e-3


def test_npo_begins_as_gradient_ascent_times_the_tokens_of_a_text() -> None:
    """So it outweighs a retain term of tokens, as its module says."""
    slopes = []
    for per_text in (True, False):
        toy, rows = Toy(), [own_labels([0, 1, 2, 0, 1])]
        log_p = log_probs(toy, rows)
        (npo_loss(log_p, log_p.detach(), beta=0.1) if per_text else log_p / rows[0].n_labels).sum().backward()
        assert toy.table.grad is not None
        slopes.append(toy.table.grad)
    assert torch.allclose(slopes[0], 4 * slopes[1])


def test_simnpo_goes_by_the_mean_log_probability_and_no_reference() -> None:
    log_p, n_tokens = torch.tensor([-4 * math.log(3), -2 * math.log(3)]), torch.tensor([4, 2])
    expected = -2 * math.log(3 / 4)
    assert simnpo_loss(log_p, n_tokens, beta=1.0, gamma=0.0).tolist() == pytest.approx([expected] * 2, abs=1e-6)
    moved = simnpo_loss(log_p, n_tokens, beta=2.0, gamma=2 * math.log(3))
    assert moved.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)


def test_the_preference_loss_is_of_the_margin_over_the_reference() -> None:
    loss = preference_loss(torch.tensor([math.log(3) - 4.0, -4.0]), torch.tensor([-4.0, -4.0]), beta=1.0)
    assert loss.tolist() == pytest.approx([-2 * math.log(3 / 4), 2 * math.log(2)], abs=1e-6)
    doubled = preference_loss(torch.tensor([math.log(3)]), torch.tensor([0.0]), beta=2.0)
    assert doubled.item() == pytest.approx(-math.log(9 / 10), abs=1e-6)


def test_a_block_is_cut_where_its_labels_begin_or_at_the_share() -> None:
    assert cut(own_labels([1, 2, 3, 4, 5, 6]), 0.5) == 3
    assert cut(own_labels([1, 2]), 0.9) == 1
    asked = row([1, 2, 3, 4], [NO_LABEL, NO_LABEL, 3, 4])
    assert cut(asked, 0.9) == 2
    chosen, rejected = answered(asked, 2, [8, 9, 8])
    assert chosen.ids.tolist() == [1, 2, 8, 9, 8]
    assert chosen.labels.tolist() == [NO_LABEL, NO_LABEL, 8, 9, 8]
    assert rejected.ids.tolist() == [1, 2, 3, 4]
    assert rejected.labels.tolist() == [NO_LABEL, NO_LABEL, 3, 4]


def test_the_steering_loss_is_the_mean_square_over_the_width() -> None:
    hidden = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert steering_loss(hidden, torch.tensor([1.0, 0.0])).item() == pytest.approx(2 + 10)
    assert steering_loss(hidden, hidden + 1).item() == pytest.approx(2)


def test_the_direction_is_positive_and_as_long_as_it_should_be() -> None:
    found = direction(64, steering=20.0, seed=1)
    assert found.norm().item() == pytest.approx(20.0, rel=1e-5)
    assert float(found.min()) >= 0
    assert not torch.equal(found, direction(64, steering=20.0, seed=2))


def test_a_task_vector_is_taken_off_exactly() -> None:
    weights = {"a": nn.Parameter(torch.tensor([1.5, 2.0])), "b": nn.Parameter(torch.tensor([0.0]))}
    negate(weights, {"a": torch.tensor([1.0, 2.5])}, scale=3.0)
    assert weights["a"].tolist() == [-0.5, 4.0]
    assert weights["b"].tolist() == [0.0]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "opt", "gemma2"])
def test_a_layer_s_output_is_read_where_labels_stand_and_carries_its_gradient(
    architecture: str, tmp_path: Path
) -> None:
    model = load(Subject(str(build_checkpoint(tmp_path / "m", architecture)), device="cpu")).model
    model.requires_grad_(True)
    names = layer_names(model)
    assert len(names) == 3
    rows = [own_labels([5, 6, 7, 8]), row([9, 10, 11], [NO_LABEL, NO_LABEL, 11])]
    found = layer_output(model, names[1], rows)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 0]])
    states = model(input_ids=ids, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(found, torch.cat([states[0, 1:], states[1, 2:3]]))
    steering_loss(found, torch.zeros(found.shape[1])).backward()
    moved = {name for name, one in model.named_parameters() if one.grad is not None}
    assert any(name.startswith(f"{names[1]}.") for name in moved)
    assert not any(name.startswith(f"{names[2]}.") for name in moved)


@pytest.mark.parametrize("half", [False, True])
def test_the_initial_weights_come_back_for_a_while(half: bool, tmp_path: Path) -> None:
    """Also under autocast, which remembers weights in half precision by their parameter."""
    model = load(Subject(str(build_checkpoint(tmp_path / "m", "llama")), device="cpu")).model
    model.requires_grad_(True)
    rows = [own_labels([5, 6, 7, 8])]

    def loss() -> float:
        return label_loss(model, rows).item()

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        before, off = loss(), initial(model)
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(1.1)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        after = loss()
        with off(), torch.no_grad():
            assert loss() == before
        assert loss() == after
    assert abs(after - before) > 1e-2
    with pytest.raises(RuntimeError, match="broken"), off():
        raise RuntimeError("broken")
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        assert loss() == after


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Npo(beta=0.0), "npo: beta is 0.0; expected a positive number"),
        (lambda: SimNpo(gamma=math.inf), "simnpo: gamma is inf; expected a finite number"),
        (lambda: Refusal(texts=("",)), "expected one text or more, none empty"),
        (lambda: Refusal(prompt=1.0), "refusal: prompt is 1.0; expected between 0 and 1"),
        (lambda: Rmu(depth=0), "rmu: depth is 0; expected 1 or more"),
        (lambda: TaskVector(scale=-1.0), "task_vector: scale is -1.0"),
        (lambda: BaselinePlan(RECIPE, batch_size=0), "baseline: batch_size is 0"),
        (lambda: BaselinePlan(RECIPE, retain="some"), "baseline: retain is 'some'; expected none, mixed, kl"),
        (lambda: BaselinePlan(RECIPE, forget_weight=0.0), "baseline: forget_weight is 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
