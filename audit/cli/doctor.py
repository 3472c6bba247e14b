"""``palimpsest doctor``: is the instrument itself in order?"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Annotated

import typer

from . import options

app = typer.Typer(rich_markup_mode=None, add_completion=False)
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "scipy", "scikit-learn", "pyarrow")
EXTRAS = {
    "offline": "sentence-transformers",
    "utility": "lm-eval",
    "scale": "vllm",
    "dashboard": "streamlit",
}
LEAST_DISK = 2 * 1024**3  # bytes


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``state``: "ok", "note" (no harm) or "problem" (mend it)."""

    name: str
    state: str
    detail: str


@app.command()
def doctor(
    cache: Annotated[Path | None, typer.Option(help="Folder of built testbeds; default as in testbed build.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Check versions, devices, memory, disk, and that the import names audit and unlearn are this project's.

    Exit code: 0 when nothing needs mending, 2 otherwise.
    """
    checks = [*_python(), *_packages(), *_import_names(), *_devices(), *_disk(cache)]
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        wide = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.state:<8}{check.name:<{wide}}  {check.detail}")
    sys.exit(2 if any(check.state == "problem" for check in checks) else 0)


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
