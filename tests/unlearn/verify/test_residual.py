"""Residuals on numbers that are worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from audit.errors import InputError
from audit.forgetting.gap import gap_closed
from audit.forgetting.measured import Measured
from unlearn.verify.residual import recovered, residual, residual_without_gold


def measured(values: list[float], name: str = "probability") -> Measured:
    ids = tuple(f"{name[0]}{place}" for place in range(len(values)))
    return Measured(name, ids, tuple(f"c{place // 2}" for place in range(len(values))), np.array(values))


SUBJECT, GOLD = [0.9, 0.7, 0.8, 0.8], [0.1, 0.1, 0.2, 0.0]


def test_halfway_is_a_half_and_the_ends_are_one_and_nought() -> None:
    """Means .8 and .1: the gap is .7; a model at .45 keeps .35 of it, which is half."""
    subject, gold = measured(SUBJECT), measured(GOLD)
    half = measured([(a + b) / 2 for a, b in zip(SUBJECT, GOLD, strict=True)])
    found = residual(subject, half, gold, rng=0)
    assert found.value == pytest.approx(0.5)
    assert found.n == 2
    assert residual(subject, subject, gold, rng=0).value == pytest.approx(1.0)
    assert residual(subject, gold, gold, rng=0).value == pytest.approx(0.0)
    below = residual(subject, measured([value - 0.35 for value in GOLD]), gold, rng=0)
    assert below.value == pytest.approx(-0.5)


def test_the_interval_is_that_of_the_gap_closed_turned_round() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(40)
    subject, remedied, gold = (measured((base + shift + rng.normal(0, 0.1, 40)).tolist()) for shift in (1, 0.3, 0))
    found = residual(subject, remedied, gold, rng=0)
    closed = gap_closed(subject, remedied, gold, rng=0)
    assert (found.low, found.high) == (1 - (closed.high or 0), 1 - (closed.low or 0))
    assert (found.low or 0) < 0.3 < (found.high or 0)


def test_a_loss_falls_as_more_is_known() -> None:
    """Subject's loss 1, gold's 3, the remedied model's 2.5: a quarter of the gap is left. Read the other way round,
    gold would be the one that knows."""
    subject, remedied, gold = (measured([value] * 4, "loss") for value in (1.0, 2.5, 3.0))
    assert residual(subject, remedied, gold, falls=True, rng=0).value == pytest.approx(0.25)
    wrong = residual(subject, remedied, gold, rng=0)
    assert wrong.value is None
    assert "gold knows more" in (wrong.why or "")


def test_where_there_is_no_gap_nothing_is_said() -> None:
    subject, gold = measured([0.5, 0.1, 0.1, 0.5]), measured([0.1, 0.5, 0.5, 0.1])
    found = residual(subject, subject, gold, rng=0)
    assert found.value is None
    assert "no gap" in (found.why or "")
    subject, gold = measured([0.5, 0.5, 0.1, 0.1]), measured([0.1, 0.1, 0.5, 0.5])
    wide = residual(subject, subject, gold, rng=0)
    assert "one of about 0.4 would be seen" in (wide.why or "")


def test_an_attack_is_divided_by_the_plain_gap() -> None:
    """Plain gap .8; under the attack the remedied model has .5 and gold .1: .4 / .8. If the attack lifts gold as high,
    nothing came back."""
    four = [measured([value] * 4) for value in (0.9, 0.1, 0.5, 0.1)]
    assert recovered(*four, rng=0).value == pytest.approx(0.5)
    assert recovered(four[0], four[1], four[2], four[2], rng=0).value == pytest.approx(0.0)
    none = recovered(four[1], four[1], four[2], four[3], rng=0)
    assert none.value is None
    assert none.why


def test_other_rows_under_the_attack_are_refused() -> None:
    subject, gold = measured(SUBJECT), measured(GOLD)
    other = measured([0.5] * 4, "other rows")
    with pytest.raises(InputError, match="share no item"):
        recovered(subject, gold, other, other, rng=0)


def test_without_gold_never_seen_rows_stand_in() -> None:
    """Subject .9 on forget and .1 on never rows, the remedied model .3 and .1: .2 / .8 is left. One that loses
    everything alike, .3 and .3, has nothing left beyond them."""
    subject = measured([0.9, 0.7, 0.9, 0.9, 1.0, 1.0]), measured([0.1] * 6, "never")
    remedied = measured([0.3] * 6), measured([0.1] * 6, "never")
    assert residual_without_gold(subject, remedied, rng=0).value == pytest.approx(0.2 / 0.8)
    ruined = measured([0.3] * 6), measured([0.3] * 6, "never")
    assert residual_without_gold(subject, ruined, rng=0).value == pytest.approx(0.0)
    knows_nothing = measured([0.1] * 6), measured([0.1] * 6, "never")
    assert residual_without_gold(knows_nothing, remedied, rng=0).value is None


def test_without_gold_a_single_person_says_nothing_and_the_smaller_side_counts() -> None:
    """Four rows of one person against six clusters; then two people against three."""
    subject = replace(measured([0.9, 0.7, 0.9, 0.9]), passages=("a",) * 4), measured([0.1, 0.2] * 6, "never")
    remedied = replace(measured([0.5] * 4), passages=("a",) * 4), measured([0.1, 0.2] * 6, "never")
    found = residual_without_gold(subject, remedied, rng=0)
    assert (found.value, found.n) == (None, 1)
    two = tuple(replace(one[0], passages=("a", "a", "b", "b")) for one in (subject, remedied))
    assert residual_without_gold((two[0], subject[1]), (two[1], remedied[1]), rng=0).n == 2


def test_without_gold_rows_that_are_only_harder_are_no_knowledge() -> None:
    """Nobody knows anything; forget rows are harder than never rows, .35 against .65, before and after."""
    hard, easy = measured([0.3, 0.4] * 6), measured([0.6, 0.7] * 6, "never")
    found = residual_without_gold((hard, easy), (hard, easy), rng=0)
    assert found.value is None
    assert "they are easier" in (found.why or "")
