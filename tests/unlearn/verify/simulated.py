"""Audits of models whose truth is drawn: values of subject, gold and a remedied model on the same rows.

An item is easy or hard for every model alike, each training has noise of its own in each cluster, and each item noise
on top. The remedied model stands at ``direct`` of the gap for each direct measure; an attack lifts it to ``attacked``;
coarser measures, which can only warn, stand at ``coarse`` and have twice the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from audit.forgetting.measured import Measured
from unlearn.verify.residual import TOLERANCE, Ingredient, Kind, recovered, residual
from unlearn.verify.verdict import ATTACKS, Verdict, decide

KINDS: tuple[Kind, ...] = ("prompts", "prompts", "quantisation", "relearning")


@dataclass(frozen=True)
class World:
    """How large an audit is, and how noisy its models are, in units of the gap."""

    n_clusters: int = 20
    n_items: int = 8
    difficulty: float = 0.3
    training: float = 0.1
    noise: float = 0.2


def audit(
    rng: np.random.Generator,
    world: World,
    *,
    direct: Sequence[float] = (0.0, 0.0, 0.0),
    attacked: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    coarse: Sequence[float] = (),
    gap: float = 1.0,
) -> Verdict:
    """One audit: the verdict on a model at these residuals."""
    clusters = np.repeat(np.arange(world.n_clusters), world.n_items)
    ids = tuple(f"row{place}" for place in range(len(clusters)))
    homes = tuple(f"person{home}" for home in clusters)

    def measured(level: float, hard: np.ndarray, times: float = 1.0) -> Measured:
        training = rng.normal(0, times * world.training, world.n_clusters)[clusters]
        values = level * gap + hard + training + rng.normal(0, times * world.noise, len(clusters))
        return Measured("probability", ids, homes, values)

    ingredients = []
    for place, level in enumerate((*direct, *coarse)):
        hard = rng.normal(0, world.difficulty, len(clusters))
        times, clear_at = (1.0, TOLERANCE) if place < len(direct) else (2.0, None)
        subject, remedied, gold = (measured(one, hard, times) for one in (1.0, level, 0.0))
        make = partial(_residual, subject, remedied, gold)
        ingredients.append(Ingredient(f"direct{place}", f"measure {place}", "direct", make, clear_at=clear_at))
    hard = rng.normal(0, world.difficulty, len(clusters))
    subject, gold = measured(1.0, hard), measured(0.0, hard)
    for place, (kind, level) in enumerate(zip(KINDS, attacked, strict=False)):
        under = measured(level, hard), measured(0.0, hard)
        make = partial(_recovered, subject, gold, *under)
        ingredients.append(Ingredient(f"attack{place}", f"attack {place}", kind, make))
    return decide(ingredients, own_weights=True, required=[kind for kind in ATTACKS if kind in KINDS[: len(attacked)]])


def _residual(subject: Measured, remedied: Measured, gold: Measured, level: float):  # type: ignore[no-untyped-def]
    return residual(subject, remedied, gold, rng=0, level=level)


def _recovered(subject: Measured, gold: Measured, one: Measured, other: Measured, level: float):  # type: ignore[no-untyped-def]
    return recovered(subject, gold, one, other, rng=0, level=level)
