"""What a report takes from a policy's verdict: the word, and which rules block.

The verdict is made by `audit.gates`; a report only shows it, so that anything with these fields will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..text.safe import counted


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
    "pass": ("Gate passed", "No blocking rule of the policy stands in the way.", "not-found"),
    "breached": ("Blocked", "At least one blocking rule of the policy is breached.", "found"),
    "inconclusive": (
        "Not decided",
        "No blocking rule is breached, but the evidence is too weak for at least one. This is not a pass.",
        "inconclusive",
    ),
    "self-test failed": (
        "Not decided",
        "The instrument's self-test failed, or is absent or too old for the policy. This is not a pass.",
        "confounded",
    ),
}
_HOLDS: Final = ("pass", "waived", "skipped")


@dataclass(frozen=True, slots=True)
class ShownGate:
    """A verdict ready to be laid out.

    Attributes:
        verdict: As the gate gave it.
        label: In a word or two.
        meaning: One sentence.
        tone: The finding's verdict whose look it takes.
        policy: The policy's title, "" where it is not known.
        applied: Its name and SHA-256, and the day on which waivers were read; "" where they are not known.
        blocking: Rules that stand in the way.
        others: Rules that do not: those that hold or were waived, and those that only warn.
        waivers: Waivers of the policy in words, whether or not they counted.
    """

    verdict: str
    label: str
    meaning: str
    tone: str
    policy: str
    applied: str
    blocking: tuple[RuleOutcome, ...]
    others: tuple[RuleOutcome, ...]
    waivers: tuple[str, ...]


def shown_gate(gate: Gate) -> ShownGate:
    """The verdict with the rules that stand in the way first."""
    unknown = (f"Gate: {gate.verdict}", "The gate gave no pass.", "inconclusive")
    label, meaning, tone = _VERDICTS.get(gate.verdict, unknown)
    blocking = tuple(rule for rule in gate.rules if _blocks(rule))
    others = tuple(rule for rule in gate.rules if not _blocks(rule))
    policy = getattr(gate, "policy", None)
    return ShownGate(
        verdict=gate.verdict,
        label=label,
        meaning=f"{meaning} {_counts(gate)}".strip(),
        tone=tone,
        policy=str(getattr(policy, "title", "")),
        applied=""
        if policy is None
        else f"{policy.name}, SHA-256 {policy.sha256}, judged on {getattr(gate, 'today', 'an unknown day')}",
        blocking=blocking,
        others=others,
        waivers=tuple(_waiver(one) for one in getattr(gate, "waivers", ())),
    )


def _counts(gate: Gate) -> str:
    """What came of the blocking rules: how many held, were not asked to, or did not hold."""
    outcomes = [rule.outcome for rule in gate.rules if getattr(rule, "severity", "block") == "block"]
    if not outcomes:
        return ""
    words = {"pass": "held", "waived": "waived", "skipped": "skipped"}
    counts = {word: outcomes.count(outcome) for outcome, word in words.items()}
    counts["breached or without an answer"] = len(outcomes) - sum(counts.values())
    told = ", ".join(f"{n:,} {word}" for word, n in counts.items() if n or word == "held")
    return f"Of {counted(len(outcomes), 'blocking rule')}: {told}."


def _blocks(rule: RuleOutcome) -> bool:
    """Whether the rule decides and does not hold; ``counts_as`` and ``severity`` say so where a rule has them."""
    counts_as = getattr(rule, "counts_as", "pass" if rule.outcome in _HOLDS else "breached")
    return getattr(rule, "severity", "block") == "block" and counts_as in ("breached", "inconclusive")


def _waiver(one: Any) -> str:
    counted = "counts" if one.applied else "does not count"
    return (
        f"The waiver of {one.rule}, approved by {one.approver} until {one.expires}, {counted}: {one.reason} ({one.why})"
    )
