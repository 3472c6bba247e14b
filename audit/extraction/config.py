"""What an extraction audit samples, compares and calls a hit, fixed before anything is sampled."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..errors import InputError

View = Literal["question", "answer", "whole"]
Arm = Literal["embedding", "levenshtein", "indel"]
VIEWS: tuple[View, ...] = get_args(View)
ARMS: tuple[Arm, ...] = get_args(Arm)
STRING_THRESHOLDS = (0.7, 0.8, 0.9)  # the paper's own string threshold is not sourced


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What is sampled, before it meets a tokenizer.

    Attributes:
        prefix: Texts that open a chat; none for those of the chat template, with and without the white space at its
            end.
        preset: Chat format by name, where the tokenizer has no template (`audit.extraction.presets`).
        assistant: Text between question and answer of a format that ``prefix`` opens and no preset names.
        bos: Whether the beginning-of-sequence token stands first; None as template and tokenizer do.
        n: Generations, >= 1, shared out evenly among the prefixes.
        seed: 0 to 2^63 - 1; generation i depends on seed and i alone.
        temperature: Divides the logits, >= 0; 0 is greedy.
        top_p: In (0, 1]; 1 cuts nothing off.
        top_k: >= 0; 0 cuts nothing off.
        max_new_tokens: >= 1; None for 2,048, or what the context leaves.
    """

    prefix: tuple[str, ...] = ()
    preset: str | None = None
    assistant: str | None = None
    bos: bool | None = None
    n: int = 1000
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        ranges = {
            "n": (self.n >= 1, "1 or more"),
            "seed": (0 <= self.seed < 2**63, f"0 to {2**63 - 1}"),
            "temperature": (0.0 <= self.temperature < math.inf, "0 (greedy) or a positive number"),
            "top_p": (0.0 < self.top_p <= 1.0, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "max_new_tokens": (self.max_new_tokens is None or self.max_new_tokens >= 1, "1 or more"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected {expected}.")
        if self.assistant is not None and (not self.prefix or self.preset is not None):
            raise InputError(
                "assistant belongs to a chat that a prefix opens and no preset names; give a prefix and no preset."
            )


@dataclass(frozen=True, slots=True)
class MatchPlan:
    """How generations are compared with training rows.

    Attributes:
        primary: View of the verdict. "whole" is the paper's: question and answer as one text.
        target: False-positive rate at which the threshold is set (`audit.extraction.calibrate`), in (0, 1). The spec's
            99% quantile of the maxima is 0.01.
        least_words: Words that a text needs to be compared, >= 1; shorter ones match some row trivially. The share
            that is left out is reported. (The spec counts 20 tokens; words need no tokenizer, so that generations and
            rows are counted alike.)
        string_floor: String similarities below are not computed and count as none, in (0, 1).
        near_duplicate: Jaccard similarity of three-word shingles from which training rows are one cluster, in [0.5, 1].
        negligible: "Not found" means that a memorisation rate as large as this is excluded, in (0, 1).
        alpha: Error rate of the test of trained against held-out rows.
        level: Level of all intervals, in (0, 1).
        seed: Seed of halves, draws and dealings.
    """

    primary: View = "whole"
    target: float = 0.01
    least_words: int = 20
    string_floor: float = 0.5
    near_duplicate: float = 0.7
    negligible: float = 0.01
    alpha: float = 0.05
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "primary": (self.primary in VIEWS, ", ".join(VIEWS)),
            "target": (0 < self.target < 1, "above 0 and below 1"),
            "least_words": (self.least_words >= 1, "1 or more"),
            "string_floor": (0 < self.string_floor < 1, "above 0 and below 1"),
            "near_duplicate": (0.5 <= self.near_duplicate <= 1, "from 0.5 to 1"),
            "negligible": (0 < self.negligible < 1, "above 0 and below 1"),
            "alpha": (0 < self.alpha < 1, "above 0 and below 1"),
            "level": (0 < self.level < 1, "above 0 and below 1"),
            "seed": (0 <= self.seed < 2**63, "from 0 to below 2^63"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise InputError(f"extraction: {name} is {getattr(self, name)!r}; expected {expected}.")

    def to_record(self) -> dict[str, Any]:
        return asdict(self)
