"""One number, p-value or verdict under one rule: what holds, by which numbers, and what would have to change.

The outcome gets no better when an estimate, or either end of its interval, moves against the release, and none when a
p-value falls, all else being the same.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from ..runs.schema import EstimateRecord, Finding, PValueRecord
from .estimates import Entry
from .policy import Rule
from .result import Outcome, TestOutcome

OPEN: Final = ("inconclusive", "confounded", "information")  # verdicts that answer nothing
_ROUNDING: Final = 1e-9
_LONGEST_CLAIM: Final = 300  # characters of a finding's claim inside a reason
_PROPORTION: Final = re.compile(r"(?:^|[,;] )proportion\b")


def number_outcome(rule: Rule, entry: Entry, reference: Entry | None = None) -> TestOutcome:
    """An estimate under a rule of numbers; ``reference`` is subtracted first, where the rule names one."""
    estimate = entry.what
    if not isinstance(estimate, EstimateRecord):
        return _other_kind(entry, "a number")
    if problem := _unusable(estimate, rule):
        return _said(
            entry,
            "missing",
            f"{entry.address}: {problem}",
            "Mend the file or the address; a number like this decides nothing.",
        )
    address = entry.address
    if reference is not None:
        other = reference.what
        if (reference.run, reference.address) == (entry.run, entry.address):
            return _said(
                entry,
                "missing",
                f"{entry.address} would be compared with itself: the difference is 0 whatever is found.",
                "Name the estimate of a model that never knew as reference.",
            )
        if not isinstance(other, EstimateRecord):
            return _other_kind(reference, "a number")
        if problem := _unusable(other, rule):
            return _said(entry, "missing", f"{reference.address}: {problem}", "Mend the file or the address.")
        estimate, address = _difference(estimate, other), f"{address} less {reference.address}"
    numbers = _numbers(estimate) | {"power": _power(entry.finding)}
    if estimate.value is None:
        why = estimate.why or "no reason is given"
        return _said(entry, "inconclusive", f"{address} is undefined: {why}.", f"It must be defined: {why}.", numbers)
    low, high = (estimate.value, estimate.value) if rule.bound == "value" else (estimate.low, estimate.high)
    if low is None or high is None:
        why = estimate.why or "no reason is given"
        return _said(entry, "inconclusive", f"{address} has no interval: {why}.", "It must have an interval.", numbers)
    at_limits, change = _against(rule, estimate.value, low, high, estimate.n)
    shown = f"{address} is {_interval(rule, estimate)}; {_wanted(rule)}"
    compared = [entry] if reference is None else [entry, reference]
    for weak in (_too_weak(rule, estimate), *map(_doubt, compared)):
        if weak is not None:
            return _said(entry, "inconclusive", f"{shown}. {weak[0]}.", weak[1], numbers)
    if at_limits == "pass":
        questions = [_open_question(rule, one.finding) for one in compared]
        for weak in (*questions, _too_little_power(rule, entry.finding)):
            if weak is not None:
                return _said(entry, "inconclusive", f"{shown}. {weak[0]}.", weak[1], numbers)
    held = {"pass": "so it holds", "breached": "and no part of the interval does", "inconclusive": "and only part does"}
    if rule.bound == "value":
        held |= {"breached": "and it does not"}
    return _said(entry, at_limits, f"{shown}, {held[at_limits]}.", change, numbers)


def p_value_outcome(rule: Rule, entry: Entry, *, corrected: float, tests: int, alpha: float) -> TestOutcome:
    """A p-value under a rule.

    Args:
        rule: Of p-values.
        entry: The p-value.
        corrected: It, after Holm.
        tests: That Holm corrected over.
        alpha: Of the policy.
    """
    p = entry.what
    if not isinstance(p, PValueRecord):
        return _other_kind(entry, "a p-value")
    if p.n < 1 or p.value < p.attainable - _ROUNDING:
        return _said(
            entry,
            "missing",
            f"{entry.address} contradicts itself: p = {p.value:g}, the smallest possible {p.attainable:g}, n = {p.n}.",
            "Mend the file; a p-value like this decides nothing.",
        )
    numbers = {"p": p.value, "p_corrected": corrected, "attainable": p.attainable, "n": p.n,
               "power": _power(entry.finding)}  # fmt: skip
    over = f", {_p(corrected, alpha)} after Holm over {tests}" if tests > 1 else ""
    shown = f"{entry.address} is p = {_p(p.value, alpha)}{over}, against alpha = {alpha:g}"
    if doubt := _doubt(entry):
        return _said(entry, "inconclusive", f"{shown}. {doubt[0]}.", doubt[1], numbers)
    if rule.min_n is not None and p.n < rule.min_n:
        return _said(entry, "inconclusive", f"{shown}. It rests on n = {p.n:,}; {rule.min_n:,} are asked for.",
                     f"n must rise from {p.n:,} to {rule.min_n:,}.", numbers)  # fmt: skip
    if corrected <= alpha:
        change = "The effect itself must go: more data would make it clearer, not better."
        return _said(entry, "breached", f"{shown}: the effect is there.", change, numbers)
    if min(1.0, p.attainable * tests) > alpha:
        return _said(
            entry,
            "inconclusive",
            f"{shown}. The smallest p-value that this design allows is {p.attainable:.3g}, so it could not have been "
            f"significant over {tests} tests.",
            f"The design must allow p-values of {alpha / tests:.3g}: more random draws, or more controls.",
            numbers,
        )
    if weak := _too_little_power(rule, entry.finding):
        return _said(entry, "inconclusive", f"{shown}. {weak[0]}.", weak[1], numbers)
    reason = f"{shown}: no effect was seen{_for_power(entry.finding)}."
    return _said(entry, "pass", reason, "Nothing; a breach needs a p-value of alpha or less after correction.", numbers)


def verdict_outcome(rule: Rule, entry: Entry) -> TestOutcome:
    """A finding's verdict under a rule."""
    if not isinstance(entry.what, str):
        return _other_kind(entry, "a verdict")
    said = entry.what
    wanted = " or ".join(repr(one) for one in rule.one_of or ())
    numbers = {"verdict": said, "power": _power(entry.finding)}
    shown = f"{entry.address} is {said!r}, and must be {wanted}. It says: {_sentence(entry.finding.claim)}"
    change = f"The finding must come to {wanted}."
    if entry.beside is not None and (doubt := _doubt(entry)):
        return _said(entry, "inconclusive", f"{shown} {doubt[0]}.", doubt[1], numbers)
    if said not in (rule.one_of or ()):
        if said in OPEN:
            return _said(entry, "inconclusive", f"{shown} That leaves the question open.", change, numbers)
        return _said(entry, "breached", shown, change, numbers)
    if weak := _too_little_power(rule, entry.finding):
        return _said(entry, "inconclusive", f"{shown} {weak[0]}.", weak[1], numbers)
    return _said(entry, "pass", shown, "Nothing.", numbers)


def _sentence(claim: str) -> str:
    """A claim as a sentence; a long one is cut between its parts, never inside a number."""
    said = claim.strip()
    if len(said) > _LONGEST_CLAIM:
        whole = said[:_LONGEST_CLAIM]
        end = max(whole.rfind("; "), whole.rfind(". "))
        said = f"{whole[:end] if end > 0 else whole.rpartition(' ')[0]} (and more, in the report)"
    return said if said.endswith((".", "!", "?")) else f"{said}."


def lacking_outcome(rule: Rule, entry: Entry) -> TestOutcome:
    """A finding that a rule's pattern names and that lacks the number: else it would be passed by unseen."""
    name = str(rule.estimate).rpartition("/")[2]
    return _said(
        entry,
        "missing" if rule.on_missing == "fail" else "inconclusive",
        f"{entry.finding.id} is {entry.what!r} and has no {name}, which {rule.estimate} asks of it.",
        "Run the audit that gives it, or name the findings that have it.",
    )


def only_against(outcome: TestOutcome) -> TestOutcome:
    """An outcome under a rule that can speak against a release alone: what does not breach it says nothing."""
    if outcome.outcome not in ("pass", "inconclusive"):
        return outcome
    told = f"{outcome.reason} This rule can only speak against a release: that it is not breached confirms nothing."
    return outcome.model_copy(update={"outcome": "not assessed", "reason": told})


def corrected_already(entry: Entry) -> TestOutcome | None:
    """A refusal of a p-value that its room has corrected: a gate corrects over its own family."""
    if not isinstance(entry.what, PValueRecord) or "Holm" not in entry.what.method:
        return None
    reason = f"{entry.address} is corrected already ({entry.what.method}); correcting it again would hide effects."
    return _said(entry, "missing", reason, "Name the p-value before its correction, such as traps.copies_*/p:arm.")


def _said(
    entry: Entry, outcome: Outcome, reason: str, change: str, numbers: dict[str, Any] | None = None
) -> TestOutcome:
    return TestOutcome(
        address=entry.address, run=entry.run, outcome=outcome, reason=reason, change=change, **(numbers or {})
    )


def _other_kind(entry: Entry, expected: str) -> TestOutcome:
    return _said(entry, "missing", f"{entry.address} is not {expected}, which the rule asks for.", "Mend the address.")


def _unusable(estimate: EstimateRecord, rule: Rule) -> str | None:
    """Why no rule can be put to an estimate that is there: it contradicts itself, or is of another unit."""
    if problem := _contradiction(estimate):
        return problem
    given = _given(estimate)
    least, most = rule.unit_range
    for name, number in given.items():
        if not least <= number <= most:
            return f"wrong unit: its {name} is {number:g}, and {rule.unit} lies in [{least:g}, {most:g}]."
    if rule.unit == "percent" and most > 1 and given and all(0 <= number <= 1 for number in given.values()):
        return (
            "wrong unit: all its numbers lie in [0, 1], as a share's do, and the rule is on percent. Say unit "
            '"share"; if it is indeed below 1 percent, say range = [0, 1] and a limit in it.'
        )
    if _is_share(estimate) and rule.reference is None:
        for end in rule.ends:
            if math.isfinite(end) and not 0 <= end <= 1:
                return f"wrong unit: the limit is {end:g}, and by its method ({estimate.method}) it lies in [0, 1]."
    return None


def _is_share(estimate: EstimateRecord) -> bool:
    """Whether the method says that the number is an AUC or a proportion."""
    plain = estimate.method.startswith(("AUC", "TPR")) or _PROPORTION.search(estimate.method) is not None
    return plain and not any(word in estimate.method for word in ("residual", "difference"))


def _given(estimate: EstimateRecord) -> dict[str, float]:
    return {name: number for name in ("value", "low", "high") if (number := getattr(estimate, name)) is not None}


def _contradiction(estimate: EstimateRecord) -> str | None:
    """Why its numbers cannot be."""
    for name, number in _given(estimate).items():
        if not math.isfinite(number):
            return f"its {name} is {number}, which is no finite number."
    value, low, high = estimate.value, estimate.low, estimate.high
    if low is not None and high is not None and low > high:
        return f"its lower bound {low:g} lies above its upper bound {high:g}."
    if value is not None and not (
        (low is None or low <= value + _ROUNDING) and (high is None or value <= high + _ROUNDING)
    ):
        return f"its value {value:g} lies outside of its own interval, from {low} to {high}."
    if estimate.n < (0 if value is None else 1) or not 0 < estimate.level < 1:
        return f"its n is {estimate.n} and its level {estimate.level:g}, which cannot be."
    return None


def _difference(one: EstimateRecord, other: EstimateRecord) -> EstimateRecord:
    """one - other, [low - high', high - low']: its level is at least the lower of both, whatever their dependence.

    That holds for normal estimates, since sd(X - Y) <= sd(X) + sd(Y); for independent ones it is wide.
    """
    whys = "; ".join(why for why in (one.why, other.why) if why) or None
    whole = None not in (one.low, one.high, other.low, other.high)
    defined = one.value is not None and other.value is not None
    return EstimateRecord(
        value=one.value - other.value if defined else None,  # type: ignore[operator]
        low=one.low - other.high if whole else None,  # type: ignore[operator]
        high=one.high - other.low if whole else None,  # type: ignore[operator]
        level=min(one.level, other.level),
        n=min(one.n, other.n),
        method=f"{one.method}, less {other.method}",
        why=whys or ("one of the two has no interval" if not whole else None),
    )


def _against(rule: Rule, value: float, low: float, high: float, n: int) -> tuple[Outcome, str]:
    """The outcome by the limits alone, and what would have to change."""
    least, most = rule.ends
    room = min(most - high, low - least)
    if room >= 0:
        return "pass", f"Nothing: the bound that is against the release has {room:.3g} to spare."
    over = max(high - most, least - low)
    if low > most or high < least:
        nearest = low - most if low > most else least - high
        return "breached", (
            f"The whole interval must move by {over:.3g}; even its end nearest to the limit is {nearest:.3g} away. "
            "More data would not help."
        )
    if not least <= value <= most:
        return "inconclusive", (
            f"The interval must move by {over:.3g}. The estimate itself lies beyond the limit, so more data alone "
            "would sooner show a breach."
        )
    asked = max(((high - value) / (most - value) if most > value else math.inf) if high > most else 1.0,
                ((value - low) / (value - least) if value > least else math.inf) if low < least else 1.0)  # fmt: skip
    more = (
        f"with the same estimate it would be narrow enough at about {math.ceil(n * asked**2 - 1e-9):,} items instead "
        f"of {n:,} (roughly: widths fall with 1/sqrt(n))"
        if math.isfinite(asked) and n > 0
        else "the estimate lies on the limit, so no number of items would do"
    )
    return "inconclusive", f"The bound must move by {over:.3g}: {more}."


def _too_weak(rule: Rule, estimate: EstimateRecord) -> tuple[str, str] | None:
    if rule.bound == "against" and estimate.level < rule.level - 1e-9:
        return (
            f"Its interval is at {estimate.level:.4g}, and {rule.level:.4g} is asked for",
            f"Make the interval at {rule.level:.4g}.",
        )
    if rule.min_n is not None and estimate.n < rule.min_n:
        return (
            f"It rests on n = {estimate.n:,}, and {rule.min_n:,} are asked for",
            f"n must rise from {estimate.n:,} to {rule.min_n:,}.",
        )
    return None


def _doubt(entry: Entry) -> tuple[str, str] | None:
    if entry.finding.verdict == "confounded":
        return (
            f"{entry.finding.id} is confounded: its numbers say nothing",
            "What confounds the finding must be mended first.",
        )
    if entry.beside is not None:
        return (
            f"{entry.beside}, of the same audit, is confounded: the numbers of {entry.finding.id} say nothing either",
            "What confounds the audit must be mended first.",
        )
    return None


def _open_question(rule: Rule, finding: Finding) -> tuple[str, str] | None:
    if rule.two_sided and finding.verdict == "inconclusive":
        return (
            "The finding leaves its question open, as for a destroyed model: that is no forgetting",
            "The finding must come to a verdict.",
        )
    return None


def _too_little_power(rule: Rule, finding: Finding) -> tuple[str, str] | None:
    if rule.min_power is None:
        return None
    power = finding.power
    if power is not None and (problem := _power_problem(power)):
        return (
            f"Its power contradicts itself: {problem.rstrip('.')}",
            "Mend the file; a power like this decides nothing.",
        )
    if power is None or power.value is None:
        return (
            f"The finding states no power, and {rule.min_power:g} is asked for",
            "The audit must state what it could have seen.",
        )
    if rule.max_effect is not None:
        effect = finding.power_effect
        if effect is None:
            return (
                f"The finding does not say as a number for which effect its power is; {rule.max_effect:g} or less is "
                "asked for",
                "Make the run again: the audit must state the effect that its power is for.",
            )
        if not effect <= rule.max_effect:  # also NaN
            return (
                f"Its power is for an effect of {_exact(effect)}, and counts for {_exact(rule.max_effect)} or less",
                f"The plan must ask for power at {_exact(rule.max_effect)} or less.",
            )
    least = power.value if power.low is None else power.low
    if not least >= rule.min_power:  # also NaN
        return (
            f"Its power is {least:.3g}{_for_power(finding)}, and {rule.min_power:g} is asked for",
            f"Power must rise from {least:.3g} to {rule.min_power:g}: a larger design.",
        )
    return None


def _power_problem(power: EstimateRecord) -> str | None:
    outside = next((number for number in _given(power).values() if not 0 <= number <= 1), None)
    return f"it holds {outside:g}, which is no probability" if outside is not None else _contradiction(power)


def _for_power(finding: Finding) -> str:
    return "" if finding.power_for is None else f", for {finding.power_for}"


def _power(finding: Finding) -> float | None:
    power = finding.power
    return power.value if power is not None and power.value is not None and math.isfinite(power.value) else None


def _numbers(estimate: EstimateRecord) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "level", "n")}


def _interval(rule: Rule, estimate: EstimateRecord) -> str:
    ends = [end for end in rule.ends if math.isfinite(end)]
    value = _digits(estimate.value, ends)
    if estimate.low is None or estimate.high is None:
        return f"{value} (n {estimate.n:,})"
    return f"{value} [{_digits(estimate.low, ends)}, {_digits(estimate.high, ends)}] (n {estimate.n:,})"


def _wanted(rule: Rule) -> str:
    low, high = rule.ends
    if rule.direction == "between":
        return f"it must lie in [{_exact(low)}, {_exact(high)}]"
    return f"it must be at most {_exact(high)}" if rule.direction == "at_most" else f"it must be at least {_exact(low)}"


def _exact(number: float) -> str:
    """A limit with as many digits as it has: 0.9999999 is not 1."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def _digits(number: float | None, landmarks: list[float]) -> str:
    """As few digits, 3 or more, as tell the number from every limit."""
    if number is None:
        return "undefined"
    for digits in range(3, 17):
        text = f"{number:.{digits}g}"
        if all(
            (float(text) > mark) == (number > mark) and (float(text) < mark) == (number < mark) for mark in landmarks
        ):
            return text
    return repr(number)


def _p(number: float, alpha: float) -> str:
    return _digits(number, [alpha])
