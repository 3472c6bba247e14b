"""What the search of the strength looks at: metrics of the guarded model on rows to tune on, every prompt corrupted.

    probability   mean over rows of p = exp(mean of log p(token)) of the right answer, scored after its prompt
    rouge         mean ROUGE-L recall of greedy answers
    accuracy      share of multiple-choice questions whose right letter has the highest logit at the last token

Corruption reaches the prompt alone, as in use. A strength that is fitted with the scored answer corrupted as well, as
the authors' likelihoods are, is not one that answers meet (spec of ECO, section 3); it can be asked for by its scope.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from audit.answers.choices import measure_choices
from audit.answers.rouge import rouge_l_recall
from audit.answers.rows import ChoiceRow, QaRow
from audit.answers.systems import Scope, System
from audit.errors import InputError
from audit.text.safe import did_you_mean, quoted

from .guard import EcoGuard

MetricName = Literal["probability", "rouge", "accuracy"]
METRICS: Final = ("probability", "rouge", "accuracy")
Rows = Sequence[QaRow | ChoiceRow]


def check_metrics(metrics: Sequence[str], rows: Rows) -> None:
    """Refuse metrics that are unknown or that the rows have nothing for.

    Raises:
        InputError: Says which, and what is needed.
    """
    if not metrics:
        raise InputError(f"there is no metric; expected one or more of {', '.join(METRICS)}.")
    choices = [isinstance(row, ChoiceRow) for row in rows]
    for name in metrics:
        if name not in METRICS:
            raise InputError(f"metric {quoted(name)} is unknown.{did_you_mean(name, METRICS)}")
        if (name == "accuracy") != all(choices):
            kind = "multiple-choice questions" if name == "accuracy" else "questions with answers"
            raise InputError(f"the metric {name} is of {kind}, and the forget rows are others.")
    if not all(choices):
        missing = next((row for row in rows if isinstance(row, QaRow) and not row.answer.strip()), None)
        if missing is not None:
            raise InputError(
                f"row {quoted(missing.id)} has no answer, and {' and '.join(metrics)} need one. Give an answer, or "
                "set the strength yourself."
            )


def row_values(
    system: System, rows: Rows, metric: MetricName, *, max_new_tokens: int, scope: Scope = "prompt"
) -> NDArray[np.float64]:
    """A metric, row by row; shape (n,)."""
    if metric == "accuracy":
        return measure_choices(system, [row for row in rows if isinstance(row, ChoiceRow)], "rows").measured.values
    told = [row for row in rows if isinstance(row, QaRow)]
    if metric == "rouge":
        said = system.answers([row.asked for row in told], max_new_tokens=max_new_tokens)
        return np.array([rouge_l_recall(row.answer, text) or 0.0 for row, text in zip(told, said, strict=True)])
    scores = system.log_probs([row.asked for row in told], [row.answer for row in told], scope=scope)
    return np.array([float(np.exp(one.mean())) for one in scores])


class GuardMeasure:
    """`search_ledger.Measure` of a guard: metrics at a strength under noise seeds, all rows corrupted.

    Args:
        guard: Its corruption's strength is replaced.
        rows: To tune on.
        metrics: Names.
        scope: How far the corruption reaches where answers are scored.
        max_new_tokens: Of greedy answers.
    """

    def __init__(
        self, guard: EcoGuard, rows: Rows, metrics: Sequence[MetricName], *, scope: Scope, max_new_tokens: int
    ) -> None:
        self._guard, self._rows, self._metrics = guard, rows, metrics
        self._scope, self._n_new = scope, max_new_tokens

    def __call__(self, strength: float, seeds: Sequence[int], /) -> NDArray[np.float64]:
        corruption = dataclasses.replace(self._guard.settings.corruption, strength=strength)
        guard = self._guard.with_corruption(corruption)
        return np.array([self._of(guard.forcing(seed)) for seed in seeds])

    def _of(self, system: System) -> list[float]:
        return [
            float(row_values(system, self._rows, name, max_new_tokens=self._n_new, scope=self._scope).mean())
            for name in self._metrics
        ]
