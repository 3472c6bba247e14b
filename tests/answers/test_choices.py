"""Multiple choice: ties, silence, options of several numbers, chance."""

from __future__ import annotations

import numpy as np
import pytest

from audit.answers.choices import chosen, measure_choices
from audit.answers.rows import ChoiceRow
from audit.errors import InputError
from tests.unlearn.eco.evaluate.small_systems import Told


def rows(n: int, *, k: int = 4, first: int = 0) -> list[ChoiceRow]:
    options = tuple(f"option {place}" for place in range(k))
    return [ChoiceRow(str(place), str(place), f"question {place}?", options, 1) for place in range(first, first + n)]


def test_ties_count_in_no_options_favour() -> None:
    logits = np.array([[0.0, 2, 1, 1], [3, 1, 0, 0], [2, 2, 1, 2], [1, 1, 1, 1], [np.nan] * 4, [-np.inf, 0, -1, -2]])
    scores, n_silent, n_tied = chosen(logits, np.full(6, 1))
    assert scores.tolist() == [1, 0, 1 / 3, 1 / 4, 0, 1]
    assert (n_silent, n_tied) == (1, 2)


def test_accuracy_has_an_interval_and_says_who_was_silent() -> None:
    silent = Told(logits=lambda text: [np.nan] * 4 if "question 3?" in text else [0, float("question 1" in text), 0, 0])
    found = measure_choices(silent, rows(4), "physics")
    assert found.measured.values.tolist() == [0.25, 1, 0.25, 0]
    estimate = found.estimate(rng=0)
    assert estimate.value == 0.375
    assert (found.chance, found.n_unanswered, found.n_tied) == (0.25, 1, 2)
    assert "1 question not answered" in str(estimate.why)
    assert estimate.low is not None


def test_questions_of_several_sizes_are_asked_by_size_and_keep_their_order() -> None:
    mixed = [*rows(1), *rows(2, k=2, first=1), *rows(1, first=3)]
    told = Told(logits=lambda text: [0, 1] if "C." not in text else [1, 0, 0, 0])
    found = measure_choices(told, mixed, "all")
    assert found.measured.values.tolist() == [0, 1, 1, 0]
    assert found.chance == pytest.approx((0.25 + 0.5 + 0.5 + 0.25) / 4)


def test_no_questions_and_wrong_logits_are_refused() -> None:
    with pytest.raises(InputError, match="no multiple-choice questions of law"):
        measure_choices(Told(), [], "law")
    with pytest.raises(InputError, match=r"shape \(2, 3\) for 2 questions of 4"):
        measure_choices(Told(logits=lambda _: [0, 0, 0]), rows(2), "law")
