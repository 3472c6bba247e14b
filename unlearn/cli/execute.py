"""Make or resume the run of a plan of unlearning: train, measure as it goes on, write findings, card and report."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from audit.cli import options
from audit.errors import DataError, InputError
from audit.forgetting.prompts import Passage, Prompt, read_prompts
from audit.lm.checkpoint import find_folder, fingerprint
from audit.lm.load import load, load_tokens
from audit.lm.subject import Subject
from audit.lm.tokens import prefix_ids
from audit.progress import Progress, progress_bars
from audit.report.unlearning_section import VIEWS
from audit.report.write import draw_where_missing
from audit.runs.records import content_key, plain, read_json
from audit.runs.schema import EstimateRecord, Findings, Table
from audit.runs.store import Run
from audit.text.files import sha256_file, write_json, write_text
from audit.text.safe import counted, for_terminal

from ..apart import check_apart, shared_lines
from ..baselines.method import OWN_SETTINGS
from ..baselines.methods import METHODS
from ..card import model_card
from ..checkpoints import check_out
from ..curves import Curves
from ..findings import AUDIT, ITEMS, Change, Made, lines
from ..from_curves import FACTS, Facts, section_of
from ..watch import Watch, hold_out, make_watch, passages
from ..whp.anchor_files import read_anchors
from ..whp.anchors import Anchors
from ..whp.blocks import make_blocks
from ..whp.own_rules import own_rules
from ..whp.reinforce import Trained
from ..whp.run import prepare, unlearn, whp_card
from ..whp.views import anchor_table, token_views
from .plan import WHP, UnlearnPlan, default_block
from .texts import whole_text

STAGE = "unlearning"
RECORD = "unlearning.json"
FIRST_EVALUATIONS = 6  # of a baseline's training, where nobody said how often
_APART = (
    ("retain", "forget", "the same text would be kept and forgotten"),
    ("held_out", "forget", "its loss would say nothing of what is kept"),
    ("held_out", "retain", "its loss would be that of text that is trained on"),
)


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
    card: Callable[[Mapping[str, Change], Sequence[str]], str]  # what was measured, and alarms -> the model card


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
    if table.block is None:
        table = table.model_copy(update={"block": default_block(tokens.n_context)})
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
    check_out(folder, subject)
    if not (folder / "run.json").exists():  # a refused run leaves no folder that the mended one cannot use
        _check_texts(table, read, tokens)
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
                    _tell(run, table, watch, curves, done, tokens.n_vocabulary)
            shutil.rmtree(curves.folder, ignore_errors=True)  # its content is a table of the run now
            run.finish()
    finished = Run.open(folder)
    draw_where_missing(finished)
    return finished


def tell(run: Run, *, as_json: bool) -> None:
    """Print what was made and measured."""
    record = read_json(run.folder / RECORD, missing=f"{run.folder} has no {RECORD}.")
    if as_json:
        print(json.dumps(record))  # ASCII: nothing in it steers a terminal
        return
    done = counted(record["n_blocks"], "block")
    if "n_replaced" in record:
        done += f", {counted(record['n_replaced'], 'anchor term')} replaced"
    print(for_terminal(f"{done} -> {options.shown(Path(record['model']['folder']))}"))
    found = {
        name: Change(one["name"], *(EstimateRecord(**one[key]).estimate() for key in ("before", "result", "change")))
        for name, one in record["measured"].items()
    }
    for line in lines(found):
        print(for_terminal(f"  {line}"))
    for line in record.get("alarms", ()):
        print(for_terminal(line))
    for line in _of_folders(run, record):
        print(for_terminal(line))
    print("Not verified: nothing here says that the text is gone. Audit the result before you rely on it.")
    print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))


def _of_folders(run: Run, record: Mapping[str, Any]) -> list[str]:
    """What lies in the run's folder that a reader might take for something else, or hand on unawares."""
    told = []
    if (Path(record["model"]["folder"]) / "adapter_config.json").exists():
        told.append(
            f"The result is an adapter over {record['baseline']['model']}, which still knows the text; its README.md "
            "says how to load it."
        )
    if "reinforced" in record:
        told += [
            f"{options.shown(Path(record['reinforced']['folder']))} is a model trained FURTHER on the text; delete it "
            "before you hand the folder on.",
            f"{options.shown(run.folder / 'labels')} holds the text's tokens.",
        ]
    return told


def _read(table: Any, path: Path) -> _Read:
    texts: dict[str, str] = {}
    inputs: dict[str, str] = {}
    for name in ("forget", "retain", "held_out", "contrast"):
        file = table.path(name, path)
        if file is not None:
            texts[name], inputs[name] = whole_text(file)
    for name, other, why in _APART:
        if name in texts and other in texts:
            check_apart(texts[name], texts[other], names=(name.replace("_", "-"), other), why=why)
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


def _check_texts(table: Any, read: _Read, tokens: Any) -> None:
    """Refuses, before anything is written, what the method would refuse once its texts are cut."""
    if table.method == WHP:
        prepare(tokens, read.forget, read.anchors, table.whp_plan(), retain=read.retain)
        return
    for what, text in (("forget", read.forget), ("retain", read.retain)):
        blocks = _blocks(tokens, text, table.block)
        if text and not any(len(ids) > max(1, len(prefix_ids(tokens))) for ids in blocks):
            raise DataError(f"the {what} text has too few tokens, so there is nothing to train on. Give a longer one.")


def _blocks(tokens: Any, text: str, size: int) -> list[list[int]]:
    if not text:
        return []
    lead = prefix_ids(tokens)
    return [list(block.token_ids) for block in make_blocks(tokens.tokenizer, text, n_tokens=size, prefix=lead)]


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
        f"gave {plan.labels} labels, and the baseline was tuned on the original text with these labels. "
        f"{own_rules(plan)}Retain term: {_retain(table)}. {_of_texts(read)}"
    )
    log = made.model.log
    result = f"the weights of step {log['best_step']:,} are the result"
    if log["best_step"] == 0:  # none of the later weights was better on the blocks that were kept out
        result = "the weights of before the first step were the best and are the result: nothing was unlearned"
    claim = (
        f"{_kind(table)} {subject.model} was tuned on a forget text of {counted(made.n_blocks, 'block')} in which "
        f"{_were(made.n_replaced)} replaced; {log['n_steps']:,} of at most {log['n_planned']:,} steps of "
        f"{counted(plan.tune.optimisation.batch_size, 'block')}, and {result}."
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
        lambda found, told: whp_card(subject, made, read.anchors, plan, found=found, alarms=told),
    )


def _baseline(
    table: Any, subject: Subject, read: _Read, run: Run, curves: Curves, tokens: Any, progress: Progress
) -> _Done:
    blocks, kept = (_blocks(tokens, text, table.block) for text in (read.forget, read.retain))
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
    if table.method in ("npo", "refusal") and table.kind != "none":
        notes.append(
            "The forget loss is one of whole blocks, the sum over their tokens, but the retain loss is a mean over "
            "tokens: at equal weights the forget text pulls harder, at first by about the number of tokens in a block. "
            "A forget weight of one over that number would balance the two."
        )
    if table.rate is None or table.steps is None:
        notes.append(
            "Where no rate or steps were given, those of the open-unlearning suite were taken (1e-5, 10 passes over "
            "the forget text), which are not tuned to this model or text."
        )
    own = {} if method.settings is None else dataclasses.asdict(getattr(plan, method.settings))
    settings = "".join(f", {key} {_setting(value)}" for key, value in own.items())
    how = (
        f"{source} Peak rate {recipe.learning_rate:g}, {recipe.n_steps:,} steps of "
        f"{counted(plan.batch_size, 'block')}, forget weight {plan.forget_weight:g}{settings}. "
        f"Retain term: {_retain(table)}. {_of_texts(read)}"
    )
    steps = f"{counted(log['n_steps'], 'step')} of {counted(plan.batch_size, 'block')}"
    claim = (
        f"{_kind(table)} {subject.model} was trained on a forget text of {counted(len(blocks), 'block')} in {steps}, "
        f"{plan.batch_size * log['n_steps'] / len(blocks):.3g} passes over it; the last step's weights are the result."
    )
    facts = {
        "Forget text": f"{counted(len(blocks), 'block')} of at most {table.block:,} tokens",
        "Trained": f"{plan.weights}, {steps}, peak rate {recipe.learning_rate:g}, forget weight "
        f"{plan.forget_weight:g}{settings}",
        "Retain term": _retain(table),
    }
    record = {
        "plan": {
            key: value for key, value in plan.to_record().items() if key not in OWN_SETTINGS or key == method.settings
        }
    }
    return _Done(
        trained,
        Made(name, how, claim, {"unlearned model": log}, log["best_step"], notes=tuple(notes)),
        len(blocks),
        record,
        (),
        lambda found, told: model_card(
            subject.model,
            f"{table.method}: {source}",
            facts,
            adapter=table.weights == "lora",
            found=found,
            alarms=told,
        ),
    )


def _were(n_replaced: int) -> str:
    return f"{counted(n_replaced, 'anchor term')} {'was' if n_replaced == 1 else 'were'}"


def _kind(table: Any) -> str:
    return "An adapter over" if table.weights == "lora" else "A copy of"


def _retain(table: Any) -> str:
    return "none" if table.kind == "none" else f"{table.kind}, weight {table.retain_weight:g}"


def _setting(value: Any) -> str:
    return f"of {len(value):,} texts" if isinstance(value, tuple) else "by depth" if value is None else f"{value:g}"


def _of_texts(read: _Read) -> str:
    if not read.held_out:
        return "No text was held out."
    told = f"Held out of the training, to measure on: {counted(len(read.held_out), 'passage')}."
    n_shared, n = shared_lines("\n".join(one.text for one in read.held_out), f"{read.retain}\n{read.forget}")
    return f"{told} {n_shared:,} of {counted(n, 'line')} of them stand in the trained texts too." if n_shared else told


def _measure_ends(curves: Curves, table: Any, subject: Subject, done: _Done) -> None:
    """Measure the baseline and the result where the training itself did not."""
    dtype = "float32" if table.weights == "full" else subject.dtype  # as it is measured while it is trained
    for step, one in ((0, subject), (done.made.result_step, done.model.subject)):
        if step not in curves.steps():
            curves.add(step, load(dataclasses.replace(one, dtype=dtype)))


def _tell(run: Run, table: Any, watch: Watch, curves: Curves, done: _Done, n_vocabulary: int | None) -> None:
    """Write what is left beside the model: items, findings, record and card."""
    steps = {step: curves.at(step) for step in curves.steps()}
    run.write_items(ITEMS, curves.table(list(steps)))
    names = {key: one.name for measured in steps.values() for key, one in measured.items()}
    facts = Facts(done.made, watch.missing, watch.notes, names, n_vocabulary, table.seed)
    section, found, told = section_of(steps, facts, tables=done.tables)
    write_json(run.folder / FACTS, plain(facts.to_record(), FACTS), secret=True)  # notes may quote the text
    run.write_findings(Findings(sections=(section,), limitations=()), secret=bool(done.tables))  # they quote the text
    record = {
        "method": table.method,
        "baseline": run.record.subjects["baseline"],
        "forget_sha256": run.record.plan["inputs"]["forget"],
        "retain_sha256": run.record.plan["inputs"].get("retain"),
        "n_blocks": done.n_blocks,
        **done.record,
        "model": {"folder": str(done.model.folder), "log": done.model.log},
        "measured": _measured(found),
        "alarms": list(told),
    }
    write_json(run.folder / RECORD, plain(record, RECORD))
    write_text(done.model.folder / "README.md", done.card(found, told))


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
