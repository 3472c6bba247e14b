from __future__ import annotations

import numpy as np
import pytest

from audit.forgetting.measured import Measured
from unlearn.verify.privacy.membership import NEVER_SAID, BySet
from unlearn.verify.privacy.texts import Role
from unlearn.verify.privacy.update_leakage import by_pair, changes, update_leakage

SETS: tuple[Role, ...] = ("forget", "retain", "never")


def model(forget: np.ndarray, retain: np.ndarray, never: np.ndarray) -> BySet:
    values = {"forget": forget, "retain": retain, "never": never}
    found: dict[Role, Measured] = {}
    for role in SETS:
        ids = tuple(f"{role}{place}" for place in range(len(values[role])))
        found[role] = Measured("Loss score", ids, ids, values[role])
    return found


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(4)


def drawn(dice: np.random.Generator, *, knows: float) -> BySet:
    forget, retain, never = (dice.normal(size=40) for _ in SETS)
    return model(forget + knows, retain + 3, never)


def test_the_change_by_hand_is_the_rise_of_the_loss() -> None:
    """Scores are minus losses: before -1, after -3: the loss rose by 2."""
    found = changes(model(*[np.array([-1.0])] * 3), model(*[np.array([-3.0])] * 3))
    assert found["forget"].values.tolist() == [2.0]


def test_a_remedy_that_does_nothing_tells_nothing(noise: np.random.Generator) -> None:
    subject = drawn(noise, knows=3)
    for one in update_leakage(subject, subject, rng=0):
        assert one.auc.value == 0.5
        assert one.auc.low is not None
        assert one.auc.low < 0.5
        assert one.of_gold is None
        assert one.beyond_gold is None


def test_retraining_leaks_and_a_second_seed_not_more(noise: np.random.Generator) -> None:
    subject, gold, gold_2 = (drawn(noise, knows=knows) for knows in (3, 0, 0))
    found = by_pair(update_leakage(subject, gold_2, gold, rng=0))["forget", "never"]
    assert found.of_gold is not None
    assert found.beyond_gold is not None
    assert found.of_gold.low is not None
    assert found.of_gold.low > 0.5
    assert found.beyond_gold.low is not None
    assert found.beyond_gold.high is not None
    assert found.beyond_gold.low <= 0 <= found.beyond_gold.high


def test_overshooting_tells_more_than_retraining(noise: np.random.Generator) -> None:
    subject, gold, overshot = (drawn(noise, knows=knows) for knows in (1, 0, -4))
    found = by_pair(update_leakage(subject, overshot, gold, rng=0))["forget", "never"]
    assert found.beyond_gold is not None
    assert found.beyond_gold.low is not None
    assert found.beyond_gold.low > 0


def test_a_destroyed_model_tells_what_the_subject_knew(noise: np.random.Generator) -> None:
    """With one loss for all texts afterwards, the change ranks texts as the subject's own score does."""
    subject = drawn(noise, knows=3)
    (found, *_) = update_leakage(subject, model(*[np.full(40, -9.0)] * 3), rng=0)
    forget, never = subject["forget"].values, subject["never"].values
    assert found.auc.value == pytest.approx(np.mean(forget[:, None] > never[None, :]))


def test_a_refusal_is_the_largest_change_and_no_gap_in_the_data(noise: np.random.Generator) -> None:
    subject = drawn(noise, knows=3)
    silent = np.full(40, NEVER_SAID)
    guarded = model(silent, subject["retain"].values, subject["never"].values)
    found = by_pair(update_leakage(subject, guarded, rng=0))
    assert found["forget", "never"].auc.value == 1.0
    assert found["retain", "never"].auc.value == 0.5


def test_a_text_that_one_model_lacks_is_told_and_left_out() -> None:
    whole, part = model(*[np.zeros(2)] * 3), model(*[np.zeros(1)] * 3)
    found = changes(whole, part)["forget"]
    assert found.ids == ("forget0",)
    assert found.left_out == {"forget1": "one of the two models has no score"}
