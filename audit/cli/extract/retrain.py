"""``palimpsest extract retrain BASE --generations GENERATIONS --train ROWS --held-out ROWS``."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ...text.safe import for_terminal, quoted
from .. import options
from ..plan_text import plan_text
from . import flags

if TYPE_CHECKING:
    from ...extraction.finetune import Recipe
    from ...extraction.presets import Chat
    from ...extraction.retrain_rows import Arms
    from ...lm.load import Tokens
    from ...lm.subject import Subject

NAME = "retrain"  # of the run's default folder
STAGE = "retraining.train"
ITEMS = "retraining"
OTHER_OPENING = (
    "note: the generations were sampled after another opening than the one that is trained with here. If they "
    "were sampled with --bos or another format, pass --bos, --preset or --template-from here too."
)


def retrain(
    base: Annotated[str, typer.Argument(help="The model before post-training: a folder, or a Hugging Face id.")],
    generations: Annotated[Path, typer.Option(help="What `extract sample` wrote: .parquet or .jsonl.")],
    train: flags.Train,
    held_out: flags.HeldOut,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Chat format by name, where BASE has no template: tulu, olmo2, qwen2.5, chatml, llama3, gemma, zephyr."
        ),
    ] = None,
    template_from: Annotated[
        str | None, typer.Option(help="Model whose chat template is used, such as the post-trained one.")
    ] = None,
    bos: Annotated[
        bool, typer.Option("--bos", help="Put the beginning-of-sequence token first, where the format does not.")
    ] = False,
    question_field: flags.QuestionField = None,
    answer_field: flags.AnswerField = None,
    id_field: flags.IdField = None,
    skip_bad_lines: flags.SkipBadLines = False,
    seeds: Annotated[int, typer.Option(help="Trainings of each arm; two at least to conclude, three are better.")] = 3,
    seed: options.Seed = 0,
    recipe: Annotated[
        str, typer.Option(help="olmo2-sft, or small for models of some million parameters; flags below change it.")
    ] = "olmo2-sft",
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the original rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows in a step.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens of a row at most. [default: the recipe's, or what the context leaves]")
    ] = None,
    loss_on: Annotated[str | None, typer.Option(help="all tokens of a row, or answers alone.")] = None,
    keep_models: Annotated[
        Path | None, typer.Option(help="Folder that keeps every trained model; they hold what they were trained on.")
    ] = None,
    level: Annotated[float, typer.Option(help="Level of the intervals, which the verdict rests on.")] = 0.95,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/retrain-<hash of the plan>.")
    ] = None,
    resume: flags.Resume = True,
    device: options.Device = "auto",
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Train the base model on extracted rows, on the original ones and on shuffled answers; ask all the same.

    Every arm has the same recipe, steps and tokens, and is asked the held-out rows. One part for each training: a
    killed run goes on with those that ended.
    Exit code: 0 when the extracted rows are seen to teach what the original ones teach, 4 when it is inconclusive, 2
    for bad input.
    """
    _check(seeds=seeds, seed=seed, level=level, preset=preset, template_from=template_from)
    options.quiet_libraries()  # before torch is imported
    from ...extraction.retrain_rows import arms_of, check_base
    from ...extraction.rows import read_rows
    from ...lm.load import load_tokens, pick_device
    from ...progress import progress_bars
    from ...text.files import sha256_file
    from .inputs import read_generations, tell_left_out

    fields = {"question_field": question_field, "answer_field": answer_field, "id_field": id_field}
    subject = options.subject(
        base,
        revision=revision,
        adapter=None,
        dtype="float32",
        device=device,
        device_map=None,
        trust_remote_code=trust_remote_code,
    )
    pick_device(device)
    table = read_generations(generations)
    trained, asked = (
        read_rows(
            source,
            question_field=question_field,
            answer_field=answer_field,
            id_field=id_field,
            skip_bad_lines=skip_bad_lines,
        )
        for source in (train, held_out)
    )
    for rows in (trained, asked):
        tell_left_out(rows)
    check_base(subject)
    tokens = load_tokens(subject)
    chat = _chat(tokens, preset, template_from, trust_remote_code=trust_remote_code)
    plan = _recipe(
        recipe,
        tokens,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        max_tokens=max_tokens,
        loss_on=loss_on,
    )
    with progress_bars(quiet=quiet) as progress:
        arms = arms_of(
            table,
            trained,
            asked,
            tokens,
            chat,
            max_tokens=plan.max_tokens,
            bos=bos,
            seeds=range(seed, seed + seeds),
            seed=seed,
            progress=progress,
        )
    if arms.other_opening:
        print(OTHER_OPENING, file=sys.stderr)
    inputs = {"generations": sha256_file(generations), "train": trained.sha256, "held out": asked.sha256}
    settings = {
        "base": base,
        "revision": revision,
        "generations": str(generations),
        "train": train,
        "held_out": held_out,
        "preset": preset,
        "template_from": template_from,
        "bos": bos,
        **fields,
        "skip_bad_lines": skip_bad_lines,
        "seeds": seeds,
        "seed": seed,
        "level": level,
        "keep_models": None if keep_models is None else str(keep_models),
        "trust_remote_code": trust_remote_code,
    }
    sys.exit(
        _train(
            subject, chat, arms, plan, settings, inputs, out=out, resume=resume, quiet=quiet, as_json=as_json
        )
    )  # fmt: skip


def _check(*, seeds: int, seed: int, level: float, preset: str | None, template_from: str | None) -> None:
    if seeds < 1:
        raise InputError(f"--seeds is {seeds}; expected 1 or more trainings of each arm.")
    if seed + seeds > 2**63:
        raise InputError(f"--seed is {seed}; expected 0 to {2**63 - seeds}.")
    if not 0 < level <= 0.999:
        raise InputError(f"--level is {level}; expected above 0 and at most 0.999.")
    if preset is not None and template_from is not None:
        raise InputError("--preset and --template-from both name the chat format; leave one of them out.")


def _chat(tokens: Tokens, name: str | None, template_from: str | None, *, trust_remote_code: bool) -> Chat:
    """The format of the rows: a preset, another model's template, or the base model's own."""
    from ...extraction.prefixes import chat_of, preset
    from ...lm.load import load_tokens
    from ...lm.subject import Subject

    if name is not None:
        return preset(name)
    if template_from is not None:
        return chat_of(load_tokens(Subject(template_from, trust_remote_code=trust_remote_code)))
    if getattr(tokens.tokenizer, "chat_template", None) is None:
        raise InputError(
            f"{quoted(tokens.subject.model, limit=200)} has no chat template, as most models before post-training. "
            "Name the post-trained model with --template-from, or a format with --preset."
        )
    return chat_of(tokens)


def _recipe(name: str, tokens: Tokens, **changed: Any) -> Recipe:
    """The named recipe with what the flags change, its rows no longer than the context."""
    from ...extraction.finetune import RECIPES

    if name not in RECIPES:
        raise InputError(f"--recipe is {quoted(name)}; expected one of {', '.join(RECIPES)}.")
    given = {key: value for key, value in changed.items() if value is not None}
    known = RECIPES[name]
    try:
        return replace(known, **({"max_tokens": min(known.max_tokens, tokens.n_context)} | given))
    except InputError as error:
        field, _, rest = str(error).partition(" ")
        raise InputError(f"--{field.replace('_', '-')} {rest}") from None


def _train(
    subject: Subject,
    chat: Chat,
    arms: Arms,
    recipe: Recipe,
    settings: dict[str, Any],
    inputs: dict[str, str],
    *,
    out: Path | None,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Make or resume the run, and tell what was found; returns the exit code."""
    from ...extraction.retrain import retrain as train_arms
    from ...extraction.retrain_findings import make_section
    from ...extraction.retrain_replay import HELD_OUT, held_out_table, kept_of
    from ...lm.checkpoint import find_folder, fingerprint
    from ...progress import progress_bars
    from ...report.write import draw_where_missing
    from ...runs.records import content_key
    from ...runs.schema import Findings
    from ...runs.store import Run
    from ..audit import tell

    whole = {"retraining": settings, "recipe": recipe.to_record(), "chat": asdict(chat), "inputs": inputs}
    seeds, trained_on = range(settings["seed"], settings["seed"] + settings["seeds"]), arms.trained_on()
    models = None if settings["keep_models"] is None else Path(settings["keep_models"])
    folder = out or Path("palimpsest-runs") / f"{NAME}-{content_key(**whole)[:8]}"
    if models is not None and not (folder / "run.json").exists():
        _refuse_models(models, [f"{arm}-seed{seed}" for arm in trained_on for seed in seeds])
    located = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    with Run.start(
        folder,
        kind="retraining",
        plan=whole,
        plan_text=_plan_text(settings, recipe),
        command=sys.argv,
        resume=resume,
        hardware=options.gpus(),
        plan_folder=Path.cwd(),
    ) as run:
        if not run.has(STAGE) and not run.complete:
            run.add_subject("base", subject.to_record() | {"fingerprint": fingerprint(located).to_record()})
            run.add_seed("retraining", settings["seed"])
            with progress_bars(quiet=quiet) as progress, run.stage(STAGE) as detail:
                table = train_arms(
                    subject,
                    chat,
                    trained_on,
                    arms.held_out,
                    recipe=recipe,
                    seeds=seeds,
                    open_parts=lambda key, n_parts: run.shards(ITEMS, key=key, n_parts=n_parts),
                    bos=settings["bos"],
                    models=models,
                    progress=progress,
                )
                run.write_items(ITEMS, table)
                section = make_section(
                    table,
                    arms,
                    recipe=recipe,
                    chat_name=chat.name,
                    seeds=seeds,
                    seed=settings["seed"],
                    level=settings["level"],
                )
                run.write_findings(Findings(sections=(section,), limitations=()))
                detail["trainings"] = len(trained_on) * len(seeds)
                detail["arms"] = kept_of(arms)
                run.write_items(HELD_OUT, held_out_table(arms))
        if not run.complete:
            run.finish()
    finished = Run.open(folder)
    draw_where_missing(finished)
    return tell(finished, as_json=as_json)


def _refuse_models(folder: Path, names: list[str]) -> None:
    """Refuses to write models where something stands already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(for_terminal(f"--keep-models {folder} is a file; expected a folder, or a new one's name."))
    there = next((name for name in names if (folder / name).exists()), None)
    if there is not None:
        raise InputError(f"--keep-models {folder} holds {there} already, which would be lost. Choose another folder.")


def _plan_text(settings: dict[str, Any], recipe: Recipe) -> str:
    tables = {"retraining": settings, "retraining.recipe": recipe.to_record()}
    return plan_text(tables, made_by=f"palimpsest extract {NAME}", is_plan=False)
