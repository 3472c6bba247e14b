"""``palimpsest score``: the numbers, the readers, and work that was interrupted."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import audit.cli.scoring
import audit.membership.parts
from audit.errors import StorageError
from audit.runs.lock import FolderLock
from tests.cli.conftest import Call

ROOT = Path(__file__).parents[2]
COLUMNS = ["id", "n_tokens", "loss", "perplexity", "min_k", "min_k_plus_plus", "zlib"]
TEXTS = ["the cat sat on the mat.", "hill", "Ärger über 東京 </s> <s> and the dog", "the dog ran " * 9]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def oracle(folder: Path, text: str, *, bos: bool, k: float = 0.2) -> dict[str, float]:
    """One text, one forward pass, every formula as the paper writes it, in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    ids = [tokenizer.bos_token_id, *ids] if bos else ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    log_p = torch.log_softmax(logits, dim=-1).numpy()[:-1]
    chosen = np.array([row[token] for row, token in zip(log_p, ids[1:], strict=True)])
    mean = (np.exp(log_p) * log_p).sum(axis=1)
    std = np.sqrt((np.exp(log_p) * (log_p - mean[:, None]) ** 2).sum(axis=1))
    lowest = max(1, math.floor(k * len(chosen)))
    return {
        "n_tokens": len(chosen),
        "loss": -chosen.mean(),
        "perplexity": math.exp(-chosen.mean()),
        "min_k": np.sort(chosen)[:lowest].mean(),
        "min_k_plus_plus": np.sort((chosen - mean) / std)[:lowest].mean(),
        "zlib": chosen.mean() / len(zlib.compress(text.encode())),
    }


@pytest.mark.parametrize(("name", "bos"), [("llama", True), ("plain", False)])
def test_every_score_agrees_with_a_slow_oracle(call: Call, models: Path, tmp_path: Path, name: str, bos: bool) -> None:
    source = jsonl(tmp_path / "in.jsonl", [{"id": f"x{i}", "text": text} for i, text in enumerate(TEXTS)])
    code, out, _ = call("score", models / name, source, "--out", "s.jsonl", "--quiet", "--device", "cpu")
    rows = read("s.jsonl")
    n_tokens = sum(row["n_tokens"] for row in rows)
    assert (code, out) == (0, f"4 texts, {n_tokens} tokens -> s.jsonl\n")
    assert [row["id"] for row in rows] == ["x0", "x1", "x2", "x3"]
    assert list(rows[0]) == COLUMNS
    for row, text in zip(rows, TEXTS, strict=True):
        expected = oracle(models / name, text, bos=bos)
        for column in COLUMNS[1:]:
            assert row[column] == pytest.approx(expected[column], rel=2e-4), (column, text)


def test_the_ratio_is_the_reference_loss_minus_the_loss_and_k_is_used(call: Call, models: Path, texts: Path) -> None:
    call("score", models / "llama", texts, "--out", "a.jsonl", "--reference", models / "qwen2", "--k", 0.5, "--quiet")
    call("score", models / "qwen2", texts, "--out", "b.parquet", "--quiet")
    own, other = read("a.jsonl"), pd.read_parquet("b.parquet")
    assert list(own[0]) == [*COLUMNS, "ratio"]
    assert list(other.columns) == COLUMNS
    for row, loss in zip(own, other["loss"], strict=True):
        assert row["ratio"] == pytest.approx(loss - row["loss"], abs=1e-5)
    expected = oracle(models / "llama", "the cat sat on the mat.", bos=True, k=0.5)
    assert own[0]["min_k"] == pytest.approx(expected["min_k"], rel=1e-4)
    meta = json.loads(Path("a.jsonl.meta.json").read_text(encoding="utf-8"))
    assert meta["k"] == 0.5
    assert meta["notes"] == []
    assert meta["out_sha256"] == hashlib.sha256(Path("a.jsonl").read_bytes()).hexdigest()
    assert set(meta["models"]) == {"subject", "reference"}


def test_a_reference_with_another_tokenizer_is_noted(call: Call, models: Path, texts: Path) -> None:
    code, out, err = call(
        "score", models / "llama", texts, "--out", "a.jsonl", "--reference", models / "plain", "--quiet"
    )
    assert code == 0
    assert "note: the two models cut the texts into different tokens" in err
    code, out, _ = call(
        "score", models / "llama", texts, "--out", "a.jsonl", "--reference", models / "plain", "--quiet", "--json"
    )
    notes = json.loads(out)["notes"]
    assert "different tokens" in notes[0]
    assert notes[1].startswith("the reference's tokenizer has no beginning-of-sequence token")


def test_a_tokenizer_without_a_first_token_is_noted(call: Call, models: Path, texts: Path) -> None:
    code, _, err = call("score", models / "plain", texts, "--out", "a.jsonl", "--quiet")
    assert code == 0
    assert "note: the model's tokenizer has no beginning-of-sequence token, so the first token of each text has" in err
    assert len(json.loads(Path("a.jsonl.meta.json").read_text())["notes"]) == 1


@pytest.mark.parametrize("out", ["s.jsonl", "s.csv", "s.parquet"])
def test_a_perplexity_beyond_any_number_is_left_empty(
    call: Call, llama: Path, texts: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    real = audit.cli.scoring.score_in_parts

    def huge(*arguments: Any, **named: Any) -> Any:
        scores = real(*arguments, **named)
        loss = scores["loss"].to_numpy().copy()
        loss[1] = 800.0
        return scores.set_column(scores.column_names.index("loss"), "loss", pa.array(loss))

    monkeypatch.setattr(audit.cli.scoring, "score_in_parts", huge)
    code, _, err = call("score", llama, texts, "--out", out, "--quiet")
    assert (code, err) == (0, "")
    reader = {".jsonl": lambda p: pd.read_json(p, lines=True), ".csv": pd.read_csv, ".parquet": pd.read_parquet}
    table = reader[Path(out).suffix](out)
    assert list(table["perplexity"].isna()) == [False, True, False, False, False, False]
    assert table["loss"][1] == 800.0


def test_a_strangers_file_among_the_parts_stays(call: Call, llama: Path, texts: Path) -> None:
    Path("s.jsonl.parts", "subject").mkdir(parents=True)
    mine = Path("s.jsonl.parts", "subject", "thesis.tex")
    mine.write_text("mine")
    assert call("score", llama, texts, "--out", "s.jsonl", "--quiet").code == 0
    assert [path for path in Path("s.jsonl.parts").rglob("*") if path.is_file()] == [mine]
    assert call("score", llama, texts, "--out", "s.jsonl", "--quiet", "--limit", 2).code == 0
    assert mine.read_text() == "mine"


def test_an_earlier_meta_never_stays_beside_new_scores(
    call: Call, llama: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("score", llama, texts, "--out", "s.jsonl", "--quiet").code == 0

    def no_space(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(audit.cli.scoring, "write_json", no_space)
        assert call("score", llama, texts, "--out", "s.jsonl", "--quiet", "--limit", 2).code == 2
    assert len(read("s.jsonl")) == 2
    assert not Path("s.jsonl.meta.json").exists()
    assert call("score", llama, texts, "--out", "s.jsonl", "--quiet", "--limit", 2).code == 0
    assert json.loads(Path("s.jsonl.meta.json").read_text())["n_texts"] == 2


def test_a_path_of_texts_that_is_not_utf8_leaves_scores_and_meta(call: Call, llama: Path, texts: Path) -> None:
    texts.rename(os.fsdecode(b"t\xff.jsonl"))
    assert call("score", llama, os.fsdecode(b"t\xff.jsonl"), "--out", "s.jsonl", "--quiet").code == 0
    assert json.loads(Path("s.jsonl.meta.json").read_text())["source"] == "t\\udcff.jsonl"
    assert len(read("s.jsonl")) == 6


def test_truncate_scores_the_first_tokens_and_says_so(call: Call, llama: Path, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "in.jsonl", [{"id": "short", "text": "the cat"}, {"id": "long", "text": "xyz" * 100}])
    code, out, _ = call("score", llama, source, "--out", "s.jsonl", "--truncate", "--quiet")
    rows = {row["id"]: row for row in read("s.jsonl")}
    assert code == 0
    assert ", 1 truncated -> s.jsonl" in out
    assert (rows["short"]["truncated"], rows["long"]["truncated"]) == (False, True)
    assert rows["long"]["n_tokens"] == 127  # the context holds 128, one of them for the beginning-of-sequence token


@pytest.mark.parametrize(
    ("name", "write", "ids"),
    [
        ("in.jsonl", lambda p: jsonl(p, [{"id": 7, "text": "the cat"}, {"id": "b", "text": "a dog"}]), ["7", "b"]),
        ("in.jsonl", lambda p: jsonl(p, [{"text": "the cat"}, {"text": "a dog"}]), ["1", "2"]),
        (
            "in.jsonl.gz",
            lambda p: p.write_bytes(gzip.compress(b'{"text": "the cat"}\n{"text": "a dog"}\n')),
            ["1", "2"],
        ),
        ("in.json", lambda p: p.write_text('[{"text": "the cat"}, {"text": "a dog"}]'), ["1", "2"]),
        ("in.csv", lambda p: p.write_text('id,text\nu,"the cat"\nv,a dog\n'), ["u", "v"]),
        ("in.tsv", lambda p: p.write_text("id\ttext\nu\tthe cat\nv\ta dog\n"), ["u", "v"]),
        (
            "in.parquet",
            lambda p: pd.DataFrame({"id": ["u", "v"], "text": ["the cat", "a dog"]}).to_parquet(p),
            ["u", "v"],
        ),
        ("in.txt", lambda p: p.write_text("the cat\na dog"), ["in.txt"]),
    ],
)
def test_every_format_is_read(call: Call, llama: Path, tmp_path: Path, name: str, write: Any, ids: list[str]) -> None:
    write(tmp_path / name)
    code, _, err = call("score", llama, name, "--out", "s.jsonl", "--quiet")
    assert (code, err) == (0, "")
    assert [row["id"] for row in read("s.jsonl")] == ids


def test_folders_units_fields_and_limits(call: Call, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.txt").write_text("the cat\na dog\n")
    (tmp_path / "in" / "deep" / "a.txt").write_text("hill")
    assert call("score", llama, "in", "--out", "s.jsonl", "--quiet").code == 0
    assert [row["id"] for row in read("s.jsonl")] == ["b.txt", "deep/a.txt"]
    assert call("score", llama, "in", "--unit", "line", "--out", "s.jsonl", "--quiet").code == 0
    assert [row["id"] for row in read("s.jsonl")] == ["b.txt:1", "b.txt:2", "deep/a.txt:1"]
    jsonl(tmp_path / "in.jsonl", [{"body": "the cat", "key": "k1"}, {"body": "a dog", "key": "k2"}])
    arguments = ("in.jsonl", "--field", "body", "--id-field", "key", "--limit", 1)
    code, out, _ = call("score", llama, *arguments, "--out", "s.jsonl", "--quiet")
    assert (code, out) == (0, f"1 text, {read('s.jsonl')[0]['n_tokens']} tokens -> s.jsonl\n")
    assert [row["id"] for row in read("s.jsonl")] == ["k1"]


def test_skipped_lines_are_named_and_recorded(call: Call, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"id": "a", "text": "the cat"}\n{"id": \n{"id": "c", "text": "\xff"}\n')
    code, out, err = call("score", llama, "in.jsonl", "--out", "s.jsonl", "--skip-bad-lines", "--quiet")
    assert code == 0
    assert out.startswith("1 text, ")
    assert ", 2 records skipped -> s.jsonl" in out
    assert "skipped line 2: malformed JSON" in err
    assert "skipped line 3: byte 0xff" in err
    meta = json.loads(Path("s.jsonl.meta.json").read_text(encoding="utf-8"))
    assert [skipped["line"] for skipped in meta["skipped"]] == [2, 3]
    assert meta["n_skipped"] == 2
    assert meta["n_texts"] == 1


def test_many_skipped_lines_do_not_flood_the_screen(call: Call, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "the cat"}\n' + "no\n" * 500)
    code, out, err = call("score", llama, "in.jsonl", "--out", "s.jsonl", "--skip-bad-lines", "--quiet")
    assert code == 0
    assert len(err.splitlines()) == 21
    assert "and 480 more; s.jsonl.meta.json will name them all" in err
    assert ", 500 records skipped" in out


def test_hostile_ids_are_kept_in_the_file_and_never_reach_the_terminal(call: Call, llama: Path, tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[31m\u202eevil\npalimpsest: all is well"
    jsonl(tmp_path / "in.jsonl", [{"id": evil, "text": "xyz" * 100}, {"id": "=1+1", "text": "the cat"}])
    code, _, err = call("score", llama, "in.jsonl", "--out", "s.jsonl")
    assert code == 2
    assert "\x1b" not in err
    assert "\u202e" not in err
    assert len(err.splitlines()) == 1
    code, out, err = call("score", llama, "in.jsonl", "--out", "s.csv", "--truncate")
    assert code == 0
    assert "\x1b" not in out + err
    with Path("s.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["id"] for row in csv.DictReader(stream)] == [evil, "'=1+1"]


KILLED = """
import os, signal, sys
import audit.membership.parts as parts
from audit.cli.main import main
parts.PART_TEXTS = 2
real, calls = parts.score_tokens, []
def score(*arguments, **named):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
parts.score_tokens = score
main(sys.argv[1:])
"""


def test_a_killed_job_goes_on_and_ends_with_the_same_file(
    call: Call, llama: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six texts in three parts; killed by SIGKILL in the third, so two are not done again."""
    arguments = ["score", str(llama), str(texts), "--quiet", "--device", "cpu", "--out"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments, "killed.parquet"],
        # As many threads as here: other numbers of them may round another way.
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads()), "PATH": ""},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9
    assert not Path("killed.parquet").exists()
    monkeypatch.setattr(audit.membership.parts, "PART_TEXTS", 2)
    real, sizes = audit.membership.parts.score_tokens, []

    def counted(lm: Any, sequences: Any, *rest: Any, **named: Any) -> Any:
        sizes.append(len(sequences))
        return real(lm, sequences, *rest, **named)

    monkeypatch.setattr(audit.membership.parts, "score_tokens", counted)
    assert call(*arguments, "killed.parquet").code == 0
    assert sizes == [2]
    assert call(*arguments, "whole.parquet").code == 0
    assert sizes == [2, 2, 2, 2]
    assert Path("killed.parquet").read_bytes() == Path("whole.parquet").read_bytes()
    assert not list(Path().glob("*.parts"))


def test_an_interrupted_job_keeps_its_parts_and_another_job_is_refused_there(
    call: Call, llama: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.membership.parts, "PART_TEXTS", 2)
    real, calls = audit.membership.parts.score_tokens, []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(audit.membership.parts, "score_tokens", interrupted)
    code, _, err = call("score", llama, texts, "--out", "s.jsonl", "--quiet")
    assert code == 3
    assert "interrupted; what was finished is kept" in err
    assert [path.name for path in Path().rglob("part-*")] == ["part-000000.parquet"]
    code, _, err = call("score", llama, texts, "--out", "s.jsonl", "--quiet", "--k", 0.5)
    assert code == 2
    assert "the plan, the data or the model differ" in err
    assert [path.name for path in Path().rglob("part-*")] == ["part-000000.parquet"]
    assert call("score", llama, texts, "--out", "s.jsonl", "--quiet", "--k", 0.5, "--restart").code == 0
    assert len(read("s.jsonl")) == 6


def test_two_jobs_for_one_file_are_refused(call: Call, llama: Path, texts: Path) -> None:
    Path("s.jsonl.parts").mkdir()
    lock = FolderLock(Path("s.jsonl.parts"))
    lock.acquire()
    code, _, err = call("score", llama, texts, "--out", "s.jsonl", "--quiet")
    lock.release()
    assert code == 2
    assert "s.jsonl.parts is in use by" in err
    assert call("score", llama, texts, "--out", "s.jsonl", "--quiet").code == 0
