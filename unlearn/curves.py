"""The measures of every evaluation of a training, safe on disk as soon as they are made.

A training that was killed goes on from a checkpoint; what was measured up to it stands in a file for each step, named
by everything that determines it, and is not measured again. A training that begins anew drops what was measured later.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from audit.errors import DataError
from audit.forgetting.measured import Measured
from audit.lm.load import LanguageModel
from audit.runs.records import content_key, plain, read_json
from audit.text.files import make_folder, write_json

from .watch import Watch, measure

SCHEMA = pa.schema(
    [("step", pa.int64()), ("measure", pa.string()), ("id", pa.string()), ("passage", pa.string()),
     ("value", pa.float64()), ("left_out", pa.string())]
)  # fmt: skip


class Curves:
    """Measures by step; give it to a training as ``on_eval`` (`unlearn.whp.run.unlearn`, any baseline method).

    Args:
        folder: Where the files lie; made when the first one is written.
        watch: What is measured.
        key: Names model, method and plan: everything else that determines the values.
        only_first: Measure before the first step alone, where later weights are not those of the result.
    """

    def __init__(self, folder: Path, watch: Watch, *, key: str, only_first: bool = False) -> None:
        self.folder, self.watch, self._only_first = folder, watch, only_first
        self._key = content_key(of=key, watch=plain(watch.to_record(), "watch"))

    def __call__(self, step: int, lm: LanguageModel) -> None:
        """Measure the model after ``step`` steps, unless that was done before."""
        if step and self._only_first:
            return
        if step == 0:  # whatever was measured later is of weights that are gone, and may not come out the same
            for later in self.steps():
                if later:
                    self._path(later).unlink()
        self.add(step, lm)

    def add(self, step: int, lm: LanguageModel) -> None:
        """As a call, at any step."""
        if self._read(step) is not None:
            return
        found = {
            name: {
                "name": one.name,
                "ids": list(one.ids),
                "passages": list(one.passages),
                "values": one.values.tolist(),
                "left_out": dict(one.left_out),
            }
            for name, one in measure(lm, self.watch).items()
        }
        make_folder(self.folder)
        write_json(self._path(step), {"key": self._key, "step": step, "measures": found})

    def steps(self) -> list[int]:
        """Steps that were measured, ascending."""
        found = (int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.json"))
        return sorted(step for step in found if self._read(step) is not None)

    def at(self, step: int) -> dict[str, Measured]:
        """The measures of a step.

        Raises:
            DataError: It was not measured.
        """
        found = self._read(step)
        if found is None:
            raise DataError(f"{self._path(step)} does not hold the measures of step {step}; begin with another --out.")
        return {
            name: Measured(
                one["name"], tuple(one["ids"]), tuple(one["passages"]), np.array(one["values"]), one["left_out"]
            )
            for name, one in found.items()
        }

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.json"

    def _read(self, step: int) -> dict[str, Any] | None:
        """What stands in a step's file; None where there is none, or it is another training's."""
        if not self._path(step).is_file():
            return None
        held = read_json(self._path(step), missing="")
        if not isinstance(held, dict) or held.get("key") != self._key:
            return None
        measures: dict[str, Any] = held["measures"]
        return measures

    def table(self, steps: Sequence[int]) -> pa.Table:
        """One row for each step, measure and item; an item without a value says why."""
        rows = []
        for step in steps:
            for measure_name, one in self.at(step).items():
                rows += [
                    {"step": step, "measure": measure_name, "id": name, "passage": passage, "value": float(value)}
                    for name, passage, value in zip(one.ids, one.passages, one.values, strict=True)
                ]
                rows += [
                    {"step": step, "measure": measure_name, "id": name, "left_out": why}
                    for name, why in one.left_out.items()
                ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)
