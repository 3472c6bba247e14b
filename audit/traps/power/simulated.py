"""Power by simulation, with the very test that the audit makes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...progress import Progress, silent
from ...stats.checks import Floats, Seed, count, finite_vector, generator, open_unit
from ...stats.estimate import Estimate
from ...stats.proportion import wilson
from ...stats.stratified import stratified_permutation
from .design import Design
from .model import effect_size

Scores = Callable[[np.random.Generator, int, int], tuple[Floats, Floats]]
"""Draws the scores of so many members and so many decoys of one stratum, as independent as the traps are."""


def binormal(auc: float) -> Scores:
    """Decoys N(0, 1), members N(delta, 1)."""
    delta = effect_size(auc)
    return lambda rng, members, decoys: (rng.normal(delta, 1, members), rng.normal(0, 1, decoys))


def empirical(members: Floats, decoys: Floats) -> Scores:
    """Standardised scores of a real run, drawn with replacement; shapes (n1,) and (n0,)."""
    members, decoys = finite_vector(members, "members"), finite_vector(decoys, "decoys")
    return lambda rng, n1, n0: (rng.choice(members, n1), rng.choice(decoys, n0))


def simulated_power(
    scores: Scores,
    design: Design,
    *,
    alpha: float = 0.05,
    arms: int = 1,
    n_audits: int = 400,
    n_draws: int = 999,
    rng: Seed,
    progress: Progress = silent,
) -> Estimate:
    """Share of simulated audits in which the real arm test is significant, with its Wilson interval.

    Args:
        scores: `binormal` or `empirical`.
        design: Members and decoys of the arm.
        alpha, arms: As `arm_power`.
        n_audits: Simulated audits, at least 1.
        n_draws: Re-dealings in each, at least 19; raised to 20 arms / alpha where that is more.
        rng: Generator or seed.
        progress: Called as the work goes on.
    """
    level = open_unit(alpha, "alpha") / count(arms, "arms", least=1)
    n_draws = max(count(n_draws, "n_draws", least=19), math.ceil(20 / level))
    rng = generator(rng)
    member = np.concatenate(
        [np.repeat([True, False], pair) for pair in zip(design.members, design.decoys, strict=True)]
    )
    strata = np.repeat(np.arange(len(design.members)), np.add(design.members, design.decoys))
    found = 0
    for done in range(count(n_audits, "n_audits", least=1)):
        parts = [scores(rng, n1, n0) for n1, n0 in zip(design.members, design.decoys, strict=True)]
        values = np.concatenate([part for pair in parts for part in pair])
        found += stratified_permutation(values, member, strata, n_draws=n_draws, rng=rng).value <= level
        progress("simulated audits", done + 1, n_audits)
    share = wilson(int(found), n_audits)
    return Estimate(
        share.value,
        share.low,
        share.high,
        share.level,
        n_audits,
        f"power of the stratified permutation test at {level:.4g}, simulated, {n_draws:,} re-dealings, Wilson interval",
    )
