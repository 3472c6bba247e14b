"""Can two sets of texts be told apart without the model under audit? Then its scores of them prove nothing.

Blind classifiers that never query a model beat published membership attacks on the field's own benchmarks
(Das et al. 2024, arXiv:2406.16201): where the sets differ in themselves, a score that separates them says so and
no more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from ..stats.auc import stratified_auc
from ..stats.estimate import Estimate

Floats = NDArray[np.float64]
BLIND_LEVEL = 0.99  # two checks at 99% each: together they refuse a sound design about once in 50
LEAST_TEXTS = 10  # on each side


def bag_of_words(texts: list[str], member: NDArray[np.bool_], strata: NDArray[Any], *, seed: int) -> Estimate:
    """AUC of word counts alone: members above the others of their own stratum, 99% interval.

    The bag of words is that of Meeus et al. (SoK, arXiv:2406.17975): word counts with a document frequency of at
    least 5% and a random forest of depth 2; but trained on one random half and scored on the other. They pool the
    out-of-fold scores of five folds, whose AUC is biased below 0.5 and spreads wider than its interval: it called 8%
    of sound designs confounded instead of 1% (docs/benchmarks.md).

    Args:
        texts: The texts.
        member: Which of them are on the side that should score higher, shape (n,).
        strata: Compared inside these only, shape (n,).
        seed: Of the halves and the forest.
    """
    return auc_of_words(word_scores(texts, member, seed=seed), member, strata)


def word_scores(texts: list[str], member: NDArray[np.bool_], *, seed: int) -> Floats:
    """What the forest of `bag_of_words` gives each text of the half that it was not trained on, in [0, 1].

    Returns:
        Shape (n,); NaN for the other half, and for all where texts are too few or share no words.
    """
    found = np.full(len(texts), np.nan)
    if min(member.sum(), (~member).sum()) < LEAST_TEXTS:
        return found
    forest: Any = make_pipeline(
        CountVectorizer(min_df=0.05, token_pattern=r"(?u)\b\w+\b"),
        RandomForestClassifier(max_depth=2, class_weight="balanced", random_state=seed),
    )
    train, test = train_test_split(np.arange(len(texts)), test_size=0.5, stratify=member, random_state=seed)
    try:
        forest.fit([texts[place] for place in train], member[train])
    except ValueError:  # no word reaches the document frequency
        return found
    found[test] = forest.predict_proba([texts[place] for place in test])[:, 1]
    return found


def auc_of_words(scores: Floats, member: NDArray[np.bool_], strata: NDArray[Any]) -> Estimate:
    """The AUC of `bag_of_words`, from its scores."""
    method = "AUC of a bag of words, random forest of depth 2 trained on the other half"
    if min(member.sum(), (~member).sum()) < LEAST_TEXTS:
        return Estimate.undefined(method=method, why=f"fewer than {LEAST_TEXTS} texts on a side", level=BLIND_LEVEL)
    test = np.flatnonzero(np.isfinite(scores))
    if not len(test):
        return Estimate.undefined(method=method, why="no word occurs in 5% of the texts", level=BLIND_LEVEL)
    return replace(blind_auc(scores[test], member[test], strata[test]), method=method)


def blind_auc(values: Floats, member: NDArray[np.bool_], strata: NDArray[Any]) -> Estimate:
    """AUC of values, members above the others of their own stratum, 99% interval; undefined with few texts."""
    if min(member.sum(), (~member).sum()) < LEAST_TEXTS:
        return Estimate.undefined(method="AUC", why=f"fewer than {LEAST_TEXTS} texts on a side", level=BLIND_LEVEL)
    return stratified_auc(values, member, strata.tolist(), level=BLIND_LEVEL)


def excludes_half(estimate: Estimate) -> bool:
    """Whether the interval leaves out 0.5; an undefined one does not."""
    return estimate.low is not None and estimate.high is not None and not estimate.low <= 0.5 <= estimate.high
