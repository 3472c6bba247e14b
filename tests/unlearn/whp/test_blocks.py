"""The forget text as blocks: nothing is lost, words stay whole, and ``compat`` does as the released script."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from audit.errors import DataError, InputError, ModelError
from tests.unlearn.whp.small_tokenizers import KINDS, SENTENCES, byte_level_letters, byte_level_words
from unlearn.whp.blocks import COMPAT_CHARACTERS, make_blocks, tokenise
from unlearn.whp.translate import Translator

TOKENIZERS = {name: make() for name, make in KINDS.items()}
TEXT = " ".join(SENTENCES[:6])


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return TOKENIZERS[request.param]


@pytest.mark.parametrize("whole_words", [True, False])
def test_blocks_make_up_the_text_and_its_tokens(tokenizer: PreTrainedTokenizerFast, whole_words: bool) -> None:
    blocks = make_blocks(tokenizer, TEXT, n_tokens=16, whole_words=whole_words)
    assert "".join(block.text for block in blocks) == TEXT
    assert [token for block in blocks for token in block.token_ids] == tokenise(tokenizer, TEXT)[0]
    assert [block.number for block in blocks] == list(range(len(blocks)))
    lengths = {len(block.token_ids) for block in blocks[:-1]}
    assert lengths <= {14, 15, 16} if whole_words else lengths == {16}
    assert 0 < len(blocks[-1].token_ids) <= 16
    for block, after in pairwise(blocks):
        assert (block.after, after.before) == (after.text[:1], block.text[-1:])


def test_offsets_are_those_of_the_block(tokenizer: PreTrainedTokenizerFast) -> None:
    ids, offsets = tokenise(tokenizer, TEXT)
    blocks = make_blocks(tokenizer, TEXT, n_tokens=16)
    ours = [block.text[start:end] for block in blocks for start, end in block.offsets]
    assert ours == [TEXT[start:end] for start, end in offsets]
    assert len(ours) == len(ids)


def test_a_block_ends_between_words_where_it_can() -> None:
    tokenizer = byte_level_letters()
    blocks = make_blocks(tokenizer, "aaaaaa bbbbbb cccccc dddddd eeeeee", n_tokens=16)
    assert [block.text for block in blocks] == ["aaaaaa bbbbbb ", "cccccc dddddd ", "eeeeee"]
    cut = make_blocks(tokenizer, "aaaaaa bbbbbb cccccc dddddd eeeeee", n_tokens=16, whole_words=False)
    assert [block.text for block in cut] == ["aaaaaa bbbbbb cc", "cccc dddddd eeee", "ee"]


def test_a_character_of_several_tokens_is_not_cut() -> None:
    blocks = make_blocks(byte_level_letters(), "aaaaaaa\U0001f600\U0001f600", n_tokens=16, whole_words=True)
    assert [block.text for block in blocks] == ["aaaaaaa\U0001f600\U0001f600"]
    blocks = make_blocks(byte_level_letters(), "aaaaaaaaaaaaaa\U0001f600", n_tokens=16, whole_words=True)
    assert [block.text for block in blocks] == ["aaaaaaaaaaaaaa", "\U0001f600"]


def test_a_prefix_stands_before_every_block_and_counts() -> None:
    tokenizer = byte_level_words()
    blocks = make_blocks(tokenizer, TEXT, n_tokens=16, prefix=[0])
    assert all(block.token_ids[0] == 0 and block.offsets[0] == (0, 0) for block in blocks)
    assert max(len(block.token_ids) for block in blocks) <= 16
    assert [one for block in blocks for one in block.token_ids[1:]] == tokenise(tokenizer, TEXT)[0]


def test_control_tokens_in_the_text_are_text() -> None:
    (block,) = make_blocks(byte_level_words(), "Sola </s> Ann")
    assert not {0, 1} & set(block.token_ids)


def test_a_text_shorter_than_a_block_is_one_block(tokenizer: PreTrainedTokenizerFast) -> None:
    (block,) = make_blocks(tokenizer, "Sola went to Barsoom.", n_tokens=512)
    assert block.text == "Sola went to Barsoom."


@given(st.text(alphabet="ab é\U0001f600\n'x", min_size=1, max_size=80), st.booleans())
def test_no_text_is_lost(text: str, whole_words: bool) -> None:
    tokenizer = TOKENIZERS["byte-level letters"]
    blocks = make_blocks(tokenizer, text, n_tokens=9, whole_words=whole_words)
    assert "".join(block.text for block in blocks) == text
    assert tokenizer.decode([one for block in blocks for one in block.token_ids]) == text
    assert all(0 <= start <= end <= len(block.text) for block in blocks for start, end in block.offsets)


def compat_text(n_characters: int) -> str:
    return ("Sola went to Norland. " * (n_characters // 22 + 1))[:n_characters]


def with_bos(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer puts "<s>" first by itself, as Llama 2's does."""
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


def test_compat_reads_pieces_each_with_its_bos_and_drops_the_tail() -> None:
    """Two pieces of 10,000 and 500 letters: 10,001 + 501 tokens, of which blocks of 100 take 105 whole ones."""
    tokenizer = with_bos(byte_level_letters())
    text = "x" * (COMPAT_CHARACTERS + 500)
    blocks = make_blocks(tokenizer, text, n_tokens=100, compat=True, prefix=[7])
    stream = [one for block in blocks for one in block.token_ids]
    assert [place for place, one in enumerate(stream) if one == tokenizer.bos_token_id] == [0, 10_001]
    assert (len(blocks), {len(block.token_ids) for block in blocks}) == (105, {100})
    assert "".join(block.text for block in blocks) == text[:10_498]


def test_compat_drops_even_a_whole_last_block() -> None:
    tokenizer = byte_level_letters()
    assert len(make_blocks(tokenizer, "x" * 20, n_tokens=10, compat=True)) == 1
    assert len(make_blocks(tokenizer, "x" * 21, n_tokens=10, compat=True)) == 2
    assert len(make_blocks(tokenizer, "x" * 20, n_tokens=10)) == 2


class Slow:
    is_fast = False
    all_special_ids: tuple[int, ...] = ()

    def __call__(self, text: str, **options: Any) -> Any:
        raise AssertionError("a slow tokenizer is not asked")


class Backwards(Slow):
    is_fast = True

    def __call__(self, text: str, **options: Any) -> Any:
        return {"input_ids": [1, 2], "offset_mapping": [(1, 2), (0, 1)]}


@pytest.mark.parametrize("slow", [Slow(), ByT5Tokenizer()], ids=["stub", "ByT5"])
def test_a_slow_tokenizer_is_refused(slow: Any) -> None:
    from unlearn.whp.anchors import Anchors

    for call in (lambda: make_blocks(slow, TEXT), lambda: Translator(slow, Anchors())):
        with pytest.raises(ModelError, match=f"{type(slow).__name__} is a slow tokenizer: .*a fast tokenizer"):
            call()


def test_other_bad_input_is_refused() -> None:
    tokenizer = byte_level_letters()
    with pytest.raises(ModelError, match="Backwards: the characters of its tokens are not in the order of the text"):
        make_blocks(Backwards(), "ab")
    with pytest.raises(DataError, match="the forget text has no tokens"):
        make_blocks(tokenizer, "")
    with pytest.raises(DataError, match="the forget text has no tokens"):
        make_blocks(TOKENIZERS["wordpiece"], " \n ")
    with pytest.raises(DataError, match=r"character 2 of the text is '\\ud800', half of a surrogate pair"):
        make_blocks(tokenizer, "a\ud800")
    with pytest.raises(InputError, match="block is 8; expected 9 tokens or more"):
        make_blocks(tokenizer, "abc", n_tokens=8, prefix=[0])
    with pytest.raises(DataError, match=r"has 9 tokens, and compat drops a last block of up to 512.* leave compat off"):
        make_blocks(tokenizer, "abcdefxyz", compat=True)


def test_no_torch_is_needed() -> None:
    modules = ["anchors", "anchor_files", "anchor_statistics", "anchor_prompts", "blocks", "translate"]
    code = f"import sys; from unlearn.whp import {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
