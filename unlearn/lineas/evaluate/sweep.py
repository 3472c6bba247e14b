"""Strengths and arms side by side: rates and perplexities, the frontier, the choice of a strength, and comparisons.

Nothing is chosen by the judge and on the prompts that are reported: a strength is chosen by one judge on validation
prompts (`select_strength`), and `compare` refuses to report it by that judge or on such prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from audit.errors import InputError
from audit.forgetting.measured import difference
from audit.stats.estimate import Estimate
from audit.text.safe import quoted

from .judge_texts import normalised
from .judges import Judge
from .matched import Judged, Matched, matched
from .perplexity import KINDS, Kind, change, perplexity
from .points import Point, unsteered_of
from .rate import Rate, judged, rate_of

Goal = Literal["raise", "lower"]


@dataclass(frozen=True, slots=True)
class SweepRow:
    """An arm at a strength.

    Attributes:
        arm: Name.
        strength: Strength.
        outside_paper: Below 0 or above 1, where the paper has nothing.
        rate: By one judge.
        rate_change: Rate less the unsteered model's, paired; 0.1 is ten points.
        perplexity: Set of texts -> kind -> estimate.
        perplexity_change: Likewise, in percent of the unsteered model's.
        on_frontier: Set of texts -> whether no other row has at most its perplexity (per token) and a better rate;
            an empty continuation counts against its arm here, else one that is mostly silent would look best.
            Instructions take no part: the perplexity of other text is taken without them, so that their cost is not
            measured.
    """

    arm: str
    strength: float
    outside_paper: bool
    rate: Rate
    rate_change: Estimate
    perplexity: dict[str, dict[Kind, Estimate]]
    perplexity_change: dict[str, dict[Kind, Estimate]]
    on_frontier: dict[str, bool]

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def sweep_rows(
    points: Sequence[Point], judge: Judge, goal: Goal, *, rng: int = 0, level: float = 0.95
) -> tuple[SweepRow, ...]:
    """A row for each point.

    Args:
        points: From `measure_points`, the unsteered model among them.
        judge: Who judges.
        goal: Whether the rate is to rise or to fall.
        rng: Seed of the bootstraps.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: There is no unsteered point, or no such goal.
    """
    _check_goal(goal)
    plain = unsteered_of(points)
    plain_shown = judged(judge, plain.continuations)
    found = []
    for point in points:
        shown = judged(judge, point.continuations)
        moved = (
            difference(shown, plain_shown, rng=rng, level=level)
            if len(shown.values) and len(plain_shown.values)
            else Estimate.undefined(method="paired difference of rates", why="all continuations are empty", level=level)
        )
        found.append(
            SweepRow(
                point.arm,
                point.strength,
                point.outside_paper,
                rate_of(shown, judge.name, point.continuations.seeds, rng=rng, level=level),
                moved,
                {
                    name: {kind: perplexity(one, kind, rng=rng, level=level) for kind in KINDS}
                    for name, one in point.losses.items()
                },
                {
                    name: {kind: change(one, plain.losses[name], kind, rng=rng, level=level) for kind in KINDS}
                    for name, one in point.losses.items()
                },
                {},
            )
        )
    for name in plain.losses:
        costs = [
            None if point.instructed else row.perplexity[name]["per token"].value
            for point, row in zip(points, found, strict=True)
        ]
        rates = [_rate_for(goal, row.rate) for row in found]
        best = frontier(list(zip(costs, rates, strict=True)), goal)
        for place, row in enumerate(found):
            row.on_frontier[name] = place in best
    return tuple(found)


def frontier(costs_and_rates: Sequence[tuple[float | None, float | None]], goal: Goal) -> set[int]:
    """Places of the pairs that no other pair beats: at most their cost and a better rate, or less and as good a one.

    Pairs with an undefined side are never on it.
    """
    _check_goal(goal)
    sign = 1.0 if goal == "raise" else -1.0
    pairs = {
        place: (cost, sign * rate)
        for place, (cost, rate) in enumerate(costs_and_rates)
        if cost is not None and rate is not None
    }

    def beaten(cost: float, good: float) -> bool:
        return any(c <= cost and g >= good and (c, g) != (cost, good) for c, g in pairs.values())

    return {place for place, pair in pairs.items() if not beaten(*pair)}


@dataclass(frozen=True, slots=True)
class Selected:
    """A strength, with what chose it.

    Attributes:
        arm: Whose.
        strength: The strength.
        rule: How it was chosen, in words.
        judge: By whom, or None where it was given beforehand.
        prompts: On which prompts; empty where it was given.
    """

    arm: str
    strength: float
    rule: str
    judge: str | None = None
    prompts: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        return {
            "arm": self.arm,
            "strength": self.strength,
            "rule": self.rule,
            "judge": self.judge,
            "n_prompts": len(self.prompts),
        }


def given(arm: str, strength: float = 1.0) -> Selected:
    """A strength that nothing was chosen by: 1, as fitted, say."""
    return Selected(arm, strength, "given beforehand")


def select_strength(
    points: Sequence[Point],
    judge: Judge,
    arm: str,
    goal: Goal,
    *,
    texts: str,
    kind: Kind = "per token",
    most_percent: float = 5.0,
    beyond_paper: bool = False,
) -> Selected:
    """Of the strengths that cost no more than allowed, the one with the best rate; of equal rates the smaller strength.

    An empty continuation counts as one that does not reach the goal.

    Args:
        points: On validation prompts, the unsteered model among them.
        judge: Not the one that will be reported.
        arm: Whose strength.
        goal: Whether the rate is to rise or to fall.
        texts: Set of texts whose perplexity counts.
        kind: Of perplexity.
        most_percent: Most that the perplexity may rise, against unsteered, by the point estimate.
        beyond_paper: Whether strengths above 1 may be chosen.

    Raises:
        InputError: There is no such arm, no unsteered model or no such texts, or no goal.
    """
    _check_goal(goal)
    plain = unsteered_of(points)
    own = [point for point in points if point.arm == arm and (beyond_paper or not point.outside_paper)]
    if not own:
        raise InputError(f"no point of {quoted(arm)}; there are {_names(points)}.")
    before = _losses(plain, texts)
    sign = 1.0 if goal == "raise" else -1.0
    worth: list[tuple[float, float]] = []
    for point in own:
        rate = judged(judge, point.continuations)
        rise = change(_losses(point, texts), before, kind).value
        good = _rate_for(goal, rate_of(rate, judge.name, (), rng=0))
        if good is not None and rise is not None and rise <= most_percent:
            worth.append((sign * good, -point.strength))
    if not worth:
        raise InputError(
            f"{arm} costs more than {most_percent:g}% perplexity on {texts} texts at each of {len(own)} strengths; "
            "allow more, or measure smaller strengths."
        )
    rule = (
        f"{'highest' if goal == 'raise' else 'lowest'} rate by {judge.name} on validation prompts with at most "
        f"{most_percent:g}% more perplexity {kind} on {texts} texts, empty continuations counted against it"
    )
    return Selected(arm, -max(worth)[1] + 0.0, rule, judge.name, own[0].continuations.prompts)


def compare(
    ours: Selected,
    points: Sequence[Point],
    judge: Judge,
    *,
    texts: str,
    kind: Kind = "per token",
    rng: int = 0,
    level: float = 0.95,
    n_draws: int = 2000,
) -> tuple[Matched, ...]:
    """Our arm at its strength against each other arm at matched perplexity.

    Args:
        ours: From `select_strength`, or `given`.
        points: On test prompts; ours at its strength among them.
        judge: Who is reported; not the one that chose.
        texts: Set of texts whose perplexity is matched.
        kind: Of perplexity.
        rng: Seed of the bootstraps.
        level: Confidence level, in (0, 1).
        n_draws: Draws of each.

    Raises:
        InputError: The judge or a prompt took part in choosing the strength, or ours was not measured at it.
    """
    _check_unseen(ours, points, judge)
    own = [point for point in points if point.arm == ours.arm and point.strength == ours.strength]
    if not own:
        at = [f"{point.strength:g}" for point in points if point.arm == ours.arm]
        raise InputError(
            f"{ours.arm} was not measured at strength {ours.strength:g}, only at {', '.join(at) or 'none'}."
        )
    mine = _judged(own[0], judge, texts)
    others: dict[str, list[Judged]] = {}
    for point in points:
        if point.arm not in (ours.arm, unsteered_of(points).arm):
            others.setdefault(point.arm, []).append(_judged(point, judge, texts))
    return tuple(matched(mine, path, kind, rng=rng, level=level, n_draws=n_draws) for path in others.values())


def _rate_for(goal: Goal, rate: Rate) -> float | None:
    """Share of all continuations, where an empty one is what the goal does not want; None where all are empty."""
    if rate.rate.value is None:
        return None
    shown = rate.rate.value * (rate.n - rate.n_empty)
    return (shown + (rate.n_empty if goal == "lower" else 0)) / rate.n


def _check_unseen(ours: Selected, points: Sequence[Point], judge: Judge) -> None:
    if ours.judge == judge.name:
        raise InputError(
            f"the strength of {ours.arm} was chosen by the judge {quoted(judge.name)}, which therefore cannot report "
            "it; report another judge."
        )
    before = set(map(normalised, ours.prompts))
    for point in points:
        seen = [prompt for prompt in point.continuations.prompts if normalised(prompt) in before]
        if seen:
            raise InputError(
                f"the strength of {ours.arm} was chosen on the prompt {quoted(seen[0])} ({len(seen):,} of "
                f"{len(point.continuations.prompts):,} prompts), which therefore cannot report it; take other prompts."
            )


def _judged(point: Point, judge: Judge, texts: str) -> Judged:
    shown = judged(judge, point.continuations)
    return Judged(point.arm, point.strength, point.scaled, shown, _losses(point, texts))


def _losses(point: Point, texts: str) -> Any:
    if texts not in point.losses:
        raise InputError(f"no perplexities of {quoted(texts)} texts; there are {', '.join(point.losses) or 'none'}.")
    return point.losses[texts]


def _names(points: Sequence[Point]) -> str:
    return ", ".join(dict.fromkeys(point.arm for point in points)) or "none"


def _check_goal(goal: Goal) -> None:
    if goal not in get_args(Goal):
        raise InputError(f'the goal is "{goal}"; expected {" or ".join(map(repr, get_args(Goal)))}.')
