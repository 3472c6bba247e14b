"""P(forget | prompt) by logistic regression on an encoder's vectors.

    p_f(x) = max over windows w of x of 1 / (1 + exp(-(a . v(w) + b)))

v(w) is the unit vector of a window (`audit.matching.encode`), a and b are fitted with class weights N / (2 N_c).
Source: spec of ECO, section 2.1, the lightweight variant. Departures from the authors: no fine-tuned RoBERTa; windows,
where they cut a prompt after 512 tokens; no published threshold applies: see `unlearn.eco.calibration`.

A classifier belongs to the encoder that it was fitted with, and refuses any other. On disk it is safetensors and JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from audit.errors import DataError, InputError
from audit.matching.encode import Encoder
from audit.runs.records import read_json
from audit.stats.checks import Floats
from audit.text.files import make_folder, write_bytes, write_json
from audit.text.safe import quoted

from .prompts import WINDOWS, windows

RECORD: Final = "classifier.json"
WEIGHTS: Final = "classifier.safetensors"
_VERSION: Final = 1
_STEPS: Final = 1_000


@dataclass(frozen=True, slots=True)
class EncoderKey:
    """What decides an encoder's vectors: its files' fingerprint, the prompt before each text, the numbers kept."""

    fingerprint: str
    prompt: str
    dimensions: int

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderKey:
        return cls(encoder.files.fingerprint, encoder.prompt, encoder.dimensions)


@dataclass(frozen=True, slots=True)
class PromptClassifier:
    """A fitted classifier; made by `fit` or `load_classifier`.

    Attributes:
        weights: a, shape (d,).
        intercept: b.
        encoder: The only encoder whose vectors it reads.
        sizes: Tokens of the windows that a prompt is read in.
        inverse_penalty: scikit-learn's C, with which it was fitted.
        n_forget: Training prompts about what is to be forgotten.
        n_retain: Training windows of those that may pass.
    """

    weights: Floats
    intercept: float
    encoder: EncoderKey
    sizes: tuple[int, ...]
    inverse_penalty: float
    n_forget: int
    n_retain: int


class PromptScores(NamedTuple):
    """Scores of prompts, in their order.

    Attributes:
        p_forget: P(forget), 0 to 1, shape (n,), the maximum over a prompt's windows; 0 for an empty prompt.
        n_windows: Windows read, shape (n,).
        unseen: Whether there are windows of which the encoder knows no character, shape (n,), bool. What such a
            window asks for is unknown: a caller who must be sure treats the prompt as flagged.
    """

    p_forget: Floats
    n_windows: NDArray[np.int64]
    unseen: NDArray[np.bool_]


def fit(
    encoder: Encoder,
    texts: Sequence[str],
    forget: Sequence[bool],
    *,
    sizes: Sequence[int] = WINDOWS,
    inverse_penalty: float = 1.0,
) -> PromptClassifier:
    """Fit on prompts and their labels; deterministic.

    A prompt that may pass is trained on in all its windows. One that may not is trained on in the largest ones alone,
    mostly one that holds it whole, as not each of its smaller parts need be about what is to be forgotten.

    Args:
        encoder: Gives the vectors.
        texts: Training prompts, as of `unlearn.eco.prompts.training_prompts`.
        forget: Whether each is about what is to be forgotten; both labels occur.
        sizes: Tokens of the windows, each at least 2.
        inverse_penalty: scikit-learn's C, above 0: a larger one follows the training prompts more closely.

    Raises:
        InputError: Labels are missing or all alike; a prompt is empty; a number is out of range; or the
            fit does not converge.
    """
    if len(texts) != len(forget):
        raise InputError(f"there are {len(forget)} labels for {len(texts)} prompts; expected one for each.")
    if not np.isfinite(inverse_penalty) or inverse_penalty <= 0:
        raise InputError(f"inverse_penalty is {inverse_penalty}; expected a number above 0.")
    if not sizes:
        raise InputError("sizes is empty; expected the tokens of one window or more.")
    parts: list[str] = []
    labels: list[bool] = []
    for place, (text, is_forget) in enumerate(zip(texts, forget, strict=True)):
        found = windows(text, encoder, [max(sizes)] if is_forget else sizes)
        if not found:
            raise InputError(f"training prompt {place} is empty. Leave it out.")
        parts += found
        labels += [bool(is_forget)] * len(found)
    n_forget = sum(labels)
    if not 0 < n_forget < len(labels):
        raise InputError(
            f"{n_forget} of {len(labels)} training prompts are about what is to be forgotten; expected some that are "
            "and some that are not."
        )
    model = LogisticRegression(class_weight="balanced", C=inverse_penalty, max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(encoder.encode(parts).vectors.astype(np.float64), np.array(labels))
        except ConvergenceWarning:
            raise InputError(
                f"the classifier does not converge in {_STEPS:,} steps with inverse_penalty {inverse_penalty:g}. "
                "Lower it."
            ) from None
    weights: Floats = model.coef_[0]
    return PromptClassifier(
        weights,
        float(model.intercept_[0]),
        EncoderKey.of(encoder),
        tuple(int(size) for size in sizes),
        float(inverse_penalty),
        n_forget,
        len(labels) - n_forget,
    )


def score(classifier: PromptClassifier, encoder: Encoder, texts: Sequence[str]) -> PromptScores:
    """P(forget) of each prompt; the texts are the users' own (`unlearn.eco.prompts.strip_template`).

    A longer prompt has more windows and so a higher maximum: calibrate on prompts of the lengths that will come, or
    one threshold for each range of lengths.

    Raises:
        InputError: The encoder is another than the classifier's; or as `Encoder.encode`.
    """
    if EncoderKey.of(encoder) != classifier.encoder:
        raise InputError(
            f"the classifier belongs to {_shown(classifier.encoder)}, and the encoder given is "
            f"{_shown(EncoderKey.of(encoder))}. Load that encoder, or fit a classifier with this one."
        )
    parts = [windows(text, encoder, classifier.sizes) for text in texts]
    n_windows = np.array([len(part) for part in parts], dtype=np.int64)
    p_forget = np.zeros(len(texts))
    unseen = np.zeros(len(texts), dtype=np.bool_)
    if n_windows.sum():
        found = encoder.encode([piece for part in parts for piece in part])
        owners = np.repeat(np.arange(len(texts)), n_windows)
        likely = expit(found.vectors.astype(np.float64) @ classifier.weights + classifier.intercept)
        np.maximum.at(p_forget, owners, likely)
        np.logical_or.at(unseen, owners, found.unseen)
    return PromptScores(p_forget, n_windows, unseen)


def save(classifier: PromptClassifier, folder: str | Path) -> None:
    """Write ``classifier.safetensors`` and then ``classifier.json``, each whole or not at all.

    Raises:
        StorageError: The folder cannot be written.
    """
    where = make_folder(folder)
    record = asdict(classifier)
    tensors = {"weights": record.pop("weights"), "intercept": np.array([record.pop("intercept")])}
    content = save_tensors(tensors)
    write_bytes(where / WEIGHTS, content)
    write_json(where / RECORD, {"version": _VERSION, "sha256": sha256(content).hexdigest(), **record})


def load_classifier(folder: str | Path) -> PromptClassifier:
    """Read what `save` wrote.

    Raises:
        IncompleteRunError: There is no classifier in the folder.
        DataError: A file is damaged, of another version, or the two do not belong together.
    """
    where = Path(folder)
    record = read_json(where / RECORD, missing=f"{where} holds no {RECORD}. Fit a classifier and save it there.")
    try:
        content = (where / WEIGHTS).read_bytes()
    except OSError as error:
        raise DataError(f"could not read {where / WEIGHTS}: {error.strerror}. Fit and save it again.") from error
    try:
        return _parsed(record, content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where} holds no classifier of version {_VERSION} whose files belong together ({quoted(error)}). "
            "They were changed or damaged: restore them from a copy, or fit and save it again."
        ) from error


def _parsed(record: Any, content: bytes) -> PromptClassifier:
    values = dict(record)
    if values.pop("version") != _VERSION:
        raise ValueError("another version")
    if values.pop("sha256") != sha256(content).hexdigest():
        raise ValueError("other weights than the record names")
    tensors = load_tensors(content)
    key = EncoderKey(**values.pop("encoder"))
    weights, intercept = tensors["weights"], tensors["intercept"]
    if weights.dtype != np.float64 or weights.shape != (key.dimensions,) or intercept.shape != (1,):
        raise ValueError(f"weights of shape {weights.shape} for {key.dimensions} dimensions")
    if not (np.isfinite(weights).all() and np.isfinite(intercept).all()):
        raise ValueError("weights that are not finite")
    sizes = tuple(int(size) for size in values.pop("sizes"))
    return PromptClassifier(weights, float(intercept[0]), key, sizes, **values)


def _shown(key: EncoderKey) -> str:
    return f"encoder {key.fingerprint[:12]} (prompt {quoted(key.prompt)}, {key.dimensions} dimensions)"
