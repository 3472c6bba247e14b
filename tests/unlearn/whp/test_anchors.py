"""Anchor terms: merged, pruned, and every problem named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import DataError
from unlearn.whp.anchor_match import AnchorMatcher, comparable
from unlearn.whp.anchors import Anchor, Anchors, joined


def make(**table: str | tuple[str, ...]) -> Anchors:
    return Anchors(tuple(Anchor(key, (texts,) if isinstance(texts, str) else texts) for key, texts in table.items()))


def found(keys: list[str], text: str, *, fold_case: bool = False) -> list[str]:
    return [text[one.start : one.end] for one in AnchorMatcher(keys, fold_case=fold_case).find(text)]


def test_merging_keeps_every_distinct_substitute_in_order() -> None:
    one = Anchors((Anchor("Barsoom", ("Norland", "Westland"), None, "user"),))
    two = Anchors((Anchor("Barsoom", ("Westland", "Eastland"), "place", "model"), Anchor("Sola", ("Ann",))))
    merged = one.merged(two)
    assert merged.anchors == (
        Anchor("Barsoom", ("Norland", "Westland", "Eastland"), "place", "user, model"),
        Anchor("Sola", ("Ann",)),
    )


def test_keys_that_look_alike_are_one_key() -> None:
    merged = make(**{"Zoe\u0301  Ha\u2019l": "Ann"}).merged(make(**{"Zo\u00e9 Ha'l": "Eve"}))
    assert [anchor.substitutes for anchor in merged] == [("Ann", "Eve")]
    assert len(make(Sola="Ann").merged(make(sola="Eve"))) == 2
    assert len(make(Sola="Ann").merged(make(sola="Eve"), fold_case=True)) == 1


def test_possessives_and_composed_keys_are_pruned() -> None:
    anchors = make(
        **{"Sola": "Ann", "Sola's": "Eve's", "Tars Tarkas": "X Y", "Tars": "X", "Tal Hajus": "B", "Hajus": "C"}
    )
    assert anchors.pruned().keys == ("Sola", "Tars Tarkas", "Tars", "Tal Hajus", "Hajus")
    assert make(**{"Tars Tarkas": "X Y", "Tars": "X", "Tarkas": "Y"}).pruned().keys == ("Tars", "Tarkas")
    assert make(**{"Sola's": "Eve's"}).pruned().keys == ("Sola's",)


def test_what_a_person_wrote_stays_as_it_is_and_what_was_found_gives_way() -> None:
    own = make(**{"Tars Tarkas": "Bob Hill", "Sola": "Ann"})
    model = make(**{"Sola": "Eve", "Ann": "Joan", "Tars": "Tim", "Sola's": "Eve's", "Tal Hajus": ("Sola", "Tom")})
    statistics = make(**{"Tarkas": "Jones", "Tars": "Jim"})
    whole = joined([own], [model, statistics])
    assert {anchor.key: anchor.substitutes for anchor in whole.anchors} == {
        "Tars Tarkas": ("Bob Hill",),
        "Sola": ("Ann",),
        "Tars": ("Tim", "Jim"),
        "Tal Hajus": ("Tom",),
        "Tarkas": ("Jones",),
    }
    assert (whole.pruned, whole.overruled) == (("Sola's",), ("Ann",))
    assert [(one.key, one.substitute) for one in whole.dropped] == [("Tal Hajus", "Sola")]
    with pytest.raises(DataError, match="the files to be merged: 2 problems"):
        joined([make(A="B"), make(B="A")], [])


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        (Anchors(), "there are no anchor terms"),
        (make(**{" ": "Ann"}), "anchor ' ': empty"),
        (make(**{"394": "Ann"}), "anchor '394': no letter in it"),
        (make(Sola=()), "anchor 'Sola': no substitutes"),
        (make(Sola=""), "anchor 'Sola', substitute '': empty"),
        (make(Sola="Sola"), "equal to its key"),
        (make(Sola="Tars", Tars="Sola"), "a cycle: it holds the key 'Tars', which leads back to this one"),
        (make(A="B", B="C", C="A"), "3 problems"),
        (make(Sola="young Sola"), "a cycle: it holds the key 'Sola'"),
        (make(Sola="Tars", Tars="Bob"), "anchor 'Sola', substitute 'Tars': it holds the key 'Tars'. Give"),
        (make(Sola="the friend of Tars's", Tars="Bob"), "it holds the key 'Tars'"),
        (make(**{"Sola": "Ann", "Sola ": "Eve"}), "anchor 'Sola ': the same key as 'Sola'"),
        (make(**{"a" * 201: "Ann"}), "201 characters; a term has at most 200"),
        (make(**{"So\x1bla": "Ann"}), r"it holds '\x1b'"),
        (make(Sola="\ud800"), r"it holds '\ud800'"),
    ],
)
def test_a_problem_is_named_with_its_anchor(anchors: Anchors, message: str) -> None:
    with pytest.raises(DataError) as raised:
        anchors.check(source="terms.toml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("terms.toml: ")


def test_case_matters_only_where_it_is_folded() -> None:
    anchors = make(Sola="Ann", SOLA="Eve")
    anchors.check()
    with pytest.raises(DataError, match="the same key as 'Sola'"):
        anchors.check(fold_case=True)
    make(Sola="sola").check()
    with pytest.raises(DataError, match="equal to its key"):
        make(Sola="sola").check(fold_case=True)


def test_a_substitute_may_hold_a_key_inside_a_longer_word() -> None:
    make(Sola="Solange").check()


def test_what_is_unfit_is_dropped_until_nothing_is() -> None:
    anchors = make(Sola=("Tars", "Ann"), Tars="Sola", Barsoom="", Thark="Norland")
    sound, dropped = anchors.sound()
    assert sound == make(Sola="Ann", Thark="Norland")
    assert [(one.key, one.substitute) for one in dropped] == [("Sola", "Tars"), ("Tars", "Sola"), ("Barsoom", "")]


KEYS = st.text(alphabet="abé\u0301ß' A", min_size=0, max_size=5)


@given(st.dictionaries(KEYS, st.lists(KEYS, max_size=3).map(tuple), max_size=8), st.booleans())
def test_sound_anchors_have_no_problem_and_merging_twice_changes_nothing(
    table: dict[str, tuple[str, ...]], fold_case: bool
) -> None:
    sound, dropped = make(**table).sound(fold_case=fold_case)
    assert not sound.problems(fold_case=fold_case)
    assert bool(dropped) or len(sound) == len({comparable(key, fold_case=fold_case) for key in table})
    assert sound.merged(sound, fold_case=fold_case) == sound


@pytest.mark.parametrize(
    ("keys", "text", "expected"),
    [
        (["Harry", "Harry Potter"], "Harry Potter met Harry.", ["Harry Potter", "Harry"]),
        (["Harry"], "Harry's Harryx xHarry _Harry Harry-like 'Harry'", ["Harry", "Harry", "Harry"]),
        (["Harry Potter"], "Harry\nPotter, Harry \n Potter, Harry\n\nPotter", ["Harry\nPotter", "Harry \n Potter"]),
        (["O'Neil"], "O\u2019Neil", ["O\u2019Neil"]),
        (["Zo\u00e9"], "Zoe\u0301 Zoe\u0301\u0301", ["Zoe\u0301"]),
        (["哈利"], "说哈利来", ["哈利"]),
        (["a.b", "("], "axb a.b (", ["a.b", "("]),
        (["ab cd", "cd ef"], "ab cd ef", ["ab cd"]),
        (["ab cd e", "cd"], "ab cd ex", ["cd"]),
    ],
)
def test_keys_are_found_as_whole_words_the_longest_first(keys: list[str], text: str, expected: list[str]) -> None:
    assert found(keys, text) == expected


def test_folded_case_keeps_the_offsets_of_the_text() -> None:
    assert found(["STRASSE", "harry"], "die Straße von HARRY", fold_case=True) == ["Straße", "HARRY"]
    assert found(["s"], "ß", fold_case=True) == []


def test_neighbours_outside_the_text_count_for_the_boundary() -> None:
    matcher = AnchorMatcher(["Harry"])
    assert matcher.find("Harry", before=" ", after="'")
    assert not matcher.find("Harry", before="x")
    assert not matcher.find("Harry", after="s")


@given(st.lists(st.text(alphabet="ab ", min_size=1, max_size=4), max_size=5), st.text(alphabet="ab c", max_size=30))
def test_finding_agrees_with_a_slow_search(keys: list[str], text: str) -> None:
    """The slow one tries every key at every place. Runs of spaces are left out: there one key has many spellings."""
    text = " ".join(text.split())
    wanted = {" ".join(key.split()) for key in keys} - {""}
    expected, place = [], 0
    while place < len(text):
        fits = [
            key
            for key in wanted
            if text.startswith(key, place)
            and not (place and text[place - 1] != " ")
            and text[place + len(key) : place + len(key) + 1] in ("", " ")
        ]
        if fits:
            expected.append(max(fits, key=len))
            place += len(expected[-1])
        else:
            place += 1
    assert found(keys, text) == expected
