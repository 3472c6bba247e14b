"""Token ids of a prompt and what follows it, and the text of what follows, whatever tokenizers do at the border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..lm.load import LanguageModel, Tokens
from ..lm.tokens import encode

_OPENING = '"\u201c\u2018([\u2014-\n'


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


def gap_after(prompt: str) -> str:
    """What parts a prompt from the word that is due: nothing after an opening mark or a line break, else a space."""
    return "" if prompt[-1:] in ("", *_OPENING) else " "
