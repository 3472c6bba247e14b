"""The estimates of a run by names that mean the same in every run of its kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..schema import AuditSection, Cell, EstimateRecord, Findings, PValueRecord, Table

#: Audit and table -> the columns that name a row. Of a table that is not listed, the first column does.
KEYS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("traps", "auc"): ("score", "length", "n_rep"),
    ("eco-evaluation", "quality"): ("scope", "system", "test"),
    ("eco-evaluation", "latency"): ("traffic", "what"),
    ("eco", "curve"): ("metric", "strength"),
    ("extraction", "rates"): ("view", "arm"),
    ("retraining", "arms"): ("arm", "measure"),
    ("retraining", "differences"): ("arm", "other", "measure"),
    ("remediation", "measures"): ("of", "measure"),
    ("remediation", "residuals"): ("system", "measure"),
    ("remediation", "intact"): ("system", "rule"),
    ("remediation", "tofu"): ("system", "test"),
    ("remediation", "membership"): ("score", "pair"),
    ("remediation", "audits"): ("finding", "estimate"),
    ("remediation", "relearning"): ("kind", "step"),
    ("remediation", "missing"): ("system", "what"),
    ("steer-evaluation", "truthfulqa"): ("measure", "halves", "strength"),
    ("steer-evaluation", "choices"): ("how", "strength"),
    ("steer-evaluation", "rates"): ("arm", "strength"),
    ("steer-evaluation", "perplexities"): ("arm", "strength", "texts"),
    ("steer-sweep", "rates"): ("arm", "strength"),
    ("steer-sweep", "perplexities"): ("arm", "strength", "texts"),
    ("steer-sweep", "matched"): ("baseline", "judge", "texts"),
}
#: A name that ends in a number was given in the order of its run, and means another thing in another run.
_NUMBERED = re.compile(r"-\d+$")
_NUMBER = re.compile(r"-\d+(-|$)")  # inside the name of a table, whose title then tells which it is


class Place(NamedTuple):
    """What an estimate is called.

    Attributes:
        audit: The section's audit.
        finding: Id of the finding, or None where it stands in a table.
        table: Name of the table, or None.
        row: (column, value) of what names the table's row.
        name: Of the estimate in its finding, or of the table's column.
    """

    audit: str
    finding: str | None
    table: str | None
    row: tuple[tuple[str, str], ...]
    name: str

    @property
    def where(self) -> str:
        """In words: "traps.copies_1", or "table auc: score ratio, length 25"."""
        if self.finding is not None:
            return self.finding
        return f"table {self.table}: {', '.join(f'{column} {value}' for column, value in self.row)}"


class Read(NamedTuple):
    """What a run found, ready to be laid beside another's."""

    estimates: dict[Place, EstimateRecord]
    p_values: dict[Place, PValueRecord]
    verdicts: dict[tuple[str, str], str]  # audit and finding
    left_out: dict[str, str]  # what was passed over -> why


def read(findings: Findings) -> Read:
    """Every estimate and p-value of the findings that has a name of its own."""
    found = Read({}, {}, {}, {})
    for section in findings.sections:
        for finding in section.findings:
            if _NUMBERED.search(finding.id):
                if finding.estimates or finding.p_values:
                    found.left_out[finding.id] = "it was numbered in the order of its run; see the tables"
                continue
            found.verdicts[section.audit, finding.id] = finding.verdict
            for name, estimate in finding.estimates.items():
                found.estimates[Place(section.audit, finding.id, None, (), name)] = estimate
            for name, p in finding.p_values.items():
                found.p_values[Place(section.audit, finding.id, None, (), name)] = p
        for table in section.tables:
            _read_table(section, table, found)
    return found


def _read_table(section: AuditSection, table: Table, found: Read) -> None:
    held = any(isinstance(cell, EstimateRecord | PValueRecord) for row in table.rows for cell in row.values())
    if not held or not table.columns:
        return
    title = f"{table.name} ({table.title})" if _NUMBER.search(table.name) else table.name
    keys = KEYS.get((section.audit, table.name), (table.columns[0].key,))
    named = [tuple((key, _word(row.get(key))) for key in keys) for row in table.rows]
    if len(set(named)) < len(named):
        found.left_out[f"table {section.audit}.{table.name}"] = f"{' and '.join(keys)} do not name its rows"
        return
    for row, name in zip(table.rows, named, strict=True):
        for column in table.columns:
            cell = row.get(column.key)
            place = Place(section.audit, None, title, name, column.key)
            if isinstance(cell, EstimateRecord):
                found.estimates[place] = cell
            elif isinstance(cell, PValueRecord):
                found.p_values[place] = cell


def _word(cell: Cell) -> str:
    return f"{cell:g}" if isinstance(cell, float) else str(cell)
