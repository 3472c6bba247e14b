r"""Does a text show the attribute? Two judges that are trained on labelled texts, both logistic regressions.

    words       TF-IDF of words (1 to 2) and of characters inside words (3 to 5)
    sentences   a sentence encoder's vectors (`audit.matching.encode`)

Class weights are N / (2 N_c). A score is the log-odds; the attribute is shown above the threshold, which is fixed on
validation texts, before anything that steers is judged:

    "balanced"  the highest mean of sensitivity and specificity            "f1"  the highest F1

Candidates lie half-way between neighbouring scores; of equally good ones the highest is taken, which flags fewest.
Source: spec of activation steering, section 6. F1, sensitivity and specificity are of the texts that the threshold was
chosen on, and so a little high; `TrainedJudge.measured` takes them on any other labelled texts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from audit.errors import InputError
from audit.matching.encode import Encoder
from audit.stats.auc import roc_auc
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Floats
from audit.stats.estimate import Estimate
from audit.stats.proportion import clopper_pearson, wilson

from .judge_texts import JudgeTexts

Rule = Literal["balanced", "f1"]
_STEPS: Final = 5_000
_FEATURES: Final = 200_000  # of each kind at most, the most frequent ones
_CHOSEN: Final = "the threshold was chosen on these texts, so this is a little high"


class Judge(Protocol):
    """Whatever says of each text whether it shows the attribute."""

    @property
    def name(self) -> str: ...

    def flags(self, texts: Sequence[str]) -> NDArray[np.bool_]: ...

    def to_record(self) -> dict[str, Any]: ...


class Remembered:
    """A judge that reads each text once, however often it is asked: sweep, choice and comparison ask alike."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._known: dict[str, bool] = {}

    @property
    def name(self) -> str:
        return self._judge.name

    def flags(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        if fresh:
            self._known.update(zip(fresh, self._judge.flags(fresh).tolist(), strict=True))
        return np.array([self._known[text] for text in texts], dtype=np.bool_)

    @property
    def validation(self) -> tuple[Floats, NDArray[np.bool_]] | None:
        """Scores and labels that fixed the judge's threshold; None where it was not trained here."""
        return self._judge.validation if isinstance(self._judge, TrainedJudge) else None

    def to_record(self) -> dict[str, Any]:
        return self._judge.to_record()


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a judge knows labelled texts.

    Attributes:
        auroc: Of its scores.
        f1: At its threshold.
        sensitivity: Share of texts with the attribute that it flags.
        specificity: Share of those without that it does not flag.
    """

    auroc: Estimate
    f1: Estimate
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True, slots=True)
class TrainedJudge:
    """Made by `train_words` or `train_sentences`.

    Attributes:
        name: "words" or "sentences".
        threshold: Log-odds above which the attribute is shown.
        rule: By which it was fixed.
        quality: On the validation texts.
        record: Plain JSON: what it was made of and on, with the versions that decide its scores.
        validation: Scores and labels of the validation texts.
    """

    name: str
    threshold: float
    rule: Rule
    quality: Quality
    record: dict[str, Any]
    validation: tuple[Floats, NDArray[np.bool_]] = field(repr=False)
    _scores: Callable[[Sequence[str]], Floats] = field(repr=False)

    def scores(self, texts: Sequence[str]) -> Floats:
        """Log-odds of the attribute, shape (n,); no text may be blank."""
        return self._scores(texts) if len(texts) else np.zeros(0)

    def flags(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which texts show the attribute, shape (n,)."""
        found: NDArray[np.bool_] = self.scores(texts) > self.threshold
        return found

    def measured(self, texts: Sequence[str], labels: Sequence[bool], *, rng: int = 0) -> Quality:
        """Quality on other labelled texts of both classes."""
        return _quality(self.scores(texts), np.asarray(labels, dtype=np.bool_), self.threshold, rng)

    def to_record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "threshold": self.threshold,
            "rule": self.rule,
            "quality": asdict(self.quality),
            **self.record,
        }


def train_words(texts: JudgeTexts, *, rule: Rule = "balanced", inverse_penalty: float = 1.0) -> TrainedJudge:
    """TF-IDF and logistic regression; deterministic.

    Args:
        texts: From `judge_texts.deal`.
        rule: Which fixes the threshold.
        inverse_penalty: scikit-learn's C, above 0.

    Raises:
        InputError: A setting is out of range, or the fit does not converge.
    """
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", max_features=_FEATURES)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), max_features=_FEATURES)),
        ]
    )
    features.fit(texts.train)
    record = {"features": "TF-IDF, words 1-2 and characters (char_wb) 3-5", "most_features": _FEATURES}
    return _trained("words", features.transform, texts, rule, inverse_penalty, record)


def train_sentences(
    texts: JudgeTexts, encoder: Encoder, *, rule: Rule = "balanced", inverse_penalty: float = 10.0
) -> TrainedJudge:
    """An encoder's vectors and logistic regression; arguments as `train_words`.

    A text of which the encoder knows no character has the zero vector, and the intercept as its score.
    """

    def features(given: Sequence[str]) -> Any:
        return encoder.encode(given).vectors.astype(np.float64)

    record = {"features": "vectors of a sentence encoder", "encoder": encoder.to_record()}
    return _trained("sentences", features, texts, rule, inverse_penalty, record)


def best_threshold(scores: Floats, labels: NDArray[np.bool_], rule: Rule) -> float:
    """The threshold of a rule; see the head of this file.

    Worked, balanced: scores (0, 1, 2, 3), labels (no, yes, no, yes): above -1/2 (1 + 0)/2, above 1/2 (1 + 1/2)/2, above
    3/2 (1/2 + 1/2)/2, above 5/2 (1/2 + 1)/2. Two are best with 3/4, and 5/2 is the higher.

    Args:
        scores: Shape (n,), finite.
        labels: Both occur.
    """
    values = np.unique(scores)
    candidates = np.concatenate([[values[0] - 0.5], (values[1:] + values[:-1]) / 2, [values[-1] + 0.5]])
    hits = len(scores[labels]) - np.searchsorted(np.sort(scores[labels]), candidates, side="right")
    false = len(scores[~labels]) - np.searchsorted(np.sort(scores[~labels]), candidates, side="right")
    if rule == "balanced":
        worth = hits / labels.sum() - false / (~labels).sum()
    else:
        worth = 2 * hits / (hits + false + labels.sum())
    best = np.flatnonzero(worth >= worth.max() - 1e-12)[-1]
    return float(candidates[best])


def _trained(
    name: str,
    features: Callable[[Sequence[str]], Any],
    texts: JudgeTexts,
    rule: Rule,
    inverse_penalty: float,
    record: dict[str, Any],
) -> TrainedJudge:
    if rule not in get_args(Rule):
        raise InputError(f'the rule is "{rule}"; expected {" or ".join(get_args(Rule))}.')
    if not np.isfinite(inverse_penalty) or inverse_penalty <= 0:
        raise InputError(f"inverse_penalty is {inverse_penalty}; expected a number above 0.")
    model = LogisticRegression(class_weight="balanced", C=inverse_penalty, max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(features(texts.train), texts.train_labels)
        except ConvergenceWarning:
            raise InputError(
                f"the judge does not converge in {_STEPS:,} steps with inverse_penalty {inverse_penalty:g}. Lower it."
            ) from None

    def scores(given: Sequence[str]) -> Floats:
        found: Floats = np.asarray(model.decision_function(features(list(given))), dtype=np.float64)
        return found

    of_validation = scores(texts.validation)
    threshold, quality = judged_on(of_validation, texts.validation_labels, rule)
    record = {
        **record,
        "inverse_penalty": inverse_penalty,
        "n_train": len(texts.train),
        "n_validation": len(texts.validation),
        "n_repeated": texts.n_repeated,
        "n_contradicted": texts.n_contradicted,
        "n_wordless": texts.n_wordless,
        "texts": texts.key,
        "scikit-learn": version("scikit-learn"),
    }
    return TrainedJudge(name, threshold, rule, quality, record, (of_validation, texts.validation_labels), scores)


def judged_on(scores: Floats, labels: NDArray[np.bool_], rule: Rule) -> tuple[float, Quality]:
    """The threshold that validation texts fix, and the quality on them; both labels occur."""
    threshold = best_threshold(scores, labels, rule)
    quality = _quality(scores, labels, threshold, 0)
    said = {
        part: replace(one, why="; ".join(filter(None, (one.why, _CHOSEN))))
        for part, one in (
            ("f1", quality.f1),
            ("sensitivity", quality.sensitivity),
            ("specificity", quality.specificity),
        )
    }
    return threshold, replace(quality, **said)


def _quality(scores: Floats, labels: NDArray[np.bool_], threshold: float, rng: int) -> Quality:
    flags = scores > threshold

    def f1(flagged: Floats, shown: Floats, axis: int = -1) -> Floats:
        hits = (flagged * shown).sum(axis=axis)
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * hits / (flagged.sum(axis=axis) + shown.sum(axis=axis)))

    found = bootstrap(f1, flags.astype(float), labels.astype(float), paired=True, rng=rng)
    found = replace(found, method=f"F1, {found.method}")
    if found.value == 1 and found.low is None:  # no draw differs; F1 = 2 J / (1 + J), J = hits / (shown or flagged)
        least = clopper_pearson(int(labels.sum()), int(labels.sum())).low or 0.0
        method = "F1 of 1, Clopper-Pearson of hits among texts that show it or are flagged"
        found = replace(found, low=2 * least / (1 + least), high=1.0, method=method, why=None)
    return Quality(
        roc_auc(scores[labels], scores[~labels]),
        found,
        wilson(int(flags[labels].sum()), int(labels.sum())),
        wilson(int((~flags[~labels]).sum()), int((~labels).sum())),
    )
