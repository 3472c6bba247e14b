"""Tiny random encoders with tokenizers of their own, saved as a user would have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForTokenClassification, BertModel, PreTrainedTokenizerFast, RobertaModel

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def word_tokenizer(texts: Sequence[str], *, window: int) -> PreTrainedTokenizerFast:
    """Whole words in small letters; a word that is in none of the texts is unknown."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False))
    return _finished(tokenizer, window)


def byte_tokenizer(texts: Sequence[str], *, window: int) -> PreTrainedTokenizerFast:
    """Byte-level pieces as RoBERTa has them; nothing is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _finished(tokenizer, window)


def _finished(tokenizer: Tokenizer, window: int) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=window,
    )


def build_encoder(folder: Path, kind: str, texts: Sequence[str], *, window: int = 512) -> Path:
    """A "bert" that knows the texts' words, or a "roberta" that knows any."""
    torch.manual_seed(0)
    tokenizer = (word_tokenizer if kind == "bert" else byte_tokenizer)(texts, window=window)
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), max_position_embeddings=window + 2, pad_token_id=1, **SHAPE
    )
    (BertModel if kind == "bert" else RobertaModel)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_tagger(folder: Path, texts: Sequence[str], tagged: Sequence[str], *, window: int = 512) -> Path:
    """Tags each of the known words ``tagged`` in turn as B-PER and B-LOC, whatever stands around them.

    The layers add nothing, the words' embeddings are one-hot and the head reads them off.
    """
    torch.manual_seed(0)
    tokenizer = word_tokenizer(texts, window=window)
    labels = {0: "O", 1: "B-PER", 2: "B-LOC"}
    config = AutoConfig.for_model(
        "bert", vocab_size=len(tokenizer), max_position_embeddings=window, pad_token_id=1, id2label=labels, **SHAPE
    )
    model = AutoModelForTokenClassification.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm.weight" not in name:
                parameter.zero_()
        words = model.bert.embeddings.word_embeddings.weight
        words[:, 0] = 1.0
        model.classifier.weight[0, 0] = 1.0
        for place, word in enumerate(tagged):
            row, label = tokenizer.convert_tokens_to_ids(word), 1 + place % 2
            assert row != tokenizer.unk_token_id
            words[row, 0], words[row, label] = 0.0, 1.0
            model.classifier.weight[label, label] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
