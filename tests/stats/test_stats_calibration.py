"""Every promise of `audit.stats`, kept over 2,000 simulated data sets (10,000 in the slow tests).

The cases, and the bounds that they are held to, stand in tests/benchmarks/calibrate_stats.py, which prints them.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load_cases() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "calibrate_stats.py"
    spec = importlib.util.spec_from_file_location("calibrate_stats", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibrate_stats"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


CASES = load_cases()
PROMISES = CASES.TESTS + CASES.INTERVALS


def named(case: Any) -> str:
    return f"{case.function}: {case.design}"


@pytest.mark.parametrize("case", [case for case in PROMISES if not case.slow], ids=named)
def test_promise_is_kept_over_500_data_sets(case: Any) -> None:
    low, high = case.accepted(500)
    assert low <= case.measure(500) / 500 <= high


@pytest.mark.slow
@pytest.mark.parametrize("case", PROMISES, ids=named)
def test_promise_is_kept_over_10000_data_sets(case: Any) -> None:
    low, high = case.accepted(10_000, at_once=len(PROMISES))
    assert low <= case.measure(10_000) / 10_000 <= high


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.CAUTIONS, ids=named)
def test_caution_is_warranted(case: Any) -> None:
    """Where the documentation says that a promise fails, it does fail; else the warning is out of date."""
    low, high = case.accepted(10_000)
    assert not low <= case.measure(10_000) / 10_000 <= high


def test_the_printed_table_marks_what_falls_outside() -> None:
    always = CASES.covers("made up", "an interval that always covers", lambda rng: True)
    promised = CASES.covers_at_least("made up", "the same, promised", lambda rng: True)
    text = CASES.markdown("Title", (always, promised), 50)
    assert "| `made up` | an interval that always covers | 93.0% to 97.0% | 100.0% | **outside** |" in text
    assert "| `made up` | the same, promised | 86.0% to 100.0% | 100.0% |  |" in text
