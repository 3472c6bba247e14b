from __future__ import annotations

import numpy as np
import pytest

from audit.errors import InputError
from audit.forgetting.measured import Measured
from unlearn.verify.privacy.priv_leak import CONVENTIONS, Convention, priv_leak, priv_leak_of

# forget (non-member) against holdout (member), Min-40%: MUSE's released AUCs, and PrivLeak in its table
PUBLISHED = [
    ("News, target", 0.0009, 0.4772, -99.8),
    ("News, WHP", 1.0, 0.4772, 109.6),
    ("Books, target", 0.2291, 0.5393, -57.5),
]


def min_40(values: list[float] | np.ndarray, of: str, clusters: list[str] | None = None) -> Measured:
    ids = tuple(f"{of}{place}" for place in range(len(values)))
    return Measured("Min-40% score", ids, ids if clusters is None else tuple(clusters), np.asarray(values, dtype=float))


@pytest.mark.parametrize(("what", "model", "gold", "expected"), PUBLISHED)
def test_the_published_table_follows_from_the_released_aucs(
    what: str, model: float, gold: float, expected: float
) -> None:
    """(M_model - M_gold) / M_gold x 100; with forget as the member the AUCs are 1 - M and open-unlearning agrees."""
    assert priv_leak_of(model, gold, convention="muse") == pytest.approx(expected, abs=0.06), what
    assert priv_leak_of(1 - model, 1 - gold, convention="open-unlearning") == pytest.approx(expected, abs=0.06)


def test_without_1_minus_auc_sign_and_denominator_are_others() -> None:
    """News target: A = .9991 against .5228: (.9991 - .5228) / .5228 = .9110."""
    assert priv_leak_of(0.9991, 0.5228, convention="rel-diff") == pytest.approx(91.1, abs=0.05)


def test_three_values_by_hand() -> None:
    """Of 20 texts each. Gold: forget 1 and 3, never 2: A = 1/2. Remedied: forget 2 and 3: A = (1/2 + 1)/2 = 3/4.

    muse: M = 1/4 against 1/2: -50. open-unlearning: AUCs 3/4 and 1/2, 1 - AUC as before: -50. rel-diff: +50.
    """
    never = min_40([2] * 40, "n")
    remedied, gold = (min_40([2, 3] * 20, "f"), never), (min_40([1, 3] * 20, "f"), never)
    found = {one: priv_leak(remedied, gold, convention=one, rng=0) for one in CONVENTIONS}
    assert {name: one.value.value for name, one in found.items()} == {
        "muse": -50,
        "open-unlearning": -50,
        "rel-diff": 50,
    }
    assert (found["muse"].auc_remedied.value, found["muse"].auc_gold.value) == (0.25, 0.5)
    assert (found["open-unlearning"].auc_remedied.value, found["open-unlearning"].auc_gold.value) == (0.75, 0.5)


@pytest.mark.parametrize("convention", ["muse", "open-unlearning"])
def test_undefined_where_gold_has_all_forget_above_never(convention: Convention) -> None:
    remedied, gold = (min_40([1, 2], "f"), min_40([1, 2], "n")), (min_40([5, 6], "f"), min_40([1, 2], "n"))
    found = priv_leak(remedied, gold, convention=convention, rng=0).value
    assert found.value is None
    assert "denominator is 0" in str(found.why)
    assert np.isnan(priv_leak_of(0.5, 0.0 if convention == "muse" else 1.0, convention=convention))


def test_gold_against_itself_is_0_and_the_subject_is_outside_what_muse_wants() -> None:
    dice = np.random.default_rng(0)
    forget, never = dice.normal(size=60), min_40(dice.normal(size=60), "n")
    gold = min_40(forget, "f"), never
    assert priv_leak(gold, gold, rng=0).value.value == 0.0
    found = priv_leak((min_40(forget + 4, "f"), never), gold, rng=0)
    assert found.value.value is not None
    assert found.value.value < -90
    assert found.within_wanted is False
    assert "collapsed" in str(found.value.why)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_any_rising_function_of_the_scores_gives_the_same(convention: Convention) -> None:
    dice = np.random.default_rng(1)
    values = [dice.normal(size=20) for _ in range(4)]
    plain = [min_40(one, name) for one, name in zip(values, "fnfn", strict=True)]
    bent = [min_40(np.exp(one), name) for one, name in zip(values, "fnfn", strict=True)]
    found = [priv_leak((a, b), (c, d), convention=convention, rng=5).value for a, b, c, d in (plain, bent)]
    assert found[0] == found[1]


def test_another_score_and_another_convention_are_refused() -> None:
    loss = Measured("Loss score", ("a",), ("a",), np.zeros(1)), Measured("Loss score", ("b",), ("b",), np.zeros(1))
    with pytest.raises(InputError, match="Min-40%"):
        priv_leak(loss, loss, rng=0)
    with pytest.raises(InputError, match="'open-unlearning'"):
        priv_leak_of(0.5, 0.5, convention="tofu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="auc_gold is 47.7"):
        priv_leak_of(0.5, 47.7, convention="muse")


@pytest.mark.slow
def test_under_exchangeable_scores_the_interval_holds_0_at_its_level() -> None:
    """Two models whose scores go up and down together, 40 + 40 texts, 200 data sets: at least 91% of 95%."""
    dice = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        shared = [dice.normal(size=40) for _ in range(2)]
        models = [
            tuple(min_40(one + 0.5 * dice.normal(size=40), of) for one, of in zip(shared, "fn", strict=True))
            for _ in "ug"
        ]
        found = priv_leak((models[0][0], models[0][1]), (models[1][0], models[1][1]), rng=0).value
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    assert hits >= 182, hits
