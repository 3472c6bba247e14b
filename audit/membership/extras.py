"""Scores beyond those of one pass: which are wanted, and how they are made for a part of the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..lm.load import LanguageModel
from .lowercase import lowercase_scores, lowered_tokens
from .masked import MaskedModel
from .neighbourhood import TOP_K, neighbourhood_scores
from .recall import leave_room, recall_scores, shot_tokens
from .score import TextScores, refuse_not_finite, scored_part


@dataclass(frozen=True, slots=True)
class Extras:
    """Which columns `audit.membership.parts.score_in_parts` adds.

    Attributes:
        variants: Columns ``min_20`` and ``zlib_rate``, forms of Min-K% and zlib in later papers' code; no further pass.
        lowercase: Column ``lowercase`` (`audit.membership.lowercase`); one further pass.
        shots: Non-member texts; where there are any, column ``recall`` (`audit.membership.recall`): one further pass.
            With ``truncate`` a text is then cut to what fits after them, for every score.
        neighbours: Neighbours of each text; above 0, column ``neighbourhood`` (`audit.membership.neighbourhood`): as
            many further passes. 50 as published.
        top_k: Likeliest tokens of a place that may stand in a neighbour, >= 2.
        masked: Masked language model that proposes them; None is the audited model itself.
        seed: Seed of the masked model's dropout, from 0 to below 2^63.
    """

    variants: bool = False
    lowercase: bool = False
    shots: tuple[str, ...] = ()
    neighbours: int = 0
    top_k: int = TOP_K
    masked: MaskedModel | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "neighbours": (self.neighbours >= 0, "0 (none) or more"),
            "top_k": (self.top_k >= 2, "2 or more, because the text's own token may be one of them"),
            "seed": (0 <= self.seed < 2**63, "from 0 to below 2^63"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)}; expected {expected}.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are added, in their order."""
        wanted = {
            "min_20": self.variants,
            "zlib_rate": self.variants,
            "lowercase": self.lowercase,
            "recall": bool(self.shots),
            "neighbourhood": self.neighbours > 0,
        }
        return tuple(name for name, asked in wanted.items() if asked)

    @property
    def n_passes(self) -> int:
        """Texts that go through the model for each text, itself included."""
        return 1 + self.lowercase + bool(self.shots) + self.neighbours

    def to_record(self) -> dict[str, Any]:
        """What the added columns depend on, for the key of the parts."""
        neighbourhood = {
            "neighbours": self.neighbours,
            "top_k": self.top_k,
            "masked": None if self.masked is None else self.masked.fingerprint.to_record(),
            "seed": None if self.masked is None else self.seed,
        }
        return {
            "variants": self.variants,
            "lowercase": self.lowercase,
            "shots": list(self.shots),
            "neighbourhood": neighbourhood if self.neighbours else None,
        }


NOTHING = Extras()


@dataclass(frozen=True, slots=True)
class FurtherPasses:
    """What the extras of one model and all texts need, made once and checked before anything is computed.

    Attributes:
        sequences: Token ids of each text, cut once more where shots stand before it.
        cut: Names of the texts that were cut.
    """

    lm: LanguageModel
    extras: Extras
    sequences: list[list[int]]
    cut: list[str]
    ids: list[str]
    parts: list[str]  # what is scored of each text; empty where no extra needs it
    shots: list[int]
    lowered: list[list[int] | None]

    @classmethod
    def prepare(
        cls,
        lm: LanguageModel,
        extras: Extras,
        sequences: list[list[int]],
        texts: Sequence[str],
        *,
        ids: Sequence[str],
        cut: list[str],
        truncate: bool,
    ) -> FurtherPasses:
        """Everything that can be refused is refused here; errors as in the modules of the single scores.

        Args:
            lm: The model.
            extras: What is wanted.
            sequences: Token ids of each text that fit the model.
            texts: The texts.
            ids: A name for each.
            cut: Names of those whose ids were cut.
            truncate: Cut further where the extras leave less room, instead of refusing.
        """
        shots: list[int] = []
        if extras.shots:
            shots = shot_tokens(lm, extras.shots, texts, ids=ids)
            sequences, cut_again = leave_room(lm, ids, sequences, n_shots=len(shots), truncate=truncate)
            cut = list(dict.fromkeys([*cut, *cut_again]))
        short = set(cut)
        parts = [
            scored_part(lm, sequence, text, cut=name in short)
            for sequence, text, name in zip(sequences, texts, ids, strict=True)
            if extras.columns
        ]
        if extras.neighbours and extras.masked is not None:
            extras.masked.check(parts, ids=ids)
        lowered = lowered_tokens(lm, parts, ids=ids, truncate=truncate) if extras.lowercase else []
        return cls(lm, extras, sequences, cut, list(ids), parts, shots, lowered)

    def columns(
        self,
        part: slice,
        scores: TextScores,
        *,
        token_budget: int | None,
        on_done: Callable[[int], None],
    ) -> dict[str, NDArray[np.float64]]:
        """The added columns of a part of the texts.

        Args:
            part: Which texts.
            scores: Their scores of one pass.
            token_budget: As in `token_log_probs`.
            on_done: Called with the number of texts that went through the model, batch by batch.

        Raises:
            ModelError: As in `token_log_probs`, or a score is not a finite number.
        """
        lm, extras = self.lm, self.extras
        found: dict[str, NDArray[np.float64]] = {}
        if extras.variants:
            found |= {"min_20": scores.min_20, "zlib_rate": scores.zlib_rate}
        if extras.lowercase:
            found["lowercase"] = lowercase_scores(
                lm, self.lowered[part], scores.loss, token_budget=token_budget, on_done=on_done
            )
        if extras.shots:
            found["recall"] = recall_scores(
                lm, self.sequences[part], scores.loss, shots=self.shots, token_budget=token_budget, on_done=on_done
            )
        if extras.neighbours:
            found["neighbourhood"] = neighbourhood_scores(
                lm,
                self.sequences[part],
                self.parts[part],
                ids=self.ids[part],
                n=extras.neighbours,
                top_k=extras.top_k,
                masked=extras.masked,
                seed=extras.seed,
                token_budget=token_budget,
                on_done=on_done,
            )
        if found:
            refuse_not_finite(lm, list(found.values()), self.ids[part])
        return found
