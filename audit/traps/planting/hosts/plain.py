"""Plain text: a whole .txt file is one document, and a copy stands before any of its words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .document import HostOptions, WholeFile, like_the_file, read_whole


def documents(path: Path, name: str, options: HostOptions) -> Iterator[WholeFile]:
    """The file; errors as `read_whole`."""
    text, first = read_whole(path, name)
    yield WholeFile(name, name, text, first, like_the_file(options.separator, text))
