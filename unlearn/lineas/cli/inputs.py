"""What a plan or a flag names, read: sentences, and the folder of a steering."""

from __future__ import annotations

from pathlib import Path

from audit.errors import DataError, InputError
from audit.text.readers import read_texts
from audit.text.safe import did_you_mean, quoted

from ..files import RECORD

STEERING = "steering"
#: What a reader of texts advises and no verb here has, and what it is replaced by.
NO_SKIPPING = (
    "or leave them out with --skip-bad-lines: they are then counted and listed in the run.",
    "or take them out of the file.",
)


def read_sentences(source: str | Path, *, field: str) -> tuple[tuple[str, ...], str]:
    """Sentences of a file, a folder or a dataset, and the SHA-256 of what was read; of a .txt each line is one.

    Raises:
        InputError: No such file or field, or an extension that is not known.
        DataError: A record cannot be used.
    """
    try:
        found = read_texts(source, field=field, unit="line")
    except DataError as error:
        raise DataError(str(error).replace(*NO_SKIPPING)) from error
    return found.texts, found.sha256


def steering_folder(path: Path) -> Path:
    """The folder with ``steering.json``: the path itself, or ``steering`` in it.

    Raises:
        InputError: There is neither.
    """
    for folder in (path, path / STEERING):
        if (folder / RECORD).is_file():
            return folder
    if not path.exists():
        near = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"there is no steering at {quoted(str(path), limit=200)}.{did_you_mean(path.name, near)}")
    raise InputError(
        f"{quoted(str(path), limit=200)} holds no steering: there is no {RECORD} in it or in its folder {STEERING}. "
        "Give OUT of `palimpsest steer fit`, once it has ended."
    )
