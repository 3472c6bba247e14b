"""Cut a context and the text after it into tokens together, and tell their tokens apart by characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from ..errors import ModelError
from ..lm.load import LanguageModel, Tokens
from ..lm.tokens import encode
from ..text.safe import quoted

AT_ONCE = 256  # texts whose offsets are held in memory


@dataclass(frozen=True, slots=True)
class Joined:
    """Token ids of one context with its text.

    Attributes:
        ids: All tokens in reading order, without a beginning-of-sequence token.
        n_before: How many of them hold no character of the text: they are context alone.
        straddles: Whether the first token of the text also holds characters of the context.
    """

    ids: list[int]
    n_before: int
    straddles: bool


def join(lm: LanguageModel | Tokens, contexts: Sequence[str], texts: Sequence[str]) -> list[Joined]:
    """Tokens of each ``context + text``, which is cut as one string, as a reader would meet it.

    The text's tokens are those from the first one on that holds at least one of its characters. So a token that
    straddles the boundary belongs to the text: "the c" before "at on" is the, cat, on with the text's tokens cat and
    on. A character that takes several byte tokens lies in all of them. Without a context every token is the
    text's, as in `audit.lm.tokens.encode`.

    Args:
        lm: The model whose tokenizer is used.
        contexts: What stands before each text; can be empty.
        texts: The texts.

    Raises:
        ModelError: The tokenizer cannot tell which characters a token holds.
    """
    whole = [context + text for context, text in zip(contexts, texts, strict=True)]
    return [
        _split(encoding, len(context))
        for encoding, context in zip(_encode_with_offsets(lm, whole), contexts, strict=True)
    ]


def _split(encoding: Encoding, boundary: int) -> Joined:
    ids, offsets = list(encoding.ids), encoding.offsets
    if boundary == 0:
        return Joined(ids, 0, False)
    n_before = next((place for place, (_, stop) in enumerate(offsets) if stop > boundary), len(ids))
    return Joined(ids, n_before, n_before < len(ids) and offsets[n_before][0] < boundary)


def _encode_with_offsets(lm: LanguageModel | Tokens, texts: Sequence[str]) -> Iterator[Encoding]:
    if not lm.tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {quoted(lm.subject.model, limit=200)} ({type(lm.tokenizer).__name__}) does not tell "
            "which characters a token holds, so a text in its context cannot be scored. Put a tokenizer.json beside "
            "the weights, or score without context."
        )
    tokenizer = Tokenizer.from_str(lm.tokenizer.backend_tokenizer.to_str())
    # Some post-processors (GPT-2's, RoBERTa's) take white space off the offsets; it is a character like any other.
    tokenizer.post_processor = None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True  # strings such as "</s>" are text, as in `encode`
    for start in range(0, len(texts), AT_ONCE):
        some = list(texts[start : start + AT_ONCE])
        encodings = tokenizer.encode_batch(some, add_special_tokens=False)
        if [encoding.ids for encoding in encodings] != encode(lm, some):  # a tokenizer class with rules of its own
            raise ModelError(
                f"the tokenizer of {quoted(lm.subject.model, limit=200)} ({type(lm.tokenizer).__name__}) cuts texts "
                "otherwise than its tokenizer.json says, so its tokens cannot be told apart by characters. Score "
                "without context."
            )
        yield from encodings
