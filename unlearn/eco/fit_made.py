"""A fit that has ended, with what its guard's classifier does on held-out prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from audit.stats.auc import roc_auc
from audit.stats.checks import Floats
from audit.stats.estimate import Estimate
from audit.stats.proportion import clopper_pearson

from .conversations import units
from .evaluate.recall import share
from .fit import Fitted


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
        fitted: The guard with its evidence.
        reworded: What its recall is measured on.
        selected_rms: Root mean square of the selected embeddings of some tuning prompts, before the corruption.
        classifier: Its kind, in words.
    """

    fitted: Fitted
    reworded: Reworded
    selected_rms: tuple[float, ...]
    classifier: str

    @property
    def false_positives(self) -> Estimate:
        """Of held-out prompts that may pass, or conversations of them."""
        scores = self.fitted.held_out["retain"]
        found = clopper_pearson(int((scores > self.threshold).sum()), len(scores))
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
        return int(self.fitted.record.evidence["threshold"].get("turns", 1))

    @property
    def threshold(self) -> float:
        return self.fitted.guard.judge.threshold

    @property
    def auc(self) -> Estimate | None:
        """Area under the ROC curve of held-out rewordings against held-out prompts that may pass."""
        positive, negative = self.reworded.scores, self.fitted.held_out["retain"]
        return roc_auc(positive, negative) if len(positive) and len(negative) else None
