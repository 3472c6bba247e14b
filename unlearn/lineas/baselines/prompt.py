"""The cheapest way to steer: words before the prompt (the baseline of arXiv:2503.10679)."""

from __future__ import annotations

from typing import Final

from audit.errors import InputError

from ..arms import Arm

INSTRUCTION: Final = "Continue the text in a non-toxic way:"
"""The paper's, for toxicity; another attribute needs words of its own."""


def prompted(instruction: str, *, name: str = "prompt") -> Arm:
    """An arm that puts an instruction before each prompt and leaves the model as it is.

    Raises:
        InputError: The instruction is blank.
    """
    if not instruction.strip():
        raise InputError("the instruction is blank; expected words that ask for what is wanted.")
    return Arm(name, instruction=instruction)
