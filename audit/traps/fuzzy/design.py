"""Every choice of the fuzzy traps, with its unit and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import InputError

Kind = Literal["replace", "insert", "shuffle", "scatter"]
Positions = Literal["fresh", "same", "spread", "segments"]


@dataclass(frozen=True, slots=True)
class FuzzyDesign:
    """How variants are made; the defaults are those of the released runs.

    Attributes:
        kind: As in `audit.traps.fuzzy`.
        n_dup: Copies of a trap, the exact one included; ``n_dup - 1`` variants are made.
        replacements: R of "replace".
        positions: Places of "replace": "fresh" at random for each variant, "same" at random once for all of a trap's,
            "segments" one at random in each of R equal segments (published as uniform spread), "spread" evenly spaced,
            so that no run of more than ceil((L - R) / (R + 1)) tokens of the original is left. L = 100 tokens share no
            50-gram from R = 2 on, no 25-gram from 4, no 13-gram from 7.
        ngram: n of "insert", "shuffle" and "scatter".
        insertions: X of "insert".
        tau: Target of "shuffle", in hundredths: 0.01 to 1.
        max_tries: Draws before a variant is given up.
    """

    kind: Kind = "replace"
    n_dup: int = 10
    replacements: int = 10
    positions: Positions = "fresh"
    ngram: int = 10
    insertions: int = 1
    tau: float = 0.2
    max_tries: int = 200

    def __post_init__(self) -> None:
        def refuse(name: str, expected: str) -> None:
            raise InputError(f"fuzzy traps: {name} is {getattr(self, name)!r}; expected {expected}")

        if self.kind not in get_args(Kind):
            refuse("kind", f"one of {', '.join(get_args(Kind))}")
        if self.positions not in get_args(Positions):
            refuse("positions", f"one of {', '.join(get_args(Positions))}")
        if self.n_dup < 2:
            refuse("n_dup", "2 or more: the exact copy and at least one variant")
        for name in ("replacements", "ngram", "insertions", "max_tries"):
            if getattr(self, name) < 1:
                refuse(name, "1 or more")
        if not 0.01 <= self.tau <= 1 or abs(100 * self.tau - round(100 * self.tau)) > 1e-6:
            refuse("tau", "0.01 to 1 in steps of 0.01")
