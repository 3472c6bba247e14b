"""Curves of relearning: excess and steps by hand, what censoring leaves, and 0 under the null."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from audit.errors import InputError
from unlearn.verify.robustness.relearn import Curve
from unlearn.verify.robustness.relearn_curves import Relearned, compare_relearning, curve_rows, ingredient

STEPS = (0, 10, 20)


def curve(
    model: str,
    means: Sequence[float],
    *,
    seed: int = 0,
    n: int = 12,
    steps: Sequence[int] = STEPS,
    spread: float = 0.01,
) -> Curve:
    """Two rows in each of n clusters, whose mean is exactly the one asked for."""
    shifts = np.repeat(np.linspace(-spread, spread, n), 2)
    names = [f"c{place // 2}" for place in range(2 * n)]
    values = np.array(means)[:, None] + shifts
    ids = tuple(f"{name}-{place % 2}" for place, name in enumerate(names))
    return Curve(model, "kind", seed, f"s{seed}", "key", "p", (), tuple(steps), ids, tuple(names), values, {}, (), 0.0)


def compared(
    remedied: Sequence[float], gold: Sequence[float], subject: Sequence[float] = (0.9, 0.9, 0.9), seeds: int = 3
) -> Relearned:
    models = zip(("remedied", "gold", "subject"), (remedied, gold, subject), strict=True)
    return compare_relearning(*([curve(m, v, seed=s) for s in range(seeds)] for m, v in models), rng=0)


def test_excess_and_steps_by_hand() -> None:
    """The subject's lead is .9 - .1 = .8. Remedied less gold: 0, .4, .4; by the trapezoid over 20 steps its mean is
    (0/2 + .4 + .4/2) / 2 = .3, so r = .375; at the end .4 / .8 = .5.

    Half the lead is at .5: the remedied model is there after 10 steps, at .5 exactly; gold, .1, .1, .9 at its three
    steps, half way from 10 to 20. 10 / 15 is below .8.
    """
    found = compared((0.1, 0.5, 0.5), (0.1, 0.1, 0.1))
    assert found.excess.value == pytest.approx(0.375)
    assert found.start.value == pytest.approx(0)
    assert found.final.value == pytest.approx(0.5)
    found = compared((0.1, 0.5, 0.6), (0.1, 0.1, 0.9))
    assert found.steps.remedied == pytest.approx((10,) * 3)
    assert found.steps.gold == pytest.approx((15,) * 3)
    assert found.ratio.value == pytest.approx(2 / 3)
    assert (found.bound, found.by_steps) == ("exact", "suppressed")
    assert (found.seeds, found.n, found.kind) == ((0, 1, 2), 12, "kind")


def test_the_untouched_subject_is_1_at_the_start_and_gold_itself_is_0_with_a_ratio_of_1() -> None:
    subject, gold = (0.9, 0.9, 0.9), (0.1, 0.4, 0.7)
    found = compared(subject, gold)
    assert found.start.value == pytest.approx(1)
    assert (found.ratio.value, found.by_steps) == (0.0, "suppressed")
    found = compared(gold, gold)
    assert found.excess.value == pytest.approx(0)
    assert found.ratio.value == pytest.approx(1)
    assert found.by_steps == "removed"


def test_uneven_steps_weigh_by_their_length() -> None:
    """Steps 0, 10, 40: remedied less gold is .8 until 10 and falls to 0 at 40: (10 * .8 + 30 * .4) / 40 = .5."""
    models = (("r", (0.9, 0.9, 0.1)), ("g", (0.1, 0.1, 0.1)), ("s", (0.9, 0.9, 0.9)))
    found = compare_relearning(*([curve(m, v, steps=(0, 10, 40))] for m, v in models), rng=0)
    assert found.excess.value == pytest.approx(0.5 / 0.8)


def test_what_censoring_leaves() -> None:
    """Half is .5. A gold that stays below makes the ratio an upper bound, 10 / 20; a remedied model that does, a lower
    one; of both nothing can be said by steps, and the excess still can."""
    flat, quick = (0.1, 0.1, 0.1), (0.1, 0.5, 0.9)
    found = compared(quick, flat)
    assert (found.ratio.value, found.bound, found.by_steps) == (pytest.approx(0.5), "at most", "suppressed")
    assert "at most this: under 3 of 3 seeds the gold model does not reach half" in str(found.ratio.why)
    assert found.steps.gold_reached == (False,) * 3
    found = compared(flat, quick)
    assert (found.ratio.value, found.bound, found.by_steps) == (pytest.approx(2.0), "at least", "removed")
    found = compared((0.1, 0.2, 0.3), flat)
    assert (found.ratio.value, found.bound, found.by_steps) == (None, None, "undecided")
    assert "neither model reaches half within 20 steps" in str(found.ratio.why)
    assert found.excess.value == pytest.approx(0.1 / 0.8)
    assert found.excess.low is not None


def test_a_bound_does_not_speak_in_the_other_direction() -> None:
    """Gold fails to reach half within 20 steps and the remedied model takes 18: at most .9, which clears nobody."""
    found = compared((0.1, 0.1, 0.6), (0.1, 0.1, 0.1))
    assert found.ratio.value == pytest.approx(18 / 20)
    assert (found.bound, found.by_steps) == ("at most", "undecided")


def test_without_a_lead_of_the_subject_nothing_is_said() -> None:
    for subject in ((0.1, 0.1, 0.1), (0.05, 0.9, 0.9)):
        found = compared((0.1, 0.5, 0.9), (0.1, 0.1, 0.9), subject)
        assert found.excess.value is None
        assert found.ratio.value is None
        assert "lead over gold" in str(found.excess.why)


def test_few_seeds_and_clusters_are_told_and_an_ingredient_asks_at_any_level() -> None:
    found = compared((0.1, 0.5, 0.5), (0.1, 0.1, 0.1), seeds=2)
    assert "only 2 of the 3 seeds" in str(found.excess.why)
    assert "only 12 clusters" in str(found.excess.why)
    sets = [
        [dataclasses.replace(c, values=c.values + np.random.default_rng([m, c.seed]).normal(0, 0.05, c.values.shape))
         for c in [curve(name, (0.1 + 0.4 * (m == 2), 0.3, 0.3), seed=s) for s in range(3)]]
        for m, name in enumerate(("remedied", "gold", "subject"))
    ]  # fmt: skip
    made = ingredient(*sets, rng=0)
    assert (made.key, made.kind, made.n_seeds) == ("relearning.kind", "relearning", 3)
    narrow, wide = made.at(0.9), made.at(0.999)
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low
    assert made.at(0.9) == narrow


def test_rows_that_one_model_lacks_count_for_none_and_are_told() -> None:
    remedied, gold, subject = (curve(name, (v, v, v)) for name, v in (("r", 0.1), ("g", 0.1), ("s", 0.9)))
    values = remedied.values.copy()
    values[:, 0] = 100.0
    kept = dataclasses.replace(
        gold, ids=gold.ids[1:], clusters=gold.clusters[1:], values=gold.values[:, 1:], left_out={gold.ids[0]: "gone"}
    )
    found = compare_relearning([dataclasses.replace(remedied, values=values)], [kept], [subject], rng=0)
    assert found.excess.value == pytest.approx(0)
    assert "1 values of rows that one of the models lacks were left out" in str(found.excess.why)


def test_curves_that_do_not_belong_together_are_refused() -> None:
    one = curve("a", (0.1, 0.1, 0.1))
    for other, match in (
        (dataclasses.replace(one, settings="another"), "made under different settings"),
        (dataclasses.replace(one, seed=1), "expected the same ones"),
        (dataclasses.replace(one, kind="another"), "expected one kind"),
        (dataclasses.replace(one, name="another"), "expected one kind"),
    ):
        with pytest.raises(InputError, match=match):
            compare_relearning([one], [other], [one], rng=0)
    with pytest.raises(InputError, match="one curve for each seed"):
        compare_relearning([one, one], [one, one], [one, one], rng=0)
    with pytest.raises(InputError, match="n_draws"):
        compare_relearning([one], [one], [one], rng=0, level=0.999, n_draws=100)


def test_rows_for_a_chart_are_the_means() -> None:
    rows = curve_rows([curve("a", (0.1, 0.2, 0.3), seed=5)])
    assert [(row.model, row.seed, row.step, row.n) for row in rows] == [("a", 5, step, 24) for step in STEPS]
    assert [row.value for row in rows] == pytest.approx([0.1, 0.2, 0.3])


def world(rng: np.random.Generator, *, start: float, speed: float, n: int = 24, seed_noise: float = 0.03) -> Relearned:
    """Three seeds, eight rows in a cluster, a quarter of the clusters tuned. Gold climbs from .3 towards the subject's
    .7; the remedied model begins at ``start`` of the way and is ``speed`` times as fast. Models differ by cluster at
    random, and by seed."""
    x = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    rows = rng.normal(0, 0.15, (n, 8))  # easy and hard for every model
    found = []
    for name, begins, pace in (("remedied", start, speed), ("gold", 0.0, 1.0), ("subject", 1.0, 0.0)):
        own = rng.normal(0, 0.08, n)[:, None] + rng.normal(0, 0.05, (n, 8))
        curves = []
        for seed in range(3):
            kept = np.sort(np.random.default_rng(seed).permutation(n)[n // 4 :])
            level = 0.3 + 0.4 * (begins + (1 - begins) * (1 - np.exp(-2 * pace * x)))
            noise = seed_noise * (rng.normal() + rng.normal(size=n)[:, None])
            values = level[:, None, None] + rows + own + (x > 0)[:, None, None] * noise
            values = (values + rng.normal(0, 0.02, values.shape))[:, kept].reshape(5, -1)
            homes = np.repeat(kept, 8)
            ids = tuple(f"{home}-{place % 8}" for place, home in enumerate(homes))
            clusters = tuple(map(str, homes))
            made = Curve(name, "k", seed, "s", "key", "p", (), (0, 5, 10, 15, 20), ids, clusters, values, {}, (), 0.0)
            curves.append(made)
        found.append(curves)
    return compare_relearning(*found, rng=rng, n_draws=400)


def test_a_second_gold_is_0_and_a_model_that_relearns_faster_is_above() -> None:
    """At 95% of 60 simulated audits the excess should hold 0 in 57; below 50 it would be broken (p < .001)."""
    nulls = [world(np.random.default_rng([1, k]), start=0.0, speed=1.0) for k in range(60)]
    assert sum(one.excess.low <= 0 <= one.excess.high for one in nulls) >= 50
    assert sum(one.by_steps == "suppressed" for one in nulls) <= 4
    assert abs(np.mean([one.excess.value for one in nulls])) < 0.03
    faster = [world(np.random.default_rng([2, k]), start=0.0, speed=4.0) for k in range(20)]
    assert sum(one.excess.low > 0 for one in faster) >= 18
