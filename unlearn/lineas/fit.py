r"""LinEAS: all maps of a network learnt jointly, end to end (arXiv:2503.10679).

    minimise over w, b    C(w, b) + gamma R(w, b),    C = sum over sites of W2^2(pooled source with all maps, target)

A step, in the paper's order: forward, loss, backward, step of the optimiser, prox with that step's rate, next rate.

A large batch is split without changing its loss: the distance of a part is not a part of the distance, so the parts are
first read without gradient, the loss and its gradient dC/dxi are taken once over the whole batch, and each part is run
again with its share of dC/dxi as the cotangent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.errors import InputError
from audit.progress import Progress, silent

from ..checkpoints import TrainingState
from .config import FitSettings
from .loss import Distances, check_sizes
from .maps import AffineMap
from .network import Network, Pooled, as_maps
from .prox import proximal_step

_SAVE_EVERY = 50  # steps between states on disk
_READ_AT_ONCE = 64  # texts, where a loss is only read


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Sentences that fit nothing: their loss says when to stop.

    Attributes:
        n: How many of the network's source sentences, the last ones.
        distances: Their targets, held out as well.
    """

    n: int
    distances: Distances


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit gives.

    Attributes:
        maps: Site -> map.
        losses: C of each step's batch, before that step.
        before: Delta_l of all source sentences by site, untouched.
        after: The same with the maps.
        held_out: (step, C of the held-out sentences) of each look.
        held_out_before: C of the held-out sentences before the first step; None where there are none.
        step: Steps after which the maps were taken.
    """

    maps: dict[str, AffineMap]
    losses: tuple[float, ...]
    before: dict[str, float]
    after: dict[str, float]
    held_out: tuple[tuple[int, float], ...]
    step: int
    held_out_before: float | None = None


def fit_maps(
    network: Network,
    distances: Distances,
    widths: Mapping[str, int],
    settings: FitSettings,
    *,
    start: Mapping[str, AffineMap] | None = None,
    held_out: HeldOut | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    work: Path | None = None,
    key: str = "",
    progress: Progress = silent,
) -> Fitted:
    """Learn the maps.

    Args:
        network: Source sentences through the frozen network, those held out at the end.
        distances: Target activations of the loss sites.
        widths: Map site -> neurons; in the order in which the network meets them.
        settings: How.
        start: Maps to start from, on a path of gammas; without them w = 1, b = 0.
        held_out: For early stopping.
        device: Where the parameters are.
        dtype: Of the parameters.
        work: Folder of the state, from which a killed fit goes on; None keeps none.
        key: Names all that determines the fit.
        progress: Called after each step.

    Raises:
        InputError: The batch is too small or too large, ``patience`` without held-out sentences, or the loss is no
            longer finite.
        As the network and `TrainingState`.
    """
    n = len(network) - (0 if held_out is None else held_out.n)
    batch = min(n, settings.batch or n)
    check_sizes(n, batch, forced=settings.forced)
    if settings.patience is not None and held_out is None:
        raise InputError("patience needs held-out sentences; give some, or leave patience out.")
    parameters = _parameters(widths, start, device, dtype)
    names = {f"{kind}/{site}": one for site, pair in parameters.items() for kind, one in zip("wb", pair, strict=True)}
    optimizer = _optimizer(settings, list(names.values()))
    trained = {name: one for name, one in names.items() if isinstance(one, nn.Parameter)}
    state = TrainingState(work, key, trained=trained, optimizer=optimizer, writes=True)
    first = state.load()
    record = state.record
    with network.opened(parameters) as pooled:
        if first == 0:
            record["before"] = _read(pooled, range(n), distances)
            record["held_out_before"] = None if held_out is None else _loss(pooled, n, held_out)
        for step in range(first, settings.steps):
            which = rows_of(step, n, batch, seed=settings.seed)
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_and_gradient(pooled, which, distances, settings.microbatch)
            if not math.isfinite(loss):
                raise _diverged("loss", step, settings)
            optimizer.step()
            scales = [w for w, _ in parameters.values()]
            shifts = [b for _, b in parameters.values()]
            proximal_step(
                scales, shifts, step=settings.rate(step), gamma=settings.gamma, l1=settings.l1, group=settings.group
            )
            if settings.floor is not None:
                with torch.no_grad():
                    for w in scales:
                        w.clamp_(min=settings.floor)
            record["losses"][str(step)] = loss
            done = step + 1
            progress("fit: steps", done, settings.steps)
            if held_out is not None and (done % settings.check_every == 0 or done == settings.steps):
                criterion = _loss(pooled, n, held_out)
                if not math.isfinite(criterion):
                    raise _diverged("held-out loss", step, settings)
                record["evaluations"].append([done, {"criterion": criterion}])
                state.keep_if_best(done)
                if settings.patience is not None and _stalled(record["evaluations"], settings.patience):
                    break
            if done % _SAVE_EVERY == 0:
                state.save(done)
        taken = state.restore_best() if held_out is not None else None
        after = _read(pooled, range(n), distances)
    if len(record["losses"]) < settings.steps:  # stopped early
        progress("fit: steps", settings.steps, settings.steps)
    return Fitted(
        as_maps(parameters),
        tuple(record["losses"][str(step)] for step in range(len(record["losses"]))),
        dict(record["before"]),
        after,
        tuple((int(step), float(found["criterion"])) for step, found in record["evaluations"]),
        len(record["losses"]) if taken is None else taken,
        record["held_out_before"],
    )


def loss_and_gradient(
    pooled: Callable[[Sequence[int]], Pooled], which: Sequence[int], distances: Distances, microbatch: int | None
) -> float:
    """C of the texts ``which``; its gradient is added to the parameters'."""
    if microbatch is None or microbatch >= len(which):
        loss = distances.total(distances.joined(pooled(which)))
        if bool(torch.isfinite(loss)):
            torch.autograd.backward(loss)
        return float(loss.detach())
    parts = [which[start : start + microbatch] for start in range(0, len(which), microbatch)]
    with torch.no_grad():
        whole = torch.cat([distances.joined(pooled(part)) for part in parts])
    whole.requires_grad_(True)
    loss = distances.total(whole)
    (cotangent,) = torch.autograd.grad(loss, whole)
    if bool(torch.isfinite(loss)):
        for part, share in zip(parts, torch.split(cotangent, microbatch), strict=True):
            torch.autograd.backward(distances.joined(pooled(part)), share)
    return float(loss.detach())


def rows_of(step: int, n: int, batch: int, *, seed: int) -> list[int]:
    """Source sentences of a step: shuffled anew in each round, endlessly; a batch may end one round and begin the next.

    A function of the step alone, so that a fit that was killed goes on with the same batches.
    """
    if batch == n:
        return list(range(n))
    places: list[int] = []
    for number in range(step * batch, (step + 1) * batch):
        turn, place = divmod(number, n)
        places.append(int(np.random.default_rng([seed, turn]).permutation(n)[place]))
    return places


def sum_of(by_site: Mapping[str, float], distances: Distances) -> float:
    """C from each site's Delta_l."""
    total = math.fsum(by_site.values())
    return total if distances.over_sites == "sum" else total / len(by_site)


@torch.no_grad()
def _read(pooled: Callable[[Sequence[int]], Pooled], which: Sequence[int], distances: Distances) -> dict[str, float]:
    """Delta_l of texts by site."""
    groups = [which[start : start + _READ_AT_ONCE] for start in range(0, len(which), _READ_AT_ONCE)]
    return distances.by_site(torch.cat([distances.joined(pooled(group)) for group in groups]))


def _loss(pooled: Callable[[Sequence[int]], Pooled], n: int, held_out: HeldOut) -> float:
    """C of the held-out sentences, which follow the ``n`` that are fitted on."""
    return sum_of(_read(pooled, range(n, n + held_out.n), held_out.distances), held_out.distances)


def _diverged(what: str, step: int, settings: FitSettings) -> InputError:
    return InputError(
        f"the {what} is no longer finite at step {step + 1:,} (lr {settings.rate(step):g}); the rate is too high for "
        f"this model. Give a lower --lr than {settings.lr:g}, or --optimizer adam."
    )


def _stalled(evaluations: Sequence[Any], patience: int) -> bool:
    values = [found["criterion"] for _, found in evaluations]
    return len(values) - 1 - int(np.argmin(values)) >= patience


def _parameters(
    widths: Mapping[str, int], start: Mapping[str, AffineMap] | None, device: torch.device | None, dtype: torch.dtype
) -> dict[str, tuple[Tensor, Tensor]]:
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for site, n in widths.items():
        one = start[site] if start is not None and site in start else AffineMap.identity(n)
        found[site] = tuple(  # type: ignore[assignment]
            nn.Parameter(part.detach().to(device=device, dtype=dtype, copy=True)) for part in (one.w, one.b)
        )
    return found


def _optimizer(settings: FitSettings, parameters: list[Tensor]) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=settings.lr)
    return torch.optim.Adam(parameters, lr=settings.lr, betas=(0.9, 0.9))
