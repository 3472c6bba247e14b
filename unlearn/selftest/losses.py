"""Unlearning losses: by hand, and their gradients against finite differences.

A central difference of step h has an error of h^2 / 6 times the third derivative, here below 1e-8 in float64 with
h = 1e-4 and values of order 1; 1e-5 is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from audit.selftest.answers import Instrument, Known, near, within
from unlearn.baselines import likelihood, npo, refusal, rmu, simnpo
from unlearn.baselines.task_vector import negate
from unlearn.sequences import own_labels
from unlearn.whp import generic_labels

_STEP = 1e-4


class _Table(nn.Module):
    """After token t it gives row t of a table of log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.4, 0.4]]).log())

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


def ask(work: Path) -> Iterator[Known]:
    """Values, directions and gradients."""
    texts = [own_labels([0, 1, 2]), own_labels([2, 0])]
    found = likelihood.log_probs(_Table(), texts).detach()
    yield near("log-probability of a text", float(found[0]), math.log(0.25 * 0.8), "the table's own", tolerance=1e-6)
    yield near("log-probability of another", float(found[1]), math.log(0.2), "the table's own", tolerance=1e-6)

    log_p = torch.tensor([-3.0, -5.0, -4.0], dtype=torch.float64)
    reference = torch.tensor([-4.0, -4.0, -4.0], dtype=torch.float64)
    n_tokens = torch.tensor([4, 2, 8])
    losses: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[float, float, int], float], int]] = {
        "npo": (
            lambda x: npo.npo_loss(x, reference, beta=0.5),
            lambda x, q, n: 2 / 0.5 * math.log1p(math.exp(0.5 * (x - q))),
            1,
        ),
        "simnpo": (
            lambda x: simnpo.simnpo_loss(x, n_tokens, beta=0.5, gamma=0.25),
            lambda x, q, n: 2 / 0.5 * math.log1p(math.exp(0.5 * x / n + 0.25)),
            1,
        ),
        "refusal": (
            lambda x: refusal.preference_loss(x, reference, beta=0.5),
            lambda x, q, n: 2 / 0.5 * math.log1p(math.exp(-0.5 * (x - q))),
            -1,
        ),
    }
    for name, (loss, formula, rises) in losses.items():
        truth = [
            formula(x, q, n) for x, q, n in zip(log_p.tolist(), reference.tolist(), n_tokens.tolist(), strict=True)
        ]
        worst = float((loss(log_p) - torch.tensor(truth, dtype=torch.float64)).abs().max())
        yield within(f"{name}: largest error of the loss", worst, 0, 1e-9, "its equation")
        slope, error = _gradient(loss, log_p)
        yield within(f"{name}: largest error of the gradient", error, 0, 1e-5, "see the head of the module")
        what = "the likelier the text, the larger the loss" if rises > 0 else "the likelier the refusal, the smaller"
        yield within(f"{name}: least slope, in the right direction", float((rises * slope).min()), 1e-6, math.inf, what)

    hidden = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
    target = torch.tensor([3.0, 0.0], dtype=torch.float64)
    yield near(
        "rmu: distance of two places from a target",
        float(rmu.steering_loss(hidden, target)),
        (4 + 4) / 2 + (9 + 1) / 2,
        "the mean square of two numbers at each place, added up",
    )
    _, error = _gradient(lambda x: rmu.steering_loss(x, target), hidden)
    yield within("rmu: largest error of the gradient", error, 0, 1e-5, "see the head of the module")

    weights = {"w": nn.Parameter(torch.tensor([5.0, 1.0]))}
    negate(weights, {"w": torch.tensor([2.0, 1.0])}, scale=0.5)
    yield near("task vector: a weight that rose by 3", float(weights["w"].detach()[0]), 0.5, "2 - 0.5 x 3")
    baseline, reinforced = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 1.0]]])
    generic = generic_labels.generic_logits(baseline, reinforced, alpha=0.5, subtracted=baseline).flatten().tolist()
    yield near("generic logits: a token that reinforcement raised by 2", generic[0], 0.0, "1 - 0.5 ReLU(3 - 1)")
    yield near("generic logits: a token that it lowered", generic[1], 2.0, "ReLU of a negative number is 0")


def _gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, float]:
    """Gradient of the sum, and its largest distance from the central difference."""
    x = at.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(x).sum(), x)
    numeric = torch.zeros_like(at)
    for place in range(at.numel()):
        step = torch.zeros_like(at)
        step.view(-1)[place] = _STEP
        numeric.view(-1)[place] = (loss(at + step).sum() - loss(at - step).sum()) / (2 * _STEP)
    return slope, float((slope - numeric).abs().max())


INSTRUMENT = Instrument("unlearning losses", ask)
