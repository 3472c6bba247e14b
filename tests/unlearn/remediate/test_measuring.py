"""What was measured of a model is read again of that model alone."""

from __future__ import annotations

from pathlib import Path

from unlearn.cli.remediate.measuring import _Pieces


def test_a_piece_is_read_again_only_of_what_it_was_made_of(tmp_path: Path) -> None:
    first = _Pieces(tmp_path, "first")
    assert first.kept("battery", lambda: {"n": 1}) == {"n": 1}
    assert first.kept("battery", lambda: {"n": 2}) == {"n": 1}
    remade = _Pieces(tmp_path, "remade")
    assert remade.read("battery") is None
    assert remade.kept("battery", lambda: {"n": 2}) == {"n": 2}
    assert first.read("battery") is None
    assert _Pieces(tmp_path, None).read("battery") == {"n": 2}
