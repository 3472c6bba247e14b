"""Each baseline's map of one site: answers known by hand, sets drawn alike, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import f, kstest
from torch import Tensor

from audit.errors import InputError
from audit.stats.auc import roc_auc
from unlearn.lineas.baselines.aura import aura, neuron_auc
from unlearn.lineas.baselines.caa import caa
from unlearn.lineas.baselines.gaussian import gaussian
from unlearn.lineas.baselines.iti import iti_c, iti_m
from unlearn.lineas.baselines.linear_act import linear_act, unclipped_linear_act
from unlearn.lineas.baselines.mean_shift import mean_shift
from unlearn.lineas.baselines.methods import METHODS, Fit, baseline
from unlearn.lineas.baselines.prompt import INSTRUCTION, prompted
from unlearn.lineas.baselines.repe import repe

from .toys import draw, increasing, shuffled

FITS = sorted({one.fit for one in METHODS.values()}, key=lambda fit: fit.__name__)
fits = pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__)


def close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return float((one - other).abs().max()) < tolerance


@pytest.mark.parametrize("fit", [gaussian, linear_act, unclipped_linear_act])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_increasing_map_is_recovered_from_shuffled_targets(fit: Fit, seed: int) -> None:
    x = draw(32, 12, seed)
    a, c = increasing(12, seed)
    found = fit(x, shuffled(x * a + c, seed))
    assert close(found.w, a, 1e-8)
    assert close(found.b, c, 1e-8)


def test_shifts_recover_a_shift() -> None:
    x, c = draw(32, 12, 0), draw(1, 12, 9)[0]
    for fit in (mean_shift, caa):
        found = fit(x, shuffled(x + c, 0))
        assert close(found.b, c, 1e-12)
        assert bool((found.w == 1).all())


def test_linear_act_by_hand() -> None:
    """Sorted pairs (0, 1), (1, 1), (2, 4): w = 3/2, b = 2 - 3/2; mapped from 0 to 2 alone."""
    found = linear_act(torch.tensor([[2.0], [0.0], [1.0]]), torch.tensor([[1.0], [4.0], [1.0]]))
    assert (float(found.w), float(found.b)) == pytest.approx((1.5, 0.5))
    assert found(torch.tensor([[-0.1], [0.0], [2.0], [2.1]]))[:, 0].tolist() == pytest.approx([-0.1, 0.5, 3.5, 2.1])


def test_linear_act_of_unequal_sizes_is_that_of_repeated_texts() -> None:
    """6 against 4: each source text twice and each target text three times gives the same quantile functions."""
    x, y = draw(6, 5, 0), draw(4, 5, 1) * 2 + 1
    uneven = linear_act(x, y)
    even = linear_act(x.repeat(2, 1), y.repeat(3, 1))
    assert close(uneven.w, even.w, 1e-8)
    assert close(uneven.b, even.b, 1e-8)
    assert uneven.low is not None
    assert torch.equal(uneven.low, x.amin(dim=0))


def test_a_neuron_that_is_constant_in_the_source_is_shifted_or_left_alone() -> None:
    x, y = draw(16, 3, 0), draw(16, 3, 1) + 2
    x[:, 1] = 5.0
    assert (float(linear_act(x, y).w[1]), float(linear_act(x, y).b[1])) == pytest.approx((1, float(y[:, 1].mean()) - 5))
    assert (float(gaussian(x, y).w[1]), float(gaussian(x, y).b[1])) == (1.0, 0.0)
    assert float(aura(torch.cat([x, x]), torch.cat([x, x + 1])).w[1]) == 1.0  # all ranks tied, or below


def test_gaussian_leaves_neurons_alone_that_hardly_vary_in_either_set() -> None:
    x, y = draw(64, 2, 0), draw(64, 2, 1) + 3
    y[:, 0] = 7 + 1e-5 * y[:, 0]
    found = gaussian(x, y)
    assert (float(found.w[0]), float(found.b[0])) == (1.0, 0.0)
    assert float(found.w[1]) == pytest.approx(float(y[:, 1].std() / x[:, 1].std()))


@pytest.mark.parametrize("fit", [iti_c, iti_m])
def test_iti_goes_one_deviation_along_the_direction_that_tells_the_sets_apart(fit: Fit) -> None:
    u = torch.zeros(8, dtype=torch.float64)
    u[2], u[5] = 0.6, -0.8
    x, y = draw(400, 8, 0) - 3 * u, draw(300, 8, 1) + 3 * u
    b = fit(x, y).b
    theta = b / b.norm()
    assert float(theta @ u) > 0.99
    assert float(b.norm()) == pytest.approx(float((torch.cat([x, y]) @ theta).std()))


def test_iti_c_does_not_depend_on_the_unit_of_the_activations() -> None:
    x, y = draw(30, 40, 0), draw(30, 40, 1) + 0.3
    assert close(iti_c(x * 1e4, y * 1e4).b / 1e4, iti_c(x, y).b, 1e-4)


def test_repe_finds_the_first_component_and_its_sign() -> None:
    u = torch.nn.functional.normalize(draw(1, 10, 3)[0], dim=0)
    x = draw(50, 10, 0)
    y = x + 2 * u + 0.1 * draw(50, 10, 1) - 0.5 * torch.eye(10, dtype=torch.float64)[0]
    found = repe(x, y).b
    v = torch.from_numpy(np.linalg.eigh(((y - x).T @ (y - x)).numpy())[1][:, -1])
    assert abs(float(found @ v)) == pytest.approx(float(found.norm()))
    assert float(found @ u) > 0
    assert float(found.norm()) == pytest.approx(abs(float((y - x).mean(dim=0) @ v)))


def test_aura_turns_off_what_tells_the_source_and_keeps_the_rest() -> None:
    """By hand: above all of the target 0, equal 1, below all 1; 3 pairs of 4 ordered make 1 - 2 (3/4 - 1/2)."""
    x = torch.tensor([[2.0, 1.0, 0.0, 0.5], [3.0, 2.0, 0.1, 3.0]])
    y = torch.tensor([[0.0, 1.0, 1.0, 1.0], [1.0, 2.0, 2.0, 0.0]])
    assert aura(x, y).w.tolist() == pytest.approx([0.0, 1.0, 1.0, 0.5])


def test_the_fast_auc_is_that_of_audit_with_ties() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 5, (13, 6)).astype(float), rng.integers(0, 4, (9, 6)).astype(float)
    slow = [roc_auc(positive[:, one], negative[:, one]).value for one in range(6)]
    assert neuron_auc(positive, negative) == pytest.approx(slow)


N, M, D = 32, 24, 4_000  # where there is nothing to find: neurons that are independent, drawn alike


@pytest.fixture(scope="module")
def alike() -> tuple[Tensor, Tensor]:
    return 3 + 2 * draw(N, D, 0), 3 + 2 * draw(M, D, 1)


def test_shifts_between_sets_drawn_alike_are_as_large_as_chance_makes_them(alike: tuple[Tensor, Tensor]) -> None:
    """b / (2 sqrt(1/n + 1/m)) is standard normal."""
    b = mean_shift(*alike).b / (2 * math.sqrt(1 / N + 1 / M))
    assert kstest(b.numpy(), "norm").pvalue > 1e-3


def test_gaussian_scales_between_sets_drawn_alike_follow_f(alike: tuple[Tensor, Tensor]) -> None:
    assert kstest(gaussian(*alike).w.square().numpy(), f(M - 1, N - 1).cdf).pvalue > 1e-3


def test_linear_act_between_sets_drawn_alike_is_near_the_identity(alike: tuple[Tensor, Tensor]) -> None:
    """The mean goes to the mean; slopes are the Gaussian's times the correlation of quantiles, which is below 1."""
    x, y = alike
    found, ratio = linear_act(x, y), gaussian(x, y).w
    assert close(found.w * x.mean(dim=0) + found.b, y.mean(dim=0), 1e-9)
    correlation = found.w / ratio * math.sqrt((N - 1) / (M - 1) * M / N)
    assert float(correlation.max()) <= 1 + 1e-9
    assert float(correlation.mean()) > 0.95


def test_aura_dampens_chance_by_as_much_as_its_docstring_says(alike: tuple[Tensor, Tensor]) -> None:
    alpha = aura(*alike).w
    expected = 1 - math.sqrt((N + M + 1) / (6 * math.pi * N * M))
    assert float(alpha.mean()) == pytest.approx(expected, abs=4 * float(alpha.std()) / math.sqrt(D))
    assert float((alpha == 1).double().mean()) == pytest.approx(0.5, abs=0.05)


def test_iti_moves_also_where_there_is_nothing_to_find(alike: tuple[Tensor, Tensor]) -> None:
    x, y = (one[:, :50] for one in alike)
    assert float(iti_m(x, y).b.norm()) > 1


@fits
def test_maps_have_the_dtype_of_the_activations_and_one_number_for_each_neuron(fit: Fit) -> None:
    found = fit(draw(8, 5, 0).float(), draw(8, 5, 1).float() + 1)
    assert (found.w.dtype, found.b.dtype, len(found)) == (torch.float32, torch.float32, 5)


@fits
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:1], "there is 1 source sentence; expected 2 or more"),
        (
            lambda x: x.masked_fill(torch.arange(5) == 2, torch.nan),
            "source activations of 1 of 5 neurons are not finite",
        ),
        (lambda x: x[:1].repeat(8, 1), "all 8 source sentences give the same activations"),
        (lambda x: x[:, :4], "expected (n, D) and (m, D)"),
    ],
    ids=["one sentence", "not finite", "all alike", "other width"],
)
def test_bad_activations_are_refused(fit: Fit, change: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        fit(change(draw(8, 5, 0)), draw(8, 5, 1))  # type: ignore[operator]
    assert said in str(caught.value)


@pytest.mark.parametrize("fit", [iti_c, iti_m, repe])
def test_equal_sets_have_no_direction(fit: Fit) -> None:
    x = draw(8, 5, 0)
    with pytest.raises(InputError, match="no direction"):
        fit(x, x)


def test_repe_takes_pairs() -> None:
    with pytest.raises(InputError, match="8 source and 6 target sentences; RepE takes pairs"):
        repe(draw(8, 5, 0), draw(6, 5, 1))


def test_gaussian_refuses_a_site_that_hardly_varies() -> None:
    with pytest.raises(InputError, match="no neuron has a standard deviation above 0.0001"):
        gaussian(draw(8, 5, 0) * 1e-6, draw(8, 5, 1))


def test_only_clipped_maps_are_called_linear_act() -> None:
    x, y = draw(8, 5, 0), draw(8, 5, 1)
    assert [one.title for one in METHODS.values() if one.fit(x, y).clipped] == [
        one.title for one in METHODS.values() if "Linear-AcT" in one.title
    ]


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match="no steering baseline 'linearact'; expected one of mean-act, .* Did you mean 'linear-act'"
    ):
        baseline("linearact")


def test_a_prompt_is_an_arm_without_maps() -> None:
    assert (prompted(INSTRUCTION).maps, prompted(INSTRUCTION).instruction) == ({}, INSTRUCTION)
    with pytest.raises(InputError, match="the instruction is blank"):
        prompted(" \n")
