"""An answer's text as its tokens come: no character is cut in half, nothing of a stop text is shown.

The pieces joined are the whole answer, so a streamed answer and one that is sent at once are the same by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from transformers import PreTrainedTokenizerBase

_UNFINISHED: Final = "\ufffd"
"""What a decoder writes for bytes that are no character, or not yet one."""

_HELD: Final = 64
"""Tokens that are held back at most in the hope of a character; by then they are no text at all."""


class AnswerText:
    """Takes tokens, gives text.

    Args:
        tokenizer: Decodes; special tokens are not shown.
        stop: The answer ends before the first of these texts to occur; none is empty.

    Attributes:
        stopped: Whether one occurred.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        self._context = 0  # tokens before this place change nothing about what follows
        self._read = 0  # tokens before this place are shown
        self._held = ""  # text that may be the beginning of a stop text
        self.stopped = False

    def push(self, token: int) -> str:
        """What can be shown after one more token; it may be empty."""
        self._ids.append(token)
        return self._until_stop(self._decoded(whole=False), last=False)

    def finish(self) -> str:
        """What was held back, at the end."""
        return "" if self.stopped else self._until_stop(self._decoded(whole=True), last=True)

    def _decoded(self, *, whole: bool) -> str:
        shown = self._text(self._context, self._read)
        text = self._text(self._context, len(self._ids))
        hopeful = text.endswith(_UNFINISHED) and len(self._ids) - self._read <= _HELD
        if (hopeful and not whole) or len(text) <= len(shown):
            return ""
        self._context, self._read = self._read, len(self._ids)
        return text[len(shown) :]

    def _text(self, start: int, end: int) -> str:
        ids = self._ids[start:end]
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _until_stop(self, more: str, *, last: bool) -> str:
        text = self._held + more
        places = [place for place in (text.find(one) for one in self._stop) if place >= 0]
        if places:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        n_held = 0 if last else max((_overlap(text, one) for one in self._stop), default=0)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of a text that a stop text begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
