"""A gate's result on one run, and whether a statement may rest on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ..errors import AuditError, DataError, InputError
from ..gates.policy import load_policy, parse_day
from ..gates.result import GateResult, RuleOutcome
from ..gates.shipped import find_policy
from ..gates.verdict import gate
from ..runs.records import read_record
from ..text.safe import quoted

_UNJUDGED = ("skipped", "not assessed")
Side = Literal["for", "against", "open"]
State = Literal["passed", "warned", "failed", "unjudged"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A gate's result.

    Attributes:
        result: What the gate said.
        sha256: Of its file.
        anew: Whether the policy was put to the run anew for this statement; else the file was believed.
    """

    result: GateResult
    sha256: str
    anew: bool = False

    @property
    def word(self) -> Literal["PASSED", "WARNED", "FAILED"]:
        """In the words of in-toto's test result; every verdict but a pass has failed."""
        states = {state_of(rule) for rule in self.result.rules}
        if self.result.verdict != "pass" or "failed" in states or "passed" not in states:
            return "FAILED"
        return "WARNED" if "warned" in states else "PASSED"


def state_of(rule: RuleOutcome) -> State:
    """In the words of in-toto's test result. What is open, or missing, has failed: it is no pass."""
    if rule.outcome == "pass":
        return "passed"
    if rule.outcome in _UNJUDGED:
        return "unjudged"
    return "warned" if rule.outcome == "waived" or rule.severity in ("warn", "info") else "failed"


def side_of(rule: RuleOutcome) -> Side:
    """Whether it is evidence for what the rule asks, against it, or leaves it open; a waiver changes no evidence."""
    outcome = rule.before_waiver or rule.outcome
    if outcome == "pass":
        return "for"
    return "against" if outcome == "breached" else "open"


def read_judged(path: Path, *, run_id: str, findings_sha256: str | None, policy_sha256: str | None) -> Judged:
    """A gate's result from its file, which is believed.

    Args:
        path: The file.
        run_id: The run that it has to speak of, and of no other.
        findings_sha256: Of that run's findings.json, which has to be what was judged.
        policy_sha256: The policy of the seal, when it has one.

    Raises:
        InputError: There is no such file.
        DataError: It is no gate's result, or one of another run, other findings or another policy.
    """
    how = "palimpsest gate RUN --policy FILE --format json"
    if not path.is_file():
        raise InputError(f"there is no file {path}. Make it: {how} --out {path}")
    try:
        result = read_record(path, GateResult, missing="")
    except DataError as error:
        raise DataError(f"{path} is no gate's result; expected what `{how}` writes. {error}") from error
    require_of(result, where=str(path), run_id=run_id, findings_sha256=findings_sha256, policy_sha256=policy_sha256)
    return Judged(result, hashlib.sha256(path.read_bytes()).hexdigest())


def judge_now(run: Path, policy: str, given: Path | None, today: str | None) -> GateResult:
    """A gate's result on a run, as it is now.

    Args:
        run: Its folder.
        policy: File or name.
        given: File of an earlier result, whose day is taken where ``today`` is None.
        today: Day on which waivers are read, "2026-12-31"; None for that of ``given``, or the clock's.

    Raises:
        InputError: The day or the policy is none, or as `gate`.
        IncompleteRunError: As `gate`.
        DataError: As `gate`.
    """
    told = _day_of(given) if today is None and given is not None else today
    try:
        day = datetime.now(UTC).date() if told is None else parse_day(told, "--today" if today else f"today in {given}")
    except ValueError as error:
        raise InputError(str(error)) from None
    return gate([run], load_policy(find_policy(policy)), today=day, today_given=told is not None)


def _day_of(path: Path) -> str | None:
    """The day on which a gate's result read waivers; None where there is no such result, which its reader refuses."""
    try:
        return read_record(path, GateResult, missing="there is none").today
    except AuditError:
        return None


def judged_anew(result: GateResult, given: Judged | None, *, where: str) -> Judged:
    """A result that was made for this statement, under the hash of the file that was given, which must say the same.

    Raises:
        DataError: It says something else.
    """
    anew = Judged(result, hashlib.sha256(result.canonical().encode()).hexdigest(), anew=True)
    if given is None:
        return anew
    old = given.result
    one, other = ({rule.id: (rule.severity, rule.outcome) for rule in each.rules} for each in (old, result))
    differs = [f"verdict {old.verdict!r}, and not {result.verdict!r}"] if old.verdict != result.verdict else []
    if old.policy.sha256 != result.policy.sha256:
        differs.append(f"the policy of SHA-256 {quoted(old.policy.sha256)}, and not {result.policy.sha256}")
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            says, gives = (" ".join(side[name]) if name in side else "no such rule" for side in (one, other))
            differs.append(f"rule {quoted(name)}: {quoted(says)}, and not {quoted(gives)}")
    if differs:
        raise DataError(
            f"{where} is not what the policy gives on this run: {'; '.join(differs[:5])}. The file was changed, or "
            "made before the run was sealed, on another day or by another version. Run the gate anew."
        )
    return replace(anew, sha256=given.sha256)


def require_of(
    result: GateResult, *, where: str, run_id: str, findings_sha256: str | None, policy_sha256: str | None
) -> None:
    """Refuse a result that a statement about this run cannot rest on; arguments as `read_judged`.

    Raises:
        DataError: It is one of another run, other findings or another policy, or contradicts itself.
    """
    runs = {run.id: run for run in result.runs}
    if list(runs) != [run_id]:
        raise DataError(
            f"{where} is the gate's result of {quoted(', '.join(runs), limit=200)}; a statement speaks of one run, "
            f"here {run_id}. Run the gate on that one alone."
        )
    if runs[run_id].findings_sha256 != findings_sha256:
        raise DataError(f"{where} judged other findings than those that were sealed. Run the gate on the sealed run.")
    if policy_sha256 is not None and result.policy.sha256 != policy_sha256:
        raise DataError(
            f"{where} was judged by the policy of SHA-256 {result.policy.sha256}, and the run was sealed with "
            f"{policy_sha256}. Run the gate with that policy."
        )
    ids = [rule.id for rule in result.rules]
    if len(set(ids)) != len(ids):
        raise DataError(f"{where}: two rules have one id.")
