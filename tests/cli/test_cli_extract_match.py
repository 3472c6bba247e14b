"""``palimpsest extract match`` with the embedded encoder, on generations whose truth is planted."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audit.extraction.sample import SCHEMA
from audit.text.tables import write_parquet
from tests.cli.conftest import Call

pytest.importorskip("sentence_transformers", reason="needs the extra offline")
Refused = Callable[..., str]
NOUNS = ["river", "stone", "lamp", "garden", "letter", "bridge", "window", "market", "engine", "island", "mirror"]
VERBS = ["finds", "paints", "hides", "breaks", "carries", "lifts", "sells", "forgets", "cleans", "draws", "keeps"]
FLAGS = ["--target", "0.1", "--least-words", "4", "--quiet", "--device", "cpu"]


def rows(seed: int, n: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)

    def sentence() -> str:
        return f"the {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)} near the {rng.choice(NOUNS)}"

    return [
        {"id": f"{seed}-{place}", "question": f"what if {sentence()}?", "answer": f"{sentence()} and {sentence()}."}
        for place in range(n)
    ]


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("d1", 1), ("d2", 2)):
        text = "".join(json.dumps(row) + "\n" for row in rows(seed, 60))
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    generations = [
        {"id": f"g{place}", **{side: row[side] for side in ("question", "answer")},
         "whole": f"{row['question']}\n{row['answer']}", "text": row["answer"]}
        for place, row in enumerate(rows(1, 60)[:40])
    ] + [{"id": f"r{place}", "reject": "no assistant marker"} for place in range(10)]  # fmt: skip
    write_parquet(tmp_path / "G.parquet", pa.Table.from_pylist(generations, schema=SCHEMA))
    return tmp_path


def test_rows_that_were_given_back_are_found_and_no_text_is_shown_unasked(call: Call, there: Path) -> None:
    command = [
        "extract",
        "match",
        "G.parquet",
        "--train",
        "d1.jsonl",
        "--held-out",
        "d2.jsonl",
        "--random",
        *FLAGS,
        "--out",
        "run",
    ]
    done = call(*command)
    assert done.code == 0, done.err
    assert "what if" not in done.out
    findings = json.loads((there / "run" / "findings.json").read_text())["sections"][0]["findings"]
    assert findings[0]["verdict"] == "found"
    assert findings[0]["estimates"]["memorisation_rate"]["n"] == 50
    assert (there / "run" / "report.html").is_file()
    assert "what if" not in (there / "run" / "report.html").read_text(encoding="utf-8")
    generations = there / "run" / "items" / "extraction-generations.parquet"
    assert stat.S_IMODE(generations.stat().st_mode) == 0o600
    record = json.loads((there / "run" / "run.json").read_text())
    detail = record["stages"][0]["detail"]
    assert {name: detail[name] for name in ("texts", "truncated", "unseen")} == {
        "texts": 420,
        "truncated": 0,
        "unseen": 0,
    }  # 120 rows in 3 views, the 40 given back among them, and 60 changed rows
    assert set(record["plan"]["inputs"]) == {"generations", "train", "held out", "encoder"}
    again = json.loads(call("runs", "replay", "run", "--json").out)
    assert (again["differences"], again["not_replayed"]) == ([], {})
    assert not list((there / "run").rglob("*.safetensors"))  # the embeddings go with the last stage
    report = there / "run" / "report.html"
    assert "what if" not in call(*command, "--show-text").out
    assert "what if" in report.read_text(encoding="utf-8")
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    call(*command)
    assert "what if" not in report.read_text(encoding="utf-8")
    assert call(*command, "--no-resume").code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["G.parquet", "--train", "d1.jsonl", "--held-out", "nothing.jsonl", "--random"], "nothing.jsonl"),
        (["G.csv", "--train", "d1.jsonl", "--held-out", "d2.jsonl", "--random"], "G.csv"),
        (
            ["d1.jsonl", "--train", "d1.jsonl", "--held-out", "d2.jsonl", "--random"],
            "is neither parsed",
        ),
        (
            ["G.parquet", "--train", "d1.jsonl", "--held-out", "d2.jsonl", "--random", "--target", "0.001"],
            "held-out rows",
        ),
        (
            ["G.parquet", "--train", "d1.jsonl", "--held-out", "d2.jsonl", "--random", "--primary", "all"],
            "extraction.primary is",
        ),
        (
            ["G.parquet", "--train", "d1.jsonl", "--held-out", "d2.jsonl", "--random", "--threshold", "2"],
            "threshold is 2.0",
        ),
        (
            ["G.parquet", "--train", "d1.jsonl", "--held-out", "d2.jsonl", "--random", "--encoder", "none/here"],
            "none/here",
        ),
    ],
)
def test_what_cannot_be_matched_is_refused_with_one_message(
    refused: Refused, there: Path, arguments: list[str], told: str
) -> None:
    assert told in refused("extract", "match", arguments[0], *FLAGS, *arguments[1:], "--out", "refused")
    assert not (there / "refused").exists()
