"""``palimpsest membership`` and the table [membership] of a plan, on tiny random models and on the testbed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import audit.lm.load
from audit.testbed.planted import Testbed
from tests.cli.conftest import WORDS, Call

Refused = Callable[..., str]


def write(path: Path, texts: list[str], *, first: int = 0) -> Path:
    rows = [{"id": f"t{first + number}", "text": text} for number, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def nonsense(n: int, *, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 15)) for _ in range(n)]


@pytest.fixture
def sets(tmp_path: Path) -> tuple[object, ...]:
    """Flags that name 24 suspect and 24 validation texts of random words."""
    write(tmp_path / "mine.jsonl", nonsense(24, seed=1))
    write(tmp_path / "theirs.jsonl", nonsense(24, seed=2))
    return ("--suspect", "mine.jsonl", "--validation", "theirs.jsonl", "--splits", 3, "--checks", 100, "--quiet")


def findings(run: Path) -> dict[str, Any]:
    return json.loads((run / "findings.json").read_text(encoding="utf-8"))["sections"][-1]


def rows_of(run: Path, table: str) -> list[dict[str, Any]]:
    return next(one["rows"] for one in findings(run)["tables"] if one["name"] == table)


def test_two_sets_without_a_difference_end_inconclusive(
    call: Call, models: Path, sets: tuple[object, ...], tmp_path: Path
) -> None:
    code, out, err = call("membership", models / "llama", *sets, "--reference", models / "qwen2", "--out", "run")
    assert code == 4, err
    assert err == ""
    assert "INCONCLUSIVE" in out
    assert "Not even indicative" in out
    assert "Report: run/report.html" in out
    items = pd.read_parquet(tmp_path / "run" / "items" / "membership.parquet")
    assert items["side"].value_counts().to_dict() == {"suspect": 24, "validation": 24}
    assert (items["ratio_score"] == items["reference_loss"] - items["loss"]).all()
    assert len(rows_of(tmp_path / "run", "scores")) == 5
    assert "<svg" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "run" / "parts").exists()


def test_the_flags_again_do_nothing_and_their_plan_makes_the_same_run(
    call: Call, models: Path, sets: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = call("membership", models / "llama", *sets, "--out", "run")
    plan = (tmp_path / "run" / "plan.toml").read_text(encoding="utf-8")
    assert tomllib.loads(plan)["membership"]["suspect"] == "mine.jsonl"
    (tmp_path / "again.toml").write_text(plan, encoding="utf-8")
    assert call("audit", "again.toml", "--out", "new", "--quiet").code == 4
    assert (tmp_path / "new" / "findings.json").read_bytes() == (tmp_path / "run" / "findings.json").read_bytes()

    def load_(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(audit.lm.load, "load", load_)
    assert call("membership", models / "llama", *sets, "--out", "run") == first


def test_an_interrupted_comparison_goes_on_and_ends_with_equal_findings(
    call: Call, models: Path, sets: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third of twelve parts, and again after the comparison."""
    import audit.cli.audit
    import audit.membership.parts

    monkeypatch.setattr(audit.membership.parts, "PART_TEXTS", 8)
    real, sizes = audit.membership.parts.score_tokens, []

    def interrupted(lm: Any, sequences: Any, *rest: Any, **named: Any) -> Any:
        sizes.append(len(sequences))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return real(lm, sequences, *rest, **named)

    monkeypatch.setattr(audit.membership.parts, "score_tokens", interrupted)
    flags = ("membership", models / "llama", *sets, "--reference", models / "qwen2", "--out")
    assert call(*flags, "run").code == 3
    with monkeypatch.context() as patch:
        patch.setattr("audit.report.write.draw_where_missing", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        assert call(*flags, "run").code == 3
    assert call(*flags, "run").code == 4
    assert sizes == [8] * 13
    assert call(*flags, "whole").code == 4
    for name in ("findings.json", "items/membership.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--suspect", "theirs.jsonl"), "the same text stands in both sets: 't0' of "),
        (("--suspect", "mime.jsonl"), "Did you mean 'mine.jsonl'?"),
        (("--suspect", ""), "membership.suspect is ''; expected a text of 1 or more characters"),
        (("--suspect", "https://example.org/x.jsonl"), "nothing is fetched from addresses"),
        (("--validation", "empty.jsonl"), "empty.jsonl is empty"),
        (("--validation", "twice.jsonl"), "'id' 't1' was used at line 1 already"),
        (("--validation", "long.jsonl"), "text 'validation:t0' has 301 tokens"),
        (("--validation", "words.xyz"), "the extension '.xyz' is not known"),
        (("--field", "txt"), "no field 'txt'"),
        (("--id-field", "name"), "no field 'name'"),
        (("--unit", "word"), "membership.unit is 'word'; expected 'file', 'line' or 'paragraph'"),
        (("--primary", "ratio"), 'the primary score is "ratio", which compares with a reference model'),
        (("--primary", "los"), "Did you mean 'loss'?"),
        (("--k", "2"), "the flags: membership: k is 2.0; expected above 0 and at most 1"),
        (("--k", "nan"), "membership.k is nan; expected a finite number"),
        (("--level", "0.99999999"), "membership.level is 0.99999999"),
        (("--checks", "10"), "n_checks is 10; expected 100 to 10,000"),
        (("--reference", "same"), "every ratio would be 0"),
        (("--device", "cuda:97"), "cuda:97"),
        (("--out", "full"), "full holds no run but is not empty (it has 'thesis.tex')"),
        (("--suspect", "mine\udcff.jsonl"), "which is not UTF-8. Give it in UTF-8."),
    ],
)
def test_bad_input_is_refused_before_a_model_is_loaded(
    refused: Refused,
    models: Path,
    sets: tuple[object, ...],
    flags: tuple[str, str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load_(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(audit.lm.load, "load", load_)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "words.xyz").write_text("x")
    (tmp_path / "twice.jsonl").write_text('{"id": "t1", "text": "the cat"}\n{"id": "t1", "text": "the dog"}\n')
    write(tmp_path / "long.jsonl", ["cat " * 300])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "same").symlink_to(models / "llama")
    message = refused("membership", models / "llama", *sets, "--out", "run", *flags)
    assert says in message
    assert not (tmp_path / "run").exists()


def test_few_texts_get_scores_and_a_reason_instead_of_dataset_inference(
    call: Call, models: Path, tmp_path: Path
) -> None:
    write(tmp_path / "mine.jsonl", nonsense(3, seed=1))
    write(tmp_path / "theirs.jsonl", nonsense(12, seed=2))
    flags = ("--suspect", "mine.jsonl", "--validation", "theirs.jsonl", "--out", "run", "--quiet")
    code, out, _ = call("membership", models / "llama", *flags)
    assert code == 4
    assert "3 suspect and 12 validation texts; dataset inference needs 20 on each side" in " ".join(out.split())
    assert all(row["auc"]["value"] is not None for row in rows_of(tmp_path / "run", "scores"))
    (row,) = rows_of(tmp_path / "run", "inference")
    assert row["below"] == "refused"
    assert row["p"]["value"] is None


def test_records_that_are_left_out_are_counted_and_named(
    call: Call, refused: Refused, models: Path, sets: tuple[object, ...], tmp_path: Path
) -> None:
    with (tmp_path / "theirs.jsonl").open("a") as stream:
        stream.write('{"id": "bad", "text": ""}\n')
    assert "line 25: 'text' is empty" in refused("membership", models / "llama", *sets, "--out", "run")
    assert call("membership", models / "llama", *sets, "--skip-bad-lines", "--out", "run").code == 4
    assert [row["left_out"] for row in rows_of(tmp_path / "run", "texts")] == [0, 1]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (stage,) = (stage for stage in record["stages"] if stage["name"] == "membership.compare")
    assert stage["detail"]["left_out_validation"] == ["line 25: 'text' is empty"]


def test_long_texts_are_cut_when_asked_and_counted(call: Call, models: Path, tmp_path: Path) -> None:
    write(tmp_path / "mine.jsonl", [*nonsense(3, seed=1), "the cat " * 300])
    write(tmp_path / "theirs.jsonl", nonsense(4, seed=2))
    flags = ("--suspect", "mine.jsonl", "--validation", "theirs.jsonl", "--out", "run", "--quiet")
    assert call("membership", models / "llama", *flags, "--truncate").code == 4
    assert [row["truncated"] for row in rows_of(tmp_path / "run", "texts")] == [1, 0]


@pytest.mark.parametrize("name", ["a b\u00e9\U0001f600.jsonl", 'quo"te\\n.jsonl', "NaN\x7f.jsonl"])
def test_any_name_of_a_file_reaches_the_plan_unchanged(
    call: Call, models: Path, sets: tuple[object, ...], name: str, tmp_path: Path
) -> None:
    write(tmp_path / name, nonsense(5, seed=3))
    code, _, err = call("membership", models / "llama", *sets, "--suspect", name, "--out", "run")
    assert code == 4, err
    assert tomllib.loads((tmp_path / "run" / "plan.toml").read_text("utf-8"))["membership"]["suspect"] == name


def test_a_plan_can_hold_both_audits(call: Call, plan: Path, sets: tuple[object, ...], tmp_path: Path) -> None:
    with plan.open("a", encoding="utf-8") as stream:
        stream.write(
            '[membership]\nsuspect = "mine.jsonl"\nvalidation = "theirs.jsonl"\nn_splits = 3\nn_checks = 100\n'
        )
    code, _, err = call("audit", plan, "--out", "run", "--quiet")
    assert code == 4, err
    sections = json.loads((tmp_path / "run" / "findings.json").read_text())["sections"]
    assert [section["audit"] for section in sections] == ["traps", "membership"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Single p-values are not corrected" in page
    assert "AUC of scores and of checks without the model" in page
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(record["plan"]["inputs"]) == {"traps", "suspect", "validation"}
    assert record["seeds"] == {"traps": 0, "membership": 0}


def test_a_plan_without_an_audit_is_refused(refused: Refused, plan: Path) -> None:
    text = plan.read_text()
    plan.write_text(text[: text.index("[traps]")])
    message = refused("audit", plan)
    assert (
        "the table [traps] is missing; add it. Or add [membership] or [extraction]: a plan needs one audit or more."
        in message
    )


def test_a_changed_text_is_another_run(call: Call, refused: Refused, models: Path, sets: tuple[object, ...]) -> None:
    assert call("membership", models / "llama", *sets, "--out", "run").code == 4
    write(Path("mine.jsonl"), nonsense(24, seed=9))
    message = refused("membership", models / "llama", *sets, "--out", "run")
    assert "holds a run of another plan: inputs.suspect was" in message


def test_documents_that_the_model_was_trained_on_end_with_code_0_and_those_of_another_kind_with_4(
    call: Call, testbed_tiny: Testbed, tmp_path: Path
) -> None:
    world = testbed_tiny.world
    write(tmp_path / "mine.jsonl", [document.text for document in world.documents_of("fresh")][:120])
    write(tmp_path / "theirs.jsonl", [document.text for document in world.documents_of("heldout")])
    write(tmp_path / "rows.jsonl", [row.text for row in world.rows if row.group != "never"][:60])
    flags = (
        "--validation",
        "theirs.jsonl",
        "--reference",
        testbed_tiny.models["reference"],
        "--device",
        "cpu",
        "--quiet",
    )
    code, out, err = call(
        "membership", testbed_tiny.models["subject"], "--suspect", "mine.jsonl", *flags, "--out", "one"
    )
    assert code == 0, err
    assert "Indicative only: suspect texts score higher" in " ".join(out.split())
    assert "FOUND" not in out
    code, out, err = call(
        "membership", testbed_tiny.models["subject"], "--suspect", "rows.jsonl", *flags, "--out", "two"
    )
    assert code == 4, err
    assert "CONFOUNDED" in out
    assert "Refused, and not even indicative" in " ".join(out.split())
