"""What a gate says, as a record: the same runs, policy and day give the same bytes."""

from __future__ import annotations

import json
from typing import Final, Literal

from ..runs.schema import Record

Outcome = Literal["pass", "breached", "inconclusive", "missing", "waived", "skipped", "not assessed"]
Overall = Literal["pass", "breached", "inconclusive", "self-test failed"]
EXIT_CODES: Final[dict[Overall, int]] = {"pass": 0, "breached": 1, "inconclusive": 4, "self-test failed": 5}
EVIDENCE: Final[dict[Outcome, str]] = {  # the three words for a clause; the outcome says why it is not assessed
    "pass": "evidence for",
    "breached": "evidence against",
    "inconclusive": "not assessed",
    "missing": "not assessed",
    "waived": "not assessed",
    "skipped": "not assessed",
    "not assessed": "not assessed",
}


class TestOutcome(Record):
    """One number, p-value or verdict of one run under one rule; None where there is no such number.

    ``change`` says what would have to change for a pass, or how much room is left.
    """

    __test__ = False

    address: str
    run: str
    outcome: Outcome
    reason: str
    change: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: int | None = None
    p: float | None = None
    p_corrected: float | None = None
    attainable: float | None = None
    power: float | None = None
    verdict: str | None = None


class WaiverOutcome(Record):
    """A waiver and whether it counted."""

    rule: str
    reason: str
    approver: str
    expires: str
    applied: bool
    why: str


class RuleOutcome(Record):
    """What came of one rule.

    Attributes:
        id: Of the rule; those of what is asked of the run itself begin with ``policy.``.
        title: Of the rule.
        severity: "block" decides.
        outcome: Of the rule, after waivers.
        counts_as: What the outcome counts as where it blocks.
        before_waiver: The outcome that a waiver took the place of.
        evidence: The outcome in words for the clause; that of a waived rule is what it was before.
        reason: One sentence, with the numbers.
        change: What would have to change.
        clause: Of the document that the policy maps.
        not_covered: What of it this says nothing of.
        line: Of the rule in the policy file.
        tests: Each number that was looked at.
    """

    id: str
    title: str
    severity: Literal["block", "warn", "info"]
    outcome: Outcome
    counts_as: Literal["pass", "breached", "inconclusive", "nothing"]
    before_waiver: Outcome | None = None
    evidence: str
    reason: str
    change: str
    clause: str | None = None
    not_covered: str | None = None
    line: int
    tests: tuple[TestOutcome, ...] = ()


class GatedPolicy(Record):
    """The policy that was applied."""

    name: str
    title: str
    reading: str
    sha256: str


class GatedRun(Record):
    """A run that was judged.

    Attributes:
        model_weights: SHA-256 of the model under audit.
        seal: In words.
        head: Of the seal.
        public_key: That signed it.
    """

    id: str
    kind: str
    created: str
    plan_sha256: str
    findings_sha256: str
    policy_sha256: str | None
    model_weights: str | None
    seal: str
    head: str | None = None
    public_key: str | None = None


class Family(Record):
    """What the corrections hold for: rules that block and are not waived, and runs not picked out of several.

    Attributes:
        p_values: P-values that Holm corrects over, inside each run.
        runs_with_p_values: Runs that have any.
        alpha: For each run, the chance at most that a model without any trace is called breached by one of them.
        intervals: Interval tests.
        false_block_by_intervals: Chance at most that one of them is called breached though all hold (Bonferroni), as
            far as the intervals' coverage holds.
        false_pass: Chance at most that a model which breaks some interval rule passes all (intersection-union),
            likewise.
    """

    p_values: int
    runs_with_p_values: int
    alpha: float
    intervals: int
    false_block_by_intervals: float
    false_pass: float | None


class GateResult(Record):
    """The whole result.

    Attributes:
        schema_version: Of this record.
        palimpsest: Version that judged.
        verdict: Overall.
        exit_code: Of the command.
        summary: One sentence.
        today: Day that waivers were read on.
        today_given: Whether that day was given; else it was the clock's.
        different_models: Whether the runs are of models with other weights, or of weights that are not recorded.
        policy: Applied.
        runs: Judged, as given.
        family: Of the corrections.
        rules: In the order of the policy, after what it asks of the run itself.
        waivers: In its order.
    """

    schema_version: Literal[1] = 1
    palimpsest: str
    verdict: Overall
    exit_code: int
    summary: str
    today: str
    today_given: bool = False
    different_models: bool = False
    policy: GatedPolicy
    runs: tuple[GatedRun, ...]
    family: Family
    rules: tuple[RuleOutcome, ...]
    waivers: tuple[WaiverOutcome, ...] = ()

    def canonical(self) -> str:
        """Indented JSON with sorted keys, ASCII, one line feed at the end."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=2, allow_nan=False) + "\n"
