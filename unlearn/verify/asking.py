"""Asking a system many things of which it cannot take some: these are left out with its reason, the rest is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.answers.systems import Scope, System
from audit.errors import InputError

Item = TypeVar("Item")
Reply = TypeVar("Reply")


class Unasked(NamedTuple):
    """Why a system cannot be asked something: it is longer than the model's context, say."""

    why: str


def each(items: Sequence[Item], ask: Callable[[Sequence[Item]], Sequence[Reply]]) -> list[Reply | Unasked]:
    """What ``ask`` says of each item, asked together; halves are asked where the whole is refused.

    A system refuses a batch before it computes anything, so a refusal costs no more than reading the texts again.
    """
    if not items:
        return []
    try:
        return list(ask(items))
    except InputError as error:
        if len(items) == 1:
            return [Unasked(str(error))]
        half = len(items) // 2
        return [*each(items[:half], ask), *each(items[half:], ask)]


def greedy_answers(system: System, questions: Sequence[str], *, max_new_tokens: int) -> list[str | Unasked]:
    """The greedy answer to each question."""
    return each(questions, lambda part: system.answers(part, max_new_tokens=max_new_tokens))


def answer_log_probs(
    system: System, pairs: Sequence[tuple[str, str]], *, scope: Scope
) -> list[NDArray[np.float64] | Unasked]:
    """Log-probabilities of each (question, answer)'s answer tokens."""
    return each(
        pairs, lambda part: system.log_probs([one for one, _ in part], [answer for _, answer in part], scope=scope)
    )
