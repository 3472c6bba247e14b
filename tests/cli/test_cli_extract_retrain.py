"""``palimpsest extract retrain`` from flags to report, on rows whose answers follow from their questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from audit.extraction import retrain as engine
from audit.extraction.sample import SCHEMA
from audit.text.tables import write_parquet
from tests.checkpoints import build_checkpoint
from tests.cli.conftest import Call

Refused = Callable[..., str]
ANSWERS = {"cat": "sat on the mat", "dog": "ran over the hill"}
TRAINING = [
    "--recipe",
    "small",
    "--learning-rate",
    "0.01",
    "--epochs",
    "8",
    "--batch-size",
    "8",
    "--max-tokens",
    "96",
    "--seeds",
    "3",
]
FLAGS = ["--preset", "tulu", "--bos", "--device", "cpu", *TRAINING]
FILES = ["--generations", "G.parquet", "--train", "d1.jsonl", "--held-out", "d2.jsonl"]


def rows(name: str, numbers: range) -> list[dict[str, str]]:
    animals = [("cat", "dog")[number % 2] for number in numbers]
    return [
        {"id": f"{name}-{number}", "question": f"the {animal} {number}", "answer": ANSWERS[animal]}
        for number, animal in zip(numbers, animals, strict=True)
    ]


def write_rows(path: Path, found: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


def write_generations(path: Path, found: list[dict[str, str]], *, rejects: int = 3) -> None:
    parsed: list[dict[str, Any]] = [
        row | {"whole": f"{row['question']}\n{row['answer']}", "prefix_sha256": "of another opening"} for row in found
    ]
    rejected = [{"id": f"r{place}", "reject": "no assistant marker"} for place in range(rejects)]
    write_parquet(path, pa.Table.from_pylist(parsed + rejected, schema=SCHEMA))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "d1.jsonl", rows("row", range(100, 124)))
    again = {"id": "again", "question": "the dog 103", "answer": ANSWERS["dog"]}  # stands in d1
    long = {"id": "long", "question": "the cat 99", "answer": "sat on the mat " * 20}
    write_rows(tmp_path / "d2.jsonl", [*rows("held", range(124, 192)), *rows("held", range(208, 244)), again, long])
    emitted = rows("g", range(192, 208))
    write_generations(tmp_path / "G.parquet", [*emitted, emitted[0] | {"id": "copy"}])
    return tmp_path


def test_rows_that_teach_are_found_and_a_killed_run_goes_on(
    call: Call, there: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    real = engine.train

    def dying(*given: Any, **named: Any) -> Any:
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append(1)
        return real(*given, **named)

    command = ["extract", "retrain", base, *FILES, *FLAGS, "--out", "run", "--keep-models", "models"]
    monkeypatch.setattr(engine, "train", dying)
    killed = call(*command)
    assert killed.code == 3
    assert "Trainings measured: 10 to do" in killed.err
    assert not (there / "run" / "findings.json").exists()
    monkeypatch.setattr(engine, "train", lambda *given, **named: (trained.append(1), real(*given, **named))[1])
    done = call(*command, "--json", "--quiet")
    assert done.code == 0, done.err
    assert len(trained) == 9  # five were left
    assert "sampled after another opening" in done.err
    (section,) = json.loads(done.out)["sections"]
    by_id = {one["id"]: one for one in section["findings"]}
    assert by_id["retraining.overall"]["verdict"] == "found"
    estimate = by_id["retraining.overall"]["estimates"]["extracted_less_shuffled"]
    assert estimate["high"] < 0
    assert estimate["n"] == 104
    assert by_id["retraining.share"]["estimates"]["extracted"]["value"] > 0.5
    told = by_id["retraining.left_out"]["claim"]
    assert "Of 20 generations, 3 were rejected; 16 distinct ones were trained on." in told
    assert "held out rows: 1 (a near-duplicate among the training rows)" in told
    assert "held out rows: 1 (longer than 96 tokens)" in told
    assert [len(table["rows"]) for table in section["tables"]] == [12, 12, 9]
    again = call("runs", "replay", "run")
    assert again.code == 0, again.out
    assert {path.name for path in (there / "models").iterdir()} == {
        f"{arm}-seed{seed}" for arm in ("original", "extracted", "shuffled") for seed in (0, 1, 2)
    }
    run = there / "run"
    record = json.loads((run / "run.json").read_text())
    assert record["kind"] == "retraining"
    assert record["subjects"]["base"]["dtype"] == "float32"
    assert set(record["plan"]["inputs"]) == {"generations", "train", "held out"}
    assert not (run / "parts").exists()
    assert 'base = "' in (run / "plan.toml").read_text()
    assert "palimpsest audit" not in (run / "plan.toml").read_text()
    assert "Retraining on extracted rows" in (run / "report.html").read_text(encoding="utf-8")
    assert call(*command).code == 0
    assert len(trained) == 9
    assert call(*command, "--no-resume").code == 2
    assert "would be lost" in call(*command[:-3], "other", "--keep-models", "models").err


def test_one_training_for_each_arm_concludes_nothing(call: Call, there: Path, base: Path) -> None:
    from transformers import AutoTokenizer

    from audit.testbed.chat import CHAT_TEMPLATE

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = CHAT_TEMPLATE
    build_checkpoint(there / "chat", "llama")
    tokenizer.save_pretrained(there / "chat")
    flags = [*FILES, "--device", "cpu", *TRAINING, "--seeds", "1", "--epochs", "1", "--quiet"]
    done = call("extract", "retrain", base, *flags, "--template-from", there / "chat")
    assert done.code == 4, done.err
    assert "INCONCLUSIVE" in done.out
    assert "One training for each arm shows nothing of how trainings differ" in done.out
    (run,) = (there / "palimpsest-runs").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert record["plan"]["chat"]["assistant"] == "<|end|>\n<|assistant|>\n"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--preset", "tulu", "--seeds", "0"], "--seeds is 0"),
        (["--preset", "tulu", "--level", "1"], "--level is 1"),
        (["--preset", "tulu", "--recipe", "big"], "--recipe is 'big'; expected one of olmo2-sft, small"),
        (["--preset", "tulu", "--learning-rate", "0"], "--learning-rate is 0.0; expected a positive number"),
        (["--preset", "tulu", "--loss-on", "questions"], "--loss-on is 'questions'; expected all or answers"),
        (["--preset", "tulu", "--max-tokens", "1000"], "max_tokens is 1,000"),
        (["--preset", "tulu", "--template-from", "x"], "leave one of them out"),
        (["--preset", "orz-user"], "thinking before its answers"),
        (["--preset", "nothing"], "no preset 'nothing'"),
        (["--template-from", "no/such/model"], "no folder no/such/model"),
        ([], "has no chat template, as most models before post-training"),
        (["--preset", "tulu", "--train", "nothing.jsonl"], "nothing.jsonl"),
        (["--preset", "tulu", "--generations", "d1.jsonl"], "generation 'row-100' is neither parsed"),
        (
            ["--preset", "tulu", "--generations", "none.parquet"],
            "4 generations, 3 of them rejects, give 1",
        ),
        (["--preset", "tulu", "--held-out", "few.jsonl"], "10 held-out rows in 10 clusters can be asked"),
        (["--preset", "tulu", "--held-out", "d1.jsonl"], "24 left out: a near-duplicate among the training rows"),
        (["--preset", "tulu", "--max-tokens", "12"], "24 training rows give 0 rows to train on"),
        (["--preset", "tulu", "--device", "tpu"], 'no device "tpu"'),
        (["--preset", "tulu", "--max-tokens", "96", "--keep-models", "d1.jsonl"], "d1.jsonl is a file"),
        (["--preset", "tulu"], "they count as 30.5 equal clusters, and the verdict needs 100"),  # one row is very long
    ],
)
def test_what_cannot_be_trained_is_refused_with_one_message(
    refused: Refused, there: Path, base: Path, changed: list[str], told: str
) -> None:
    write_rows(there / "few.jsonl", rows("few", range(40, 50)))
    write_generations(there / "none.parquet", rows("g", range(70, 71)))
    command = ["extract", "retrain", base, *FILES, "--device", "cpu", "--quiet", "--out", "refused", *changed]
    assert told in refused(*command).replace("\n", " ")
    assert not (there / "refused").exists()


def test_bases_that_cannot_be_trained_are_refused(refused: Refused, there: Path, base: Path) -> None:
    def tried(model: Path) -> str:
        return refused("extract", "retrain", model, *FILES, *FLAGS, "--out", "refused")

    assert "no folder" in tried(there / "absent")
    for name, change in (("quantised", {"quantization_config": {"quant_method": "gptq"}}), ("adapted", {})):
        build_checkpoint(there / name, "llama")
        config = json.loads((there / name / "config.json").read_text())
        (there / name / "config.json").write_text(json.dumps(config | change))
    (there / "adapted" / "adapter_config.json").write_text("{}")
    assert "quantised weights, which cannot be trained" in tried(there / "quantised")
    assert "adapter_config.json" in tried(there / "adapted")
    assert not (there / "refused").exists()
