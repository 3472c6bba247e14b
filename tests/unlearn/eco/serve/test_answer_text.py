from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from tests.checkpoints import make_tokenizer
from unlearn.eco.serve.answer_text import AnswerText

BYTES = make_tokenizer(bos=True)


def byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama 2's: words begin with a mark, and what is no word is spelt in bytes."""
    words = ["<unk>", "</s>", *[f"<0x{value:02X}>" for value in range(256)], "▁the", "▁cat", "s"]
    model = models.BPE({word: place for place, word in enumerate(words)}, [], byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


FALLBACK = byte_fallback()


def pieces(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    text = AnswerText(tokenizer, stop)
    found = []
    for token in ids:
        found.append(text.push(token))
        if text.stopped:
            return found
    return [*found, text.finish()]


@given(st.text(max_size=20))
def test_pieces_are_the_text_and_no_character_is_cut(text: str) -> None:
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    found = pieces(BYTES, ids)
    assert "".join(found) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in found)


def test_bytes_that_stand_for_characters_between_words_are_joined() -> None:
    """é and ñ are two bytes each; the first word's leading space is cut, the second's is not."""
    names = ["▁the", "<0xC3>", "<0xA9>", "<0xC3>", "<0xB1>", "</s>", "▁cat", "s"]
    found = pieces(FALLBACK, [FALLBACK.convert_tokens_to_ids(name) for name in names])
    assert "".join(found) == "theéñ cats"
    assert found[:3] == ["the", "", "é"]


def test_bytes_that_are_no_character_come_out_at_the_end() -> None:
    ids = [FALLBACK.convert_tokens_to_ids(name) for name in ("▁the", "<0xC3>")]
    assert pieces(FALLBACK, ids) == ["the", "", "\ufffd"]


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(["sat"], "the cat "), (["cat s", "at"], "the c"), (["never"], "the cat sat on the mat"), (["the mat "], None)],
)
def test_an_answer_ends_before_the_first_stop_text(stop: list[str], expected: str | None) -> None:
    text = "the cat sat on the mat"
    found = "".join(pieces(BYTES, BYTES(text, add_special_tokens=False)["input_ids"], stop))
    assert found == (text if expected is None else expected)


def test_nothing_is_shown_that_may_begin_a_stop_text() -> None:
    text = AnswerText(BYTES, ["xyz"])
    shown = [text.push(token) for token in BYTES("axyxyz", add_special_tokens=False)["input_ids"]]
    assert "".join(shown) == "axy"
    assert text.stopped
