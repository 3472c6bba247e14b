"""What a run of unlearning says, from the measures that were kept: by the run itself, and by a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import pandas as pd

from audit.forgetting.measured import Measured
from audit.runs.records import read_json
from audit.runs.replay import Replayed
from audit.runs.schema import AuditSection, Table
from audit.runs.store import Run

from .alarms import alarms
from .findings import AUDIT, ITEMS, Change, Made, changes, make_section
from .watch import Watch

FACTS = "made.json"


@dataclass(frozen=True, slots=True)
class Facts:
    """``made.json``: what is told beside the measures, and cannot be read from them.

    Attributes:
        made: What was made.
        missing: As `unlearn.watch.Watch`.
        notes: Likewise.
        names: Measure -> what its values are called.
        n_vocabulary: As `unlearn.alarms.alarms`.
        seed: Of the bootstraps.
    """

    made: Made
    missing: Mapping[str, str]
    notes: Sequence[str]
    names: Mapping[str, str]
    n_vocabulary: int | None
    seed: int

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "made": asdict(self.made),
            "missing": dict(self.missing),
            "notes": list(self.notes),
            "names": dict(self.names),
            "n_vocabulary": self.n_vocabulary,
            "seed": self.seed,
        }

    @classmethod
    def of_record(cls, told: Mapping[str, Any]) -> Facts:
        """What `to_record` gave."""
        made = Made(**told["made"])
        reads = {name: (n, seconds) for name, (n, seconds) in made.reads.items()}
        return cls(
            replace(made, reads=reads, notes=tuple(made.notes)),
            told["missing"],
            tuple(told["notes"]),
            told["names"],
            told["n_vocabulary"],
            told["seed"],
        )


def section_of(
    steps: Mapping[int, Mapping[str, Measured]], facts: Facts, *, tables: Sequence[Table] = ()
) -> tuple[AuditSection, dict[str, Change], tuple[str, ...]]:
    """The section, the changes and the alarms.

    Args:
        steps: Step -> its measures, ascending.
        facts: What is told beside.
        tables: Further tables of the method, such as its dictionary.
    """
    found = changes(steps[min(steps)], steps[facts.made.result_step], seed=facts.seed) if steps else {}
    told = alarms(found, facts.missing, n_vocabulary=facts.n_vocabulary)
    watch = Watch((), missing=facts.missing, notes=tuple(facts.notes))
    section = make_section(facts.made, watch, steps, tables=tables, alarms=told, seed=facts.seed)
    return section, found, told


def read_steps(table: pd.DataFrame, names: Mapping[str, str]) -> dict[int, dict[str, Measured]]:
    """What `unlearn.curves.Curves.table` wrote."""
    steps: dict[int, dict[str, Measured]] = {}
    for key, own in table.groupby(["step", "measure"], sort=False):
        step, measure = cast("tuple[Any, str]", key)
        kept, lost = own[own["left_out"].isna()], own[own["left_out"].notna()]
        steps.setdefault(int(step), {})[str(measure)] = Measured(
            names[measure],
            tuple(kept["id"]),
            tuple(kept["passage"]),
            kept["value"].to_numpy(dtype=float),
            dict(zip(lost["id"], lost["left_out"], strict=True)),
        )
    return steps


def replay(run: Run) -> Replayed:
    """The section anew, from ``items/unlearning-curves.parquet`` and made.json alone.

    Raises:
        DataError: A table is missing or damaged.
    """
    if not (run.folder / FACTS).exists():
        why = f"this run kept no {FACTS}, which tells what was made and what was not measured; later ones do"
        return Replayed((), {AUDIT: why})
    facts = Facts.of_record(read_json(run.folder / FACTS, missing=""))
    section, _, _ = section_of(read_steps(run.read_items(ITEMS).to_pandas(), facts.names), facts)
    known = {table.name for table in section.tables}
    why = "it was made of the text while the model was trained, and is no statistic of the measures"
    not_replayed = {
        f"{AUDIT}:{table.name}": why
        for stored in run.findings().sections
        for table in stored.tables
        if table.name not in known
    }
    return Replayed((section,), not_replayed)
