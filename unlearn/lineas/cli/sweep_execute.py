"""Make or resume the run of a plan's ``[sweep]``: measure, judge, compare; write findings and report."""

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
from audit.lm.load import LanguageModel, load
from audit.progress import progress_bars
from audit.report.steering_sweep_section import POINTS as SWEEP_POINTS
from audit.report.steering_sweep_section import SWEEP
from audit.report.steering_sweep_section import TEXTS as SWEEP_TEXTS
from audit.report.write import draw_where_missing
from audit.runs.records import content_key, plain, read_json
from audit.runs.schema import Findings
from audit.runs.store import Run
from audit.text.files import write_json
from audit.text.safe import for_terminal, quoted

from ...checkpoints import check_out
from ..from_flags import (
    FLAGS,
    LABELS,
    LOSSES,
    NEUTRAL,
    TEST,
    VALIDATION,
    flag_items,
    label_items,
    loss_items,
)
from ..from_flags import RECORD as SWEEP_RECORD
from ..sweep_findings import sweep_lines, sweep_record, sweep_section
from .methods import method_of
from .sweep_inputs import (
    fitted_facts,
    given_facts,
    instruction_arm,
    instruction_facts,
    read_steerings,
    read_sweep_texts,
    require_same_model,
    steering_hashes,
)
from .sweep_items import point_items, text_items
from .sweep_measuring import (
    Points,
    choose,
    fit_baselines,
    judge_all,
    make_judges,
    sampling_of,
    seeds_of,
)

BASELINES = "baselines"
MEASURED = "measured"


def run_sweep(table: Any, text: str, path: Path, out: Path | None, quiet: bool) -> Run:
    """The run of a checked table; as `execute.execute`."""
    subject = table.subject(path)
    found = read_sweep_texts(table, path)
    given = read_steerings(table, path)
    titles = [one.arm.name for one in given]
    for name in table.baselines:
        method = method_of(name)
        if method.baseline is None:
            raise InputError(
                f"{quoted(name)} is no baseline; fit it with `palimpsest steer fit` and give its folder as a steering."
            )
        if method.title in titles:
            raise InputError(f"{method.title} is given as a steering and as a baseline; leave out one of them.")
    values = {key: value for key, value in table.model_dump(mode="json").items() if value is not None}
    whole = {"sweep": values, "inputs": found.hashes | steering_hashes(given)}
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    check_out(folder, subject)
    lm: Callable[[], LanguageModel] = cache(lambda: load(subject))  # a run that is there already needs none
    if not (folder / "run.json").exists():
        require_same_model(given, lm())
    with Run.start(
        folder,
        kind=SWEEP,
        plan=whole,
        plan_text=text,
        command=sys.argv,
        hardware=options.gpus(),
        plan_folder=path.absolute().parent,
    ) as run:
        if not run.complete:
            require_same_model(given, lm())
            run.add_subject("model", subject.to_record() | {"fingerprint": lm().fingerprint.to_record()})
            run.add_seed("sweep", table.seed)
            with progress_bars(quiet=quiet) as progress:
                if not run.has("sweep"):
                    with run.stage("sweep") as detail:
                        judges = make_judges(table, path, found)
                        fitted = fit_baselines(lm(), table.baselines, found, folder / BASELINES, progress)
                        own, words = given[0].arm, instruction_arm(table)
                        arms = [*(one.arm for one in given), *fitted, *words]
                        strengths = {arm.name: table.others for arm in arms} | {own.name: table.ours}
                        points = Points(
                            folder / MEASURED / "points.jsonl",
                            {NEUTRAL: found.by_key["neutral"], "target": found.by_key["target_text"]},
                            sampling_of(table),
                            seeds_of(table),
                            max_tokens=table.max_tokens,
                        )
                        validation = []
                        if table.choose:
                            validation = points.measured(lm(), [own], found.validation, strengths, progress)
                        ours = choose(table, validation, judges, own.name)
                        test = points.measured(lm(), arms, found.prompts, strengths, progress)
                        facts = [
                            *(given_facts(one, found) for one in given),
                            *map(fitted_facts, fitted),
                            *map(instruction_facts, words),
                        ]
                        made = judge_all(table, lm(), found, ours, facts, judges, test, validation, progress)
                        run.write_items(SWEEP_POINTS, point_items(made))
                        run.write_items(SWEEP_TEXTS, text_items(made, tuple(judges)), secret=True)
                        parts = {TEST: test, VALIDATION: validation}
                        run.write_items(FLAGS, flag_items(parts, judges))
                        run.write_items(LOSSES, loss_items(parts))
                        labels = label_items(judges)
                        if labels is not None:
                            run.write_items(LABELS, labels)
                        write_json(folder / SWEEP_RECORD, plain(sweep_record(made), SWEEP_RECORD))
                        run.write_findings(Findings(sections=(sweep_section(made),)))
                        detail |= {"points": len(test) + len(validation)}
            run.finish()
    shutil.rmtree(folder / MEASURED, ignore_errors=True)  # all of it is in the items
    finished = Run.open(folder)
    draw_where_missing(finished)
    return finished


def tell_sweep(run: Run, *, as_json: bool) -> None:
    """Print what was measured."""
    record = read_json(run.folder / SWEEP_RECORD, missing=f"{run.folder} holds no {SWEEP_RECORD}; it was removed.")
    if as_json:
        print(json.dumps(record))  # ASCII: nothing in it steers a terminal
        return
    for line in sweep_lines(record):
        print(for_terminal(line))
    print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))
