"""The policies that come with the program, by name."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..text.safe import did_you_mean

FOLDER = Path(__file__).parent / "policies"  # in a source tree a link to data/policies


def shipped() -> dict[str, Path]:
    """Name -> file, in alphabetical order."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def find_policy(given: str) -> Path:
    """The file that ``--policy`` means: a shipped policy by its bare name, or else a file (``./strict`` is one too).

    Raises:
        InputError: It is neither.
    """
    path, known = Path(given), shipped()
    if given in known:
        return known[given]
    if path.is_file():
        return path
    if "/" in given or path.suffix:
        return path  # its reader says what is wrong with it
    raise InputError(
        f"--policy {given!r} is no file, and no shipped policy has that name (there are: {', '.join(known)})."
        f"{did_you_mean(given, known)}"
    )
