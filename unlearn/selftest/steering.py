"""Steering: maps of the identity change nothing, a map acts where it stands, and a planted map is recovered.

Where y = a x + c per neuron and the sets are unpaired, the map that brings every sorted x onto sorted y is (a, c)
for a > 0; 32 points and full batches make the fit deterministic, and 400 steps of the published gradient descent bring
it there to rounding (float64); 1e-6 is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audit.lm import hooks
from audit.lm.logprobs import token_log_probs
from audit.selftest.answers import Instrument, Known, near, same, within
from audit.selftest.models import FIRST, random_model, word_list
from unlearn.lineas import fit, loss, maps, prox, steer
from unlearn.lineas.config import FitSettings
from unlearn.lineas.loss import Distances

_SITE = "model.layers.1.mlp.down_proj"


@dataclass(frozen=True)
class _Line:
    """One site, one vector for each text: the network that a fit sees."""

    x: Tensor  # (n, d)

    def __len__(self) -> int:
        return len(self.x)

    @contextmanager
    def opened(
        self, parameters: Mapping[str, tuple[Tensor, Tensor]]
    ) -> Iterator[Callable[[Sequence[int]], dict[str, Tensor]]]:
        def run(which: Sequence[int]) -> dict[str, Tensor]:
            w, b = parameters["site"]
            return {"site": self.x[list(which)] * w + b}

        yield run


def ask(work: Path) -> Iterator[Known]:
    """The model with and without maps; distance, proximal step and fit by hand."""
    lm = random_model(work / "model", word_list(40), seed=15)
    texts = [[FIRST + (i * step) % 40 for i in range(7)] for step in (1, 3)]

    def scores() -> list[Tensor]:
        return [torch.from_numpy(one.log_probs) for one in token_log_probs(lm, texts)]

    def site() -> Tensor:
        with hooks.recorded(lm.model, [_SITE]) as seen, torch.no_grad():
            lm.model(input_ids=torch.tensor(texts), use_cache=False)
        return seen[_SITE][0]

    before, plain = scores(), site()
    width = plain.shape[-1]
    with steer.steered(lm.model, {_SITE: maps.AffineMap.identity(width)}):
        kept = scores()
    yield same(
        "identity maps: log-probabilities",
        all(torch.equal(a, b) for a, b in zip(before, kept, strict=True)),
        True,
        "1 z + 0 is z, to the bit",
    )
    shift = maps.AffineMap(torch.full((width,), 0.5), torch.linspace(-1, 1, width))
    for strength in (1.0, 0.5):
        with steer.steered(lm.model, {_SITE: shift}, strength) as done, torch.no_grad():
            moved = _next_module(lm.model, texts)
            steered_scores = scores()
        truth = plain + strength * (0.5 * plain + torch.linspace(-1, 1, width) - plain)
        yield within(
            f"a map at strength {strength:g}: largest error of what leaves its site",
            float((moved - truth).abs().max()),
            0,
            1e-4,
            "z + strength (w z + b - z)",
        )
        yield same(
            f"strength {strength:g}: calls of its site", bool(done.calls.get(_SITE)), True, "each pass goes through it"
        )
        yield within(
            f"strength {strength:g}: log-probabilities move by",
            float((steered_scores[0] - before[0]).abs().max()),
            1e-3,
            1e3,
            "the model reads what the map wrote",
        )
    with steer.steered(lm.model, {_SITE: shift}, [1.0, 0.0]), torch.no_grad():
        moved = _next_module(lm.model, texts)
    truth = plain.clone()
    truth[0] = 0.5 * plain[0] + torch.linspace(-1, 1, width)
    yield within(
        "strength 1 for one text and 0 for another: largest error of what leaves the site",
        float((moved - truth).abs().max()),
        0,
        1e-4,
        "each text by its own strength",
    )
    with steer.steered(lm.model, {_SITE: shift}, 0.0):
        off = scores()
    yield same(
        "strength 0: log-probabilities",
        all(torch.equal(a, b) for a, b in zip(before, off, strict=True)),
        True,
        "no map acts",
    )
    yield same(
        "afterwards: log-probabilities",
        all(torch.equal(a, b) for a, b in zip(before, scores(), strict=True)),
        True,
        "the hook is gone",
    )
    yield from _learning()


def _learning() -> Iterator[Known]:
    u = torch.tensor([[2.0], [0.0], [1.0]])
    yield near(
        "W2 squared of {0, 1, 2} and {5, 3, 4}",
        float(loss.wasserstein_squared(u, torch.tensor([[5.0], [3.0], [4.0]]))),
        9.0,
        "sorted, each is 3 away",
        tolerance=1e-5,
    )
    shrunk = prox.shrink(torch.tensor([3.0, -0.5]), l1=1.0, group=0.0).tolist()
    yield near("soft threshold of 3 by 1", shrunk[0], 2.0, "|u| - 1", tolerance=1e-6)
    yield near("soft threshold of -0.5 by 1", shrunk[1], 0.0, "it is inside", tolerance=1e-6)
    generator = torch.Generator().manual_seed(16)
    x = torch.randn(32, 6, generator=generator, dtype=torch.float64)
    a, c = (
        torch.tensor([0.6, 1.4, 1.0, 0.8, 1.2, 1.0]).double(),
        torch.tensor([1.0, -1.0, 0.0, 0.5, 2.0, -0.3]).double(),
    )
    y = (x * a + c)[torch.randperm(32, generator=generator)]
    settings = FitSettings(steps=400, batch=None)
    found = fit.fit_maps(_Line(x), Distances.to({"site": y}), {"site": 6}, settings, dtype=torch.float64).maps["site"]
    yield within(
        "planted map: largest error of its scales",
        float((found.w - a).abs().max()),
        0,
        1e-6,
        "see the head of the module",
    )
    yield within(
        "planted map: largest error of its shifts",
        float((found.b - c).abs().max()),
        0,
        1e-6,
        "see the head of the module",
    )
    still = fit.fit_maps(_Line(x), Distances.to({"site": x.flip(0)}), {"site": 6}, settings, dtype=torch.float64).maps[
        "site"
    ]
    yield within(
        "nothing to learn: largest change",
        max(float((still.w - 1).abs().max()), float(still.b.abs().max())),
        0,
        1e-6,
        "source and target are one set, so the gradient is 0",
    )


def _next_module(model: torch.nn.Module, texts: list[list[int]]) -> Tensor:
    """What leaves the site, read after the map acted: the difference that the layer adds to its stream."""
    after: list[Tensor] = []

    def read(_module: object, _inputs: object, output: Tensor) -> None:
        after.append(output)

    handle = hooks.hooked(model.get_submodule(_SITE), read)
    with handle:
        model(input_ids=torch.tensor(texts), use_cache=False)
    return after[0]


INSTRUMENT = Instrument("steering", ask)
