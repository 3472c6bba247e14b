"""P(forget | prompt) by kernel logistic regression on an encoder's vectors.

    p_f(x) = max over windows w of x of 1 / (1 + exp(-f(w)))
    f(w)   = b + sum over landmarks l of a_l exp(-gamma |v(w) - v(l)|^2)

v is the unit vector of a window (`audit.matching.encode`). Landmarks are training windows drawn at random, half of them
about what is to be forgotten where there are so many; a and b are those of logistic regression on Nystroem's map of
that kernel, with class weights N / (2 N_c).

Source: spec of ECO, section 2.1, the lightweight variant. Departures: no fine-tuned RoBERTa; windows, where the authors
cut a prompt after 512 tokens; no published threshold applies: see `unlearn.eco.calibration`. The kernel is ours: plain
logistic regression is a plane through the vectors and cannot hold twenty authors apart from all others (recall of the
very prompts that it was trained on .40 on TOFU's forget10, with the kernel .97; docs/benchmarks.md).

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
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel

from audit.errors import DataError, InputError
from audit.matching.encode import Encoder
from audit.runs.records import read_json
from audit.stats.checks import Floats, count
from audit.text.files import make_folder, write_bytes, write_json
from audit.text.safe import quoted

from .prompts import WINDOWS, windows

RECORD: Final = "classifier.json"
WEIGHTS: Final = "classifier.safetensors"
_VERSION: Final = 2
_STEPS: Final = 5_000


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
        weights: a, shape (m,).
        landmarks: v(l), shape (m, d).
        intercept: b.
        gamma: Width of the kernel, above 0: 4 halves it at a cosine of 0.91.
        encoder: The only encoder whose vectors it reads.
        sizes: Tokens of the windows that a prompt is read in.
        inverse_penalty: scikit-learn's C, with which it was fitted.
        n_forget: Training prompts about what is to be forgotten.
        n_retain: Training windows of those that may pass.
    """

    weights: Floats
    landmarks: Floats
    intercept: float
    gamma: float
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
    inverse_penalty: float = 10.0,
    gamma: float = 4.0,
    n_landmarks: int = 1_000,
    seed: int = 0,
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
        gamma: Width of the kernel, above 0. It and the penalty were chosen on TOFU's forget05 and the small testbed.
        n_landmarks: At most so many, 2 or more.
        seed: Of the draw of landmarks.

    Raises:
        InputError: Labels are missing or all alike; a prompt is empty; a number is out of range; or the
            fit does not converge.
    """
    if len(texts) != len(forget):
        raise InputError(f"there are {len(forget)} labels for {len(texts)} prompts; expected one for each.")
    for name, value in (("inverse_penalty", inverse_penalty), ("gamma", gamma)):
        if not np.isfinite(value) or value <= 0:
            raise InputError(f"{name} is {value}; expected a number above 0.")
    count(n_landmarks, "n_landmarks", least=2)
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
    vectors: Floats = encoder.encode(parts).vectors.astype(np.float64)
    landmarks = vectors[_drawn(np.array(labels), n_landmarks, np.random.default_rng(seed))]
    kernel = Nystroem(gamma=gamma, n_components=len(landmarks), random_state=seed).fit(landmarks)
    model = LogisticRegression(class_weight="balanced", C=inverse_penalty, max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(kernel.transform(vectors), np.array(labels))
        except ConvergenceWarning:
            raise InputError(
                f"the classifier does not converge in {_STEPS:,} steps with inverse_penalty {inverse_penalty:g}. "
                "Lower it."
            ) from None
    return PromptClassifier(
        weights=kernel.normalization_.T @ model.coef_[0],  # of k(., l) itself: Nystroem's map is k(., l) N'
        landmarks=kernel.components_,
        intercept=float(model.intercept_[0]),
        gamma=float(gamma),
        encoder=EncoderKey.of(encoder),
        sizes=tuple(int(size) for size in sizes),
        inverse_penalty=float(inverse_penalty),
        n_forget=n_forget,
        n_retain=len(labels) - n_forget,
    )


def _drawn(labels: NDArray[np.bool_], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of the landmarks: half of them forget ones, or fewer where there are not so many."""
    forget, retain = (rng.permutation(np.flatnonzero(labels == side)) for side in (True, False))
    n_forget = min(len(forget), max(most // 2, most - len(retain)))
    return np.concatenate([forget[:n_forget], retain[: most - n_forget]])


def logits(classifier: PromptClassifier, vectors: Floats) -> Floats:
    """f of unit vectors (n, d); shape (n,)."""
    similar = rbf_kernel(vectors, classifier.landmarks, gamma=classifier.gamma)
    found: Floats = similar @ classifier.weights + classifier.intercept
    return found


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
        likely = expit(logits(classifier, found.vectors.astype(np.float64)))
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
    tensors = {name: record.pop(name) for name in ("weights", "landmarks")}
    tensors["intercept"] = np.array([record.pop("intercept")])
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
    weights, landmarks, intercept = (tensors[name] for name in ("weights", "landmarks", "intercept"))
    if landmarks.ndim != 2 or landmarks.shape[1] != key.dimensions or weights.shape != (len(landmarks),):
        raise ValueError(f"weights of shape {weights.shape}, landmarks of {landmarks.shape}")
    for one in (weights, landmarks, intercept):
        if one.dtype != np.float64 or not np.isfinite(one).all():
            raise ValueError("numbers that are not finite float64")
    if intercept.shape != (1,) or not float(values["gamma"]) > 0:
        raise ValueError("an intercept or a kernel that is none")
    sizes = tuple(int(size) for size in values.pop("sizes"))
    return PromptClassifier(weights, landmarks, float(intercept[0]), encoder=key, sizes=sizes, **values)


def _shown(key: EncoderKey) -> str:
    return f"encoder {key.fingerprint[:12]} (prompt {quoted(key.prompt)}, {key.dimensions} dimensions)"
