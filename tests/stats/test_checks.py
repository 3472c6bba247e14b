"""What every statistic refuses, and that the refusal says what, where and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from audit.errors import InputError
from audit.stats.auc import auc_difference_paired, roc_auc, roc_curve
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import label_codes
from audit.stats.conformal import conformal_threshold
from audit.stats.ks import ks_two_sample
from audit.stats.multiplicity import benjamini_hochberg, holm
from audit.stats.permutation import permutation_two_sample, rank_p_value, rank_p_values, sign_test
from audit.stats.proportion import clopper_pearson, wilson
from audit.stats.stratified import stratified_permutation
from audit.stats.tpr import tpr_at_fpr

GOOD = np.array([0.1, 0.7, 0.4])
TAKES_SCORES: dict[str, Callable[[Any], object]] = {
    "roc_auc": lambda x: roc_auc(x, GOOD),
    "roc_auc, negatives": lambda x: roc_auc(GOOD, x),
    "roc_curve": lambda x: roc_curve(x, GOOD),
    "auc_difference_paired": lambda x: auc_difference_paired(GOOD, x, GOOD, GOOD),
    "tpr_at_fpr": lambda x: tpr_at_fpr(x, GOOD, fpr=0.5),
    "ks_two_sample": lambda x: ks_two_sample(GOOD, x),
    "bootstrap": lambda x: bootstrap(np.mean, x, rng=0),
    "rank_p_value": lambda x: rank_p_value(1.0, x),
    "rank_p_values": lambda x: rank_p_values(x, GOOD),
    "permutation_two_sample": lambda x: permutation_two_sample(x, GOOD, rng=0),
    "sign_test": sign_test,
    "stratified_permutation": lambda x: stratified_permutation(x, [1, 0, 1], rng=0),
    "conformal_threshold": lambda x: conformal_threshold(x, alpha=0.5),
    "holm": holm,
    "benjamini_hochberg": benjamini_hochberg,
}


@pytest.mark.parametrize("name", TAKES_SCORES)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"is empty; expected at least 1 number"),
        ([0.2, np.nan, 0.3], r"\[1\] is nan; expected finite numbers \(1 of 3 are not\)"),
        ([0.2, 0.1, np.inf], r"\[2\] is inf; expected finite numbers"),
        ([[0.2, 0.1, 0.3]], r"has shape \(1, 3\); expected one dimension"),
        (["a", "b", "c"], r"cannot be read as numbers"),
    ],
)
def test_bad_scores_are_refused_by_name_and_place(name: str, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TAKES_SCORES[name](values)


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, -0.1, float("nan")])
@pytest.mark.parametrize(
    "estimate",
    [
        lambda level: roc_auc(GOOD, GOOD, level=level),
        lambda level: auc_difference_paired(GOOD, GOOD, GOOD, GOOD, level=level),
        lambda level: tpr_at_fpr(GOOD, GOOD, fpr=0.5, level=level),
        lambda level: wilson(1, 2, level=level),
        lambda level: clopper_pearson(1, 2, level=level),
        lambda level: ks_two_sample(GOOD, GOOD, level=level),
        lambda level: bootstrap(np.mean, GOOD, level=level, rng=0),
        lambda level: conformal_threshold(GOOD, alpha=0.5, level=level),
    ],
)
def test_a_level_outside_the_open_unit_interval_is_refused(estimate: Callable[[float], object], level: float) -> None:
    with pytest.raises(InputError, match=rf"level is {level}; expected a number between 0 and 1, both excluded"):
        estimate(level)


@pytest.mark.parametrize("rng", [None, -1, 1.5, True, np.random])
def test_an_unseeded_draw_is_refused(rng: Any) -> None:
    with pytest.raises(InputError, match=r"rng is .*; expected a numpy Generator or a whole seed"):
        bootstrap(np.mean, GOOD, rng=rng)


@pytest.mark.parametrize("alternative", ["larger", "", "Greater"])
def test_an_unknown_alternative_is_refused_with_the_legal_ones(alternative: Any) -> None:
    message = rf"alternative is '{alternative}'; expected one of 'greater', 'less', 'two-sided'"
    with pytest.raises(InputError, match=message):
        sign_test(GOOD, alternative=alternative)
    with pytest.raises(InputError, match=message):
        permutation_two_sample(GOOD, GOOD, alternative=alternative, rng=0)
    with pytest.raises(InputError, match=message):
        stratified_permutation(GOOD, [1, 0, 1], alternative=alternative, rng=0)
    with pytest.raises(InputError, match=message):
        ks_two_sample(GOOD, GOOD, alternative=alternative)


def test_label_codes_follow_first_appearance() -> None:
    codes, labels = label_codes(["b", "a", "b", "c"], "groups", n=4)
    assert codes.tolist() == [0, 1, 0, 2]
    assert labels == ["b", "a", "c"]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, np.nan, ["list"]])
def test_a_missing_label_is_never_a_group_of_its_own(missing: Any) -> None:
    with pytest.raises(InputError, match=r"groups\[1\] is .*; expected a name or number"):
        label_codes(["a", missing], "groups", n=2)


def test_labels_must_be_as_many_as_scores() -> None:
    with pytest.raises(InputError, match="groups has 1 labels for 2 scores; expected one label for each score"):
        label_codes(["a"], "groups", n=2)
