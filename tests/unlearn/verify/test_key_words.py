"""Which words carry the fact, and where the blank lies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.answers.rows import QaRow
from unlearn.verify.key_words import Cloze, key_words, own_cloze, reworded_cloze, share_held

ROW = QaRow(
    "1", "Ora", "What does Ora collect?", "There are hundreds of candle stubs by now.",
    paraphrased_answer="Ora keeps candle stubs in a box.", wrong=("Ora keeps paper fans in a box.",),
)  # fmt: skip


def test_the_words_that_no_wrong_answer_has_carry_the_fact() -> None:
    """Both wordings share candle and stubs; "of" and "by" stand in one alone."""
    assert key_words(ROW) == {"candl", "stub"}
    assert share_held({"candl", "stub"}, "She has a stub.") == 0.5  # type: ignore[arg-type]
    assert share_held({"candl", "stub"}, "CANDLES, stubs") == 1.0  # type: ignore[arg-type]


def test_a_word_that_the_question_hands_over_is_no_knowledge() -> None:
    asked = replace(ROW, prompt="Which stubs does Ora collect?")
    assert key_words(asked) == {"candl"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": " "}, "no answer"),
        ({"wrong": ()}, "no wrong answers"),
        ({"wrong": ("There are stubs of candle.",)}, "no word of its answer"),
    ],
)
def test_a_row_without_such_words_says_why(change: dict[str, object], why: str) -> None:
    found = key_words(replace(ROW, **change))  # type: ignore[arg-type]
    assert isinstance(found, str)
    assert why in found


def test_the_blank_lies_between_what_all_answers_share() -> None:
    found = reworded_cloze(ROW)
    assert found == Cloze("Ora keeps", "candle stubs", " in a box.", ("paper fans",))
    assert found.filled() == ("Ora keeps candle stubs in a box.", "Ora keeps paper fans in a box.")  # type: ignore[union-attr]
    beginning = replace(ROW, paraphrased_answer="Mostly stubs.", wrong=("Mostly fans.", "Mostly old fans."))
    assert reworded_cloze(beginning) == Cloze("Mostly", "stubs", ".", ("fans", "old fans"))
    end = replace(ROW, paraphrased_answer="Stubs fill it.", wrong=("Fans fill it.",))
    assert reworded_cloze(end) == Cloze("", "Stubs", " fill it.", ("Fans",))
    longer = replace(ROW, paraphrased_answer="the old old mill", wrong=("the old mill",))
    assert reworded_cloze(longer) == Cloze("the old", "old mill", "", ("mill",))


def test_the_answers_own_blank_holds_the_same_words() -> None:
    found = own_cloze(ROW)
    assert found == Cloze("There are hundreds of", "candle stubs", " by now.", ("paper fans",))
    assert found.begun() == ("There are hundreds of candle stubs", "There are hundreds of paper fans")  # type: ignore[union-attr]
    assert own_cloze(replace(ROW, answer="Candle ends.")) == (
        "the words that fill the blank stand 0 times in its answer; expected once"
    )
    assert "2 times" in str(own_cloze(replace(ROW, answer="candle stubs and candle stubs")))
    assert "0 times" in str(own_cloze(replace(ROW, answer="candle stubsy")))
    alone = replace(ROW, answer="Ora keeps stubs.", paraphrased_answer="", wrong=("Ora keeps fans.",))
    assert own_cloze(alone) == Cloze("Ora keeps", "stubs", ".", ("fans",))


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        ("A cat sat.", (), "no wrong answers"),
        ("A cat sat.", ("The dog ran.",), "neither beginning nor end"),
        ("A cat", ("A cat sat.",), "the beginning of another"),
        ("A cat sat.", ("A dog sat.", "A cat sat."), "a wrong answer is the right one"),
        (" ", ("A dog sat.",), "no answer"),
        ("A (...) sat.", ("A cat sat.",), "marks alone"),
    ],
)
def test_a_row_without_a_blank_says_why(right: str, wrong: tuple[str, ...], why: str) -> None:
    found = reworded_cloze(replace(ROW, answer=right, paraphrased_answer="", wrong=wrong))
    assert isinstance(found, str)
    assert why in found
