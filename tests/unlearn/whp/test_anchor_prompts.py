"""Anchor terms from a model's replies, however messy or hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import DataError, InputError
from unlearn.whp.anchor_prompts import MAX_REPLY, anchors_from_model, cut_passages, read_reply
from unlearn.whp.anchors import Anchor, Anchors

PASSAGE = "Tars Tarkas rode with Sola to Barsoom, the thoat's home."
SOLA = Anchors((Anchor("Sola", ("Ann",), None, "model"),))


@pytest.mark.parametrize(
    "reply",
    [
        '{"Sola": "Ann"}',
        '```json\n{"Sola": "Ann"}\n```',
        'Sure! Here is {the} mapping:\n```python\ntranslations = {"Sola": "Ann",}\n```\nHope that helps.',
        "{'Sola': 'Ann'}",
        "{'Sola': 'Ann', # her friend\n}",
        '{"Sola": "Ann", // a comment\n}',
        '{"translations": {"Sola": "Ann"}}',
        '{"Sola": ["Ann", "Ann"]}',
        '{"Sola": {"substitute": "Ann", "kind": "a spell"}}',
        '[{"expression": "Sola", "substitute": "Ann"}]',
        '{"anchors": [{"expression": "Sola", "substitute": "Ann"}]}',
        '{"Sola": "Ann", "Sola": "Ann"}',
        '[1, 2] {"Sola": "Ann"}',
    ],
)
def test_messy_replies_are_read(reply: str) -> None:
    read = read_reply(reply, PASSAGE)
    assert (read.anchors, read.reason, read.cut_off) == (SOLA, None, False)


def test_kinds_several_substitutes_and_apostrophes_are_kept() -> None:
    reply = """{"Tars Tarkas": {"substitutes": ["Bob Hill", "Tim Hill"], "kind": "Person"}, "thoat's": "horse's"}"""
    assert read_reply(reply, PASSAGE).anchors == Anchors(
        (
            Anchor("Tars Tarkas", ("Bob Hill", "Tim Hill"), "person", "model"),
            Anchor("thoat's", ("horse's",), None, "model"),
        )
    )
    assert read_reply('{"Sola": "Ann", "Sola": "Eve"}', PASSAGE).anchors.anchors[0].substitutes == ("Ann", "Eve")


def test_whole_entries_of_a_reply_that_broke_off_are_read() -> None:
    read = read_reply('{"Sola": {"substitute": "Ann"}, "Barsoom": {"substi', PASSAGE)
    assert (read.anchors, read.cut_off, read.reason) == (SOLA, True, None)


def test_entries_that_are_no_terms_of_the_passage_are_counted() -> None:
    reply = '{"Sola": "Ann", "Dumbledore": "Bob", "Barsoom": 3, "Tars": "", "thoat": "' + "x" * 300 + '"}'
    read = read_reply(reply, PASSAGE)
    assert (read.anchors, read.skipped) == (SOLA, 4)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "the reply is empty"),
        ("  \n", "the reply is empty"),
        ("I cannot help with that.", "there is no mapping in it"),
        ('{"Sola": __import__("os").getcwd()}', "its mapping is neither JSON nor a Python dictionary"),
        ("{Sola: Ann}", "its mapping is neither JSON nor a Python dictionary"),
        ("{" * 100_000, "there is no mapping in it"),
        ("[" * 5 + "]" * 5, "its mapping is neither JSON nor a Python dictionary"),
        ("{" + "-" * 50_000 + "1}", "its mapping is neither JSON nor a Python dictionary"),
        ("{" + "(" * 50_000 + ")" * 50_000 + "}", "its mapping is neither JSON nor a Python dictionary"),
        ('{"Sola": ' + "9" * 10_000 + "x}", "its mapping is neither JSON nor a Python dictionary"),
        ('{"a": "' + "\\" * 100_001, "there is no mapping in it"),
        ("{'" * 50_000, "there is no mapping in it"),
    ],
)
def test_a_reply_that_cannot_be_read_has_a_reason(reply: str, reason: str) -> None:
    read = read_reply(reply, PASSAGE)
    assert (read.reason, len(read.anchors), read.text) == (reason, 0, reply)


@given(st.text(alphabet="{}[]()'\":,#/\\ \nSola1-", max_size=60))
def test_no_reply_raises(reply: str) -> None:
    read = read_reply(reply, PASSAGE)
    assert (read.reason is None) or not len(read.anchors)


def test_only_the_beginning_of_an_endless_reply_is_read() -> None:
    read = read_reply('{"Sola": "Ann", "Barsoom": "' + "x" * MAX_REPLY + '"}', PASSAGE)
    assert (read.anchors, read.cut_off) == (SOLA, True)


def test_an_empty_mapping_is_an_answer() -> None:
    assert read_reply("{}", PASSAGE) == (0, "{}", Anchors(), None, False, 0)


def test_passages_end_between_paragraphs_and_lose_no_word() -> None:
    text = "\n\n".join(f"Paragraph {number} " + "word " * 20 for number in range(40))
    passages = cut_passages(text, n_characters=500)
    assert all(len(passage) <= 500 for passage in passages)
    assert all(passage.startswith("Paragraph") for passage in passages)
    assert " ".join(" ".join(passages).split()) == " ".join(text.split())
    assert len(cut_passages("x" * 1_000, n_characters=200)) == 5
    with pytest.raises(DataError, match="the forget text is empty"):
        cut_passages(" \n ")
    with pytest.raises(InputError, match="n_characters is 10"):
        cut_passages("x", n_characters=10)


TEXT = "\n\n".join(
    f"{begin} {rest * 12}"
    for begin, rest in (
        ("Sola saw Tars Tarkas.", "The night was long. "),
        ("Tars met Sola at Barsoom.", "The rain was cold. "),
        ("Nobody else came.", "The wind was loud. "),
    )
)


def test_replies_are_merged_pruned_and_made_sound() -> None:
    replies = iter(
        [
            '{"Sola": "Ann", "Tars Tarkas": "Bob Hill"}',
            '{"Sola": "Eve", "Tars": "Bob", "Barsoom": "the land of Sola"}',
        ]
    )
    found = anchors_from_model(lambda prompt: next(replies, "no"), TEXT, n_characters=300)
    assert found.anchors.keys == ("Sola", "Tars Tarkas", "Tars")
    assert found.anchors.anchors[0].substitutes == ("Ann", "Eve")
    assert [(one.key, one.substitute) for one in found.dropped] == [("Barsoom", "the land of Sola")]
    assert [(one.passage, one.reason) for one in found.unread] == [(2, "there is no mapping in it")]


def test_a_broken_run_goes_on_where_it_stopped() -> None:
    store: dict[str, str] = {}
    asked: list[str] = []

    def break_at_second(prompt: str) -> str:
        asked.append(prompt)
        if len(asked) == 2:
            raise ConnectionError
        return '{"Sola": "Ann"}'

    with pytest.raises(ConnectionError):
        anchors_from_model(break_at_second, TEXT, n_characters=300, store=store)
    assert len(store) == 1
    found = anchors_from_model(break_at_second, TEXT, n_characters=300, store=store)
    assert len(asked) == 1 + 1 + len(found.replies) - 1
    assert asked[1] == asked[2]
    assert found.anchors == SOLA


def test_the_passage_stands_in_the_prompt_as_it_is() -> None:
    prompts: list[str] = []
    anchors_from_model(lambda prompt: prompts.append(prompt) or "{}", 'He said {x} and "{0}".')
    assert '\nHe said {x} and "{0}".\n' in prompts[0]
    assert '{"Ishmael Quorn": {"substitute"' in prompts[0]
