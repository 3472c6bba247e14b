from __future__ import annotations

import pytest
import torch

from audit.errors import InputError
from tests.checkpoints import make_tokenizer
from unlearn.eco.selection import NameMatcher, all_but_last, of_names


@pytest.mark.parametrize("side", ["left", "right"])
def test_all_but_the_last_token_of_each_prompt_and_no_padding(side: str) -> None:
    rows = {"left": [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]], "right": [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]}
    expected = {"left": [[1, 1, 1, 0], [0, 0, 1, 0], [0] * 4], "right": [[1, 1, 1, 0], [1, 0, 0, 0], [0] * 4]}
    assert all_but_last(torch.tensor(rows[side])).int().tolist() == expected[side]


def test_the_scope_says_whether_an_answer_is_corrupted_too() -> None:
    attention = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    prompt = all_but_last(attention, prompt_lengths=[2, 3])
    assert prompt.int().tolist() == [[0, 1, 0, 0, 0], [1, 1, 0, 0, 0]]
    both = all_but_last(attention, prompt_lengths=[2, 3], scope="prompt+answer")
    assert both.int().tolist() == [[0, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
    with pytest.raises(InputError, match=r"\[2, 6\] tokens and rows \[4, 5\]"):
        all_but_last(attention, prompt_lengths=[2, 6])
    with pytest.raises(InputError, match="scope is 'answer'"):
        all_but_last(attention, scope="answer")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tell me about HARRY  Pottr's cat", ["HARRY  Pottr"]),
        ("the wizard Mira; mira again", ["Mira", "mira"]),
        ("Harry Miranda Potter", []),  # parts of names, and longer words, are no names
        ("Élodie and E\u0301lodie", ["Élodie", "E\u0301lodie"]),
        ("", []),
    ],
)
def test_names_are_found_whatever_their_case_and_with_small_errors(text: str, expected: list[str]) -> None:
    spans = NameMatcher(["Harry Potter", "Mira", "Élodie"]).find(text)
    assert [text[one.start : one.end] for one in spans] == expected


@pytest.mark.parametrize(
    "written",
    [
        "Har\u200bry Pot\u00adter",  # zero width, soft hyphen
        "Har\u200fry P\u202eotter",  # directions
        "Ha\ufe0frry Po\U000e0061tter",  # variation selector, tag
        "Har\u3164ry Pot\x00ter",  # filler, control
        "H\u0301a\u0301r\u0301r\u0301y\u0301 P\u20ddo\u0336t\u0336t\u0336e\u0336r\u0336",  # marks
        "Härry Pötter",
        "Наrrу Роttеr",  # Cyrillic letters
        "Ｈａｒｒｙ Ｐｏｔｔｅｒ",
        "𝐇𝐚𝐫𝐫𝐲 Ⓟⓞⓣⓣⓔⓡ",
        "ʜᴀʀʀʏ ᴘᴏᴛᴛᴇʀ",
        "🅷🅰🆁🆁🆈 🇵🅞🆃🆃🅔🆁",
        "Harry_Potter",
        "HarryPotter",
        "H.a.r.r.y P o t t e r",
    ],
)
def test_a_name_is_found_however_it_is_written(written: str) -> None:
    text = f"(Who) is {written}?"
    (span,) = NameMatcher(["Harry Potter"]).find(text)
    assert text[span.start : span.end] == written


def test_what_only_holds_a_names_letters_is_no_name() -> None:
    matcher = NameMatcher(["Potter", "Ann", "Рон"])
    assert matcher.find("the spot terror") == matcher.find("an n") == matcher.find("сон") == []
    assert len(matcher.find("Рон")) == 1


def test_the_ratio_decides_how_much_a_name_may_differ() -> None:
    """ "Hermoine" and "Hermione" share 7 letters in order: 14 / 16 = 0.875."""
    assert NameMatcher(["Hermione"], ratio=0.875).find("Hermoine?")
    assert not NameMatcher(["Hermione"], ratio=0.88).find("Hermoine?")
    assert not NameMatcher(["Hermione"], ratio=1).find("Hermion")
    for names, ratio, message in ((["Ann"], 0, "ratio is 0"), (["?!"], 0.9, "no letter"), ([], 0.9, "no name to look")):
        with pytest.raises(InputError, match=message):
            NameMatcher(names, ratio=ratio)


@pytest.mark.parametrize("side", ["left", "right"])
def test_names_become_the_tokens_they_stand_in_and_a_text_without_any_is_taken_whole(side: str) -> None:
    tokenizer = make_tokenizer(bos=True)
    tokenizer.padding_side = side
    texts = ["the cat Zorb sat on the hill", "the dog ran over the mat", "who is Zorb"]
    batch = tokenizer(texts, padding=True, return_tensors="pt", return_offsets_mapping=True)
    among = all_but_last(batch["attention_mask"])
    mask, found = of_names(texts, batch["offset_mapping"], NameMatcher(["zorb"]), among=among)
    assert found == [True, False, True]
    selected = [tokenizer.decode(batch["input_ids"][row][mask[row]]).strip() for row in range(3)]
    assert selected == ["Zorb", "the dog ran over the", "Zor"]  # the last token stays, the name in it or not
    assert torch.equal(mask[1], among[1])
    with pytest.raises(InputError, match="2 texts, offsets of shape"):
        of_names(texts[:2], batch["offset_mapping"], NameMatcher(["zorb"]), among=among)


def test_a_name_in_the_last_token_alone_counts_as_none() -> None:
    among = torch.tensor([[True, True, False]])
    mask, found = of_names(["a b Zo"], [[[0, 1], [2, 3], [4, 6]]], NameMatcher(["Zo"]), among=among)
    assert found == [False]
    assert torch.equal(mask, among)
