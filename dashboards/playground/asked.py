"""A question to the playground, as the page puts it and the model's process reads it. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["guard", "steering", "model", "adapter"]
Put = Literal["auto", "chat", "text"]


class CancelledError(Exception):
    """Somebody asked to stop."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt, and what answers it.

    Attributes:
        prompt: As it was typed.
        model: Folder of the model.
        adapter: Folder of a PEFT adapter that belongs to the model, remedy or not.
        dtype: As `audit.lm.subject.Subject`.
        remedy: What kind of remedy answers as well; None where the model alone is asked.
        remedy_folder: Its folder; "" without one.
        strength: Of a steering, 0 leaves the model as it is.
        put: How the prompt becomes the model's input: by the chat template, as text between ``prefix`` and ``suffix``,
            or "auto": the template where there is one. A guard has a format of its own, which is used in any case.
        prefix: Before the prompt, for "text".
        suffix: Behind it.
        max_new_tokens: Tokens of one answer at most.
        temperature: 0 takes the most probable token.
        top_p: As `audit.lm.generate.Sampling`.
        seed: Of the random numbers; both answers draw the same ones.
    """

    prompt: str
    model: str
    adapter: str | None = None
    dtype: str = "auto"
    remedy: Kind | None = None
    remedy_folder: str = ""
    strength: float = 1.0
    put: Put = "auto"
    prefix: str = ""
    suffix: str = ""
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def to_record(self) -> dict[str, Any]:
        return asdict(self)
