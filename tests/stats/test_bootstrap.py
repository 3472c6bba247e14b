"""Bootstrap intervals: the numbers of scipy where scipy can, and clusters and strata where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from audit.errors import InputError
from audit.stats.auc import roc_auc
from audit.stats.bootstrap import bootstrap, bootstrap_auc
from audit.stats.resampling import resampling_table


def mean_of(x: Any, axis: int = -1) -> Any:
    return np.mean(x, axis=axis)


def difference_of(x: Any, y: Any, axis: int = -1) -> Any:
    return np.mean(x, axis=axis) - np.mean(y, axis=axis)


def ratio_of(x: Any, y: Any, axis: int = -1) -> Any:
    return np.mean(x, axis=axis) / np.mean(y, axis=axis)


def samples(*sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [rng.exponential(size=size) + i for i, size in enumerate(sizes)]


SCIPY_NAMES = {"percentile": "percentile", "bca": "BCa"}


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize(
    ("statistic", "sizes", "paired"),
    [
        (mean_of, (40,), False),
        (difference_of, (30, 50), False),
        (ratio_of, (40, 40), True),
        (ratio_of, (25, 60), False),
    ],
)
def test_interval_is_that_of_scipy_under_the_same_seed(method: Any, statistic: Any, sizes: Any, paired: bool) -> None:
    data = samples(*sizes)
    ours = bootstrap(statistic, *data, paired=paired, method=method, n_draws=999, rng=np.random.default_rng(5))
    reference: Any = scipy.stats.bootstrap  # its stubs list shapes that a parametrised test cannot name
    theirs = reference(
        data,
        statistic,
        paired=paired,
        method=SCIPY_NAMES[method],
        n_resamples=999,
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert ours.value == pytest.approx(float(statistic(*data)))


def test_a_statistic_without_axis_gives_the_same_interval() -> None:
    (sample,) = samples(30)
    one_by_one = bootstrap(lambda x: float(np.mean(x)), sample, method="bca", rng=3)
    at_once = bootstrap(mean_of, sample, method="bca", rng=3)
    assert (one_by_one.low, one_by_one.high) == pytest.approx((at_once.low, at_once.high), rel=1e-12)


def test_a_builtin_statistic_is_taken() -> None:
    assert bootstrap(max, [1.0, 2.0, 3.0], rng=0).value == 3.0


def test_a_seed_replays_and_another_seed_does_not() -> None:
    (sample,) = samples(30)
    assert bootstrap(mean_of, sample, rng=1) == bootstrap(mean_of, sample, rng=1)
    assert bootstrap(mean_of, sample, rng=1) != bootstrap(mean_of, sample, rng=2)


def test_batches_leave_the_rows_of_a_draw_together(monkeypatch: pytest.MonkeyPatch) -> None:
    a = np.arange(50.0)
    monkeypatch.setattr("audit.stats.bootstrap.CELLS_AT_ONCE", 700)
    estimate = bootstrap(difference_of, a, a - 1, paired=True, rng=0)
    assert estimate.why == "every draw gave the same value"
    assert estimate.value == pytest.approx(1.0)


def test_clusters_widen_the_interval_when_rows_repeat_within_them() -> None:
    """30 values, each repeated 9 times: rows pretend to sqrt(9) = 3 times more certainty than there is."""
    (values,) = samples(30)
    sample, clusters = np.repeat(values, 9), np.repeat(np.arange(30), 9)
    rows = bootstrap(mean_of, sample, rng=0)
    whole = bootstrap(mean_of, sample, clusters=clusters, rng=0)
    assert 2.5 < (whole.high - whole.low) / (rows.high - rows.low) < 3.5  # type: ignore[operator]
    assert (rows.n, whole.n) == (270, 30)
    assert whole.method == "percentile bootstrap of 30 clusters, 2,000 draws"


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_clusters_of_one_row_are_rows(method: Any) -> None:
    (sample,) = samples(40)
    plain = bootstrap(mean_of, sample, method=method, rng=7)
    single = bootstrap(mean_of, sample, clusters=np.arange(40), method=method, rng=7)
    assert (plain.low, plain.high) == pytest.approx((single.low, single.high), rel=1e-12)


def test_clusters_of_unlike_size_are_drawn_whole() -> None:
    """Each cluster holds one value; a draw that split a cluster would count it in part."""
    clusters = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6])
    seen: list[dict[float, int]] = []

    def record(x: Any) -> float:
        values, counts = np.unique(x, return_counts=True)
        seen.append(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        return float(x.mean())

    bootstrap(record, clusters.astype(float), clusters=clusters, n_draws=50, rng=0)
    assert len(seen) == 51
    assert all(count % (cluster + 1) == 0 for draw in seen for cluster, count in draw.items())
    assert all(sum(count / (cluster + 1) for cluster, count in draw.items()) == 6 for draw in seen)


def test_strata_keep_their_sizes_in_every_draw() -> None:
    strata = np.array(["a"] * 5 + ["b"] * 3 + ["c"] * 2)
    sizes = []

    def record(x: Any) -> float:
        sizes.append([int(np.sum((low <= x) & (x < low + 100))) for low in (0, 100, 200)])
        return float(x.mean())

    sample = np.array([0, 1, 2, 3, 4, 100, 101, 102, 200, 201])
    bootstrap(record, sample, strata=strata, n_draws=60, rng=0)
    assert sizes == [[5, 3, 2]] * 61


def test_strata_take_the_difference_between_strata_out_of_the_interval() -> None:
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1, 2, 3], 30)
    sample = 100.0 * strata + rng.normal(size=120)
    plain, stratified = bootstrap(mean_of, sample, rng=0), bootstrap(mean_of, sample, strata=strata, rng=0)
    assert (stratified.high - stratified.low) < 0.02 * (plain.high - plain.low)  # type: ignore[operator]
    assert stratified.method == "percentile bootstrap of 120 rows within 4 strata, 2,000 draws"


def test_two_strata_are_two_independent_samples_for_bca() -> None:
    """The mean of 20 + 20 rows in two strata is the mean of the two samples' means: the same BCa interval."""
    a, b = samples(20, 20)
    strata = np.repeat(["a", "b"], 20)
    one = bootstrap(mean_of, np.concatenate([a, b]), strata=strata, method="bca", rng=9)
    two = bootstrap(lambda x, y: (np.mean(x) + np.mean(y)) / 2, a, b, method="bca", rng=9)
    assert (one.low, one.high) == pytest.approx((two.low, two.high), rel=1e-12)


def test_labels_of_independent_samples_come_one_sequence_per_sample() -> None:
    positive, negative = samples(40, 60)
    clusters = [np.repeat(np.arange(10), 4), np.repeat(np.arange(20), 3)]
    estimate = bootstrap(lambda p, q: roc_auc(p, q).value, positive, negative, clusters=clusters, n_draws=200, rng=0)
    assert estimate.n == 30
    assert estimate.method == "percentile bootstrap of 10 + 20 clusters, 200 draws"
    with pytest.raises(InputError, match="clusters has 100 entries for 2 independent samples; expected one sequence"):
        bootstrap(difference_of, positive, negative, clusters=np.arange(100), rng=0)


def test_a_paired_draw_takes_the_same_rows_of_each_sample() -> None:
    a = np.arange(30.0)
    estimate = bootstrap(lambda x, y: float(np.max(np.abs(x - y))), a, a, paired=True, rng=0)
    assert estimate.value == 0.0
    assert estimate.why == "every draw gave the same value"


def test_undefined_draws_are_counted_aloud() -> None:
    """One in about 20 rows is a 1; a draw has none of them with chance (1 - 2/40)^40 = 0.129."""
    sample = np.r_[np.ones(2), np.zeros(38)]

    def inverse(x: Any) -> float:
        return float(1 / x.mean()) if x.any() else float("nan")

    estimate = bootstrap(inverse, sample, max_undefined=0.2, rng=0)
    assert estimate.value == 20.0
    assert estimate.why is not None
    missing = int(estimate.why.split()[2])
    assert estimate.why == f"undefined on {missing} of 2,000 draws, which were left out"
    assert 200 < missing < 320


def test_too_many_undefined_draws_make_the_estimate_undefined() -> None:
    sample = np.r_[np.ones(2), np.zeros(38)]
    estimate = bootstrap(lambda x: float(1 / x.mean()) if x.any() else float("nan"), sample, rng=0)
    assert estimate.value is None
    assert estimate.why is not None
    assert "of 2,000 draws, above the 5% allowed; on the data it is 20" in estimate.why


def test_a_statistic_undefined_on_the_data_is_undefined() -> None:
    estimate = bootstrap(lambda x: float("nan"), [1.0, 2.0], rng=0)
    assert estimate.value is None
    assert estimate.why == "the statistic is nan on the data"


def test_draws_that_never_vary_give_no_interval() -> None:
    estimate = bootstrap(mean_of, np.ones(20), rng=0)
    assert (estimate.value, estimate.low) == (1.0, None)
    assert estimate.why == "every draw gave the same value"


def test_a_single_unit_gives_no_interval() -> None:
    estimate = bootstrap(mean_of, [1.0, 2.0], clusters=["a", "a"], rng=0)
    assert (estimate.value, estimate.low) == (1.5, None)
    assert estimate.why == "a sample has fewer than 2 units to resample"


def test_strata_of_a_single_unit_are_owned_up_to() -> None:
    estimate = bootstrap(mean_of, [1.0, 2.0, 5.0], strata=["a", "a", "b"], rng=0)
    assert estimate.why == "1 strata hold a single unit and add no spread, so the interval is too narrow"


def test_bca_without_a_correction_gives_no_interval() -> None:
    """A draw of 10 unlike values with replacement all but never holds 10 unlike values: every draw lies below."""
    estimate = bootstrap(lambda x: float(len(np.unique(x))), np.arange(10.0), method="bca", rng=0)
    assert estimate.low is None
    assert estimate.why == "BCa: every draw lies on one side of the estimate"


def test_bca_with_an_undefined_jackknife_gives_no_interval() -> None:
    def needs_both(x: Any) -> float:
        return float(x.mean()) if len(np.unique(x)) > 1 else float("nan")

    sample = np.r_[np.zeros(1), np.ones(29)]
    estimate = bootstrap(needs_both, sample, method="bca", max_undefined=0.5, rng=0)
    assert estimate.low is None
    assert estimate.why is not None
    assert estimate.why.startswith("BCa: the statistic is undefined when one unit is left out; undefined on")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_draws": 39}, "n_draws is 39; expected a whole number of at least 40"),
        ({"method": "BCa"}, "method is 'BCa'; expected one of 'percentile', 'bca'"),
        ({"max_undefined": 1.0}, "max_undefined is 1.0; expected a number between 0 and 1"),
        ({"strata": ["a"] * 3}, "strata has 3 labels for 4 scores"),
        ({"clusters": list("aabb"), "strata": list("xyyy")}, "cluster 'a' lies in more than one stratum"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap(mean_of, [1.0, 2.0, 3.0, 4.0], rng=0, **arguments)


def test_samples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="bootstrap got no samples"):
        bootstrap(mean_of, rng=0)
    with pytest.raises(InputError, match=r"paired samples have lengths \[2, 3\]; expected one length"):
        bootstrap(difference_of, [1.0, 2.0], [1.0, 2.0, 3.0], paired=True, rng=0)


def test_a_statistic_that_does_not_return_one_number_per_draw_is_refused() -> None:
    with pytest.raises(InputError, match=r"the statistic returned array\(.*\); expected one number"):
        bootstrap(lambda x: x, [1.0, 2.0], rng=0)
    with pytest.raises(InputError, match=r"the statistic returned None; expected one number"):
        bootstrap(lambda x: None, [1.0, 2.0], rng=0)
    with pytest.raises(InputError, match=r"returned shape \(\) for 2000 draws; expected \(2000,\)"):
        bootstrap(lambda x, axis=None: np.mean(x), [1.0, 2.0], rng=0)


def test_a_table_of_rows_leaves_out_one_unit_at_a_time() -> None:
    table = resampling_table(6, None, ["a", "b", "a", "c", "c", "c"])
    left = [table.all_but(unit).tolist() for unit in table.strata[0].units]
    assert left == [[1, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 2]]


def naive_auc(x: Any, y: Any, of_x: Any, of_y: Any) -> float:
    """Standardise by each stratum's decoys, then count pairs one by one."""
    zx, zy = np.array(x, dtype=float), np.array(y, dtype=float)
    for name in set(of_y):
        decoys = np.array(y)[of_y == name]
        centre, spread = decoys.mean(), decoys.std(ddof=1)
        zx[of_x == name] = (zx[of_x == name] - centre) / spread
        zy[of_y == name] = (zy[of_y == name] - centre) / spread
    return float(np.mean([(a > b) + (a == b) / 2 for a in zx for b in zy]))


def auc_data() -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(3)
    of_x, of_y = np.array(list("babab")), np.array(list("aabbbabaab"))
    return rng.normal(size=5) + 5 * (of_x == "b"), rng.normal(size=10) + 5 * (of_y == "b"), of_x, of_y


def test_the_auc_of_every_draw_is_standardised_anew() -> None:
    """The interval is that of a slow loop over the same draws, each standardised by its own decoys."""
    x, y, of_x, of_y = auc_data()
    found = bootstrap_auc(x, y, strata=(of_x, of_y), n_draws=200, rng=7)
    assert found.value == pytest.approx(naive_auc(x, y, of_x, of_y))
    first = {name: place for place, name in enumerate(dict.fromkeys(of_x))}  # strata in order of first appearance
    by_x = np.argsort([first[name] for name in of_x], kind="stable")
    by_y = np.argsort([first[name] for name in of_y], kind="stable")
    x, y, of_x, of_y = x[by_x], y[by_y], of_x[by_x], of_y[by_y]
    rng = np.random.default_rng(7)
    rows = [resampling_table(len(x), of_x, None).draw(200, rng), resampling_table(len(y), of_y, None).draw(200, rng)]
    draws = [naive_auc(x[i], y[j], of_x, of_y) for i, j in zip(*rows, strict=True)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_the_auc_of_one_stratum_is_the_plain_one_and_its_interval_near_delongs() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=150) + 0.7, rng.normal(size=300)
    found, delong = bootstrap_auc(x, y, rng=0), roc_auc(x, y)
    assert found.value == pytest.approx(delong.value)
    assert (found.low, found.high) == pytest.approx((delong.low, delong.high), abs=0.015)
    assert found.n == 450
    assert found.method.startswith("AUC, percentile bootstrap of 150 + 300 traps inside 1 strata and both arms")


def test_level_and_spread_of_a_stratum_do_not_matter_to_the_auc() -> None:
    x, y, of_x, of_y = auc_data()
    moved_x, moved_y = np.where(of_x == "b", 9 + 100 * x, x), np.where(of_y == "b", 9 + 100 * y, y)
    plain, moved = (
        bootstrap_auc(a, b, strata=(of_x, of_y), n_draws=100, rng=0) for a, b in ((x, y), (moved_x, moved_y))
    )
    assert (moved.value, moved.low, moved.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_decoys_that_do_not_vary_are_centred_only() -> None:
    """Decoys 3, 3 and members 4, 2 in each stratum: one member above and one below every decoy, AUC 1/2."""
    found = bootstrap_auc([4, 2, 4, 2], [3, 3, 3, 3], strata=("aabb", "aabb"), n_draws=100, rng=0)
    assert found.value == 0.5


@pytest.mark.parametrize(
    ("strata", "message"),
    [
        (("ab", "aa"), "stratum 'b' has members and no decoys"),
        (("a", "aa"), "the members have 1 labels for 2 scores"),
        (("aa", "aaa"), "the decoys have 3 labels for 2 scores"),
        (("aa",), "strata has 1 entries; expected two"),
    ],
)
def test_strata_of_traps_that_do_not_fit_are_refused(strata: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_auc([1.0, 2.0], [0.0, 1.0], strata=strata, rng=0)
