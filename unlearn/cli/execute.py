"""Make or resume the run of a plan of unlearning: train, measure as it goes on, write findings, card and report."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from audit.cli import options
from audit.errors import InputError
from audit.forgetting.prompts import Passage, Prompt, read_prompts
from audit.lm.checkpoint import find_checkpoint, find_folder, fingerprint, is_local
from audit.lm.load import load, load_tokens
from audit.lm.subject import Subject
from audit.lm.tokens import prefix_ids
from audit.progress import Progress, progress_bars
from audit.report.unlearning_section import marked_texts, unlearning_figures
from audit.report.write import write_report
from audit.runs.records import content_key, plain, read_json
from audit.runs.schema import EstimateRecord, Findings, Table
from audit.runs.store import Run
from audit.text.files import sha256_file, write_json, write_text
from audit.text.safe import counted, for_terminal

from ..baselines.methods import METHODS
from ..card import model_card
from ..curves import Curves
from ..findings import AUDIT, ITEMS, Change, Made, changes, lines, make_section
from ..watch import Watch, hold_out, make_watch, passages
from ..whp.anchor_files import read_anchors
from ..whp.anchors import Anchors
from ..whp.blocks import make_blocks
from ..whp.reinforce import Trained
from ..whp.run import unlearn, whp_card
from ..whp.views import anchor_table, token_views
from .plan import WHP, UnlearnPlan
from .texts import whole_text

STAGE = "unlearning"
VIEWS = "unlearning-labels"
RECORD = "unlearning.json"
FIRST_EVALUATIONS = 6  # of a baseline's training, where nobody said how often


@dataclass(frozen=True, slots=True)
class _Read:
    """What a plan names, read."""

    forget: str
    retain: str
    held_out: tuple[Passage, ...]
    why_no_held_out: str
    contrast: str
    prompts: list[Prompt] | None
    anchors: Anchors
    inputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Done:
    """What a method made."""

    model: Trained
    made: Made
    n_blocks: int
    record: dict[str, Any]
    tables: tuple[Table, ...]
    card: Callable[[Mapping[str, Change]], str]  # what was measured -> the model card


def execute(plan: UnlearnPlan, text: str, path: Path, *, out: Path | None, quiet: bool) -> Run:
    """Make the run of a plan, go on with it where it was killed, or give it back where it is there already.

    Args:
        plan: The checked plan.
        text: The plan as it was written.
        path: Where it was read from, or would stand; paths in it start at its folder.
        out: Folder of the run, or None for the default.
        quiet: Show no progress.

    Raises:
        InputError, DataError, ModelError, StorageError: As in the steps; the baseline's files are only read.
    """
    options.quiet_libraries()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "this command is one process, but WORLD_SIZE says that there are several. Start it alone, or train in "
            "several processes from Python (unlearn.baselines.methods, unlearn.whp.run)."
        )
    table: Any = plan.unlearn
    subject = table.subject(path)
    read = _read(table, path)
    tokens = load_tokens(subject)
    if table.block > tokens.n_context:
        raise InputError(
            f"block is {table.block:,}, but the model {subject.model} reads at most {tokens.n_context:,} tokens; give "
            "a smaller one."
        )
    watch = make_watch(
        tokens,
        read.forget,
        held_out=read.held_out,
        why_no_held_out=read.why_no_held_out,
        contrast=read.contrast,
        prompts=read.prompts,
        seed=table.seed,
    )
    whole = {
        "unlearn": {name: value for name, value in table.model_dump(mode="json").items() if value is not None},
        "inputs": read.inputs,
    }
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    _check_out(folder, subject)
    located = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    with Run.start(
        folder,
        kind=AUDIT,
        plan=whole,
        plan_text=text,
        command=sys.argv,
        hardware=options.gpus(),
        plan_folder=path.absolute().parent,
    ) as run:
        if not run.complete:
            weights = fingerprint(located).to_record()
            run.add_subject("baseline", subject.to_record() | {"fingerprint": weights})
            run.add_seed(AUDIT, table.seed)
            curves = Curves(
                run.folder / "parts" / ITEMS,
                watch,
                key=content_key(plan=run.record.plan_sha256, model=weights),
                only_first=table.method != WHP and METHODS[table.method].ending is not None,
            )
            if not run.has(STAGE):
                with progress_bars(quiet=quiet) as progress, run.stage(STAGE) as detail:
                    done = _made(table, subject, read, run, curves, tokens, progress)
                    detail |= {name: log["n_trained"] for name, log in done.made.logs.items()}
                    _measure_ends(curves, table, subject, done)
                    _tell(run, table, watch, curves, done)
            shutil.rmtree(curves.folder, ignore_errors=True)  # its content is a table of the run now
            run.finish()
    finished = Run.open(folder)
    if not (folder / "report.html").exists():
        findings = finished.findings()
        views = finished.read_items(VIEWS).to_pandas() if finished.items_path(VIEWS).exists() else None
        write_report(
            finished,
            {AUDIT: unlearning_figures(findings)},
            marked=None if views is None else {AUDIT: marked_texts(views)},
        )
    return finished


def tell(run: Run, *, as_json: bool) -> None:
    """Print what was made and measured."""
    record = read_json(run.folder / RECORD, missing=f"{run.folder} has no {RECORD}.")
    if as_json:
        print(json.dumps(record))  # ASCII: nothing in it steers a terminal
        return
    done = counted(record["n_blocks"], "block")
    if "n_replaced" in record:
        done += f", {record['n_replaced']:,} anchor terms replaced"
    print(for_terminal(f"{done} -> {options.shown(Path(record['model']['folder']))}"))
    found = {
        name: Change(one["name"], *(EstimateRecord(**one[key]).estimate() for key in ("before", "result", "change")))
        for name, one in record["measured"].items()
    }
    for line in lines(found):
        print(for_terminal(f"  {line}"))
    print("Not verified: nothing here says that the text is gone. Audit the result before you rely on it.")
    print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))


def _read(table: Any, path: Path) -> _Read:
    texts: dict[str, str] = {}
    inputs: dict[str, str] = {}
    for name in ("forget", "retain", "held_out", "contrast"):
        file = table.path(name, path)
        if file is not None:
            texts[name], inputs[name] = whole_text(file)
    for one, other in (("forget", "retain"), ("forget", "held_out"), ("retain", "held_out")):
        if other in inputs and inputs.get(one) == inputs[other]:
            raise InputError(f"{one} and {other} are the same text; give {other} a text of its own.")
    prompts, anchors = table.path("prompts", path), table.path("anchors", path)
    for name, file in (("prompts", prompts), ("anchors", anchors)):
        if file is not None and file.is_file():
            inputs[name] = sha256_file(file)
    held_out: list[Passage] = []
    retain, why = texts.get("retain", ""), "no retained or held-out text was given"
    if "held_out" in texts:
        held_out = passages(texts["held_out"])
    elif retain:
        retain, held_out, why = hold_out(retain, seed=table.seed)
    others = [texts[name] for name in ("contrast", "retain", "held_out") if name in texts]
    return _Read(
        texts["forget"],
        retain,
        tuple(held_out),
        why,
        texts.get("contrast", "\n\n".join(others)),
        None if prompts is None else read_prompts(prompts),
        Anchors() if anchors is None else read_anchors(anchors),
        inputs,
    )


def _check_out(out: Path, subject: Subject) -> None:
    """Refuses a folder that is, holds or lies in the model's own, before anything is written there."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder, or a new one's name.")
    here = out.resolve()
    for source in (one.resolve() for one in (find_checkpoint(subject) if is_local(subject.model) else [])):
        if here == source or source in here.parents or here in source.parents:
            raise InputError(
                f"--out {out} and the folder of MODEL, {source}, lie one in the other; the model is never changed. "
                "Choose another."
            )


def _made(
    table: Any, subject: Subject, read: _Read, run: Run, curves: Curves, tokens: Any, progress: Progress
) -> _Done:
    if table.method == WHP:
        return _whp(table, subject, read, run, curves, tokens, progress)
    return _baseline(table, subject, read, run, curves, tokens, progress)


def _whp(table: Any, subject: Subject, read: _Read, run: Run, curves: Curves, tokens: Any, progress: Progress) -> _Done:
    plan = table.whp_plan()
    made = unlearn(
        subject, read.forget, read.anchors, plan, out=run.folder, retain=read.retain, on_eval=curves, progress=progress
    )
    tables = (anchor_table(read.anchors, made.translations),) if table.show_text else ()
    if table.show_text and not run.items_path(VIEWS).exists():
        rows = token_views(made.labels.table, made.blocks, plan, lambda ids: str(tokens.tokenizer.decode(list(ids))))
        run.write_items(VIEWS, rows, secret=True)
    record = {
        "n_anchors": len(read.anchors),
        "n_replaced": made.n_replaced,
        "plan": plan.to_record(),
        "reinforced": {"folder": str(made.reinforced.folder), "log": made.reinforced.log},
    }
    how = (
        "Who's Harry Potter? (arXiv:2310.02238). The model was trained further on the forget text (the reinforced "
        "model). In a translation of the text the terms of a dictionary gave way to common ones. The baseline's logits "
        f"on the translation, less alpha = {plan.alpha * plan.kappa:g} times what the reinforced model favours more, "
        f"gave {plan.labels} labels, and the baseline was tuned on the original text with these labels. Retain term: "
        f"{table.kind}. {_of_texts(read)}"
    )
    log = made.model.log
    claim = (
        f"{_kind(table)} {subject.model} was tuned on {counted(made.n_blocks, 'block')} of forget text in which "
        f"{made.n_replaced:,} anchor terms were replaced; {log['n_steps']:,} of at most {log['n_planned']:,} steps, "
        f"and the weights of step {log['best_step']:,} are the result."
    )
    return _Done(
        made.model,
        Made(
            "Who's Harry Potter?",
            how,
            claim,
            {"reinforced model": made.reinforced.log, "unlearned model": log},
            log["best_step"],
            {"labels": (made.labels.n_read, made.labels.seconds)},
            (
                "The weights that are kept are those of the lowest loss on blocks that were kept out of the training, "
                "of the forget text with its labels and of the retain text.",
            )
            if plan.tune.validation_share
            else (),
        ),
        made.n_blocks,
        record,
        tables,
        lambda found: whp_card(subject, made, read.anchors, plan, found=found),
    )


def _baseline(
    table: Any, subject: Subject, read: _Read, run: Run, curves: Curves, tokens: Any, progress: Progress
) -> _Done:
    lead = prefix_ids(tokens)
    blocks, kept = (
        [block.token_ids for block in make_blocks(tokens.tokenizer, text, n_tokens=table.block, prefix=lead)]
        if text
        else []
        for text in (read.forget, read.retain)
    )
    method, plan = METHODS[table.method], table.baseline_plan(n_blocks=len(blocks))
    every = table.evaluate_every or max(1, plan.recipe.n_steps // FIRST_EVALUATIONS)
    trained = method(
        subject, blocks, kept, plan, out=run.folder / "model", on_eval=curves, eval_every=every, progress=progress
    )
    document = (import_module(f"unlearn.baselines.{table.method}").__doc__ or "").strip()
    source = " ".join(document.split("\n\n")[0].split())
    name, log, recipe = source.split(" (")[0], trained.log, plan.recipe
    notes = []
    if method.ending is not None:
        notes.append(
            "While it is trained this model learns the text, and only the end turns that round; so it is measured "
            "before the first step and as the result, and not between."
        )
    if table.rate is None or table.steps is None:
        notes.append(
            "Where no rate or steps were given, those of the open-unlearning suite were taken (1e-5, 10 passes over "
            "the forget text), which are not tuned to this model or text."
        )
    own = {} if method.settings is None else dataclasses.asdict(getattr(plan, method.settings))
    settings = "".join(f", {key} {_setting(value)}" for key, value in own.items())
    how = (
        f"{source} Peak rate {recipe.learning_rate:g}, {recipe.n_steps:,} steps of {plan.batch_size:,} blocks"
        f"{settings}. Retain term: {table.kind}. {_of_texts(read)}"
    )
    claim = (
        f"{_kind(table)} {subject.model} was trained on {counted(len(blocks), 'block')} of forget text in "
        f"{counted(log['n_steps'], 'step')}; the last step's weights are the result."
    )
    facts = {
        "Forget text": f"{counted(len(blocks), 'block')} of at most {table.block:,} tokens",
        "Trained": f"{plan.weights}, {counted(log['n_steps'], 'step')}, peak rate {recipe.learning_rate:g}{settings}",
        "Retain term": table.kind if table.kind == "none" else f"{table.kind}, weight {plan.retain_weight:g}",
    }
    record = {"plan": {key: value for key, value in plan.to_record().items() if key not in METHODS or value == own}}
    return _Done(
        trained,
        Made(name, how, claim, {"unlearned model": log}, log["best_step"], notes=tuple(notes)),
        len(blocks),
        record,
        (),
        lambda found: model_card(subject.model, f"{table.method}: {source}", facts, found=found),
    )


def _kind(table: Any) -> str:
    return "An adapter over" if table.weights == "lora" else "A copy of"


def _setting(value: Any) -> str:
    return f"of {len(value):,} texts" if isinstance(value, tuple) else "by depth" if value is None else f"{value:g}"


def _of_texts(read: _Read) -> str:
    if not read.held_out:
        return "No text was held out."
    return f"Held out of the training, to measure on: {counted(len(read.held_out), 'passage')}."


def _measure_ends(curves: Curves, table: Any, subject: Subject, done: _Done) -> None:
    """Measure the baseline and the result where the training itself did not."""
    full = dataclasses.replace(subject, dtype="float32") if table.weights == "full" else subject
    for step, one in ((0, full), (done.made.result_step, done.model.subject)):
        if step not in curves.steps():
            curves.add(step, load(one))


def _tell(run: Run, table: Any, watch: Watch, curves: Curves, done: _Done) -> None:
    """Write what is left beside the model: items, findings, record and card."""
    steps = {step: curves.at(step) for step in curves.steps()}
    run.write_items(ITEMS, curves.table(list(steps)))
    found = changes(steps[0], steps[done.made.result_step], seed=table.seed)
    section = make_section(done.made, watch, steps, tables=done.tables, seed=table.seed)
    run.write_findings(Findings(sections=(section,), limitations=()))
    record = {
        "method": table.method,
        "baseline": run.record.subjects["baseline"],
        "forget_sha256": run.record.plan["inputs"]["forget"],
        "retain_sha256": run.record.plan["inputs"].get("retain"),
        "n_blocks": done.n_blocks,
        **done.record,
        "model": {"folder": str(done.model.folder), "log": done.model.log},
        "measured": _measured(found),
    }
    write_json(run.folder / RECORD, plain(record, RECORD))
    write_text(done.model.folder / "README.md", done.card(found))


def _measured(found: Mapping[str, Change]) -> dict[str, Any]:
    return {
        name: {
            "name": one.name,
            **{
                key: EstimateRecord.of(estimate).model_dump()
                for key, estimate in (("before", one.before), ("result", one.after), ("change", one.change))
            },
        }
        for name, one in found.items()
    }
