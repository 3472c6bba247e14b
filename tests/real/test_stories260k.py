"""A real checkpoint on real text, where they are at hand: set PALIMPSEST_SHARED to the folder of models and corpora."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.lm.generate import Sampling, generate
from audit.lm.load import LanguageModel, load
from audit.lm.tokens import encode, prefix_ids
from audit.membership.score import score_texts
from audit.text.readers import read_texts

SHARED = Path(os.environ.get("PALIMPSEST_SHARED", Path(__file__).parents[3] / "shared"))
MODEL = SHARED / "models" / "stories260k"
STORIES = SHARED / "corpora" / "tinystories" / "train_1000.jsonl"
BOOKS = SHARED / "corpora" / "gutenberg-books"
pytestmark = pytest.mark.skipif(
    not (MODEL.is_dir() and STORIES.is_file() and BOOKS.is_dir()),
    reason=f"no stories260k, tinystories and gutenberg-books under {SHARED} (PALIMPSEST_SHARED names the folder)",
)


@pytest.fixture(scope="module")
def stories260k() -> LanguageModel:
    return load(MODEL)


def test_greedy_continuation_is_the_known_one(stories260k: LanguageModel) -> None:
    (prompt,) = encode(stories260k, ["Once upon a time"])
    (sample,) = generate(
        stories260k,
        [[*prefix_ids(stories260k), *prompt]],
        sampling=Sampling(max_new_tokens=46, temperature=0),
        seed=0,
    )
    text = stories260k.tokenizer.decode(sample.token_ids)
    assert text.startswith(
        ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball."
    )


def test_losses_are_those_of_transformers_own_loss(stories260k: LanguageModel) -> None:
    table = read_texts(STORIES, limit=20)
    scores = score_texts(stories260k, table.texts, ids=table.ids, truncate=True)
    for text, loss in zip(table.texts, scores.loss, strict=True):
        ids = torch.tensor([stories260k.tokenizer(text)["input_ids"][: stories260k.n_context]])
        assert ids[0, 0] == stories260k.bos_id
        with torch.no_grad():
            assert loss == pytest.approx(float(stories260k.model(input_ids=ids, labels=ids).loss), abs=1e-4)


def test_its_own_kind_of_story_is_far_likelier_than_a_book(stories260k: LanguageModel) -> None:
    stories = read_texts(STORIES, limit=30)
    books = read_texts(BOOKS, unit="paragraph", limit=400)
    passages = [text for text in books.texts if len(text) > 300][:30]
    own = score_texts(stories260k, stories.texts, ids=stories.ids, truncate=True).loss
    other = score_texts(stories260k, passages, ids=[str(i) for i in range(len(passages))], truncate=True).loss
    assert other.min() > np.median(own)
