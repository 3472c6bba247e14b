"""A gate's result as the exports read it: the JSON of ``palimpsest gate RUN --format json``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ...errors import DataError, InputError
from ...text.safe import quoted

_UNJUDGED = ("skipped", "not assessed")
Side = Literal["for", "against", "open"]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule: what came of it in the gate's word, its severity, and the sentence that says why."""

    id: str
    outcome: str
    severity: str
    title: str
    reason: str
    clause: str

    @property
    def state(self) -> Literal["passed", "warned", "failed", "unjudged"]:
        """In the words of in-toto's test result. What is open, or missing, has failed: it is no pass."""
        if self.outcome == "pass":
            return "passed"
        if self.outcome in _UNJUDGED:
            return "unjudged"
        return "warned" if self.outcome == "waived" or self.severity in ("warn", "info") else "failed"

    @property
    def side(self) -> Side:
        """Whether it is evidence for what the rule asks, against it, or leaves it open."""
        return {"pass": "for", "breached": "against"}.get(self.outcome, "open")  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the exports need of a gate's result.

    Attributes:
        verdict: Its word for the whole.
        rules: All rules, in its order.
        policy: Name of the policy.
        policy_sha256: Of its file.
        sha256: Of the result's own file.
        today: Day on which waivers were read, as the result says.
        model_weights: SHA-256 of the weights of the model that was judged, as the result says.
        anew: Whether the policy was put to the run anew for this statement; else the file was believed.
    """

    verdict: str
    rules: tuple[RuleResult, ...]
    policy: str
    policy_sha256: str
    sha256: str
    today: str | None = None
    model_weights: str | None = None
    anew: bool = False

    @property
    def result(self) -> Literal["PASSED", "WARNED", "FAILED"]:
        """In the words of in-toto's test result; every verdict but a pass has failed."""
        states = {rule.state for rule in self.rules}
        if self.verdict != "pass" or "failed" in states or "passed" not in states:
            return "FAILED"
        return "WARNED" if "warned" in states else "PASSED"


def read_gate(path: Path, *, run_id: str, findings_sha256: str | None, policy_sha256: str | None) -> GateResult:
    """A gate's result from its file.

    Args:
        path: The file.
        run_id: The run that it has to speak of, and of no other.
        findings_sha256: Of that run's findings.json, which has to be what was judged.
        policy_sha256: The policy of the seal, when it has one.

    Raises:
        InputError: There is no such file.
        DataError: It is no gate's result, or one of another run, other findings or another policy.
    """
    if not path.is_file():
        raise InputError(
            f"there is no file {path}. Make it: palimpsest gate RUN --policy FILE --format json --out {path}"
        )
    known = {"run_id": run_id, "findings_sha256": findings_sha256, "policy_sha256": policy_sha256}
    return parse_gate(path.read_bytes(), where=str(path), **known)  # type: ignore[arg-type]


def day_of(path: Path) -> str | None:
    """The day on which a gate's result read waivers, unchecked; None where it tells none."""
    try:
        day = json.loads(path.read_bytes())["today"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None
    return day if isinstance(day, str) else None


def require_same(given: GateResult, anew: GateResult, *, where: str) -> GateResult:
    """The result that was judged anew, under the hash of the one that was given, which must say the same.

    Raises:
        DataError: It says something else.
    """
    one, other = ({rule.id: (rule.severity, rule.outcome) for rule in each.rules} for each in (given, anew))
    differs = [f"verdict {given.verdict!r}, and not {anew.verdict!r}"] if given.verdict != anew.verdict else []
    if given.policy_sha256 != anew.policy_sha256:
        differs.append(f"the policy of SHA-256 {quoted(given.policy_sha256)}, and not {anew.policy_sha256}")
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


def parse_gate(
    content: bytes,
    *,
    where: str,
    run_id: str,
    findings_sha256: str | None,
    policy_sha256: str | None,
    anew: bool = False,
) -> GateResult:
    """A gate's result from its bytes; arguments and errors as `read_gate`. ``anew``: it was made for this statement."""
    try:
        value = json.loads(content)
        runs = {run["id"]: run for run in value["runs"]}
        verdict, policy = str(value["verdict"]), value["policy"]
        name, applied = str(policy["name"]), str(policy["sha256"])
        rules = tuple(_rule(rule) for rule in value["rules"])
        told = {"today": value.get("today"), "model_weights": value["runs"][0].get("model_weights")}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where} is no gate's result ({type(error).__name__}: {error}); expected what "
            "`palimpsest gate RUN --policy FILE --format json` writes."
        ) from error
    if list(runs) != [run_id]:
        raise DataError(
            f"{where} is the gate's result of {quoted(', '.join(map(str, runs)), limit=200)}; a statement speaks of "
            f"one run, here {run_id}. Run the gate on that one alone."
        )
    if runs[run_id].get("findings_sha256") != findings_sha256:
        raise DataError(f"{where} judged other findings than those that were sealed. Run the gate on the sealed run.")
    if policy_sha256 is not None and applied != policy_sha256:
        raise DataError(
            f"{where} was judged by the policy of SHA-256 {applied}, and the run was sealed with {policy_sha256}. "
            "Run the gate with that policy."
        )
    ids = [rule.id for rule in rules]
    if len(set(ids)) != len(ids):
        raise DataError(f"{where}: two rules have one id.")
    words = {key: one if isinstance(one, str) else None for key, one in told.items()}
    return GateResult(verdict, rules, name, applied, hashlib.sha256(content).hexdigest(), **words, anew=anew)


def _rule(rule: dict[str, Any]) -> RuleResult:
    words = {name: str(rule.get(name) or "") for name in ("severity", "title", "reason", "clause")}
    return RuleResult(str(rule["id"]), str(rule["outcome"]), **words)
