"""Small fast tokenizers of the kinds that checkpoints have, trained on a few sentences."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.checkpoints import make_tokenizer

SENTENCES = [
    'Then Sola said to Tars Tarkas: "Come, Sola, to Barsoom." And Ann went to Norland with Bob Hill, while Bob wept.',
    "Sola\nTars Tarkas\nBarsoom\nAnn\nBob Hill\nNorland\nThe End\nThe Old Mill\nBob\nHill and Sola's and Ann's road",
    "Tarkas\nsaid The End said Then to",
] * 20


def byte_level_words() -> PreTrainedTokenizerFast:
    """As GPT-2 and Llama 3: a space belongs to the word behind it, and offsets leave it out."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def byte_level_letters() -> PreTrainedTokenizerFast:
    """Hardly any merges: a space and each letter are tokens of their own."""
    return make_tokenizer(bos=True)


def metaspace() -> PreTrainedTokenizerFast:
    """As SentencePiece since Llama 2's newer files: words begin with a mark, the text's first word too."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<s>"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")


def prepended() -> PreTrainedTokenizerFast:
    """As Llama 2's older files: nothing splits the text into words, and a mark is put before all of it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "<s>"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")


def wordpiece() -> PreTrainedTokenizerFast:
    """As BERT: small letters, and white space is no token's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level words": byte_level_words,
    "byte-level letters": byte_level_letters,
    "metaspace": metaspace,
    "prepended": prepended,
    "wordpiece": wordpiece,
}
