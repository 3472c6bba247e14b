"""What a run's numbers say is wrong with its result: each bound from both sides."""

from __future__ import annotations

import pytest

from audit.stats.estimate import Estimate
from unlearn.alarms import alarms
from unlearn.findings import Change
from unlearn.watch import FORGET, RETAIN

VOCABULARY = 1_000  # ln: 6.908


def moved(before: float, after: float | None, half: float | None = 0.05, n: int = 40) -> Change:
    """A change whose interval reaches so far to both sides; None: no interval."""

    def estimate(value: float | None) -> Estimate:
        low, high = (None, None) if value is None or half is None else (value - half, value + half)
        why = "not finite" if value is None else None if half is not None else "one passage"
        return Estimate(value, low, high, 0.95, n, "mean", why)

    return Change("loss", estimate(before), estimate(after), estimate(None if after is None else after - before))


def told(forget: Change, held_out: Change) -> str:
    return " ".join(alarms({FORGET: forget, RETAIN: held_out}, {}, n_vocabulary=VOCABULARY))


def test_a_model_worse_than_guessing_is_called_broken() -> None:
    broken = told(moved(1.67, 33.2), moved(1.77, 7.6))
    assert broken.count("this model is broken") == 2
    assert "1.67 before, 33.2 now, worse than guessing among 1,000 tokens (6.91)" in broken
    assert "broken" in told(moved(1.67, None), moved(2.0, 2.0))
    assert "broken" not in told(moved(1.67, 6.9), moved(2.0, 2.0))
    assert "so it was before" in told(moved(7.0, 7.5), moved(2.0, 2.0))


@pytest.mark.parametrize(
    ("held_out", "damaged"),
    [
        (moved(2.0, 2.3), True),
        (moved(2.0, 2.15), False),  # 7.5%
        (moved(2.0, 2.3, half=0.4), False),  # the interval holds 0
        (moved(2.0, 2.3, half=None), False),
        (moved(2.0, 1.5), False),
    ],
)
def test_damage_needs_an_interval_above_0_and_more_than_a_tenth(held_out: Change, damaged: bool) -> None:
    said = told(moved(1.0, 3.0), held_out)
    assert ("lost other text too" in said) is damaged
    assert ("(15%, n 40)" in said) is damaged


def test_nothing_changed_is_said_where_every_measure_stayed() -> None:
    nothing = "nothing measurable changed; a larger rate or more steps are needed"
    assert nothing in told(moved(2.0, 2.01, half=0.1), moved(2.0, 2.001, half=None))
    assert nothing not in told(moved(2.0, 2.5), moved(2.0, 2.0))
    assert nothing not in told(moved(2.0, None), moved(2.0, 2.0))


def test_damage_that_was_not_measured_is_said_and_what_to_give() -> None:
    (note,) = alarms({FORGET: moved(1.0, 2.0)}, {RETAIN: "no text"}, n_vocabulary=None)
    assert note.startswith("Note: damage to other text was not measured (no text). Give --held-out")
    assert "2 -> 4" in told(moved(1.0, 2.0), moved(2.0, 4.0, half=None, n=1))
    assert "Give --held-out" in told(moved(1.0, 2.0), moved(2.0, 4.0, half=None, n=1))
    assert alarms({FORGET: moved(1.0, 2.0), RETAIN: moved(2.0, 2.0)}, {}, n_vocabulary=VOCABULARY) == ()
