"""``palimpsest steer evaluate``: questions, choices and concepts; killed runs go on; bad input is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.answers.formats import PromptFormat
from audit.answers.rows import ChoiceRow
from audit.lm.load import load
from audit.runs.store import Run
from tests.cli.conftest import Call
from tests.unlearn.lineas.cli.conftest import SECRET, fit_command
from unlearn.lineas.cli import evaluate_measuring
from unlearn.lineas.evaluate.utility import letter_accuracy
from unlearn.lineas.files import load_maps
from unlearn.lineas.maps import composed

Refused = Callable[..., str]
WORDS = ("cat", "dog", "hill", "mat")
LONG = "the dog and the cat " * 60
FAST = ("--optimizer", "adam", "--lr", 0.05, "--steps", 4)
ROWS = [
    ChoiceRow(str(n), str(n), f"where did the {one} {SECRET} sit {n}", ("on the mat", "over the hill"), n % 2)
    for n, one in enumerate(WORDS * 3)
]


@pytest.fixture(scope="module")
def files(small: Path) -> Path:
    """Files of questions, choices and texts beside ``small``, and two runs that fitted maps."""
    from audit.cli.main import main

    lines = ["Type,Question,Best Answer,Correct Answers,Incorrect Answers"]
    lines += [f"x,where did the {one} {SECRET} sit {n}?,on the mat,on the mat; on it,in the hill; over"
              for n, one in enumerate(WORDS * 3)]  # fmt: skip
    (small / "truth.csv").write_text("\n".join([*lines, f"x,{LONG}?,on,on,over"]) + "\n", encoding="utf-8")
    kept = [{"question": row.prompt, "options": row.options, "answer": row.right} for row in ROWS]
    kept.append({"question": LONG, "options": ["on", "over"], "answer": 0})
    (small / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    plain = ["the cat and the dog", "the hill and the mat", "a dog ran and ran", f"the cat sat on the mat {SECRET} 0"]
    (small / "plain.txt").write_text("\n".join(plain) + "\n", encoding="utf-8")
    for name, more in (("maps", FAST), ("shift", ("--method", "mean-act"))):
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in fit_command(small, small / name, *more)])
        assert end.value.code == 0
    return small


def command(files: Path, out: Path | str, *more: object) -> list[object]:
    return ["steer", "evaluate", files / "model", "--device", "cpu", "--quiet", "--out", out, *more]


def whole(files: Path, out: Path | str) -> list[object]:
    """All three measures, with maps that are fitted here."""
    return command(
        files, out, "--truthfulqa", files / "truth.csv", "--sentences", 6, "--no-primer", "--choices",
        files / "choices.jsonl", "--concept", "dog, puppy", "--concept", "hill", "--neutral", files / "plain.txt",
        "--opening", "the cat", "--continuations", 12, "--source", files / "source.txt", "--target",
        files / "target.jsonl", "--strengths", "0.5,1", *FAST,
    )  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(files: Path) -> Path:
    from audit.cli.main import main

    with pytest.raises(SystemExit) as end:
        main([str(one) for one in whole(files, files / "evaluated")])
    assert end.value.code == 0
    return files / "evaluated"


def tables_of(folder: Path) -> dict[str, Any]:
    (section,) = Run.open(folder).findings().sections
    return {table.name: table for table in section.tables}


def test_all_three_are_measured_and_no_question_is_quoted(files: Path, evaluated: Path, call: Call) -> None:
    run = Run.open(evaluated)
    assert run.complete
    tables = tables_of(evaluated)
    truth = tables["truthfulqa"].rows
    assert [(row["measure"], row["halves"], row["strength"]) for row in truth] == [
        (measure, halves, strength)
        for strength in (0.5, 1.0)
        for halves in ("both halves", "half 1", "half 2")
        for measure in ("MC1", "MC2")
    ]
    assert all(row["after"].n == (12 if row["halves"] == "both halves" else 6) for row in truth)
    assert truth[0]["chance"] == pytest.approx(1 / 3)
    assert truth[1]["change"].value != 0
    assert [(row["how"], row["strength"]) for row in tables["choices"].rows] == [
        (how, strength) for how in ("by letter", "by option, per byte") for strength in (0.5, 1.0)
    ]
    items = run.read_items("evaluation-questions").to_pandas()
    assert len(items) == 12 * 3 * (2 + 2)
    by_letter = items[(items["measure"] == "by letter") & (items["strength"] == 1)]["value"].tolist()
    maps, _ = load_maps(evaluated / "steering")
    by_hand = letter_accuracy(load(files / "model"), maps, 1.0, ROWS, PromptFormat("text"))
    assert by_letter == by_hand.measured.values.tolist()
    assert "rate words of dog or words of hill" in tables["rates"].rows[0]
    claims = " ".join(one.claim for one in run.findings().sections[0].findings)
    assert "1 question of TruthfulQA did not fit" in claims
    assert "1 question of multiple choice did not fit" in claims
    assert "1 neutral text of 4 stand" in claims
    for path in evaluated.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    for words in (
        "TruthfulQA: change of MC1",
        "Multiple choice: change",
        "rate by words of hill",
        "palimpsest steer run",
    ):
        assert words in page, words
    assert {one.name for one in evaluated.iterdir()} >= {"steering", "halves", "evaluation.json"}
    assert not {"measured", "training"} & {one.name for one in evaluated.iterdir()}
    again = call(*whole(files, evaluated))  # nothing is left to do
    assert again.code == 0, again.err
    assert "MC2 at strength 1" in again.out
    assert "words of dog, unsteered: rate" in again.out
    replay = json.loads(call("runs", "replay", evaluated, "--json").out)
    assert (replay["differences"], replay["reworded"]) == ([], [])
    assert (replay["outcome"], replay["not_replayed"]) == ("equal", {})
    assert replay["compared"]["estimates"] == 2 * 6 + 4 * 3 + 4 * 7


def test_a_killed_evaluation_goes_on_to_the_same_numbers(
    files: Path, evaluated: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second half, and again among the choices; what has ended is not done twice."""
    calls: dict[str, int] = {"fit_into": 0, "truth": 0, "letter_accuracy": 0}

    def counting(name: str, killed_at: int) -> None:
        inner = getattr(evaluate_measuring, name)

        def run(*arguments: Any, **more: Any) -> Any:
            calls[name] += 1
            if calls[name] == killed_at:
                raise KeyboardInterrupt
            return inner(*arguments, **more)

        monkeypatch.setattr(evaluate_measuring, name, run)

    for name, killed_at in (("fit_into", 0), ("truth", 5), ("letter_accuracy", 2)):
        counting(name, killed_at)
    assert call(*whole(files, "run")).code == 3
    assert call(*whole(files, "run")).code == 3
    assert call(*whole(files, "run")).code == 0
    assert calls == {"fit_into": 3, "truth": 6 + 1, "letter_accuracy": 3 + 1}
    record, other = (json.loads((one / "evaluation.json").read_text()) for one in (tmp_path / "run", evaluated))
    assert record == other


def test_given_maps_act_one_after_the_other_and_a_plan_is_run(files: Path, call: Call, tmp_path: Path) -> None:
    done = call(
        *command(
            files, "run", "--steering", files / "maps", "--steering", files / "shift", "--choices",
            files / "choices.jsonl", "--max-rows", 5, "--json",
        )
    )  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["choices"]["questions"] == {"given": 13, "drawn": 5, "asked": told["choices"]["questions"]["asked"]}
    assert told["maps"] == "LinEAS, then Mean-AcT, composed, as given"
    items = Run.open(tmp_path / "run").read_items("evaluation-questions").to_pandas()
    found = items[(items["measure"] == "by letter") & (items["strength"] == 1)]
    (first, _), (second, _) = (load_maps(files / name / "steering") for name in ("maps", "shift"))
    rows = [ROWS[int(name) - 1] for name in found["question"]]
    by_hand = letter_accuracy(load(files / "model"), composed(first, second), 1.0, rows, PromptFormat("text"))
    assert found["value"].tolist() == by_hand.measured.values.tolist()
    again = call("steer", "run", tmp_path / "run" / "plan.toml", "--out", "again", "--quiet", "--json")
    assert json.loads(again.out) == told


def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(
    files: Path, refused: Refused, tmp_path: Path
) -> None:
    truth, choices = ("--truthfulqa", files / "truth.csv"), ("--choices", files / "choices.jsonl")
    maps, concept = ("--steering", files / "maps"), ("--concept", "dog")
    both = ("--source", files / "source.txt", "--target", files / "target.jsonl")
    cases: dict[tuple[object, ...], str] = {
        (): "give truthfulqa, concept or choices",
        choices: "choices needs maps",
        (*truth, *maps): "leave out steering",
        (*choices, *maps, *both): "give one of them",
        (*choices, *maps, "--lr", 0.1): "lr says how maps are fitted",
        (*choices, "--source", files / "source.txt"): "source and target belong together",
        (*choices, *maps, "--sentences", 8): "sentences is a setting of truthfulqa",
        (*concept, *maps): "give neutral",
        (*choices, *maps, "--strengths", "0"): "all strengths are 0",
        (*choices, *maps, "--strengths", "1;2"): "expected numbers with commas",
        (*choices, *maps, "--strengths", "nan"): "strengths[1] is nan; expected a finite number",
        (*truth, "--sentences", 100, "--no-primer"): "100 false answers were asked for",
        (*truth, "--sentences", 6): "or leave the primer out",
        (*truth, "--sentences", 6, "--no-primer", "--sites", r".*\.post_atention"): "whole names are matched",
        ("--truthfulqa", files / "plain.txt"): "has no column",
        ("--truthfulqa", files / "truht.csv"): "Did you mean 'truth.csv'?",
        ("--choices", files / "plain.txt", *maps): "of a kind that is not read",
        ("--concept", " , ", "--neutral", files / "plain.txt", *maps): "is empty",
        (*choices, "--steering", files / "nowhere"): "there is no folder",
    }
    for flags, words in cases.items():
        assert words in " ".join(refused(*command(files, tmp_path / "run", *flags)).split()), flags
        assert not (tmp_path / "run").exists(), flags
    other = command(files, tmp_path / "run", *choices, *maps)
    other[2] = files / "other"
    assert "were fitted for" in refused(*other)
    assert not (tmp_path / "run").exists()
