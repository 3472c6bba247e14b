"""What a guard adds to the time of a request, clean or flagged, and which part of it adds what.

A request is timed up to its first token (prompt, prefill): all of a guard's work lies there, and its answer may be of
another length than the bare model's, which would be taken for a delay. Bare model and guards take the same prompts in
turn, in an order that rotates, so that a busy machine slows all of them; each added time is a difference of
neighbours, and can be below 0 by chance. Percentages are of the bare model's time for that very prompt: to its first
token, and for a whole answer.

Every prompt is passed once before anything is timed. After that, a guard that remembers verdicts has met them all:
"verdict known". `without_memory` makes one that never has. (An encoder with a cache of vectors on disk would remember
as well: load it without.)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch

from audit.answers.systems import Bare, Prepared
from audit.errors import InputError
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Floats, Seed, count, generator
from audit.stats.estimate import Estimate

from ..guard import EcoGuard
from ..judge import Judge

Traffic: TypeAlias = Literal["clean", "flagged"]
QUANTILES: Final = {"p50": 0.5, "p95": 0.95}


@dataclass(frozen=True, slots=True)
class Delay:
    """One line of the table.

    Attributes:
        traffic: Which prompts.
        what: What was timed.
        unit: "ms" or "%".
        p50: Median over requests.
        p95: 95th percentile.
    """

    traffic: Traffic
    what: str
    unit: str
    p50: Estimate
    p95: Estimate


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of the requests of one kind; delays follow from them.

    Attributes:
        traffic: Which prompts.
        steps: Step -> seconds, shape (prompts, rounds).
        whole: Seconds of the bare model's whole answer, shape (prompts,).
        n_new: Tokens of that answer, at most.
    """

    traffic: Traffic
    steps: Mapping[str, Floats]
    whole: Floats
    n_new: int


def without_memory(guard: EcoGuard) -> EcoGuard:
    """The same guard, which scores every prompt anew; its noise has a key of its own."""
    twin = copy.copy(guard)
    judge = guard.judge
    twin.judge = Judge(judge.scorer, judge.threshold, matcher=judge.matcher, remember=0)
    return twin


def measure_latency(
    bare: Bare,
    guard: EcoGuard,
    prompts: Sequence[str],
    *,
    n_rounds: int = 10,
    max_new_tokens: int = 64,
    seed: int,
    level: float = 0.95,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Delay]:
    """Delays of clean and of flagged prompts, one request at a time.

    Args:
        bare: The model alone.
        guard: The same model behind the guard, with a memory of verdicts.
        prompts: Single prompts as they come in use, one or more; the guard says which are clean.
        n_rounds: How often each prompt is timed.
        max_new_tokens: Of the whole answer whose time is the second percentage's base.
        seed: Of the intervals' draws; prompts are resampled.
        level: Confidence level, in (0, 1).
        clock: Seconds.

    Raises:
        InputError: There are no prompts, or one does not fit the model.
    """
    timed = timings(bare, guard, prompts, n_rounds=n_rounds, max_new_tokens=max_new_tokens, clock=clock)
    return delays(timed, seed=seed, level=level)


def timings(
    bare: Bare,
    guard: EcoGuard,
    prompts: Sequence[str],
    *,
    n_rounds: int = 10,
    max_new_tokens: int = 64,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timed]:
    """Seconds of clean and of flagged prompts; arguments as in `measure_latency`."""
    if not prompts:
        raise InputError("there are no prompts to time; expected one or more, clean and flagged.")
    count(n_rounds, "n_rounds", least=1)
    timer = _Timer(bare, clock)
    cold = without_memory(guard)
    steps: dict[str, Callable[[str], float]] = {
        "bare": lambda prompt: timer.first_token(bare, prompt),
        "new": lambda prompt: timer.first_token(cold, prompt),
        "known": lambda prompt: timer.first_token(guard, prompt),
        "classifier": lambda prompt: timer.of(lambda: guard.judge.scorer.scores([prompt])),
        "corruption": lambda prompt: timer.corruption(bare, guard, prompt),
    }
    if (matcher := guard.judge.matcher) is not None:
        steps["matcher"] = lambda prompt: timer.of(lambda: matcher.find(prompt))
    flags = guard.flagged(prompts)
    found: list[Timed] = []
    kinds: tuple[tuple[Traffic, bool], ...] = (("clean", False), ("flagged", True))
    for traffic, is_flagged in kinds:
        chosen = [prompt for prompt, flag in zip(prompts, flags, strict=True) if bool(flag) is is_flagged]
        if chosen:
            seconds = _rounds(steps, chosen, n_rounds)
            whole = np.array([timer.answer(bare, prompt, max_new_tokens) for prompt in chosen])
            found.append(Timed(traffic, seconds, whole, max_new_tokens))
    return found


def delays(timed: Sequence[Timed], *, seed: int, level: float = 0.95) -> list[Delay]:
    """Delays from seconds; one generator draws for all of them, in order."""
    draws = generator(seed)
    return [line for one in timed for line in _table(one, draws, level)]


class _Timer:
    """Seconds that something takes, an accelerator's queue included."""

    def __init__(self, bare: Bare, clock: Callable[[], float]) -> None:
        self._is_cuda = bare.lm.device.type == "cuda"
        self._clock = clock
        self._guard_first = True

    def of(self, work: Callable[[], Any]) -> float:
        self._wait()
        start = self._clock()
        work()
        self._wait()
        return self._clock() - start

    def first_token(self, system: Bare, prompt: str) -> float:
        return self.of(lambda: self._prefill(system, system.prepare([prompt])))

    def answer(self, system: Bare, prompt: str, max_new_tokens: int) -> float:
        return self.of(lambda: system.answers([prompt], max_new_tokens=max_new_tokens))

    def prefill(self, system: Bare, prepared: Prepared) -> float:
        return self.of(lambda: self._prefill(system, prepared))

    def corruption(self, bare: Bare, guard: EcoGuard, prompt: str) -> float:
        """The same batch with the hook less without, either first in turn."""
        prepared = guard.prepare([prompt])
        self._guard_first = not self._guard_first
        if self._guard_first:
            return self.prefill(guard, prepared) - self.prefill(bare, prepared)
        without = self.prefill(bare, prepared)
        return self.prefill(guard, prepared) - without

    @torch.inference_mode()
    def _prefill(self, system: Bare, prepared: Prepared) -> None:
        system.forward(prepared, use_cache=True, logits_to_keep=1)

    def _wait(self) -> None:
        if self._is_cuda:
            torch.cuda.synchronize()


def _rounds(steps: dict[str, Callable[[str], float]], prompts: Sequence[str], n_rounds: int) -> dict[str, Floats]:
    """Seconds of each step, shape (prompts, rounds); the first round is not kept, and the order rotates."""
    found = {name: np.zeros((len(prompts), n_rounds + 1)) for name in steps}
    names = list(steps)
    for turn in range(n_rounds + 1):
        for place, prompt in enumerate(prompts):
            first = (turn + place) % len(names)
            for name in names[first:] + names[:first]:
                found[name][place, turn] = steps[name](prompt)
    return {name: values[:, 1:] for name, values in found.items()}


def _table(timed: Timed, draws: Seed, level: float) -> list[Delay]:
    seconds, whole = timed.steps, timed.whole
    bare = seconds["bare"]
    added = {"verdict new": seconds["new"] - bare, "verdict known": seconds["known"] - bare}
    lines: list[tuple[str, str, Floats]] = [
        ("bare model, first token", "ms", 1e3 * bare),
        (f"bare model, answer of up to {timed.n_new} tokens", "ms", 1e3 * whole[:, None]),
    ]
    parts = {"classifier": "classifier", "matcher": "name matcher", "corruption": "corruption"}
    lines += [(what, "ms", 1e3 * seconds[name]) for name, what in parts.items() if name in seconds]
    for name, values in added.items():
        lines += [
            (f"added by the guard, {name}", "ms", 1e3 * values),
            (f"added by the guard, {name}, of the first token's time", "%", 100 * values / bare),
            (f"added by the guard, {name}, of the answer's time", "%", 100 * values / whole[:, None]),
        ]
    return [
        Delay(timed.traffic, what, unit, *(_quantile(values, q, name, draws, level) for name, q in QUANTILES.items()))
        for what, unit, values in lines
    ]


def _quantile(values: Floats, q: float, name: str, draws: Seed, level: float) -> Estimate:
    """Quantile over all requests, prompts resampled."""

    def quantile(sample: Floats, axis: int = -1) -> Floats:
        return np.asarray(np.quantile(sample, q, axis=axis))

    prompts = np.repeat(np.arange(len(values)), values.shape[1])
    found = bootstrap(quantile, values.ravel(), clusters=prompts, level=level, rng=draws)
    return replace(found, method=f"{name} of {values.size} requests, {found.method}")
