"""Bad input to ``palimpsest score``: one clear message, exit code 2, before the model is loaded."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit.cli.scoring
import audit.text.files
from tests.cli.conftest import Call

ROOT = Path(__file__).parents[2]
Refused = Callable[..., str]


@pytest.fixture
def no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights may not be loaded: what is wrong must be found before."""

    def load(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(audit.cli.scoring, "load", load)


def line(identifier: object, text: object) -> bytes:
    return json.dumps({"id": identifier, "text": text}).encode() + b"\n"


@pytest.mark.usefixtures("no_load")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ["in.jsonl is empty"]),
        (b"\n\n", ["in.jsonl holds no records"]),
        (line("a", "x") + b'{"id": "b", "te\n', ["1 of 2 records", "line 2: malformed JSON", "--skip-bad-lines"]),
        (b'{"id": "a", "txet": "x"}\n', ["has no field 'text'", "Did you mean 'txet'", "--field"]),
        (line("a", "x") + line("b", 5), ["line 2: 'text' is 5 (int), not a text"]),
        (line("a", "x") + line("b", None), ["line 2: 'text' is null"]),
        (line("a", "x") + b"[1, 2]\n", ["line 2: a list, not an object"]),
        (line("a", "x") + b'{"id": "b", "text": "\xe9"}\n', ["line 2: byte 0xe9", "not UTF-8"]),
        (line("a", "x") + line("a", "y"), ["line 2", "'a' was used at line 1 already"]),
        (line("", "x"), ["line 1: 'id' is empty"]),
        (line("a", "x" * 2_000_000), ["text 'a' has 2,000,000 tokens", "accepts at most 127", "--truncate"]),
        ("{}\n".encode("utf-16"), ["UTF-16", "Save it as UTF-8"]),
    ],
    ids=range(12),
)
def test_bad_texts_are_named(refused: Refused, llama: Path, content: bytes, says: list[str]) -> None:
    Path("in.jsonl").write_bytes(content)
    message = refused("score", llama, "in.jsonl", "--out", "s.jsonl")
    for part in says:
        assert part in message
    assert sorted(os.listdir()) == ["in.jsonl"]


@pytest.mark.usefixtures("no_load")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--k", "0"], "--k is 0.0; expected above 0 and at most 1"),
        (["--limit", "0"], "--limit is 0; expected 1 or more"),
        (["--dtype", "int8"], 'dtype is "int8"; expected one of auto, float32'),
        (["--device", "tpu"], 'no device "tpu"; expected auto, cpu'),
        (["--device", "cuda:97"], "cuda:97"),
        (["--unit", "word"], '--unit is "word"; expected file, line or paragraph'),
        (["--token-budget", "0"], "--token-budget is 0; expected 1 or more"),
        (["--id-field", "nmae"], "has no field 'nmae'"),
        (["--reference", "no/such/folder"], "no folder no/such/folder"),
        (["--revision", "main"], "revision 'main' was given with the folder"),
        (["--adapter", "./none"], "no adapter folder none"),
    ],
)
def test_bad_flags_are_named(refused: Refused, llama: Path, texts: Path, flags: list[str], says: str) -> None:
    assert says in refused("score", llama, texts, "--out", "s.jsonl", *flags)
    assert sorted(os.listdir()) == ["texts.jsonl"]


@pytest.mark.usefixtures("no_load")
@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("none/s.jsonl", "there is no folder"),
        ("s", "--out s ends in nothing; expected one of .parquet"),
        ("folder.jsonl/..", "is a folder. Give the path of a file"),
        ("s\udcff.csv", "--out s\\udcff.csv is not UTF-8"),
        ("taken.csv", "taken.csv.meta.json would be written as well, and the one that is there is not from Palimpsest"),
        ("linked.csv", "linked.csv.parts, where parts are kept meanwhile, is a link to somewhere else"),
        ("half.csv", "half.csv.parts/subject, where parts are kept meanwhile, is a link to somewhere else"),
        ("s.xlsx", "--out s.xlsx ends in .xlsx"),
        ("folder.jsonl", "--out folder.jsonl is a folder. Give the path of a file"),
        ("texts.jsonl", "is the file of texts, which would be lost"),
        ("texts.jsonl/s.csv", "there is no folder"),
        ("/proc/s.csv", "could not create the folder /proc/s.csv.parts"),
    ],
)
def test_an_out_that_cannot_be_written_is_refused_at_once(
    refused: Refused, llama: Path, texts: Path, out: str, says: str
) -> None:
    for folder in ("folder.jsonl", "elsewhere", "half.csv.parts"):
        Path(folder).mkdir()
    Path("taken.csv.meta.json").write_text('{"mine": 1}')
    Path("linked.csv.parts").symlink_to("elsewhere")
    Path("half.csv.parts", "subject").symlink_to(Path("elsewhere").absolute())
    before = texts.read_bytes()
    assert says in refused("score", llama, texts, "--out", out)
    assert texts.read_bytes() == before
    assert Path("taken.csv.meta.json").read_text() == '{"mine": 1}'
    assert os.listdir("elsewhere") == []


@pytest.mark.usefixtures("no_load")
def test_texts_that_stand_where_the_meta_goes_are_not_overwritten(refused: Refused, llama: Path, texts: Path) -> None:
    texts.rename("q.csv.meta.json")
    message = refused("score", llama, "q.csv.meta.json", "--out", "q.csv")
    assert "q.csv.meta.json is the file of texts, which would be lost" in message


@pytest.mark.usefixtures("no_load")
def test_bad_models_are_named(refused: Refused, models: Path, texts: Path, tmp_path: Path) -> None:
    def message(model: object) -> str:
        return refused("score", model, texts, "--out", "s.jsonl")

    assert "Did you mean 'llama'?" in message(models / "lama")
    assert "texts.jsonl is a file; expected the folder" in message(texts)
    assert "the model's name is empty" in message("")
    shutil.copytree(models / "llama", tmp_path / "pickle")
    (tmp_path / "pickle" / "model.safetensors").rename(tmp_path / "pickle" / "pytorch_model.bin")
    assert "only as a pickle (pytorch_model.bin)" in message("pickle")
    (tmp_path / "empty").mkdir()
    assert "empty holds no config.json" in message("empty")
    assert not list(Path().glob("*.parts"))


def test_a_cut_off_checkpoint_is_named(refused: Refused, llama: Path, texts: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "cut")
    os.truncate(tmp_path / "cut" / "model.safetensors", 5_000)
    message = refused("score", "cut", texts, "--out", "s.jsonl", "--quiet")
    assert "model.safetensors is not a whole safetensors file" in message
    assert not list(Path().glob("*.parts"))


@pytest.mark.usefixtures("no_load")
def test_a_model_compared_with_itself_is_refused(refused: Refused, llama: Path, texts: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "copy")
    for reference in (llama, "copy"):
        message = refused("score", llama, texts, "--out", "s.jsonl", "--reference", reference)
        assert "has the same weights as the model" in message
        assert "every ratio would be 0" in message


@pytest.mark.usefixtures("no_load")
def test_wrong_paths_of_texts_are_named(refused: Refused, llama: Path, texts: Path) -> None:
    def message(source: str) -> str:
        return refused("score", llama, source, "--out", "s.jsonl")

    assert "there is no 'text.jsonl' in the working folder." in message("text.jsonl")
    assert "Did you mean 'texts.jsonl'?" in message("text.jsonl")
    Path("folder").mkdir()
    Path("folder", "a.md").write_text("x")
    assert "a folder without .txt files: it holds files named *.md" in message("folder")
    assert "nothing is fetched from addresses. Download the file" in message("https://example.org/a.jsonl")
    Path("a.docx").write_text("x")
    assert "the extension '.docx' is not known" in message("a.docx")


@pytest.mark.usefixtures("no_load")
def test_a_text_without_identifier_is_named_by_its_line(refused: Refused, llama: Path) -> None:
    Path("in.jsonl").write_text(json.dumps({"text": "x" * 1_000}) + "\n")
    assert "text 'line 1' has 1,000 tokens" in refused("score", llama, "in.jsonl", "--out", "s.csv")


NO_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from audit.cli.main import main
main(sys.argv[1:])
"""


def test_a_machine_that_takes_no_file_at_all_is_one_message(llama: Path, texts: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", NO_FILES, "score", llama, texts, "--out", "s.parquet", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("palimpsest: no temporary folder can be written, and torch needs one")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["texts.jsonl"]


def full_disk(monkeypatch: pytest.MonkeyPatch, *, when: Callable[[str], bool]) -> None:
    """Every write whose target ``when`` accepts fails as on a full disk."""
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if when(str(target)):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(audit.text.files.os, "replace", replace)


def test_a_full_disk_loses_nothing_that_was_computed(
    refused: Refused, call: Call, llama: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full_disk(patch, when=lambda target: target.endswith("s.jsonl"))
        message = refused("score", llama, texts, "--out", "s.jsonl", "--quiet")
    assert "could not write s.jsonl: the disk is full; nothing was left behind" in message
    assert "run the same command again" in message
    assert len(list(Path().rglob("part-*.parquet"))) == 1

    def computed_again(*_: object, **__: object) -> None:
        raise AssertionError("a finished part was computed again")

    monkeypatch.setattr("audit.membership.parts.score_tokens", computed_again)
    assert call("score", llama, texts, "--out", "s.jsonl", "--quiet").code == 0
    assert len(Path("s.jsonl").read_text().splitlines()) == 6


LIMITED = """
import resource, sys
import audit.cli.score, audit.cli.scoring
from audit.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_real_limit_of_the_system_is_one_message(llama: Path, texts: Path, tmp_path: Path) -> None:
    """No file may grow beyond 1,000 bytes here, so the first part cannot be written."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "score", llama, texts, "--out", "s.parquet", "--quiet", "--device", "cpu"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "part-000000.parquet: the file is larger than the system allows" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["texts.jsonl"]
