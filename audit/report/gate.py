"""What a report takes from a policy's verdict: the word, and which rules block.

The verdict is made by `audit.gates`; a report only shows it, so that anything with these fields will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol


class RuleOutcome(Protocol):
    """One rule of a policy and what came of it."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def clause(self) -> str | None: ...


class Gate(Protocol):
    """A policy's verdict on a run."""

    @property
    def verdict(self) -> str: ...
    @property
    def rules(self) -> Sequence[RuleOutcome]: ...


# Verdict -> label, what it means, and the tone of its box.
_VERDICTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "pass": ("Gate passed", "Every blocking rule of the policy holds on this run's evidence.", "not-found"),
    "breached": ("Blocked", "At least one blocking rule of the policy is breached.", "found"),
    "inconclusive": (
        "Not decided",
        "No blocking rule is breached, but the evidence is too weak for at least one. This is not a pass.",
        "inconclusive",
    ),
}
_HOLDS: Final = ("pass", "passed", "waived", "skipped")


@dataclass(frozen=True, slots=True)
class ShownGate:
    """A verdict ready to be laid out.

    Attributes:
        verdict: As the gate gave it.
        label: In a word or two.
        meaning: One sentence.
        tone: The finding's verdict whose look it takes.
        policy: The policy's name, "" where it is not known.
        blocking: Rules that stand in the way.
        others: Rules that do not: those that hold or were waived, and those that only warn.
    """

    verdict: str
    label: str
    meaning: str
    tone: str
    policy: str
    blocking: tuple[RuleOutcome, ...]
    others: tuple[RuleOutcome, ...]


def shown_gate(gate: Gate) -> ShownGate:
    """The verdict with the rules that stand in the way first."""
    unknown = (f"Gate: {gate.verdict}", "The gate gave no pass.", "inconclusive")
    label, meaning, tone = _VERDICTS.get(gate.verdict, unknown)
    blocking = tuple(rule for rule in gate.rules if _blocks(rule))
    others = tuple(rule for rule in gate.rules if not _blocks(rule))
    policy = next((str(found) for name in ("policy", "title") if (found := getattr(gate, name, None))), "")
    return ShownGate(gate.verdict, label, meaning, tone, policy, blocking, others)


def _blocks(rule: RuleOutcome) -> bool:
    return rule.outcome not in _HOLDS and getattr(rule, "severity", "block") == "block"
