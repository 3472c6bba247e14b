"""A fit for each weight of the sparse group lasso, from the weakest to the strongest, each begun where the last ended.

The choice among them, ours (the paper shows the whole path): the sparsest whose held-out loss has gone back by no more
than a tenth of the way from the best of the path to the untouched model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.progress import Progress, silent

from .maps import Maps
from .run import Learnt, Plan, learn

TOLERANCE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """A fit of the path.

    Attributes:
        gamma: Its weight.
        learnt: Its maps.
        held_out: Loss of the held-out sentences with these maps.
    """

    gamma: float
    learnt: Learnt
    held_out: float


@dataclass(frozen=True, slots=True)
class GammaPath:
    """All fits, from the weakest weight to the strongest.

    Attributes:
        steps: The fits.
        untouched: Loss of the held-out sentences without maps.
        chosen: Place in ``steps``.
    """

    steps: tuple[Step, ...]
    untouched: float
    chosen: int


def gamma_path(
    lm: LanguageModel,
    source: Sequence[str],
    target: Sequence[str],
    plan: Plan,
    gammas: Sequence[float],
    *,
    work: Path | None = None,
    progress: Progress = silent,
) -> GammaPath:
    """Fit a path and choose from it.

    Args:
        lm: The model.
        source: What is unwanted.
        target: What is wanted.
        plan: As for `learn`; ``held_out`` must be above 0. Its own gamma is not used.
        gammas: Two or more different weights; taken in rising order.
        work: Folder of the states.
        progress: Called after each step of each fit.

    Raises:
        InputError: Too few gammas, or no held-out sentences to choose by.
        As `learn`.
    """
    rising = sorted(set(gammas))
    if len(rising) < 2:
        raise InputError(f"there is one gamma, {rising}; a path needs two or more different ones.")
    if not plan.held_out:
        raise InputError("a path of gammas is chosen from by held-out sentences; give held_out, such as 0.25.")
    steps: list[Step] = []
    start: Maps | None = None
    untouched = 0.0
    for number, gamma in enumerate(rising):

        def report(stage: str, done: int, total: int, number: int = number) -> None:
            progress(f"{stage}, gamma {number + 1} of {len(rising)}", done, total)

        learnt = learn(
            lm,
            source,
            target,
            replace(plan, settings=replace(plan.settings, gamma=gamma)),
            start=start,
            work=None if work is None else work / f"gamma-{number}",
            progress=report,
        )
        if number == 0:
            assert learnt.fitted.held_out_before is not None  # held_out is above 0
            untouched = learnt.fitted.held_out_before
        steps.append(Step(gamma, learnt, min(value for _, value in learnt.fitted.held_out)))
        start = learnt.maps
    return GammaPath(tuple(steps), untouched, choose([one.held_out for one in steps], untouched))


def choose(held_out: Sequence[float], untouched: float, *, tolerance: float = TOLERANCE) -> int:
    """The last of the path, from weak to strong, whose loss is at most ``best + tolerance (untouched - best)``.

    Where no fit is better than the untouched model, the best.
    """
    best = min(held_out)
    if best >= untouched:
        return list(held_out).index(best)
    limit = best + tolerance * (untouched - best)
    return max(place for place, value in enumerate(held_out) if value <= limit)
