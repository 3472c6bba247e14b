"""One unit vector a text, by a sentence-transformers encoder of this machine.

Texts are encoded once each, however often they occur, those of like length together, with the same prompt on both
sides of a comparison. An encoder reads the first ``n_context`` tokens of a text and drops the rest without a word;
such texts are told. Vectors do not depend on what else is encoded, up to the rounding of fp32.

A text of which the encoder knows no character (zero-width and control characters are dropped, what its vocabulary lacks
becomes one and the same token) has no direction of its own: all such texts would have the vector of the empty one and
match each other. Their vector is zero, and whoever compares leaves them out (`Embeddings.unseen`).

Source: spec of the extraction, section 2. Departure: local encoders for the paper's model behind an API, so its
threshold does not apply: see `is_published_default`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError, ModelError
from ..lm.load import pick_device
from ..lm.sharing import out_of_memory
from ..stats.checks import count
from ..text.files import expanded
from .embedding_cache import EmbeddingCache
from .encoder_files import EncoderFiles, find_encoder
from .encoder_model import load_model, n_context, token_counts, width

PUBLISHED_ENCODER: Final = "gemini-embedding-001"
BATCH_TOKENS: Final = {"cpu": 4_096}
DEVICE_BATCH_TOKENS: Final = 65_536
_PACKAGES: Final = ("sentence-transformers", "tokenizers", "transformers")  # may change a vector
_WINDOW_TEXTS: Final = 2_048
_WINDOW_CHARACTERS: Final = 2**21
_KEPT_ROWS: Final = 8_192
_KEPT_SECONDS: Final = 30.0


class Embeddings(NamedTuple):
    """Vectors of texts, in their order.

    Attributes:
        vectors: Shape (n, d), float32, each of length 1, or zero where the encoder sees nothing of the text.
        truncated: Whether the encoder saw only the beginning of a text, shape (n,), bool.
    """

    vectors: NDArray[np.float32]
    truncated: NDArray[np.bool_]

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Whether the encoder sees nothing of a text, so that it cannot be compared; shape (n,)."""
        unseen: NDArray[np.bool_] = (self.vectors == 0).all(axis=1)
        return unseen

    @property
    def n_truncated(self) -> int:
        return int(self.truncated.sum())


@dataclass(frozen=True, slots=True)
class Encoder:
    """A sentence-transformers model in evaluation mode; made by `load_encoder`.

    Attributes:
        files: What was loaded, with its hashes.
        prompt: Put before every text; often empty.
        dimensions: Numbers in a vector.
        n_context: Tokens of a text that are read, prompt and control tokens included.
        device: Where it runs.
        batch_tokens: Tokens of a batch, padding included.
        cache: Where vectors are kept, or None.
    """

    files: EncoderFiles
    prompt: str
    dimensions: int
    n_context: int
    device: torch.device
    batch_tokens: int
    cache: EmbeddingCache | None
    _model: Any = field(repr=False)

    @property
    def name(self) -> str:
        return self.files.name

    def to_record(self) -> dict[str, Any]:
        """What a run keeps about this encoder."""
        return {
            "name": self.name,
            "fingerprint": self.files.fingerprint,
            "weights": self.files.weights,
            "files": self.files.files,
            "prompt": self.prompt,
            "dimensions": self.dimensions,
            "n_context": self.n_context,
            "device_used": str(self.device),
            "versions": _versions(),
        }

    @property
    def n_free(self) -> int:
        """Tokens of a text that are read, prompt and control tokens not counted."""
        return self.n_context - token_counts(self._model, [""], self.prompt)[0]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """First character and the one after the last of each token of a text, read or not; no control tokens."""
        found = self._model.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        return [(int(start), int(end)) for start, end in found["offset_mapping"]]

    def encode(self, texts: Sequence[str], on_done: Callable[[int], None] | None = None) -> Embeddings:
        """The vectors of texts.

        Args:
            texts: One or more, none of them empty.
            on_done: Called with the number of texts done.

        Raises:
            InputError: No text, an empty one, one that is no text, or memory runs out.
            ModelError: The encoder gives no finite vector.
            StorageError: The cache cannot be read or written; what it held stays.
        """
        places, of_text = _distinct(texts)
        copies = np.bincount(of_text)
        vectors = np.empty((len(places), self.dimensions), dtype=np.float32)
        truncated = np.empty(len(places), dtype=np.bool_)
        firsts = np.fromiter(places.values(), dtype=np.int64)
        missing = np.ones(len(places), dtype=np.bool_)
        n_done = 0

        def done(rows: NDArray[np.int64]) -> None:
            nonlocal n_done
            missing[rows] = False
            n_done += int(copies[rows].sum())
            if on_done is not None:
                on_done(n_done)

        digests = list(places)
        if self.cache is not None:
            self.cache.sweep()
            for found in self.cache.find(digests):
                vectors[found.places], truncated[found.places] = found.vectors, found.truncated
                done(found.places)
        unsaved: list[NDArray[np.int64]] = []
        saved_at = time.monotonic()
        for rows, part, cut in self._encoded(texts, firsts, np.nonzero(missing)[0]):
            vectors[rows], truncated[rows] = part, cut
            unsaved.append(rows)
            if sum(map(len, unsaved)) >= _KEPT_ROWS or time.monotonic() - saved_at > _KEPT_SECONDS:
                self._save(digests, unsaved, vectors, truncated)
                unsaved, saved_at = [], time.monotonic()
            done(rows)
        self._save(digests, unsaved, vectors, truncated)
        if len(places) == len(texts):
            return Embeddings(vectors, truncated)
        return Embeddings(vectors[of_text], truncated[of_text])

    def _save(
        self,
        digests: list[bytes],
        rows: list[NDArray[np.int64]],
        vectors: NDArray[np.float32],
        truncated: NDArray[np.bool_],
    ) -> None:
        if self.cache is not None and rows:
            kept = np.concatenate(rows)
            self.cache.add([digests[row] for row in kept], vectors[kept], truncated[kept])

    def _encoded(
        self, texts: Sequence[str], firsts: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]]:
        """Rows with their vectors and whether they were truncated, batch by batch, the longest first.

        Texts are put in order of characters, tokenised some thousands at a time, and put in order of tokens.
        """
        sizes = np.array([len(texts[first]) for first in firsts[rows]], dtype=np.int64)
        order = rows[np.argsort(-sizes, kind="stable")]
        while len(order):
            ahead = np.cumsum([len(texts[first]) for first in firsts[order[:_WINDOW_TEXTS]]])
            n = max(1, int(np.searchsorted(ahead, _WINDOW_CHARACTERS)))
            window, order = order[:n], order[n:]
            features = self._model.preprocess([texts[first] for first in firsts[window]], prompt=self.prompt or None)
            n_tokens = features["attention_mask"].sum(dim=1).numpy()
            cut = np.array([bool(one.overflowing) for one in features.encodings])
            unseen = self._unseen(texts, firsts[window], features)
            if unseen.any():
                yield window[unseen], np.zeros((int(unseen.sum()), self.dimensions), dtype=np.float32), cut[unseen]
            by_tokens = np.argsort(-n_tokens, kind="stable")
            by_tokens = by_tokens[~unseen[by_tokens]]
            while len(by_tokens):
                longest = int(n_tokens[by_tokens[0]])
                batch = by_tokens[: max(1, self.batch_tokens // longest)]
                by_tokens = by_tokens[len(batch) :]
                found = self._forward(features, batch, longest)
                bad = ~(np.isfinite(found).all(axis=1) & found.any(axis=1))
                if bad.any():
                    at = int(firsts[window[batch[bad][0]]])
                    raise ModelError(f"{self.name} gives text {at} no finite vector. Take another encoder.")
                lengths = np.linalg.norm(found, axis=1, keepdims=True)
                yield window[batch], (found / lengths).astype(np.float32), cut[batch]

    def _forward(self, features: Any, rows: NDArray[np.int64], longest: int) -> NDArray[np.float64]:
        """The model's vectors of tokenised texts without the padding that these do not need, cut to the dimensions."""
        shown = slice(-longest, None) if self._model.tokenizer.padding_side == "left" else slice(longest)
        own = torch.from_numpy(rows)
        batch = {
            name: value[own, shown].to(self.device) if isinstance(value, Tensor) else value
            for name, value in features.items()
        }
        try:
            with torch.inference_mode():
                vectors = self._model(batch)["sentence_embedding"]
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise InputError(
                f"memory runs out while {len(rows)} texts of up to {longest} tokens are encoded on {self.device}. "
                f"Lower batch_tokens (it is {self.batch_tokens:,}), or take another device."
            ) from error
        found: NDArray[np.float64] = vectors[:, : self.dimensions].double().cpu().numpy()
        return found

    def _unseen(self, texts: Sequence[str], places: NDArray[np.int64], features: Any) -> NDArray[np.bool_]:
        """Which texts have no token that the encoder knows, beside the prompt's; shape (len(places),)."""
        least = self._n_known(self._model.preprocess([""], prompt=self.prompt or None))[0]
        unseen: NDArray[np.bool_] = self._n_known(features) <= least
        suspects = np.flatnonzero(unseen)
        if self.prompt and len(suspects):  # whose last token can take the beginning of a text in
            unseen[suspects] = self._n_known(self._model.preprocess([texts[place] for place in places[suspects]])) == 0
        return unseen

    def _n_known(self, features: Any) -> NDArray[np.int64]:
        """Tokens of each text that are neither control tokens nor the one for what is unknown, as far as read."""
        ids = features["input_ids"].numpy()
        shown = features["attention_mask"].numpy().astype(np.bool_)
        known: NDArray[np.int64] = (shown & ~np.isin(ids, self._model.tokenizer.all_special_ids)).sum(axis=1)
        return known


def load_encoder(
    folder: str | Path | None = None,
    *,
    device: str = "auto",
    prompt: str | None = None,
    dimensions: int | None = None,
    cache: str | Path | None = None,
    batch_tokens: int | None = None,
) -> Encoder:
    """Load an encoder: safetensors only, no code of its own, every weight there, in fp32.

    Args:
        folder: Of a sentence-transformers model; None is the embedded all-MiniLM-L6-v2.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        prompt: Put before every text; None is the model's default, usually nothing.
        dimensions: The first so many numbers of each vector are kept and brought to length 1 again, for encoders
            trained for it (Matryoshka); None is what the model says, usually all.
        cache: Folder in which vectors are kept; None keeps none.
        batch_tokens: Tokens of a batch, padding included; None is 4,096 on the CPU and 65,536 elsewhere.

    Raises:
        InputError: No such folder or device, or an option is out of range.
        MissingDependencyError: sentence-transformers or the embedded model is not installed.
        ModelError: As `find_encoder`; or the model cannot be loaded, lacks weights, or reads no plain text.
    """
    where = pick_device(device)
    if batch_tokens is None:
        batch_tokens = BATCH_TOKENS.get(where.type, DEVICE_BATCH_TOKENS)
    count(batch_tokens, "batch_tokens", least=1)
    files = find_encoder(folder)
    model = load_model(files, where)
    if prompt is None:
        prompt = model.prompts.get(model.default_prompt_name) or ""
    read = n_context(model)
    if token_counts(model, [""], prompt)[0] >= read:
        raise InputError(f"the prompt takes all {read} tokens that {files.name} reads. Shorten it.")
    most = width(model)
    if dimensions is None:
        dimensions = model.truncate_dim or most
    if count(dimensions, "dimensions", least=1) > most:
        raise InputError(f"dimensions is {dimensions}, and the vectors of {files.name} have {most}. Lower it.")
    store = None
    if cache is not None:
        key = {
            "encoder": files.fingerprint,
            "prompt": prompt,
            "dimensions": dimensions,
            "versions": _versions(),
            "unseen": "zero",
        }
        store = EmbeddingCache(expanded(str(cache)), key, dimensions)
    return Encoder(files, prompt, dimensions, read, where, batch_tokens, store, model)


def is_published_default(encoder: Encoder) -> bool:
    """Whether this is the encoder to which the paper's threshold of 0.95 belongs.

    The paper used the API model gemini-embedding-001, and cosines of one encoder say nothing about those of another.
    An `Encoder` is local, its name is a folder or that of the embedded model, and so this is False for all there are:
    0.95 is never offered for them, and their threshold is calibrated on texts that were not trained on.
    """
    return encoder.name == PUBLISHED_ENCODER


def _versions() -> dict[str, str]:
    return {package: version(package) for package in _PACKAGES}


def _distinct(texts: Sequence[str]) -> tuple[dict[bytes, int], NDArray[np.int64]]:
    """SHA-256 of each different text -> its first place, and for each text which of them it is, shape (n,)."""
    if isinstance(texts, str) or not len(texts):
        raise InputError("there is no text to encode; expected a list of one or more.")
    firsts: dict[bytes, int] = {}
    numbers: dict[bytes, int] = {}
    of_text = np.empty(len(texts), dtype=np.int64)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {place} is a {type(text).__name__}; expected a string.")
        if not text.strip():
            raise InputError(f"text {place} is empty; its vector would say nothing. Leave empty texts out.")
        try:
            digest = hashlib.sha256(text.encode()).digest()
        except UnicodeEncodeError:
            raise InputError(
                f"text {place} holds half of a surrogate pair, which is no character. Remove it."
            ) from None
        firsts.setdefault(digest, place)
        of_text[place] = numbers.setdefault(digest, len(numbers))
    return firsts, of_text
