from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from audit.lm.load import LanguageModel, load
from tests.checkpoints import build_checkpoint


@pytest.fixture(scope="session")
def random_llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random model: a generator of nonsense."""
    return load(build_checkpoint(tmp_path_factory.mktemp("llama"), "llama", letters_only=True))


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random model with byte-level BPE, as GPT-2 has: any text, spaces at the start of a token."""
    return load(build_checkpoint(tmp_path_factory.mktemp("llama-bytes"), "llama"))


@pytest.fixture(scope="session")
def without_bos(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """As `byte_level`, without a beginning-of-sequence token."""
    return load(build_checkpoint(tmp_path_factory.mktemp("gpt2"), "gpt2", bos=False))


@pytest.fixture(scope="session")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random model whose tokenizer is of Llama 2's kind: a "▁" put before the text, no word boundaries."""
    folder = build_checkpoint(tmp_path_factory.mktemp("llama-pieces"), "llama")
    for path in folder.glob("*token*.json"):
        path.unlink()
    _pieces(folder)
    return load(folder)


def _pieces(folder: Path) -> None:
    pieces = ["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁thecasomdg"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("a", "t"), ("c", "at"), ("▁", "cat"), ("s", "at"), ("▁", "sat")]
    merges += [("d", "o"), ("do", "g"), ("▁", "dog"), ("▁cat", "s")]
    pieces += [left + right for left, right in merges]
    tokenizer = Tokenizer(
        models.BPE({piece: place for place, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
