"""A gate's result as GitHub annotations: one workflow command for each rule that does not hold.

Escapes as the runner undoes them (actions/toolkit, core/src/command.ts): ``%``, line feed and carriage return in the
message, and ``:`` and ``,`` in properties as well.
"""

from __future__ import annotations

from pathlib import Path

from ..result import GateResult, RuleOutcome
from .plain import plain
from .text import day_text


def as_github(result: GateResult, policy: Path) -> str:
    """One line for each annotation, the verdict last."""
    lines = [
        _line(level, policy, rule.line, f"{rule.id}: {rule.outcome}", f"{_clause(rule)}{rule.reason} {_rest(rule)}")
        for rule in result.rules
        if (level := _level(rule)) is not None
    ]
    level = "notice" if result.verdict == "pass" else "error"
    title = f"palimpsest gate {result.policy.name}: {result.verdict}"
    told = (
        f"{result.summary} Policy {result.policy.name}, SHA-256 {result.policy.sha256}. {day_text(result)} "
        f"{result.policy.reading}"
    )
    return "\n".join([*lines, _line(level, policy, 1, title, told)]) + "\n"


def _clause(rule: RuleOutcome) -> str:
    return "" if rule.clause is None else f"{rule.evidence.capitalize()}: {rule.clause}. "


def _rest(rule: RuleOutcome) -> str:
    also = "" if rule.not_covered is None else f" Not covered: {rule.not_covered}"
    return f"To change it: {rule.change}{also}"


def _level(rule: RuleOutcome) -> str | None:
    if rule.outcome in ("pass", "not assessed"):
        return None
    if rule.counts_as in ("breached", "inconclusive"):
        return "error"
    return "warning" if rule.severity == "warn" else "notice"


def _line(level: str, policy: Path, line: int, title: str, message: str) -> str:
    where = f"file={_property(str(policy))},line={line},title={_property(title)}"
    return f"::{level} {where}::{_data(plain(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(plain(text)).replace(":", "%3A").replace(",", "%2C")
