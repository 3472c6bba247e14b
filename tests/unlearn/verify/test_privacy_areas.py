from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from audit.forgetting.measured import Measured
from audit.stats.auc import auc_difference_paired, roc_auc
from unlearn.verify.privacy.areas import auc, difference, of_areas, residual, smallest_seen

NAME = "Loss score"


def scores(values: Sequence[float] | np.ndarray, clusters: Sequence[str] | None = None, *, of: str = "a") -> Measured:
    ids = tuple(f"{of}{place}" for place in range(len(values)))
    return Measured(NAME, ids, ids if clusters is None else tuple(clusters), np.asarray(values, dtype=np.float64))


def test_texts_alone_have_the_interval_of_delong_and_so_do_clusters_of_one(rng: np.random.Generator) -> None:
    """With one text to a cluster the sums over clusters are the placements themselves: the variance is DeLong's."""
    x, y, x2, y2 = (rng.normal(size=30) + shift for shift in (0.5, 0, 0.3, 0))
    one, plain = auc(scores(x), scores(y, of="b"), rng=0), roc_auc(x, y)
    assert (one.value, one.low, one.high, one.n) == (plain.value, plain.low, plain.high, 60)
    # A text that stands twice in its cluster adds nothing: the same AUC, the same interval, the same n.
    twice = [np.repeat(values, 2) for values in (x, y, x2, y2)]
    homes = [f"c{place // 2}" for place in range(60)]
    pair = scores(twice[0], homes), scores(twice[1], [f"n{home}" for home in homes], of="b")
    both = auc(*pair, rng=0)
    assert (both.value, both.low, both.high) == pytest.approx((plain.value, plain.low, plain.high))
    assert both.n == 60
    other = scores(twice[2], homes), scores(twice[3], [f"n{home}" for home in homes], of="b")
    expected = auc_difference_paired(x, y, x2, y2)
    found = difference(pair, other, rng=0)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_a_clustered_auc_by_hand() -> None:
    """First (3, 2 | 5, 1) in clusters a, b; second (2, 0 | 4, 4) in c, d.

    Shares below: 3 -> 2/4; 2 -> (1 + 1/2)/4 = 3/8; 5 -> 1; 1 -> 1/4. A = 17/32. Less A, sums: a (16 + 12 - 34)/32 =
    -6/32, b 6/32: 2/1 (2 * 36/1024) / 16 = 9/1024. Shares of first above: 2 -> (2 + 1/2)/4 = 5/8; 0 -> 1; 4 -> 1/4
    twice. Less A, sums: c (20 + 32 - 34)/32 = 18/32, d -18/32: 2/1 (2 * 324/1024) / 16 = 81/1024.
    Standard error sqrt(90)/32; on the logit scale divided by A (1 - A).
    """
    found = auc(scores([3, 2, 5, 1], ["a", "a", "b", "b"]), scores([2, 0, 4, 4], ["c", "c", "d", "d"], of="b"), rng=0)
    area = 17 / 32
    reach = 1.959964 * np.sqrt(90) / 32 / (area * (1 - area))
    centre = np.log(area / (1 - area))
    assert found.value == area
    assert (found.low, found.high) == pytest.approx([1 / (1 + np.exp(-centre + sign * reach)) for sign in (1, -1)])
    assert found.n == 4
    assert found.why is not None
    assert "only 2 clusters" in found.why


def test_resampled_areas_are_those_of_the_texts_that_were_drawn(rng: np.random.Generator) -> None:
    """The bootstrap of one model's A, against a plain loop over drawn clusters and pairs of their texts."""
    homes, others = ["a", "a", "b", "c"], ["d", "e", "e"]
    x, y = [1.0, 2.0, 2.0, 5.0], [2.0, 0.0, 3.0]
    found = of_areas(
        lambda areas: areas[0], [(scores(x, homes), scores(y, others, of="b"))], name="A", rng=7, level=0.9
    )
    dice = np.random.default_rng(7)
    drawn = dice.integers(0, 3, (2000, 3)), dice.integers(0, 2, (2000, 2))
    areas = []
    for first, second in zip(*drawn, strict=True):
        one = [value for code in first for value, home in zip(x, homes, strict=True) if home == "abc"[code]]
        other = [value for code in second for value, home in zip(y, others, strict=True) if home == "de"[code]]
        areas.append(np.mean([(a > b) + (a == b) / 2 for a in one for b in other]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(areas, [0.05, 0.95])))


@pytest.mark.parametrize(("gold", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_residual_is_1_for_the_subject_and_0_for_gold(gold: float, expected: float, rng: np.random.Generator) -> None:
    base, never = rng.normal(size=60), scores(rng.normal(size=60), of="b")
    subject, knowing_nothing = scores(base + 3), scores(base)
    remedied = knowing_nothing if gold else subject
    found = residual((subject, never), (remedied, never), (knowing_nothing, never), rng=0)
    assert found.value == expected


def test_no_gap_no_residual_and_the_reason_says_what_would_be_seen(rng: np.random.Generator) -> None:
    never = scores(rng.normal(size=12), of="b")
    subject, remedied, gold = (scores(rng.normal(size=12)) for _ in range(3))
    found = residual((subject, never), (remedied, never), (gold, never), rng=0)
    assert found.value is None
    assert found.why is not None
    assert "no gap" in found.why
    assert "0.24 away" in found.why


def test_gold_above_the_subject_and_a_single_cluster_have_no_residual(rng: np.random.Generator) -> None:
    never = scores(rng.normal(size=30), of="b")
    low, high = scores(rng.normal(size=20)), scores(rng.normal(size=20) + 2)
    found = residual((low, never), (high, never), (high, never), rng=0)
    assert found.value is None
    assert "gold's AUC is above" in str(found.why)
    found = residual((high, never), (high, never), (low, never), rng=0)
    assert (found.value, found.n) == (1.0, 20)  # of the smaller side
    alone = tuple((scores(one.values, ["one"] * 20), never) for one in (high, high, low))
    assert residual(*alone, rng=0).value is None


def test_smallest_difference_by_hand() -> None:
    """1.96 sqrt(25 / (12 * 12 * 12)) = 0.2357 for 12 + 12 clusters; 1.96 sqrt(97 / (12 * 48 * 48)) = 0.1161 texts."""
    seen = smallest_seen(48, 48, 12, 12)
    assert (seen.at_worst, seen.at_best) == pytest.approx((0.2357, 0.1161), abs=1e-4)
    assert smallest_seen(1, 1, 1, 1).at_worst == 0.5


def test_extremes_have_an_interval_in_clusters_and_an_empty_side_has_a_reason() -> None:
    homes = ["a", "a", "b", "b", "c", "c"]
    high, low = scores(np.arange(6) + 10, homes), scores(np.arange(6), [f"n{home}" for home in homes], of="b")
    found = auc(high, low, rng=0)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 3))  # Clopper-Pearson on 3 pairs of clusters
    tied = difference((high, low), (high, low), rng=0)
    assert tied.value == 0.0
    assert tied.low == -1.0
    assert tied.high == 1.0
    nothing = Measured(NAME, (), (), np.zeros(0), {"x": "the row has no answer"})
    empty = auc(high, nothing, rng=0)
    assert empty.value is None
    assert "the row has no answer" in str(empty.why)


@pytest.mark.slow
def test_under_exchangeable_scores_intervals_hold_the_truth_at_their_level() -> None:
    """AUC 0.5 and paired difference 0, 200 data sets, 20 + 30 clusters of 5 with correlation: at least 91% of 95%."""
    dice = np.random.default_rng(3)
    homes, others = np.repeat(np.arange(20), 5), np.repeat(np.arange(30), 5)
    hits = np.zeros(2)
    for _ in range(200):
        shared = [
            0.6 * dice.normal(size=n)[codes] + dice.normal(size=len(codes)) for n, codes in ((20, homes), (30, others))
        ]
        models = [
            (
                scores(shared[0] + 0.7 * dice.normal(size=100), [f"f{code}" for code in homes]),
                scores(shared[1] + 0.7 * dice.normal(size=150), [f"n{code}" for code in others], of="b"),
            )
            for _ in range(2)
        ]
        for place, (found, truth) in enumerate([(auc(*models[0], rng=0), 0.5), (difference(*models, rng=0), 0.0)]):
            assert found.low is not None
            assert found.high is not None
            hits[place] += found.low <= truth <= found.high
    assert (hits >= 182).all(), hits


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)
