"""Make or resume the run of a loop: audit, remedy, audit again, measure, judge, report.

Every step is recorded when it has ended; a run that was killed goes on with the first that has not, and the remedies,
audits and measures inside a step go on by themselves. The models that a plan names are only read. A remedy that fails
is told and the others go on; one that failed is tried again where the run is gone on with. The plan's own models must
not fail.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from audit.cli import options
from audit.gates.preregistered import preregistered
from audit.progress import progress_bars
from audit.report.text import summary_text
from audit.report.write import draw_where_missing
from audit.runs.records import content_key, plain, read_json
from audit.runs.schema import Findings
from audit.runs.store import Run
from audit.text.files import sha256_file, write_json
from audit.text.safe import for_terminal, printable

from ...checkpoints import check_out
from ...verify.attempts import require_forget_set
from ...verify.battery import Material
from ...verify.findings import AUDIT, Cost, Failure, item_table, loop_record, make_section, verdict_lines
from ...verify.judging import Tried
from .audits import audit, check_audits, found_clusters
from .data import Data, only_clusters, own_id, read_data
from .measuring import fitted, measure
from .plan import MODELS, LoopPlan, file_of, names_of
from .remedies import Made, check_remedies, make_remedy
from .stored import FACTS, ITEMS, RECORD, REFUSED, Facts, loop_of, of_subject
from .systems import (
    SUBJECT,
    Entry,
    check_models,
    entries,
    fingerprint_of,
    gives_numbers,
    material,
    require_clusters,
)

TREATED = "treated.json"
NO_ANSWER = ("undecided", "destroyed", "failed")


def execute(plan: LoopPlan, text: str, path: Path, *, out: Path | None, quiet: bool) -> Run:
    """Make the run of a plan, go on with it where it was killed, or give it back where it is there already.

    Args:
        plan: The checked plan.
        text: The plan as it was written.
        path: Where it was read from, or would stand; paths in it start at its folder.
        out: Folder of the run, or None for the default.
        quiet: Show no progress.

    Raises:
        InputError, DataError, ModelError, StorageError: As in the steps.
    """
    options.quiet_libraries()
    options.require_one_process()
    policy = preregistered(plan.policy, path)
    data = read_data(plan, path)
    check_remedies(plan, path, data)
    inputs = data.inputs | _anchors(plan, path) | check_audits(plan, path)
    if policy is not None:
        inputs["policy"] = policy
    subject = plan.subject.subject(path)
    prints = {name: fingerprint_of(table.subject(path)) for name in MODELS if (table := getattr(plan, name))}
    check_models(prints)
    given = material(plan, data)[0]
    require_forget_set(given)
    require_clusters(given)
    whole = plan.to_record() | {"inputs": inputs, "models": prints}
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    check_out(folder, subject)
    with Run.start(
        folder,
        kind=AUDIT,
        plan=whole,
        plan_text=text,
        command=sys.argv,
        hardware=options.gpus(),
        plan_folder=path.absolute().parent,
        policy_sha256=policy,
    ) as run:
        if not run.complete:
            for name, found in prints.items():
                run.add_subject(name, getattr(plan, name).subject(path).to_record() | {"fingerprint": found})
            run.add_seed("verify", plan.verify.seed)
            _make(run, plan, path, data, quiet=quiet)
            run.finish()
    finished = Run.open(folder)
    draw_where_missing(finished)
    return finished


def tell(run: Run, *, as_json: bool) -> int:
    """Print the verdicts; returns the exit code, 4 where one of them is no answer."""
    record = read_json(run.folder / RECORD, missing=f"there is no {RECORD} in {run.folder}")
    if as_json:
        print(json.dumps(record))
    else:
        print(summary_text(run.findings()))
        for line in verdict_lines(run.findings()):
            print(for_terminal(line))
        print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))
    verdicts = record["verdicts"]
    asked = [name for name in verdicts if name not in MODELS] or [SUBJECT]  # without remedies it is the subject's
    return 4 if any(verdicts[name]["verdict"] in NO_ANSWER for name in asked) else 0


def _anchors(plan: LoopPlan, path: Path) -> dict[str, str]:
    return {
        f"remedies.{name}.anchors": sha256_file(file_of(table.anchors, path))
        for name, table in plan.remedies.items()
        if table.anchors is not None
    }


def _make(run: Run, plan: LoopPlan, path: Path, data: Data, *, quiet: bool) -> None:
    audits: dict[str, Run] = {}
    names = names_of(plan)
    models = [name for name in MODELS if getattr(plan, name) is not None]
    steps = _Steps(run, (plan.audits is not None) + 2 * len(names) + len(models) + 1, quiet=quiet)

    def audited(name: str, model: Any) -> None:
        if plan.audits is not None:
            audits[name] = audit(plan, path, model, run.folder / "audits" / name, quiet=quiet)

    if plan.audits is not None:
        with steps.step("audit of the subject"):
            audited(SUBJECT, plan.subject.subject(path))
    data = _treated(run, plan, data, audits)
    made: list[Made] = []
    failed: dict[str, Failure] = {}
    for name, table, seed in names:
        with steps.step(f"remedy {name}"):
            where = run.folder / "remedies" / name
            try:
                made.append(make_remedy(name, table, seed, plan, data, path, where, quiet))
            except REFUSED as error:
                failed[name] = Failure("failed", f"It could not be made: {printable(str(error))}")
    given, notes = material(plan, data)
    require_clusters(given)  # an audit may have found fewer than were given
    tried: dict[str, Tried] = {}
    for entry in entries(plan, path, made):
        with steps.step(f"measures of {entry.name}"):
            try:
                if entry.name != SUBJECT and entry.model is not None:
                    audited(entry.name, entry.model)
                with progress_bars(quiet=quiet) as progress:
                    tried[entry.name] = measure(
                        entry, plan, given, data.tasks, run.folder / "measured" / entry.name, progress
                    )
            except REFUSED as error:
                if entry.name in MODELS:
                    raise
                failed[entry.name] = _failure(entry, given, error)
    with steps.step("verdicts"):
        given, unfit = fitted(run.folder / "measured", given)
        notes += unfit
        spent = {stage.name: stage.seconds for stage in run.record.stages}
        facts = Facts(
            {name: (one.own_weights, one.missing) for name, one in tried.items()},
            [Cost(one.name, one.method, one.told, spent[f"remedy {one.name}"], one.trained) for one in made],
            failed,
            [name for name, _, _ in names],
            notes,
            list(audits),
            plan.verify.seed,
        )
        write_json(run.folder / FACTS, plain(facts.to_record(), FACTS), secret=True)  # notes may quote a text
        said = {name: one.findings().sections for name, one in audits.items()}
        with progress_bars(quiet=quiet) as progress:
            loop = loop_of(tried, facts, said, progress)
        run.write_items(ITEMS, item_table(tried))
        # Reasons may quote a text.
        write_json(run.folder / RECORD, plain(loop_record(loop), RECORD), secret=True)
        sections = [make_section(loop), *map(of_subject, said.get(SUBJECT, ()))]
        run.write_findings(Findings(sections=tuple(sections), limitations=()), secret=True)


def _failure(entry: Entry, given: Material, error: Exception) -> Failure:
    """Why a remedy could not be measured: where its model gives no numbers any more, it is destroyed."""
    why = printable(str(error))
    try:
        broken = not gives_numbers(entry, given)
    except REFUSED:  # it cannot be loaded
        broken = False
    if not broken:
        return Failure("failed", f"It could not be measured: {why}")
    return Failure(
        "destroyed",
        f"The model's logits are not finite ({why}). Nothing is said of forgetting: a destroyed model answers nothing.",
    )


def _treated(run: Run, plan: LoopPlan, data: Data, audits: dict[str, Run]) -> Data:
    """The forget set: the plan's, or those rows of it that the audit of the subject found."""
    if plan.forget.found_by is None:
        return data
    file = run.folder / TREATED
    if not file.exists():
        homes = {own_id(row.id): row.cluster for row in data.forget.rows}
        write_json(file, {"clusters": sorted(found_clusters(audits[SUBJECT], homes))}, secret=True)
    return only_clusters(data, frozenset(read_json(file, missing="")["clusters"]))


class _Steps:
    """Steps of the loop: a line on standard error for each, and a stage of the run for each that has ended.

    Inside a step audits, remedies and measures draw bars of their own.
    """

    def __init__(self, run: Run, total: int, *, quiet: bool) -> None:
        self._run, self._total, self._quiet, self._done = run, total, quiet, 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        if not self._quiet:
            print(for_terminal(f"Step {self._done + 1:,} of {self._total:,}: {name}{self._left()}"), file=sys.stderr)
        with nullcontext() if self._run.has(name) else self._run.stage(name):
            yield
        self._done += 1

    def _left(self) -> str:
        """What the finished steps took, over all attempts, and what as many more would take."""
        took = [stage.seconds for stage in self._run.record.stages]
        if not took:
            return ""
        left = sum(took) / len(took) * max(0, self._total - len(took))
        return f" ({_clock(sum(took))} so far, about {_clock(left)} left)"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
