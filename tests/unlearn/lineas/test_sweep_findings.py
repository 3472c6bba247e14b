"""What is said of a comparison: better only where every judge's whole interval is, and plainly where not."""

from __future__ import annotations

import pytest

from audit.stats.estimate import Estimate
from unlearn.lineas.evaluate.matched import Matched
from unlearn.lineas.sweep_findings import _poor, _verdict
from unlearn.lineas.sweep_made import outcome_of


def one(value: float | None, low: float | None, high: float | None) -> Estimate:
    return Estimate(value, low, high, 0.95, 40, "difference", None if low is not None else "out of reach")


def compared(gap: Estimate) -> Matched:
    return Matched("ours", 1.0, "theirs", 4.0, 0.5, one(0.5, 0.4, 0.6), one(0.4, 0.3, 0.5), gap)


@pytest.mark.parametrize(
    ("gap", "raised", "lowered"),
    [
        (one(0.2, 0.1, 0.3), "better", "worse"),
        (one(-0.2, -0.3, -0.1), "worse", "better"),
        (one(0.2, -0.1, 0.5), "no difference shown", "no difference shown"),
        (one(1.0, None, None), "no interval", "no interval"),
        (one(None, None, None), "not comparable", "not comparable"),
    ],
)
def test_the_interval_decides(gap: Estimate, raised: str, lowered: str) -> None:
    assert outcome_of(compared(gap), "raise") == raised
    assert outcome_of(compared(gap), "lower") == lowered


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        (["better", "better"], "A is better than B"),
        (["worse", "worse"], "does not beat B at the same perplexity of neutral texts: it is worse"),
        (["better", "worse"], "judges contradict each other"),
        (["better", "no difference shown"], "does not beat B at the same perplexity of neutral texts by every judge"),
        (["no difference shown", "worse"], "A does not beat B"),
        (["not comparable", "no interval"], "cannot be compared"),
    ],
)
def test_judges_must_agree(outcomes: list[str], words: str) -> None:
    assert words in _verdict("A", "B", outcomes)


def test_poor_judges_are_named() -> None:
    def judge(name: str, auroc: Estimate) -> dict[str, object]:
        return {"name": name, "quality": {"auroc": auroc}}

    told = _poor([
        judge("good", one(0.95, 0.9, 0.99)), judge("weak", one(0.75, 0.7, 0.8)), judge("small", one(0.95, 0.7, 1.0)),
        judge("coin", one(0.6, 0.45, 0.75)), {"name": "folder"},
    ])  # fmt: skip
    assert len(told) == 4
    assert "weak is poor" in told[0]
    assert "That the judge small is good is not shown" in told[1]
    assert "coin is not shown to be better than a coin" in told[2]
    assert "folder is was not measured" in told[3]
