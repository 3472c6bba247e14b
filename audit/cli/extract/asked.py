"""The flags of sampling as `audit.extraction.config.SampleSettings`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...errors import InputError
from ...extraction.config import SampleSettings

_NAME = re.compile(r"[a-z]\w*(?= (?:is|belongs) )")


def settings_of(*, prefix: Sequence[str] | None, assistant: str | None, **others: Any) -> SampleSettings:
    """Settings from flags; in ``prefix`` and ``assistant`` \\n stands for a line end and \\t for a tab.

    Raises:
        InputError: A number is out of range, with the flag's name.
    """
    try:
        return SampleSettings(
            prefix=tuple(map(unescaped, prefix or ())),
            assistant=None if assistant is None else unescaped(assistant),
            **others,
        )
    except InputError as error:
        flag = _NAME.match(str(error))
        said = str(error) if flag is None else f"--{flag[0].replace('_', '-')}{str(error)[flag.end() :]}"
        raise InputError(said) from None


def unescaped(text: str) -> str:
    """The text of a flag, in which a line end can hardly be typed."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
