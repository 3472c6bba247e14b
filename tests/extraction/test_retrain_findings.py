"""The verdict on retraining, found where it was planted; how often it errs is in ``test_retrain_intervals``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from audit.extraction.finetune import SMALL, Pair
from audit.extraction.retrain import BASE, EXTRACTED, ORIGINAL, SHUFFLED, arm_results, differences, share_of_gain
from audit.extraction.retrain_findings import make_section, overall
from audit.extraction.retrain_rows import Arms
from audit.runs.schema import AuditSection, Finding
from audit.stats.estimate import Estimate

Losses = Mapping[str, NDArray[np.float64]]  # arm -> (trainings, rows), of the base (1, rows)
N_ROWS = 200


def table_of(losses: Losses, *, n_answer: float = 10.0) -> pa.Table:
    """What `retrain` would give for these losses in nats a token."""
    columns: dict[str, list[object]] = {"arm": [], "seed": [], "answer_nats": []}
    for arm, of_seeds in losses.items():
        for seed, values in enumerate(of_seeds):
            columns["arm"] += [arm] * len(values)
            columns["seed"] += [None if arm == BASE else seed] * len(values)
            columns["answer_nats"] += (values * n_answer).tolist()
    n = len(columns["arm"])
    numbers = {"n_answer": n_answer, "n_all": 2 * n_answer, "n_rows": 1.0, "exact": 0.0, "n_passes": 3.0}
    numbers |= {"first_loss": 3.0, "last_loss": 1.0}
    whole = {name: [value] * n for name, value in numbers.items()} | {"all_nats": columns["answer_nats"]}
    return pa.table(columns | whole | {"n_tokens": [1_000] * n, "n_steps": [30] * n})


def drawn(rng: np.random.Generator, means: Mapping[str, float], *, n_seeds: int, rows: float, seeds: float) -> Losses:
    """Losses whose arms differ by row and by training; spreads of one row's and of one training's mean."""
    difficulty = rng.normal(0, 0.3, N_ROWS)
    return {
        arm: mean
        + difficulty
        + rng.normal(0, rows, (1, N_ROWS))
        + rng.normal(0, seeds if arm != BASE else 0, (1 if arm == BASE else n_seeds, 1))
        + rng.normal(0, 0.02, (1 if arm == BASE else n_seeds, N_ROWS))
        for arm, mean in means.items()
    }


def verdict(losses: Losses) -> Finding:
    table = table_of(losses)
    return overall(arm_results(table), differences(table, seed=0), n_seeds=len(losses[ORIGINAL]))


PLANTED = {BASE: 4.0, ORIGINAL: 1.0, EXTRACTED: 2.0, SHUFFLED: 3.0}


@pytest.mark.parametrize(
    ("means", "n_seeds", "expected", "told"),
    [
        (PLANTED, 3, "found", "Extracted rows teach what the original rows teach"),
        (PLANTED, 2, "found", "There are 2 trainings for each arm only"),
        (PLANTED, 1, "inconclusive", "Nothing can be concluded: one training shows nothing"),
        (PLANTED | {EXTRACTED: 3.0}, 3, "inconclusive", "may be no more than format and style"),
        (PLANTED | {EXTRACTED: 4.5}, 3, "inconclusive", "This is not a pass"),
        (PLANTED | {ORIGINAL: 4.0}, 3, "inconclusive", "Not even the original rows"),
    ],
)
def test_the_verdict_needs_base_control_and_original(
    means: dict[str, float], n_seeds: int, expected: str, told: str
) -> None:
    found = verdict(drawn(np.random.default_rng(0), means, n_seeds=n_seeds, rows=0.05, seeds=0.005))
    assert found.verdict == expected
    assert told in found.claim


def test_too_few_clusters_conclude_nothing() -> None:
    losses = drawn(np.random.default_rng(0), PLANTED, n_seeds=3, rows=0.05, seeds=0.005)
    found = verdict({arm: values[:, :60] for arm, values in losses.items()})
    assert found.verdict == "inconclusive"
    assert "Nothing can be concluded: the held-out rows count as 60.0 equal clusters, and 100 are needed" in found.claim


def test_shares_of_the_gain_are_worked_by_hand() -> None:
    """Base 4 and 6, original 2 and 2, extracted 3 and 3: (1 + 3) / (2 + 4)."""
    losses = {BASE: [[4, 6]], ORIGINAL: [[1, 1], [3, 3]], EXTRACTED: [[3, 2], [3, 4]]}
    table = table_of({arm: np.array(values, dtype=float) for arm, values in losses.items()})
    share = share_of_gain(table, EXTRACTED, seed=0)
    assert share.value == pytest.approx(4 / 6)
    assert share.low == pytest.approx(0.5)  # both draws the first row, or both the second
    assert share.high == pytest.approx(0.75)
    assert share_of_gain(table, ORIGINAL, seed=0).value == pytest.approx(1)
    useless = table_of({BASE: np.ones((1, 3)), ORIGINAL: np.full((2, 3), 2.0), EXTRACTED: np.ones((2, 3))})
    assert share_of_gain(useless, EXTRACTED, seed=0).value is None
    assert "gain nothing" in (share_of_gain(useless, EXTRACTED, seed=0).why or "")


def section_of(losses: Losses, **changed: object) -> AuditSection:
    pairs = [Pair(str(place), f"q{place}", "a") for place in range(N_ROWS)]
    counts = {
        "rows": {ORIGINAL: pairs[:8], EXTRACTED: pairs[:6]},
        "dealings": dict.fromkeys(range(3), pairs[:6]),
        "held_out": pairs,
        "clusters": [place // 2 for place in range(N_ROWS)],
        "left_out": {ORIGINAL: {}, EXTRACTED: {"no room": 2}, "held out": {}},
        "cut": {ORIGINAL: 1, EXTRACTED: 0, SHUFFLED: 0},
        "n_generations": 12,
        "n_rejected": 2,
        "n_near": 3,
        "other_opening": False,
    }
    return make_section(
        table_of(losses),
        Arms(**(counts | changed)),  # type: ignore[arg-type]
        recipe=SMALL,
        chat_name="tulu",
        seeds=range(3),
        seed=0,
        level=0.9,
    )


def test_a_section_tells_arms_differences_trainings_and_what_was_left_out() -> None:
    section = section_of(drawn(np.random.default_rng(0), PLANTED, n_seeds=3, rows=0.05, seeds=0.01))
    assert [one.id.split(".")[1] for one in section.findings] == ["overall", "share", "trained", "left_out"]
    assert section.findings[0].verdict == "found"
    intervals = {name: one.estimate() for name, one in section.findings[0].estimates.items()}
    assert {(one.n, one.level) for one in intervals.values()} == {(N_ROWS // 2, 0.9)}
    assert "reach 67% of what the original rows gain" in section.findings[1].claim
    assert "original: 8 rows, 1,000 tokens in 30 steps, 3.0 passes" in section.findings[2].claim
    assert "shuffled: 6 rows" in section.findings[2].claim
    left = section.findings[3].claim
    assert "Left out of the extracted rows: 2 (no room)." in left
    assert "Cut off at the recipe's length: 1 original rows." in left
    assert "3 of them have a near-duplicate among the extracted rows" in left
    assert "another opening" not in left
    arms, compared, trainings = section.tables
    assert [column.key for column in arms.columns][-3:] == ["seed_0", "seed_1", "seed_2"]
    assert "seed_0" not in next(row for row in arms.rows if row["arm"] == BASE)
    assert len(compared.rows) == 12
    assert {row["seed"] for row in trainings.rows} == {0, 1, 2}
    assert {row["arm"]: row["n_rows"] for row in trainings.rows} == {ORIGINAL: 8, EXTRACTED: 6, SHUFFLED: 6}
    assert isinstance(intervals["extracted_less_base"], Estimate)
