"""A classifier's folder as the judge: argmax, its class by name, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, BertForSequenceClassification, BertModel

from audit.errors import InputError, ModelError
from tests.unlearn.eco.small_encoders import SHAPE, word_tokenizer
from unlearn.lineas.evaluate.judge_folder import load_folder_judge

TEXTS = ["you are a fool", "you are a friend"]


def build(folder: Path, *, n_labels: int = 2, kind: type = BertForSequenceClassification) -> Path:
    torch.manual_seed(0)
    tokenizer = word_tokenizer(TEXTS, window=24)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        max_position_embeddings=24,
        pad_token_id=1,
        num_labels=n_labels,
        id2label={n: ("neutral", "toxic", "other")[n] for n in range(n_labels)},
        **SHAPE,
    )
    model = kind(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_class_is_the_argmax_and_long_texts_are_cut(tmp_path: Path) -> None:
    judge = load_folder_judge(build(tmp_path / "classifier"), device="cpu")
    assert judge.name == "classifier (toxic)"
    texts = [*TEXTS, "fool friend a you are " * 30, "fool"]
    flags = judge.flags(texts)
    model = BertForSequenceClassification.from_pretrained(tmp_path / "classifier").eval()
    with torch.inference_mode():
        for text, flag in zip(texts, flags, strict=True):
            ids = judge._tokenizer(text, truncation=True, max_length=judge.most_tokens, return_tensors="pt")
            assert bool(model(**ids).logits[0].argmax()) == flag
    assert (load_folder_judge(tmp_path / "classifier", label="neutral", device="cpu").flags(texts) == ~flags).all()
    assert judge.flags([]).shape == (0,)
    assert judge.to_record()["fingerprint"]["weights"]


def test_what_is_no_classifier_of_two_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 3 classes; expected 2"):
        load_folder_judge(build(tmp_path / "three", n_labels=3), device="cpu")
    with pytest.raises(ModelError, match="lacks the weights of BertForSequenceClassification: 2 of them"):
        load_folder_judge(build(tmp_path / "headless", kind=BertModel), device="cpu")
    with pytest.raises(InputError, match="no class 'rude'; expected one of 'neutral', 'toxic'"):
        load_folder_judge(build(tmp_path / "two"), label="rude", device="cpu")
    with pytest.raises(InputError, match="no folder"):
        load_folder_judge(tmp_path / "nowhere")
    (tmp_path / "two" / "model.safetensors").rename(tmp_path / "two" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        load_folder_judge(tmp_path / "two", device="cpu")
