"""Runs, findings and policies made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audit.gates.policy import LoadedPolicy, load_policy
from audit.runs.records import read_record, write_record
from audit.runs.schema import AuditSection, EstimateRecord, Finding, Findings, OpeningRecord, PValueRecord
from audit.runs.store import Run
from audit.stats.auc import stratified_auc
from audit.stats.stratified import stratified_permutation
from audit.traps.power.design import Design
from audit.traps.power.model import arm_power

HEAD = """
schema_version = 1
name = "made"
title = "Made by hand"
reading = "Ours, for tests."
"""
CREATED = "2026-11-27T12:00:00+00:00"
WEIGHTS = {"subject": "a" * 64, "other": "b" * 64}


def estimate(value: float | None, low: float | None, high: float | None, **more: Any) -> EstimateRecord:
    given = {"level": 0.95, "n": 100, "method": "made", "why": None if low is not None else "made without"} | more
    return EstimateRecord(value=value, low=low, high=high, **given)


def power(value: float) -> EstimateRecord:
    return estimate(value, None, None, why="computed")


def p_value(value: float, *, attainable: float = 0.0001, method: str = "re-dealing") -> PValueRecord:
    return PValueRecord(value=value, attainable=attainable, n=9_999, method=method)


def finding(id_: str, verdict: str = "information", **more: Any) -> Finding:
    """A finding; power that is given is for an AUC of 0.6 where nothing else is said."""
    given = {"id": id_, "audit": id_.split(".")[0], "claim": f"{id_} says so.", "verdict": verdict,
             "how_to_read": "as it is", "power_effect": 0.6 if more.get("power") is not None else None}  # fmt: skip
    return Finding(**given | more)


def findings(*made: Finding) -> Findings:
    section = AuditSection(
        audit="made", title="Made", method="by hand", assumptions=(), cannot_show=(), findings=tuple(made)
    )
    return Findings(sections=(section,))


def run_of(
    folder: Path,
    made: Findings,
    *,
    finished: bool = True,
    policy_sha256: str | None = None,
    model: str = "subject",
    record: Mapping[str, Any] | None = None,
) -> Path:
    """A run on disk, made on `CREATED`; ``record`` changes its ``run.json`` after it has ended."""
    with Run.start(
        folder, kind="audit", plan={"made": str(folder.name)}, plan_text=None, command=["made"],
        policy_sha256=policy_sha256,
    ) as run:  # fmt: skip
        run.add_subject("subject", {"model": model, "fingerprint": {"weights": WEIGHTS[model]}})
        run.write_findings(made)
        if finished:
            run.finish()
    opening = read_record(folder / "opening.json", OpeningRecord, missing="")
    write_record(folder / "opening.json", opening.model_copy(update={"created": CREATED}))
    made_on = Run.open(folder).record
    provenance = made_on.provenance.model_copy(update={"created": CREATED})
    write_record(folder / "run.json", made_on.model_copy(update={"provenance": provenance}))
    if record is not None:
        write_record(folder / "run.json", Run.open(folder).record.model_copy(update=dict(record)))
    return folder


def policy_of(folder: Path, text: str, *, head: str = HEAD, name: str = "policy.toml") -> LoadedPolicy:
    path = folder / name
    path.write_text(head + text, encoding="utf-8")
    return load_policy(path)


def rule(**keys: Any) -> str:
    """One ``[[rules]]`` table in TOML."""
    given = {"id": "r", "title": "A rule"} | keys
    return "[[rules]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in given.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return repr(value)


def simulated_traps(
    rng: np.random.Generator, *, shift: float = 0.0, members: int = 60, n_draws: int = 199, strata: int = 6
) -> Findings:
    """What the trap audit finds at 1, 4, 16 and 64 copies, from normal scores: members lie ``shift`` above decoys.

    594 decoys in 6 strata, as on the small testbed; AUC, p-value and power are the audit's own.
    """
    decoys, per = 594, members // strata
    home = np.concatenate([np.repeat(np.arange(strata), decoys // strata), np.repeat(np.arange(strata), per)])
    is_member = np.concatenate([np.zeros(decoys, dtype=bool), np.ones(per * strata, dtype=bool)])
    below = rng.standard_normal(decoys)
    design = Design(members=(per,) * strata, decoys=(decoys // strata,) * strata)
    stated = arm_power(0.6, design, alpha=0.05, arms=4, n_draws=9_999)
    made = []
    for copies in (1, 4, 16, 64):
        scores = np.concatenate([below, rng.standard_normal(per * strata) + shift])
        auc = stratified_auc(scores, is_member, home)
        p = stratified_permutation(scores, is_member, home, n_draws=n_draws, rng=rng)
        made.append(
            finding(
                f"traps.copies_{copies}",
                "inconclusive",
                estimates={"auc": EstimateRecord.of(auc)},
                p_values={"arm": PValueRecord.of(p)},
                power=power(stated),
                power_for="an AUC of 0.6",
            )
        )
    return findings(*made)
