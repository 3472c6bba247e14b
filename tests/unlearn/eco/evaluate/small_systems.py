"""A judge that knows one name, a tiny model bare and guarded, and a system that says what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from audit.answers.formats import Prompt, PromptFormat, messages_of
from audit.answers.rows import QaRow
from audit.answers.systems import Bare, Scope
from audit.lm.load import LanguageModel
from tests.forgetting.small_models import small_model
from unlearn.eco.classifier import PromptScores
from unlearn.eco.corruptions import Corruption
from unlearn.eco.guard import EcoGuard, GuardSettings
from unlearn.eco.judge import Judge

FORM = PromptFormat("text", "Q: ", "\nA: ")
NAME = "Zorbla"


class KnowsTheName:
    """P(forget) 0.9 where all the words stand in a text, else 0.1."""

    def __init__(self, *words: str) -> None:
        self._words = words or (NAME,)

    def scores(self, texts: Sequence[str]) -> PromptScores:
        p = np.array([0.9 if all(word in text for word in self._words) else 0.1 for text in texts])
        return PromptScores(p, np.ones(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_))


def judge() -> Judge:
    return Judge(KnowsTheName(), 0.5, key=bytes(16))


def bare_and_guard(folder: Path) -> tuple[Bare, EcoGuard]:
    lm = small_model(folder)
    settings = GuardSettings("Zorbla", Corruption(strength=1e6, dims=1), format=FORM)
    return Bare(lm, FORM), EcoGuard(lm, judge(), settings)


def qa_rows(n: int, text: str = "the cat {}", *, cluster: int = 1) -> list[QaRow]:
    return [
        QaRow(
            f"{text.format(place)}", f"author {place // cluster}", text.format(place) + " sat?", f"the mat {place}",
            paraphrased_answer=f"on the mat {place}", wrong=("the dog", f"the hill {place}"),
        )
        for place in range(n)
    ]  # fmt: skip


class Told:
    """Its answers, log-probabilities and logits are functions of the texts."""

    name = "told"

    def __init__(
        self,
        lm: LanguageModel | None = None,
        *,
        said: Callable[[str], str] = lambda prompt: prompt,
        log_probs: Callable[[str, str], Sequence[float]] = lambda prompt, answer: [-1.0],
        logits: Callable[[str], Sequence[float]] = lambda prompt: [],
    ) -> None:
        self.lm = cast(LanguageModel, lm)
        self._said, self._log_probs, self._logits = said, log_probs, logits

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        return [self._said(_text(prompt)) for prompt in prompts]

    def log_probs(
        self, prompts: Sequence[Prompt], answers: Sequence[str], *, scope: Scope = "prompt"
    ) -> list[NDArray[np.float64]]:
        pairs = zip(prompts, answers, strict=True)
        return [np.array(self._log_probs(_text(prompt), answer), dtype=np.float64) for prompt, answer in pairs]

    def option_logits(self, prompts: Sequence[Prompt], options: Sequence[str]) -> NDArray[np.float64]:
        return np.array([self._logits(_text(prompt)) for prompt in prompts], dtype=np.float64)

    def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
        return np.zeros(len(prompts), dtype=np.bool_)


def _text(prompt: Prompt) -> str:
    return messages_of(prompt)[-1]["content"]
