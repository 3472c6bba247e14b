"""A system that is asked each thing once: several measures of this room ask the same questions."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.answers.formats import Prompt
from audit.answers.systems import Scope, System


class Remembered:
    """``system``, with what it said before; its numbers are its own, up to rounding of how prompts fall into batches.

    Give two systems that are compared the same questions in the same order, as measures do, and they fall alike. What
    is remembered lasts as long as this object: make a new one when the model behind it has changed.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self.name, self.lm = system.name, system.lm
        self._answers: dict[tuple[str, int], str] = {}
        self._log_probs: dict[tuple[str, str, Scope], NDArray[np.float64]] = {}

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        keys = [(_key(prompt), max_new_tokens) for prompt in prompts]
        new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._answers}
        if new:
            said = self._system.answers(list(new.values()), max_new_tokens=max_new_tokens)
            self._answers |= dict(zip(new, said, strict=True))
        return [self._answers[key] for key in keys]

    def log_probs(
        self, prompts: Sequence[Prompt], answers: Sequence[str], *, scope: Scope = "prompt"
    ) -> list[NDArray[np.float64]]:
        keys = [(_key(prompt), answer, scope) for prompt, answer in zip(prompts, answers, strict=True)]
        new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._log_probs}
        if new:
            found = self._system.log_probs(list(new.values()), [answer for _, answer, _ in new], scope=scope)
            self._log_probs |= dict(zip(new, found, strict=True))
        return [self._log_probs[key] for key in keys]

    def option_logits(self, prompts: Sequence[Prompt], options: Sequence[str]) -> NDArray[np.float64]:
        return self._system.option_logits(prompts, options)

    def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
        return self._system.flagged(prompts)


def _key(prompt: Prompt) -> str:
    return json.dumps(prompt if isinstance(prompt, str) else [dict(message) for message in prompt])
