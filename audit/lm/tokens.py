"""Text to token ids, one convention for every score."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError, ModelError
from ..text.safe import counted, quoted
from .load import LanguageModel, Tokens


def encode(lm: LanguageModel | Tokens, texts: Sequence[str], *, parse_special: bool = False) -> list[list[int]]:
    """Token ids of each text, without a beginning-of-sequence token.

    Args:
        lm: The model whose tokenizer is used.
        texts: Any number of texts.
        parse_special: Read strings such as "</s>" as control tokens. Off, they are ordinary text: what stands
            in a file must not steer the model. Tokens that were added to the vocabulary without being marked
            special (a "<think>" in some models) are single ids either way.

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
        ModelError: A text holds a token that the model has no embedding for.
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
    kept = [list(ids_[:room]) for ids_ in sequences]
    check_ids(lm, [f"text {quoted(name)}" for name in ids], kept)
    return kept, [name for name, _ in too_long]


def check_ids(lm: LanguageModel | Tokens, names: Sequence[str], sequences: Sequence[Sequence[int]]) -> None:
    """Refuse token ids that the model has no embedding for; a GPU would only report an assertion of its own.

    Args:
        lm: The model; where only its tokenizer is loaded and its configuration names no size, nothing is checked.
        names: What each sequence is called in the message.
        sequences: Token ids; one can be empty.

    Raises:
        ModelError: An id is not below the number of embedding rows.
    """
    n_rows = lm.n_vocabulary
    if n_rows is None:
        return
    for name, ids in zip(names, sequences, strict=True):
        if max(ids, default=0) >= n_rows:
            raise ModelError(
                f"{name} holds token {max(ids):,}, but the model {quoted(lm.subject.model, limit=200)} has {n_rows:,} "
                f"embedding rows for a tokenizer of {len(lm.tokenizer):,} tokens. Put the model's own tokenizer files "
                "beside its weights."
            )
