"""A policy over finished runs: every rule's outcome, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Literal

from .. import __version__
from ..errors import InputError
from ..runs.schema import PValueRecord
from ..stats.multiplicity import holm
from ..text.safe import counted, quoted
from .asked import preregistered, sealed, self_test
from .estimates import Entry, beside_it, entries, lacking, matching, nearest
from .judge import (
    corrected_already,
    lacking_outcome,
    number_outcome,
    only_against,
    p_value_outcome,
    verdict_outcome,
)
from .opened import Opened, open_run, refuse_unlike
from .policy import RESERVED, LoadedPolicy, Rule, Waiver
from .result import (
    EVIDENCE,
    EXIT_CODES,
    Family,
    GatedPolicy,
    GateResult,
    Outcome,
    Overall,
    RuleOutcome,
    TestOutcome,
    WaiverOutcome,
)

__all__ = ["GateResult", "gate"]

_WORST_FIRST: Final[tuple[Outcome, ...]] = ("breached", "missing", "inconclusive", "pass", "not assessed")
CountsAs = Literal["pass", "breached", "inconclusive", "nothing"]


def gate(
    folders: Sequence[str | Path],
    loaded: LoadedPolicy,
    *,
    today: date,
    today_given: bool = False,
    different_models: bool = False,
    heads: Sequence[str] = (),
    public_key: str | None = None,
) -> GateResult:
    """Judges runs by a policy.

    Args:
        folders: Of complete runs. Rules look at all of them together: an address that several runs have must hold in
            each.
        loaded: The policy.
        today: Day on which waivers are read.
        today_given: Whether somebody gave that day; the result says so.
        different_models: Whether the runs may be of models with other weights.
        heads: Heads that were published for the runs' seals, one for each run in their order; none are compared where
            none are given.
        public_key: The key that must have signed every seal.

    Raises:
        InputError: No folder or one twice, a folder is no run, the runs are of different models, a run was made after
            ``today``, there are not as many heads as runs, or a run is not sealed though a head or key is given.
        IncompleteRunError: A run has not ended.
        DataError: A run's files were changed or damaged, or do not agree with its seal.
    """
    if not folders:
        raise InputError("no run was named. Give the folder of one: palimpsest gate RUN --policy FILE.")
    if heads and len(heads) != len(folders):
        raise InputError(
            f"{counted(len(heads), 'head')} for {counted(len(folders), 'run')}. Give one for each, in the runs' order."
        )
    published: list[str | None] = [*heads] or [None] * len(folders)
    opened = [
        open_run(Path(folder), head=head, public_key=public_key)
        for folder, head in zip(folders, published, strict=True)
    ]
    refuse_unlike(opened, different_models=different_models)
    _refuse_before(opened, today)
    known = [entry for one in opened for entry in entries(one.record.id, one.run.findings())]
    asked = [
        self_test(loaded, opened),
        preregistered(loaded, opened),
        sealed(loaded, opened),
    ]
    waivers = [_read_waiver(waiver, opened, today) for waiver in loaded.policy.waivers]
    judged = _judge_all(loaded, known, waived={one.waiver.rule for one in waivers if one.counts})
    outcomes = [
        *(one for one in asked if one is not None),
        *(
            _outcome(rule, at, loaded, tests, judged.absent.get(rule.id), _waiver_of(rule, loaded, waivers))
            for at, (rule, tests) in enumerate(zip(loaded.policy.rules, judged.tests, strict=True), 1)
        ),
    ]
    verdict, summary = _overall(outcomes)
    weights = [one.told.model_weights for one in opened]
    unlike = len(opened) > 1 and (None in weights or len(set(weights)) > 1)
    if unlike:
        summary += " The runs are of different models, or of weights that are not recorded."
    return GateResult(
        palimpsest=__version__,
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        summary=summary,
        today=today.isoformat(),
        today_given=today_given,
        different_models=unlike,
        policy=GatedPolicy(
            name=loaded.policy.name,
            title=loaded.policy.title,
            reading=loaded.policy.reading,
            sha256=loaded.sha256,
        ),
        runs=tuple(one.told for one in opened),
        family=judged.family,
        rules=tuple(outcomes),
        waivers=tuple(_told_waiver(one, outcomes) for one in waivers),
    )


def _refuse_before(opened: Sequence[Opened], today: date) -> None:
    """Refuses a day on which a run did not exist yet: a waiver that has expired would count again."""
    for one in opened:
        try:
            made = datetime.fromisoformat(one.told.created).astimezone(UTC).date()
        except ValueError:
            raise InputError(f"{one.run.folder}: run.json does not say when the run was made.") from None
        if today < made:
            raise InputError(
                f"today is said to be {today}, and {one.run.folder} was made on {made}. Give that day or a later one."
            )


# Rules


@dataclass(frozen=True, slots=True)
class _Absent:
    """What is not there in words, and whether a policy may skip it: not where its audit was run."""

    says: str
    may_skip: bool


@dataclass(frozen=True, slots=True)
class _Judged:
    tests: list[list[TestOutcome]]
    absent: Mapping[str, _Absent]
    family: Family


def _judge_all(loaded: LoadedPolicy, known: Sequence[Entry], *, waived: Set[str] = frozenset()) -> _Judged:
    rules, alpha = loaded.policy.rules, loaded.policy.multiplicity.alpha
    found = [[] if rule.estimate is None else matching(rule.estimate, known) for rule in rules]
    groups = ["waived" if rule.severity == "block" and rule.id in waived else rule.severity for rule in rules]
    families = {group: _corrected(rules, found, groups, group) for group in dict.fromkeys(("block", *groups))}
    tests: list[list[TestOutcome]] = []
    absent = {}
    levels = []
    for rule, matches, group in zip(rules, found, groups, strict=True):
        if rule.estimate is not None and not matches:
            absent[rule.id] = _absent(rule.estimate, known)
        of_rule = []
        for entry in matches:
            if rule.kind == "verdict":
                of_rule.append(verdict_outcome(rule, entry))
            elif rule.kind == "p-value":
                family = families[group].get(entry.run, {})
                of_rule.append(
                    corrected_already(entry)
                    or p_value_outcome(
                        rule, entry, corrected=family.get(entry.address, 1.0), tests=len(family), alpha=alpha
                    )
                )
            else:
                others = [None] if rule.reference is None else matching(rule.reference, known)
                same_run = [one for one in others if one is None or one.run == entry.run] or others
                if not same_run:
                    absent[rule.id] = _Absent(_absent(str(rule.reference), known).says, may_skip=False)
                of_rule += [number_outcome(rule, entry, other) for other in same_run]
        if matches and rule.estimate is not None:
            of_rule += [lacking_outcome(rule, one) for one in lacking(rule.estimate, known)]
        if rule.only_against:
            of_rule = list(map(only_against, of_rule))
        if rule.kind == "number" and group == "block":
            levels += [max(rule.level, one.level or rule.level) for one in of_rule]
        tests.append(of_rule)
    errors = [(1 - level) / 2 for level in levels]
    family_record = Family(
        p_values=sum(map(len, families["block"].values())),
        runs_with_p_values=len(families["block"]),
        alpha=alpha,
        intervals=len(errors),
        false_block_by_intervals=round(min(1.0, sum(errors)), 12),
        false_pass=round(max(errors), 12) if errors else None,
    )
    return _Judged(tests, absent, family_record)


def _absent(pattern: str, known: Sequence[Entry]) -> _Absent:
    finding = beside_it(pattern, known)
    also = "" if finding is None else f" A run has the finding {finding}, so the audit was run."
    return _Absent(f"No run has {pattern}.{nearest(pattern, known)}{also}", may_skip=finding is None)


def _corrected(
    rules: Iterable[Rule], found: Iterable[Sequence[Entry]], groups: Iterable[str], group: str
) -> dict[str, dict[str, float]]:
    """Run -> address -> p-value after Holm over all p-values of that run that rules of a group look at, each once.

    Each run is a family of its own: else a run with nothing in it, laid beside one with a finding, would hide that.
    """
    raw: dict[str, dict[str, float]] = {}
    for rule, matches, of_rule in zip(rules, found, groups, strict=True):
        if rule.kind == "p-value" and of_rule == group:
            for entry in matches:
                if isinstance(entry.what, PValueRecord) and corrected_already(entry) is None:
                    raw.setdefault(entry.run, {})[entry.address] = entry.what.value
    return {run: dict(zip(ps, holm(list(ps.values())).tolist(), strict=True)) for run, ps in raw.items()}


def _outcome(
    rule: Rule,
    number: int,
    loaded: LoadedPolicy,
    tests: Sequence[TestOutcome],
    absent: _Absent | None,
    waiver: Waiver | None,
) -> RuleOutcome:
    outcome, counts_as, reason, change = _of_rule(rule, tests, absent)
    before = None
    if waiver is not None and outcome in ("breached", "missing", "inconclusive"):
        before, outcome, counts_as = outcome, "waived", "nothing"
        reason = f"Waived until {waiver.expires} by {waiver.approver}: {waiver.reason} It was {before}: {reason}"
    return RuleOutcome(
        id=rule.id,
        title=rule.title,
        severity=rule.severity,
        outcome=outcome,
        counts_as=counts_as if rule.severity == "block" else "nothing",
        before_waiver=before,
        evidence=EVIDENCE[before or outcome],
        reason=reason,
        change=change,
        clause=rule.clause,
        not_covered=rule.not_covered,
        line=loaded.lines.rule(number),
        tests=tuple(tests),
    )


def _of_rule(rule: Rule, tests: Sequence[TestOutcome], absent: _Absent | None) -> tuple[Outcome, CountsAs, str, str]:
    if rule.kind == "not assessed":
        return "not assessed", "nothing", "Nothing here tests this.", "Evidence from elsewhere."
    if absent is not None:
        change = "Run the audit that gives it, or mend the address."
        if rule.on_missing == "skip" and absent.may_skip:
            return "skipped", "nothing", f"{absent.says} The policy skips it then.", change
        counts: CountsAs = "breached" if rule.on_missing == "fail" else "inconclusive"
        return "missing", counts, absent.says, change
    by_outcome = {outcome: [one for one in tests if one.outcome == outcome] for outcome in _WORST_FIRST}
    worst = next(outcome for outcome in _WORST_FIRST if by_outcome[outcome])
    shown = by_outcome[worst][0]
    more = len(by_outcome[worst]) - 1
    others = f" So {'is' if more == 1 else 'are'} {more} more of {len(tests)}." if more else ""
    if not more and len(tests) > 1:
        others = f" The other {len(tests) - 1} of {len(tests)} {'is' if len(tests) == 2 else 'are'} not as bad."
    reason = (
        f"All {len(tests)} hold; the first: {shown.reason}"
        if worst == "pass" and len(tests) > 1
        else shown.reason + others
    )
    counted_as: dict[Outcome, CountsAs] = {
        "breached": "breached", "missing": "breached", "inconclusive": "inconclusive", "pass": "pass",
        "not assessed": "nothing",
    }  # fmt: skip
    return worst, counted_as[worst], reason, shown.change


# Waivers


@dataclass(frozen=True, slots=True)
class _ReadWaiver:
    waiver: Waiver
    counts: bool
    why: str


def _read_waiver(waiver: Waiver, opened: Sequence[Opened], today: date) -> _ReadWaiver:
    if waiver.last_day < today:
        return _ReadWaiver(waiver, False, f"Not applied: it expired on {waiver.expires}.")
    if waiver.run is not None and any(one.record.id != waiver.run for one in opened):
        return _ReadWaiver(waiver, False, f"Not applied: it is for the run {quoted(waiver.run)} alone.")
    if waiver.model is not None and any(one.told.model_weights != waiver.model for one in opened):
        return _ReadWaiver(waiver, False, f"Not applied: it is for the model {waiver.model[:12]}... alone.")
    return _ReadWaiver(waiver, True, f"Applied; it holds until {waiver.expires}.")


def _waiver_of(rule: Rule, loaded: LoadedPolicy, waivers: Sequence[_ReadWaiver]) -> Waiver | None:
    return next((one.waiver for one in waivers if one.counts and one.waiver.rule == rule.id), None)


def _told_waiver(one: _ReadWaiver, outcomes: Sequence[RuleOutcome]) -> WaiverOutcome:
    used = one.counts and any(rule.id == one.waiver.rule and rule.outcome == "waived" for rule in outcomes)
    why = one.why if used or not one.counts else "Not needed: the rule did not fail."
    waiver = one.waiver
    return WaiverOutcome(
        rule=waiver.rule, reason=waiver.reason, approver=waiver.approver, expires=waiver.expires, applied=used, why=why
    )


# The verdict


def _overall(outcomes: Sequence[RuleOutcome]) -> tuple[Overall, str]:
    if any(one.id == f"{RESERVED}self-test" and one.outcome == "breached" for one in outcomes):
        return "self-test failed", "The instrument is not shown to work, so what it measured decides nothing."
    blocking = [one for one in outcomes if one.severity == "block"]
    breached = [one for one in blocking if one.counts_as == "breached"]
    unsure = [one for one in blocking if one.counts_as == "inconclusive"]
    held = [one for one in blocking if one.counts_as == "pass"]
    apart = {word: sum(one.outcome == word for one in blocking) for word in ("waived", "skipped", "not assessed")}
    beside = "".join(f" {counted(n, 'rule')} {word}." for word, n in apart.items() if n)
    if breached:
        named = ", ".join(one.id for one in breached)
        also = f" {len(unsure)} more {'is' if len(unsure) == 1 else 'are'} inconclusive." if unsure else ""
        return (
            "breached",
            f"{counted(len(breached), 'blocking rule')} breached or without evidence: {named}.{also}{beside}",
        )
    if unsure:
        named = ", ".join(one.id for one in unsure)
        return (
            "inconclusive",
            f"{counted(len(unsure), 'blocking rule')} inconclusive, which is no pass: {named}.{beside}",
        )
    if not held:
        return "inconclusive", f"No blocking rule was tested and held, which is no pass.{beside}"
    return "pass", f"{counted(len(held), 'blocking rule')} tested and held.{beside}"
