r"""A policy: rules over the estimates of a run, written before the run is judged, in TOML.

Which error each rule guards, and what is corrected for:

- An interval rule passes only when the bound that is against the release (upper for "at_most") keeps the limit. The
  policy passes only when *every* blocking rule does. A model that truly breaks one limit passes the whole policy with
  at most the chance that it passes this one rule, (1 - level) / 2, 2.5% at 95%, however many rules there are: an
  intersection-union test (Berger 1982). So the *false pass* needs no correction, and none is made. It could not be made
  anyway: an interval cannot be brought to another level from its two ends without assuming its shape.
- An interval rule is called breached only when the whole interval lies beyond the limit. Of k such rules, all truly
  kept, one or more is called breached with a chance of at most k (1 - level) / 2 (Bonferroni). The result states this
  sum: the *false block* by interval rules. Between pass and breached lies "inconclusive", which is no pass.
- A p-value rule is called breached when the p-value, corrected by Holm (1979) over all p-values that blocking rules
  look at, is at most alpha. A model that never saw anything is then blocked by p-values with a chance of at most alpha,
  whatever their dependence: Holm guards the *false block*. It makes a finding rarer, so it raises the *false pass*,
  and a large p-value never shows that nothing is there. Therefore a blocking p-value rule must state ``min_power`` and
  the ``max_effect`` for which it counts, and a test that was too weak, or could not have come out significant at all
  after the correction, is inconclusive.

Power is what the audit states for its own family of tests; where a policy's family is larger, it is an upper bound.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..errors import InputError
from ..runs.plan import load_plan
from ..text.safe import did_you_mean, quoted
from .estimates import shape
from .lines import Lines
from .shipped import shipped

Direction = Literal["at_most", "at_least", "between"]
Severity = Literal["block", "warn", "info"]
Demand = Literal["fail", "note"]
Unit = Literal["probability", "auc", "share", "percent", "nats", "bits", "ratio", "count", "residual", "number"]
Said = Literal["found", "not found", "inconclusive", "confounded", "information"]

RESERVED: Final = "policy."  # ids of what a policy asks of the run itself
RANGES: Final[dict[str, tuple[float, float]]] = {
    "probability": (0.0, 1.0),
    "auc": (0.0, 1.0),
    "share": (0.0, 1.0),
    "percent": (0.0, 100.0),
    "ratio": (0.0, float("inf")),
    "count": (0.0, float("inf")),
}
_MOST_RULES: Final = 1_000
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SelfTest(_Table):
    """What is asked of the instrument: that it passed its known answers, at most so long before the run began."""

    required: bool = False
    max_age_days: float | None = Field(default=None, gt=0)


class Multiplicity(_Table):
    """How p-values are corrected, and the chance that a model without any trace is blocked by one of them."""

    method: Literal["holm"] = "holm"
    alpha: float = Field(default=0.05, gt=0, lt=1)


class Rule(_Table):
    """One rule; one without ``estimate`` names a clause that nothing here tests.

    Attributes:
        id: Stable name.
        title: One line.
        estimate: Address, ``<finding>/<estimate>``, ``<finding>/p:<p-value>``, ``<finding>/verdict`` or
            ``<finding>/power``; ``*`` and ``?`` match inside a part, and every match must hold.
        direction: Where the estimate must lie, for numbers and p-values.
        limit: For "at_most" and "at_least"; of a p-value it is the policy's alpha.
        limits: For "between": low, high.
        unit: What the number is; a limit or an estimate outside of the unit's range is refused.
        range: Narrower range than the unit's, low and high.
        bound: "against" looks at the confidence bound that is against the release; "value" at the estimate itself, and
            may not block.
        two_sided: A departure to either side counts, as where forgetting is judged against a model that never knew:
            a finding that left its question open (a destroyed model) never passes.
        reference: Address of an estimate that this one is compared with: the rule is on the difference.
        one_of: Verdicts that hold, for an address that ends in ``/verdict``.
        severity: "block" decides; "warn" and "info" are told.
        clause: Of the document that the policy maps, with its short title.
        not_covered: What of the clause this rule says nothing of.
        min_power: Least power of the finding.
        max_effect: Largest effect, in the finding's own unit (an AUC), for which that power counts: every test has
            power for an effect that is large enough.
        only_against: The rule can speak against a release and never for it: it is breached, or else not assessed.
        min_n: Least n of the estimate.
        level: Least level of the interval.
        on_missing: What an absent estimate is: a failure, inconclusive, or nothing.
        why: Where the limit comes from.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,79}$")
    title: Text
    estimate: Text | None = None
    direction: Direction | None = None
    limit: float | None = None
    limits: tuple[float, float] | None = None
    unit: Unit | None = None
    range: tuple[float, float] | None = None
    bound: Literal["against", "value"] = "against"
    two_sided: bool = False
    reference: Text | None = None
    one_of: tuple[Said, ...] | None = None
    severity: Severity = "block"
    clause: Text | None = None
    not_covered: Text | None = None
    min_power: float | None = Field(default=None, gt=0, lt=1)
    max_effect: float | None = None
    only_against: bool = False
    min_n: int | None = Field(default=None, ge=1)
    level: float = Field(default=0.95, gt=0, lt=1)
    on_missing: Literal["fail", "inconclusive", "skip"] = "fail"
    why: Text | None = None

    @property
    def kind(self) -> Literal["number", "p-value", "verdict", "not assessed"]:
        if self.estimate is None:
            return "not assessed"
        name = self.estimate.partition("/")[2]
        if name == "verdict":
            return "verdict"
        return "p-value" if name.startswith("p:") else "number"

    @property
    def ends(self) -> tuple[float, float]:
        """Limits, low and high, infinite where there is none."""
        if self.limits is not None:
            return self.limits
        low = self.limit if self.direction == "at_least" else None
        high = self.limit if self.direction == "at_most" else None
        return (float("-inf") if low is None else low, float("inf") if high is None else high)

    @property
    def unit_range(self) -> tuple[float, float]:
        """Values that the estimate can have."""
        return self.range or RANGES.get(self.unit or "number", (float("-inf"), float("inf")))

    @property
    def span(self) -> tuple[float, float]:
        """Values that the limits can have: of a difference, those that lie between two estimates."""
        low, high = self.unit_range
        return (low - high, high - low) if self.reference is not None else (low, high)

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        for problem in (check(self) for check in _CHECKS):
            if problem is not None:
                raise ValueError(problem)
        return self


def _name(rule: Rule) -> str | None:
    if not rule.id.startswith(RESERVED):
        return None
    return f"id {quoted(rule.id)} begins with {RESERVED!r}, which is kept for what a policy asks of the run itself."


def _clause(rule: Rule) -> str | None:
    if rule.clause is not None and rule.not_covered is None:
        return "clause without not_covered; say what of the clause this rule says nothing of."
    return None


def _estimate(rule: Rule) -> str | None:
    if rule.kind == "not assessed":
        given = [name for name in ("direction", "limit", "limits", "unit", "range", "one_of", "reference", "min_power",
                                   "max_effect", "min_n") if getattr(rule, name) is not None]  # fmt: skip
        if given:
            return f"{given[0]} without estimate; name the estimate that it speaks of."
        if rule.clause is None:
            return "neither estimate nor clause; give the address of an estimate, such as traps.copies_64/auc."
        return None if rule.severity == "info" else "without estimate nothing is tested; set severity to 'info'."
    finding, slash, name = (rule.estimate or "").partition("/")
    if not slash or not finding or not name:
        return (
            f"estimate {quoted(rule.estimate)} is no address; expected <finding>/<estimate>, such as "
            "traps.copies_64/auc, traps.copies_64/p:arm or traps.overall/verdict."
        )
    if any(mark in name for mark in "*?") and rule.kind == "number":
        for other in ("verdict", "power"):
            if shape(name).fullmatch(other):
                return f"estimate {quoted(rule.estimate)} can match {other!r} as well; name the estimate itself."
        if _can_begin_as_p_value(name):
            return f"estimate {quoted(rule.estimate)} can match p-values as well; name the estimate itself."
    return None


def _can_begin_as_p_value(pattern: str) -> bool:
    """Whether a pattern can match a name that begins with ``p:``."""
    for place, letter in enumerate("p:"):
        if pattern[place : place + 1] == "*":
            return True
        if pattern[place : place + 1] not in (letter, "?"):
            return False
    return True


def _verdicts(rule: Rule) -> str | None:
    if rule.kind != "verdict":
        return None if rule.one_of is None else "one_of is for an address that ends in /verdict."
    if not rule.one_of:
        return 'one_of is missing; name the verdicts that hold, such as ["not found"].'
    openly = [one for one in rule.one_of if one in ("inconclusive", "confounded", "information")]
    if openly and rule.severity == "block":
        return f"one_of holds {openly[0]!r}, which leaves the question open; it is no ground for a pass."
    if {"found", "not found"} <= set(rule.one_of):
        return "one_of holds 'found' and 'not found': the rule would hold whatever the audit answers. Name one."
    for name in ("direction", "limit", "limits", "unit", "range", "reference", "min_n"):
        if getattr(rule, name) is not None:
            return f"{name} is for a number; a verdict has one_of."
    return "two_sided is for a number; a verdict has one_of." if rule.two_sided else None


def _p_value(rule: Rule) -> str | None:
    if rule.kind != "p-value":
        return None
    if rule.direction not in (None, "at_least"):
        return f"direction is {rule.direction!r}; a p-value must be at_least: a small one speaks against the release."
    for name in ("limits", "range", "reference"):
        if getattr(rule, name) is not None:
            return f"{name} is not for a p-value; its limit is the policy's alpha."
    if rule.unit not in (None, "probability"):
        return f"unit is {rule.unit!r}; a p-value is a probability."
    if rule.severity == "block" and not rule.only_against:
        if rule.min_power is None:
            return "min_power is missing: a test too weak to find anything would let every model pass. Give 0.8, say."
        if rule.max_effect is None:
            return (
                "max_effect is missing: every test has power for an effect that is large enough. Give the largest that "
                "counts, such as an AUC of 0.6."
            )
    return None


def _power(rule: Rule) -> str | None:
    if rule.max_effect is not None and rule.min_power is None:
        return "max_effect without min_power; give the power that is asked for at that effect, such as 0.8."
    if rule.only_against and rule.min_power is not None:
        return "min_power is for a pass, and with only_against there is none. Leave one of the two out."
    return None


def _number(rule: Rule) -> str | None:
    if rule.kind != "number":
        return None
    if rule.direction is None:
        return "direction is missing; expected 'at_most', 'at_least' or 'between'."
    if rule.unit is None:
        return f"unit is missing; expected one of {', '.join(Unit.__args__)}."  # type: ignore[attr-defined]
    if rule.direction == "between":
        if rule.limits is None or rule.limit is not None:
            return "direction 'between' takes limits = [low, high] and no limit."
        if not rule.limits[0] < rule.limits[1]:
            return f"limits are {list(rule.limits)}; expected the lower one first."
    elif rule.limit is None or rule.limits is not None:
        return f"direction {rule.direction!r} takes limit and no limits."
    if rule.reference == rule.estimate:
        return "reference is the estimate itself; their difference is 0 whatever is found. Name that of another model."
    if (rule.two_sided or rule.reference is not None) and rule.direction != "between":
        return "what is compared with a model that never knew takes 'between': destroyed is not forgotten."
    if rule.severity == "block" and rule.bound == "value":
        return (
            "bound 'value' may not block: an estimate without its uncertainty decides nothing. Warn, or use 'against'."
        )
    return None


def _range(rule: Rule) -> str | None:
    if rule.kind != "number":
        return None
    if rule.range is not None and not rule.range[0] < rule.range[1]:
        return f"range is {list(rule.range)}; expected the lower end first."
    least, most = RANGES.get(rule.unit or "number", (float("-inf"), float("inf")))
    if rule.range is not None and not least <= rule.range[0] <= rule.range[1] <= most:
        return (
            f"range {list(rule.range)} is wider than [{least:g}, {most:g}], where {rule.unit} can be; it may only "
            "narrow it. Name the right unit."
        )
    low, high = rule.span
    for end in rule.ends:
        if abs(end) != float("inf") and not low <= end <= high:
            return f"wrong unit: the limit {end:g} lies outside of [{low:g}, {high:g}], where {rule.unit} can be."
    ends = rule.ends
    if ends[0] <= low and ends[1] >= high:
        return f"the limits hold whatever is found: {rule.unit} lies in [{low:g}, {high:g}] by itself."
    return None


_CHECKS: Final[tuple[Callable[[Rule], str | None], ...]] = (
    _name, _clause, _estimate, _verdicts, _p_value, _power, _number, _range,
)  # fmt: skip


class Waiver(_Table):
    """A rule that need not hold for a time, because a person says so.

    Attributes:
        rule: Its id.
        reason: Why; it is printed wherever the result is.
        approver: Who answers for it.
        expires: Last day on which it holds, "2026-12-31".
        run: Id of the run that it is for; None for any.
        model: SHA-256 of the model's weights that it is for; None for any.
    """

    rule: str
    reason: Text
    approver: Text
    expires: str
    run: Text | None = None
    model: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @field_validator("expires")
    @classmethod
    def _is_date(cls, value: str) -> str:
        parse_day(value, "expires")
        return value

    @property
    def last_day(self) -> date:
        return parse_day(self.expires, "expires")


def parse_day(text: str, what: str) -> date:
    """A day written ``2026-12-31``.

    Raises:
        ValueError: It is none; the message is for the user.
    """
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f'{what} is {quoted(text)}; expected a day such as "2026-12-31".') from None


class Policy(_Table):
    """A whole policy.

    Attributes:
        schema_version: Of the file.
        name: Short name.
        title: One line.
        reading: Whose reading of which text it is, and of when.
        require_preregistered: Whether a run that did not name this very policy before it was scored fails, or is noted.
        require_seal: Whether a run that is not sealed fails, or is noted.
        self_test: Of the instrument.
        multiplicity: Of p-values.
        rules: All.
        waivers: Exceptions.
    """

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    title: Text
    reading: Text
    require_preregistered: Demand = "note"
    require_seal: Demand = "note"
    self_test: SelfTest = SelfTest()
    multiplicity: Multiplicity = Multiplicity()
    rules: tuple[Rule, ...] = ()
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy and where it stands.

    Attributes:
        policy: Checked.
        sha256: Of the file.
        path: Of the file.
        lines: Where each rule stands in it.
    """

    policy: Policy
    sha256: str
    path: Path
    lines: Lines


def load_policy(path: str | Path) -> LoadedPolicy:
    """Reads and checks a policy.

    Raises:
        InputError: It cannot be read, or rules are wrong: each problem on a line of its own.
    """
    path = Path(path)
    if not path.exists():
        near = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(
            f"there is no policy at {path}.{did_you_mean(path.name, near)} Give a TOML file, or the name of a shipped "
            "policy: palimpsest gate policies."
        )
    policy, text = load_plan(path, Policy)
    if problems := cross_problems(policy, text):
        raise InputError(f"{path} has {len(problems)} problems:\n" + "\n".join(f"- {one}" for one in problems)
                         if len(problems) > 1 else f"{path}: {problems[0]}")  # fmt: skip
    sha256 = hashlib.sha256(text.encode()).hexdigest()  # of what was read, not of what stands there by now
    return LoadedPolicy(policy, sha256, path, Lines.of(text))


def cross_problems(policy: Policy, text: str) -> list[str]:
    """What is wrong between tables that are right by themselves, and with the file of this text as a whole.

    Each message begins with the place.
    """
    problems = []
    known = shipped()
    if policy.name in known and text.encode() != known[policy.name].read_bytes():
        problems.append(
            f"name is {policy.name!r}, which is a shipped policy, and this file is not that one to the byte: a verdict "
            "by it would pass for one by the other. Give it a name of its own."
        )
    seen: dict[str, int] = {}
    for at, rule in enumerate(policy.rules, 1):
        if rule.id in seen:
            problems.append(f"rules[{at}]: id {quoted(rule.id)} is that of rules[{seen[rule.id]}] too; ids are unique.")
        seen.setdefault(rule.id, at)
        alpha = policy.multiplicity.alpha
        if rule.kind == "p-value" and rule.limit is not None and rule.limit != alpha:
            problems.append(
                f"rules[{at}].limit is {rule.limit:g}, and alpha in [multiplicity] {alpha:g}: p-values are corrected "
                "for one alpha. Leave limit out, or make them the same."
            )
    if not policy.rules:
        problems.append("the policy has no [[rules]]; an empty policy would pass everything.")
    elif len(policy.rules) > _MOST_RULES:
        problems.append(f"the policy has {len(policy.rules):,} rules; expected at most {_MOST_RULES:,}.")
    elif all(rule.severity != "block" for rule in policy.rules):
        problems.append("no rule has severity 'block', so nothing could be breached and nothing be a pass.")
    elif all(rule.severity != "block" or rule.only_against for rule in policy.rules):
        problems.append("every rule with severity 'block' is only_against, so nothing could be a pass.")
    for at, waiver in enumerate(policy.waivers, 1):
        if waiver.rule not in seen:
            hint = did_you_mean(waiver.rule, seen)
            problems.append(f"waivers[{at}].rule is {quoted(waiver.rule)}; there is no such rule.{hint}")
    return problems
