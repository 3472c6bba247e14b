"""``palimpsest unlearn whp MODEL --forget TEXT --anchors ANCHORS --out DIR``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli import options
from audit.errors import InputError
from audit.text.safe import counted, for_terminal

REFUSED_IN = ("reinforced", "labels", "model")


def whp(
    model: Annotated[str, typer.Argument(help="The model that is to forget: a folder, or a Hugging Face id.")],
    forget: Annotated[Path, typer.Option(help="The whole text to be forgotten: txt, or a folder of txt; jsonl, ...")],
    anchors: Annotated[
        Path, typer.Option(help="Dictionary of terms and substitutes (.toml, .json); `unlearn anchors` drafts one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; the result lies in OUT/model.")],
    retain: Annotated[
        Path | None, typer.Option(help="Text that the model is to keep, like the forgotten one but not of it.")
    ] = None,
    retain_term: Annotated[
        str | None,
        typer.Option(
            help="mixed (ordinary loss) or kl (divergence from the model as it was). [default: kl, if --retain]"
        ),
    ] = None,
    retain_weight: Annotated[float, typer.Option(help="Of the retain term beside the labels.")] = 1.0,
    weights: Annotated[
        str, typer.Option(help="full, or lora: adapters for both trainings, with one set of weights in memory.")
    ] = "full",
    block: Annotated[int, typer.Option(help="Tokens of a block.")] = 512,
    alpha: Annotated[float, typer.Option(help="How far what the reinforced model favours is pushed down.")] = 5.0,
    labels: Annotated[str, typer.Option(help="hard (the argmax, as published) or soft.")] = "hard",
    compat: Annotated[
        bool, typer.Option("--compat", help="Translate as the authors' script does, its slips included.")
    ] = False,
    reinforce_epochs: Annotated[int, typer.Option(help="Passes over the text in the first training.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps of the second training at most.")] = 120,
    reinforce_rate: Annotated[
        float | None, typer.Option(help="Peak rate of the first training. [default: 3e-6; lora: 2e-4]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Peak rate of the second training. [default: 1e-6; lora: 2e-4]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Blocks in a step.")] = 128,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Who's Harry Potter? (arXiv:2310.02238): tune a model until it answers as one that never read a text.

    The model is trained further on the text; what that makes likelier, and the anchor terms, are taken out of the
    labels that it is then tuned on. MODEL itself is never changed. Killed at any moment, the same command goes on.
    Rates and batch size of the paper are not sourced; the defaults are widely repeated values. Nothing is verified
    here: audit the result.
    """
    options.quiet_libraries()  # before torch is imported
    from audit.progress import progress_bars
    from audit.text.files import write_json

    from ..whp.anchor_files import read_anchors
    from ..whp.config import Optimisation, Reinforcement, Retain, Tuning, WhpPlan
    from ..whp.run import unlearn
    from .texts import whole_text

    if retain is None and retain_term is not None:
        raise InputError("--retain-term needs --retain, the text that is to be kept.")
    kind: Any = "none" if retain is None else (retain_term or "kl")
    chosen: Any = weights
    of_steps = Optimisation(batch_size=batch_size)
    plan = WhpPlan(
        block=block,
        alpha=alpha,
        labels=labels,  # type: ignore[arg-type]  # checked there, with a message
        compat=compat,
        reinforce=Reinforcement(chosen, reinforce_epochs, replace(of_steps, learning_rate=reinforce_rate)),
        tune=Tuning(
            weights=chosen,
            n_steps=steps,
            evaluate_every=min(20, steps),
            optimisation=replace(of_steps, learning_rate=rate),
            retain=Retain(kind, retain_weight),
        ),
        seed=seed,
    )
    subject = options.subject(
        model,
        revision=revision,
        adapter=None,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    text, text_sha256 = whole_text(forget)
    kept, kept_sha256 = ("", None) if retain is None else whole_text(retain)
    dictionary = read_anchors(anchors)
    _check_out(out, model)
    with progress_bars(quiet=quiet) as progress:
        made = unlearn(subject, text, dictionary, plan, out=out, retain=kept, progress=progress)
    record = {
        "method": "whp",
        "baseline": subject.to_record(),
        "forget_sha256": text_sha256,
        "retain_sha256": kept_sha256,
        "n_anchors": len(dictionary),
        "n_blocks": made.n_blocks,
        "n_replaced": made.n_replaced,
        "plan": plan.to_record(),
        "reinforced": {"folder": str(made.reinforced.folder), "log": made.reinforced.log},
        "model": {"folder": str(made.model.folder), "log": made.model.log},
    }
    write_json(out / "unlearning.json", record)
    if as_json:
        print(json.dumps(record))
        return
    done = counted(made.n_blocks, "block")
    print(for_terminal(f"{done}, {made.n_replaced:,} anchor terms replaced -> {options.shown(made.model.folder)}"))
    print("Not verified: nothing here says that the text is gone. Audit the result before you rely on it.")


def _check_out(out: Path, model: str) -> None:
    """Refuses a folder that holds something else, or the model itself."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder, or a new one's name.")
    if out.is_dir() and Path(model).is_dir() and out.resolve() == Path(model).resolve():
        raise InputError("--out is the folder of MODEL, which is never changed. Choose another.")
    known = {*REFUSED_IN, "unlearning.json"}
    if out.is_dir() and (strange := [path.name for path in out.iterdir() if path.name.lstrip(".").split(".")[0] not in
                                      {name.split(".")[0] for name in known}]):  # fmt: skip
        raise InputError(
            f"--out {out} holds {strange[0]!r}, so it is not a run of this command. Choose another folder."
        )
