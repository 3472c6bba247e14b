"""Token ids of a prompt and what follows it, and the text of what follows, whatever tokenizers do at the border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import DataError
from ..lm.load import LanguageModel, Tokens
from ..lm.tokens import encode, prefix_ids
from ..text.safe import counted


class Continued(NamedTuple):
    """``ids`` of the whole text, without a beginning-of-sequence token; the first ``n_before`` are the prompt's own."""

    ids: list[int]
    n_before: int


def continued(lm: LanguageModel | Tokens, prompts: Sequence[str], after: Sequence[str]) -> list[Continued]:
    """Each prompt with its continuation, encoded as one text.

    Encoded apart, a SentencePiece tokenizer would put a second word border before the continuation. Where a token spans
    the border, it counts as the continuation's.

    Args:
        lm: Whose tokenizer.
        prompts: Texts.
        after: What follows each, leading space included.
    """
    alone = encode(lm, prompts)
    whole = encode(lm, [left + right for left, right in zip(prompts, after, strict=True)])
    return [Continued(ids, _n_shared(ids, before)) for ids, before in zip(whole, alone, strict=True)]


def _n_shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def text_after(lm: LanguageModel | Tokens, before: Sequence[int], after: Sequence[int]) -> str:
    """Text of the ids ``after``, with the space that a tokenizer would drop at the start of a text."""
    head, whole = _decoded(lm, before), _decoded(lm, [*before, *after])
    return whole[len(head) :] if whole.startswith(head) else _decoded(lm, after)


def _decoded(lm: LanguageModel | Tokens, ids: Sequence[int]) -> str:
    text = lm.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def check_room(
    lm: LanguageModel, names: Sequence[str], sequences: Sequence[Sequence[int]], *, n_new: int = 0, least: int = 0
) -> None:
    """Refuse, before anything is computed, token ids that do not fit the context, or are too few.

    Args:
        lm: The model.
        names: What each sequence is called in the message.
        sequences: Token ids without prefix.
        n_new: Tokens to be written after each.
        least: Tokens of each, at least.

    Raises:
        DataError: The first such sequence is named, the others are counted.
    """
    room = lm.n_context - len(prefix_ids(lm)) - n_new
    new = f" before {n_new:,} new ones" if n_new else ""
    sizes = [(name, len(ids)) for name, ids in zip(names, sequences, strict=True)]
    long = [one for one in sizes if one[1] > room]
    short = [one for one in sizes if one[1] < least]
    for wrong, what in (
        (long, f"the model accepts at most {room:,}{new}. Shorten it"),
        (short, f"expected at least {least:,}, so that one can be predicted. Leave it out"),
    ):
        if wrong:
            others = f" ({len(wrong):,} such in all)" if len(wrong) > 1 else ""
            raise DataError(f"{wrong[0][0]} has {counted(wrong[0][1], 'token')}{others}; {what}.")
