"""Judges that need no training: a list of words for a concept, and two judges joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit.errors import InputError
from audit.forgetting.terms import Terms

from .judges import Judge


class WordList:
    """A text shows the concept where one of its words stands in it, as a whole word in any case.

    A list finds what it names and nothing else: its rate is a lower bound of a concept's.

    Args:
        concept: Its name.
        listed: Words or expressions, one or more.

    Raises:
        InputError: There are none, or one holds no letter or digit.
    """

    def __init__(self, concept: str, listed: Sequence[str]) -> None:
        if not listed:
            raise InputError(f'the word list of "{concept}" is empty; expected one word or more.')
        self._concept, self._terms = concept, Terms(tuple(listed), "any")

    @property
    def name(self) -> str:
        return f"words of {self._concept}"

    def flags(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([bool(self._terms.found_in(text)) for text in texts], dtype=np.bool_)

    def to_record(self) -> dict[str, Any]:
        return {"name": self.name, "words": list(self._terms.listed)}


@dataclass(frozen=True, slots=True)
class Joined:
    """Several concepts at once, for composed maps: "either" of them, or "both" (all of them)."""

    how: Literal["either", "both"]
    judges: tuple[Judge, ...]

    @property
    def name(self) -> str:
        return (" or " if self.how == "either" else " and ").join(judge.name for judge in self.judges)

    def flags(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        found = np.array([judge.flags(texts) for judge in self.judges])
        return np.asarray(found.any(axis=0) if self.how == "either" else found.all(axis=0), dtype=np.bool_)

    def to_record(self) -> dict[str, Any]:
        return {"name": self.name, "how": self.how, "judges": [judge.to_record() for judge in self.judges]}
