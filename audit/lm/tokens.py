"""Text to token ids, one convention for every score."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError
from ..text.safe import counted, quoted
from .load import LanguageModel, Tokens


def encode(lm: LanguageModel | Tokens, texts: Sequence[str], *, parse_special: bool = False) -> list[list[int]]:
    """Token ids of each text, without a beginning-of-sequence token.

    Args:
        lm: The model whose tokenizer is used.
        texts: Any number of texts.
        parse_special: Read strings such as "</s>" as control tokens. Off, they are ordinary text: what stands
            in a file must not steer the model.

    Returns:
        One list of ids for each text; it can be empty.
    """
    if not texts:
        return []
    encoded = lm.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=not parse_special, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def prefix_ids(lm: LanguageModel | Tokens) -> list[int]:
    """What is put before every text: the beginning-of-sequence token where the tokenizer has one, else nothing."""
    return [] if lm.bos_id is None else [lm.bos_id]


def check_lengths(
    lm: LanguageModel | Tokens, ids: Sequence[str], sequences: Sequence[Sequence[int]], *, truncate: bool
) -> tuple[list[list[int]], list[str]]:
    """Sequences that fit the model's context beside the prefix, checked before anything is computed.

    Args:
        lm: The model.
        ids: Name of each text, for the message.
        sequences: Token ids without prefix.
        truncate: Keep the first tokens of a text that is too long, instead of refusing it.

    Returns:
        The sequences, and the names of those that were cut.

    Raises:
        DataError: A text is too long and ``truncate`` is off, or a text has no token that can be scored.
    """
    n_prefix = len(prefix_ids(lm))
    room = lm.n_context - n_prefix
    least = 1 if n_prefix else 2  # without a first token, the text's own first token has nothing before it
    empty = [name for name, ids_ in zip(ids, sequences, strict=True) if len(ids_) < least]
    if empty:
        raise DataError(
            f"{counted(len(empty), 'text')} with fewer than {counted(least, 'token')}, so nothing there can be "
            f"scored; first: {quoted(empty[0])}. Leave such texts out."
        )
    too_long = [(name, len(ids_)) for name, ids_ in zip(ids, sequences, strict=True) if len(ids_) > room]
    if too_long and not truncate:
        name, length = too_long[0]
        others = f" ({len(too_long):,} such texts in all)" if len(too_long) > 1 else ""
        raise DataError(
            f"text {quoted(name)} has {length:,} tokens; the model {quoted(lm.subject.model, limit=200)} accepts at "
            f"most {room:,}{others}. Shorten what is too long, or pass --truncate (truncate = true in a plan) to score "
            "the first tokens."
        )
    return [list(ids_[:room]) for ids_ in sequences], [name for name, _ in too_long]
