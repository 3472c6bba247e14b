"""Arms at strengths: what each writes and what each costs, measured once; judges and statistics come afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from audit.errors import InputError
from audit.lm.generate import Sampling
from audit.lm.load import LanguageModel
from audit.progress import Progress, silent

from ..arms import UNSTEERED, Arm
from ..maps import check_strength
from .perplexity import TextLosses, text_losses
from .rate import DECODING, Continuations, continue_prompts

STRENGTHS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Point:
    """One arm at one strength, unjudged.

    Attributes:
        arm: Its name.
        strength: Of its maps; 1 for an instruction, which has none.
        scaled: Whether the arm has strengths at all: it has maps.
        continuations: What it wrote.
        losses: Name of a set of texts -> their losses.
    """

    arm: str
    strength: float
    scaled: bool
    continuations: Continuations
    losses: Mapping[str, TextLosses]

    @property
    def instructed(self) -> bool:
        """Whether words alone steer, so that no perplexity shows their cost."""
        return not self.scaled and self.strength != 0

    @property
    def outside_paper(self) -> bool:
        """The paper's strengths go from 0 to 1; beyond, rates can fall again and perplexity rises fast."""
        return not 0 <= self.strength <= 1

    def to_record(self) -> dict[str, Any]:
        """Plain JSON, from which `from_record` makes it again."""
        return {
            "arm": self.arm,
            "strength": self.strength,
            "scaled": self.scaled,
            "continuations": self.continuations.to_record(),
            "losses": {name: one.to_record() for name, one in self.losses.items()},
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Point:
        losses = {name: TextLosses.from_record(one) for name, one in record["losses"].items()}
        continuations = Continuations.from_record(record["continuations"])
        return cls(record["arm"], float(record["strength"]), bool(record["scaled"]), continuations, losses)


def measure_points(
    lm: LanguageModel,
    arms: Sequence[Arm],
    prompts: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    *,
    strengths: Sequence[float] | Mapping[str, Sequence[float]] = STRENGTHS,
    sampling: Sampling = DECODING,
    seeds: Sequence[int] = (0,),
    max_tokens: int | None = None,
    known: Sequence[Point] = (),
    on_point: Callable[[Point], None] | None = None,
    progress: Progress = silent,
) -> list[Point]:
    """Every arm at every strength; the unsteered model comes first and is each arm's strength 0.

    Args:
        lm: The model.
        arms: Names differ, and none is "unsteered".
        prompts: To be continued.
        texts: Name -> texts whose perplexity is taken: "neutral", "target".
        strengths: Of all arms, or of each by its name; 0 is added. An arm without maps is measured at 1 alone.
        sampling: How tokens are drawn.
        seeds: Of the samples.
        max_tokens: Tokens of a text that are scored.
        known: Points of these very arms, prompts, texts and settings that need not be measured again.
        on_point: Called with each point when it is done, so that a caller can keep it.
        progress: Called after each point.

    Raises:
        InputError: Names stand twice, an arm has no strengths, or one is not finite.
        As `continue_prompts` and `text_losses`.
    """
    names = [arm.name for arm in arms]
    if len({*names, UNSTEERED.name}) <= len(names):
        raise InputError(f'the arms are called {names}; expected different names, none of them "{UNSTEERED.name}".')
    plan: list[tuple[Arm, float]] = [(UNSTEERED, 0.0)]
    for arm in arms:
        if not arm.maps:
            plan.append((arm, 1.0))
            continue
        own = strengths.get(arm.name, ()) if isinstance(strengths, Mapping) else strengths
        asked = sorted({0.0, *map(check_strength, own)})
        if asked == [0.0]:
            raise InputError(f"{arm.name} has no strength above 0; give one or more.")
        plan += [(arm, strength) for strength in asked]
    ready = {(point.arm, point.strength): point for point in known}
    points: list[Point] = []
    for arm, strength in plan:
        point = ready.get((arm.name, strength))
        if point is None and strength == 0 and points:
            point = _renamed(points[0], arm)
        elif point is None:
            point = Point(
                arm.name,
                strength,
                bool(arm.maps),
                continue_prompts(lm, arm, strength, prompts, sampling=sampling, seeds=seeds),
                {
                    name: text_losses(lm, arm, strength, listed, name, max_tokens=max_tokens)
                    for name, listed in texts.items()
                },
            )
            if on_point is not None:
                on_point(point)
        points.append(point)
        progress("sweep: arms at strengths", len(points), len(plan))
    return points


def _renamed(plain: Point, arm: Arm) -> Point:
    losses = {name: replace(one, arm=arm.name) for name, one in plain.losses.items()}
    return Point(arm.name, 0.0, bool(arm.maps), replace(plain.continuations, arm=arm.name), losses)


def unsteered_of(points: Sequence[Point]) -> Point:
    """The point of the model as it is.

    Raises:
        InputError: There is none.
    """
    for point in points:
        if point.arm == UNSTEERED.name:
            return point
    raise InputError("the points hold no unsteered model; measure it with the arms.")
