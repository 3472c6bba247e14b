"""Delays with a clock that a test turns, and on a tiny model."""

from __future__ import annotations

from typing import Any

import pytest

from audit.answers.systems import Bare
from audit.errors import InputError
from tests.unlearn.eco.evaluate.small_systems import bare_and_guard
from unlearn.eco.evaluate.latency import Delay, measure_latency, without_memory
from unlearn.eco.guard import EcoGuard

PROMPTS = ["the cat sat", "who is Zorbla", "the dog ran over"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bare, EcoGuard]:
    return bare_and_guard(tmp_path_factory.mktemp("model"))


def lines(found: list[Delay]) -> dict[tuple[str, str], Delay]:
    return {(one.traffic, f"{one.what}, {one.unit}"): one for one in found}


def test_added_times_are_those_of_the_parts(pair: tuple[Bare, EcoGuard], monkeypatch: pytest.MonkeyPatch) -> None:
    """The model takes 100 ms a pass and the classifier 3 ms a call; a verdict that is known costs nothing."""
    bare, guard = pair
    now = [0.0]

    def slow(seconds: float, work: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            now[0] += seconds
            return work(*arguments, **named)

        return run

    monkeypatch.setattr(bare, "forward", slow(0.1, bare.forward))
    monkeypatch.setattr(guard, "forward", slow(0.1, guard.forward))
    monkeypatch.setattr(bare, "answers", slow(0.6, bare.answers))
    monkeypatch.setattr(guard.judge.scorer, "scores", slow(0.003, guard.judge.scorer.scores))
    found = lines(measure_latency(bare, guard, PROMPTS, n_rounds=3, max_new_tokens=2, seed=0, clock=lambda: now[0]))
    for traffic in ("clean", "flagged"):
        assert found[traffic, "bare model, first token, ms"].p50.value == pytest.approx(100)
        assert found[traffic, "classifier, ms"].p95.value == pytest.approx(3)
        assert found[traffic, "added by the guard, verdict new, ms"].p50.value == pytest.approx(3)
        assert found[
            traffic, "added by the guard, verdict new, of the first token's time, %"
        ].p50.value == pytest.approx(3)
        assert found[traffic, "added by the guard, verdict new, of the answer's time, %"].p95.value == pytest.approx(
            0.5
        )
        assert found[traffic, "added by the guard, verdict known, ms"].p95.value == pytest.approx(0, abs=1e-9)
        assert found[traffic, "corruption, ms"].p50.value == pytest.approx(0, abs=1e-9)
    assert found["clean", "classifier, ms"].p50.n == 2  # prompts are resampled
    assert "p50 of 6 requests" in found["clean", "classifier, ms"].p50.method


def test_a_guard_without_memory_asks_each_time(pair: tuple[Bare, EcoGuard], monkeypatch: pytest.MonkeyPatch) -> None:
    _, guard = pair
    asked: list[str] = []
    scorer = guard.judge.scorer
    own = scorer.scores
    monkeypatch.setattr(scorer, "scores", lambda texts: (asked.extend(texts), own(texts))[1])
    cold = without_memory(guard)
    for _ in range(2):
        assert cold.flagged(["a Zorbla", "a cat"]).tolist() == [True, False]
    assert asked == ["a Zorbla", "a cat"] * 2
    assert guard.judge is not cold.judge


def test_with_a_real_clock_all_lines_are_there(pair: tuple[Bare, EcoGuard]) -> None:
    found = measure_latency(*pair, PROMPTS, n_rounds=2, max_new_tokens=2, seed=0)
    assert {one.traffic for one in found} == {"clean", "flagged"}
    assert len(found) == 2 * 10
    assert len(measure_latency(*pair, PROMPTS[:1], n_rounds=1, max_new_tokens=2, seed=0)) == 10
    with pytest.raises(InputError, match="no prompts to time"):
        measure_latency(*pair, [], seed=0)
