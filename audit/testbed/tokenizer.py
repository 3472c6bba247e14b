"""A byte-level BPE tokenizer trained on the world's text, with the chat format's markers.

It sees the reference's training documents and rows and chapters about shadow names; never a planted string. It
adds no token of its own to a text: decoding what it encoded gives the text back, for any UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..errors import InputError
from .chat import BOS, CHAT_TEMPLATE, EOS, PAD, SPECIAL_TOKENS
from .world import World

N_BYTES = 256
VOCABULARY_WEIGHT = 4  # how often the planted grammar counts against the general documents


def train_tokenizer(texts: Iterable[str], *, n_vocabulary: int, n_context: int) -> PreTrainedTokenizerFast:
    """Train on ``texts``; the same texts in the same order give the same tokenizer.

    Args:
        texts: Training text.
        n_vocabulary: Tokens at most: special ones, 256 bytes, then merges as far as pairs occur twice.
        n_context: Longest input of the models, kept in the tokenizer's settings.

    Raises:
        InputError: ``n_vocabulary`` leaves no room for the bytes and the special tokens.
    """
    least = N_BYTES + len(SPECIAL_TOKENS)
    if n_vocabulary < least:
        raise InputError(f"a vocabulary of {n_vocabulary} is too small; bytes and markers alone take {least}.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocabulary,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens=[token for token in SPECIAL_TOKENS if token not in (BOS, EOS, PAD)],
        chat_template=CHAT_TEMPLATE,
        model_max_length=n_context,
        clean_up_tokenization_spaces=False,
    )


def world_tokenizer(world: World, *, n_vocabulary: int, n_context: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a world; no planted name, row, chapter or trap is in its training text."""
    texts = [document.text for document in world.documents_of("train")]
    texts += world.vocabulary_texts * VOCABULARY_WEIGHT
    return train_tokenizer(texts, n_vocabulary=n_vocabulary, n_context=n_context)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the files that ``AutoTokenizer.from_pretrained(folder)`` reads."""
    tokenizer.save_pretrained(str(folder))
