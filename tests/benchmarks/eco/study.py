"""One guard, fitted and then measured on what it was not fitted on: recall, false positives, forgetting, use.

The noise of a guard depends on its key, so what is said of forgetting is the median over several keys, with the range.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from audit.answers.formats import PromptFormat
from audit.answers.qa import USEFUL, Part, Qa, changed_rows, measure_qa, measure_rouge
from audit.answers.quality import forget_quality
from audit.answers.rewordings import attacks
from audit.answers.rows import QaRow
from audit.answers.systems import Bare, Scope, System
from audit.answers.utility import model_utility, utility_difference
from audit.forgetting.measured import difference
from audit.lm.load import LanguageModel
from audit.matching.encode import Encoder
from audit.runs.schema import EstimateRecord
from audit.stats.estimate import Estimate
from unlearn.eco.baselines import FilterRefuse, PromptPrefix
from unlearn.eco.calibration import Threshold
from unlearn.eco.deal import Dealt
from unlearn.eco.evaluate.recall import false_positives, recall
from unlearn.eco.fit import FitPlan, Fitted, Texts, calibration_record, embedding_teacher, fit
from unlearn.eco.guard import EcoGuard
from unlearn.eco.judge import Judge

SCOPES: tuple[Scope, ...] = ("prompt", "prompt+answer")
Say = Callable[[str], None]


def key_of(number: int) -> bytes:
    return hashlib.sha256(f"noise key {number}".encode()).digest()


def fitted(lm: LanguageModel, texts: Texts, plan: FitPlan, form: PromptFormat, encoder: Encoder, say: Say) -> Fitted:
    began = time.monotonic()
    told: dict[str, float] = {}

    def progress(stage: str, done: int, total: int) -> None:
        told.setdefault(stage, time.monotonic())
        if done == total:
            say(f"{stage}: {total:,} in {time.monotonic() - told.pop(stage):.1f} s")

    made = fit(lm, texts, plan, form=form, teach=embedding_teacher(encoder, plan), key=key_of(0), progress=progress)
    say(f"fitted in {time.monotonic() - began:.1f} s")
    return made


def recognised(
    judge: Judge, dealt: Dealt, calibration: Any, general: Sequence[str], *, seed: int, skip: Sequence[str] = ()
) -> dict[str, Any]:
    """Recall on audit rows under each attack, and false positives."""
    audit = [row for row in dealt.audit if isinstance(row, QaRow)]
    test = dealt.test
    promised = calibration if isinstance(calibration, Threshold) else None
    flagged = false_positives(
        judge,
        [row.asked for row in test],
        source="retain test",
        ids=[row.id for row in test],
        clusters=[row.cluster for row in test],
        promised=promised,
        seed=seed,
    )
    others = false_positives(judge, general, source="general questions", seed=seed)
    return {
        "calibration": calibration_record(calibration),
        "threshold": judge.threshold,
        "recall": {
            one.attack: _told(one.share)
            for one in recall(judge, audit, [one for one in attacks() if one.name not in skip], seed=seed)
        },
        "false_positives": {one.source: _told(one.rate) for one in (flagged, others)},
        "surplus_p": None if flagged.surplus is None else flagged.surplus.value,
        "listed": [(one.id, one.text, one.score) for one in (*flagged.listed, *others.listed)][:40],
    }


def searched(made: Fitted) -> dict[str, Any] | None:
    return None if made.found is None else made.found.to_record() | {"rows": made.found.rows()}


def measured(
    system: System, rows: Mapping[Part, Sequence[QaRow]], *, scopes: Sequence[Scope], n_new: int
) -> dict[tuple[str, str], Qa]:
    found: dict[tuple[str, str], Qa] = {}
    for part, own in rows.items():
        rouge = measure_rouge(system, own, part, max_new_tokens=n_new)
        for scope in scopes:
            found[part, scope] = measure_qa(system, own, part, rouge, scope=scope)
    return found


def forgotten(
    made: Fitted,
    gold: LanguageModel,
    rows: Mapping[Part, Sequence[QaRow]],
    *,
    second_gold: LanguageModel | None = None,
    target: str,
    n_keys: int,
    n_new: int,
    seed: int,
    say: Say,
    leave_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Bare, guard, filter and prefix beside gold; the guard under several noise keys on the forget rows.

    "filter" and "prefix" can be left out, for time.
    """
    guard, form = made.guard, made.guard.form
    lm = guard.lm
    bare = Bare(lm, form)
    place = None if form.kind == "text" else "user"
    systems: dict[str, System] = {
        "bare": bare,
        "gold": Bare(gold, form),
        "guard": guard,
        "filter": FilterRefuse(bare, guard.judge),
        "prefix": PromptPrefix(bare, target, place=place),  # type: ignore[arg-type]
    }
    if second_gold is not None:
        systems["gold, other seed"] = Bare(second_gold, form)
    found: dict[str, dict[tuple[str, str], Qa]] = {}
    for name, system in systems.items():
        if name in leave_out:
            continue
        scopes = SCOPES if name in ("guard", "gold") else SCOPES[:1]
        part = rows if name != "gold, other seed" else {"forget": rows["forget"]}
        found[name] = measured(system, part, scopes=scopes, n_new=n_new)  # type: ignore[arg-type]
        say(f"measured: {name}")
    golden = found["gold"]
    record: dict[str, Any] = {"systems": {}, "keys": {}}
    for name, parts in found.items():
        record["systems"][name] = {
            f"{part}, {scope}": _said(own, golden.get((part, scope)), seed) for (part, scope), own in parts.items()
        }
        useful = [parts[part, "prompt"] for part in USEFUL if (part, "prompt") in parts]
        if len(useful) == len(USEFUL):
            record["systems"][name]["utility"] = _told(model_utility(useful, rng=seed))
            before = [found["bare"][part, "prompt"] for part in USEFUL]
            record["systems"][name]["utility less bare"] = _told(utility_difference(useful, before, rng=seed))
        record["systems"][name]["quality"] = _quality(parts["forget", "prompt"], golden["forget", "prompt"])
    record["systems"]["guard"]["quality, prompt+answer"] = _quality(
        found["guard"]["forget", "prompt+answer"], golden["forget", "prompt+answer"]
    )
    record["changed"] = {
        part: _changed(found["bare"][part, "prompt"], found["guard"][part, "prompt"], guard, own)
        for part, own in rows.items()
    }
    values = []
    for number in range(n_keys):
        other = guard.with_key(key_of(number))
        own = measured(other, {"forget": rows["forget"]}, scopes=SCOPES[:1], n_new=n_new)["forget", "prompt"]
        raw, folded, clustered = forget_quality(own, golden["forget", "prompt"])
        values.append(
            {
                "probability": float(own.probability.values.mean()),
                "rouge": float(own.rouge.values.mean()),
                "raw": _p(raw),
                "folded": _p(folded),
                "by cluster": _p(clustered),
                "distance": raw.distance.value,
            }
        )
        say(f"noise key {number}: {values[-1]}")
    record["keys"] = {
        name: [float(np.quantile([one[name] for one in values], q)) for q in (0.5, 0, 1)]
        for name in values[0]
        if all(one[name] is not None for one in values)
    }
    record["n_keys"] = n_keys
    return record


def _changed(before: Qa, after: Qa, guard: EcoGuard, rows: Sequence[QaRow]) -> dict[str, Any]:
    flagged = {row.id for row, hit in zip(rows, guard.flagged([row.asked for row in rows]), strict=True) if hit}
    changed = set(changed_rows(before, after))
    return {
        "rows": len(rows),
        "flagged": len(flagged),
        "changed": len(changed),
        "not flagged": sorted(changed - flagged),
    }


def _said(own: Qa, gold: Qa | None, seed: int) -> dict[str, Any]:
    told: dict[str, Any] = {"refused": len(own.refused)}
    for name in ("probability", "rouge", "truth"):
        one = getattr(own, name)
        told[name] = _told(one.mean(rng=seed)) if len(one.values) else None
        if gold is not None and len(one.values):
            told[f"{name} less gold"] = _told(difference(one, getattr(gold, name), rng=seed))
    return told


def _quality(own: Qa, gold: Qa) -> dict[str, Any]:
    tested = forget_quality(own, gold)
    return {one.name: {"distance": _told(one.distance), "p": _p(one)} for one in tested}


def _p(one: Any) -> float | None:
    return None if one.p_value is None else float(one.p_value.value)


def _told(estimate: Estimate) -> dict[str, Any]:
    return EstimateRecord.of(estimate).model_dump()
