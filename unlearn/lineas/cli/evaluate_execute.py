"""Make or resume the run of a plan's ``[evaluate]``: measure stage by stage; write findings and report."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from audit.cli import options
from audit.lm.load import LanguageModel, load
from audit.progress import progress_bars
from audit.report.steering_evaluation_section import EVALUATION
from audit.report.steering_evaluation_section import POINTS as EVALUATION_POINTS
from audit.report.write import draw_where_missing
from audit.runs.records import content_key, plain, read_json
from audit.runs.schema import Findings
from audit.runs.store import Run
from audit.text.files import write_json
from audit.text.safe import for_terminal

from ...checkpoints import check_out
from ..evaluated import Evaluated
from ..evaluation_findings import evaluation_lines, evaluation_record, evaluation_section
from ..from_flags import TEST, flag_items, loss_items
from ..from_questions import FLAGS, LOSSES
from .evaluate_inputs import read_inputs
from .evaluate_measuring import MEASURED, WORK, Measuring
from .sweep_items import point_items, text_items

EVALUATION_RECORD = "evaluation.json"
QUESTIONS, TEXTS = "evaluation-questions", "evaluation-continuations"


def run_evaluate(table: Any, text: str, path: Path, out: Path | None, quiet: bool) -> Run:
    """The run of a checked table; as `execute.execute`."""
    subject = table.subject(path)
    found = read_inputs(table, path)
    values = {key: value for key, value in table.model_dump(mode="json").items() if value is not None}
    whole = {"evaluate": values, "inputs": found.hashes}
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    check_out(folder, subject)
    lm: Callable[[], LanguageModel] = cache(lambda: load(subject))  # a run that is there already needs none
    measuring = Measuring(table, found, lm, folder)
    if not (folder / "run.json").exists():
        measuring.check()
    with Run.start(
        folder,
        kind=EVALUATION,
        plan=whole,
        plan_text=text,
        command=sys.argv,
        hardware=options.gpus(),
        plan_folder=path.absolute().parent,
    ) as run:
        if not run.complete:
            measuring.require_same_model()
            run.add_subject("model", subject.to_record() | {"fingerprint": lm().fingerprint.to_record()})
            run.add_seed("evaluate", table.seed)
            with progress_bars(quiet=quiet) as progress:
                _measure(run, table, measuring, subject.model, progress)
            run.finish()
            for name in (MEASURED, WORK):
                shutil.rmtree(folder / name, ignore_errors=True)  # all of it is in the items
    finished = Run.open(folder)
    draw_where_missing(finished)
    return finished


def _measure(run: Run, table: Any, measuring: Measuring, model: str, progress: Any) -> None:
    parts: dict[str, Any] = {"model": model}
    items: list[dict[str, Any]] = []
    if table.truthfulqa is not None:
        parts["truthful"], rows = measuring.truthful(run, progress)
        items += rows
    if table.maps_needed:
        arm, usual, parts["maps"] = measuring.arm(run, progress)
        if table.choices is not None:
            parts["choices"], rows = measuring.choices(run, arm, usual, progress)
            items += rows
        if table.concept:
            parts["concept"], parts["opening"] = measuring.concept(arm, usual, progress), table.opening
    made = Evaluated(**parts)
    if run.has("evaluate"):
        return
    with run.stage("evaluate"):
        if items:
            run.write_items(QUESTIONS, pa.Table.from_pylist(items))
        if made.concept is not None:
            run.write_items(EVALUATION_POINTS, point_items(made.concept, comparing=False))
            run.write_items(FLAGS, flag_items({TEST: made.concept.points}, measuring.judges))
            run.write_items(LOSSES, loss_items({TEST: made.concept.points}))
            run.write_items(TEXTS, text_items(made.concept, measuring.judges), secret=True)
        write_json(run.folder / EVALUATION_RECORD, plain(evaluation_record(made), EVALUATION_RECORD))
        run.write_findings(Findings(sections=(evaluation_section(made),)))


def tell_evaluation(run: Run, *, as_json: bool) -> None:
    """Print what was measured."""
    record = read_json(
        run.folder / EVALUATION_RECORD, missing=f"{run.folder} holds no {EVALUATION_RECORD}; it was removed."
    )
    if as_json:
        print(json.dumps(record))  # ASCII: nothing in it steers a terminal
        return
    for line in evaluation_lines(record):
        print(for_terminal(line))
    print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))
