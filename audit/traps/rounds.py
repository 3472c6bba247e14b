"""The rounds of a draw on disk, so that a draw that was killed goes on: as secret as the ledger they lead to.

A folder holds the seed and one part for each finished round. It goes when the ledger is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from ..lm.load import LanguageModel
from ..runs.records import content_key, read_record, write_record
from ..runs.schema import Record
from ..runs.shards import ShardedTable, remove_parts
from ..text.files import make_folder, storage_errors
from .config import TrapDesign
from .generate import n_rounds

SEED_FILE = "seed.json"


class KeptSeed(Record):
    """``seed.json``: the seed of a draw that is not finished."""

    seed: int = Field(ge=0)


def kept_seed(folder: Path) -> int | None:
    """The seed of an unfinished draw, or None.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / SEED_FILE
    return read_record(path, KeptSeed, missing="").seed if path.is_file() else None


@contextmanager
def open_rounds(
    folder: Path, lm: LanguageModel, design: TrapDesign, *, seed: int, restart: bool
) -> Iterator[ShardedTable]:
    """Where the rounds of a draw are kept, open.

    What decides a round is the model, the seed and the sampling; numbers of traps, buckets and bounds of likeness may
    change, and the same rounds serve.

    Args:
        folder: Made when absent, readable by its owner alone.
        lm: The generator.
        design: Sampling fields and lengths.
        seed: Seed of the draw; written into the folder once it is certain that its rounds are of this draw.
        restart: Throw away the rounds that are there.

    Raises:
        InputError: The rounds are of another draw.
        StorageError: The folder cannot be made or written.
    """
    make_folder(folder)
    with storage_errors(folder, kept="nothing was changed", doing="protect"):
        folder.chmod(0o700)
    key = content_key(
        seed=seed,
        model=lm.fingerprint.to_record(),
        dtype=str(lm.model.dtype),
        device=lm.device.type,
        lengths=list(design.lengths),
        temperatures=list(design.temperatures),
        truncation=[design.top_k, design.top_p, design.min_p],
        size=[design.max_rounds, design.samples_per_round],
    )
    with ShardedTable(folder, key=key, n_parts=n_rounds(design), restart=restart) as rounds:
        write_record(folder / SEED_FILE, KeptSeed(seed=seed))
        yield rounds


def remove_rounds(folder: Path) -> None:
    """Removes what `open_rounds` made; errors as in `audit.runs.shards.remove_parts`."""
    if folder.is_dir():
        (folder / SEED_FILE).unlink(missing_ok=True)
        remove_parts(folder)
