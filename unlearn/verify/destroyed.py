r"""Did the remedy leave a system that still does anything? Three rules; one that holds is enough.

Each is a share of something that the subject has and a destroyed system has not: 1 as before the remedy, 0 nothing.

    guessing    (g - l_remedied) / (g - l_subject)                                 destroyed: high <= 0
    knowledge   (m_remedied - m_never) / (m_subject - m_never)                     destroyed: high < 1/2
    answers     share of sound answers among the questions that the subject answers soundly    destroyed: high < 1/2

high is the upper bound of the 95% interval, whole clusters resampled, so that a system which stands exactly at a border
is called destroyed in about 2.5% of audits by a rule, and in at most three times that by any of them.

l is the loss on general text and g that of guessing each token by its frequency in the other documents of the set
(`utility.guessing_losses`). ln(vocabulary) would be cheaper and is too lenient: a model that forgot all but which
tokens are common stays far below it. The entropy of the text itself is too strict: on a short text its own frequencies
guess better than any model can. m is ROUGE-L recall of greedy answers to neighbour questions: what a user gets. A
likelihood would call a model destroyed that answers as before and is less sure. m_never, the subject's own score on
rows that nobody saw, is what form alone is worth; half of what lies above it is the border, because a system that lost
most of what it was to keep serves nobody, whatever it forgot. `utility.sound_answers` says what a sound answer is.

A rule is left out, and says why, where the subject itself does not pass its start: a loss no better than guessing, no
knowledge above never rows, no sound answers. Below 8 clusters a rule is undecided, unless nothing changed at all. A
system counts as intact where no rule holds or is undecided and knowledge or answers were seen not to be lost. Rules and
borders are ours, set before a remedied model was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from audit.forgetting.measured import Measured, few_passages, joined
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Floats
from audit.stats.estimate import Estimate

from .utility import NOT_FINITE, Knowledge, TextLosses, Useful, alike
from .verdict import FEW_CLUSTERS, LEVEL, bounds

Status = Literal["destroyed", "not destroyed", "undecided", "not measured"]
HALF: Final = 0.5
_LABELS: Final = {
    "guessing": "share of the lead over guessing by token frequency that is kept",
    "knowledge": "share of the knowledge of neighbours that is kept",
    "answers": "share of sound answers to neighbours that is kept",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, as it was applied.

    Attributes:
        key: "guessing", "knowledge" or "answers".
        estimate: The share that is kept; undefined where it was not measured.
        border: What ``estimate.high`` is held against.
        status: What the rule says.
        why: On what grounds, in one sentence.
    """

    key: str
    estimate: Estimate
    border: float
    status: Status
    why: str

    @property
    def label(self) -> str:
        return _LABELS[self.key]

    @property
    def bound(self) -> float | None:
        """The upper bound that is held against the border."""
        ends = bounds(self.estimate)
        return None if ends is None else ends[1]

    @property
    def answer(self) -> bool | None:
        """Destroyed or not; None where the rule does not say, and ``why`` does."""
        return {"destroyed": True, "not destroyed": False}.get(self.status)


@dataclass(frozen=True, slots=True)
class Destroyed:
    """All rules."""

    rules: tuple[Rule, ...]

    @property
    def answer(self) -> bool | None:
        """True where a rule holds; False where none may hold and one on answers says so; None otherwise.

        A loss alone shows no intact system: one that guesses a little better than token frequencies has one, too.
        """
        said = {rule.status for rule in self.rules}
        if "destroyed" in said:
            return True
        answers = any(rule.status == "not destroyed" and rule.key != "guessing" for rule in self.rules)
        return False if answers and "undecided" not in said else None

    @property
    def why(self) -> str | None:
        """For `verdict.decide`: why the system counts as destroyed, or None where no rule holds."""
        held = [f"{rule.label}: {rule.why}" for rule in self.rules if rule.answer]
        return f"The remedied system counts as destroyed: {'; '.join(held)}." if held else None

    @property
    def missing(self) -> dict[str, str]:
        """Rules that say neither yes nor no, and why."""
        return {rule.key: rule.why for rule in self.rules if rule.answer is None}


def judge_destroyed(
    subject: Useful, remedied: Useful, *, never: Measured | None = None, rng: int, level: float = LEVEL
) -> Destroyed:
    """Apply the rules at the head of this file.

    Args:
        subject: Utility before the remedy.
        remedied: After it, on the same passages and rows.
        never: The subject's ROUGE-L recall on rows that nobody saw (``measure_knowledge(...).qa.rouge``). None takes 0
            for it, which makes the rule more lenient, and says so.
        rng: Seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: The two were measured on different passages or rows, or with different tokenizers.
    """
    return Destroyed(
        (
            _guessing(subject, remedied, rng, level),
            _knowledge(subject, remedied, never, rng, level),
            _answers(subject, remedied, rng, level),
        )
    )


def _guessing(subject: Useful, remedied: Useful, rng: int, level: float) -> Rule:
    before, after = subject.general, remedied.general
    if before is None or after is None:
        name, whose = ("subject", subject) if before is None else ("remedied system", remedied)
        why = whose.missing.get("utility.general_loss", "it was not measured")
        return _unmeasured("guessing", 0.0, f"the loss of the {name} on general text is missing: {why}", level)
    if not len(before.measured.ids):
        return _unmeasured("guessing", 0.0, "the subject has no loss on general text", level)
    broken = sum(after.measured.left_out.get(name) == NOT_FINITE for name in before.measured.ids)
    if 2 * broken > len(before.measured.ids):
        n = len(set(before.measured.passages))
        why = f"its logits are not finite in {broken:,} of {len(before.measured.ids):,} general passages"
        undefined = Estimate.undefined(method=_LABELS["guessing"], why=why, n=n, level=level)
        return Rule("guessing", undefined, 0.0, "destroyed", why)
    old, new, note = alike(before, after)
    lead = _shares(old, new)
    start = bootstrap(_first, *lead, paired=True, clusters=old.measured.passages, level=level, rng=rng)
    if (nothing := _no_start(start)) is not None:
        why = f"the subject itself is not better than guessing ({nothing})"
        return _unmeasured("guessing", 0.0, why, level, start.n)
    if np.array_equal(old.measured.values, new.measured.values):
        return _unchanged("guessing", 0.0, start.n, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bootstrap(_ratio, *lead, paired=True, clusters=old.measured.passages, level=level, rng=rng)
    return _settled("guessing", found, 0.0, note)


def _shares(old: TextLosses, new: TextLosses) -> tuple[Floats, Floats]:
    """Lead over guessing of each passage, in nats: the subject's and the remedied model's."""
    return (
        (old.guessing - old.measured.values) * old.n_tokens,
        (old.guessing - new.measured.values) * old.n_tokens,
    )


def _first(old: Floats, new: Floats, axis: int = -1) -> Floats:
    return np.asarray(old.mean(axis=axis))


def _ratio(old: Floats, new: Floats, axis: int = -1) -> Floats:
    return np.asarray(new.sum(axis=axis) / old.sum(axis=axis))


def _knowledge(subject: Useful, remedied: Useful, never: Measured | None, rng: int, level: float) -> Rule:
    asked = _asked(subject, remedied)
    if isinstance(asked, str):
        return _unmeasured("knowledge", HALF, asked, level)
    (old, new), homes, note = joined([one.qa.rouge for one in asked])
    if never is not None and not len(never.values):
        return _unmeasured("knowledge", HALF, "no row that nobody saw has a value", level)
    both = np.stack([old, new], axis=1)
    samples = [np.arange(len(old), dtype=np.float64)] + ([] if never is None else [never.values])
    clusters: Sequence[Any] = homes if never is None else [homes, never.passages]

    def above(rows: Floats, *unseen: Floats, axis: int) -> Floats:
        """Means of the drawn rows above the never-level, shape (..., 2)."""
        means = both[rows.astype(np.int64)].mean(axis=axis - 1 if axis < 0 else axis)
        level_ = unseen[0].mean(axis=axis) if unseen else np.zeros(means.shape[:-1])
        return np.asarray(means - np.asarray(level_)[..., None])

    def lead(rows: Floats, *unseen: Floats, axis: int = -1) -> Floats:
        return np.asarray(above(rows, *unseen, axis=axis)[..., 0])

    def share(rows: Floats, *unseen: Floats, axis: int = -1) -> Floats:
        found = above(rows, *unseen, axis=axis)
        return np.asarray(found[..., 1] / found[..., 0])

    start = bootstrap(lead, *samples, clusters=clusters, level=level, rng=rng)
    if (nothing := _no_start(start)) is not None:
        what = (
            "does not know neighbour rows better than rows that nobody saw"
            if never is not None
            else "answers no neighbour row"
        )
        return _unmeasured("knowledge", HALF, f"the subject {what} ({nothing})", level, start.n)
    n = len(set(homes))
    if np.array_equal(old, new):
        return _unchanged("knowledge", HALF, n, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bootstrap(share, *samples, clusters=clusters, level=level, rng=rng)
    least = n if never is None else min(n, len(set(never.passages)))
    unseen = (
        None if never is not None else "no rows that nobody saw were given, so what form is worth counts as knowledge"
    )
    notes = "; ".join(part for part in (note, unseen, few_passages(found, least)) if part)
    return _settled("knowledge", replace(found, n=least), HALF, notes or None)


def _answers(subject: Useful, remedied: Useful, rng: int, level: float) -> Rule:
    asked = _asked(subject, remedied)
    if isinstance(asked, str):
        return _unmeasured("answers", HALF, asked, level)
    first, second = (one.sound for one in asked)
    (before, after), homes, note = joined([first, second])
    sound = np.flatnonzero(before == 1.0)
    if not len(sound):
        return _unmeasured("answers", HALF, f"the subject gives no sound answer to {len(before):,} questions", level)
    if np.array_equal(before, after):
        return _unchanged("answers", HALF, len({homes[place] for place in sound}), level)
    common = set(second.ids)
    ids = [name for name in first.ids if name in common]
    kept = Measured(
        _LABELS["answers"],
        tuple(ids[place] for place in sound),
        tuple(homes[place] for place in sound),
        after[sound],
    )
    return _settled("answers", kept.mean(rng=rng, level=level), HALF, note)


def _asked(subject: Useful, remedied: Useful) -> tuple[Knowledge, Knowledge] | str:
    """Knowledge before and after, or why one of them is missing."""
    before, after = subject.knowledge, remedied.knowledge
    if before is None or after is None:
        name, whose = ("subject", subject) if before is None else ("remedied system", remedied)
        return f"answers of the {name} to neighbour questions are missing: " + whose.missing.get(
            "utility.rouge", "it was not asked"
        )
    return before, after


def _no_start(start: Estimate) -> str | None:
    """Why the subject has nothing that could be lost, or None."""
    if start.value is None:
        return start.why
    if start.n < 2:
        return f"{start.value:.3g}, and a single cluster"
    ends = bounds(start)
    if ends is None or ends[0] <= 0:
        interval = "no interval" if ends is None else f"[{ends[0]:.3g}, {ends[1]:.3g}]"
        return f"{start.value:.3g}, {interval}, n {start.n:,}"
    return None


def _settled(key: str, found: Estimate, border: float, note: str | None) -> Rule:
    found = replace(
        found,
        method=f"{_LABELS[key]}, {found.method}",
        why="; ".join(part for part in (found.why, note) if part) or None,
    )
    ends = bounds(found)
    if found.value is None or ends is None:
        return Rule(key, found, border, "not measured", f"it is undefined: {found.why}")
    told = f"{found.value:.2f} [{ends[0]:.2f}, {ends[1]:.2f}] (n {found.n:,}), border {border:g}"
    if found.n < FEW_CLUSTERS:
        return Rule(key, found, border, "undecided", f"{told}; fewer than {FEW_CLUSTERS} clusters are no ground")
    gone = ends[1] <= border if border == 0 else ends[1] < border
    status: Status = "destroyed" if gone else "not destroyed" if ends[0] > border else "undecided"
    return Rule(key, found, border, status, told)


def _unchanged(key: str, border: float, n: int, level: float) -> Rule:
    why = "every value is what it was before the remedy"
    return Rule(key, Estimate(1.0, None, None, level, n, _LABELS[key], why), border, "not destroyed", why)


def _unmeasured(key: str, border: float, why: str, level: float, n: int = 0) -> Rule:
    return Rule(key, Estimate.undefined(method=_LABELS[key], why=why, n=n, level=level), border, "not measured", why)
