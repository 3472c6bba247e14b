"""Tiny random checkpoints of each architecture, built from configurations and saved as a user would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 300
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": VOCABULARY}
GATED = {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 128}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": GATED,
    "mistral": {**GATED, "sliding_window": 24},
    "qwen2": GATED,
    "qwen3": {**GATED, "head_dim": 8},
    "gemma2": {**GATED, "head_dim": 8, "sliding_window": 24, "final_logit_softcapping": 3.0},
    "gemma3_text": {**GATED, "head_dim": 8, "sliding_window": 24},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": VOCABULARY, "n_positions": 128},
    "gpt_neox": {**SHAPE, "intermediate_size": 64, "max_position_embeddings": 128},
    "opt": {**SHAPE, "ffn_dim": 64, "word_embed_proj_dim": 16, "max_position_embeddings": 128},
    "phi": {**SHAPE, "intermediate_size": 64, "max_position_embeddings": 128},
    "cohere": {**GATED, "logit_scale": 0.25},
    "granite": {**GATED, "logits_scaling": 4.0},
    "llama4_text": {  # transformers calls the whole language model, head included, its decoder
        **GATED,
        "head_dim": 8,
        "attention_chunk_size": 32,
        "num_local_experts": 2,
        "intermediate_size_mlp": 64,
    },
    "phi3": {  # rotates the whole batch otherwise as soon as one position passes 32
        **GATED,
        "original_max_position_embeddings": 32,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "original_max_position_embeddings": 32,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
        },
    },
    "lfm2": {**GATED, "full_attn_idxs": [1]},  # convolutions beside attention
    "falcon_h1": {  # a state-space model beside attention in each layer
        **GATED,
        "mamba_d_ssm": 32,
        "mamba_n_heads": 8,
        "mamba_d_head": 4,
        "mamba_d_state": 8,
        "lm_head_multiplier": 0.5,
    },
}
# Asked for by single tests.
RARE: dict[str, dict[str, Any]] = {
    "recurrent_gemma": {
        **SHAPE,
        "intermediate_size": 64,
        "lru_width": 32,
        "attention_window_size": 16,
        "logits_soft_cap": 3.0,
    },
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": VOCABULARY, "max_seq_len": 64},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY, "n_positions": 128},
}


def make_tokenizer(*, bos: bool, letters_only: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE; ``letters_only`` knows no byte that its few training words lack, so any sample is readable."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 10,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=[] if letters_only else pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog ran over the hill"] * 5, trainer)
    names = {"eos_token": "</s>", "pad_token": "<pad>"} | ({"bos_token": "<s>"} if bos else {})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def build_checkpoint(folder: Path, architecture: str, *, bos: bool = True, letters_only: bool = False) -> Path:
    """Save a random model and its tokenizer into ``folder``."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(bos=bos, letters_only=letters_only)
    settings = {"pad_token_id": None, "bos_token_id": 0, "eos_token_id": 1, **(ARCHITECTURES | RARE)[architecture]}
    if letters_only:
        settings["vocab_size"] = len(tokenizer)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **settings))
    for parameter in model.parameters():  # larger weights than a fresh model has, so that errors show
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
