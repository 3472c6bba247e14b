"""The permutation test of membership that redraws who is a member inside each stratum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from ..errors import InputError
from .checks import Alternative, Floats, Labels, Seed, choice, count, finite_vector, generator, label_codes
from .estimate import PValue

TIE = 1e-9  # standardised statistics closer than this count as tied, against the claim
CELLS_AT_ONCE = 2_000_000  # texts shuffled side by side: 8 MB


def stratified_permutation(
    scores: ArrayLike,
    is_member: ArrayLike,
    strata: Labels | None = None,
    *,
    statistic: Literal["mean", "rank"] = "mean",
    alternative: Alternative = "greater",
    n_draws: int = 9999,
    rng: Seed,
) -> PValue:
    """Do members score higher than the controls of their own stratum?

    Exact when membership was drawn at random inside each stratum (a fixed number of members in each), recorded
    before publication, and the model never saw the controls: under the null every redraw is as likely as the one
    made (Fisher 1935; Ernst 2004). Members that were drawn otherwise have no p-value.

    T = sum over members of z, where z is the score standardised inside its stratum (mean 0, standard deviation 1
    over members and controls together). This equals the sum over strata of n1 n0/(n1 + n0) times the difference
    of mean z, so strata of different level, spread or share of members do not distort it. "rank" puts the
    rank inside the stratum (ties averaged) in place of the score (van Elteren 1960), against outliers.

    p = (1 + #{T_b >= T_obs}) / (n_draws + 1) over random redraws; when there are at most ``n_draws`` assignments,
    all are enumerated and p is the share with T >= T_obs, the observed one included.

    Worked: one stratum, scores (1, 2, 3, 4), members the last two: 1 of C(4, 2) = 6 sums is as large, p = 1/6.

    Args:
        scores: Shape (n,), higher = more suspicious.
        is_member: True (or 1) for members, shape (n,).
        strata: Label of the stratum in which each was drawn, n of them; None is a single stratum. Strata without
            a member or without a control are constant under redraws and left out; ``method`` counts them.
        statistic: As above.
        alternative: "greater" for membership; "two-sided" compares |T|.
        n_draws: Number of redraws, at least 19.
        rng: Generator or seed; not used when all assignments are enumerated.

    Returns:
        ``n`` is the number of redraws or of assignments; ``attainable`` is 1/(n_draws + 1), or the smallest
        share that an assignment of these very scores could have had.

    Raises:
        InputError: Scores are not a finite vector, membership or labels do not fit them, an option is out of
            range, or no stratum has both members and controls.
    """
    result = stratified_permutation_max(
        {"score": scores}, is_member, strata, statistic=statistic, alternative=alternative, n_draws=n_draws, rng=rng
    )
    return result["score"]


def stratified_permutation_max(
    scores: Mapping[str, ArrayLike],
    is_member: ArrayLike,
    strata: Labels | None = None,
    *,
    statistic: Literal["mean", "rank"] = "mean",
    alternative: Alternative = "greater",
    n_draws: int = 9999,
    rng: Seed,
) -> dict[str, PValue]:
    """`stratified_permutation` for several scores of the same texts, adjusted for having looked at all of them.

    Each T is divided by its permutation standard deviation, known in closed form: its square is the sum over
    strata of n1 n0/(n - 1) where scores vary. The adjusted p-value of a method is the share of redraws in which
    the *largest* standardised statistic of any method reaches its own (Westfall & Young 1993, single step). The
    chance that any method with a true null gets p <= alpha is at most alpha, however the methods depend on each
    other and whatever the others do: the maximum over all of them is never below that over the true nulls.

    Args:
        scores: Method -> scores, each of shape (n,), of the same texts in the same order.
        is_member, strata, statistic, alternative, n_draws, rng: As `stratified_permutation`.

    Returns:
        Method -> adjusted p-value, in the order given; the smallest also tests that no method shows membership.

    Raises:
        InputError: As `stratified_permutation`; no scores, or not one score for each text.
    """
    choice(statistic, "statistic", ("mean", "rank"))
    choice(alternative, "alternative", ("greater", "less", "two-sided"))
    count(n_draws, "n_draws", least=19)
    member = _membership(is_member)
    table = _score_table(scores, len(member))
    blocks, left_out = _blocks(table, member, strata, statistic)
    observed = np.array([sum(float(b.z[j, b.member].sum()) for b in blocks) for j in range(len(table))])
    spread = np.sqrt([sum(b.variance[j] for b in blocks) for j in range(len(table))])
    exact = math.prod(math.comb(b.size, b.n_members) for b in blocks) <= n_draws
    null = _enumerate(blocks) if exact else _redraw(blocks, n_draws, generator(rng))
    scale = np.where(spread > 0, spread, 1.0)
    observed, null = observed / scale, null / scale[:, None]
    if alternative != "greater":
        turn = np.negative if alternative == "less" else np.abs
        observed, null = turn(observed), turn(null)
    largest = null.max(axis=0)
    family = f" of {len(table)}, maximum over the family" if len(table) > 1 else ""
    words = f"all {null.shape[1]:,} assignments" if exact else f"{n_draws:,} redraws"
    skipped = f", {left_out} strata without both arms left out" if left_out else ""
    name = f"stratified permutation of {statistic}s{family}, {len(blocks)} strata{skipped}, {words}, {alternative}"
    added = 0 if exact else 1
    results = {}
    for j, method in enumerate(scores):
        reached = int(np.sum(largest >= observed[j] - TIE)) + added
        best = int(np.sum(largest >= null[j].max() - TIE)) if exact else 1
        total = null.shape[1] + added
        results[method] = PValue(reached / total, best / total, null.shape[1], name)
    return results


@dataclass(frozen=True, slots=True)
class _Block:
    """One stratum with both arms: standardised scores z (k, m), membership (m,), variance of each T (k,)."""

    z: Floats
    member: NDArray[np.bool_]
    variance: Floats

    @property
    def size(self) -> int:
        return len(self.member)

    @property
    def n_members(self) -> int:
        return int(self.member.sum())


def _membership(is_member: ArrayLike) -> NDArray[np.bool_]:
    member = finite_vector(is_member, "is_member")
    bad = np.flatnonzero((member != 0) & (member != 1))
    if len(bad):
        raise InputError(f"is_member[{bad[0]}] is {member[bad[0]]}; expected True or False (1 or 0) for each text.")
    return member.astype(np.bool_)


def _score_table(scores: Mapping[str, ArrayLike], n: int) -> Floats:
    if not scores:
        raise InputError("scores is empty; expected at least one method with its scores.")
    rows = []
    for method, values in scores.items():
        row = finite_vector(values, f"scores of {method!r}")
        if len(row) != n:
            raise InputError(
                f"scores of {method!r} are {len(row)}, is_member has {n} entries; expected one for each text."
            )
        rows.append(row)
    return np.stack(rows)


def _blocks(
    table: Floats, member: NDArray[np.bool_], strata: Labels | None, statistic: str
) -> tuple[list[_Block], int]:
    """The strata that have both arms, and how many have not."""
    n = len(member)
    codes, names = label_codes(strata if strata is not None else [0] * n, "strata", n=n)
    blocks = []
    for code in range(len(names)):
        inside = codes == code
        arm = member[inside]
        if arm.all() or not arm.any():
            continue
        values = table[:, inside]
        if statistic == "rank":
            values = np.asarray(rankdata(values, axis=1))
        varies = np.ptp(values, axis=1) > 0
        z = values - values.mean(axis=1, keepdims=True)
        z = np.where(varies[:, None], z / np.where(varies, values.std(axis=1), 1.0)[:, None], 0.0)
        n1, m = int(arm.sum()), len(arm)
        blocks.append(_Block(z, arm, varies * (n1 * (m - n1) / (m - 1))))
    if not blocks:
        raise InputError(
            f"none of {len(names)} strata has both members and controls ({int(member.sum())} members, "
            f"{n - int(member.sum())} controls in all); expected a stratum in which membership can be redrawn."
        )
    return blocks, len(names) - len(blocks)


def _enumerate(blocks: list[_Block]) -> Floats:
    """T of every assignment, shape (k, number of assignments)."""
    total = np.zeros((len(blocks[0].z), 1))
    for block in blocks:
        chosen = np.array(list(combinations(range(block.size), block.n_members)))
        sums = block.z[:, chosen].sum(axis=2)  # (k, assignments of this stratum)
        total = (total[:, :, None] + sums[:, None, :]).reshape(len(total), -1)
    return total


def _redraw(blocks: list[_Block], n_draws: int, rng: np.random.Generator) -> Floats:
    """T of random assignments, shape (k, n_draws)."""
    total = np.zeros((len(blocks[0].z), n_draws))
    for block in blocks:
        at_once = max(1, CELLS_AT_ONCE // block.size)
        for start in range(0, n_draws, at_once):
            stop = min(start + at_once, n_draws)
            total[:, start:stop] += _subset_sums(block, stop - start, rng)
    return total


def _subset_sums(block: _Block, n_draws: int, rng: np.random.Generator) -> Floats:
    """Sum of z over a uniformly random set of members, shape (k, n_draws).

    The first steps of a Fisher-Yates shuffle (Durstenfeld 1964), for all draws side by side: step i takes one of the
    texts i ... m - 1 that are left. The smaller arm is drawn; where that is the controls, the members have the rest.
    """
    m, few = block.size, min(block.n_members, block.size - block.n_members)
    deck = np.tile(np.arange(m, dtype=np.int32)[:, None], (1, n_draws))  # column b: the texts of draw b, in order
    flat, draw = deck.reshape(-1), np.arange(n_draws, dtype=np.int32)
    sums = np.zeros((len(block.z), n_draws))
    for i in range(few):
        place = rng.integers(i, m, size=n_draws, dtype=np.int32) * n_draws + draw
        taken = flat.take(place)
        flat[place] = deck[i]
        sums += block.z.take(taken, axis=1)
    return sums if few == block.n_members else block.z.sum(axis=1, keepdims=True) - sums
