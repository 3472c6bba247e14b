"""Read a plan: one TOML file whose every key is known and has the right type."""

from __future__ import annotations

import math
import tomllib
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from ..errors import InputError
from ..text.files import expanded
from ..text.safe import did_you_mean
from .problems import open_models, plain_problems

Plan = TypeVar("Plan", bound=BaseModel)


def load_plan(path: str | Path, model: type[Plan]) -> tuple[Plan, str]:
    """Reads and checks a plan.

    Types are strict: ``"5"`` is no number and ``1`` is not ``true``; a whole number passes for a number. Texts pass
    for paths, lists for tuples.

    Args:
        path: A TOML file in UTF-8.
        model: Pydantic class; it and every model nested in it has ``extra="forbid"``.

    Returns:
        The checked plan, and the file's text as it stands.

    Raises:
        InputError: The file is absent, unreadable, no TOML (the line is named), or a key is unknown, missing or has a
            wrong value: one line for each, all of them at once.
        TypeError: ``model`` would let unknown keys pass: a mistake in the program.
    """
    if names := open_models(model):
        raise TypeError(f"{', '.join(names)}: a plan's models need extra='forbid'")
    path = Path(path)
    text = _read(path)
    return parse_plan(text, model, source=str(path)), text


def parse_plan(text: str, model: type[Plan], *, source: str) -> Plan:
    """As `load_plan`, for text at hand; ``source`` names it in messages."""
    try:
        data = tomllib.loads(text.removeprefix("\ufeff"))
    except ValueError as error:  # a TOMLDecodeError, or a number of more digits than Python reads
        raise InputError(f"{source} is not TOML: {error}. Mend that line.") from error
    except RecursionError as error:
        raise InputError(f"{source} is not a plan: it is nested too deeply.") from error
    problems = _not_finite(data)
    if not problems:
        try:
            return model.model_validate_json(to_json(data), strict=True)
        except ValidationError as error:
            problems = plain_problems(error, model)
    if len(problems) == 1:
        raise InputError(f"{source}: {problems[0]}")
    raise InputError(f"{source} has {len(problems)} problems:\n" + "\n".join(f"- {line}" for line in problems))


def resolve_path(value: str | Path, plan: str | Path) -> Path:
    """A path of a plan, made absolute: a relative one starts at the folder of the plan file, ``~`` is the home.

    Args:
        value: Path as the plan gives it.
        plan: Path of the plan file.

    Raises:
        InputError: The home folder that ``~`` names is not known.
    """
    return Path(plan).absolute().parent / expanded(str(value))


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        hint = ""
        if path.parent.is_dir():
            hint = did_you_mean(path.name, (other.name for other in path.parent.iterdir()))
        raise InputError(f"there is no plan at {path}.{hint} Give the path of a TOML file.") from error
    except OSError as error:
        raise InputError(f"could not read the plan {path}: {error.strerror}. Give the path of a TOML file.") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8. Save the plan as UTF-8."
        ) from error


def _not_finite(value: Any, where: str = "") -> list[str]:
    """A message for each value that a run record cannot hold: nan, inf, and dates, which JSON has not."""
    if isinstance(value, dict):
        return [p for key, inner in value.items() for p in _not_finite(inner, f"{where}.{key}" if where else key)]
    if isinstance(value, list):
        return [p for number, inner in enumerate(value) for p in _not_finite(inner, f"{where}[{number + 1}]")]
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{where} is {value}; expected a finite number."]
    if isinstance(value, date | datetime | time):
        return [f"{where} is the date or time {value}; a plan holds none. Give a number, or put a text in quotes."]
    return []
