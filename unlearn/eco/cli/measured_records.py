"""Measures as plain JSON and back, to the bit, so that a killed evaluation goes on; and as a table of items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from audit.forgetting.measured import Measured

from ..evaluate.choices import Accuracy
from ..evaluate.copyright import Continued
from ..evaluate.qa import Qa


def _measured_record(one: Measured) -> dict[str, Any]:
    return {
        "name": one.name,
        "ids": list(one.ids),
        "passages": list(one.passages),
        "values": one.values.tolist(),
        "left_out": dict(one.left_out),
    }


def _measured(told: dict[str, Any]) -> Measured:
    values = np.array(told["values"], dtype=np.float64)
    return Measured(told["name"], tuple(told["ids"]), tuple(told["passages"]), values, told["left_out"])


def qa_record(one: Qa) -> dict[str, Any]:
    return {
        "part": one.part,
        "scope": one.scope,
        "measures": [_measured_record(measured) for measured in one.measures],
        "refused": list(one.refused),
    }


def qa_of(told: dict[str, Any]) -> Qa:
    probability, rouge, log_ratio, truth = map(_measured, told["measures"])
    return Qa(told["part"], told["scope"], probability, rouge, log_ratio, truth, tuple(told["refused"]))


def choice_record(one: Accuracy) -> dict[str, Any]:
    return {
        "part": one.part,
        "measured": _measured_record(one.measured),
        "chance": one.chance,
        "n_unanswered": one.n_unanswered,
        "n_tied": one.n_tied,
    }


def choice_of(told: dict[str, Any]) -> Accuracy:
    return Accuracy(**{**told, "measured": _measured(told["measured"])})


def continued_record(one: Continued) -> dict[str, Any]:
    measures = (*one.similar, one.loss, one.unique)
    return {"written": list(one.written), "measures": [_measured_record(measured) for measured in measures]}


def continued_of(told: dict[str, Any]) -> Continued:
    *similar, loss, unique = map(_measured, told["measures"])
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
