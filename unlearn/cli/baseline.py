"""``palimpsest unlearn METHOD MODEL --forget TEXT --out DIR`` for every baseline method, made by one function."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from audit.cli import options
from audit.errors import InputError
from audit.text.files import expanded
from audit.text.safe import did_you_mean, quoted

from . import flags

#: Verb -> its line of help; torch is not imported to list them.
VERBS = {
    "gradient-ascent": "Train with the sign turned (arXiv:2210.01504). It has no lower bound.",
    "gradient-difference": "Gradient ascent beside ordinary training on text to keep (arXiv:2401.06121).",
    "kl-ascent": "Gradient ascent held back by the model as it was (arXiv:2310.10683).",
    "npo": "Negative preference optimisation (arXiv:2404.05868).",
    "simnpo": "Negative preference optimisation without a reference (arXiv:2410.07163).",
    "refusal": "Prefer refusals to the text (IdkDPO, arXiv:2401.06121).",
    "rmu": "Representation misdirection (arXiv:2403.03218).",
    "task-vector": "Take off what training on the text adds (arXiv:2212.04089).",
}
_FILES = ("forget", "anchors", "retain", "held_out", "contrast", "prompts")
_OF_RETAIN = ("retain", "retain_term", "retain_weight")
_ALONE = {"held_out": flags.HeldOutAlone, "contrast": flags.ContrastAlone}  # their help where there is no retain text


def _shared(
    model: flags.Model,
    forget: flags.Forget,
    out: flags.Out,
    retain: flags.Retain = None,
    retain_term: flags.RetainTerm = None,
    retain_weight: flags.RetainWeight = 1.0,
    held_out: flags.HeldOut = None,
    contrast: flags.Contrast = None,
    prompts: flags.Prompts = None,
    rate: flags.Rate = None,
    steps: flags.Steps = None,
    batch_size: flags.BatchSize = None,
    forget_weight: flags.ForgetWeight = None,
    weights: flags.Weights = "full",
    block: flags.Block = None,
    evaluate_every: flags.EvaluateEvery = None,
    show_text: flags.ShowText = True,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """The flags of every method; the signature is read, nothing is called."""


def command(verb: str) -> Callable[..., None]:
    """The function behind a verb: the shared flags, and one for each of the method's own settings."""
    options.quiet_libraries()
    from ..baselines.methods import METHODS
    from .plan import own_settings

    name = verb.replace("-", "_")
    method = METHODS[name]
    own = own_settings(method)
    shared = inspect.signature(_shared, eval_str=True).parameters.values()
    left_out = _OF_RETAIN if method.retain == ("none",) else ()
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in shared if one.name not in left_out]
    if left_out:
        parameters = [one.replace(annotation=_ALONE.get(one.name, one.annotation)) for one in parameters]
    if own is not None:
        place = [one.name for one in parameters].index("weights")
        parameters[place:place] = _own_flags(own)

    def run(**given: Any) -> None:
        out, quiet, as_json = (given.pop(key) for key in ("out", "quiet", "as_json"))
        settings = {one.name: given.pop(one.name) for one in ([] if own is None else dataclasses.fields(own))}
        tables = {"unlearn": {"method": name, **given}}
        settings = {key: value for key, value in settings.items() if value not in (None, [])}
        if settings:
            tables[f"unlearn.{method.settings}"] = settings
        run_tables(tables, verb, out=out, quiet=quiet, as_json=as_json)

    run.__doc__ = (
        f"{VERBS[verb]}\n\nMODEL itself is never changed. Killed at any moment, the same command goes on. Nothing is "
        "verified here: audit the result."
    )
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _own_flags(own: type[Any]) -> list[inspect.Parameter]:
    """A flag for each field of a method's own settings, explained by the first words of its docstring."""
    hints, document = get_type_hints(own), inspect.getdoc(own) or ""
    found = []
    for one in dataclasses.fields(own):
        told = re.search(rf"^\s*{one.name}: ([^;.]*)", document, re.MULTILINE)
        default: Any = one.default
        words = told[1].strip() if told else one.name
        kind: Any = hints[one.name]
        if get_origin(kind) is tuple:  # several texts: the flag may be given more than once
            kind, words, default = list[str] | None, f"{words}; may be given more than once", None
        option = typer.Option(f"--{one.name.replace('_', '-')}", help=f"{' '.join(words.split())}.")
        found.append(
            inspect.Parameter(
                one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
            )
        )
    return found


def run_tables(tables: dict[str, dict[str, Any]], verb: str, *, out: Path, quiet: bool, as_json: bool) -> None:
    """Write flags out as the plan that they stand for, and run it.

    Files are looked for before torch is imported. Their paths are written whole, so that the plan runs from its run.
    """
    shared = dict(tables["unlearn"])
    for name in _FILES:
        if shared.get(name) is not None:
            shared[name] = _found(f"--{name.replace('_', '-')}", shared[name])
    if Path(expanded(shared["model"])).exists():
        shared["model"] = _whole(shared["model"])
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder, or a new one's name.")
    tables = {**tables, "unlearn": shared}
    options.quiet_libraries()
    from audit.cli.plan_text import plan_text
    from audit.runs.plan import parse_plan

    from .execute import execute, tell
    from .plan import UnlearnPlan

    text = plan_text(tables, made_by=f"palimpsest unlearn {verb}", run_by="palimpsest unlearn run")
    plan = parse_plan(text, UnlearnPlan, source="the flags")
    run = execute(plan, text, Path.cwd() / f"unlearn-{verb}", out=out, quiet=quiet)
    tell(run, as_json=as_json)


def _found(flag: str, name: str) -> str:
    """The whole path of a file that a flag names; what lies elsewhere keeps its name."""
    from audit.text.hub import PREFIX

    if name.startswith(PREFIX):
        return name
    if not Path(expanded(name)).exists():
        near = Path(expanded(name)).parent
        hint = did_you_mean(Path(name).name, (one.name for one in near.iterdir())) if near.is_dir() else ""
        raise InputError(f"{flag}: there is no file or folder {quoted(name, limit=200)}.{hint}")
    return _whole(name)


def _whole(name: str) -> str:
    return os.path.abspath(expanded(name))
