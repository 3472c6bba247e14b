"""Files of anchor terms: they read back as written, and a malformed one has one clear message."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import DataError, InputError
from unlearn.whp.anchor_files import read_anchors, write_anchors
from unlearn.whp.anchors import Anchor, Anchors

ANCHORS = Anchors(
    (
        Anchor('Tars "the Jed" Tarkas', ("Paul Miller", "Mark\\Stone"), "person", "model, user"),
        Anchor("barsoom", ("Norland",), None, "statistics"),
        Anchor("Barsoom", ("Norland",), "place", "user"),
    )
)


@pytest.mark.parametrize("name", ["terms.toml", "terms.json", "TERMS.JSON"])
def test_what_is_written_reads_back_sorted(tmp_path: Path, name: str) -> None:
    write_anchors(tmp_path / name, ANCHORS)
    read = read_anchors(tmp_path / name)
    assert read == ANCHORS.sorted()
    assert read.keys == ("Barsoom", "barsoom", 'Tars "the Jed" Tarkas')
    first = (tmp_path / name).read_bytes()
    write_anchors(tmp_path / name, read)
    assert (tmp_path / name).read_bytes() == first


TERMS = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(st.dictionaries(TERMS, st.tuples(st.lists(TERMS, min_size=1, max_size=3), st.none() | TERMS), max_size=6))
def test_any_sound_dictionary_survives_both_formats(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, tuple[list[str], str | None]]
) -> None:
    anchors, _ = Anchors(tuple(Anchor(key, tuple(texts), kind) for key, (texts, kind) in table.items())).sound()
    if not len(anchors):
        return
    folder = tmp_path_factory.mktemp("terms")
    for name in ("terms.toml", "terms.json"):
        write_anchors(folder / name, anchors)
        assert read_anchors(folder / name) == anchors.sorted()


def test_short_forms_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_text('\ufeff[anchors]\nSola = "Ann"\nBarsoom = ["Norland", "Westland"]\n', encoding="utf-8")
    assert read_anchors(path) == Anchors((Anchor("Sola", ("Ann",)), Anchor("Barsoom", ("Norland", "Westland"))))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.toml", b"[anchors]\nSola = \n", "t.toml is not TOML: Invalid value (at line 2, column 8). Mend that line."),
        ("t.toml", b'[anchors]\nSola = "A"\nSola = "B"\n', "t.toml is not TOML: Cannot overwrite a value (at line 3"),
        ("t.toml", b'[anchors]\nSola = "\xff"\n', "t.toml, line 2: byte 0xff is not UTF-8"),
        ("t.toml", b"[anchors]\nSola = 3\n", "anchor 'Sola': substitutes is 3; expected a text or a list of texts."),
        ("t.toml", b'[anchors]\nSola = ["A", 3]\n', "anchor 'Sola': substitutes is ['A', 3]; expected"),
        (
            "t.toml",
            b'[anchors.Sola]\nsubstitute = "A"\n',
            "'substitute' is unknown; expected substitutes, kind, source.",
        ),
        ("t.toml", b'[anchors.Sola]\nsubstitutes = "A"\nkind = 1\n', "anchor 'Sola': kind is 1; expected a text."),
        ("t.toml", b"[anchors]\nSola = []\n", "t.toml: anchor 'Sola': no substitutes"),
        (
            "t.toml",
            b'[anchors]\nSola = "Tars"\nTars = "Sola"\n',
            "t.toml: 2 problems:\n- anchor 'Sola', subst",
        ),
        ("t.toml", b"[anchors]\n", "t.toml: there are no anchor terms"),
        ("t.toml", b'Sola = "A"\n', 'expected a table "anchors" from keys to substitutes; found none.'),
        ("t.toml", b'other = 1\n[anchors]\nSola = "A"\n', "'other' is unknown here"),
        ("t.json", b'{"anchors": {"Sola": "A",}}', "t.json is not JSON: "),
        ("t.json", b'{"anchors": {"Sola": "A", "Sola": "B"}}', "t.json: 'Sola' stands there twice."),
        ("t.json", b"[" * 100_000, "t.json is nested too deeply"),
        ("t.json", b"[1]", 'expected a table "anchors"'),
        ("t.json", b'{"anchors": {"Sola": "\\ud800"}}', r"it holds '\ud800'"),
    ],
)
def test_a_malformed_file_has_one_clear_message(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_anchors(tmp_path / name)
    assert message in str(raised.value)


def test_a_missing_file_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    (tmp_path / "terms.toml").touch()
    with pytest.raises(InputError, match=r"no file of anchor terms at .*term.toml. Did you mean 'terms.toml'\?"):
        read_anchors(tmp_path / "term.toml")
    with pytest.raises(InputError, match="stand in a .toml or .json file"):
        read_anchors(tmp_path / "terms.yaml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match="could not read"):
        read_anchors(tmp_path / "folder.toml")


def test_what_has_a_problem_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the anchors to be written: anchor 'Sola'"):
        write_anchors(tmp_path / "terms.toml", Anchors((Anchor("Sola", ()),)))
    assert not list(tmp_path.iterdir())
