"""What stands in a plan of steering: ``[steer]`` fits maps, ``[sweep]`` and ``[evaluate]`` measure some.

Nothing here needs torch, so that a plan with a mistake in it is told at once.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from audit.cli.plan_table import Name, PlanTable

from .evaluate_plan import EvaluateTable
from .fit_table import FitTable
from .sweep_plan import SweepTable


class SteerTable(FitTable):
    """``[steer]``: sentences of both sides, and how they are fitted."""

    source: Name
    target: Name


class SteerPlan(PlanTable):
    """A whole plan. Each kind of run has a table of its own here, and a function of its own in `execute.RUNS`."""

    schema_version: Literal[1] = 1
    steer: SteerTable | None = None
    sweep: SweepTable | None = None
    evaluate: EvaluateTable | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.kind is None:
            raise ValueError("expected one table: [steer] to fit maps, [sweep] or [evaluate] to measure some.")
        return self

    @property
    def kind(self) -> str | None:
        """Name of the one table that is there; None where there is none or more than one."""
        there = [
            name for name in type(self).model_fields if name != "schema_version" and getattr(self, name) is not None
        ]
        return there[0] if len(there) == 1 else None
