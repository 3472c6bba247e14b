"""Do suspect texts score higher than validation texts, and could that be seen without the model?

Found texts were not dealt at random, so nothing here is a proof: a sound false-positive rate cannot be had after the
fact, because nobody can sample the same model without these texts (Zhang et al. 2024, arXiv:2409.19798). Scores get an
AUC and true-positive rates with intervals, no p-value, and stand beside checks that never ask the model under audit.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError
from ..runs.schema import Verdict
from ..stats.auc import roc_auc
from ..stats.estimate import Estimate
from ..stats.tpr import tpr_at_fpr
from ..text.numbers import fixed
from ..text.readers import TextTable
from ..text.safe import quoted
from .blind import BLIND_LEVEL, bag_of_words, blind_auc, excludes_half
from .config import MembershipPlan
from .inference import Inference, infer
from .score_names import Score

Floats = NDArray[np.float64]
SIDES = ("suspect", "validation")
CONTROL_LEVEL = 0.01  # dataset inference with the reference's features alone: at or below, the sets differ
FPRS = {"tpr_at_10pct_fpr": 0.1, "tpr_at_1pct_fpr": 0.01, "tpr_at_01pct_fpr": 0.001}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One score of suspect texts against validation texts.

    Attributes:
        score: Which.
        auc: Chance that a random suspect text scores above a random validation text.
        tpr: Name -> share of suspect texts above a threshold that at most 10%, 1% or 0.1% of validation texts pass.
    """

    score: Score
    auc: Estimate
    tpr: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Blind:
    """What tells the two sets apart without the model under audit; AUCs with 99% intervals.

    Attributes:
        bag_of_words: Of a classifier of word counts, on the half that it was not trained on.
        length: Of the number of characters, suspect texts longer.
        reference_only: Of the reference model's loss score.
        control: Dataset inference with the features of the reference model alone.
        told_apart: Names of those that tell the sets apart; none when the comparison may be read.
    """

    bag_of_words: Estimate
    length: Estimate
    reference_only: Estimate
    control: Inference | None
    told_apart: tuple[str, ...]

    @property
    def named(self) -> str:
        """Those that tell the sets apart, as words: "a bag of words, the length and ..."."""
        *others, last = self.told_apart or ("none",)
        return f"{', '.join(others)} and {last}" if others else last

    def reach(self) -> float:
        """The largest AUC that the checks leave possible, in [0.5, 1]; the direction of the last two is open."""
        bounds = [0.5 if self.bag_of_words.high is None else self.bag_of_words.high]
        for estimate in (self.length, self.reference_only):
            if estimate.low is not None and estimate.high is not None:
                bounds += [estimate.high, 1 - estimate.low]
        return max(bounds)


def check_texts(suspect: TextTable, validation: TextTable) -> pd.DataFrame:
    """Both sets as one table, once it is certain that they can be compared.

    Texts count as the same when they differ in white space or in the Unicode form of a letter only.

    Returns:
        One row for each text: ``text_id`` ("suspect:..."), ``side``, ``id``, ``text``, ``n_characters``.

    Raises:
        DataError: A text stands in both sets, or twice in one.
    """
    frame = pd.DataFrame(
        {
            "side": [SIDES[0]] * len(suspect) + [SIDES[1]] * len(validation),
            "id": [*suspect.ids, *validation.ids],
            "text": [*suspect.texts, *validation.texts],
        }
    )
    frame.insert(0, "text_id", frame["side"] + ":" + frame["id"])
    frame["n_characters"] = frame["text"].str.len()
    same = [" ".join(unicodedata.normalize("NFC", text).split()) for text in frame["text"]]
    for _, rows in frame.groupby(same, sort=False):
        if len(rows) > 1:
            _refuse_same(rows, suspect, validation, n=int(pd.Series(same).duplicated().sum()))
    return frame


def _refuse_same(rows: pd.DataFrame, suspect: TextTable, validation: TextTable, *, n: int) -> None:
    sources = {SIDES[0]: suspect.source, SIDES[1]: validation.source}
    one, other = rows.iloc[0], rows.iloc[-1]
    if one["side"] == other["side"]:
        other = rows.iloc[1]
        what = f"twice in {sources[one['side']]}: as {quoted(one['id'])} and as {quoted(other['id'])}"
        why = "Texts are counted as independent, so each may count once"
    else:
        what = (
            f"in both sets: {quoted(one['id'])} of {sources[one['side']]} and {quoted(other['id'])} of "
            f"{sources[other['side']]}"
        )
        why = "A text cannot be both suspect and known to be unseen"
    raise DataError(
        f"the same text stands {what} ({quoted(one['text'], limit=60)}). {why}: leave it out ({n:,} such in all)."
    )


def compare(items: pd.DataFrame, scores: Sequence[Score], *, level: float) -> list[Comparison]:
    """AUC and true-positive rates of each score."""
    suspect = (items["side"] == SIDES[0]).to_numpy()
    rows = []
    for score in scores:
        values = items[f"{score}_score"].to_numpy(dtype=np.float64)
        one, other = values[suspect], values[~suspect]
        tpr = {name: tpr_at_fpr(one, other, fpr=fpr, level=level) for name, fpr in FPRS.items()}
        rows.append(Comparison(score, roc_auc(one, other, level=level), tpr))
    return rows


def features(items: pd.DataFrame, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Columns of the suspect and of the validation texts, shapes (n1, F) and (n0, F)."""
    table = items[list(names)].to_numpy(dtype=np.float64)
    suspect = (items["side"] == SIDES[0]).to_numpy()
    return table[suspect], table[~suspect]


def blind(items: pd.DataFrame, *, plan: MembershipPlan, control: Inference | None) -> Blind:
    """The checks that never ask the model under audit; at 99% each, together they refuse few sound comparisons."""
    suspect = (items["side"] == SIDES[0]).to_numpy()
    one_stratum = np.zeros(len(items))
    words = bag_of_words(items["text"].tolist(), suspect, one_stratum, seed=plan.seed)
    length = blind_auc(items["n_characters"].to_numpy(dtype=np.float64), suspect, one_stratum)
    if "reference_loss" in items:
        reference = blind_auc(-items["reference_loss"].to_numpy(dtype=np.float64), suspect, one_stratum)
    else:
        reference = Estimate.undefined(method="AUC", why="no reference model was given", level=BLIND_LEVEL)
    checks = {"a bag of words": words, "the length": length, "the reference model's loss": reference}
    told_apart = [name for name, estimate in checks.items() if excludes_half(estimate)]
    if control is not None and control.p_value is not None and control.p_value.value <= CONTROL_LEVEL:
        told_apart.append("dataset inference with the reference model alone")
    return Blind(words, length, reference, control, tuple(told_apart))


def dataset_inference(
    items: pd.DataFrame,
    names: Sequence[str],
    *,
    plan: MembershipPlan,
    on_done: Callable[[int], None] | None = None,
) -> Inference:
    """`audit.membership.inference.infer` on these columns."""
    return infer(
        *features(items, names),
        n_splits=plan.n_splits,
        n_checks=plan.n_checks,
        seed=plan.seed,
        on_done=on_done,
    )


def void_if_told_apart(inference: Inference, blind: Blind) -> Inference:
    """Without a p-value where the sets are not alike: it would rest on an assumption that is known to be false."""
    if not blind.told_apart:
        return inference
    why = f"{blind.named} told the sets apart, so they are not IID"
    return replace(inference, p_value=None, below=None, why=why)


def judge(primary: Comparison, blind: Blind) -> tuple[Verdict, str]:
    """The verdict and the reason for it; "found" and "not found" are never said of found texts.

    - confounded: a blind check tells the sets apart.
    - inconclusive: the word check could not be made; or the AUC's interval holds 0.5 or lies below; or a blind check is
      so imprecise that it leaves room for an AUC as large as the score's.
    - information: the score separates the sets, and no blind check does or could as well.
    """
    auc, words = primary.auc, blind.bag_of_words
    if blind.told_apart:
        return "confounded", f"{blind.named} told the two sets apart without the model"
    if words.value is None:
        return "inconclusive", f"whether the sets differ in their words could not be checked: {words.why}"
    if auc.value is None or auc.low is None or auc.high is None:
        return "inconclusive", f"the AUC could not be estimated: {auc.why}"
    if auc.low <= 0.5 <= auc.high:
        return "inconclusive", "the score does not tell the two sets apart, which says neither yes nor no"
    if auc.high < 0.5:
        return (
            "inconclusive",
            "suspect texts score lower than validation texts, which training on them does not explain",
        )
    if blind.reach() >= auc.value:
        reach = fixed(blind.reach(), 2)
        return "inconclusive", f"the checks without the model are too imprecise: they leave an AUC of {reach} possible"
    return "information", "no check without the model told the sets apart"
