"""Vectors kept on disk by the content of their texts, so that no text is encoded twice by the same encoder.

``folder/<hash of what else decides a vector>/<SHA-256 of the file>.safetensors``, each with some rows: the SHA-256 of
a text, whether it was truncated, its vector. A file is written whole or not at all, never changed, and named by its own
content: so any number of processes may read and write at once, a kill loses only what was not written yet, and a
file that does not have the hash of its name is damaged, is removed, and its rows are computed again.

The vectors of a secret text tell about it; so files are readable by their owner alone, and texts are not stored.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..text.files import atomic_writer, is_temporary, make_folder, sha256_file, storage_errors, write_json

_LAYOUT: Final = 1
_DIGEST: Final = 32
_OLD: Final = 86_400.0  # seconds after which a temporary file is nobody's


class Found(NamedTuple):
    """Rows of one file that were asked for.

    Attributes:
        places: Where in what was asked for, shape (m,).
        vectors: Shape (m, d), float32.
        truncated: Shape (m,), bool.
    """

    places: NDArray[np.int64]
    vectors: NDArray[np.float32]
    truncated: NDArray[np.bool_]


class EmbeddingCache:
    """The vectors of one encoder at one prompt and width.

    Args:
        folder: The cache of all encoders.
        key: Plain JSON values: all that decides a vector beside its text.
        width: Numbers in a vector.

    Attributes:
        damaged: Files that were found damaged and removed.
    """

    def __init__(self, folder: str | Path, key: dict[str, Any], width: int) -> None:
        self._key = {**key, "layout": _LAYOUT}
        self._width = width
        self.folder = Path(folder) / hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()[:32]
        self.damaged = 0

    @property
    def n_bytes(self) -> int:
        """What this encoder's vectors take on the disk."""
        total = 0
        for path in self._shards():
            with suppress(FileNotFoundError):  # another process found it damaged
                total += path.stat().st_size
        return total

    def find(self, digests: Sequence[bytes]) -> Iterator[Found]:
        """What is kept of the texts with these SHA-256, file by file; no text twice.

        Raises:
            StorageError: A file cannot be read or removed.
        """
        wanted = {digest: place for place, digest in enumerate(digests)}
        for path in self._shards():
            if not wanted:
                return
            try:
                with storage_errors(path, kept="nothing was changed", doing="read"):
                    found = self._read(path, wanted)
            except (SafetensorError, ValueError):
                self.damaged += 1
                with storage_errors(path, kept="other files are unchanged", doing="remove the damaged"):
                    path.unlink(missing_ok=True)
                continue
            if found is not None:
                for place in found.places:
                    del wanted[digests[place]]
                yield found

    def add(self, digests: Sequence[bytes], vectors: NDArray[np.float32], truncated: NDArray[np.bool_]) -> None:
        """Keep rows; when this returns, they are on the disk.

        Args:
            digests: SHA-256 of the texts.
            vectors: Shape (m, d).
            truncated: Shape (m,).

        Raises:
            StorageError: They cannot be written; what was kept stays.
        """
        if not self.folder.is_dir():
            make_folder(self.folder)
        if not (self.folder / "encoder.json").is_file():
            write_json(self.folder / "encoder.json", self._key)
        content = save(
            {
                "digests": np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, _DIGEST),
                "truncated": np.ascontiguousarray(truncated),
                "vectors": np.ascontiguousarray(vectors),
            }
        )
        path = self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        with atomic_writer(path, secret=True) as stream:
            stream.write(content)

    def sweep(self) -> None:
        """Remove temporary files that a killed process left a day ago or earlier."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                with suppress(FileNotFoundError):
                    if is_temporary(path) and time.time() - path.stat().st_mtime > _OLD:
                        path.unlink()

    def _shards(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.safetensors") if len(path.stem) == 64)

    def _read(self, path: Path, wanted: dict[bytes, int]) -> Found | None:
        """Rows of a file that are wanted; the whole file is checked before any is believed.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            with safe_open(path, framework="np") as file:
                raw = file.get_tensor("digests").tobytes()
                pairs = []
                for row in range(len(raw) // _DIGEST):
                    place = wanted.get(raw[row * _DIGEST : (row + 1) * _DIGEST])
                    if place is not None:
                        pairs.append((row, place))
                if not pairs:
                    return None
                if sha256_file(path) != path.stem:
                    raise ValueError("its content is not that of its name")
                rows, places = np.array(pairs, dtype=np.int64).T
                vectors, truncated = file.get_tensor("vectors"), file.get_tensor("truncated")
        except FileNotFoundError:  # another process found it damaged
            return None
        if vectors.shape != (len(raw) // _DIGEST, self._width) or vectors.dtype != np.float32:
            raise ValueError("it holds vectors of another encoder")
        return Found(places, vectors[rows], truncated[rows])
