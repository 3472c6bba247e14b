"""Each rule of the verdict decides where it should, and the error rates are those that are promised."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from audit.errors import InputError
from audit.stats.estimate import Estimate
from tests.unlearn.verify.simulated import World, audit
from unlearn.verify.residual import TOLERANCE, Ingredient, Kind
from unlearn.verify.verdict import Verdict, decide, decide_without_gold


def ingredient(key: str, kind: Kind, low: float, high: float, *, n: int = 30, clears: bool = True) -> Ingredient:
    """A residual whose interval is the same at every level."""
    made = Estimate((low + high) / 2, low, high, 0.95, n, "told")
    return Ingredient(key, key, kind, lambda level: made, clear_at=TOLERANCE if clears else None)


def widening(key: str, low: float, high: float) -> Ingredient:
    """One that can only warn, and whose corrected interval is twice as wide."""

    def at(level: float) -> Estimate:
        more = 0.0 if level == 0.95 else (high - low) / 2
        return Estimate((low + high) / 2, low - more, high + more, level, 30, "told")

    return Ingredient(key, key, "direct", at, clear_at=None)


def undefined(key: str, kind: Kind) -> Ingredient:
    return Ingredient(key, key, kind, lambda level: Estimate.undefined(method="told", why="no gap"))


def told(direct: tuple[float, float] = (-0.1, 0.1), *more: Ingredient, **options: Any) -> Verdict:
    attacks = [ingredient(kind, kind, -0.1, 0.1) for kind in ("prompts", "quantisation", "relearning")]
    return decide(
        [ingredient("direct", "direct", *direct), *attacks, *more],
        own_weights=options.pop("own_weights", True),
        **options,
    )


@pytest.mark.parametrize(
    ("verdict", "word", "reason"),
    [
        (told(), "removed", "1 direct measure the model is within +-0.2"),
        (told((0.9, 1.1)), "not removed", "Asked as before"),
        (told((0.1, 0.4)), "undecided", "More rows narrow this"),
        (told((-0.9, -0.7)), "suppressed", "below what never knew"),
        (told((-0.3, 0.1)), "undecided", "could be outside"),
        (told(own_weights=False), "suppressed", "weights are the subject's"),
        (told((0.9, 1.1), own_weights=False), "not removed", "Asked as before"),
        (told((-0.1, 0.1), ingredient("soft", "soft prompt", 0.4, 0.6)), "suppressed", "comes back: soft 0.50"),
        (told((-0.1, 0.1), ingredient("soft", "soft prompt", 0.1, 0.3)), "undecided", "could be outside"),
        (told((-0.1, 0.1), ingredient("soft", "soft prompt", -2.0, -1.0)), "removed", "under 3 attacks"),
        (told((-0.1, 0.1), undefined("soft", "soft prompt")), "removed", "Said nothing: soft."),
        # a guard that leaks in other words is not even suppressed, and a model that does is
        (told((-0.1, 0.1), ingredient("few", "prompts", 0.4, 0.6)), "suppressed", "comes back: few"),
        (
            told((-0.1, 0.1), ingredient("few", "prompts", 0.4, 0.6), own_weights=False),
            "not removed",
            "gold lacks: few",
        ),
        # what can only warn: too few clusters change nothing, below gold alone clears nothing
        (told((-0.1, 0.1), ingredient("x", "direct", 0.5, 0.9, n=5, clears=False)), "removed", "1 direct measure"),
        (
            decide([ingredient("x", "direct", -0.9, -0.7, clears=False)], own_weights=True),
            "undecided",
            "that can clear",
        ),
        (told((-0.1, 0.1), ingredient("x", "direct", 0.5, 0.9, clears=False)), "not removed", "Asked as before, .*x"),
        (told((-0.1, 0.1), widening("x", 0.25, 0.65)), "undecided", "coarser measures, .* by itself: x 0.45"),
        (told((-0.1, 0.1), widening("x", 0.15, 0.65)), "removed", "1 direct measure"),
        (told(required=["quantisation.int4"]), "undecided", "quantisation.int4 said nothing"),
        (told(required=["membership"], missing={"membership": "no held-out text"}), "undecided", "no held-out text"),
        (told(destroyed="Its loss is that of guessing."), "destroyed", "nothing is said|Nothing is said"),
        (decide([undefined("a", "direct")], own_weights=True), "undecided", "nothing was there"),
        (decide([], own_weights=True), "undecided", "No direct measure was made"),
        (decide([ingredient("a", "direct", -0.1, 0.1, n=5)], own_weights=True), "undecided", "Fewer than 8 clusters"),
        (decide([ingredient("a", "direct", -0.1, 0.1)], own_weights=True), "undecided", "prompts, quantisation and"),
    ],
)
def test_rules(verdict: Verdict, word: str, reason: str) -> None:
    assert verdict.word == word
    assert re.search(reason.replace("+-", r"\+-"), verdict.why), verdict.why


def test_an_attack_that_said_nothing_does_not_pass() -> None:
    attacks = [ingredient("prompts", "prompts", -0.1, 0.1), undefined("int4", "quantisation")]
    attacks.append(ingredient("relearning", "relearning", -0.1, 0.1))
    verdict = decide([ingredient("a", "direct", -0.1, 0.1), *attacks], own_weights=True)
    assert verdict.word == "undecided"
    assert "quantisation said nothing" in verdict.why


def test_only_defined_residuals_share_the_five_percent() -> None:
    """Two of four are defined: the corrected interval is at 1 - .05 / 2."""
    asked = []

    def at(level: float) -> Estimate:
        asked.append(level)
        return Estimate(0.0, -0.1, 0.1, level, 30, "told")

    ones = [Ingredient(key, key, "direct", at) for key in "ab"]
    decide([*ones, undefined("c", "direct"), undefined("d", "direct")], own_weights=True)
    assert set(asked) == {0.95, 0.975}


def test_the_untouched_subject_has_a_residual_of_one_in_every_draw() -> None:
    """Then there is no interval, and none is needed."""
    exact = Estimate(1.0, None, None, 0.95, 30, "told", "every draw gave the same value")
    assert decide([Ingredient("a", "a", "direct", lambda level: exact)], own_weights=True).word == "not removed"


def test_without_gold_much_left_is_seen_and_nothing_is_cleared() -> None:
    assert decide_without_gold([ingredient("a", "direct", 0.5, 0.9)]).word == "not removed"
    cleared = decide_without_gold([ingredient("a", "direct", -0.1, 0.1)])
    assert cleared.word == "undecided"
    assert "gold" in cleared.missing
    assert "stand in for it" in decide_without_gold([undefined("a", "direct")]).why
    assert decide_without_gold([], destroyed="Random.").word == "destroyed"


def test_bad_calls() -> None:
    one = ingredient("a", "direct", 0, 0.1)
    with pytest.raises(InputError, match="stands twice"):
        decide([one, one], own_weights=True)
    with pytest.raises(InputError, match="no kind of attack"):
        decide([one], own_weights=True, required=["sorcery"])  # type: ignore[list-item]


def words(n: int, seed: int, **truth: Any) -> Counter[str]:
    rng = np.random.default_rng(seed)
    return Counter(str(audit(rng, World(), **truth).word) for _ in range(n))


def test_planted_truths_are_found() -> None:
    """Five audits of each, 20 people with 8 rows; the rates of hundreds are in docs/methods/verification.md."""
    assert words(5, 1)["removed"] >= 4
    assert words(5, 2, direct=(1, 1, 1), attacked=(1, 1, 1, 1)) == {"not removed": 5}
    assert words(5, 3, attacked=(0, 0, 0.6, 0))["suppressed"] >= 4
    assert words(5, 4, gap=0.0) == {"undecided": 5}
    assert words(5, 7, coarse=[0.0] * 11)["removed"] >= 4


@pytest.mark.slow
def test_at_the_tolerance_errors_stay_below_five_percent() -> None:
    """At r = 0.2 "removed" and "not removed" are both wrong; 200 audits, bound at three standard deviations of 5%."""
    found = words(200, 5, direct=(0.2, 0.0, 0.0))
    assert found["removed"] <= 19
    assert found["not removed"] <= 19
    found = words(200, 6, attacked=(0.2, 0.0, 0.0, 0.0))
    assert found["removed"] <= 19
    assert found["suppressed"] <= 19
