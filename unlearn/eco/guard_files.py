"""A guard as one folder: ``guard.json``, classifier and tagger, bound to the model that it was fitted for.

A strength is in units of one model's embeddings, and a threshold belongs to one classifier: on another model the guard
would corrupt too little or break what it should leave, so it is refused there, and so is another classifier or tagger
in the folder, such as that of a later fit which was killed before its guard was written. The noise key is no part of
the folder (`unlearn.eco.judge.noise_key`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from audit.answers.formats import PromptFormat
from audit.errors import DataError, InputError, ModelError
from audit.lm.load import LanguageModel
from audit.matching.encode import Encoder, load_encoder
from audit.runs.records import plain, read_json
from audit.text.files import make_folder, sha256_file, write_json
from audit.text.safe import quoted

from .classifier import RECORD as CLASSIFIER_RECORD
from .classifier import save as save_classifier
from .classifier_files import load_any_classifier
from .corruptions import Corruption
from .finetuned import KIND, FineTuned, save_fine_tuned
from .guard import EcoGuard, GuardSettings
from .judge import EmbeddingScorer, Judge, Scorer
from .selection import NameMatcher
from .tagger import Tagger, load_tagger

RECORD: Final = "guard.json"
CLASSIFIER: Final = "classifier"
TAGGER: Final = "tagger"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class GuardRecord:
    """What is kept of a guard beside its classifier.

    Attributes:
        settings: What it does with flagged prompts.
        threshold: A text is flagged above it; infinite where nothing readable is.
        names: Names of the forget set that the score and the selection "names" look for; empty where there are none.
        ratio: Likeness from which a name counts as found.
        model: What the model was called when the guard was fitted.
        fingerprint: SHA-256 of its weights, config and tokenizer.
        evidence: How the threshold and the strength were found, for whoever reads the file; nothing is computed of it.
        classifier: SHA-256 of the classifier's record, which names its other files; empty before it is saved.
        tagger: SHA-256 of each file of the tagger, for the selection "tagger"; empty before it is saved, and without.
    """

    settings: GuardSettings
    threshold: float
    names: tuple[str, ...]
    ratio: float
    model: str
    fingerprint: Mapping[str, str]
    evidence: Mapping[str, Any] = field(default_factory=dict)
    classifier: str = ""
    tagger: Mapping[str, str] = field(default_factory=dict)

    def matcher(self) -> NameMatcher | None:
        return NameMatcher(self.names, ratio=self.ratio) if self.names else None


def fingerprint_of(lm: LanguageModel) -> dict[str, str]:
    """SHA-256 of what a guard is bound to."""
    return {"weights": lm.fingerprint.weights, "config": lm.fingerprint.config, "tokenizer": lm.fingerprint.tokenizer}


def save_guard(record: GuardRecord, scorer: Scorer, folder: str | Path, *, tagger: Tagger | None = None) -> None:
    """Write classifier and tagger, and then ``guard.json``, each file whole or not at all.

    Raises:
        StorageError: The folder cannot be written.
        InputError: The classifier is of a kind that cannot be kept, the threshold is none, or the selection is
            "tagger" and there is none, or the other way round.
    """
    if (record.settings.selection == "tagger") != (tagger is not None):
        raise InputError('a guard with the selection "tagger" is saved with its tagger, and any other without one.')
    if math.isnan(record.threshold) or record.threshold == -math.inf:
        raise InputError(f"the threshold is {record.threshold}; expected a number, or infinity.")
    where = make_folder(folder)
    kind = save_scorer(scorer, where / CLASSIFIER)
    tagger_files = {} if tagger is None else tagger.save(where / TAGGER)
    settings = asdict(record.settings)
    content = {
        "version": _VERSION,
        "target": settings.pop("target"),
        "classifier": kind,
        "classifier_sha256": sha256_file(where / CLASSIFIER / CLASSIFIER_RECORD),
        "threshold": "infinity" if math.isinf(record.threshold) else record.threshold,
        "corruption": settings.pop("corruption"),
        "selection": settings.pop("selection"),
        **({"tagger_sha256": tagger_files} if tagger_files else {}),
        "format": settings.pop("format"),
        "names": list(record.names),
        "ratio": record.ratio,
        "model": {"name": record.model, **record.fingerprint},
        "evidence": plain(dict(record.evidence), RECORD),
    }
    write_json(where / RECORD, content)


def read_guard(folder: str | Path) -> GuardRecord:
    """What `save_guard` wrote of a guard, without its classifier.

    Raises:
        IncompleteRunError: There is no guard in the folder.
        DataError: The file is damaged or of another version.
        InputError: A value in it is out of its range.
    """
    where = Path(folder)
    content = read_json(where / RECORD, missing=f"{where} holds no {RECORD}, so it is no guard. Fit one and save it.")
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{where / RECORD} is no guard of version {_VERSION} ({quoted(error)}). It was made by another version, "
            "changed or damaged: restore it from a copy, or fit the guard again."
        ) from error


def load_guard(
    folder: str | Path,
    lm: LanguageModel,
    *,
    encoder: Encoder | None = None,
    key: bytes | None = None,
) -> EcoGuard:
    """The guard in front of its model.

    Args:
        folder: As `save_guard` wrote it.
        lm: The model that it was fitted for.
        encoder: Of the default classifier; None loads the embedded one.
        key: As `judge.Judge`.

    Raises:
        ModelError: The model is another than the guard's; both are named.
        DataError: The classifier or the tagger is missing or another than the guard's.
        InputError: The encoder is another than the classifier's, or the strength does not fit the model's dtype.
        As `read_guard`.
    """
    record = read_guard(folder)
    require_model(record, fingerprint_of(lm), name=lm.subject.model, folder=folder)
    path = Path(folder) / CLASSIFIER / CLASSIFIER_RECORD
    if path.exists() and sha256_file(path) != record.classifier:
        raise DataError(
            f"{path} is not the classifier that the guard beside it was fitted with, and its threshold fits no other. "
            "Restore it from a copy, or fit the guard again."
        )
    where = str(lm.device) if lm.device.type == "cuda" else lm.device.type
    scorer = load_scorer(Path(folder) / CLASSIFIER, encoder=encoder, device=where)
    judge = Judge(scorer, record.threshold, matcher=record.matcher(), key=key)
    finder = None
    if record.settings.selection == "tagger":
        finder = load_tagger(Path(folder) / TAGGER, record.tagger, device=where)
    return EcoGuard(lm, judge, record.settings, finder=finder)


def require_model(record: GuardRecord, found: Mapping[str, str], *, name: str, folder: str | Path) -> None:
    """Refuse another model than the guard's.

    Args:
        record: Of the guard.
        found: SHA-256 of the model's weights, config and tokenizer.
        name: What the model is called.
        folder: Of the guard.

    Raises:
        ModelError: Both are named, with what differs.
    """
    other = [part for part in ("weights", "config", "tokenizer") if found[part] != record.fingerprint.get(part)]
    if other:
        raise ModelError(
            f"the guard in {folder} was fitted for {quoted(record.model, limit=200)}, and "
            f"{quoted(name, limit=200)} has other {' and '.join(other)} (SHA-256 {found[other[0]][:12]} for "
            f"{str(record.fingerprint.get(other[0]))[:12]}). Load that model, or fit a guard for this one."
        )


def load_scorer(folder: str | Path, *, encoder: Encoder | None = None, device: str = "auto") -> Scorer:
    """The classifier of a guard's folder, ready to be asked.

    Args:
        folder: As `save_scorer` wrote it.
        encoder: Of the default classifier; None loads the embedded one. A fine-tuned classifier has its own.
        device: Where an encoder that is loaded here runs.

    Raises:
        InputError: The encoder is another than the classifier's, or the classifier has one of its own.
        As `classifier_files.load_any_classifier` and `audit.matching.encode.load_encoder`.
    """
    classifier = load_any_classifier(folder, device=device)
    if isinstance(classifier, FineTuned):
        if encoder is not None:
            raise InputError(f"the classifier in {folder} is a fine-tuned encoder of its own; give no other.")
        return classifier
    scorer = EmbeddingScorer(classifier, encoder or load_encoder(device=device))
    scorer.scores(["a"])  # another encoder is refused now, not at the first prompt
    return scorer


def save_scorer(scorer: Scorer, folder: str | Path) -> str:
    """Write a classifier of either kind; killed in between there is none. Gives its kind.

    Raises:
        StorageError: The folder cannot be written.
        InputError: The classifier is of a kind that cannot be kept.
    """
    if isinstance(scorer, EmbeddingScorer):
        save_classifier(scorer.classifier, folder)
        return "embedding"
    if isinstance(scorer, FineTuned):
        save_fine_tuned(scorer, folder)
        return KIND
    raise InputError(f"a {type(scorer).__name__} cannot be kept in a folder; fit one of the guard's own classifiers.")


def _parsed(content: Any) -> GuardRecord:
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']}")
    corruption = Corruption(**content["corruption"])
    settings = GuardSettings(
        target=str(content["target"]),
        corruption=corruption,
        selection=content["selection"],
        format=PromptFormat(**content["format"]),
    )
    threshold = math.inf if content["threshold"] == "infinity" else float(content["threshold"])
    if math.isnan(threshold) or threshold == -math.inf:
        raise ValueError("threshold is not a number")
    names = tuple(content["names"])
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names that are no texts")
    model = dict(content["model"])
    name = str(model.pop("name"))
    return GuardRecord(
        settings,
        threshold,
        names,
        float(content["ratio"]),
        name,
        model,
        dict(content["evidence"]),
        str(content["classifier_sha256"]),
        {str(name): str(value) for name, value in dict(content.get("tagger_sha256", {})).items()},
    )
