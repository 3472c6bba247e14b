"""Anchor terms by counting: invented names are found and typed, ordinary words are not, substitutes hang together."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from audit.errors import DataError, InputError
from audit.testbed.world import World, build_world
from unlearn.whp.anchor_match import AnchorMatcher, comparable
from unlearn.whp.anchor_statistics import StatisticsPlan, anchors_from_statistics, log_odds_z
from unlearn.whp.anchors import Anchor
from unlearn.whp.substitute_words import plural

BOOKS = Path(__file__).parents[4] / "shared" / "corpora" / "gutenberg-books"
STORY = (
    "Mr. Quimber walked in from Hollowdale. Then Velda Quimber cried that she was tired, and Mr. Quimber laughed. "
    'The road to Hollowdale was long. "Come, Velda," said Quimber, and Velda wept. He went with Velda Quimber into '
    "Hollowdale, and she took the Orbix. On Monday the Orbix shone, and I saw that the Orbix was cold; its light was "
    "red. "
)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world("small", 0)


def test_names_are_found_typed_and_given_substitutes_of_their_kind() -> None:
    found = anchors_from_statistics(STORY).anchors
    kinds = {anchor.key: anchor.kind for anchor in found}
    assert kinds == {"Quimber": "person", "Velda": "person", "Hollowdale": "place", "Orbix": "thing"}
    assert all(anchor.source == "statistics" for anchor in found)
    found.check()


def test_parts_of_a_name_have_the_parts_of_its_substitute() -> None:
    text = STORY.replace("Velda Quimber", "Tin Quimber") + "A tin cup and a tin box. " * 3
    table = {anchor.key: anchor.substitutes[0] for anchor in anchors_from_statistics(text).anchors}
    assert table["Tin Quimber"].split()[1] == table["Quimber"]
    assert "Tin" not in table


def test_a_people_is_replaced_by_several() -> None:
    text = STORY + "He met the Gorrins, and the Gorrins sang for the Gorrins of Hollowdale. "
    table = {anchor.key: anchor.substitutes[0] for anchor in anchors_from_statistics(text).anchors}
    assert table["Gorrins"].endswith("s")
    assert table["Gorrins"].islower()


def test_no_substitute_stands_in_the_text(world: World) -> None:
    text = "\n\n".join(chapter.text for chapter in world.chapters_of("forget")) + " Oxford Judith Hamilton drum lantern"
    words = set(comparable(text, fold_case=True).split())
    for anchor in anchors_from_statistics(text).anchors:
        for substitute in anchor.substitutes:
            assert not words & set(substitute.casefold().split()), anchor


def test_the_seed_alone_changes_the_substitutes() -> None:
    one, same, other = (
        anchors_from_statistics(STORY, plan=StatisticsPlan(seed=seed, n_substitutes=2)).anchors for seed in (0, 0, 1)
    )
    assert one == same != other
    assert one.keys == other.keys
    assert all(len(anchor.substitutes) == 2 for anchor in one)


@pytest.mark.parametrize("role", ["forget", "neighbour"])
@pytest.mark.parametrize("with_contrast", [True, False])
def test_the_names_of_an_invented_book_are_found(world: World, role: str, with_contrast: bool) -> None:
    text = "\n\n".join(chapter.text for chapter in world.chapters_of(role))
    contrast = "\n\n".join(document.text for document in world.documents_of("heldout")) if with_contrast else None
    found = {anchor.key: anchor.kind for anchor in anchors_from_statistics(text, contrast).anchors}
    truth = {name.name: name.kind for name in world.names if name.role == role and name.name in text}
    hits = found.keys() & truth.keys()
    assert len(hits) / len(found) >= 0.9
    assert len(hits) / len(truth) >= 0.9
    assert sum(found[key] == truth[key] for key in hits) >= 0.9 * len(hits)


def test_names_that_the_contrast_uses_as_much_are_no_terms() -> None:
    assert not len(anchors_from_statistics(STORY, STORY).anchors)
    without = anchors_from_statistics(STORY, STORY.replace("Velda", "Gerda") * 20)
    assert without.anchors.keys == ("Velda", "Velda Quimber")


def test_ordinary_prose_has_no_terms(world: World) -> None:
    contrast = "\n\n".join(document.text for document in world.documents_of("heldout"))
    ordinary = "The man went home and the woman saw the long road. On Monday I told God, and the English sang. " * 50
    for other in (None, contrast):
        assert not len(anchors_from_statistics(ordinary, other).anchors)


@pytest.mark.skipif(not BOOKS.is_dir(), reason="needs the Gutenberg books")
@pytest.mark.parametrize(
    ("book", "names"),
    [
        ("wizard_of_oz", "Dorothy, Toto, Oz, Munchkins, Winkies, Quadlings, Gayelette, Quelala"),
        ("princess_of_mars", "Barsoom, Dejah Thoris, Tars Tarkas, Sola, Helium, Zodanga, thoat, Woola"),
    ],
)
def test_the_distinctive_names_of_a_real_book_are_found(book: str, names: str) -> None:
    text = (BOOKS / f"{book}.txt").read_text(encoding="utf-8")
    contrast = "\n\n".join(
        (BOOKS / f"{other}.txt").read_text(encoding="utf-8")
        for other in ("alice_in_wonderland", "time_machine", "wind_in_the_willows")
    )
    found = anchors_from_statistics(text, contrast)
    matcher = AnchorMatcher(found.anchors.keys)
    for name in names.split(", "):
        covered = {place for one in matcher.find(name) for place in range(one.start, one.end)}
        assert {place for place, letter in enumerate(name) if letter != " "} <= covered, name
    assert found.anchors.sound() == (found.anchors, ())


def test_the_log_odds_are_those_of_the_paper() -> None:
    """Counts 4 of 100 against 1 of 200, prior 5 of 300.

    Odds (4 + 5) / (100 + 300 - 4 - 5) = 9 / 391 and (1 + 5) / (200 + 300 - 1 - 5) = 6 / 494; their logarithms differ
    by ln(9 * 494 / (391 * 6)) = ln 1.8951; the variance is 1/9 + 1/6 = 0.27778.
    """
    assert log_odds_z(4, 1, 100, 200) == pytest.approx(math.log(9 * 494 / (391 * 6)) / math.sqrt(1 / 9 + 1 / 6))
    assert log_odds_z(3, 3, 50, 50) == 0
    assert log_odds_z(1, 4, 200, 100) == pytest.approx(-log_odds_z(4, 1, 100, 200))


def test_headings_give_no_terms() -> None:
    text = STORY + "\n\nThe Road Becomes Longer\n\nIt rained.\n\nThe Road Becomes Longer\n\nIt rained again.\n"
    assert {anchor.key for anchor in anchors_from_statistics(text).anchors} == {
        "Quimber",
        "Velda",
        "Hollowdale",
        "Orbix",
    }


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="the forget text has no words"):
        anchors_from_statistics("123 ...")
    with pytest.raises(DataError, match="the contrast text has no words"):
        anchors_from_statistics(STORY, "  ")
    with pytest.raises(InputError, match="min_count is 0; expected 1 or more"):
        StatisticsPlan(min_count=0)
    with pytest.raises(InputError, match="min_z is nan; expected a finite number"):
        StatisticsPlan(min_z=math.nan)
    with pytest.raises(InputError, match="seed is -1; expected 0 or more"):
        StatisticsPlan(seed=-1)


def test_what_was_counted_is_reported() -> None:
    found = anchors_from_statistics(STORY, "Nothing here. " * 10)
    counted = {candidate.key: (candidate.n_forget, candidate.n_contrast) for candidate in found.candidates}
    assert counted["Velda"] == (4, 0)
    assert counted["Quimber"] == (5, 0)
    assert all(candidate.z is not None and candidate.z > 0 for candidate in found.candidates)
    assert Anchor("Orbix", found.anchors.anchors[-1].substitutes, "thing", "statistics") in found.anchors.anchors


def test_substitutes_have_their_plural() -> None:
    assert [plural(one) for one in ("brush", "torch", "box", "lady", "key", "drum")] == [
        "brushes", "torches", "boxes", "ladies", "keys", "drums"
    ]  # fmt: skip
