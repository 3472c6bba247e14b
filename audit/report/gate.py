"""What a report shows of a policy's verdict: the word, and which rules block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..gates.result import GateResult, Overall, RuleOutcome, WaiverOutcome
from ..text.safe import counted

# Verdict -> label, what it means, and the tone of its box.
_VERDICTS: Final[Mapping[Overall, tuple[str, str, str]]] = {
    "pass": ("Gate passed", "No blocking rule of the policy stands in the way.", "not-found"),
    "breached": ("Blocked", "At least one blocking rule of the policy is breached.", "found"),
    "inconclusive": (
        "Not decided",
        "No blocking rule is breached, but the evidence is too weak for at least one. This is not a pass.",
        "inconclusive",
    ),
    "self-test failed": (
        "Instrument not shown to work",
        "The policy asks for a self-test that this run cannot show: it failed, is absent, of other code or too old, as "
        "the rule policy.self-test says. So its other rules decide nothing either. This is not a pass.",
        "confounded",
    ),
}


_UNLIKE: Final = " The runs are of different models, or of weights that are not recorded."


@dataclass(frozen=True, slots=True)
class ShownGate:
    """A verdict ready to be laid out.

    Attributes:
        verdict: As the gate gave it.
        label: In a word or two; of a policy that maps a document, how many clauses' rules are evidence for and against.
        meaning: One sentence.
        tone: The finding's verdict whose look it takes.
        policy: The policy's title.
        applied: Its name and SHA-256, and the day on which waivers were read.
        reading: Whose reading of which text the policy is.
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
    reading: str
    blocking: tuple[RuleOutcome, ...]
    others: tuple[RuleOutcome, ...]
    waivers: tuple[str, ...]


def shown_gate(gate: GateResult) -> ShownGate:
    """The verdict with the rules that stand in the way first."""
    label, meaning, tone = _VERDICTS[gate.verdict]
    clauses = [rule.evidence for rule in gate.rules if rule.clause is not None]
    if clauses:  # "passed" over the clauses of a law or standard would read as if somebody complied with it
        told = ((word, clauses.count(word)) for word in ("evidence for", "evidence against", "not assessed"))
        label = ", ".join(f"{word} {n:,}" for word, n in told).capitalize()
    return ShownGate(
        verdict=gate.verdict,
        label=label,
        meaning=f"{meaning} {_counts(gate)}{_UNLIKE if gate.different_models else ''}".strip(),
        tone=tone,
        policy=gate.policy.title,
        applied=f"{gate.policy.name}, SHA-256 {gate.policy.sha256}, judged on {gate.today}"
        + (", a day that was given" if gate.today_given else ""),
        reading=gate.policy.reading,
        blocking=tuple(rule for rule in gate.rules if _blocks(rule)),
        others=tuple(rule for rule in gate.rules if not _blocks(rule)),
        waivers=tuple(_waiver(one) for one in gate.waivers),
    )


def _counts(gate: GateResult) -> str:
    """What came of the blocking rules: how many held, were not asked to, or did not hold."""
    outcomes = [rule.outcome for rule in gate.rules if rule.severity == "block"]
    if not outcomes:
        return ""
    counts = {
        "held": outcomes.count("pass"), "waived": outcomes.count("waived"), "skipped": outcomes.count("skipped"),
        "not assessed": outcomes.count("not assessed"),
    }  # fmt: skip
    counts["breached or without an answer"] = len(outcomes) - sum(counts.values())
    told = ", ".join(f"{n:,} {word}" for word, n in counts.items() if n or word == "held")
    return f"Of {counted(len(outcomes), 'blocking rule')}: {told}."


def _blocks(rule: RuleOutcome) -> bool:
    """Whether the rule decides and does not hold."""
    return rule.severity == "block" and rule.counts_as in ("breached", "inconclusive")


def _waiver(one: WaiverOutcome) -> str:
    counts = "counts" if one.applied else "does not count"
    return (
        f"The waiver of {one.rule}, approved by {one.approver} until {one.expires}, {counts}: {one.reason} ({one.why})"
    )
