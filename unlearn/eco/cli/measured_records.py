"""Measures as plain JSON and back, to the bit, so that a killed evaluation goes on."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from audit.answers.choices import Accuracy
from audit.forgetting.measured import Measured

from ..evaluate.copyright import Continued
from ..evaluate.latency import Timed
from ..evaluate.recall import Judged


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


def judged_record(one: Judged) -> dict[str, Any]:
    """Scores of what cannot be read are the word "inf", since JSON has no such number."""
    return asdict(one) | {"scores": ["inf" if math.isinf(score) else score for score in one.scores]}


def judged_of(told: dict[str, Any]) -> Judged:
    listed = {name: tuple(told[name]) for name in ("ids", "clusters", "flagged", "texts")}
    return Judged(**{**told, **listed, "scores": tuple(map(float, told["scores"]))})


def timed_record(one: Timed) -> dict[str, Any]:
    steps = {name: seconds.tolist() for name, seconds in one.steps.items()}
    return {"traffic": one.traffic, "steps": steps, "whole": one.whole.tolist(), "n_new": one.n_new}


def timed_of(told: dict[str, Any]) -> Timed:
    steps = {name: np.array(seconds, dtype=np.float64) for name, seconds in told["steps"].items()}
    return Timed(told["traffic"], steps, np.array(told["whole"], dtype=np.float64), told["n_new"])
