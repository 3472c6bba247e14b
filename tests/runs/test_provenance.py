from __future__ import annotations

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from audit import __version__
from audit.runs import provenance as module
from audit.runs.provenance import package_versions, provenance, source_state
from audit.runs.schema import Provenance


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "a.py").write_text("A = 1\n")
    _git(tmp_path, "init")
    _git(tmp_path, "add", "audit")
    _git(tmp_path, "commit", "-m", "one")
    return tmp_path


def test_provenance_names_versions_machine_and_command() -> None:
    made = provenance(["palimpsest", "audit", "bad\udcff"], hardware={"gpu": ["H200"]})
    assert made.palimpsest == __version__
    assert made.packages["numpy"] == metadata.version("numpy")
    assert {"torch", "transformers", "scipy"} <= made.packages.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made.created)
    assert made.command == ("palimpsest", "audit", r"bad\udcff")
    assert made.hardware["gpu"] == ["H200"]
    assert made.hardware["cpu"]
    assert made.hardware["cores"] >= made.hardware["cores_allowed"] >= 1
    assert made.hardware["ram_gib"] > 0
    assert Provenance.model_validate_json(made.model_dump_json()) == made


def test_commit_and_dirty_are_those_of_the_code_alone(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a git hook
    commit, dirty = source_state(checkout)
    assert re.fullmatch("[0-9a-f]{40}", commit or "")
    assert dirty is False
    (checkout / "results.json").write_text("{}")
    assert source_state(checkout) == (commit, False)
    (checkout / "audit" / "new.py").write_text("B = 2\n")
    assert source_state(checkout) == (commit, True)
    (checkout / "audit" / "new.py").unlink()
    (checkout / "audit" / "a.py").write_text("A = 2\n")
    assert source_state(checkout) == (commit, True)


def test_a_folder_inside_another_checkout_has_no_commit(checkout: Path) -> None:
    assert source_state(checkout / "audit") == (None, None)


def test_no_commit_yet_or_no_git_is_told_as_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = checkout / "audit"
    _git(empty, "init")
    assert source_state(empty) == (None, None)
    monkeypatch.setenv("PATH", "")
    assert source_state(checkout) == (None, None)
    monkeypatch.setattr(module, "_SOURCE", checkout)
    assert provenance(["palimpsest"]).commit is None


def test_packages_that_are_not_installed_are_left_out() -> None:
    assert package_versions(["pydantic", "no-such-package-here"]) == {"pydantic": metadata.version("pydantic")}
