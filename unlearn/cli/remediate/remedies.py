"""Makes the remedies of a plan, each in a folder of its own, and opens what was made.

A remedy is given the forget set and what is lent of what is kept, and nothing that is measured besides. Methods that
train are called as `palimpsest unlearn` calls them, but on rows too: of a row the answer after its question is what is
forgotten. Guards and steerings are runs of their own verbs. Killed at any moment, each goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from audit.answers.formats import PromptFormat
from audit.answers.systems import Bare, System
from audit.cli.plan_text import plan_text
from audit.errors import InputError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.progress import progress_bars
from audit.runs.plan import parse_plan
from audit.runs.problems import plain_problems
from audit.runs.records import read_json
from audit.text.files import make_folder, write_json
from audit.text.safe import counted

from ...baselines.methods import METHODS
from ...eco.cli.execute import execute as run_eco
from ...eco.cli.fitting import fit_plan
from ...eco.cli.inputs import GUARD, check_enough
from ...eco.cli.plan import EcoPlan
from ...eco.deal import deal
from ...eco.fit import Texts, prompt_mark
from ...eco.guard_files import load_guard, read_guard
from ...lineas.cli.execute import execute as run_lineas
from ...lineas.cli.inputs import steering_folder
from ...lineas.cli.plan import SteerPlan
from ...lineas.files import load_maps, require_model
from ...lineas.fold import fold
from ...lineas.steer import steered
from ...whp.anchor_files import read_anchors
from ...whp.anchor_statistics import anchors_from_statistics
from ...whp.run import unlearn
from ..plan import UnlearnTable, default_block
from .data import Data
from .plan import LoopPlan, RemedyTable, file_of
from .texts import as_one_text, benign_rows, sentences, sequences, write_lines, write_rows

RECORD = "remedy.json"
Kind = Literal["model", "guard", "steering"]
_OWN = ("model", "forget", "retain", "anchors", "method", "seed", "show_text", "held_out", "contrast", "prompts")


@dataclass(frozen=True, slots=True)
class Made:
    """A remedy that is there.

    Attributes:
        name: In tables: the plan's name, with the seed where there are several.
        method: Of the plan.
        kind: A model of its own; or a guard, or a steering, before the subject.
        model: What is loaded: the remedied model, or the subject behind a guard or a steering.
        folder: The remedy's folder.
        trained: Tokens that were trained on, 0 where nothing was trained.
        told: What was done, in words.
    """

    name: str
    method: str
    kind: Kind
    model: Subject
    folder: Path
    trained: int
    told: str

    @property
    def own_weights(self) -> bool:
        return self.kind == "model"


@dataclass(frozen=True, slots=True)
class Opened:
    """Something that answers.

    Attributes:
        system: It.
        lm: The model whose insides may be read as the system's own; None behind a guard.
        seen: Marks of prompts that it was tuned on (`prompt_mark`); nothing is measured on them.
    """

    system: System
    lm: LanguageModel | None
    seen: frozenset[str] = frozenset()

    def saw(self, prompt: str) -> bool:
        return bool(self.seen) and prompt_mark(prompt) in self.seen


def check_remedies(plan: LoopPlan, path: Path, data: Data) -> None:
    """Refuse settings that a method does not have, and data that it cannot work with, before anything is computed.

    Args:
        plan: The whole plan.
        path: Where relative paths start.
        data: Rows and texts.

    Raises:
        InputError: Names the remedy, and the setting or what is lacking.
    """
    subject = plan.subject.subject(path)
    if plan.remedies and subject.adapter is not None:
        raise InputError(
            "[subject] has an adapter, and remedies are made of a whole model; merge the two first "
            "(unlearn.lora.merge)."
        )
    for name, table in plan.remedies.items():
        given = sorted(set(table.settings) & set(_OWN))
        if given:
            raise InputError(
                f"[remedies.{name}.settings]: {', '.join(given)} comes from the loop itself; leave it out."
            )
        if table.anchors is not None and not file_of(table.anchors, path).is_file():
            raise InputError(f"[remedies.{name}]: there is no file of anchors {table.anchors}.")
        for seed in table.seeds:
            settings = _checked(name, table, subject, seed, plan, data)
            if table.method == "eco":
                _check_eco(name, settings, data)
        if table.method == "lineas" and not data.lent.n_clusters and not data.never.n_clusters:
            raise InputError(f"[remedies.{name}]: lineas steers towards other texts; give [keep].")


def _check_eco(name: str, table: Any, data: Data) -> None:
    """What `palimpsest eco fit` would refuse once the loop has run for hours."""
    benign = benign_rows(data)
    if not benign:
        raise InputError(f"[remedies.{name}]: eco needs prompts that may pass; give [keep] rows.")
    settings = fit_plan(table)
    try:
        dealt = deal(data.forget.rows, benign, shares=settings.shares, seed=settings.seed)
        check_enough(Texts(data.forget.rows, benign), dealt, settings)
    except InputError as error:
        raise InputError(f"[remedies.{name}]: {error} Prompts that may pass are half of [keep] and [never].") from error
    if (
        settings.needs_strength
        and settings.strength is None
        and not settings.targets
        and not table.base
        and not data.never.rows
    ):
        raise InputError(
            f"[remedies.{name}]: there is no target for the strength; give [never] rows, or settings targets or "
            "strength."
        )


def make_remedy(
    name: str, table: RemedyTable, seed: int, plan: LoopPlan, data: Data, path: Path, folder: Path, quiet: bool
) -> Made:
    """Make one remedy, or give back what is there.

    Args:
        name: In tables.
        table: Of the plan.
        seed: Of this remedy.
        plan: The whole plan.
        data: Rows and texts.
        path: Where relative paths start.
        folder: Of this remedy, made when absent.
        quiet: Show no progress.

    Raises:
        InputError, DataError, ModelError, StorageError: As in the method.
    """
    subject = plan.subject.subject(path)
    record = folder / RECORD
    if record.exists():
        told = read_json(record, missing="")
        model = _found(told["model"], told["adapter"], subject, folder)
        return Made(name, table.method, told["kind"], model, folder, told["trained"], told["told"])
    make_folder(folder)
    make = {"eco": _eco, "lineas": _lineas, "whp": _whp}.get(table.method, _baseline)
    made = make(name, table, seed, plan, data, path, folder, quiet)
    where = {key: _inside(getattr(made.model, key), folder) for key in ("model", "adapter")}
    write_json(record, {"kind": made.kind, **where, "trained": made.trained, "told": made.told})
    return made


def _inside(path: str | None, folder: Path) -> str | None:
    """A path as it stands in a remedy's folder, which may be moved with its run; None of what lies elsewhere."""
    inside = path is not None and Path(path).is_relative_to(folder)
    return Path(path).relative_to(folder).as_posix() if inside else None  # type: ignore[arg-type]


def _found(model: str | None, adapter: str | None, subject: Subject, folder: Path) -> Subject:
    """The other way: the subject, with another model or an adapter out of the remedy's folder."""
    found = subject if model is None else replace(subject, model=str(folder / model), revision=None)
    return found if adapter is None else replace(found, adapter=str(folder / adapter))


@contextmanager
def opened(made: Made, form: PromptFormat) -> Iterator[Opened]:
    """Load a remedy; a steering's hooks are gone afterwards."""
    lm = load(made.model)
    if made.kind == "guard":
        where = made.folder / "run" / GUARD
        evidence = read_guard(where).evidence
        seen = {mark for marks in evidence.get("seen", {}).values() for mark in marks}
        yield Opened(load_guard(where, lm), None, frozenset(seen | set(evidence.get("taught", ()))))
        return
    with ExitStack() as stack:
        if made.kind == "steering":
            maps, record = load_maps(steering_folder(made.folder / "run"))
            require_model(record, lm, maps, folder=made.folder)
            stack.enter_context(steered(lm.model, maps, 1.0))
        yield Opened(Bare(lm, form), lm)


def form_of(plan: LoopPlan) -> PromptFormat:
    return PromptFormat(plan.format.kind, plan.format.prefix, plan.format.suffix)


def _checked(name: str, table: RemedyTable, subject: Subject, seed: int, plan: LoopPlan, data: Data) -> Any:
    """The table of a method's own plan.

    Raises:
        InputError: A setting is unknown or wrong, or wants text to keep where none is; the remedy is named.
    """
    retained = _wants_retain(table)
    if retained and table.method != "whp" and not data.lent.n_clusters:
        raise InputError(f"[remedies.{name}]: {table.method} keeps other text as it is known; give [keep].")
    try:
        return _table_of(table, subject, seed, plan, retained and data.lent.n_clusters > 0)
    except ValidationError as error:
        problems = "; ".join(plain_problems(error, UnlearnTable))
        raise InputError(f"[remedies.{name}.settings]: {problems}") from error
    except InputError as error:
        raise InputError(f"[remedies.{name}]: {error}") from error


def _table_of(table: RemedyTable, subject: Subject, seed: int, plan: LoopPlan, retained: bool) -> Any:
    """The table of a method's own plan; texts stand for what the loop writes later."""
    common = {"model": subject.model, "seed": seed}
    if table.method == "eco":
        text = _eco_plan(table, common, plan, forget="forget", retain="retain", never=None, names=None)
        return parse_plan(text, EcoPlan, source="its settings").eco
    if table.method == "lineas":
        text = _steer_plan(table, common, source="source", target="target")
        return parse_plan(text, SteerPlan, source="its settings").steer
    own = METHODS[table.method].settings if table.method in METHODS else "whp"
    given = dict(table.settings)
    inner = {} if own is None else {own: given.pop(own)} if own in given else {}
    whp = {"anchors": "anchors"} if table.method == "whp" else {}
    retain = {"retain": "retain"} if retained else {}
    return UnlearnTable.model_validate(
        {**common, **whp, **retain, "method": table.method, "forget": "forget", **given, **inner}
    )


def _wants_retain(table: RemedyTable) -> bool:
    """Whether the method reads text that is to be kept; whp does where there is any."""
    if table.method in ("eco", "lineas"):
        return False
    usual = "kl" if table.method == "whp" else METHODS[table.method].retain[0]
    return bool(table.settings.get("retain_term", usual) != "none")


def _baseline(
    name: str, table: RemedyTable, seed: int, plan: LoopPlan, data: Data, path: Path, folder: Path, quiet: bool
) -> Made:
    subject = plan.subject.subject(path)
    settings = _checked(name, table, subject, seed, plan, data)
    lm = load(subject)
    block = settings.block or default_block(lm.n_context)
    forget, kept = (sequences(lm, form_of(plan), part, block=block) for part in (data.forget, data.lent))
    del lm
    recipe = settings.baseline_plan(n_blocks=len(forget))
    out = folder / "model"
    with progress_bars(quiet=quiet) as progress:
        trained = METHODS[table.method](subject, forget, kept, recipe, out=out, progress=progress)
    return Made(
        name, table.method, "model", trained.subject, folder, int(trained.log["n_trained"]),
        f"{table.method}, {recipe.recipe.n_steps:,} steps of {recipe.batch_size}, peak rate "
        f"{recipe.recipe.learning_rate:g}, retain term {settings.kind}",
    )  # fmt: skip


def _whp(
    name: str, table: RemedyTable, seed: int, plan: LoopPlan, data: Data, path: Path, folder: Path, quiet: bool
) -> Made:
    subject = plan.subject.subject(path)
    settings = _checked(name, table, subject, seed, plan, data)
    if settings.block is None:
        lm = load(subject)
        settings = settings.model_copy(update={"block": default_block(lm.n_context)})
        del lm
    forget, kept = as_one_text(data.forget), as_one_text(data.lent)
    if table.anchors is not None:
        anchors, whence = read_anchors(file_of(table.anchors, path)), "given"
    else:
        anchors, whence = anchors_from_statistics(forget, kept).anchors, "drafted by counting"
    with progress_bars(quiet=quiet) as progress:
        made = unlearn(subject, forget, anchors, settings.whp_plan(), out=folder, retain=kept, progress=progress)
    log = made.model.log
    trained = int(log["n_trained"]) + int(made.reinforced.log["n_trained"])
    return Made(
        name, table.method, "model", made.model.subject, folder, trained,
        f"whp, {len(anchors):,} anchors {whence}, the weights of step {log['best_step']:,} of {log['n_steps']:,}",
    )  # fmt: skip


def _eco(
    name: str, table: RemedyTable, seed: int, plan: LoopPlan, data: Data, path: Path, folder: Path, quiet: bool
) -> Made:
    subject = plan.subject.subject(path)
    files = {
        "forget": write_rows(folder / "texts" / "forget.jsonl", data.forget.rows),
        "retain": write_rows(folder / "texts" / "retain.jsonl", benign_rows(data)),
        "never": write_rows(folder / "texts" / "never.jsonl", data.never.rows) if data.never.rows else None,
        "names": write_lines(folder / "texts" / "names.txt", data.names) if data.names else None,
    }
    common = {**_loading(subject), "seed": seed}
    given = {key: None if file is None else str(file.absolute()) for key, file in files.items()}
    text = _eco_plan(table, common, plan, **given)  # type: ignore[arg-type]
    checked = parse_plan(text, EcoPlan, source=f"[remedies.{name}.settings]")
    run = run_eco(checked, text, folder / "plan.toml", out=folder / "run", quiet=quiet)
    record = read_guard(run.folder / GUARD)
    corruption = record.settings.corruption
    return Made(
        name, table.method, "guard", subject, folder, 0,
        f"eco, {corruption.function} of strength {corruption.strength:g}, threshold {record.threshold:.3g}",
    )  # fmt: skip


def _lineas(
    name: str, table: RemedyTable, seed: int, plan: LoopPlan, data: Data, path: Path, folder: Path, quiet: bool
) -> Made:
    subject = plan.subject.subject(path)
    wanted, whence = (data.lent, "[keep]") if data.lent.n_clusters else (data.never, "[never]")
    source = write_lines(folder / "texts" / "source.txt", sentences(data.forget, seed=seed))
    target = write_lines(folder / "texts" / "target.txt", sentences(wanted, seed=seed))
    text = _steer_plan(
        table, {**_loading(subject), "seed": seed}, source=str(source.absolute()), target=str(target.absolute())
    )
    checked = parse_plan(text, SteerPlan, source=f"[remedies.{name}.settings]")
    run = run_lineas(checked, text, folder / "plan.toml", out=folder / "run", quiet=quiet)
    maps, record = load_maps(steering_folder(run.folder))
    told = (
        f"lineas, {counted(len(maps), 'site')}, from {len(sentences(data.forget, seed=seed))} sentences of the forget "
        f"set towards {len(sentences(wanted, seed=seed))} of {whence}"
    )
    if wanted is data.never:
        told += ", which are the controls of its own measures: their numbers are not clean"
    if not table.fold:
        return Made(name, table.method, "steering", subject, folder, 0, f"{told}, hooks at strength 1")
    out = folder / "model"
    if not out.exists():
        lm = load(subject)
        require_model(record, lm, maps, folder=run.folder)
        fold(lm, maps, 1.0, out, record=record)
    model = replace(subject, model=str(out), revision=None)
    return Made(name, table.method, "model", model, folder, 0, f"{told}, folded at strength 1")


def _loading(subject: Subject) -> dict[str, Any]:
    return {
        "model": subject.model,
        "revision": subject.revision,
        "dtype": subject.dtype,
        "device": subject.device,
        "trust_remote_code": subject.trust_remote_code,
    }


def _eco_plan(
    table: RemedyTable,
    common: Mapping[str, Any],
    plan: LoopPlan,
    *,
    forget: str,
    retain: str,
    never: str | None,
    names: str | None,
) -> str:
    own, inner = _split(table.settings)
    eco = {
        **common, "forget": forget, "retain": retain, "never": never, "names": names, "target": plan.forget.target,
        "format": plan.format.kind, "prefix": plan.format.prefix, "suffix": plan.format.suffix, **own,
    }  # fmt: skip
    return plan_text({"eco": eco, **{f"eco.{key}": value for key, value in inner.items()}}, made_by="remediate")


def _steer_plan(table: RemedyTable, common: Mapping[str, Any], *, source: str, target: str) -> str:
    own, _ = _split(table.settings)
    return plan_text({"steer": {**common, "source": source, "target": target, **own}}, made_by="remediate")


def _split(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Settings of a table, and its inner tables."""
    inner = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    return {key: value for key, value in settings.items() if key not in inner}, inner
