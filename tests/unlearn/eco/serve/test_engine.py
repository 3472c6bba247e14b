from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.answers.formats import PromptFormat
from audit.lm.hooks import hooked
from tests.unlearn.eco.serve.small_guard import (
    PROMPTS,
    Asker,
    Dogs,
    Paused,
    alone,
    guard_of,
    load_small,
    ready,
    running,
    value,
)
from unlearn.eco.classifier import PromptScores
from unlearn.eco.guard import EcoGuard
from unlearn.eco.judge import Judge
from unlearn.eco.serve.engine import BusyError, Engine, StoppedError
from unlearn.eco.serve.jobs import Ended, Failed, Started


def test_greedy_answers_joined_at_different_moments_are_those_of_the_guard_alone(guard: EcoGuard) -> None:
    expected = [alone(guard, prompt, n_new=40) for prompt in PROMPTS]
    assert len(set(expected)) == len(PROMPTS)
    with running(guard, max_rows=3) as engine:
        askers = []
        for prompt in PROMPTS:
            askers.append(Asker(prompt, max_new_tokens=40))
            engine.submit([askers[-1].job])
            if len(askers) < 3:
                askers[-1].wait(Started)
        assert engine.batching == "continuous"
        assert [asker.answer()[0] for asker in askers] == expected
        assert engine.n_running == 0


@pytest.mark.parametrize(
    ("architecture", "batching"),
    [
        ("mistral", "continuous"),
        ("gpt2", "continuous"),
        ("phi3", "to the end"),
        ("lfm2", "to the end"),
    ],
)
def test_other_architectures_join_or_fall_back(architecture: str, batching: str, tmp_path: Path) -> None:
    """Long enough to leave Mistral's window of 24 tokens, and to pass Phi-3's switch at 32."""
    guard = guard_of(load_small(tmp_path, architecture))
    expected = [alone(guard, prompt, n_new=30) for prompt in PROMPTS]
    with running(guard, max_rows=4) as engine:
        askers = [Asker(prompt, max_new_tokens=30) for prompt in PROMPTS]
        for asker in askers:
            engine.submit([asker.job])
        assert [asker.answer()[0] for asker in askers] == expected
        assert engine.health()["batching"] == batching


def test_a_prompt_of_one_token_is_answered_beside_longer_ones(tmp_path: Path) -> None:
    guard = guard_of(load_small(tmp_path, bos=False), form=PromptFormat("text"))
    prompts = ("a", PROMPTS[1], "dog")
    assert len(guard.prepare(["a"]).encoded[0].ids) == 1
    with running(guard) as engine:
        askers = [Asker(prompt) for prompt in prompts]
        engine.submit([asker.job for asker in askers])
        assert [asker.answer()[0] for asker in askers] == [alone(guard, prompt) for prompt in prompts]


def test_seeded_samples_do_not_depend_on_who_shares_the_batch(guard: EcoGuard) -> None:
    settings = {"temperature": 1.3, "top_p": 0.9, "seed": -7, "max_new_tokens": 20}
    with running(guard, max_rows=8) as engine:

        def sample(**changes: Any) -> str:
            asker = Asker(PROMPTS[0], **{**settings, **changes})
            engine.submit([asker.job])
            return asker.answer()[0]

        first = sample()
        crowd = [Asker(prompt, temperature=0.7, seed=3, max_new_tokens=60) for prompt in PROMPTS]
        for one in crowd:
            engine.submit([one.job])
            one.wait(Started)
        assert sample() == first
        assert sample(seed=8) != first
        assert sample(index=1) != first


def test_a_bad_prompt_is_failed_alone(guard: EcoGuard) -> None:
    """All wait together, so that they are read together."""
    long = "word " * 200
    with running(guard) as engine:
        askers = [Asker(PROMPTS[0]), Asker(long), Asker(PROMPTS[1]), Asker("the cat", max_new_tokens=127)]
        engine.submit([asker.job for asker in askers])
        answers = [asker.answer() for asker in askers]
    assert answers[0][0] == alone(guard, PROMPTS[0])
    assert answers[2][0] == alone(guard, PROMPTS[1])
    for place, words in ((1, "at most 128"), (3, "128 in all")):
        failed = answers[place][1]
        assert isinstance(failed, Failed)
        assert failed.trouble == "prompt"
        assert words in failed.message


def test_a_cancelled_job_leaves_its_row_and_the_other_goes_on(guard: EcoGuard) -> None:
    with running(guard) as engine:
        gone, staying = Asker(PROMPTS[2], max_new_tokens=100), Asker(PROMPTS[1], max_new_tokens=100)
        for asker in (gone, staying):
            engine.submit([asker.job])
            asker.wait(Started)
        gone.job.cancel()
        assert staying.answer()[0] == alone(guard, PROMPTS[1], n_new=100)
        assert value(engine, "palimpsest_eco_prompts_total", end="cancelled") == 1
        assert gone.job.n_new < 100


def test_late_jobs_and_too_many_are_turned_away(guard: EcoGuard) -> None:
    with running(guard, max_rows=1, max_waiting=2) as engine:
        ready(engine)
        with Paused(guard) as paused:
            first = Asker(PROMPTS[0])
            engine.submit([first.job])
            paused.wait()
            late, other = Asker(PROMPTS[0], seconds=0.01), Asker(PROMPTS[1])
            engine.submit([late.job, other.job])
            with pytest.raises(BusyError):
                engine.submit([Asker(PROMPTS[0]).job])
            time.sleep(0.02)
        failed = late.answer()[1]
        assert isinstance(failed, Failed)
        assert failed.trouble == "deadline"
        assert isinstance(other.answer()[1], Ended)


@pytest.mark.parametrize("when", ["reading", "drawing"])
def test_memory_that_runs_out_is_met_with_halves(guard: EcoGuard, when: str) -> None:
    """More than two rows do not fit: at the last layer, when the other layers have taken the new token in already."""
    expected = [alone(guard, prompt) for prompt in PROMPTS[:4]]
    refused = 0

    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal refused
        if len(output) > 2 and (output.shape[1] > 1) == (when == "reading"):
            refused += 1
            raise RuntimeError("CUDA out of memory")

    with running(guard) as engine, hooked(guard.lm.model.model.layers[-1].mlp, hook):
        askers = [Asker(prompt) for prompt in PROMPTS[:4]]
        engine.submit([asker.job for asker in askers])
        assert [asker.answer()[0] for asker in askers] == expected
        assert engine.alive
    assert refused


def test_halves_are_read_again_with_their_own_corruption_where_a_longrope_model_needs_it(tmp_path: Path) -> None:
    guard = guard_of(load_small(tmp_path, "phi3"))
    prompts = ("the dog sat", "the dog ran")
    n_new = 32 - len(guard.prepare([prompts[0]]).encoded[0].ids) + 4
    expected = [alone(guard, prompt, n_new=n_new) for prompt in prompts]

    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        if len(output) > 1 and output.shape[1] == 1:
            raise RuntimeError("CUDA out of memory")

    with running(guard) as engine, hooked(guard.lm.model.model.layers[-1].mlp, hook):
        askers = [Asker(prompt, max_new_tokens=n_new) for prompt in prompts]
        engine.submit([asker.job for asker in askers])
        assert [asker.answer()[0] for asker in askers] == expected


def test_what_is_wrong_with_one_prompt_in_the_model_is_not_heard_by_the_others(guard: EcoGuard) -> None:

    def hook(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        return output * torch.where(inputs[0].sum(1) == bad, torch.nan, 1.0)[:, None, None]

    bad = int(guard.prepare([PROMPTS[4]]).input_ids.sum())
    with running(guard) as engine, hooked(guard.lm.model.get_input_embeddings(), hook):
        askers = [Asker(PROMPTS[4]), Asker(PROMPTS[1])]
        for asker in askers:
            engine.submit([asker.job])
        failed = askers[0].answer()[1]
        assert isinstance(failed, Failed)
        assert failed.trouble == "server"
        assert askers[1].answer()[0] == alone(guard, PROMPTS[1])
        assert engine.alive


def test_an_engine_whose_model_broke_says_so(guard: EcoGuard) -> None:
    def hook(*_: Any) -> None:
        raise RuntimeError("device-side assert")

    with running(guard) as engine:
        asker = Asker(PROMPTS[0])
        ready(engine)
        with hooked(guard.lm.model.get_input_embeddings(), hook):
            engine.submit([asker.job])
            assert isinstance(asker.answer()[1], Failed)
            engine._thread.join(10)
        assert engine.health()["status"] == "failed"
        with pytest.raises(StoppedError):
            engine.submit([Asker(PROMPTS[0]).job])


def test_a_stop_fails_what_has_not_ended_in_time(guard: EcoGuard) -> None:
    engine = Engine(guard)
    engine.start()
    ready(engine)
    with Paused(guard) as paused:
        asker = Asker(PROMPTS[0], max_new_tokens=100)
        engine.submit([asker.job])
        paused.wait()
        stopping = threading.Thread(target=engine.stop, kwargs={"seconds": 0.01})
        stopping.start()
        time.sleep(0.1)
    stopping.join()
    failed = asker.answer()[1]
    assert isinstance(failed, Failed)
    assert failed.trouble == "closing"


class Stuck(Dogs):
    """Does not come to an end on prompts that say so, until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def scores(self, texts: Sequence[str]) -> PromptScores:
        if any("slow" in text for text in texts):
            self.reached.set()
            assert self.go.wait(30)
        return super().scores(texts)


def stuck_guard(guard: EcoGuard) -> tuple[EcoGuard, Stuck]:
    scorer = Stuck()
    return EcoGuard(guard.lm, Judge(scorer, 0.5, key=b"sixteen bytes ok"), guard.settings), scorer


def test_answers_go_on_while_a_prompt_is_judged(guard: EcoGuard) -> None:
    slow_guard, scorer = stuck_guard(guard)
    with running(slow_guard) as engine:
        try:
            first, slow = Asker(PROMPTS[0], max_new_tokens=90), Asker("slow dog", max_new_tokens=5)
            engine.submit([first.job])
            first.wait(Started)
            with Paused(slow_guard) as paused:  # in the middle of the answer
                paused.wait()
                engine.submit([slow.job])
                assert scorer.reached.wait(10)
                assert engine.health()["waiting"] == 1
                so_far = first.job.n_new
            text, end = first.answer()  # to its end, though nothing else is judged
            assert isinstance(end, Ended)
            assert end.n_new > so_far
            assert slow.events.empty()
        finally:
            scorer.go.set()
        started = slow.wait(Started)
        assert isinstance(started, Started)
        assert started.flagged
        assert slow.answer()[0] == alone(guard, "slow dog", n_new=5)
    assert alone(guard, PROMPTS[0], n_new=90).endswith(text)


def test_a_prompt_that_is_judged_for_too_long_is_turned_away_in_time(guard: EcoGuard) -> None:
    """Nothing runs meanwhile; who waits behind it is turned away as well, and the engine takes the next prompt."""
    slow_guard, scorer = stuck_guard(guard)
    with running(slow_guard) as engine:
        try:
            slow, behind = Asker("slow hill", seconds=0.5), Asker(PROMPTS[0], seconds=0.5)
            engine.submit([slow.job])
            assert scorer.reached.wait(10)
            engine.submit([behind.job])
            for asker in (slow, behind):
                failed = asker.answer()[1]
                assert isinstance(failed, Failed)
                assert failed.trouble == "deadline"
        finally:
            scorer.go.set()
        after = Asker(PROMPTS[1])
        engine.submit([after.job])
        assert after.answer()[0] == alone(guard, PROMPTS[1])
        assert (engine.n_waiting, engine.n_running) == (0, 0)


def test_a_classifier_that_fails_fails_its_own_prompt_alone(guard: EcoGuard) -> None:
    class Broken(Dogs):
        def scores(self, texts: Sequence[str]) -> PromptScores:
            if any("broken" in text for text in texts):
                raise ValueError("secret")
            return super().scores(texts)

    broken = EcoGuard(guard.lm, Judge(Broken(), 0.5, key=b"sixteen bytes ok"), guard.settings)
    with running(broken) as engine:
        askers = [Asker(text) for text in (PROMPTS[0], "broken", PROMPTS[1])]
        engine.submit([asker.job for asker in askers])
        answers = [asker.answer() for asker in askers]
        assert [answers[0][0], answers[2][0]] == [alone(guard, PROMPTS[0]), alone(guard, PROMPTS[1])]
        failed = answers[1][1]
        assert isinstance(failed, Failed)
        assert (failed.trouble, "secret" in failed.message) == ("server", False)
        assert engine.health()["status"] == "ok"
