"""Make or resume the run of a plan of steering: fit maps, measure distances, write findings and report."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from audit.cli import options
from audit.lm.checkpoint import find_folder, fingerprint
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.progress import progress_bars
from audit.report.steering_evaluation_section import EVALUATION
from audit.report.steering_sweep_section import SWEEP
from audit.report.write import draw_where_missing
from audit.runs.records import content_key, plain, read_json
from audit.runs.schema import Findings
from audit.runs.store import Run
from audit.text.files import write_json, write_text
from audit.text.safe import for_terminal

from ...checkpoints import check_out
from ..card import steering_card
from ..files import load_maps
from ..findings import AUDIT, lines, make_section
from ..findings_distances import held_out_distances, plain_distances
from ..findings_made import Made
from ..from_maps import (
    DRAWS,
    FIT_RECORD,
    LOSSES,
    NEURONS,
    RECORD,
    SITES,
    draw_items,
    loss_items,
    neuron_items,
    site_items,
)
from ..network import pooled_activations
from ..run import check_texts
from .evaluate_execute import run_evaluate, tell_evaluation
from .fitting import Asked, asked_for, check, fit_into, steered_at
from .inputs import STEERING, read_sentences
from .plan import SteerPlan
from .sweep_execute import run_sweep, tell_sweep

WORK = "training"


def execute(plan: SteerPlan, text: str, path: Path, *, out: Path | None, quiet: bool) -> Run:
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
    kind = plan.kind
    assert kind is not None
    return RUNS[kind](getattr(plan, kind), text, path, out, quiet)


def _fit(table: Any, text: str, path: Path, out: Path | None, quiet: bool) -> Run:
    subject = table.subject(path)
    source, source_hash = read_sentences(table.texts("source", path), field=table.field)
    target, target_hash = read_sentences(table.texts("target", path), field=table.field)
    check_texts(source, target)
    asked = asked_for(table, source, target)
    values = {key: value for key, value in table.model_dump(mode="json").items() if value is not None}
    whole = {"steer": values, "inputs": {"source": source_hash, "target": target_hash}}
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    check_out(folder, subject)
    lm: Callable[[], LanguageModel] = cache(lambda: load(subject))  # a run that is there already needs none
    if not (folder / "run.json").exists():
        check(lm(), asked)
    with Run.start(
        folder,
        kind="steer",
        plan=whole,
        plan_text=text,
        command=sys.argv,
        hardware=options.gpus(),
        plan_folder=path.absolute().parent,
    ) as run:
        if not run.complete:
            run.add_subject("model", subject.to_record() | {"fingerprint": _fingerprint(subject)})
            run.add_seed("steer", table.seed)
            with progress_bars(quiet=quiet) as progress:
                if not run.has("fit"):
                    with run.stage("fit") as detail:
                        record = fit_into(folder / STEERING, folder / WORK, lm(), asked, progress)
                        write_json(folder / FIT_RECORD, plain(record, FIT_RECORD))
                        detail |= {"steps": record["n_steps"], "peak_memory": record["peak_memory"]}
                shutil.rmtree(folder / WORK, ignore_errors=True)
                if not run.has("measure"):
                    with run.stage("measure"):
                        _write(run, _measured(run, lm(), asked, table.seed))
            run.finish()
    finished = Run.open(folder)
    draw_where_missing(finished)
    return finished


def _measured(run: Run, lm: LanguageModel, asked: Asked, seed: int) -> Made:
    """Distances before and after; on sentences that were fitted on they are plain numbers."""
    record = read_json(run.folder / FIT_RECORD, missing="")
    maps, steering = load_maps(run.folder / STEERING)
    acting = steered_at(maps, asked.method.strength)
    rows = asked.rows(lm)
    sites = [one["name"] for one in record["loss_sites"]]
    settings = asked.plan.settings

    def pooled(which: list[list[int]], what: str, *, steered: bool = False) -> Any:
        return pooled_activations(lm, which, sites, asked.plan.pooling, maps=acting if steered else None, what=what)

    reductions = {"neurons": settings.neurons, "over_sites": settings.sites}
    fitted = plain_distances(
        pooled(rows.source, "source"),
        pooled(rows.source, "steered source", steered=True),
        pooled(rows.target, "target"),
        **reductions,
    )
    held_out = None
    if rows.source_out:
        drawn = held_out_distances(
            pooled(rows.source_out, "held-out source"),
            pooled(rows.source_out, "steered held-out source", steered=True),
            pooled(rows.target_out, "held-out target"),
            **reductions,
            seed=seed,
        )
        run.write_items(DRAWS, draw_items(drawn))
        held_out = drawn.estimates()
    seconds = next(one.seconds for one in run.record.stages if one.name == "fit")
    return Made(record, maps, steering, fitted, held_out, seconds)


def _write(run: Run, made: Made) -> None:
    run.write_items(SITES, site_items(made))
    run.write_items(NEURONS, neuron_items(made))
    if made.record["losses"]:
        run.write_items(LOSSES, loss_items(made))
    write_json(run.folder / RECORD, plain(made.to_record(), RECORD))
    write_text(run.folder / STEERING / "README.md", steering_card(made))
    run.write_findings(Findings(sections=(make_section(made),)))


def _fingerprint(subject: Subject) -> dict[str, Any]:
    located = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    return fingerprint(located).to_record()


#: Table of a plan -> what makes its run.
RUNS: dict[str, Callable[[Any, str, Path, Path | None, bool], Run]] = {
    AUDIT: _fit,
    "sweep": run_sweep,
    "evaluate": run_evaluate,
}


def tell(run: Run, *, as_json: bool) -> None:
    """Print what was made and measured."""
    if run.record.kind == SWEEP:
        return tell_sweep(run, as_json=as_json)
    if run.record.kind == EVALUATION:
        return tell_evaluation(run, as_json=as_json)
    record = read_json(run.folder / RECORD, missing=f"{run.folder} holds no {RECORD}; it was removed.")
    if as_json:
        print(json.dumps(record))  # ASCII: nothing in it steers a terminal
        return
    print(for_terminal(f"steering -> {options.shown(run.folder / STEERING)}"))
    for line in lines(record):
        print(for_terminal(f"  {line}"))
    print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))
