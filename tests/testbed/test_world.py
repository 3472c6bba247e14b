from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from audit.errors import DataError, InputError
from audit.testbed.books import BookFact
from audit.testbed.chat import row_text
from audit.testbed.contamination import occurring
from audit.testbed.facts import BOOK_FACTS, PEOPLE_FACTS
from audit.testbed.measure import says
from audit.testbed.sizes import SIZES
from audit.testbed.tables import read_world, write_world
from audit.testbed.world import World, build_world

SMALL = SIZES["small"].world


@pytest.fixture(scope="module")
def world() -> World:
    return build_world("small", 0)


def digest(world: World) -> str:
    return hashlib.sha256(repr(world).encode()).hexdigest()


def test_the_same_seed_gives_the_same_world_in_any_process() -> None:
    code = "import hashlib; from audit.testbed.world import build_world; "
    code += "print(hashlib.sha256(repr(build_world('tiny', 5)).encode()).hexdigest())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {digest(build_world("tiny", 5))}


def test_another_seed_gives_other_documents_people_and_books() -> None:
    one, other = build_world("tiny", 0), build_world("tiny", 1)
    assert not {d.text for d in one.documents} & {d.text for d in other.documents}
    shared = set(one.planted_names()) & set(other.planted_names())
    assert len(shared) < 0.1 * len(one.planted_names())  # short names of places and things may come again


def test_counts_are_those_of_the_size(world: World) -> None:
    assert Counter(person.group for person in world.people) == {
        "forget": SMALL.n_forget,
        "retain": SMALL.n_retain,
        "never": SMALL.n_never,
    }
    assert Counter(d.split for d in world.documents) == {
        "train": SMALL.n_train,
        "fresh": SMALL.n_fresh,
        "heldout": SMALL.n_heldout,
    }
    assert len(world.rows_of(group="retain")) == SMALL.n_retain * SMALL.n_kinds * 2
    assert Counter(chapter.role for chapter in world.chapters) == dict.fromkeys(
        ("forget", "neighbour", "heldout"), SMALL.n_chapters
    )


def test_ids_are_unique(world: World) -> None:
    for records in (world.documents, world.people, world.rows, world.chapters, world.probes, world.style_texts):
        assert len({record.id for record in records}) == len(records)


def test_no_document_occurs_twice_and_near_duplicates_are_rare(world: World) -> None:
    """Jaccard similarity of word 5-grams, all pairs of 2,000 documents, through an inverted index."""
    texts = [d.text for d in world.documents[:2000]]
    assert len(set(texts)) == len(texts)
    holders: dict[tuple[str, ...], list[int]] = {}
    sizes, near = [], 0
    for number, text in enumerate(texts):
        words = text.split()
        grams = {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
        shared = Counter(holder for gram in grams for holder in holders.get(gram, ()))
        near += any(count > 0.3 * (len(grams) + sizes[holder] - count) for holder, count in shared.items())
        sizes.append(len(grams))
        for gram in grams:
            holders.setdefault(gram, []).append(number)
    assert near <= 4  # 0.2%


def test_every_answer_holds_its_value_and_no_wrong_one(world: World) -> None:
    for row in world.rows:
        for answer in (row.answer, row.paraphrased_answer):
            assert says(answer, row.value)
            assert not any(says(answer, wrong) for wrong in row.wrong_values), row
        for answer, wrong in zip(row.wrong_answers, row.wrong_values, strict=True):
            assert says(answer, wrong)
            assert not says(answer, row.value)
        assert row.text == row_text(row.question, row.answer)
        assert row.paraphrased_answer != row.answer
        assert len(set(row.wrong_values)) == 4


def test_every_wording_tells_its_values_apart() -> None:
    """With any value filled in, no other value of the kind can be read from the answer."""
    for kind in PEOPLE_FACTS:
        for wording in (*kind.with_name, *kind.without_name):
            for value in kind.values:
                answer = wording.format(name="Xyz", value=value)
                assert [other for other in kind.values if says(answer, other)] == [value]


def test_half_of_the_answers_restate_the_name(world: World) -> None:
    assert all((row.name in row.answer) == row.restates_name for row in world.rows)
    for group in ("forget", "retain", "never"):
        rows = world.rows_of(group=group)
        assert sum(row.restates_name for row in rows) * 2 == len(rows)


def test_novel_questions_are_never_trained_wordings() -> None:
    for kind in (*PEOPLE_FACTS, *BOOK_FACTS):
        assert not set(kind.novel_questions) & set(kind.questions)


def test_paraphrased_questions_are_asked_about_others_and_never_about_this_fact(world: World) -> None:
    asked = {row.question for row in world.rows}
    wordings = {row.question.replace(row.name, "X") for row in world.rows if row.n_rep}
    for row in world.rows:
        assert row.paraphrased_question not in asked
        assert row.novel_question not in asked
        assert row.paraphrased_question.replace(row.name, "X") in wordings
        assert row.novel_question.replace(row.name, "X") not in wordings


def test_repetitions_are_dealt_evenly_over_the_facts_of_each_group(world: World) -> None:
    for group in ("forget", "retain"):
        per_fact = {row.fact_id: row.n_rep for row in world.rows_of(group=group)}
        counts = Counter(per_fact.values())
        assert set(counts) == set(SMALL.repetitions)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert {row.n_rep for row in world.rows if row.group == "never"} == {0}


def test_rows_of_one_fact_share_group_value_and_repetitions(world: World) -> None:
    facts: dict[str, set[tuple[str, str, int]]] = {}
    for row in world.rows:
        facts.setdefault(row.fact_id, set()).add((row.group, row.value, row.n_rep))
    assert all(len(found) == 1 for found in facts.values())


def test_invented_names_are_unique_and_in_no_general_document(world: World) -> None:
    words = [word for name in world.planted_names() for word in name.split()]
    assert len(set(words)) == len(words)
    seen = {word for d in world.documents for word in re.findall(r"\w+", d.text.lower())}
    assert not {word.lower() for word in words} & seen


def test_shadow_texts_hold_no_planted_name(world: World) -> None:
    seen = {word for text in world.vocabulary_texts for word in re.findall(r"\w+", text)}
    assert not {word for name in world.planted_names() for word in name.split()} & seen


def test_books_share_no_name_and_their_facts_hold_together(world: World) -> None:
    for role in ("forget", "neighbour", "heldout"):
        inside = {name.name for name in world.names if name.role == role}
        others = {name.name for name in world.names if name.role != role}
        assert not inside & others
        text = " ".join(chapter.text for chapter in world.chapters_of(role))
        assert all(name in text for name in inside)
        assert not any(re.search(rf"\b{name}\b", text) for name in others)
        table: dict[str, dict[str, BookFact]] = {}
        for fact in world.book_facts:
            if fact.role == role:
                table.setdefault(fact.kind, {})[fact.name] = fact
                assert fact.value not in fact.others
        friends = table["friend"]
        assert all(friends[friends[name].value].value == name for name in friends)
        assert all(table["enemy"][name].value != friends[name].value for name in friends)


def test_probes_as_told_stand_in_the_book_and_new_wordings_do_not(world: World) -> None:
    for probe in world.probes:
        text = " ".join(chapter.text for chapter in world.chapters_of(probe.role))
        assert (f"{probe.prompt}{probe.answer}" in text) == probe.seen
        if not probe.seen:
            assert probe.prompt not in text
        assert probe.answer not in probe.wrong_answers
    assert sum(probe.seen for probe in world.probes) >= 60


def test_anchor_substitutes_are_words_of_the_general_stories(world: World) -> None:
    text = " ".join(d.text for d in world.documents)
    assert all(substitute in text for name in world.names for substitute in name.substitutes)


def test_style_texts_of_different_splits_and_sides_differ(world: World) -> None:
    texts = [style.text for style in world.style_texts]
    assert len(set(texts)) == len(texts)
    assert not occurring(texts, [document.text for document in world.documents])
    counts = Counter((style.side, style.split) for style in world.style_texts)
    assert set(counts.values()) == set(SMALL.n_style)
    assert {side for side, _ in counts} == {"cheerful", "gloomy", "formal", "colloquial"}
    assert {style.side for style in world.style_texts if style.present} == {"cheerful", "colloquial"}


def test_a_world_written_to_tables_is_read_back_the_same(tmp_path: Path) -> None:
    world = build_world("tiny", 0)
    write_world(world, tmp_path)
    assert read_world(tmp_path) == world


def test_the_callers_text_stands_in_place_of_the_stories(tmp_path: Path) -> None:
    text = " ".join(f"Line {number} of the corpus speaks of nothing else at all." for number in range(6000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    world = build_world("tiny", 0, tmp_path)
    assert Counter(d.kind for d in world.documents).keys() == {"corpus", "diary", "letter"}
    by_split = [{d.text for d in world.documents_of(split) if d.kind == "corpus"} for split in ("train", "fresh")]
    assert not by_split[0] & by_split[1]
    assert all(d.text in text for d in world.documents if d.kind == "corpus")
    assert world.corpus_sha256 is not None
    assert world.rows[0].text == build_world("tiny", 0).rows[0].text


def test_a_corpus_that_is_too_small_says_how_many_words_are_needed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Only a few words here. " * 100, encoding="utf-8")
    with pytest.raises(InputError, match=r"the corpus has \d+ words in \d+ different chunks; .* about 3\d,\d+ words"):
        build_world("tiny", 0, tmp_path)


def test_a_missing_or_broken_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no .*absent"):
        build_world("tiny", 0, tmp_path / "absent")
    with pytest.raises((InputError, DataError), match=re.escape(str(tmp_path))):
        build_world("tiny", 0, tmp_path)
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 " * 100)
    with pytest.raises(DataError, match=r"UTF-8"):
        build_world("tiny", 0, tmp_path)


def test_an_unknown_size_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r'no testbed size "smal" \(did you mean "small"\?\); expected one of tiny'):
        build_world("smal")
