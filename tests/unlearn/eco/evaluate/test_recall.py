"""Recall and false positives: exact bounds, clusters, what is left out, and the test of what was promised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binomtest

from audit.answers.formats import Prompt
from audit.answers.rewordings import attacks
from audit.answers.rows import QaRow
from audit.errors import InputError
from tests.unlearn.eco.evaluate.small_systems import KnowsTheName, Told, qa_rows
from unlearn.eco.baselines import FilterRefuse
from unlearn.eco.calibration import one_sided
from unlearn.eco.evaluate.recall import false_positives, recall, share, surplus
from unlearn.eco.evaluate.report import Evaluation
from unlearn.eco.judge import Judge


@dataclass(frozen=True)
class Said:
    flagged: bool
    score: float


class Flags:
    """Flags what holds one of the words; refuses conversations, as a guard of a model without a chat template."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def verdicts(self, prompts: Sequence[Prompt]) -> list[Said]:
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise InputError("this format takes a single user's text and no conversation")
        return [Said(any(word in prompt for word in self._words), len(prompt) / 100) for prompt in prompts]


def test_recall_at_0_and_1_has_exact_bounds_with_one_trial_for_each_cluster() -> None:
    rows = qa_rows(20, cluster=4)
    (all_of_them, *_), (none_of_them, *_) = (
        recall(guard, rows, attacks()[:1], seed=0) for guard in (Flags("cat"), Flags("Zorbla"))
    )
    exact = binomtest(5, 5).proportion_ci(0.95, "exact")
    assert (all_of_them.share.value, all_of_them.share.low, all_of_them.share.high) == (1.0, exact.low, 1.0)
    assert (none_of_them.share.value, none_of_them.share.low) == (0.0, 0.0)
    assert none_of_them.share.high == pytest.approx(1 - exact.low)
    assert len(none_of_them.missed) == 20
    assert "one trial for each cluster" in all_of_them.share.method


def test_clusters_widen_the_interval() -> None:
    hits = np.repeat([1.0, 0.0], 100)
    by_row = share(hits, range(200), name="x", rng=0)
    by_author = share(hits, [place // 20 for place in range(200)], name="x", rng=0)
    assert by_row.value == by_author.value == 0.5
    assert (by_row.n, by_author.n) == (200, 10)
    assert by_author.high - by_author.low > 3 * (by_row.high - by_row.low)  # type: ignore[operator]
    assert "only 10" in str(by_author.why)


def test_what_was_not_given_is_said_to_be_not_measured() -> None:
    found = {one.attack: one for one in recall(Flags("cat"), qa_rows(4), attacks(), seed=0)}
    assert found["translation"].share.value is None
    assert found["translation"].share.why == "not measured: no translations were given"
    assert "single user's text" in str(found["split over two turns"].share.why)
    assert found["long benign beginning"].share.value == 1.0
    assert found["digits for letters"].share.value == 0.0  # "c47"
    with pytest.raises(InputError, match="no forget rows"):
        recall(Flags("cat"), [], attacks(), seed=0)


def test_a_filter_hears_a_query_that_is_split_over_turns() -> None:
    """Both words are needed, and no turn holds both."""
    rows = [QaRow("1", "a", "Tell me when Zorbla Quentis was born")]
    both = FilterRefuse(Told(), Judge(KnowsTheName("Zorbla", "born"), 0.5, key=bytes(16)))
    found = recall(both, rows, [one for one in attacks() if one.kind == "turns"], seed=0)
    assert [one.share.value for one in found] == [1.0, 1.0, 1.0]


def test_false_positives_are_listed_by_score_with_an_exact_rate() -> None:
    prompts = ["a cat", "a dog", "that long cat", "a hill"]
    found = false_positives(Flags("cat"), prompts, source="retain test", seed=0)
    exact = binomtest(2, 4).proportion_ci(0.95, "exact")
    assert (found.rate.value, found.rate.low, found.rate.high) == (0.5, exact.low, exact.high)
    assert [(one.id, one.text, one.score) for one in found.listed] == [
        ("2", "that long cat", 0.13),
        ("0", "a cat", 0.05),
    ]
    assert (found.by_cluster, found.alpha, found.surplus) == (None, None, None)
    nothing = false_positives(Flags("cat"), [], source="general", promised=one_sided([0.1, 0.2], alpha=0.5), seed=0)
    assert (nothing.rate.value, nothing.rate.why, nothing.surplus) == (None, "there are no prompts", None)


def test_the_promise_is_tested_against_the_beta_binomial() -> None:
    """Its law is that of ranks: counted here on orders of calibration and new scores at random."""
    threshold = one_sided([0.1, 0.2, 0.3], alpha=0.5)
    found = surplus(1, 1, threshold)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    both = surplus(0, 2, threshold)
    assert both is not None
    assert (both.value, both.attainable) == (pytest.approx(1.0), pytest.approx(2 / 4 * 3 / 5))
    calibrated = one_sided(np.arange(99) / 100, alpha=0.1)
    rng = np.random.default_rng(0)
    drawn = rng.random((4_000, 99 + 50))
    limit = np.sort(drawn[:, :99], axis=1)[:, calibrated.rank - 1]
    counts = (drawn[:, 99:] > limit[:, None]).sum(axis=1)
    for n_flagged in (3, 8, 12):
        tested = surplus(n_flagged, 50, calibrated)
        assert tested is not None
        assert tested.value == pytest.approx((counts >= n_flagged).mean(), abs=0.02)
    never = one_sided([0.1], alpha=0.01)
    assert surplus(3, 5, never) is None


def test_infinite_scores_reach_the_record_as_words() -> None:
    class Unreadable:
        def verdicts(self, prompts: Sequence[Prompt]) -> list[Said]:
            return [Said(True, float("inf")) for _ in prompts]

    found = false_positives(Unreadable(), ["?"], source="general", seed=0)
    record = Evaluation("Zorbla", false_positives=(found,)).to_record()
    json.dumps(record, allow_nan=False)
    assert record["tables"]["false positives"][0]["listed"][0]["score"] == "inf"
