"""Continuations into conversations: every one is parsed or rejected for a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.extraction.parse import Distinct, Parsed, Reject, distinct, is_short, parse
from audit.extraction.presets import PRESETS, Chat
from audit.matching.clusters import normalised

OLMO, QWEN, ZEPHYR = PRESETS["olmo2"], PRESETS["qwen2.5"], PRESETS["zephyr"]
EOS = ("<|endoftext|>",)


def tulu(text: str, finish_reason: str | None = "stop") -> Parsed | Reject:
    return parse(text, finish_reason=finish_reason, chat=OLMO, stops=EOS)


def test_question_and_answer_stand_around_the_first_assistant_marker() -> None:
    assert tulu("What is up?\n<|assistant|>\nThe sky.") == Parsed("What is up?", "The sky.", "What is up?\nThe sky.", 1)


def test_after_a_trimmed_prefix_the_newline_is_sampled_and_stripped() -> None:
    assert tulu("\nWhat is up?\n<|assistant|>\nThe sky.") == tulu("What is up?\n<|assistant|>\nThe sky.")


def test_the_first_end_of_sequence_ends_the_text() -> None:
    parsed = tulu("Q\n<|assistant|>\nA<|endoftext|>\n<|user|>\nmore\n<|assistant|>\nrubbish", "length")
    assert parsed == Parsed("Q", "A", "Q\nA", 1)


def test_an_end_of_sequence_before_the_marker_leaves_no_marker() -> None:
    assert tulu("Q<|endoftext|>\n<|assistant|>\nA") == Reject("no assistant marker")


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ("", "stop", "no assistant marker"),
        ("only words", "length", "no assistant marker"),
        (" \n<|assistant|>\nA", "stop", "empty question"),
        ("Q\n<|assistant|>\n \n", "stop", "empty answer"),
        ("Q\n<|assistant|>\nA cut answ", "length", "cut off by the length limit"),
        ("Q <|user|> Q\n<|assistant|>\nA", "stop", "marker inside the question"),
        ("Q\n<|assistant|>\nA\n<|user|>\nQ", "stop", "marker inside the answer"),
        ("Q\n<|assistant|>\nA\n<|assistant|>\nA", "stop", "marker inside the answer"),
    ],
)
def test_a_continuation_that_is_no_conversation_is_rejected_for_its_reason(
    text: str, finish_reason: str, reason: str
) -> None:
    assert tulu(text, finish_reason) == Reject(reason)  # type: ignore[arg-type]


def test_half_a_marker_is_a_leak_too() -> None:
    leaked = parse("a<|im_start|>b<|im_end|>\n<|im_start|>assistant\nA<|im_end|>", finish_reason="stop", chat=QWEN)
    assert leaked == Reject("marker inside the question")


def test_more_turns_are_kept_in_the_whole_and_not_in_the_pair() -> None:
    text = (
        "Q1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n"
        "A2<|im_end|>\n"
    )
    assert parse(text, finish_reason="stop", chat=QWEN) == Parsed("Q1", "A1", "Q1\nA1\nQ2\nA2", 2)


def test_a_later_turn_that_was_cut_off_is_left_out_and_the_first_kept() -> None:
    text = "Q1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\nA2 is cut"
    assert parse(text, finish_reason="length", chat=ZEPHYR) == Parsed("Q1", "A1", "Q1\nA1", 1)
    whole = parse(text, finish_reason="stop", chat=ZEPHYR)
    assert isinstance(whole, Parsed)
    assert whole.n_turns == 2


def test_what_follows_a_closed_answer_is_no_part_of_it() -> None:
    text = "Q<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\nand then noise"
    assert parse(text, finish_reason="length", chat=QWEN) == Parsed("Q", "A", "Q\nA", 1)


@pytest.mark.parametrize(
    ("name", "opening"), [("orz-problem", ""), ("orz-user", PRESETS["orz-user"].lead), ("orz-user", "")]
)
def test_the_thinking_and_the_fixed_sentence_are_no_part_of_the_pair(name: str, opening: str) -> None:
    text = f"{opening}1 + 1?\nAssistant: <think> Two ones. </think> <answer> 2 </answer> User: more"
    parsed = parse(text, finish_reason="stop", chat=PRESETS[name])
    assert parsed == Parsed("1 + 1?", "2", "1 + 1?\n2", 1, "Two ones.")


def test_thinking_without_an_end_is_rejected() -> None:
    text = "1 + 1?\nAssistant: <think> Two ones"
    chat = PRESETS["orz-problem"]
    assert parse(text, finish_reason="stop", chat=chat) == Reject("no end of the thinking")
    assert parse(text, finish_reason="length", chat=chat) == Reject("cut off by the length limit")


TO_USER, TO_ASSISTANT = "<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
PIECES = st.sampled_from(
    ["<|im_end|>", "<|im_start|>", "assistant", "\n", " ", "word", "</s>", TO_USER, TO_ASSISTANT, "é", "\ud800"]
)


@given(st.lists(PIECES, max_size=30).map("".join), st.sampled_from(["stop", "length", None]))
def test_whatever_is_sampled_is_parsed_or_rejected_and_a_pair_is_clean(text: str, finish_reason: str | None) -> None:
    parsed = parse(text, finish_reason=finish_reason, chat=QWEN, stops=("</s>",))
    if isinstance(parsed, Reject):
        return
    for side in (parsed.question, parsed.answer):
        assert side == side.strip() != ""
        assert not any(marker in side for marker in ("<|im_start|>", "<|im_end|>", "</s>"))
    assert parsed.n_turns >= 1
    assert parsed.whole.startswith(f"{parsed.question}\n{parsed.answer}")


def test_a_long_run_of_turns_is_parsed_in_time_that_grows_with_it() -> None:
    turn = "Q<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\n"
    parsed = parse(turn * 50_000, finish_reason="length", chat=QWEN)
    assert isinstance(parsed, Parsed)
    assert parsed.n_turns == 50_000


class Counted(str):
    """A text that counts the characters that are searched."""

    n_read = 0

    def find(self, sub: str, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        stop = len(self) if end is None else end
        place = super().find(sub, start, stop)
        self.n_read += (stop if place < 0 else place + len(sub)) - start
        return place


@pytest.mark.parametrize("end", ["", "<|im_end|>"])
def test_turns_whose_end_never_comes_are_read_once(end: str) -> None:
    """As where a chat's user marker holds no end of the answer, and the one end stands last or nowhere."""
    chat = Chat("own", "User: ", "\nBot: ", user="\nUser: ", end="<|im_end|>")
    text = Counted("hi\nBot: hello\nUser: " * 2_000 + "hi\nBot: hello" + end)
    parsed = parse(text, finish_reason="stop", chat=chat)
    assert isinstance(parsed, Parsed)
    assert parsed.n_turns == 2_001
    assert text.n_read < 4 * len(text)


@given(st.lists(st.sampled_from([*"ab", "<e>", "<e><u>", "<u>", "<a>", "<e", ">"]), max_size=20).map("".join))
def test_an_answer_ends_at_the_first_of_end_and_next_question(text: str) -> None:
    for user in ("<e><u>", "<u>", "<e>"):
        parsed = parse(f"q<a>b{text}", finish_reason="stop", chat=Chat("own", "", "<a>", user=user, end="<e>"))
        until = [place for mark in (user, "<e>") if (place := text.find(mark)) >= 0]
        answer = "b" + text[: min(until, default=len(text))]
        if isinstance(parsed, Parsed):
            assert parsed.answer == answer
        else:
            assert "<" in answer
            assert parsed.reason == "marker inside the answer"


def test_a_format_of_plain_words_is_split_at_them() -> None:
    chat = Chat("own", "User: ", "\nBot: ", user="\nUser: ")
    parsed = parse("hi\nBot: hello\nUser: bye\nBot: ciao", finish_reason="stop", chat=chat)
    assert parsed == Parsed("hi", "hello", "hi\nhello\nbye\nciao", 2)


def test_texts_equal_up_to_white_space_and_composition_are_one_and_counted() -> None:
    found = distinct(["caf\u00e9  au\nlait", "tea", " cafe\u0301 au lait ", "tea", "tea"])
    assert found == [Distinct("caf\u00e9 au lait", 0, 2), Distinct("tea", 1, 3)]


def test_case_and_punctuation_are_not_normalised_away() -> None:
    assert normalised("Yes.") != normalised("yes")


def test_short_is_below_twenty_tokens() -> None:
    assert is_short(range(19))
    assert not is_short(range(20))
    assert not is_short([], least=0)
