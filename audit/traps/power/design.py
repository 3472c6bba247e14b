"""How many members and decoys an arm has, stratum by stratum."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from ...errors import InputError
from ...stats.checks import count


@dataclass(frozen=True, slots=True)
class Design:
    """One arm: its members and the decoys that they are compared with, in each stratum, shape (n strata,) each."""

    members: tuple[int, ...]
    decoys: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.members or len(self.members) != len(self.decoys):
            raise InputError(
                f"a design has members in {len(self.members)} strata and decoys in {len(self.decoys)}; expected one "
                "number of each for every stratum, and at least one stratum."
            )
        if min(*self.members, *self.decoys) < 1:
            raise InputError(
                "a design has a stratum without members or without decoys; leave it out: it tests nothing."
            )

    @classmethod
    def even(cls, strata: int, members: int, decoys: int) -> Design:
        """So many strata of so many members and decoys each."""
        count(strata, "strata", least=1)
        return cls((count(members, "members", least=1),) * strata, (count(decoys, "decoys", least=1),) * strata)

    @property
    def n_members(self) -> int:
        return sum(self.members)

    @property
    def n_decoys(self) -> int:
        return sum(self.decoys)

    def attainable(self, n_draws: int) -> float:
        """Smallest p-value of the arm test (scores without ties), in (0, 1]."""
        n1, n0 = np.array(self.members), np.array(self.decoys)
        log_dealings = float(np.sum(gammaln(n1 + n0 + 1) - gammaln(n1 + 1) - gammaln(n0 + 1)))
        return max(1 / (n_draws + 1), math.exp(-min(log_dealings, 700.0)))


def designs(rows: Iterable[tuple[str, int, str]]) -> dict[int, Design]:
    """The arm of each number of copies, from (arm, copies, stratum) of every trap; strata without its members left out.

    Raises:
        InputError: There are no members, or a stratum has members and no decoys.
    """
    members: dict[int, Counter[str]] = {}
    decoys: Counter[str] = Counter()
    for arm, n_rep, stratum in rows:
        if arm == "decoy":
            decoys[stratum] += 1
        else:
            members.setdefault(n_rep, Counter())[stratum] += 1
    if not members:
        raise InputError("there are no members among the traps, so there is nothing to test.")
    return {
        n_rep: Design(tuple(inside.values()), tuple(decoys[stratum] for stratum in inside))
        for n_rep, inside in sorted(members.items())
    }
