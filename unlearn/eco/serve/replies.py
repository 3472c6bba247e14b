"""What a client gets back, as OpenAI's clients read it: whole answers, and chunks of a stream."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from .bodies import Kind
from .jobs import End

DONE = b"data: [DONE]\n\n"


class Reply:
    """The forms of one request's answer.

    Args:
        kind: Chat or completions.
        model: The name under which the model is served.
        fingerprint: Of guard and model; answers with the same seed are the same as long as it is.
    """

    def __init__(self, kind: Kind, model: str, fingerprint: str) -> None:
        self._kind = kind
        self._head = {
            "id": ("chatcmpl-" if kind == "chat" else "cmpl-") + secrets.token_hex(12),
            "object": "chat.completion" if kind == "chat" else "text_completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def whole(
        self, texts: list[str], ends: list[End], *, n_prompt: int, n_new: int, flagged: list[bool] | None
    ) -> dict[str, Any]:
        """All answers at once; ``flagged`` is None where clients are not told."""
        choices = []
        for index, (text, end) in enumerate(zip(texts, ends, strict=True)):
            said = {"message": {"role": "assistant", "content": text, "refusal": None}}
            choice = {"index": index, **(said if self._kind == "chat" else {"text": text}), "logprobs": None}
            choices.append({**choice, "finish_reason": end, **_told(None if flagged is None else flagged[index])})
        return {**self._head, "choices": choices, "usage": usage(n_prompt, n_new)}

    def opening(self, index: int) -> bytes:
        """A chat's stream begins with who speaks; a completion's with nothing."""
        return self._chunk(index, {"role": "assistant", "content": ""}) if self._kind == "chat" else b""

    def piece(self, index: int, text: str) -> bytes:
        return self._chunk(index, {"content": text} if self._kind == "chat" else {}, text=text)

    def closing(self, index: int, end: End, *, flagged: bool | None) -> bytes:
        return self._chunk(index, {}, end=end, flagged=flagged)

    def totals(self, *, n_prompt: int, n_new: int) -> bytes:
        """The numbers of tokens, in a chunk without choices."""
        return _event({**self._head, **self._chunk_kind(), "choices": [], "usage": usage(n_prompt, n_new)})

    def _chunk(
        self, index: int, delta: dict[str, str], *, text: str = "", end: End | None = None, flagged: bool | None = None
    ) -> bytes:
        said = {"delta": delta} if self._kind == "chat" else {"text": text}
        choice = {"index": index, **said, "logprobs": None, "finish_reason": end, **_told(flagged)}
        return _event({**self._head, **self._chunk_kind(), "choices": [choice]})

    def _chunk_kind(self) -> dict[str, str]:
        return {"object": "chat.completion.chunk"} if self._kind == "chat" else {}


def usage(n_prompt: int, n_new: int) -> dict[str, int]:
    """Tokens read and drawn, end tokens included."""
    return {"prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new}


def error_event(record: dict[str, Any]) -> bytes:
    """An error in the middle of a stream."""
    return _event(record)


def _told(flagged: bool | None) -> dict[str, bool]:
    return {} if flagged is None else {"flagged": flagged}


def _event(record: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
