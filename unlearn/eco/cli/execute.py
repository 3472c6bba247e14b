"""Make or resume the run of a plan: fit a guard, evaluate it, write findings and report."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from audit.cli import options
from audit.errors import InputError
from audit.lm.checkpoint import find_folder, fingerprint
from audit.lm.load import LanguageModel, load, load_tokens
from audit.lm.subject import Subject
from audit.progress import progress_bars
from audit.report.eco_section import EVALUATION, FIT
from audit.report.write import draw_where_missing
from audit.runs.records import content_key, plain, read_json
from audit.runs.schema import AuditSection, Findings
from audit.runs.store import Run
from audit.text.files import sha256_file, write_json, write_text
from audit.text.safe import for_terminal

from ...checkpoints import check_out
from ..card import guard_card
from ..deal import deal
from ..findings import fit_lines, fit_record, fit_section
from ..guard_files import RECORD as GUARD_FILE
from ..guard_files import read_guard, require_model
from ..held_out import hold_out
from ..objective import check_metrics
from ..tagger import Tagger
from .fitting import fine_tuning, fit_into, fit_plan, form_of, tidy
from .inputs import GUARD, check_dims, check_enough, check_prompts, guard_folder, read_rows, read_texts
from .measuring import MEASURED, Measuring, evaluation_lines, evaluation_record
from .parts import read_parts, require_unseen
from .plan import EcoPlan

FIT_RECORD = "fit.json"
EVALUATION_RECORD = "evaluation.json"


def execute(plan: EcoPlan, text: str, path: Path, *, out: Path | None, quiet: bool) -> Run:
    """Make the run of a plan, go on with it where it was killed, or give it back where it is there already.

    Args:
        plan: The checked plan.
        text: The plan as it was written.
        path: Where it was read from, or would stand; paths in it start at its folder.
        out: Folder of the run, or None for the default.
        quiet: Show no progress.

    Raises:
        InputError, DataError, ModelError, StorageError: As in the steps; the model's files are only read.
    """
    options.quiet_libraries()
    options.require_one_process()
    return (
        _fit(plan.eco, text, path, out, quiet)
        if plan.eco is not None
        else _evaluate(plan.evaluate, text, path, out, quiet)
    )


def _fit(table: Any, text: str, path: Path, out: Path | None, quiet: bool) -> Run:
    subject = table.subject(path)
    texts, inputs = read_texts(table, path)
    parts = None if table.evaluate is None else read_parts(table.evaluate, path, choices=table.choices)
    if parts is not None:
        inputs |= parts.inputs
    settings = fit_plan(table)
    fine_tuning(table)
    dealt = deal(texts.forget, texts.retain, shares=settings.shares, seed=settings.seed)
    hold_out(dealt, share=settings.held_out, seed=settings.seed)  # refuses too few clusters
    if settings.needs_strength and settings.strength is None:
        check_metrics(settings.metrics, dealt.tuning)
        if not (settings.targets or texts.never or table.base or table.choices):
            raise InputError(
                "there is no target for the strength: give --never, rows about what the model never met, or --base, "
                "the model before it was taught, or --surrogate, the target itself, or --strength."
            )
    check_enough(texts, dealt, settings)
    tagger = None
    if table.tagger is not None:
        tagger = Tagger(table.path("tagger", path), device=table.device)
        inputs |= {"tagger": tagger.fingerprint.weights, "tagger_config": tagger.fingerprint.config}
    tokens, form = load_tokens(subject), form_of(table)
    check_dims(subject, settings.dims)
    room = settings.max_new_tokens if "rouge" in settings.metrics else 0
    check_prompts(tokens, form, [*texts.forget, *texts.never], "forget or never-learnt", room=room)
    if parts is not None:
        parts.check(tokens, form, texts.forget, texts.retain, table.evaluate)
    whole = _whole("eco", table, inputs)
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    check_out(folder, subject)
    lm = _loader(subject)
    with _start(folder, FIT, whole, text, path) as run:
        if not run.complete:
            _note(run, subject, table.seed)
            with progress_bars(quiet=quiet) as progress:
                if not run.has("fit"):
                    with run.stage("fit") as detail:
                        made = fit_into(run, table, path, lm(), texts, progress, tagger=tagger)
                        section = fit_section(made, show_text=table.show_text)
                        write_json(run.folder / FIT_RECORD, plain(fit_record(made), FIT_RECORD))
                        write_text(run.folder / GUARD / "README.md", guard_card(made))
                        run.write_findings(_findings([section]), secret=table.show_text)
                        found = made.found
                        detail |= {"evaluations": 0 if found is None else found.n_evaluations}
                tidy(run)
                if table.evaluate is not None and parts is not None:
                    measuring = Measuring(
                        run, table.evaluate, path, run.folder / GUARD, lm, table.path("encoder", path), table, parts,
                        texts.forget, texts.retain,
                    )  # fmt: skip
                    _measure(run, measuring, progress, before=list(run.findings().sections[:1]))
            run.finish()
    shutil.rmtree(folder / MEASURED, ignore_errors=True)  # all of it is in the evaluation's file
    return _reported(folder)


def _evaluate(table: Any, text: str, path: Path, out: Path | None, quiet: bool) -> Run:
    subject = table.subject(path)
    where = guard_folder(table.path("guard", path))
    record = read_guard(where)
    rows = {field: read_rows(table.path(field, path), table) for field in ("forget", "retain")}
    parts = read_parts(table, path, choices=table.choices)
    inputs = {field: sha256_file(table.path(field, path)) for field in rows} | parts.inputs
    inputs["guard"] = sha256_file(where / GUARD_FILE)
    require_unseen(record, rows | ({"passage": parts.passages} if parts.passages else {}))
    require_model(record, _fingerprint(subject), name=subject.model, folder=where)
    parts.check(load_tokens(subject), record.settings.format, rows["forget"], rows["retain"], table)
    whole = _whole("evaluate", table, inputs)
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    check_out(folder, subject)
    lm = _loader(subject)
    with _start(folder, EVALUATION, whole, text, path) as run:
        if not run.complete:
            _note(run, subject, table.seed)
            with progress_bars(quiet=quiet) as progress:
                measuring = Measuring(
                    run, table, path, where, lm, table.path("encoder", path), table, parts, rows["forget"],
                    rows["retain"],
                )  # fmt: skip
                _measure(run, measuring, progress, before=[])
            run.finish()
    shutil.rmtree(folder / MEASURED, ignore_errors=True)  # all of it is in the evaluation's file
    return _reported(folder)


def _measure(run: Run, measuring: Measuring, progress: Any, *, before: list[AuditSection]) -> None:
    section = measuring.section(progress)
    record = plain(evaluation_record(measuring), EVALUATION_RECORD)
    write_json(run.folder / EVALUATION_RECORD, record, secret=True)  # it quotes prompts
    run.write_findings(_findings([*before, section]), secret=measuring.show_text)


def _whole(name: str, table: Any, inputs: dict[str, str]) -> dict[str, Any]:
    values = {key: value for key, value in table.model_dump(mode="json").items() if value is not None}
    return {name: values, "inputs": inputs}


def _start(folder: Path, kind: str, whole: dict[str, Any], text: str, path: Path) -> Run:
    return Run.start(
        folder,
        kind=kind,
        plan=whole,
        plan_text=text,
        command=sys.argv,
        hardware=options.gpus(),
        plan_folder=path.absolute().parent,
    )


def _note(run: Run, subject: Subject, seed: int) -> None:
    run.add_subject("model", subject.to_record() | {"fingerprint": _fingerprint(subject)})
    run.add_seed("eco", seed)


def _fingerprint(subject: Subject) -> dict[str, Any]:
    located = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    return fingerprint(located).to_record()


def _loader(subject: Subject) -> Callable[[], LanguageModel]:
    """The model, loaded when it is first needed: a run that is there already needs none."""
    return cache(lambda: load(subject))


def _findings(sections: list[AuditSection]) -> Findings:
    return Findings(sections=tuple(sections), limitations=())


def _reported(folder: Path) -> Run:
    finished = Run.open(folder)
    draw_where_missing(finished)
    return finished


def tell(run: Run, *, as_json: bool) -> None:
    """Print what was made and measured."""
    records = {
        name: read_json(run.folder / file, missing="")
        for name, file in (("fit", FIT_RECORD), ("evaluation", EVALUATION_RECORD))
        if (run.folder / file).exists()
    }
    if as_json:
        records.get("evaluation", {}).pop("kept", None)  # only a replay has a use for it
        print(json.dumps(records))  # ASCII: nothing in it steers a terminal
        return
    if "fit" in records:
        print(for_terminal(f"guard -> {options.shown(run.folder / GUARD)}"))
        for line in fit_lines(records["fit"]):
            print(for_terminal(f"  {line}"))
    if "evaluation" in records:
        for line in evaluation_lines(records["evaluation"]):
            print(for_terminal(f"  {line}"))
    print("The weights keep what they know: only whoever comes through the guard is held back.")
    print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))
