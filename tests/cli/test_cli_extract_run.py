"""``palimpsest extract run`` and the plan's table ``[extraction]`` on a model that was trained on the rows."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit.cli.audit_extraction
import audit.extraction.stages
from audit.extraction.finetune import Budget, Pair, Recipe, batches, encode_pairs, save, train
from audit.extraction.prefixes import chat_of
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.testbed.planted import Testbed
from tests.cli.conftest import Call
from tests.cli.test_cli_extract_match import rows

pytest.importorskip("sentence_transformers", reason="needs the extra offline")
RECIPE = Recipe(learning_rate=4e-3, epochs=30, batch_size=4, max_tokens=128, clip=1.0)
SAMPLING = ["--bos", "--n", 40, "--max-new-tokens", 100]
FLAGS = ["--target", 0.1, "--least-words", 4, "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def there(testbed_tiny: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with "model", trained on d1.jsonl, its "base", and d2.jsonl, which neither saw."""
    folder = tmp_path_factory.mktemp("extract-run")
    base = testbed_tiny.models["reference"]
    for name, seed in (("d1", 1), ("d2", 3)):
        text = "".join(json.dumps(row) + "\n" for row in rows(seed, 40))
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    lm = load(Subject(str(base), device="cpu"))
    pairs = [Pair(row["id"], row["question"], row["answer"]) for row in rows(1, 40)]
    encoded = encode_pairs(lm, pairs, chat_of(lm), max_tokens=RECIPE.max_tokens, bos=True)
    train(lm, batches(encoded, Budget.of(encoded, RECIPE), seed=0), RECIPE, seed=0)
    save(lm, folder / "model")
    (folder / "base").symlink_to(base)
    return folder


def command(there: Path, out: str, *further: object, base: bool = True) -> list[object]:
    rows_of = ["--train", there / "d1.jsonl", "--held-out", there / "d2.jsonl", "--random"]
    with_base = ["--base", there / "base"] if base else []
    return ["extract", "run", there / "model", *rows_of, *with_base, *SAMPLING, *FLAGS, "--out", out, *further]


def findings(folder: Path) -> dict[str, Any]:
    (section,) = json.loads((folder / "findings.json").read_text())["sections"]
    return {finding["id"]: finding for finding in section["findings"]}


def test_rows_that_a_model_gives_back_are_found_and_its_questions_became_likelier(
    call: Call, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = call(*command(there, "run"))
    assert done.code == 0, done.err
    found = findings(tmp_path / "run")
    assert found["extraction.overall"]["verdict"] == "found"
    difference = found["extraction.likelihood"]["estimates"]["difference"]
    assert difference["low"] > 0
    assert difference["n"] == 80
    assert "prefix template: '<|user|>\\n' = token ids" in done.err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [stage["name"] for stage in record["stages"]] == [
        "extraction.sample.subject",
        "extraction.likelihood.subject",
        "extraction.sample.reference",
        "extraction.likelihood.reference",
        "extraction.match",
    ]
    assert record["plan"]["extraction"]["sampled"]["prefixes"][0]["ids"][0] == 1  # the beginning of sequence
    assert set(record["subjects"]) == {"subject", "reference", "encoder"}
    for name in ("extraction-generations", "extraction-base-generations"):
        assert stat.S_IMODE((tmp_path / "run" / "items" / f"{name}.parquet").stat().st_mode) == 0o600
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "what if" not in done.out + report
    assert "Coverage by number of generations" in report
    assert not (tmp_path / "run" / "parts").exists()
    again = json.loads(call("runs", "replay", "run", "--json").out)
    assert (again["differences"], again["not_replayed"]) == ([], {})

    # The plan that the run keeps says the same as the flags.
    shutil.copy(tmp_path / "run" / "plan.toml", tmp_path / "plan.toml")
    again = call("audit", tmp_path / "plan.toml", "--out", "again", "--quiet")
    assert again.code == 0, again.err
    assert findings(tmp_path / "again") == found

    # Killed after each of its steps and started anew, it ends with the same findings.
    for place, name in (
        (audit.extraction.stages, "scored"),
        (audit.cli.audit_extraction, "audit_extraction"),
        (audit.cli.audit_extraction, "remove_search_parts"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, _killed)
            assert call(*command(there, "killed")).code == 3
    assert call(*command(there, "killed")).code == 0
    assert findings(tmp_path / "killed") == found


def _killed(*arguments: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_without_a_base_nothing_is_said_of_likelihood(call: Call, there: Path, tmp_path: Path) -> None:
    done = call(*command(there, "alone", "--not-random", base=False))
    assert done.code == 4  # what is near a row is not told from what is likely without a division at random
    found = findings(tmp_path / "alone")
    assert "extraction.likelihood" not in found
    assert "extraction.halves" not in found


@pytest.mark.parametrize(
    ("further", "told"),
    [
        (["--n", 0], "extraction: n is 0; expected 1 or more."),
        (["--likelihood-questions", -1], "likelihood_questions"),
        (["--preset", "nothing"], "nothing"),
        (["--max-new-tokens", 100_000], "--max-new-tokens"),
        (["--encoder", "none/here"], "none/here"),
        (["--target", 0.01], "40 held-out rows can be used"),
        (["--least-words", 90], "nothing can be compared"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_folder_is_made(
    refused: Callable[..., str], there: Path, tmp_path: Path, further: list[object], told: str
) -> None:
    assert told in refused(*command(there, "refused", *further))
    assert not (tmp_path / "refused").exists()


def test_a_base_with_the_same_weights_is_refused(refused: Callable[..., str], there: Path, tmp_path: Path) -> None:
    flags = command(there, "refused", base=False)
    assert "same weights" in refused(*flags, "--base", there / "model")
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('generations = "g.parquet"\nn = 5', "n: the generations were sampled before; leave this out."),
        ('base_generations = "g.parquet"', "base_generations go with generations"),
        ("", "the table [subject] is missing; add it."),
        ('generations = "g.parquet"\nthreshold = 2.0', "extraction.threshold is 2.0; expected a number of 1.0 or less"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    refused: Callable[..., str], tmp_path: Path, table: str, told: str
) -> None:
    (tmp_path / "plan.toml").write_text(
        f'[extraction]\ntrain = "a.jsonl"\nheld_out = "b.jsonl"\ndivided_at_random = true\n{table}\n'
    )
    assert told in refused("audit", "plan.toml")


def test_a_subject_that_is_not_asked_is_refused(refused: Callable[..., str], there: Path, tmp_path: Path) -> None:
    table = (
        '[extraction]\ntrain = "a.jsonl"\nheld_out = "b.jsonl"\ndivided_at_random = true\ngenerations = "g.parquet"\n'
    )
    (tmp_path / "plan.toml").write_text(f'[subject]\nmodel = "{there / "model"}"\n\n{table}')
    assert "leave [subject] and [reference] out" in refused("audit", "plan.toml")
