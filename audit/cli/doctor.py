"""``palimpsest doctor``: is the instrument itself in order?

``--known-answers`` asks every instrument what is known (`audit.selftest`). Rooms are named as text and imported when
they are asked, as the verbs are, so that this package does not depend on the other.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from . import options
from .endings import interrupted

if TYPE_CHECKING:
    from ..selftest.answers import Instrument, Known

app = typer.Typer(rich_markup_mode=None, add_completion=False)
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "scipy", "scikit-learn", "pyarrow")
EXTRAS = {
    "offline": "sentence-transformers",
    "utility": "lm-eval",
    "scale": "vllm",
    "dashboard": "streamlit",
}
ROOMS = ("audit.selftest.instruments", "unlearn.selftest.instruments")  # each with INSTRUMENTS
LEAST_DISK = 2 * 1024**3  # bytes


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``state``: "ok", "note" (no harm) or "problem" (mend it)."""

    name: str
    state: str
    detail: str


@app.command()
def doctor(
    known_answers: Annotated[
        bool,
        typer.Option(
            "--known-answers", help="Ask every instrument what is known, and keep the result for later runs; minutes."
        ),
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Ask this instrument alone (repeatable); nothing is kept.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of built testbeds and self-tests; default as in testbed build.")
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Check versions, devices, memory, disk, and that the import names audit and unlearn are this project's.

    With --known-answers also whether each instrument finds what was planted and nothing where nothing is.

    Exit code: 0 when nothing needs mending, 5 when an instrument failed, 2 otherwise.
    """
    if only and not known_answers:
        raise InputError("--only names an instrument of --known-answers; give both, or neither.")
    checks = [*_python(), *_packages(), *_import_names(), *_devices(), *_disk(cache)]
    problem = any(check.state == "problem" for check in checks)
    if not known_answers:
        if as_json:
            print(json.dumps([asdict(check) for check in checks], indent=2))
        else:
            _print_checks(checks)
        sys.exit(2 if problem else 0)
    if not as_json:
        _print_checks(checks)
    if any(check.state == "problem" and check.name in PACKAGES for check in checks):
        raise InputError("the instruments cannot be asked before the packages above are installed.")
    told = _known_answers(only or [], cache, as_json=as_json, quiet=quiet)
    if as_json:
        print(json.dumps({"environment": [asdict(check) for check in checks], **told}, indent=2))
    sys.exit(5 if not told["passed"] else 2 if problem else 0)


def _print_checks(checks: list[Check]) -> None:
    wide = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.state:<8}{check.name:<{wide}}  {check.detail}")


def _known_answers(only: list[str], cache: Path | None, *, as_json: bool, quiet: bool) -> dict[str, Any]:
    """Ask, print a line for each answer, keep the result of a whole round, and say what failed."""
    from ..progress import progress_bars
    from ..runs.self_test import keep
    from ..selftest.ask import ask
    from ..text.safe import for_terminal

    options.quiet_libraries()
    chosen = _instruments(only)
    wide = max(len(one.name) for one in chosen)

    def line(instrument: str, known: Known) -> None:
        if as_json:
            return
        state = "FAILED" if not known.passed else "ok" if known.asked else "note"
        said = f"{state:<8}{instrument:<{wide}}  {known.name}: {known.got}"
        if not known.passed:
            said += f"; expected {known.expected} ({known.why})"
        elif not known.asked:
            said += f": {known.why}"
        print(for_terminal(said), flush=True)

    kept = "nothing is kept of a self-test that did not end; the same command begins anew."
    with interrupted(kept), progress_bars(quiet=quiet or as_json) as progress:
        found = ask(chosen, progress=progress, on_answer=line)
    checks = [(instrument, known.to_record()) for instrument, known in found]
    failed = [(instrument, known) for instrument, known in found if not known.passed]
    not_asked = list(dict.fromkeys(instrument for instrument, known in found if not known.asked))
    told: dict[str, Any] = {
        "passed": not failed,
        "failed": sorted({instrument for instrument, _ in failed}),
        "not_asked": not_asked,
        "record": None,
        "checks": [{"instrument": instrument, **known} for instrument, known in checks],
    }
    if not only:
        told["record"] = keep(checks, cache=cache).model_dump()
    if not as_json:
        n = sum(known.asked for _, known in found)
        if failed:
            names = ", ".join(told["failed"])
            print(f"\n{len(failed)} of {n} known answers are wrong: {names}. Believe nothing that these say.")
        else:
            print(f"\nAll {n} known answers of {len(chosen) - len(not_asked)} instruments are right.")
        if not_asked:
            print(f"Not asked, so not vouched for: {', '.join(not_asked)}.")
        if only:
            print("Part of the instruments was asked, so the result is not kept for later runs.")
    return told


def _instruments(only: list[str]) -> list[Instrument]:
    every: list[Instrument] = [one for room in ROOMS for one in importlib.import_module(room).INSTRUMENTS]
    names = [one.name for one in every]
    for name in only:
        if name not in names:
            from ..text.safe import did_you_mean, quoted

            hint = did_you_mean(name, names)
            raise InputError(f"--only is {quoted(name)}; expected one of {', '.join(names)}.{hint}")
    return [one for one in every if not only or one.name in only]


def _python() -> list[Check]:
    state = "ok" if sys.version_info >= (3, 11) else "problem"
    return [Check("python", state, f"{platform.python_version()} on {platform.platform()}")]


def _packages() -> list[Check]:
    checks = []
    for name in PACKAGES:
        try:
            checks.append(Check(name, "ok", version(name)))
        except PackageNotFoundError:
            checks.append(Check(name, "problem", "not installed; run: pip install palimpsest-audit"))
    for extra, name in EXTRAS.items():
        try:
            checks.append(Check(f"extra {extra}", "ok", f"{name} {version(name)}"))
        except PackageNotFoundError:
            checks.append(
                Check(f"extra {extra}", "note", f"{name} is absent; pip install 'palimpsest-audit[{extra}]' if needed")
            )
    return checks


def _import_names() -> list[Check]:
    """Other projects use the import name ``audit`` too (libaudit's binding does); the later install would win."""
    import audit

    owners = packages_distributions()
    ours = Path(__file__).resolve().parents[1]
    loaded = Path(audit.__file__).resolve().parent
    checks = []
    for name in ("audit", "unlearn"):
        strangers = sorted(set(owners.get(name, [])) - {"palimpsest-audit"})
        if strangers:
            checks.append(
                Check(
                    f"import {name}", "problem", f"also installed by {', '.join(strangers)}; use an environment apart"
                )
            )
        elif name == "audit" and loaded != ours:
            checks.append(Check("import audit", "problem", f"loads {loaded}, not {ours}; use an environment apart"))
        elif name in owners or name == "audit":
            checks.append(Check(f"import {name}", "ok", "owned by palimpsest-audit alone"))
    return checks


def _devices() -> list[Check]:
    import torch

    checks = [Check("cpu", "ok", f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        checks.append(Check(f"cuda:{index}", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"))
    if torch.backends.mps.is_available():
        checks.append(Check("mps", "ok", "Apple GPU"))
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        checks.append(Check("gpu", "note", "none; large models will be slow"))
    return checks


def _disk(cache: Path | None) -> list[Check]:
    from ..testbed.cache import cache_root

    checks = []
    for name, folder in (("disk here", Path.cwd()), ("disk cache", cache_root(cache))):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        writable = os.access(existing, os.W_OK)
        state = "ok" if writable and free >= LEAST_DISK else "problem"
        detail = f"{free / 2**30:.1f} GiB free in {folder}"
        if not writable:
            detail += "; it cannot be written"
        elif free < LEAST_DISK:
            detail += f"; free at least {LEAST_DISK / 2**30:.0f} GiB"
        checks.append(Check(name, state, detail))
    return checks
