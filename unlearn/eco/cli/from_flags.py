"""Flags written out as the plan that they stand for, and run. Files are looked for before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.cli import options
from audit.errors import InputError
from audit.text.files import expanded
from audit.text.safe import did_you_mean, quoted

FILES = (
    "forget", "retain", "never", "names", "others", "general", "real_authors", "world_facts", "passages", "encoder",
    "start", "tagger",
)  # fmt: skip
MODELS = ("model", "base", "gold", "guard")


def run_tables(tables: Mapping[str, Mapping[str, Any]], verb: str, *, out: Path, quiet: bool, as_json: bool) -> None:
    """Make the run of flags."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder, or a new one's name.")
    from audit.cli.plan_text import plan_text
    from audit.runs.plan import parse_plan

    from .plan import EcoPlan

    whole = {name: _whole(table) if name in ("eco", "evaluate") else table for name, table in tables.items()}
    text = plan_text(whole, made_by=f"palimpsest eco {verb}", run_by="palimpsest eco run")
    plan = parse_plan(text, EcoPlan, source="the flags")
    options.quiet_libraries()
    from .execute import execute, tell

    tell(execute(plan, text, Path.cwd() / f"eco-{verb}", out=out, quiet=quiet), as_json=as_json)


def listed(value: str | None) -> list[str]:
    """ "filter, prefix" as a list."""
    return [] if value is None else [one.strip() for one in value.split(",") if one.strip()]


def _whole(table: Mapping[str, Any]) -> dict[str, Any]:
    """Paths written out, so that the plan runs from its run; what is not set is left out."""
    found = {key: value for key, value in table.items() if value is not None and value != []}
    for name in FILES:
        if name in found:
            found[name] = _path(f"--{name.replace('_', '-')}", found[name])
    for name in MODELS:
        if name in found and Path(expanded(str(found[name]))).exists():
            found[name] = os.path.abspath(expanded(str(found[name])))
    return found


def _path(flag: str, name: str) -> str:
    if not Path(expanded(name)).exists():
        near = Path(expanded(name)).parent
        hint = did_you_mean(Path(name).name, (one.name for one in near.iterdir())) if near.is_dir() else ""
        raise InputError(f"{flag}: there is no file or folder {quoted(name, limit=200)}.{hint}")
    return os.path.abspath(expanded(name))
