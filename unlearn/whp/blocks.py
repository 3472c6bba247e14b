"""The forget text as blocks of tokens.

Paper: Eldan and Russinovich 2023, arXiv:2310.02238; blocks of 512 tokens are what the authors' released script makes.
Departures, because that script cuts words and loses text: the whole text is tokenised at once, a block ends between
words where it can, and the last, shorter block is kept. ``compat=True`` does as the script does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from audit.errors import DataError, InputError, ModelError
from audit.text.safe import counted

from .anchor_match import joins

COMPAT_CHARACTERS = 10_000  # characters that the released script reads at a time
_SURROGATE = re.compile("[\ud800-\udfff]")
Offsets = tuple[tuple[int, int], ...]


class FastTokenizer(Protocol):
    """What is asked of a transformers tokenizer."""

    @property
    def is_fast(self) -> bool: ...
    @property
    def all_special_ids(self) -> list[int]: ...
    def __call__(self, text: str, **options: Any) -> Any: ...


class Block(NamedTuple):
    """A piece of the forget text.

    Attributes:
        number: From 0.
        token_ids: Ids, those that were put before the text included.
        text: The characters of these tokens, white space between two blocks to the later one; the texts of all blocks
            make up the whole text.
        offsets: For each token, first character and end in ``text``; (k, k) for a token without characters.
        before: The character before ``text`` in the whole text, "" at its beginning.
        after: The character after it, "" at its end.
    """

    number: int
    token_ids: tuple[int, ...]
    text: str
    offsets: Offsets
    before: str = ""
    after: str = ""


def require_fast(tokenizer: FastTokenizer) -> None:
    """Refuse a tokenizer that cannot say where its tokens stand in the text.

    Raises:
        ModelError: It is a slow one, without offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} is a slow tokenizer: it does not say which characters a token stands for, and "
            "anchor terms are found by characters. Give a checkpoint with a tokenizer.json (a fast tokenizer)."
        )


def tokenise(
    tokenizer: FastTokenizer, text: str, *, add_special_tokens: bool = False
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a text and the characters that each stands for; "</s>" in it is ordinary text.

    Raises:
        ModelError: The tokenizer is a slow one, or its offsets go backwards.
        DataError: The text holds half of a surrogate pair, which no tokenizer reads.
    """
    require_fast(tokenizer)
    if half := _SURROGATE.search(text):
        raise DataError(
            f"character {half.start() + 1:,} of the text is {half.group()!a}, half of a surrogate pair. "
            "Remove or replace it."
        )
    encoded = tokenizer(
        text,
        add_special_tokens=add_special_tokens,
        return_offsets_mapping=True,
        split_special_tokens=True,
        verbose=False,
    )
    ids = list(encoded["input_ids"])
    offsets = [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
    if not add_special_tokens and any(a[0] > b[0] or a[1] > b[1] for a, b in pairwise(offsets)):
        raise ModelError(
            f"{type(tokenizer).__name__}: the characters of its tokens are not in the order of the text, so anchor "
            "terms cannot be placed. Use a model with another tokenizer."
        )
    return ids, offsets


def make_blocks(
    tokenizer: FastTokenizer,
    text: str,
    *,
    n_tokens: int = 512,
    prefix: Sequence[int] = (),
    whole_words: bool = True,
    compat: bool = False,
) -> list[Block]:
    """Cut a text into blocks.

    Args:
        tokenizer: A fast one; the model's own.
        text: The whole forget text.
        n_tokens: Tokens of a block at most, ``prefix`` included; at least 8 more than that holds.
        prefix: Ids put before every block, such as `audit.lm.tokens.prefix_ids`.
        whole_words: End a block between two words, up to an eighth earlier, so that no name is cut in the middle of a
            word; else every block but the last has ``n_tokens`` tokens.
        compat: Do as the released script: tokenise pieces of 10,000 characters, each with the tokenizer's special
            tokens; cut every ``n_tokens`` tokens, inside words as well; drop the last block, which is shorter or, at
            an exact multiple, is whole and dropped all the same. ``prefix`` and ``whole_words`` have no effect.

    Returns:
        At least one block. Without ``compat``, the last one may be shorter; a text shorter than a block is one block.

    Raises:
        InputError: ``n_tokens`` is too small.
        ModelError: A tokenizer without offsets.
        DataError: The text has no tokens, or with ``compat`` no whole block.
    """
    prefix = () if compat else tuple(prefix)
    if n_tokens < len(prefix) + 8:
        raise InputError(
            f"block is {n_tokens}; expected {len(prefix) + 8} tokens or more, the model's first one included."
        )
    ids, offsets = _compat_stream(tokenizer, text) if compat else tokenise(tokenizer, text)
    if not ids:
        raise DataError("the forget text has no tokens; give a text with words in it.")
    room = n_tokens - len(prefix)
    if compat:
        cuts = list(range(0, len(ids) - room, room))
        cuts.append(cuts[-1] + room if cuts else 0)
    else:
        cuts = _cuts(text, offsets, room, whole_words=whole_words)
    if len(cuts) < 2:
        raise DataError(
            f"the forget text has {counted(len(ids), 'token')}, and compat drops a last block of up to {n_tokens:,}, "
            "so nothing is left. Give a longer text or a smaller block, or leave compat off: then the tail is kept."
        )
    blocks = []
    first = 0
    for number, (here, there) in enumerate(pairwise(cuts)):
        end = len(text) if there == len(ids) else max(offsets[there - 1][1], first)
        placed = tuple((max(start - first, 0), max(stop - first, 0)) for start, stop in offsets[here:there])
        blocks.append(
            Block(
                number=number,
                token_ids=(*prefix, *ids[here:there]),
                text=text[first:end],
                offsets=(*((0, 0) for _ in prefix), *placed),
                before=text[first - 1] if first else "",
                after=text[end : end + 1],
            )
        )
        first = end
    return blocks


def _cuts(text: str, offsets: Sequence[tuple[int, int]], room: int, *, whole_words: bool) -> list[int]:
    """Where blocks begin, and the end of the last."""
    cuts = [0]
    while cuts[-1] + room < len(offsets):
        wanted = cuts[-1] + room
        earliest = wanted - room // 8 if whole_words else wanted
        cuts.append(next((cut for cut in range(wanted, earliest - 1, -1) if not _splits(text, offsets, cut)), wanted))
    return [*cuts, len(offsets)]


def _splits(text: str, offsets: Sequence[tuple[int, int]], cut: int) -> bool:
    """Whether a block that ends before token ``cut`` ends inside a word or a character."""
    (_, end), (start, _) = offsets[cut - 1], offsets[cut]
    return start < end or (start == end > 0 and joins(text[end - 1], text[end : end + 1]))


def _compat_stream(tokenizer: FastTokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for start in range(0, len(text), COMPAT_CHARACTERS):
        piece_ids, piece = tokenise(tokenizer, text[start : start + COMPAT_CHARACTERS], add_special_tokens=True)
        ids += piece_ids
        reached = 0
        for first, end in piece:  # a special token has (0, 0) wherever it stands
            reached = max(reached, end)
            offsets.append((start + (first if end else reached), start + (end or reached)))
    return ids, offsets
