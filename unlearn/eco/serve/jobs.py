"""One prompt on its way: what was asked, what was said so far, and how its asker hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from transformers import PreTrainedTokenizerBase

from audit.answers.formats import Prompt

from .answer_text import AnswerText
from .drawing import Draw

End: TypeAlias = Literal["stop", "length"]
Trouble: TypeAlias = Literal["prompt", "memory", "deadline", "closing", "server"]


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt was read: its tokens, and whether it was flagged."""

    n_prompt: int
    flagged: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is whole: "stop" at its end token or a stop text, "length" where no more tokens were allowed."""

    reason: End
    n_new: int


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer, or no more of it: the prompt's fault, or memory's, or ours, or no time was left."""

    trouble: Trouble
    message: str


Event: TypeAlias = Started | Piece | Ended | Failed


class Job:
    """A prompt with its settings.

    Args:
        prompt: A conversation or a single user's text.
        draw: How its tokens are drawn.
        emit: Called in the engine's thread with each event: `Started`, pieces, `Ended`; or `Failed` at any time, the
            last one. After `cancel` nothing more is promised.
        seconds: From now on until it is given up; None waits for ever.

    Attributes:
        cancelled: Nobody waits for it any more.
        n_prompt: Tokens of the prompt, once it was read.
        n_new: Tokens drawn so far.
    """

    def __init__(
        self, prompt: Prompt, draw: Draw, emit: Callable[[Event], None], *, seconds: float | None = None
    ) -> None:
        self.prompt, self.draw, self._emit = prompt, draw, emit
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.cancelled = False
        self.over = False
        self.n_prompt = self.n_new = 0
        self._limit = 0
        self._uniforms = draw.uniforms()
        self._next: float | None = None
        self._text: AnswerText | None = None

    def cancel(self) -> None:
        """From any thread; its row leaves the batch at the next step."""
        self.cancelled = True

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def start(self, tokenizer: PreTrainedTokenizerBase, *, n_prompt: int, limit: int, flagged: bool) -> None:
        """The prompt was read; ``limit`` tokens may be drawn."""
        self.n_prompt, self._limit = n_prompt, limit
        self._text = AnswerText(tokenizer, self.draw.stop)
        self.emit(Started(n_prompt, flagged))

    def uniform(self) -> float:
        """The job's own random number for its next token; the same until that is taken."""
        if self._next is None:
            self._next = float(self._uniforms.random())
        return self._next

    def take(self, token: int, stop_ids: frozenset[int]) -> End | None:
        """Adds a token; returns why the answer is whole, or None."""
        assert self._text is not None
        self.n_new += 1
        self._next = None
        reason: End | None = "stop" if token in stop_ids else None
        text = "" if reason else self._text.push(token)
        if self._text.stopped:
            reason = "stop"
        elif reason is None and self.n_new >= self._limit:
            reason = "length"
        if reason is not None:
            text += self._text.finish()
            if self._text.stopped:
                reason = "stop"
        if text:
            self.emit(Piece(text))
        if reason is not None:
            self.over = True
            self.emit(Ended(reason, self.n_new))
        return reason

    def fail(self, trouble: Trouble, message: str) -> None:
        if not self.over:
            self.over = True
            self.emit(Failed(trouble, message))

    def emit(self, event: Event) -> None:
        if self.cancelled:
            return
        try:
            self._emit(event)
        except RuntimeError:  # the asker's event loop is closed
            self.cancelled = True
