"""Every choice of the trap audit, with its unit and where it comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from ..errors import InputError
from ..membership.score_names import SCORES, Score


@dataclass(frozen=True, slots=True)
class TrapDesign:
    """How traps are drawn, assigned and planted.

    The defaults are those of Meeus et al. 2024 (Copyright Traps, arXiv:2402.09363) as far as their released
    code tells; decoys come from the same draw here, not from a second one, so that members and decoys are
    exchangeable by construction.

    Attributes:
        lengths: Lengths of the traps in tokens of the generator, beginning-of-sequence token excluded.
        perplexity_edges: Edges of the generator-perplexity buckets, increasing; bucket i is [edge_i, edge_i+1).
        repetitions: How many copies a planted trap gets; one arm for each number.
        members_per_cell: Planted traps in each (length, bucket, repetition) cell.
        decoys_per_stratum: Unplanted controls in each (length, bucket) stratum; a trap's smallest possible rank
            p-value is 1 / (1 + this number).
        temperatures: Sampling temperatures, swept round after round.
        top_k: Sample from the k most probable tokens; 0 from all, as published.
        top_p: Sample from the smallest set of tokens with at least this probability, in (0, 1]; 1 from all.
        min_p: Sample from tokens with at least this share of the top token's probability, in [0, 1); 0 from all.
        max_jaccard: Largest Jaccard similarity of two traps' sets of token ids, in [0, 1].
        max_similarity: Largest similarity of two traps' letters, in [0, 1]: 1 - (insertions and deletions) / (sum of
            both lengths), case and white space aside. It catches what is nearly the same text cut into other tokens;
            0.8 is our choice, and below a Jaccard bound of 0.2 it seldom bites.
        max_rounds: Sampling rounds at most, over all temperatures, before the draw is given up.
        samples_per_round: Candidates sampled in a round.
        separator: Written on both sides of each copy.
        placement: "document" puts all copies of a trap into one document (as published), "scattered" puts each
            copy at a place of its own anywhere in the corpus.
    """

    lengths: tuple[int, ...] = (25, 50, 100)
    perplexity_edges: tuple[float, ...] = (1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 101)
    repetitions: tuple[int, ...] = (1, 10, 100, 1000)
    members_per_cell: int = 50
    decoys_per_stratum: int = 200
    temperatures: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5)
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_jaccard: float = 0.2
    max_similarity: float = 0.8
    max_rounds: int = 200
    samples_per_round: int = 1024
    separator: str = "\n"
    placement: Literal["document", "scattered"] = "document"

    def __post_init__(self) -> None:
        def refuse(name: str, expected: str) -> None:
            raise InputError(f"traps: {name} is {getattr(self, name)!r}; expected {expected}")

        if not self.lengths or min(self.lengths) < 2 or len(set(self.lengths)) != len(self.lengths):
            refuse("lengths", "distinct numbers of at least 2 tokens")
        if len(self.perplexity_edges) < 2 or any(low >= high for low, high in pairwise(self.perplexity_edges)):
            refuse("perplexity_edges", "at least two increasing numbers")
        if not self.repetitions or min(self.repetitions) < 1 or len(set(self.repetitions)) != len(self.repetitions):
            refuse("repetitions", "distinct numbers of at least 1 copy")
        if not self.temperatures or min(self.temperatures) <= 0:
            refuse("temperatures", "positive numbers")
        for name in ("max_jaccard", "max_similarity"):
            if not 0 <= getattr(self, name) <= 1:
                refuse(name, "a number from 0 to 1")
        if self.top_k < 0:
            refuse("top_k", "0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            refuse("top_p", "above 0 and at most 1")
        if not 0 <= self.min_p < 1:
            refuse("min_p", "from 0 to below 1")
        for name in ("members_per_cell", "decoys_per_stratum", "max_rounds", "samples_per_round"):
            if getattr(self, name) < 1:
                refuse(name, "1 or more")
        if not self.separator:
            refuse("separator", "at least one character, or copies fuse with their neighbours")
        if self.placement not in ("document", "scattered"):
            refuse("placement", '"document" or "scattered"')

    @property
    def per_stratum(self) -> int:
        """Candidates that a (length, bucket) stratum needs."""
        return self.members_per_cell * len(self.repetitions) + self.decoys_per_stratum

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DetectionPlan:
    """What is tested and how, fixed before any score is seen.

    Attributes:
        primary: The one score on which claims rest; the others are exploratory.
        alpha: Error rate of each family of tests, in (0, 1).
        k: Share of a text's tokens that Min-K% and Min-K%++ average over, in (0, 1].
        n_draws: Random re-draws of the assignment in the permutation test, 99 to 10,000,000.
        negligible_auc: "Not found" is said only when the whole interval of the AUC lies below this; in (0.5, 1).
        level: Level of the intervals.
        seed: Seed of re-draws, of the split of the controls and of the blind baseline.
    """

    primary: Score = "ratio"
    alpha: float = 0.05
    k: float = 0.2
    n_draws: int = 9_999
    negligible_auc: float = 0.6
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.primary not in SCORES:
            raise InputError(f'traps: primary is "{self.primary}"; expected one of {", ".join(SCORES)}')
        ranges = {
            "alpha": (0 < self.alpha < 1, "a number between 0 and 1"),
            "k": (0 < self.k <= 1, "above 0 and at most 1"),
            "n_draws": (99 <= self.n_draws <= 10_000_000, "99 to 10,000,000"),
            "negligible_auc": (0.5 < self.negligible_auc < 1, "between 0.5 and 1"),
            "level": (0 < self.level < 1, "a number between 0 and 1"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise InputError(f"traps: {name} is {getattr(self, name)}; expected {expected}")

    def to_record(self) -> dict[str, Any]:
        return asdict(self)
