"""Measures every system of a loop; each piece is a file as soon as it is made, so that a killed run goes on.

measured/unfit.json, and of each system measured/<system>/
battery.json, prompts.json, rounded.json, relearned.jsonl, relearned.json, soft.json, evasion.json, membership.json

Each piece holds the key of what was measured (hashes of the model, the guard or the maps): of another one with the same
name it is made again. Where there is a gold model, nothing is compared with what nobody saw but the subject's utility,
so that the never rows' direct measures are taken of the subject alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audit.answers.systems import Bare
from audit.forgetting.verbatim import VerbatimPlan
from audit.progress import Progress
from audit.runs.records import content_key, plain, read_json
from audit.text.files import make_folder, sha256_file, write_json

from ...verify.attempts import (
    AttemptPlan,
    require_forget_set,
    try_evasion,
    try_membership,
    try_prompts,
    try_relearning,
    try_roundings,
    try_soft_prompts,
)
from ...verify.battery import Battery, Material, Subjected, measure_battery
from ...verify.fitting import Unfit, require_context, unfit
from ...verify.judging import Tried
from ...verify.lm_tasks.files import TaskFile
from ...verify.lm_tasks.run import run_tasks
from ...verify.remembered import Remembered
from ...verify.robustness.soft_prompt import SoftSettings
from .plan import LoopPlan
from .remedies import form_of
from .stored import SO_FAR, tried_of
from .systems import GOLD, SUBJECT, Entry, fingerprint_of, limited

UNFIT = "unfit"
NO_GUARD = "its weights are its own, so that there is no guard to pass; it is asked in other ways above"
NO_BENCHMARKS = "lm-eval reads a model's own weights, and these are the subject's"
NO_WEIGHTS = "its weights are the subject's, so what tuning or rounding brings back is what the subject knows"


def measure(
    entry: Entry, plan: LoopPlan, given: Material, tasks: Sequence[TaskFile], folder: Path, progress: Progress
) -> Tried:
    """Measure one system, or read what was measured.

    Raises:
        InputError, DataError, ModelError: As the measures.
    """
    make_folder(folder)
    sizes = attempt_plan(plan)
    asked = set(plan.verify.attacks)
    form = form_of(plan)
    pieces = _Pieces(folder, _key(entry))
    with _Once(entry) as opening:

        def one() -> Subjected:
            opened = opening()
            # A memory for each piece: what another piece asked was asked in other batches, and is gone after a kill.
            return Subjected(entry.name, Remembered(opened.system), opened.lm, form, opened.saw)

        def look() -> dict[str, Any]:
            system = one().system
            bare = Bare(system.lm, form)
            left_out = unfit(bare, given, max_new_tokens=plan.verify.max_new_tokens, n_soft=sizes.soft.n_soft)
            return {"n_context": system.lm.n_context, "rows": left_out.to_record()}

        fits = _Pieces(folder.parent, pieces.key if entry.name == SUBJECT else None).kept(UNFIT, look)
        given = Unfit(fits["rows"]).without(given)
        require_forget_set(given)

        def ready() -> Subjected:
            require_context(entry.name, one().system.lm.n_context, fits["n_context"])
            return one()

        kept = pieces.kept
        controls = given
        if plan.gold is not None and entry.name != SUBJECT:
            controls = replace(given, never_rows=(), never_texts=())
        made = {"battery": kept("battery", lambda: _battery(ready(), controls, plan, progress).to_record())}
        missing: dict[str, str] = {}
        if "prompts" in asked and given.forget_rows:
            made["prompts"] = kept(
                "prompts", lambda: _told(progress, f"{entry.name}: prompts", try_prompts, ready(), given, sizes)
            )
            missing |= {f"prompts, {way}": why for way, why in made["prompts"]["missing"].items()}
        elif not given.forget_rows:
            missing["prompts"] = "there are no forget rows that could be asked otherwise"
        if not entry.own_weights and entry.name != SUBJECT:
            missing |= dict.fromkeys(("quantisation", "relearning", "soft prompt"), NO_WEIGHTS)
        else:
            if "quantisation" in asked:
                made["rounded"] = kept(
                    "rounded", lambda: try_roundings(_lm(ready()), form, given, sizes, progress=progress)
                )
            if "relearning" in asked:
                made["relearned"], broken = _relearned(ready, given, sizes, pieces, progress)
                missing |= broken
            if "soft prompt" in asked:
                rows, never = given.forget_rows, given.never_rows
                made["soft"] = kept(
                    "soft", lambda: try_soft_prompts(_lm(ready()), form, rows, never, sizes, progress=progress)
                )
                if "missing" in made["soft"]:
                    missing["soft prompt"] = made["soft"]["missing"]
        if "evasion" in asked and given.forget_rows and any(one.method == "eco" for one in plan.remedies.values()):
            if entry.own_weights and entry.name != GOLD:
                missing["evasion"] = NO_GUARD
            else:
                few = limited(given.forget_rows, plan.verify.evasion_rows, seed=plan.verify.seed)
                made["evasion"] = kept("evasion", lambda: try_evasion(ready(), few, sizes, progress=progress))
        if tasks:
            made["benchmarks"] = kept("benchmarks", lambda: _benchmarks(ready(), tasks, progress))
            missing |= made["benchmarks"]["missing"]
        made["membership"] = kept("membership", lambda: try_membership(ready(), given, progress=progress))
    if not given.never_rows and not given.never_texts:
        missing["membership"] = "there is no text from the draw of the forget set that nobody saw; give [never]"
    return tried_of(entry.name, made, own_weights=entry.own_weights, missing=missing)


def fitted(folder: Path, given: Material) -> tuple[Material, tuple[str, ...]]:
    """What was measured of ``given``, and which rows were left out because they do not fit the context.

    Args:
        folder: That of all measures, after `measure` of the subject.
        given: What was to be measured.
    """
    found = Unfit(read_json(folder / f"{UNFIT}.json", missing="the subject was not measured")["made"]["rows"])
    return found.without(given), found.notes


class _Pieces:
    """What was made of one system: files, each with the key of what it was made of; no key takes any."""

    def __init__(self, folder: Path, key: str | None) -> None:
        self.folder, self.key = folder, key

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Read, or made and written."""
        found = self.read(name)
        if found is None:
            self.write(name, make())
            found = self.read(name)
        return found

    def read(self, name: str) -> Any:
        """What is there of this very system, or None."""
        if not self.path(name).exists():
            return None
        told = read_json(self.path(name), missing="")
        return told["made"] if self.key is None or told["key"] == self.key else None

    def write(self, name: str, made: Any) -> None:
        told = {"key": self.key, "made": plain(made, name)}
        write_json(self.path(name), told, secret=True)  # ids and reasons may quote a text


def _key(entry: Entry) -> str:
    """Of what answers: the model's hashes, or those of the guard's or the steering's files."""
    if entry.model is not None:
        return content_key(model=fingerprint_of(entry.model))
    assert entry.files is not None
    files = sorted(one for one in entry.files.rglob("*") if one.is_file())
    return content_key(files={str(one.relative_to(entry.files)): sha256_file(one) for one in files})


def attempt_plan(plan: LoopPlan) -> AttemptPlan:
    verify = plan.verify
    return AttemptPlan(
        bits=tuple(verify.bits),
        relearn_seeds=verify.relearn_seeds,
        relearn_steps=verify.relearn_steps,
        relearn_rate=verify.relearn_rate,
        relearn_share=verify.relearn_share,
        relearn_unrelated=verify.relearn_unrelated,
        soft_rows=verify.soft_rows,
        soft=SoftSettings(n_soft=verify.soft_tokens, n_steps=verify.soft_steps),
        seed=verify.seed,
    )


class _Once:
    """Opens a system when it is first needed, and closes it at the end."""

    def __init__(self, entry: Entry) -> None:
        self._context = entry.open()
        self._opened: Any = None

    def __enter__(self) -> Callable[[], Any]:
        return self._open

    def _open(self) -> Any:
        if self._opened is None:
            self._opened = self._context.__enter__()
        return self._opened

    def __exit__(self, *error: Any) -> None:
        if self._opened is not None:
            self._context.__exit__(*error)


def _battery(one: Subjected, given: Material, plan: LoopPlan, progress: Progress) -> Battery:
    verify = plan.verify
    return measure_battery(
        one,
        given,
        max_new_tokens=verify.max_new_tokens,
        plan=VerbatimPlan(verify.prompt_tokens, verify.continue_tokens),
        on_part=lambda done, total: progress(f"{one.name}: what it knows", done, total),
    )


def _benchmarks(one: Subjected, tasks: Sequence[TaskFile], progress: Progress) -> dict[str, Any]:
    if one.lm is None:
        return {"measured": {}, "missing": {"benchmarks": NO_BENCHMARKS}}
    found = [each.found for each in run_tasks(one.lm, tasks, progress=progress)]
    return {
        "measured": {key: measured.to_record() for each in found for key, measured in each.measured.items()},
        "missing": {},
    }


def _relearned(
    ready: Callable[[], Subjected], given: Material, sizes: AttemptPlan, pieces: _Pieces, progress: Progress
) -> tuple[dict[str, Any], dict[str, str]]:
    """Curves as a record, and why there are none of some kind. Where memory runs out that is said, and tried again."""
    made = pieces.read("relearned")
    if made is None:
        one = ready()
        path = pieces.folder / "relearned.jsonl"
        curves, missing, for_good = try_relearning(
            _lm(one), one.name, one.form, given, sizes, path=path, progress=progress
        )
        made = {"curves": [curve.to_record() for curve in curves], "missing": missing}
        pieces.write("relearned" if for_good else SO_FAR, made)
    missing = {f"relearning, {kind}": why for kind, why in made["missing"].items()}
    if missing and not made["curves"]:
        missing["relearning"] = "; ".join(made["missing"].values())
    return made, missing


def _told(progress: Progress, stage: str, make: Callable[..., Any], *arguments: Any) -> Any:
    progress(stage, 0, 1)
    made = make(*arguments)
    progress(stage, 1, 1)
    return made


def _lm(one: Subjected) -> Any:
    assert one.lm is not None
    return one.lm
