"""The filters of the survival simulator, with their parameters and sources.

Needs no torch, so that flags are checked fast.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ...errors import InputError

Keep = Literal["none", "first"]
Stage = Literal["exact", "minhash", "repetition", "perplexity"]
STAGES: tuple[Stage, ...] = get_args(Stage)
SOURCES: dict[Stage, str] = {
    "exact": "ExactSubstr, Lee et al. 2022, arXiv:2107.06499, released code",
    "minhash": "SlimPajama: 0.8 and 13-grams; released code for the rest",
    "repetition": "Gopher, arXiv:2112.11446, table A1, counted as in datatrove",
    "perplexity": "no sourced measurement of such a filter on traps; percentile and model are the user's",
}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The filters, in the order in which they are run, and their parameters.

    Attributes:
        stages: Distinct names of `STAGES`. The order matters: what one filter takes away the next does not see.
        ngram: Length of the spans that "exact" looks for, in tokens; 50 as published.
        keep: "none" removes every occurrence of a repeated span, as published; "first" leaves the first in the corpus.
        rounds: How often "exact" is run; 2 as published.
        width: Characters of a shingle of "minhash"; 13.
        bands: Bands of its signature; 9.
        rows: Hashes of a band; 13.
        seed: Seed of its hashes.
        percentile: "perplexity" drops documents above this percentile of those that are left, in (0, 100); no default
            is published.
    """

    stages: tuple[Stage, ...] = ("exact", "minhash", "repetition")
    ngram: int = 50
    keep: Keep = "none"
    rounds: int = 2
    width: int = 13
    bands: int = 9
    rows: int = 13
    seed: int = 1
    percentile: float | None = None

    def __post_init__(self) -> None:
        def refuse(name: str, expected: str) -> None:
            raise InputError(f"survival: {name} is {getattr(self, name)!r}; expected {expected}")

        if not self.stages or set(self.stages) - set(STAGES) or len(set(self.stages)) < len(self.stages):
            refuse("stages", f"distinct names of {', '.join(STAGES)}")
        for name in ("ngram", "rounds", "width", "bands", "rows"):
            if getattr(self, name) < 1:
                refuse(name, "1 or more")
        if self.keep not in get_args(Keep):
            refuse("keep", f"one of {', '.join(get_args(Keep))}")
        if self.seed < 0:
            refuse("seed", "0 or more")
        if ("perplexity" in self.stages) != (self.percentile is not None):
            refuse("percentile", 'a percentile with the stage "perplexity", and none without it')
        if self.percentile is not None and not 0 < self.percentile < 100:
            refuse("percentile", "a number between 0 and 100")

    def parameters(self, stage: Stage) -> dict[str, Any]:
        """What one stage is run with."""
        names = {
            "exact": ("ngram", "keep", "rounds"),
            "minhash": ("width", "bands", "rows", "seed"),
            "repetition": (),
            "perplexity": ("percentile",),
        }
        return {name: value for name, value in asdict(self).items() if name in names[stage]}
