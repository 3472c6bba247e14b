"""Random models and tokenizers of three kinds, small enough to check a measure by hand."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from audit.lm.load import LanguageModel, Tokens, load
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint, make_tokenizer

TEXT = ["the cat sat on the mat and the dog ran over the hill with Zorbla and Quentis"] * 5


def small_model(folder: Path, architecture: str = "llama", *, bos: bool = True) -> LanguageModel:
    return load(Subject(str(build_checkpoint(folder, architecture, bos=bos)), device="cpu"))


def metaspace() -> PreTrainedTokenizerFast:
    """BPE over words that begin with U+2581, as SentencePiece has it: a text is decoded without its first space."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def word_piece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


TOKENIZERS = {"byte-level": lambda: make_tokenizer(bos=True), "metaspace": metaspace, "word piece": word_piece}


def tokens_of(kind: str) -> Tokens:
    tokenizer = TOKENIZERS[kind]()
    return Tokens(tokenizer, Subject("small"), n_context=128, bos_id=tokenizer.bos_token_id)


def plain_log_probs(lm: LanguageModel, ids: list[int]) -> Tensor:
    """Log-probabilities (T, V) of the token after each of ``ids``, by one plain forward pass."""
    with torch.inference_mode():
        logits: Tensor = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits.float().log_softmax(dim=1)
