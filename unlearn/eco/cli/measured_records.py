"""Measures as plain JSON and back, to the bit, so that a killed evaluation goes on; and as a table of items."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from audit.answers.choices import Accuracy
from audit.answers.qa import Qa
from audit.forgetting.measured import Measured

from ..evaluate.copyright import Continued


def choice_record(one: Accuracy) -> dict[str, Any]:
    return {
        "part": one.part,
        "measured": one.measured.to_record(),
        "chance": one.chance,
        "n_unanswered": one.n_unanswered,
        "n_tied": one.n_tied,
    }


def choice_of(told: dict[str, Any]) -> Accuracy:
    return Accuracy(**{**told, "measured": Measured.of_record(told["measured"])})


def continued_record(one: Continued) -> dict[str, Any]:
    measures = (*one.similar, one.loss, one.unique)
    return {"written": list(one.written), "measures": [measured.to_record() for measured in measures]}


def continued_of(told: dict[str, Any]) -> Continued:
    *similar, loss, unique = map(Measured.of_record, told["measures"])
    return Continued(tuple(told["written"]), tuple(similar), loss, unique)


def item_table(qa: dict[str, tuple[Qa, ...]]) -> pa.Table:
    rows = [
        {"system": system, "part": one.part, "scope": one.scope, "measure": name, "id": identifier, "cluster": home,
         "value": value}
        for system, listed in qa.items()
        for one in listed
        for name, measured in zip(("probability", "rouge", "ln truth ratio", "truth"), one.measures, strict=True)
        for identifier, home, value in zip(measured.ids, measured.passages, measured.values.tolist(), strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def passage_table(continued: dict[str, Continued]) -> pa.Table:
    rows = [
        {"system": system, "measure": measured.name, "id": identifier, "cluster": home, "value": value}
        for system, one in continued.items()
        for measured in (*one.similar, one.loss, one.unique)
        for identifier, home, value in zip(measured.ids, measured.passages, measured.values.tolist(), strict=True)
    ]
    return pa.Table.from_pylist(rows)
