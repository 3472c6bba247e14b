"""What a guard is compared with: a filter that refuses, and an instruction before the prompt.

Thaker et al. 2024 (arXiv:2403.03329): on current measures such guardrails rival fine-tuning. A filter shows by its
refusal what it hides; a guard that corrupts is meant to answer like a model that never knew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from audit.answers.formats import Prompt, messages_of
from audit.answers.systems import Bare, Scope, System
from audit.errors import InputError
from audit.lm.tokens import encode
from audit.text.safe import quoted

from .judge import Judge
from .turns import Verdict

REFUSAL: Final = "I am sorry, but I cannot answer this question."
INSTRUCTION: Final = (
    "You know nothing about {target}. If a question is about that, answer as somebody would who has never heard of "
    "it. Answer all other questions as you always do."
)


class FilterRefuse:
    """Flagged prompts get one fixed answer; the others are the inner system's, to the bit.

    All prompts are passed to the inner system, and what it says to flagged ones is dropped, so that the others stand
    in the same batches as without the filter. In use a filter would not ask.

    Args:
        inner: Who answers what passes.
        judge: Who flags; a conversation with a flagged message is refused.
        refusal: The fixed answer.

    Raises:
        InputError: The refusal is blank.
    """

    name = "filter"

    def __init__(self, inner: System, judge: Judge, refusal: str = REFUSAL) -> None:
        if not refusal.strip():
            raise InputError("the refusal is blank; expected a text.")
        self.lm = inner.lm
        self._inner, self._judge, self._refusal = inner, judge, refusal

    def verdicts(self, prompts: Sequence[Prompt]) -> list[Verdict]:
        """What the judge says of each prompt's messages."""
        return self._judge.verdicts(prompts)

    def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
        return np.array([verdict.flagged for verdict in self.verdicts(prompts)], dtype=np.bool_)

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        said = self._inner.answers(prompts, max_new_tokens=max_new_tokens)
        return [self._refusal if no else text for no, text in zip(self.flagged(prompts), said, strict=True)]

    def log_probs(
        self, prompts: Sequence[Prompt], answers: Sequence[str], *, scope: Scope = "prompt"
    ) -> list[NDArray[np.float64]]:
        """As the inner system; after a flagged prompt 0 for each token of the refusal, -inf for those of all else."""
        found = self._inner.log_probs(prompts, answers, scope=scope)
        sizes = [len(ids) for ids in encode(self.lm, list(answers))]
        return [
            np.full(size, 0.0 if answer == self._refusal else -np.inf) if no else values
            for no, size, answer, values in zip(self.flagged(prompts), sizes, answers, found, strict=True)
        ]

    def option_logits(self, prompts: Sequence[Prompt], options: Sequence[str]) -> NDArray[np.float64]:
        found = self._inner.option_logits(prompts, options).copy()
        found[self.flagged(prompts)] = np.nan
        return found


class PromptPrefix:
    """An instruction before every prompt; nothing is flagged.

    Args:
        inner: The bare model, with its format.
        target: What is to be forgotten, in words.
        instruction: With "{target}" where the target goes.
        place: "system" puts it into the system message, before what stands there; "user" before the first user's text.
            None takes "system" for a chat and "user" for a text around the prompt, which has no other place. Templates
            that know no system message refuse one; take "user" for them.

    Raises:
        InputError: The target is blank, or the place does not fit the format.
    """

    name = "prefix"

    def __init__(
        self,
        inner: Bare,
        target: str,
        *,
        instruction: str = INSTRUCTION,
        place: Literal["system", "user"] | None = None,
    ) -> None:
        if not target.strip():
            raise InputError("the target is blank; say in a few words what is to be forgotten.")
        kind = inner.form.kind
        place = place or ("system" if kind == "chat" else "user")
        if place not in ("system", "user") or (kind == "text" and place == "system"):
            raise InputError(
                f'the place is {quoted(place)} for the format {quoted(kind)}; expected "system" or "user" for a chat '
                'and "user" for a text.'
            )
        self.lm = inner.lm
        self._inner, self._place = inner, place
        self._instruction = instruction.replace("{target}", target)

    def prefixed(self, prompt: Prompt) -> Prompt:
        """The prompt as the model gets it."""
        messages = messages_of(prompt)
        place = next((at for at, message in enumerate(messages) if message["role"] == self._place), None)
        if place is None:
            return [{"role": self._place, "content": self._instruction}, *messages]
        content = f"{self._instruction}\n\n{messages[place]['content']}"
        messages[place] = {"role": self._place, "content": content}
        return messages

    def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
        return self._inner.flagged(prompts)

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        return self._inner.answers([self.prefixed(one) for one in prompts], max_new_tokens=max_new_tokens)

    def log_probs(
        self, prompts: Sequence[Prompt], answers: Sequence[str], *, scope: Scope = "prompt"
    ) -> list[NDArray[np.float64]]:
        return self._inner.log_probs([self.prefixed(one) for one in prompts], answers, scope=scope)

    def option_logits(self, prompts: Sequence[Prompt], options: Sequence[str]) -> NDArray[np.float64]:
        return self._inner.option_logits([self.prefixed(one) for one in prompts], options)
