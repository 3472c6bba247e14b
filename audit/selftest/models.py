r"""Models whose log-probabilities are known: a table of next words, written into the weights of a Llama.

Attention and the feed-forward part give nothing (their last matrices are zero), the embedding of word i is the i-th
unit vector, the final norm of a unit vector of H numbers is sqrt(H) times itself and its weight takes that back, and
the head's column i holds log P(. | i). So the model's distribution after word i is row i of the table, whatever came
before, to the rounding of float32. A head of zeros is the uniform model: -ln V for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..lm.load import LanguageModel, load
from ..lm.subject import Subject

SPECIAL = ("<s>", "</s>", "<pad>", "<unk>")
BOS, EOS = 0, 1
FIRST = len(SPECIAL)  # id of the first word
Table = NDArray[np.float64]


def word_list(n: int) -> list[str]:
    """n different words of four letters or more, the same each time; each is a token with the space before it."""
    consonants, vowels = "bdfgklmnprst", "aeiou"
    syllables = [c + v for c in consonants for v in vowels]
    return [f" {syllables[i % 60]}{syllables[i // 60 % 60]}{'n' * (i // 3600)}" for i in range(n)]


def tokenizer_of(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token for each word, the space before it included, and one for a line break if it is listed."""
    vocabulary = {word: place for place, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\S+|\s"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def table_model(folder: Path, words: Sequence[str], table: Table | None, *, n_context: int = 256) -> LanguageModel:
    """A model that follows a table.

    Args:
        folder: Where its files go; made.
        words: As from `word_list`.
        table: P(next | last), shape (V, V) for V = 4 + words, every entry > 0; None is the uniform model.
        n_context: Longest input in tokens.
    """
    n = len(SPECIAL) + len(words)
    width = -(-n // 8) * 8
    model = LlamaForCausalLM(_config(n, width, n_context))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight")):
                parameter.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(n, width))
        model.model.norm.weight.fill_(width**-0.5)
        if table is not None:
            model.lm_head.weight[:, :n] = torch.from_numpy(np.log(table).T).float()
    return _saved(model, words, folder)


def random_model(folder: Path, words: Sequence[str], *, seed: int = 0, n_context: int = 256) -> LanguageModel:
    """A Llama of three small layers with large random weights, whose attention matters."""
    n = len(SPECIAL) + len(words)
    config = _config(n, 32, n_context, n_layers=3, n_heads=4, n_inner=64)
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2, generator=generator)
    return _saved(model, words, folder)


def fitted_table(sequences: Sequence[Sequence[int]], n: int, *, spread: float = 0.1) -> Table:
    """The table of these sequences after the beginning token: counts, mixed with ``spread`` of the uniform."""
    counts = np.zeros((n, n))
    for sequence in sequences:
        np.add.at(counts, ([BOS, *sequence[:-1]], list(sequence)), 1)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.full((n, n), 1 / n), where=total > 0)
    return np.asarray((1 - spread) * shares + spread / n)


def table_log_probs(table: Table, sequence: Sequence[int], *, before: int = BOS) -> NDArray[np.float64]:
    """What the model gives for each token, by looking it up."""
    last = [before, *sequence[:-1]]
    return np.log(table[last, list(sequence)])


def _config(
    n: int, width: int, n_context: int, *, n_layers: int = 1, n_heads: int = 1, n_inner: int = 8
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=n,
        hidden_size=width,
        intermediate_size=n_inner,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        head_dim=8,
        max_position_embeddings=n_context,
        rms_norm_eps=1e-12,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=2,
    )


def _saved(model: LlamaForCausalLM, words: Sequence[str], folder: Path) -> LanguageModel:
    """Saved and loaded again, so that the project's own door is the one that is tested."""
    model.save_pretrained(folder)
    tokenizer_of(words).save_pretrained(folder)
    return load(Subject(str(folder), device="cpu"))
