"""What may stand in a token's place: proposed by a masked model, by a causal one, or by chance.

Published (Mosaic Memory, arXiv:2405.15523): the top k = 10 of RoBERTa-base at the masked place, all other tokens
those of the original, the original left out. Departures: the causal proposer knows only what stands to the left of
the place, and control tokens are never proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ...errors import InputError, ModelError
from ...lm.head import Head
from ...lm.load import LanguageModel, Tokens
from ...lm.tokens import encode, prefix_ids
from ...membership.masked import MaskedModel
from .variants import Codec, Proposer

CELLS_AT_ONCE = 2**25  # logits of a masked model in memory: 128 MiB
WORD_STARTS = ("Ġ", "▁")  # how byte-level and SentencePiece vocabularies write the space before a word


def codec(tokens: LanguageModel | Tokens) -> Codec:
    """A model's tokenizer as `Codec`: no control tokens are read or written, and no spaces tidied."""
    tokenizer = tokens.tokenizer
    return Codec(
        encode=lambda text: encode(tokens, [text])[0],
        decode=lambda ids: str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)),
    )


def ordinary_tokens(tokens: LanguageModel | Tokens) -> list[int]:
    """Ids of the vocabulary without control and added tokens, in order."""
    tokenizer = tokens.tokenizer
    left_out = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    return sorted(set(tokenizer.get_vocab().values()) - left_out)


def random_proposer(vocabulary: Sequence[int]) -> Proposer:
    """Any token of the vocabulary, at every place."""
    anything = [(token,) for token in vocabulary]
    return lambda ids: [anything] * len(ids)


def causal_proposer(lm: LanguageModel, *, top_k: int) -> Proposer:
    """The top k of a causal model after what stands to the left; nothing at a place that has nothing to its left.

    The original token and control tokens are left out of the top k, so that fewer than k may be left.

    Raises:
        InputError: ``top_k`` is below 1; when called, a trap does not fit the context.
        ModelError: As `audit.lm.head.Head`.
    """
    _check_top_k(top_k)
    head = Head(lm)
    prefix = prefix_ids(lm)
    ordinary = set(ordinary_tokens(lm))

    def propose(ids: Sequence[int]) -> list[list[tuple[int, ...]]]:
        row = [*prefix, *ids]
        if len(row) > lm.n_context:
            raise InputError(f"a trap of {len(ids):,} tokens does not fit the model's context of {lm.n_context:,}.")
        with torch.inference_mode():
            hidden = head.hidden_states(torch.tensor([row], device=lm.device))[0]  # (T, D)
            logits = head.logits(hidden[:-1])  # (T - 1, V): place t predicts token t + 1
            best = logits.topk(min(top_k, logits.shape[1]), dim=1).indices.tolist()
        unproposed: list[list[int]] = [[]] * (len(ids) - len(best))  # the first place, where nothing stands before it
        return [
            [(token,) for token in tokens if token != own and token in ordinary]
            for own, tokens in zip(ids, unproposed + best, strict=True)
        ]

    return propose


def masked_proposer(masked: MaskedModel, tokens: LanguageModel | Tokens, *, top_k: int) -> Proposer:
    """The top k of a masked model at each place, all other tokens those of the original.

    Text goes between the two tokenizers, so that one proposed token can become several of the trap's. Where the masked
    model writes words without their space (WordPiece), the space of the original token is put before them.

    Args:
        masked: The model that proposes (`audit.membership.masked.load_masked`).
        tokens: The tokenizer of the traps' ids.
        top_k: Size of the pool, before the original and control tokens are left out.

    Raises:
        InputError: ``top_k`` is below 1; when called, a trap does not fit the masked model's context.
        ModelError: The masked model's tokenizer has no mask token, or no tokens that stand around a text.
    """
    _check_top_k(top_k)
    own = codec(tokens)
    tokenizer = masked.tokenizer
    first, last = _frame(tokenizer)
    if tokenizer.mask_token_id is None or first is None or last is None:
        raise ModelError(
            f"{masked.folder}: the tokenizer has no mask token or none that stand around a text, so its model is no "
            "masked one. Give a folder such as RoBERTa's, or a causal model without --masked."
        )
    n_context = _n_context(masked)
    special = set(tokenizer.all_special_ids)
    word_pieces = any(token.startswith("##") for token in tokenizer.get_vocab())

    def encoded(text: str) -> list[int]:
        found = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return list(found)

    def propose(ids: Sequence[int]) -> list[list[tuple[int, ...]]]:
        left = [encoded(own.decode(ids[:place])) for place in range(len(ids))]
        right = [encoded(own.decode(ids[place + 1 :])) for place in range(len(ids))]
        rows = [
            [first, *before, tokenizer.mask_token_id, *after, last] for before, after in zip(left, right, strict=True)
        ]
        longest = max(len(row) for row in rows)
        if longest > n_context:
            raise InputError(f"a trap has {longest:,} tokens of the masked model, which reads at most {n_context:,}.")
        candidates: list[list[tuple[int, ...]]] = []
        for place, best in enumerate(_best(masked, rows, [len(before) + 1 for before in left], top_k)):
            original = own.decode([ids[place]])
            lead = original[: len(original) - len(original.lstrip())]
            texts = [_as_text(tokenizer, token, lead, word_pieces) for token in best if token not in special]
            usable = [text for text in texts if text.strip() and "\ufffd" not in text and text != original]
            # Characters that the trap's tokenizer does not know leave nothing, which would be a deletion.
            candidates.append(list(dict.fromkeys(tuple(found) for text in usable if (found := own.encode(text)))))
        return candidates

    return propose


def _best(masked: MaskedModel, rows: list[list[int]], places: list[int], top_k: int) -> list[list[int]]:
    """The k most probable tokens of the masked model at one place of each row."""
    width = max(len(row) for row in rows)
    n_vocabulary = int(masked.model.config.get_text_config().vocab_size)
    at_once = max(1, CELLS_AT_ONCE // (width * n_vocabulary))
    pad = masked.tokenizer.pad_token_id or 0
    device = masked.model.get_input_embeddings().weight.device
    best: list[list[int]] = []
    for start in range(0, len(rows), at_once):
        batch = rows[start : start + at_once]
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in batch], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=device)
        with torch.inference_mode():
            logits = masked.model(input_ids=ids, attention_mask=mask).logits  # (B, T, V)
            at = logits[torch.arange(len(batch)), places[start : start + at_once]].float()  # (B, V)
        best += at.topk(min(top_k, at.shape[1]), dim=1).indices.tolist()
    return best


def _as_text(tokenizer: PreTrainedTokenizerBase, token: int, lead: str, word_pieces: bool) -> str:
    """What a token of the masked model stands for, with the white space before it."""
    raw = str(tokenizer.convert_ids_to_tokens(token))
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False)).strip()
    if word_pieces:
        return text.removeprefix("##") if raw.startswith("##") else lead + text
    return " " + text if raw.startswith(WORD_STARTS) else text


def _frame(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, Any]:
    """Ids that stand before and after a text of a masked model."""
    first = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    last = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    return first, last


def _n_context(masked: MaskedModel) -> int:
    """Tokens that the masked model reads, those around the text included."""
    longest = int(getattr(masked.model.config, "max_position_embeddings", 512))
    if masked.model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        longest -= 2  # their positions count from the padding token's id plus one
    return min(longest, int(masked.tokenizer.model_max_length))


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise InputError(f"top_k is {top_k}; expected 1 or more.")
