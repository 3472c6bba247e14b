"""One way to call the command line, and small things to call it on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from audit.cli.main import main
from tests.checkpoints import build_checkpoint

WORDS = ["the", "cat", "sat", "on", "mat", "and", "dog", "ran", "over", "hill"]


class Answer(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Runs one command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(int(end.value.code or 0), out, err)

    return run


@pytest.fixture
def refused(call: Call) -> Callable[..., str]:
    """Runs a command that must be refused: exit code 2, nothing on standard output, one message and no traceback."""

    def run(*arguments: object) -> str:
        code, out, err = call(*arguments)
        assert code == 2, err
        assert out == ""
        assert "Traceback" not in err
        assert err.count("palimpsest: ") + err.count("Error: ") == 1
        return err

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``llama``, ``qwen2`` (the same tokenizer) and ``plain`` (no beginning-of-sequence token)."""
    root = tmp_path_factory.mktemp("models")
    build_checkpoint(root / "llama", "llama")
    build_checkpoint(root / "qwen2", "qwen2")
    build_checkpoint(root / "plain", "gpt2", bos=False)
    return root


@pytest.fixture(scope="session")
def llama(models: Path) -> Path:
    return models / "llama"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Six texts of 1 to 6 sentences, ids t0 to t5."""
    path = tmp_path / "texts.jsonl"
    rows = [{"id": f"t{i}", "text": " ".join(["the cat sat on the mat."] * (i + 1))} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_traps(path: Path, *, n_decoys: int = 8, n_members: int = 4) -> Path:
    """A table of random word lists: two lengths, one arm of 2 copies."""
    rng = np.random.default_rng(0)
    rows = []
    for length in (8, 12):
        for number in range(n_members + n_decoys):
            member = number < n_members
            rows.append(
                {
                    "trap_id": f"L{length}-{number}",
                    "text": " ".join(rng.choice(WORDS, length)),
                    "arm": "member" if member else "decoy",
                    "n_rep": 2 if member else 0,
                    "length": length,
                    "stratum": f"L{length}",
                }
            )
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture
def plan(tmp_path: Path, models: Path) -> Path:
    """A plan with two tiny models and 24 traps."""
    make_traps(tmp_path / "traps.parquet")
    path = tmp_path / "plan.toml"
    path.write_text(
        f"""
[subject]
model = "{models / "llama"}"
device = "cpu"

[reference]
model = "{models / "qwen2"}"
device = "cpu"

[traps]
table = "traps.parquet"
n_draws = 99
""",
        encoding="utf-8",
    )
    return path
