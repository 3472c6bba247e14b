"""Support by gamma, rates by number of sentences, and a concept's share of one opening's continuations."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.errors import InputError
from audit.stats.estimate import Estimate
from audit.stats.proportion import wilson
from tests.unlearn.lineas.evaluate.small_parts import HAS_X, Told, model_and_arm, point
from unlearn.lineas.evaluate.concept import concept_judges
from unlearn.lineas.evaluate.rate import attribute_rate, continue_prompts
from unlearn.lineas.evaluate.sweep import sweep_rows
from unlearn.lineas.evaluate.tables import over_fits, rises, size_rows


def test_where_support_grows_along_gamma_is_named() -> None:
    assert rises({0.1: 1 / 8, 0.0: 6 / 8, 1.0: 2 / 8}) == [(0.1, 1.0)]
    assert rises({0.0: 1.0, 1.0: 1.0}) == rises({}) == []


def test_rates_by_number_of_sentences_have_an_interval_between_fits() -> None:
    plain = point("unsteered", 0.0, [False] * 10, 1.0, scaled=False)
    fits = [point(f"fit {n}", 1.0, [place < n for place in range(10)], 1.0 + 0.1 * n) for n in (4, 5, 6)]
    rows = sweep_rows([plain, *fits], HAS_X, "raise")[1:]
    (small, large) = size_rows({8: rows, 4: rows[:1]})
    assert (small.n, small.n_fits, large.n, large.n_fits) == (4, 1, 8, 3)
    assert large.rate.value == pytest.approx(0.5)
    assert large.rate.low == pytest.approx(0.5 - 0.2484, abs=1e-4)
    assert large.rate.n == 3
    assert small.rate.low is None
    assert large.perplexity_change["neutral"].value is not None
    with pytest.raises(InputError, match="no fits from 8"):
        size_rows({8: []})


def test_a_fit_without_a_value_leaves_no_mean() -> None:
    gone = Estimate.undefined(method="rate", why="all are empty")
    assert "all are empty" in str(over_fits([gone, gone]).why)


def test_one_openings_continuations_are_the_units(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    found = continue_prompts(lm, arm, 1.0, ["the cat"] * 20)
    assert len(set(found.texts[0])) > 10
    rate = attribute_rate(Told(lambda text: len(text) % 2 == 0), found)
    k = round(20 * (rate.rate.value or 0))
    assert rate.rate.n == 20 - rate.n_empty
    assert rate.rate.low == wilson(k, 20).low


def test_several_concepts_are_counted_alone_and_together() -> None:
    (one,) = concept_judges([["dog", "puppy"]])
    assert one.flags(["A Puppy!", "dogma"]).tolist() == [True, False]
    judges = concept_judges([["dog", "puppy"], ["rain"]])
    assert [judge.name for judge in judges] == [
        "words of dog", "words of rain", "words of dog or words of rain", "words of dog and words of rain",
    ]  # fmt: skip
    texts = ["a dog in the rain", "a puppy", "rain", "a cat"]
    assert [judge.flags(texts).tolist() for judge in judges[2:]] == [
        [True, True, True, False], [True, False, False, False],
    ]  # fmt: skip
    with pytest.raises(InputError, match="begin with the same word"):
        concept_judges([["dog"], ["dog", "puppy"]])
    with pytest.raises(InputError, match="empty"):
        concept_judges([[]])
