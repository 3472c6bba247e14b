"""A gate's result for a terminal."""

from __future__ import annotations

import textwrap
from typing import Final

from ...runs.schema import KINDS_OF_ONE_MODEL
from ...text.safe import counted
from ..result import GateResult, RuleOutcome
from .plain import plain

_WIDE = 100
_MARK: Final = {
    "pass": "pass",
    "breached": "BREACHED",
    "inconclusive": "INCONCLUSIVE",
    "missing": "MISSING",
    "waived": "waived",
    "skipped": "skipped",
    "not assessed": "not assessed",
}


def as_text(result: GateResult) -> str:
    """Verdict first, then one paragraph for each rule; ends in a line feed."""
    lines = [
        *_wrapped(f"{result.verdict.upper()}: {plain(result.summary)}", ""),
        "",
        *_wrapped(f"Policy {result.policy.name}: {plain(result.policy.title)} (SHA-256 {result.policy.sha256})", ""),
        *_wrapped(plain(result.policy.reading), "  "),
        *_wrapped(day_text(result), ""),
    ]
    for run in result.runs:
        model = "not recorded" if run.model_weights is None else f"{run.model_weights[:16]}..."
        before = "" if run.kind in KINDS_OF_ONE_MODEL else " (findings are of models made from them)"
        lines += _wrapped(
            f"Run {plain(run.id)} of {plain(run.created)}; weights {plain(model)}{before}; {run.seal}", ""
        )
        lines += _wrapped(f"head {run.head}", "  ") if run.head is not None else []
        lines += _wrapped(f"signed by {run.public_key}", "  ") if run.public_key is not None else []
    lines.append("")
    for rule in result.rules:
        lines += _rule(rule)
    lines += _family(result)
    for waiver in result.waivers:
        lines += _wrapped(
            f"Waiver of {plain(waiver.rule)} by {plain(waiver.approver)} until {waiver.expires} "
            f"({plain(waiver.reason)}). {plain(waiver.why)}",
            "",
        )
    return "\n".join(lines) + "\n"


def day_text(result: GateResult) -> str:
    """The day on which waivers were read, and whose word it is."""
    how = "the day that was given" if result.today_given else "today, by the clock"
    return f"Waivers are read on {result.today}, {how}."


def explain_text(rule: RuleOutcome) -> str:
    """One rule with every number that was looked at, and what would have to change for each."""
    lines = _rule(rule)
    for test in rule.tests:
        lines += _wrapped(f"- {test.outcome}, {plain(test.run)}: {plain(test.reason)}", "  ")
        lines += _wrapped(f"What would have to change: {plain(test.change)}", "    ")
    return "\n".join(lines) + "\n"


def _rule(rule: RuleOutcome) -> list[str]:
    severity = "" if rule.severity == "block" else f", {rule.severity} only"
    lines = _wrapped(f"{_MARK[rule.outcome]}  {plain(rule.id)}{severity}  {plain(rule.title)}", "", hanging="    ")
    if rule.clause is not None:
        lines += _wrapped(f"{rule.evidence}: {plain(rule.clause)}", "    ")
    lines += _wrapped(plain(rule.reason), "    ")
    if rule.outcome not in ("pass", "not assessed"):
        lines += _wrapped(f"To change it: {plain(rule.change)}", "    ")
    if rule.not_covered is not None:
        lines += _wrapped(f"Not covered: {plain(rule.not_covered)}", "    ")
    return [*lines, ""]


def _family(result: GateResult) -> list[str]:
    said = family_text(result)
    return [*_wrapped(said, ""), ""] if said else []


def family_text(result: GateResult) -> str:
    """What the corrections for several tests hold for; "" where there are none."""
    family = result.family
    said = []
    if family.p_values:
        runs = f" in {counted(family.runs_with_p_values, 'run')}, run by run" if family.runs_with_p_values > 1 else ""
        said.append(
            f"Holm over {counted(family.p_values, 'p-value')}{runs}: a model without any trace is called breached by "
            f"one of them in at most about {family.alpha:.3g} of cases{' for each run' if runs else ''}."
        )
    if family.intervals:
        said.append(
            f"{counted(family.intervals, 'interval test')}: one is called breached though all hold in at most about "
            f"{family.false_block_by_intervals:.3g} of cases; a model that breaks one passes all in at most about "
            f"{family.false_pass:.3g}, as far as the intervals' coverage holds."
        )
    if said:
        said.append("This holds for runs that were not picked out of several; waived rules are left out.")
    return " ".join(said)


def _wrapped(text: str, indent: str, *, hanging: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDE,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=True,
        break_on_hyphens=False,
    )
