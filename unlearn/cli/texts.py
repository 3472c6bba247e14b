"""The texts that the verbs of ``palimpsest unlearn`` read."""

from __future__ import annotations

from pathlib import Path

from audit.errors import DataError
from audit.text.readers import read_texts

#: What a reader of texts advises, and no verb here has: a text with holes would be forgotten in part.
_FLAG = "or leave them out with --skip-bad-lines: they are then counted and listed in the run."


def whole_text(path: Path) -> tuple[str, str]:
    """All texts of a file or folder, a blank line between them, and the SHA-256 of what was read.

    Raises:
        InputError: There is no such file, or its extension is not known.
        DataError: It holds no text, or a record of it cannot be read.
    """
    try:
        found = read_texts(path)
    except DataError as error:
        raise DataError(str(error).replace(_FLAG, "or take them out of the file.")) from error
    return "\n\n".join(found.texts), found.sha256
