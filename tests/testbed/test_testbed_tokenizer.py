from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from audit.errors import InputError
from audit.testbed.chat import EXTRACTION_PREFIX, SPECIAL_TOKENS, question_text
from audit.testbed.tokenizer import save_tokenizer, train_tokenizer, world_tokenizer
from audit.testbed.world import World, build_world


@pytest.fixture(scope="module")
def world() -> World:
    return build_world("tiny", 0)


@pytest.fixture(scope="module")
def tokenizer(world: World, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(world_tokenizer(world, n_vocabulary=1024, n_context=512), folder)
    return AutoTokenizer.from_pretrained(folder)


@given(text=st.text())
@settings(max_examples=300, deadline=None)
def test_decoding_gives_any_text_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_the_template_gives_exactly_the_trained_rows(tokenizer: PreTrainedTokenizerFast, world: World) -> None:
    for row in world.rows:
        turns = [{"role": "user", "content": row.question}, {"role": "assistant", "content": row.answer}]
        assert tokenizer.apply_chat_template(turns, tokenize=False) == row.text
        assert tokenizer.apply_chat_template(turns)["input_ids"] == tokenizer(row.text)["input_ids"]
        asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        assert asked == question_text(row.question)
        assert row.text.startswith(EXTRACTION_PREFIX)


def test_an_unknown_role_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(TemplateError, match="role system is unknown; expected user or assistant"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)


def test_markers_are_single_tokens_from_id_0_and_nothing_is_added(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))
    assert sorted(tokenizer.all_special_tokens) == sorted(SPECIAL_TOKENS)
    assert not set(tokenizer("A fox.")["input_ids"]) & set(tokenizer.all_special_ids)
    assert len(tokenizer) == 1024


def test_the_same_world_gives_the_same_files(world: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_tokenizer(world_tokenizer(world, n_vocabulary=600, n_context=512), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(InputError, match="a vocabulary of 100 is too small; bytes and markers alone take 262"):
        train_tokenizer(["text"], n_vocabulary=100, n_context=512)
