"""``palimpsest eco``: a guard is fitted, used and evaluated; killed runs go on; what cannot be done is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from audit.answers.rewordings import Attack, attacks
from audit.cli.replay import replayed
from audit.lm.load import load
from audit.runs.store import Run
from audit.text.files import sha256_file
from tests.cli.conftest import Call
from tests.unlearn.eco.cli.conftest import HOSTILE, fit_command, write_rows
from tests.unlearn.eco.small_encoders import build_encoder, build_tagger
from unlearn.eco.cli import fitting, loading, measuring
from unlearn.eco.evaluate.report import evaluate_qa
from unlearn.eco.fit import embedding_teacher
from unlearn.eco.guard_files import load_guard, read_guard
from unlearn.json_lines import append_lines

Refused = Callable[..., str]
KEY = b"sixteen bytes ok"


def altered(run: Path, table: str, column: str, row: int, value: Any) -> set[str]:
    """Where a replay sees that one stored value was changed; the run is put back."""
    file = run / "items" / f"{table}.parquet"
    kept = file.read_bytes()
    stored = pq.read_table(file)
    values = stored[column].to_pylist()
    assert values[row] != value
    values[row] = value
    place = stored.column_names.index(column)
    pq.write_table(stored.set_column(place, stored.schema.field(place), [values]), file)
    try:
        return {one.address for one in replayed(Run.open(run)).differences}
    finally:
        file.write_bytes(kept)


def few_attacks() -> list[Attack]:
    """Those that are measured fast."""
    return [one for one in attacks() if one.kind in ("untouched", "paraphrase", "translation")]


@pytest.fixture(scope="module")
def fitted(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that fitted a guard."""
    from audit.cli.main import main

    out = tmp_path_factory.mktemp("fitted") / "run"
    with pytest.raises(SystemExit) as end:
        main([str(one) for one in fit_command(small, out, "--show-text")])
    assert end.value.code == 0
    return out


def test_a_fit_leaves_a_guard_with_its_evidence(small: Path, fitted: Path, call: Call) -> None:
    guard = load_guard(fitted / "guard", load(small / "model"), key=KEY)
    assert guard.flagged(["Where was Zora Quill born?", "Where was Ada Lindqvist born?"]).tolist() == [True, False]
    run = Run.open(fitted)
    assert run.complete
    section = run.findings().sections[0]
    tables = {table.name: table for table in section.tables}
    (row,) = tables["calibration"].rows
    assert (row["alpha"], row["n"]) == (0.1, 14)  # 48 rows, 5 of 12 people trained on, half of the rest
    assert row["threshold"] == read_guard(fitted / "guard").threshold
    assert [one for one in tables["curve"].rows if one["chosen"]]
    assert len(tables["sensitivity"].rows) == 3
    assert run.read_items("eco-scores").num_rows == 14 + 8  # test prompts, and rewordings of two people's rows
    assert {path.name for path in fitted.iterdir()} == {
        ".lock", "run.json", "opening.json", "plan.toml", "items", "guard", "fit.json", "findings.json", "report.html"
    }  # fmt: skip
    page = (fitted / "report.html").read_text(encoding="utf-8")
    assert "The metric against the strength" in page
    assert "palimpsest eco run plan.toml" in page
    assert page.count("<svg") == 3
    assert "four <b>" not in page
    assert "four &lt;b&gt;people" in page
    card = (fitted / "guard" / "README.md").read_text(encoding="utf-8")
    assert "What it does not protect" in card
    assert "<b>" not in card
    again = call(*fit_command(small, fitted, "--show-text"), "--json")  # nothing is left to do
    assert again.code == 0
    assert json.loads(again.out)["fit"]["search"]["strength"] == guard.settings.corruption.strength


def test_a_fit_is_what_its_stored_scores_give(fitted: Path, tmp_path: Path) -> None:
    found = replayed(Run.open(fitted))
    assert found.differences == []
    section = Run.open(fitted).findings().sections[0]
    n_quoted = len(next(table for table in section.tables if table.name == "false-positives").rows)
    assert len(found.not_replayed) == n_quoted
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    seen = altered(run, "eco-calibration", "score", 0, 2.5)
    assert {"eco:calibration[1]/threshold", "guard/guard.json/threshold"} <= seen
    assert "eco.recall/recognised" in altered(run, "eco-scores", "score", 14, 0.0)
    seen = altered(run, "eco-search", "value", 0, 1e-6)
    assert {"eco.strength/probability behind the guard"} <= seen or "items/eco-search.parquet/strength" in seen
    assert "eco.strength/probability, target" in altered(run, "eco-aims", "value", 0, 1e-5)


def test_a_killed_fit_goes_on_to_the_same_guard(
    small: Path, fitted: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = [], []
    keep, teach = append_lines, embedding_teacher

    def killed(path: Path, rows: Any) -> None:
        keep(path, rows)
        made.append(rows)
        if len(made) == 7:
            path.write_bytes(path.read_bytes() + b'{"strength": 1.0, "se')  # cut off in the middle of a line
            raise KeyboardInterrupt

    def taught(*arguments: Any) -> Any:
        asked.append(arguments)
        return teach(*arguments)

    monkeypatch.setattr(fitting, "append_lines", killed)
    monkeypatch.setattr(fitting, "embedding_teacher", taught)
    command = fit_command(small, tmp_path / "run", "--show-text")
    assert call(*command).code == 3
    monkeypatch.setattr(fitting, "append_lines", keep)
    assert call(*command).code == 0
    assert len(asked) == 1  # the classifier was kept
    record = json.loads((tmp_path / "run" / "fit.json").read_text())
    assert record["search"]["reused"] == 7
    for name in ("eco-search", "eco-aims", "eco-calibration"):
        whole, gone_on = (pq.read_table(one / "items" / f"{name}.parquet") for one in (fitted, tmp_path / "run"))
        assert gone_on.equals(whole)
    assert sha256_file(tmp_path / "run" / "guard" / "guard.json") == sha256_file(fitted / "guard" / "guard.json")


def test_apply_tells_which_prompts_were_flagged_and_goes_on(
    small: Path, fitted: Path, call: Call, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("a\n\nWhere was Zora Quill born?\n", encoding="utf-8")
    command = ["eco", "apply", fitted, small / "model", "--prompts", "prompts.txt", "--max-new-tokens", 3, "--quiet",
               "--device", "cpu", "--out", "rows.jsonl"]  # fmt: skip
    assert call(*command).code == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["id"], row["prompt"], row["flagged"]) for row in rows] == [
        ("1", "a", False),  # a prompt of one token
        ("3", "Where was Zora Quill born?", True),
    ]
    assert rows[1]["score"] > read_guard(fitted / "guard").threshold
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n" + '{"id": "3", "pro')
    assert call(*command).code == 0
    assert [json.loads(line)["id"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == ["1", "3"]
    one = call("eco", "apply", fitted / "guard", small / "model", "--prompt", "a", "--max-new-tokens", 3, "--json",
               "--device", "cpu", "--quiet")  # fmt: skip
    assert json.loads(one.out)[0]["answer"] == rows[0]["answer"]
    (tmp_path / "prompts.txt").write_text("another\n", encoding="utf-8")
    assert "other prompts" in refused(*command)
    for prompt, words in (("", "empty"), (" ", "empty"), ("long " * 300, "at most 512")):
        assert words in refused("eco", "apply", fitted, small / "model", "--prompt", prompt, "--device", "cpu")
    assert "other weights" in refused("eco", "apply", fitted, small / "other", "--prompt", "a", "--device", "cpu")
    assert "no guard" in refused("eco", "apply", small, small / "model", "--prompt", "a")
    assert "no guard at 'nowhere'" in refused("eco", "apply", "nowhere", small / "model", "--prompt", "a")
    answered = call("eco", "apply", fitted, small / "model", "--prompt", "a", "--max-new-tokens", 1, "--device", "cpu")
    assert f"above {read_guard(fitted / 'guard').threshold:.6g} is flagged" in answered.out


def test_a_file_of_answers_that_cannot_be_written_is_refused_before_the_model_is_loaded(
    small: Path, fitted: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unlearn.eco.cli.answering.load_all", lambda *_, **__: pytest.fail("loaded"))
    command = ["eco", "apply", fitted, small / "model", "--prompt", "a", "--out"]
    assert "its folder does not exist" in refused(*command, tmp_path / "none" / "rows.jsonl")
    assert "nothing was answered" in refused(*command, tmp_path)


def test_a_backslash_and_an_n_in_the_text_around_a_prompt_is_a_new_line(
    small: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr("unlearn.eco.cli.fit.run_tables", lambda tables, *_, **__: told.update(tables["eco"]))
    assert call(*fit_command(small, "run", "--format", "text", "--prefix", "Q: ", "--suffix", r"\nAnswer:")).code == 0
    assert (told["prefix"], told["suffix"]) == ("Q: ", "\nAnswer:")


def test_an_evaluation_leaves_out_what_was_fitted_on_and_goes_on_after_a_kill(
    small: Path, fitted: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["eco", "evaluate", fitted, small / "model", "--forget", small / "forget.jsonl", "--retain",
               small / "retain.jsonl", "--gold", small / "other", "--general", small / "general.jsonl", "--baselines",
               "filter,prefix", "--max-rows", 6, "--max-new-tokens", 3, "--noise-seeds", 2, "--latency-prompts", 1,
               "--out", "run", "--device", "cpu", "--quiet", "--show-text"]  # fmt: skip
    asked = []
    whole = evaluate_qa
    monkeypatch.setattr(measuring, "attacks", few_attacks)

    def counted(systems: Any, rows: Any, **more: Any) -> Any:
        asked.append(next(iter(systems.values())).name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return whole(systems, rows, **more)

    monkeypatch.setattr(measuring, "evaluate_qa", counted)
    assert call(*command).code == 3
    done = call(*command)
    assert done.code == 0, done.err
    assert len(asked) == 11  # five systems on two parts, one of them twice
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert record["rows"] == {
        "given": {"forget": 16, "retain": 48, "general": 4}, "measured": {"forget": 8, "retain": 14, "general": 4}
    }  # fmt: skip
    tables = record["tables"]
    assert {row["system"] for row in tables["questions and answers"]} == {"before", "guard", "gold", "filter", "prefix"}
    (changed,) = [row for row in tables["changed rows"] if (row["part"], row["scope"]) == ("retain", "prompt")]
    assert changed["changed, not flagged"] == []
    by_attack = {row["attack"]: row for row in tables["recall"]}
    assert by_attack["untouched"]["n_prompts"] == 6  # as many as --max-rows
    assert "no translations" in by_attack["translation"]["share"]["why"]
    assert {len(one["p_values"]) for one in record["noise"]} == {2}
    assert "8 of 16 forget rows" in done.out
    assert "recognised, untouched" in done.out
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "What is recognised, by attack" in page
    assert "What it costs" in page
    assert not (tmp_path / "run" / "measured").exists()

    run = tmp_path / "run"
    found = replayed(Run.open(run))
    assert (found.outcome, found.differences) == ("equal", [])
    items = {name: pq.read_table(run / "items" / f"{name}.parquet").to_pylist()
             for name in ("eco-questions", "eco-verdicts", "eco-delays", "eco-noise")}  # fmt: skip
    assert found.compared["stored columns"] == 1
    place = next(place for place, row in enumerate(items["eco-questions"]) if row["system"] == "guard")
    seen = altered(run, "eco-questions", "value", place, 0.5)
    assert "eco-evaluation.known/guard" in seen
    assert "eco-evaluation:questions-0[1]/guard" in seen
    seen = altered(run, "eco-verdicts", "flagged", 0, not items["eco-verdicts"][0]["flagged"])
    assert {"eco-evaluation:recall[1]/share", "items/eco-verdicts.parquet/flagged"} <= seen
    slow = altered(run, "eco-delays", "seconds", 0, 9.0)
    assert any(one.startswith("eco-evaluation:latency[") for one in slow)
    assert any(one.startswith("eco-evaluation:noise[") for one in altered(run, "eco-noise", "value", 0, 50.0))
    kept = json.loads((run / "evaluation.json").read_text())
    del kept["kept"]  # as runs before had it
    (run / "evaluation.json").write_text(json.dumps(kept))
    assert set(replayed(Run.open(run)).not_replayed) == {"eco-evaluation"}


def test_what_cannot_be_evaluated_is_refused_before_anything_is_made(
    small: Path, fitted: Path, refused: Refused, tmp_path: Path
) -> None:
    command = ["eco", "evaluate", fitted, small / "model", "--forget", small / "forget.jsonl", "--retain",
               small / "retain.jsonl", "--out", "run", "--device", "cpu", "--quiet"]  # fmt: skip
    tuned = [row for row in Run.open(fitted).read_items("eco-dealt").to_pylist() if row["part"] == "tuning"]
    write_rows(tmp_path / "tuned.jsonl", sorted({row["cluster"] for row in tuned}))
    other = [*command[:3], small / "other", *command[4:]]
    assert "other weights" in refused(*other)
    assert "fitted on all 8 forget rows" in refused(*command, "--forget", "tuned.jsonl")
    assert "Did you mean 'filter'?" in refused(*command, "--baselines", "fliter")
    assert "both files, or neither" in refused(*command, "--real-authors", small / "general.jsonl")
    assert "at most 512" in refused(*command, "--max-new-tokens", 500)
    assert not (tmp_path / "run").exists()
    assert "never changed" in refused(*command[:-4], small / "model" / "run")


def test_a_plan_fits_and_evaluates_in_one_run_and_its_typos_are_told(
    small: Path, fitted: Path, call: Call, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "attacks", few_attacks)
    text = (fitted / "plan.toml").read_text(encoding="utf-8")
    measures = "\n[eco.evaluate]\nmax_rows = 4\nmax_new_tokens = 2\nlatency_prompts = 0\n"
    (tmp_path / "plan.toml").write_text(text + measures, encoding="utf-8")
    done = call("eco", "run", "plan.toml", "--out", "run", "--quiet")
    assert done.code == 0, done.err
    assert [section.audit for section in Run.open(tmp_path / "run").findings().sections] == ["eco", "eco-evaluation"]
    assert replayed(Run.open(tmp_path / "run")).differences == []
    assert "eco-evaluation.worst/recognised" in altered(tmp_path / "run", "eco-verdicts", "flagged", 0, False)
    assert sha256_file(tmp_path / "run" / "guard" / "guard.json") == sha256_file(fitted / "guard" / "guard.json")
    (tmp_path / "bad.toml").write_text(text.replace("alpha =", "alfa =") + "\n[eco.evaluate]\ngould = 'x'\n")
    told = refused("eco", "run", "bad.toml")
    assert "Did you mean 'alpha'?" in told
    assert "Did you mean 'gold'?" in told
    (tmp_path / "both.toml").write_text(text + "\n[evaluate]\nguard='a'\nmodel='b'\nforget='c'\nretain='d'\n")
    assert "expected one table" in refused("eco", "run", "both.toml")


def test_what_cannot_be_fitted_is_refused_before_anything_is_made(
    small: Path, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    write_rows(tmp_path / "shared.jsonl", ["Zora Quill", "Ada Lindqvist", "Hiro Tanaka"])
    shutil.copy(small / "forget.jsonl", tmp_path / "forget.csv")
    (tmp_path / "blank.jsonl").write_text('{"question": "  ", "answer": "a"}\n')
    cases = {
        ("--names", "empty.txt"): "holds no names",
        ("--alpha", "0.001"): "at least 999 are needed. 48 retain prompts were given, of which 14 were dealt to the "
        "calibration, so that about 3,426 are needed in all",
        ("--surrogate", "0.5", "--surrogate", "0.5"): "values for 1 metric.",
        ("--alpha", "1.5"): "between 0 and 1",
        ("--metric", "probabilty"): "metric",
        ("--function", "rand_noise"): "is unknown",
        ("--dims", "5000"): "the model's embeddings have 32 numbers",
        ("--selection", "name"): "selection",
        ("--retain", "shared.jsonl"): "cannot be both",
        ("--forget", "blank.jsonl"): "is blank",
        ("--forget", "forgot.jsonl"): "there is no file",
        ("--classifier", "fine-tuned"): "start",
        ("--prefix", "Q: "): 'format "text"',
        ("--lower", "20000"): "0 < lower < upper",
        ("--group-field", "tongue"): "tongue",
    }
    for flags, words in cases.items():
        assert words in refused(*fit_command(small, "run", *flags)), flags
        assert not (tmp_path / "run").exists(), flags
    command = [one for one in fit_command(small, "run") if one not in ("--surrogate", 1e-6)]
    assert "no target for the strength" in refused(*command)


def test_an_unknown_flag_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom audit.cli.main import main\n"
        "try:\n    main(['eco', 'fit', 'm', '--forgot', 'x'])\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "2 False\n"
    assert "--forget" in done.stderr


def test_multiple_choice_with_a_fine_tuned_classifier(
    small: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "attacks", few_attacks)
    for name, subjects in (("forget", ("dogs", "cats")), ("retain", ("hills", "mats", "trees", "suns"))):
        rows = [
            {"id": f"{subject}-{number}", "cluster": f"{subject}-{number % 4}",
             "question": f"How many {subject} are {number}?", "options": ["one", "two", "three"],
             "answer": number % 3}
            for subject in subjects
            for number in range(8)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = (tmp_path / "forget.jsonl").read_text() + (tmp_path / "retain.jsonl").read_text()
    build_encoder(tmp_path / "start", "roberta", texts.split("\n"), window=128)
    (tmp_path / "plan.toml").write_text(
        f"""
[eco]
model = "{small / "model"}"
forget = "forget.jsonl"
retain = "retain.jsonl"
target = "animals"
choices = true
alpha = 0.2
classifier = "fine-tuned"
start = "start"
surrogate = [0.01]
device = "cpu"

[eco.fine_tuning]
epochs = 1
learning_rate = 1e-3
windows = [128]

[eco.search]
method = "grid"
grid_points = 3
bisections = 0
n_fresh = 3

[eco.evaluate]
gold = "{small / "other"}"
baselines = ["filter"]
latency_prompts = 0
"""
    )
    done = call("eco", "run", "plan.toml", "--out", "run", "--quiet", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert [one["name"] for one in record["fit"]["search"]["metrics"]] == ["accuracy"]
    rows = record["evaluation"]["tables"]["multiple choice"]
    assert {(row["system"], row["part"]) for row in rows} == {
        (system, part) for system in ("before", "guard", "gold", "filter") for part in ("forget", "retain")
    }
    found = replayed(Run.open(tmp_path / "run"))
    assert (found.outcome, found.differences) == ("equal", [])
    assert any("choices-0" in one for one in altered(tmp_path / "run", "eco-choices", "value", 0, 0.25))
    assert json.loads((tmp_path / "run" / "guard" / "guard.json").read_text())["classifier"] == "fine-tuned"
    told = json.loads((tmp_path / "run" / "guard" / "classifier" / "classifier.json").read_text())
    assert told["kept_by"] == "fewest errors on held-out prompts"
    assert [step for step, _ in told["evaluations"]] == [0, told["n_steps"]]
    assert not (tmp_path / "run" / "training").exists()
    answered = call("eco", "apply", "run", small / "model", "--prompt", "How many?", "--max-new-tokens", 2, "--json",
                    "--device", "cpu", "--quiet")  # fmt: skip
    assert answered.code == 0, answered.err


def test_a_given_strength_is_not_searched_and_each_group_has_its_promise(
    small: Path, call: Call, refused: Refused, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (small / "retain.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["language"] = "de" if number % 2 else "<i>en"
    (tmp_path / "retain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--retain", "retain.jsonl", "--group-field", "language")
    command = [one for one in fit_command(small, "run", *flags) if one not in ("--surrogate", 1e-6)]
    assert "group 'de'" in refused(*command, "--strength", 5)  # 14 prompts are no 9 of each
    done = call(*command, "--strength", 5, "--alpha", 0.2)
    assert done.code == 0, done.err
    section = Run.open(tmp_path / "run").findings().sections[0]
    tables = {table.name: table for table in section.tables}
    assert {row["of"] for row in tables["calibration"].rows} == {"group de", "group <i>en"}
    assert "curve" not in tables
    guard = read_guard(tmp_path / "run" / "guard")
    assert guard.settings.corruption.strength == 5
    assert guard.threshold == max(float(str(row["threshold"])) for row in tables["calibration"].rows)
    assert "<i>en" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    found = replayed(Run.open(tmp_path / "run"))
    assert (found.outcome, found.differences) == ("equal", [])


def test_serve_loads_the_guard_before_it_listens(
    small: Path, fitted: Path, call: Call, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from unlearn.eco.serve import start

    told: dict[str, Any] = {}

    def serve(guard: Any, **more: Any) -> None:
        told.update(more, guard=guard)

    monkeypatch.setattr(start, "serve", serve)
    command = ["eco", "serve", fitted, small / "model", "--device", "cpu", "--max-running", 2, "--port", 0]
    monkeypatch.delenv("PALIMPSEST_ECO_KEY", raising=False)
    begun = call(*command)
    assert begun.code == 0
    assert "PALIMPSEST_ECO_KEY is not set" in begun.err
    assert (told["model"], told["host"], told["port"], told["limits"].max_rows) == ("model", "127.0.0.1", 0, 2)
    assert told["fingerprint"] == sha256_file(fitted / "guard" / "guard.json")[:16]
    assert told["guard"].judge.threshold == read_guard(fitted / "guard").threshold
    assert "other weights" in refused("eco", "serve", fitted, small / "other", "--device", "cpu", "--port", 0)
    monkeypatch.setattr(loading, "load_all", lambda *_, **__: pytest.fail("loaded"))
    assert "PALIMPSEST_ECO_API_KEY is not set" in refused(*command, "--host", "0.0.0.0")
    assert "65,535" in refused(*command, "--port", 99_999)


def test_protected_texts_are_continued_by_each_system(
    small: Path, fitted: Path, call: Call, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two works of three passages; one of each is about a person who is to be forgotten."""
    monkeypatch.setattr(measuring, "attacks", few_attacks)
    rows = [
        {"id": f"{work}-{number}", "source": work, "prompt": prompt, "continuation": "sat on the mat and ran"}
        for work in ("one", HOSTILE)
        for number, prompt in enumerate(("the cat", "the old hill", f"Zora Quill of {work} was born"))
    ]
    (tmp_path / "passages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["eco", "evaluate", fitted, small / "model", "--forget", small / "forget.jsonl", "--retain",
               small / "retain.jsonl", "--gold", small / "other", "--baselines", "filter", "--max-rows", 6,
               "--max-new-tokens", 2, "--noise-seeds", 1, "--latency-prompts", 0, "--out", "run", "--device", "cpu",
               "--quiet", "--passages", "passages.jsonl", "--passage-tokens", 6, "--show-text"]  # fmt: skip
    whole, asked = measuring.measure_continuations, []

    def killed(system: Any, *arguments: Any, **more: Any) -> Any:
        asked.append(system.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return whole(system, *arguments, **more)

    monkeypatch.setattr(measuring, "measure_continuations", killed)
    assert call(*command).code == 3
    done = call(*command)
    assert done.code == 0, done.err
    assert asked == ["bare", "guard", "guard", "bare", "filter"]
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert record["rows"]["given"]["passage"] == record["rows"]["measured"]["passage"] == 6
    table = {(row["measure"], row["system"]): row for row in record["tables"]["protected texts"]}
    assert table["beginnings recognised", "guard"]["estimate"]["value"] == pytest.approx(1 / 3)
    gap = table["average similarity gap", "guard"]["estimate"]
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert gap["n"] == 2  # works, not passages
    for name in ("ROUGE-L F1", "unique tokens / tokens of the output", "perplexity of prompt and output"):
        assert {system for measure, system in table if measure == name} == {"before", "guard", "gold", "filter"}
    assert Run.open(tmp_path / "run").read_items("eco-passages").num_rows == 4 * 6 * 6
    assert "average similarity gap, passages, guard" in done.out
    (section,) = Run.open(tmp_path / "run").findings().sections
    (quoted,) = [table for table in section.tables if table.name == "passages-written"]
    assert {row["original"] for row in quoted.rows} == {"sat on the mat and ran"}
    assert len(quoted.rows) == 6
    (apart,) = [table for table in section.tables if table.name == "passages-0-less-gold"]
    assert len(apart.rows) == 6  # what has no difference by rows is not in it
    assert len(record["tables"]["passages written"]) == 4 * 6
    found = replayed(Run.open(tmp_path / "run"))
    assert (found.outcome, found.differences) == ("equal", [])
    assert any("passages-0" in one for one in altered(tmp_path / "run", "eco-passages", "value", 0, 0.75))
    (finding,) = [one for one in section.findings if one.id == "eco-evaluation.passages"]
    assert "of their beginnings 33.3% were recognised" in finding.claim
    assert set(finding.estimates) > {"average similarity gap, guard", "average similarity gap, before"}
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Protected texts" in page
    assert HOSTILE not in page
    (tmp_path / "bare.jsonl").write_text('{"prompt": "the cat"}\n')
    assert "has no continuation" in refused(*command, "--passages", "bare.jsonl", "--out", "other")
    assert "at most 512" in refused(*command, "--passage-tokens", 510, "--out", "other")
    assert not (tmp_path / "other").exists()


def test_a_tagger_selects_the_tokens_and_goes_with_the_guard(
    small: Path, call: Call, refused: Refused, tmp_path: Path
) -> None:
    words = ["where was zora quill born? who is ada"]
    build_tagger(tmp_path / "tagger", words, ["zora", "quill"])
    flags = ("--selection", "tagger", "--strength", 5)
    command = [one for one in fit_command(small, "run", *flags) if one not in ("--surrogate", 1e-6)]
    assert "needs it" in refused(*command)
    build_encoder(tmp_path / "bare", "bert", words)
    assert "no such head" in refused(*command, "--tagger", "bare")
    assert not (tmp_path / "run").exists()
    done = call(*command, "--tagger", "tagger")
    assert done.code == 0, done.err
    shutil.rmtree(tmp_path / "tagger")  # the guard has its own
    guard = load_guard(tmp_path / "run" / "guard", load(small / "model"), key=KEY)
    text = "Where was Zora Quill born?"
    prepared = guard.prepare([text])
    (mask, _), encoded = prepared.layers[0], prepared.encoded[0]
    places = encoded.offsets[mask[0].numpy()]
    assert encoded.text[places.min() : places.max()].strip() == "Zora Quill"
    assert mask.sum() < (encoded.owners == 0).sum()
    apply = ["eco", "apply", "run", small / "model", "--prompt", text, "--max-new-tokens", 2, "--device", "cpu"]
    assert call(*apply, "--quiet").code == 0
    assert "marks in it as names" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    config = tmp_path / "run" / "guard" / "tagger" / "config.json"
    config.write_text(config.read_text() + " ")
    assert "'config.json' is not the file that was saved there" in refused(*apply)
    shutil.rmtree(tmp_path / "run" / "guard" / "tagger")
    assert "there is none" in refused(*apply)


def test_a_promise_for_conversations_is_kept_on_conversations(
    small: Path, call: Call, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """14 prompts are 7 conversations of two."""
    monkeypatch.setattr(measuring, "attacks", few_attacks)
    command = [one for one in fit_command(small, "run") if one not in ("--surrogate", 1e-6)]
    command += ["--strength", 5, "--turns", 2]
    assert "14 were dealt to the calibration (7 conversations of 2 prompts), so that about 62 are needed" in refused(
        *command
    )
    assert "takes no conversation" in refused(*command, "--format", "text")
    assert "not both" in refused(*command, "--group-field", "language")
    assert "14 prompts that may pass make no conversation of 15 turns" in refused(*command, "--turns", 15)
    assert not (tmp_path / "run").exists()
    done = call(*command, "--alpha", 0.2, "--show-text")
    assert done.code == 0, done.err
    assert "flagged of held-out conversations of 2 prompts that may pass" in done.out
    assert "(7 conversations)" in done.out
    run = Run.open(tmp_path / "run")
    (section,) = run.findings().sections
    tables = {table.name: table for table in section.tables}
    (row,) = tables["calibration"].rows
    assert (row["of"], row["n"]) == ("conversations of 2 prompts that may pass", 7)
    assert any("held-out conversations of 2 prompts that may pass" in one.claim for one in section.findings)
    assert run.read_items("eco-scores").num_rows == 7 + 8
    assert "7 held-out conversations of 2 prompts" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    done = call("eco", "evaluate", "run", small / "model", "--forget", small / "forget.jsonl", "--retain",
                small / "retain.jsonl", "--max-rows", 2, "--max-new-tokens", 2, "--latency-prompts", 0, "--device",
                "cpu", "--quiet", "--json", "--out", "evaluated")  # fmt: skip
    assert done.code == 0, done.err
    talks, single = json.loads(done.out)["evaluation"]["tables"]["false positives"]
    assert (talks["source"], talks["rate"]["n"], talks["alpha"]) == ("conversations of 2 such prompts", 7, 0.2)
    assert talks["surplus"]["n"] == 7
    assert (single["rate"]["n"], single["alpha"], single["surplus"]) == (14, None, None)
    assert replayed(run).differences == []
    found = replayed(Run.open(tmp_path / "evaluated"))
    assert (found.outcome, found.differences) == ("equal", [])
