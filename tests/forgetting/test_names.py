"""Names of a planted book are found, all of them and nothing else."""

from __future__ import annotations

import pytest

from audit.errors import InputError
from audit.forgetting.names import find_names
from audit.testbed.world import World, build_world


@pytest.fixture(scope="module")
def world() -> World:
    return build_world("tiny")


@pytest.mark.parametrize("role", ["forget", "neighbour", "heldout"])
def test_the_names_of_a_planted_book_are_found_and_no_other_word(world: World, role: str) -> None:
    book = [chapter.text for chapter in world.chapters_of(role)]
    contrast = [document.text for document in world.documents_of("heldout")]
    contrast += [chapter.text for chapter in world.chapters if chapter.role != role]
    told = {name.name for name in world.names if name.role == role and any(name.name in text for text in book)}
    found = set(find_names(book, contrast, min_count=1))
    assert found <= told
    assert len(found) >= 0.9 * len(told)


def test_a_text_against_itself_has_no_names(world: World) -> None:
    book = [chapter.text for chapter in world.chapters_of("forget")]
    assert find_names(book, book, min_count=1) == ()


def test_capitals_at_sentence_starts_and_words_also_written_small_are_no_names() -> None:
    text = "Gently it fell. Gently. The Ash saw Zorbla's ash, and Zorbla wept. Perhaps Zorbla knew. Perhaps."
    assert find_names([text], ["nothing here"]) == ("Zorbla",)


def test_a_name_of_the_contrast_text_is_left_out_in_any_case() -> None:
    text = "With Zorbla came Harry. So Zorbla and Harry met."
    assert find_names([text], ["HARRY went"]) == ("Zorbla",)


def test_names_rarer_than_asked_are_left_out() -> None:
    with pytest.raises(InputError, match="min_count is 0; expected a whole number of at least 1"):
        find_names(["x"], ["y"], min_count=0)
    assert find_names(["With Zorbla."], ["y"], min_count=2) == ()
