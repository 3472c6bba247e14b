"""A tiny random RoBERTa, saved as a user would have it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

from tests.checkpoints import make_tokenizer


def build_masked(folder: Path) -> Path:
    """Save a masked model of 64 tokens of context, and its byte-level tokenizer, into ``folder``."""
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(bos=True).backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=64,
    )
    config = AutoConfig.for_model(
        "roberta",
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = AutoModelForMaskedLM.from_config(config)
    for parameter in model.parameters():  # larger weights than a fresh model has, so that errors show
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
