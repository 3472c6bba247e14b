"""The state of a seal where the files cannot be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit.runs.seal.make import seal_run
from dashboards.sealing import seal_of
from dashboards.store import Store


def test_a_file_that_cannot_be_looked_at_leaves_the_seal_unchecked(
    tmp_path: Path, make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_run(make_run(tmp_path / "one"))
    opened = Store(tmp_path).open("one")

    def vanishing(folder: Path, pattern: str) -> Iterator[Path]:
        yield folder / "gone"

    monkeypatch.setattr(Path, "rglob", vanishing)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    seal = seal_of(opened)
    assert seal.state == "unchecked"
    assert "No such file" in seal.says
    assert str(tmp_path) not in seal.says
