"""The tokenizer of a fuzzy scan: read without a model, and checked against what it shall count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError, ModelError
from ...text.safe import quoted
from .near import largest_distance, least_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def usable_tokenizer(content: str) -> Tokenizer:
    """A tokenizer that reads control strings such as "</s>" as text, and neither cuts nor pads.

    Raises:
        ModelError: The JSON is no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the library raises bare exceptions
        raise ModelError(
            f"the tokenizer cannot be used: {error}. Give a folder with a sound tokenizer.json."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def read_tokenizer(folder: Path) -> str:
    """The JSON of the tokenizer of a folder.

    Raises:
        InputError: There is no such folder, or it has no tokenizer.json.
        ModelError: The file cannot be used.
    """
    path = folder / "tokenizer.json"
    if not folder.is_dir():
        raise InputError(f"--tokenizer {folder}: there is no such folder. Give one that holds tokenizer.json.")
    if not path.is_file():
        raise InputError(
            f"--tokenizer {folder}: it holds no tokenizer.json. Save the tokenizer with transformers' save_pretrained."
        )
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}. Copy the file again.") from error
    usable_tokenizer(content)
    return content


def check_distance(names: Sequence[str], ids: Sequence[Sequence[int]], most: int) -> None:
    """Refuses a distance at which anything would be a near copy of the shortest trap.

    Raises:
        InputError: Names the trap, and the largest distance that can be given.
    """
    place = min(range(len(ids)), key=lambda place: len(ids[place]))
    n_tokens = len(ids[place])
    if n_tokens >= least_tokens(most):
        return
    largest = largest_distance(n_tokens)
    mend = (
        f"Give --max-distance {largest} or less."
        if largest is not None and largest < most
        else "Leave --fuzzy out; it needs traps of two tokens or more."
    )
    raise InputError(
        f"--max-distance is {most}, and trap {quoted(names[place])} has {n_tokens} tokens of this tokenizer: half of "
        f"them or more could differ, and much would be called a copy that is none. {mend}"
    )
