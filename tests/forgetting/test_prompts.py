"""Prompts break off where a new name is due; sets never share a passage; a user's file is read or refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import DataError, InputError
from audit.forgetting.prompts import (
    CutPlan,
    Passage,
    Prompt,
    cut_passages,
    gap_after,
    make_prompts,
    read_prompts,
    split_prompts,
)
from audit.forgetting.terms import Terms, canonical
from audit.testbed.world import build_world

STORY = Passage(
    "one", "Long ago the old king slept. In the end he met Zorbla near the gate, and Zorbla spoke to Quentis."
)


def test_a_cut_stands_before_each_name_that_was_not_mentioned() -> None:
    first, second = make_prompts([STORY], ["Zorbla", "Quentis"])
    assert (first.text, first.references, first.expected) == (
        "Long ago the old king slept. In the end he met",
        (),
        ("Zorbla",),
    )
    assert (second.references, second.expected) == (("Zorbla",), ("Quentis",))
    assert second.text.endswith("and Zorbla spoke to")


def test_a_prompt_starts_with_a_sentence_within_reach_and_else_with_a_word() -> None:
    [prompt] = make_prompts([STORY], ["Zorbla"], plan=CutPlan(min_words=3, max_words=8))
    assert prompt.text == "In the end he met"
    first, again = make_prompts([STORY], ["Zorbla"], plan=CutPlan(min_words=3, max_words=4))
    assert first.text == "the end he met"
    assert again.text == "near the gate, and"  # the first mention is out of reach


def test_every_prompt_of_a_planted_book_goes_on_with_its_name_and_does_not_hold_it() -> None:
    world = build_world("tiny")
    passages = [Passage(chapter.id, chapter.text) for chapter in world.chapters_of("forget")]
    names = [name.name for name in world.names if name.role == "forget"]
    prompts = make_prompts(passages, names, plan=CutPlan(max_words=25))
    texts = dict(passages)
    assert len(prompts) > 40
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert f"{prompt.text} {prompt.expected[0]}" in texts[prompt.passage]
        assert prompt.expected[0] not in prompt.text
        assert 6 <= len(prompt.text.split()) <= 25
        assert prompt.references == Terms(tuple(sorted(names, key=len, reverse=True))).found_in(prompt.text)


def test_the_longest_of_names_that_start_alike_is_due() -> None:
    [prompt] = make_prompts([Passage("a", "and so it was that old Tars Tarkas rode")], ["Tars", "Tars Tarkas"])
    assert prompt.expected == ("Tars Tarkas",)


def test_no_cut_is_made_after_an_opening_mark_or_inside_a_longer_word() -> None:
    with pytest.raises(InputError, match="none of the 1 names is due after 6 words"):
        make_prompts([Passage("a", "one two three four five six seven Ronald and eight ( Ron said")], ["Ron"])


def test_what_is_due_follows_its_prompt_in_the_book_letter_for_letter() -> None:
    """Names in any spelling of the same letters; spaced dashes; no cut before the beginning of a longer word."""
    text = unicodedata.normalize(
        "NFD", "One two three four five six seven \u2014 Zoë came. At the end of it all came D\u2019Artan."
    )
    prompts = make_prompts(
        [Passage("a", f"{text} And then there was nobody here but क and काम")], ["Zoë", "D'Artan", "क"]
    )
    assert [canonical(prompt.expected[0]) for prompt in prompts] == ["Zoë", "D'Artan", "क"]
    assert prompts[2].text.endswith("nobody here but")
    for prompt in prompts[:2]:
        assert f"{prompt.text}{gap_after(prompt.text)}{prompt.expected[0]}" in text


def test_a_draw_from_each_passage_replays_and_depends_on_the_seed() -> None:
    text = " ".join(f"word{i} and then came the old Name{i} with five." for i in range(30))
    names = [f"Name{i}" for i in range(30)]
    drawn = [make_prompts([Passage("a", text)], names, plan=CutPlan(per_passage=5, seed=seed)) for seed in (0, 0, 1)]
    assert len(drawn[0]) == 5
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_prompt_that_stands_in_two_passages_is_made_once() -> None:
    prompts = make_prompts([STORY, Passage("two", STORY.text)], ["Zorbla"])
    assert [prompt.passage for prompt in prompts] == ["one"]


@pytest.mark.parametrize("seed", range(5))
def test_sets_share_neither_passage_nor_text(seed: int) -> None:
    prompts = [Prompt(f"{p}-{i}", f"p{p}", f"text {p} {i}") for p in range(10) for i in range(3)]
    prompts += [Prompt(f"same-{p}", f"p{p}", "Everybody knows that") for p in range(10)]
    sets = split_prompts(prompts, validation_share=0.3, seed=seed)
    assert not {p.passage for p in sets.audit} & {p.passage for p in sets.validation}
    assert not {p.text for p in sets.audit} & {p.text for p in sets.validation}
    assert len({p.passage for p in sets.validation}) == 3
    assert sets.n_dropped == 3
    assert len(sets.audit) + len(sets.validation) + sets.n_dropped == len(prompts)


def test_one_passage_cannot_be_split() -> None:
    with pytest.raises(InputError, match="come from 1 passages; expected two or more"):
        split_prompts([Prompt("a", "p", "t"), Prompt("b", "p", "u")], seed=0)
    with pytest.raises(InputError, match="validation_share is 1; expected a number between 0 and 1"):
        split_prompts([], validation_share=1, seed=0)


@given(
    st.lists(st.text("ab \n", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=12), st.integers(1, 20)
)
def test_passages_hold_every_word_of_a_text_once(paragraphs: list[str], n_words: int) -> None:
    text = "\n\n".join(paragraphs)
    passages = cut_passages(text, n_words=n_words)
    assert [word for passage in passages for word in passage.text.split()] == text.split()
    assert all(len(passage.text.split()) >= n_words for passage in passages[:-1])


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"min_words": 0}, "min_words is 0 and max_words 40; expected 1 <= min_words <= max_words"),
        ({"max_words": 5}, "min_words is 6 and max_words 5"),
        ({"per_passage": 0}, "per_passage is 0; expected 1 or more"),
        ({"seed": -1}, "seed is -1; expected 0 or more"),
    ],
)
def test_a_plan_out_of_range_is_refused(plan: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CutPlan(**plan)


def test_a_file_of_prompts_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "Her letter came by owl, and ", "references": ["owl"]}\n\n'
        '{"id": "b", "passage": "x", "prompt": "He met", "references": [], "expected": ["Zorbla"]}\n',
        encoding="utf-8",
    )
    assert read_prompts(path) == [
        Prompt("line-1", "line-1", "Her letter came by owl, and", ("owl",)),
        Prompt("b", "x", "He met", (), ("Zorbla",)),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"}', r"line 1: no field 'references'; it has 'prompt'"),
        ('{"prompt": "a", "references": "owl"}', r"line 1: 'references' is 'owl', not a list of texts"),
        ('{"prompt": "a", "references": [1]}', r"line 1: in the list 'references' is 1, not a text"),
        ('{"prompt": "a", "references": ["?"]}', r"'references' lists '\?', which holds no letter or digit"),
        ('{"prompt": " ", "references": []}', r"line 1: 'prompt' is empty"),
        ('{"prompt": null, "references": []}', r"line 1: 'prompt' is None, not a text"),
        ('{"prompt": "\\ud800", "references": []}', r"'prompt' holds half of a surrogate pair"),
        ('{"prompt": "a", "references": [], "refernces": []}', r"unknown field 'refernces'. Did you mean 'references'"),
        ('{"prompt": "a", "references": []', r"line 1: malformed JSON"),
        ('["a"]', r"line 1: a list, not an object"),
        (
            '{"prompt": "a", "references": [], "id": "x"}\n{"prompt": "b", "references": [], "id": "x"}',
            r"line 2: \"id\" 'x' was used at line 1 already",
        ),
    ],
)
def test_a_malformed_line_is_named_in_one_message(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_prompts(path)


def test_an_empty_file_is_refused_and_a_missing_one_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no prompts"):
        read_prompts(path)
    with pytest.raises(InputError, match="could not read"):
        read_prompts(tmp_path / "none.jsonl")
