"""The texts that the verbs of ``palimpsest unlearn`` read."""

from __future__ import annotations

from pathlib import Path

from audit.text.readers import read_texts


def whole_text(path: Path) -> tuple[str, str]:
    """All texts of a file or folder, a blank line between them, and the SHA-256 of what was read.

    Raises:
        InputError: There is no such file, or its extension is not known.
        DataError: It holds no text.
    """
    found = read_texts(path)
    return "\n\n".join(found.texts), found.sha256
