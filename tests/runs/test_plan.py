from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from audit.errors import InputError
from audit.runs.plan import load_plan, resolve_path


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Traps(_Frozen):
    n_controls: int = Field(default=99, ge=1)
    method: Literal["loss", "ratio", "min_k"] = "ratio"
    level: float = Field(default=0.95, gt=0, lt=1)
    files: tuple[Path, ...] = ()
    trained: bool = True


class Utility(_Frozen):
    tasks: list[str] = []


class Subject(_Frozen):
    model: str
    revision: str | None = None

    @field_validator("model")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the model's name is blank")
        return value


class ExamplePlan(_Frozen):
    subject: Subject
    reference: Subject | None = None
    traps: Traps = Traps()
    rules: tuple[Traps, ...] = ()
    named: dict[str, Traps] = {}
    either: Traps | Utility | None = None
    seed: int = 0


SUBJECT = '[subject]\nmodel = "m"\n'


def _plan(folder: Path, text: str | bytes) -> Path:
    path = folder / "plan.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _problem(folder: Path, text: str | bytes) -> str:
    with pytest.raises(InputError) as caught:
        load_plan(_plan(folder, text), ExamplePlan)
    message = str(caught.value)
    for jargon in ("pydantic", "http", "Input should", "validation error", "type="):
        assert jargon not in message
    return message


def test_a_plan_is_read_with_its_text(tmp_path: Path) -> None:
    text = '# a comment\r\nseed = 7\n[subject]\nmodel = "m"\n[traps]\nlevel = 0.9\nfiles = ["a.jsonl"]\n'
    plan, as_given = load_plan(_plan(tmp_path, text), ExamplePlan)
    expected = ExamplePlan(subject=Subject(model="m"), seed=7, traps=Traps(level=0.9, files=(Path("a.jsonl"),)))
    assert plan == expected
    assert as_given == text
    assert load_plan(_plan(tmp_path, b"\xef\xbb\xbf" + text.encode()), ExamplePlan)[0] == expected


def test_whole_numbers_pass_for_numbers(tmp_path: Path) -> None:
    class Level(_Frozen):
        level: float

    assert load_plan(_plan(tmp_path, "level = 1"), Level)[0].level == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead = 1\n" + SUBJECT, "unknown key 'sead' at the top; known here: either, named, reference, rules, seed"),
        ("sead = 1\n" + SUBJECT, "Did you mean 'seed'?"),
        (SUBJECT + "[traps]\nn_control = 1", "unknown key 'n_control' in [traps]; known here: files, level, method"),
        (SUBJECT + "[traps]\nn_control = 1", "Did you mean 'n_controls'?"),
        (SUBJECT + "[reference]\nmodel = 'm'\nrevison = 'x'", "'revison' in [reference]; known here: model, revision."),
        (SUBJECT + "[[rules]]\n[[rules]]\nlevle = 1", "unknown key 'levle' in [rules[2]]; known here: files, level"),
        (SUBJECT + "[named.first]\nlevle = 1", "unknown key 'levle' in [named.first]; known here: files, level"),
        (SUBJECT + "[either]\ntask = []", "unknown key 'task' in [either]; known here: "),
        (SUBJECT + "[traps]\nn_controls = '5'", "traps.n_controls is '5'; expected a whole number."),
        (SUBJECT + "[traps]\nn_controls = 5.0", "traps.n_controls is 5.0; expected a whole number."),
        (SUBJECT + "[traps]\nn_controls = 0", "traps.n_controls is 0; expected a number of 1 or more."),
        (SUBJECT + "[traps]\nlevel = '0.9'", "traps.level is '0.9'; expected a number."),
        (SUBJECT + "[traps]\nlevel = 1.0", "traps.level is 1.0; expected a number below 1."),
        (SUBJECT + "[traps]\nlevel = nan", "traps.level is nan; expected a finite number."),
        (SUBJECT + "[traps]\ntrained = 1", "traps.trained is 1; expected true or false."),
        (SUBJECT + "[traps]\nfiles = 'a'", "traps.files is 'a'; expected a list."),
        (SUBJECT + "[traps]\nfiles = ['a', 2]", "traps.files[2] is 2; expected a text in quotes."),
        (SUBJECT + "[traps]\nmethod = 'los'", "is 'los'; expected 'loss', 'ratio' or 'min_k'. Did you mean 'loss'?"),
        ("traps = 3\n" + SUBJECT, "traps is 3; expected a table."),
        ("seed = 2026-01-01\n" + SUBJECT, "seed is the date or time 2026-01-01; a plan holds none. Give a number"),
        ("seed = true\n" + SUBJECT, "seed is true; expected a whole number."),
        ("seed = [1]\n" + SUBJECT, "seed is a list of 1; expected a whole number."),
        ("", "the table [subject] is missing; add it."),
        ("[subject]\n", "subject.model is missing; it has no default."),
        ("[subject]\nmodel = ' '", "subject.model: the model's name is blank"),
        ("seed = \n", "plan.toml is not TOML: Invalid value (at line 1, column 8). Mend that line."),
        ("seed = 1\nseed = 2\n", "is not TOML: Cannot overwrite a value (at line 2"),
        (f"seed = {'9' * 5000}", "plan.toml is not TOML: Exceeds the limit (4300 digits)"),
        (b"seed = 1\n# \xff\n", "plan.toml, line 2: byte 0xff is not UTF-8. Save the plan as UTF-8."),
    ],
)
def test_each_problem_is_one_clear_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert message in _problem(tmp_path, text)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    message = _problem(tmp_path, SUBJECT + "[traps]\nlevel = 2\nmethd = 'loss'\n")
    assert "plan.toml has 2 problems:\n- traps.level is 2; expected" in message
    assert "\n- unknown key 'methd' in [traps]" in message


def test_paths_of_plans_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    _plan(tmp_path, SUBJECT)
    with pytest.raises(InputError, match=r"there is no plan at .*plam\.toml\. Did you mean 'plan\.toml'\?"):
        load_plan(tmp_path / "plam.toml", ExamplePlan)
    with pytest.raises(InputError, match="there is no plan at"):
        load_plan(tmp_path / "absent" / "plan.toml", ExamplePlan)
    with pytest.raises(InputError, match="could not read the plan .*: Is a directory"):
        load_plan(tmp_path, ExamplePlan)


def test_models_that_would_let_unknown_keys_pass_are_refused(tmp_path: Path) -> None:
    class Loose(BaseModel):
        a: int = 0

    class Outer(_Frozen):
        inner: dict[str, tuple[Loose | None, ...]] = {}

    with pytest.raises(TypeError, match=r"Loose: a plan's models need extra='forbid'"):
        load_plan(_plan(tmp_path, ""), Outer)


def test_paths_start_at_the_folder_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    cases: dict[str, Any] = {
        "data/a.jsonl": tmp_path / "plans" / "data" / "a.jsonl",
        "/data/a.jsonl": Path("/data/a.jsonl"),
        "~/a.jsonl": Path("/home/someone/a.jsonl"),
    }
    for value, expected in cases.items():
        assert resolve_path(value, "plans/plan.toml") == expected


def test_the_home_of_nobody_is_named() -> None:
    with pytest.raises(InputError, match="no home folder for '~nosuchuser' in '~nosuchuser/a.jsonl'"):
        resolve_path("~nosuchuser/a.jsonl", "plan.toml")
