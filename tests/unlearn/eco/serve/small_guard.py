"""A guard of dogs in front of a tiny random model, and what runs jobs on an engine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from audit.answers.formats import Prompt, PromptFormat
from audit.lm.hooks import hooked
from audit.lm.load import LanguageModel, load
from tests.checkpoints import build_checkpoint
from unlearn.eco.classifier import PromptScores
from unlearn.eco.corruptions import Corruption
from unlearn.eco.guard import EcoGuard, GuardSettings
from unlearn.eco.judge import Judge
from unlearn.eco.serve.drawing import Draw
from unlearn.eco.serve.engine import Engine, Limits
from unlearn.eco.serve.jobs import Ended, Event, Failed, Job, Piece

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
PROMPTS = ("the cat sat", "the dog ran over the hill", "a", "what of the dog and the cat on the mat?", "hill, hill!")
"""The second and the fourth are flagged; one of them is a single token."""


class Dogs:
    """Scores 1 where a text names a dog."""

    def scores(self, texts: Sequence[str]) -> PromptScores:
        p = np.array([float("dog" in text) for text in texts])
        return PromptScores(p, np.ones(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_))


def load_small(folder: Path, architecture: str = "llama", **changes: Any) -> LanguageModel:
    build_checkpoint(folder, architecture, **changes)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return load(folder)


def guard_of(lm: LanguageModel, *, form: PromptFormat | None = None) -> EcoGuard:
    settings = GuardSettings("dogs", Corruption(strength=2.0, dims=8), format=form or PromptFormat("chat"))
    return EcoGuard(lm, Judge(Dogs(), 0.5, key=b"sixteen bytes ok"), settings)


@contextmanager
def running(guard: EcoGuard, **limits: Any) -> Iterator[Engine]:
    engine = Engine(guard, limits=Limits(**limits))
    engine.start()
    yield engine
    engine.stop(seconds=5)


class Asker:
    """A job, and what it heard."""

    def __init__(self, prompt: Prompt, *, seconds: float | None = 60, **draw: Any) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.job = Job(
            prompt, Draw(**{"max_new_tokens": 12, "temperature": 0.0, **draw}), self.events.put, seconds=seconds
        )

    def wait(self, *kinds: type) -> Event:
        """The next event of these kinds; others before it are dropped."""
        while True:
            event = self.events.get(timeout=30)
            if isinstance(event, kinds):
                return event

    def answer(self) -> tuple[str, Ended | Failed]:
        text = ""
        while True:
            event = self.wait(Piece, Ended, Failed)
            if not isinstance(event, Piece):
                return text, event
            text += event.text


def ready(engine: Engine) -> None:
    """Past the engine's own first look at the model."""
    asker = Asker(PROMPTS[0])
    engine.submit([asker.job])
    asker.answer()


class Paused:
    """Holds the model at its first call until the block ends."""

    def __init__(self, guard: EcoGuard) -> None:
        self._module = guard.lm.model.get_input_embeddings()
        self._go, self._reached = threading.Event(), threading.Event()

    def _hold(self, *_: Any) -> None:
        self._reached.set()
        self._go.wait(10)

    def wait(self) -> None:
        assert self._reached.wait(10)

    def __enter__(self) -> Paused:
        self._context = hooked(self._module, self._hold)
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._go.set()
        self._context.__exit__(*error)


def alone(guard: EcoGuard, prompt: Prompt, *, n_new: int = 12) -> str:
    """The guard's own greedy answer, one prompt at a time."""
    lm = guard.lm
    prepared = guard.prepare([prompt])
    ids = guard.generate(
        prepared, max_new_tokens=n_new, do_sample=False, eos_token_id=list(guard.stop_ids), pad_token_id=2
    )[0, prepared.input_ids.shape[1] :]
    return str(lm.tokenizer.decode(ids, skip_special_tokens=True))


def value(engine: Engine, name: str, **labels: str) -> float:
    """One number of the engine's counters."""
    found = engine.counters._open.get_sample_value(name, labels)
    return found or 0.0
