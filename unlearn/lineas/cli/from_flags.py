"""Flags written out as the plan that they stand for, and run. Files are looked for before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.cli import options
from audit.errors import InputError
from audit.text.files import expanded
from audit.text.hub import PREFIX
from audit.text.safe import did_you_mean, quoted

FILES = ("source", "target")


def run_table(
    name: str, table: Mapping[str, Any], *, verb: str, out: Path, quiet: bool, as_json: bool, files: tuple[str, ...]
) -> None:
    """Make the run of flags.

    Args:
        name: Of the plan's table.
        table: Key -> value; what is None was not given.
        verb: That was called.
        out: Folder of the run.
        quiet: Show no progress.
        as_json: Print the result as JSON.
        files: Keys that name files.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder, or a new one's name.")
    from audit.cli.plan_text import plan_text
    from audit.runs.plan import parse_plan

    from .plan import SteerPlan

    whole = absolute(table, files)
    text = plan_text({name: whole}, made_by=f"palimpsest steer {verb}", run_by="palimpsest steer run")
    plan = parse_plan(text, SteerPlan, source="the flags")
    options.quiet_libraries()
    from .execute import execute, tell

    tell(execute(plan, text, Path.cwd() / f"steer-{verb}", out=out, quiet=quiet), as_json=as_json)


def absolute(table: Mapping[str, Any], files: tuple[str, ...]) -> dict[str, Any]:
    """Paths written out, so that the plan runs from its run; what is not set is left out."""
    found = {key: value for key, value in table.items() if value is not None and value != []}
    for key in files:
        if key in found and not str(found[key]).startswith(PREFIX):
            found[key] = _path(f"--{key.replace('_', '-')}", str(found[key]))
    if "model" in found and Path(expanded(str(found["model"]))).exists():
        found["model"] = os.path.abspath(expanded(str(found["model"])))
    return found


def _path(flag: str, name: str) -> str:
    if not Path(expanded(name)).exists():
        near = Path(expanded(name)).parent
        hint = did_you_mean(Path(name).name, (one.name for one in near.iterdir())) if near.is_dir() else ""
        raise InputError(f"{flag}: there is no file or folder {quoted(name, limit=200)}.{hint}")
    return os.path.abspath(expanded(name))


def folder_of(flag: str, path: Path) -> str:
    """A folder of a flag, written out.

    Raises:
        InputError: There is none.
    """
    where = Path(expanded(str(path)))
    if not where.exists():
        raise InputError(f"{flag}: there is no folder {path}.")
    return os.path.abspath(where)


def numbers_of(flag: str, given: str | None) -> list[float] | None:
    """ "0.5, 1" -> [0.5, 1.0].

    Raises:
        InputError: There is something else in it.
    """
    if given is None:
        return None
    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        raise InputError(f"{flag} is {given!r}; expected numbers with commas, such as 0.25,0.5,1.") from None
