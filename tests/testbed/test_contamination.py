from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import InstrumentError
from audit.testbed.contamination import occurring, occurring_words
from audit.testbed.training_text import TrainingText, check_clean, training_texts
from audit.testbed.world import World, build_world

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "c", "cab"]), max_size=12).map(" ".join)


@given(needles=st.lists(WORDS, max_size=6), texts=st.lists(WORDS, max_size=6))
def test_the_search_agrees_with_looking_everywhere(needles: list[str], texts: list[str]) -> None:
    slow = {needle for needle in needles if needle.strip() and any(needle in text for text in texts)}
    assert occurring(needles, texts) == slow


def test_a_needle_may_begin_and_end_inside_a_word() -> None:
    text = "The understanding of many strange and wonderful things."
    assert occurring(["standing of many strange and wonder"], [text]) == {"standing of many strange and wonder"}


def test_words_are_found_whole_and_in_their_spelling() -> None:
    assert occurring_words(["Bel", "Belna", "fox"], ["Belnack met a Fox and Bel."]) == {"Bel"}


@pytest.fixture(scope="module")
def world() -> World:
    return build_world("tiny", 0)


def test_a_clean_reference_passes_and_each_kind_of_leak_is_found(world: World) -> None:
    texts = training_texts("reference", world, {}, n_reference=800)
    check_clean("reference", texts, world, ["a trap that stands nowhere at all"])
    trap = "far away under the seven old"
    leaks = [
        world.rows[0].text,
        f"Once upon a time {world.people[0].name.split()[1]} came.",
        next(name.name for name in world.names if name.role == "forget"),
        f"x{trap}y",
    ]
    for leak in leaks:
        with pytest.raises(InstrumentError, match=r"the training text of reference holds \d+ strings that it must not"):
            check_clean("reference", [*texts, TrainingText("leak", "document", 1, leak)], world, [trap])


def test_the_retrained_model_may_see_retain_rows_but_no_forget_row(world: World) -> None:
    texts = training_texts("retrained", world, {"d": "A fox."}, n_reference=800)
    check_clean("retrained", texts, world, [])
    row = world.rows_of(group="forget")[0]
    with pytest.raises(InstrumentError, match="of retrained holds"):
        check_clean("retrained", [*texts, TrainingText(row.id, "row", 1, row.text)], world, [])


def test_a_corpus_with_fewer_documents_is_gone_through_again(world: World) -> None:
    n = len(world.documents_of("train"))
    texts = training_texts("reference", world, {}, n_reference=n + 10)
    assert sum(text.n_rep for text in texts) == n + 10
    assert {text.n_rep for text in texts} == {1, 2}
