"""A fit that has ended, with what its guard's classifier does on held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit.answers.rows import ChoiceRow, QaRow
from audit.stats.auc import roc_auc
from audit.stats.checks import Floats
from audit.stats.estimate import Estimate
from audit.stats.proportion import clopper_pearson

from .calibration import Calibration
from .conversations import Asked, units
from .evaluate.recall import share
from .fit import Fitted
from .guard import GuardSettings
from .guard_files import GuardRecord
from .search_result import SearchResult


@dataclass(frozen=True, slots=True)
class Reworded:
    """Held-out rewordings of rows about what is to be forgotten, which the classifier never saw.

    Attributes:
        ids, clusters: Of their rows.
        scores: Of the rewordings, shape (n,).
        source: Where they are from, in words.
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    scores: Floats
    source: str


@dataclass(frozen=True, slots=True)
class FitMade:
    """A fit that has ended.

    Attributes:
        record: Of the guard.
        calibration: The threshold, or those of each group.
        test: What was only tested: prompts that may pass, or conversations of them.
        passing: Scores of these.
        found: The search; None where no strength was searched.
        dealt: Who saw which rows.
        warnings: What a reader has to know.
        reworded: What its recall is measured on.
        selected_rms: Root mean square of the selected embeddings of some tuning prompts, before the corruption.
        classifier: Its kind, in words.
    """

    record: GuardRecord
    calibration: Calibration
    test: tuple[Asked, ...]
    passing: Floats
    found: SearchResult | None
    dealt: Mapping[str, Sequence[QaRow | ChoiceRow | Asked]]
    warnings: tuple[str, ...]
    reworded: Reworded
    selected_rms: tuple[float, ...]
    classifier: str

    @classmethod
    def of(cls, fitted: Fitted, reworded: Reworded, selected_rms: tuple[float, ...], classifier: str) -> FitMade:
        """Of a fit that was made here."""
        return cls(
            fitted.record,
            fitted.calibration,
            fitted.test,
            fitted.held_out["retain"],
            fitted.found,
            fitted.dealt._asdict(),
            fitted.warnings,
            reworded,
            selected_rms,
            classifier,
        )

    @property
    def settings(self) -> GuardSettings:
        return self.record.settings

    @property
    def false_positives(self) -> Estimate:
        """Of held-out prompts that may pass, or conversations of them."""
        found = clopper_pearson(int((self.passing > self.threshold).sum()), len(self.passing))
        return replace(found, method=f"flagged of held-out {units(self.turns)} that may pass, {found.method}")

    @property
    def recall(self) -> Estimate:
        """Of held-out rewordings."""
        hits = (self.reworded.scores > self.threshold).astype(np.float64)
        name = f"recognised of held-out rewordings ({self.reworded.source})"
        return share(hits, self.reworded.clusters, name=name, rng=0)

    @property
    def turns(self) -> int:
        """Prompts in what the promise on false positives is for."""
        return int(self.record.evidence["threshold"].get("turns", 1))

    @property
    def threshold(self) -> float:
        return self.record.threshold

    @property
    def auc(self) -> Estimate | None:
        """Area under the ROC curve of held-out rewordings against held-out prompts that may pass."""
        positive, negative = self.reworded.scores, self.passing
        return roc_auc(positive, negative) if len(positive) and len(negative) else None
