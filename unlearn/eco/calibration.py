"""The threshold of the prompt classifier, with what may be promised of it.

Source: spec of ECO, section 2.2. The project page says that conformal prediction lowers errors; the authors' code has
none and the paper's formula is not sourced, so the formulas here are the standard ones (Vovk et al. 2005; Angelopoulos
& Bates 2021, arXiv:2107.07511).

Every promise is an average over draws of calibration and new prompts that are exchangeable: same source, same lengths,
scored the same way, none of them used to train the classifier (`require_unseen`). It says nothing of prompts that
somebody wrote to get past the classifier.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.errors import InputError
from audit.stats.checks import Floats, Labels, choice, finite_vector, label_codes, open_unit
from audit.stats.conformal import SLACK, conformal_threshold
from audit.stats.estimate import Estimate
from audit.text.safe import quoted

Action: TypeAlias = Literal["corrupt", "pass"]
ACTIONS: Final = ("corrupt", "pass")


class _Rate(NamedTuple):
    """Which rate a threshold bounds, and what an infinite one does."""

    name: str
    infinite: str


_ONE_SIDED: Final = _Rate("false-positive rate", "nothing is flagged")
_WITHOUT_RETAIN: Final = _Rate('rate of sets without "retain"', 'every set holds "retain"')
_WITHOUT_FORGET: Final = _Rate('rate of sets without "forget"', 'every set holds "forget"')


@dataclass(frozen=True, slots=True)
class Threshold:
    """A prompt is flagged when its score is *above* ``value``.

    Attributes:
        value: The rank-th smallest calibration score; +inf, which no score is above, where rank > n.
        alpha: Highest rate promised, in (0, 1), averaged over calibration sets.
        n: Calibration scores.
        rank: k = ceil((n + 1)(1 - alpha)), 1 to n + 1.
        n_needed: Calibration scores needed for a finite threshold, ceil(1/alpha) - 1.
        n_tied: Calibration scores equal to ``value``, itself included; more than 1 makes the true rate lower.
        rate: (n + 1 - k)/(n + 1), with the interval of this threshold's own rate, Beta(n + 1 - k, k) distributed.
        warning: Where the threshold is infinite: why, what follows, and how many scores are needed. None otherwise.
    """

    value: float
    alpha: float
    n: int
    rank: int
    n_needed: int
    n_tied: int
    rate: Estimate
    warning: str | None

    def flags(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which scores are above the threshold, strictly; shape (n,)."""
        above: NDArray[np.bool_] = finite_vector(scores, "scores") > self.value
        return above


def one_sided(retain_scores: ArrayLike, *, alpha: float, level: float = 0.95) -> Threshold:
    """The k-th smallest score of prompts that may pass, k = ceil((n + 1)(1 - alpha)): P(flag | retain) <= alpha.

    Given the calibration set the true rate is Beta(n + 1 - k, k) distributed, often above alpha: with alpha 0.01 and
    n 200, 1,000 or 5,000 its 95th percentile is 0.0235, 0.0157 or 0.0124. Ties make it lower.

    Args:
        retain_scores: Scores of held-out prompts that may pass, shape (n,), higher = more like what is to be forgotten.
        alpha: Share of such prompts that may be flagged, in (0, 1).
        level: Level of the interval of the true rate, in (0, 1).

    Raises:
        InputError: The scores are empty, not 1-D or not finite; or a rate is not in (0, 1).
    """
    scores = finite_vector(retain_scores, "retain_scores")
    return _threshold(scores, alpha, level, _ONE_SIDED, f"{len(scores):,} retain scores")


def one_sided_by_group(
    retain_scores: ArrayLike, groups: Labels, *, alpha: float, level: float = 0.95
) -> dict[Hashable, Threshold]:
    """One threshold for each group (a language, a range of lengths), each with its own promise or warning (Mondrian).

    Args:
        retain_scores: As `one_sided`, shape (n,).
        groups: Label of each score, n of them.
        alpha: As `one_sided`, for each group.
        level: As `one_sided`.

    Returns:
        Group label -> threshold, in order of first appearance. There is none for a group without scores.

    Raises:
        InputError: As `one_sided`; or labels are missing or not one for each score.
    """
    scores = finite_vector(retain_scores, "retain_scores")
    codes, labels = label_codes(groups, "groups", n=len(scores))
    found: dict[Hashable, Threshold] = {}
    for code, label in enumerate(labels):
        own = scores[codes == code]
        what = f"{len(own):,} retain scores of group {quoted(label)}"
        found[label] = _threshold(own, alpha, level, _ONE_SIDED, what)
    return found


@dataclass(frozen=True, slots=True)
class TwoSided:
    """Sets of labels, and what is done with a prompt whose set does not decide.

    Attributes:
        retain: Of the scores of prompts that may pass: the set holds "retain" where score <= ``retain.value``.
        forget: Of the *negated* scores of prompts about what is to be forgotten: the set holds "forget" where
            -score <= ``forget.value``. Its rate is that of misses.
        on_both: What is done where the set holds both labels.
        on_none: What is done where it holds none.
    """

    retain: Threshold
    forget: Threshold
    on_both: Action
    on_none: Action

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(one.warning for one in (self.retain, self.forget) if one.warning is not None)

    @property
    def bounds_misses(self) -> bool:
        """Whether P(pass | forget) <= forget.alpha is promised: a prompt whose set holds "forget" never passes."""
        return self.on_both == "corrupt" and self.forget.warning is None

    @property
    def bounds_false_positives(self) -> bool:
        """Whether P(corrupt | retain) <= retain.alpha is promised: one whose set holds "retain" is never corrupted."""
        return self.on_both == "pass" and self.retain.warning is None

    def sets(self, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether each score's set holds "retain", and whether it holds "forget"; two of shape (n,)."""
        values = finite_vector(scores, "scores")
        return ~self.retain.flags(values), ~self.forget.flags(-values)

    def flags(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which prompts are corrupted, shape (n,): {forget} is, {retain} is not, the others by policy."""
        retain, forget = self.sets(scores)
        flagged = forget & ~retain
        if self.on_both == "corrupt":
            flagged |= forget & retain
        if self.on_none == "corrupt":
            flagged |= ~forget & ~retain
        return flagged


def two_sided(
    retain_scores: ArrayLike,
    forget_scores: ArrayLike,
    *,
    alpha_retain: float,
    alpha_forget: float,
    on_both: Action = "corrupt",
    on_none: Action = "corrupt",
    level: float = 0.95,
) -> TwoSided:
    """Class-conditional sets: the set misses "retain" for at most alpha_retain of the prompts that may pass, and
    "forget" for at most alpha_forget of those that may not.

    For class c the score is 1 - p_c and q_c its ceil((n_c + 1)(1 - alpha_c))-th smallest; c is in the set where
    1 - p_c <= q_c. Here p and -p stand for 1 - p_c, which have the same order and lose nothing to rounding.

    The sets keep both promises; *one action* for sets of both labels keeps one of them only, see
    `TwoSided.bounds_misses` and `TwoSided.bounds_false_positives`.

    Args:
        retain_scores: As `one_sided`, shape (n_r,).
        forget_scores: Scores of *held-out* rewordings of what is to be forgotten, shape (n_f,). Those of the very
            questions that the classifier was trained on would promise nothing.
        alpha_retain: In (0, 1).
        alpha_forget: In (0, 1).
        on_both: "corrupt" (safer) or "pass".
        on_none: Likewise.
        level: As `one_sided`.

    Raises:
        InputError: As `one_sided`, or an action is unknown.
    """
    choice(on_both, "on_both", ACTIONS)
    choice(on_none, "on_none", ACTIONS)
    retain = finite_vector(retain_scores, "retain_scores")
    forget = finite_vector(forget_scores, "forget_scores")
    return TwoSided(
        _threshold(retain, alpha_retain, level, _WITHOUT_RETAIN, f"{len(retain):,} retain scores"),
        _threshold(-forget, alpha_forget, level, _WITHOUT_FORGET, f"{len(forget):,} forget scores"),
        on_both,
        on_none,
    )


Calibration: TypeAlias = Threshold | TwoSided | Mapping[Any, Threshold]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a calibration rests on.

    Attributes:
        ids: Of the prompts that may pass, or of conversations of them.
        scores: Theirs, shape (n,).
        groups: Theirs, where there are any: a promise for each.
        forget_ids: Of the rows of rewordings of what is to be forgotten.
        forget: Scores of these, where misses are to be bounded.
    """

    ids: tuple[str, ...]
    scores: Floats
    groups: tuple[str, ...] | None = None
    forget_ids: tuple[str, ...] = ()
    forget: Floats | None = None


def calibrate(
    drawn: Drawn, *, alpha: float, alpha_forget: float | None, on_both: Action, on_none: Action
) -> tuple[Calibration, tuple[str, ...]]:
    """The threshold or thresholds, and what a reader has to know.

    Args:
        drawn: Scores.
        alpha: As `one_sided`.
        alpha_forget: As `two_sided`; None bounds false positives alone.
        on_both: As `two_sided`.
        on_none: As `two_sided`.

    Raises:
        InputError: As `one_sided`, `one_sided_by_group` and `two_sided`.
    """
    if alpha_forget is not None and drawn.forget is not None:
        both = two_sided(
            drawn.scores,
            drawn.forget,
            alpha_retain=alpha,
            alpha_forget=alpha_forget,
            on_both=on_both,
            on_none=on_none,
        )
        warnings = list(both.warnings)
        if not both.bounds_misses:
            warnings.append("prompts whose set holds both labels pass, so that the bound on misses is not kept")
        if not both.bounds_false_positives:
            warnings.append(
                "prompts whose set holds both labels are corrupted, so that false positives are not bounded"
            )
        return both, tuple(warnings)
    if drawn.groups is not None:
        by_group = one_sided_by_group(drawn.scores, drawn.groups, alpha=alpha)
        return by_group, tuple(one.warning for one in by_group.values() if one.warning is not None)
    single = one_sided(drawn.scores, alpha=alpha)
    return single, (single.warning,) if single.warning else ()


def require_unseen(calibration: Sequence[str], training: Sequence[str]) -> None:
    """Refuse calibration prompts that the classifier was trained on, up to case and white space.

    Rewordings made from a training prompt are not found here: split before anything is reworded.

    Raises:
        InputError: Says how many, and which is the first.
    """
    trained = {_plain(text) for text in training}
    places = [place for place, text in enumerate(calibration) if _plain(text) in trained]
    if places:
        raise InputError(
            f"{len(places):,} of {len(calibration):,} calibration prompts were trained on, first prompt {places[0]} "
            f"({quoted(calibration[places[0]])}); expected none, or the threshold promises nothing. Hold them out."
        )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _threshold(scores: Floats, alpha: float, level: float, rate: _Rate, what: str) -> Threshold:
    open_unit(alpha, "alpha")
    open_unit(level, "level")
    n, needed = len(scores), max(1, math.ceil(1 / alpha - SLACK) - 1)
    if math.floor((n + 1) * alpha + SLACK) < 1:
        warning = f"{what} cannot hold a rate of {alpha:g}, so {rate.infinite}; at least {needed:,} are needed."
        never = Estimate(0.0, 0.0, 0.0, level, n, f"{rate.name}: infinite threshold", warning)
        return Threshold(math.inf, alpha, n, n + 1, needed, 0, never, warning)
    found = conformal_threshold(scores, alpha=alpha, level=level)
    beta = f"Beta({n + 1 - found.rank}, {found.rank})"
    tied = int((scores == found.threshold).sum())
    why = f"{tied} calibration scores are tied at the threshold: the true rate is lower" if tied > 1 else None
    method = f"{rate.name}: split conformal; interval {beta} of this threshold's own rate"
    estimate = Estimate(found.expected_rate, found.beta_low, found.beta_high, level, n, method, why)
    return Threshold(found.threshold, alpha, n, found.rank, needed, tied, estimate, None)
