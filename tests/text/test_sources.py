"""What lies in a folder: what is read, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.errors import InputError
from audit.text.readers import read_texts
from audit.text.sources import NOTHING, LeftOut, list_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One text in a folder of a folder, and all that can be left out."""
    for name in ("f/sub/a.txt", "f/b.pdf", "f/sub/README", "f/.hidden.txt", "f/.git/c.txt", "elsewhere/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    (tmp_path / "f" / "old").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "f"


def test_everything_in_a_folder_is_read_or_left_out(folder: Path) -> None:
    found, left_out = list_folder(folder, lambda name: name.endswith(".txt"))
    assert found == [folder / "sub" / "a.txt"]
    assert left_out == LeftOut(
        others=(f"{folder}/b.pdf", f"{folder}/sub/README"),
        hidden=(f"{folder}/.git", f"{folder}/.hidden.txt"),
        links=(f"{folder}/old",),
    )


def test_texts_of_a_folder_tell_what_was_left_out(folder: Path) -> None:
    assert read_texts(folder).left_out.others == (f"{folder}/b.pdf", f"{folder}/sub/README")
    assert read_texts(folder / "sub" / "a.txt").left_out == NOTHING


def test_a_folder_that_cannot_be_listed_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(top: Path, onerror: object) -> list[object]:
        assert callable(onerror)
        onerror(PermissionError(13, "Permission denied", str(top / "sub")))
        return []

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(InputError, match="could not read the folder .*/sub: Permission denied"):
        list_folder(folder, bool)


def test_names_are_told_as_they_can_be_printed() -> None:
    assert LeftOut.under(Path("a"), hidden=[".\udcff"]).hidden == ("a/.\\udcff",)
