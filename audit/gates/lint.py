"""What is wrong with a policy, each problem at its line, without a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ..errors import InputError
from ..runs.plan import load_plan
from .lines import Lines
from .policy import Policy, cross_problems


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a file: its line, from 1, and what is wrong."""

    path: Path
    line: int
    says: str


def lint(path: Path, *, today: date) -> list[Problem]:
    """Every problem of a policy file, in the order of its lines; a waiver that has expired is one."""
    try:
        policy, text = load_plan(path, Policy)
    except InputError as error:
        return _of_error(path, str(error))
    lines = Lines.of(text)
    says = cross_problems(policy, text)
    says += [
        f"waivers[{at}].expires is {waiver.expires!r}, which is past: it counts no more. Take it out, or decide anew."
        for at, waiver in enumerate(policy.waivers, 1)
        if waiver.last_day < today
    ]
    return _sorted([Problem(path, lines.problem(one), one) for one in says])


def _of_error(path: Path, message: str) -> list[Problem]:
    says = message.removeprefix(f"{path}: ")
    several = message.startswith(f"{path} has ") and "\n- " in message
    parts = message.split("\n- ")[1:] if several else [says]
    try:
        lines = Lines.of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        lines = Lines({}, {})
    return _sorted([Problem(path, lines.problem(one), one) for one in parts])


def _sorted(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda one: one.line)
