"""Help, version, unknown words, crashes and interruptions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import audit.cli.runs
from audit import __version__
from tests.cli.conftest import Call

ROOT = Path(__file__).parents[2]
HEAVY = "{'torch', 'transformers', 'pandas', 'scipy', 'sklearn', 'altair'}"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["scor"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom audit.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"sys.exit(','.join({HEAVY} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["audit", "score", "doctor", "demo", "runs", "testbed"])
def test_the_help_of_a_verb_imports_no_torch(verb: str) -> None:
    code = (
        "import sys\nfrom audit.cli.main import main\n"
        f"try:\n    main([{verb!r}, '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "sys.exit(','.join({'torch', 'transformers'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: palimpsest " + verb in done.stdout


def test_help_names_every_verb(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    for verb in ("audit", "demo", "score", "testbed", "runs", "doctor"):
        assert f"\n  {verb} " in out


def test_the_help_of_score_says_whose_the_revision_is_and_names_every_format(call: Call) -> None:
    words = " ".join(call("score", "--help").out.split())
    assert "jsonl, json, csv, tsv, txt (each also .gz), parquet, a folder of txt, or hf:owner/name" in words
    assert "of the model, when it is a Hugging Face id; not of a reference" in words
    assert "laid over the model; not over a reference" in words


def test_version(call: Call) -> None:
    assert call("--version") == (0, f"palimpsest {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["scor"], "Did you mean 'score'"),
        (["runs", "lst"], "Did you mean 'list'"),
        (["score", "m", "t", "--otu", "x"], "--out"),
        (["score", "m", "t"], "Missing option '--out'"),
        (["audit"], "Missing argument"),
        (["demo", "--seed", "-1"], "'--seed': Input should be greater than or equal to 0"),
        (["score", "m", "t", "--out", "x.csv", "--k", "many"], "'--k': Input should be a valid number"),
    ],
)
def test_an_unknown_word_or_flag_names_the_nearest(
    refused: Callable[..., str], arguments: list[str], hint: str
) -> None:
    assert hint in refused(*arguments)


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_our_own_mistake_keeps_its_traceback_and_never_looks_like_a_breached_gate(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.cli.runs, "list_runs", raising(ZeroDivisionError("by us")))
    code, _, err = call("runs", "list")
    assert code == 3
    assert "Traceback" in err
    assert "ZeroDivisionError: by us" in err
    assert "mistake in Palimpsest; please report" in err


def test_an_interruption_says_how_to_go_on_and_never_looks_like_a_breached_gate(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.cli.runs, "list_runs", raising(KeyboardInterrupt()))
    code, _, err = call("runs", "list")
    assert code == 3
    assert err == "palimpsest: interrupted; what was finished is kept, and the same command goes on from there.\n"


def test_a_full_disk_outside_our_own_writing_is_a_message(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.cli.runs, "list_runs", raising(OSError(28, "No space left on device", "some/file")))
    message = refused("runs", "list")
    assert "palimpsest: could not read or write 'some/file': the disk is full. Free some space there" in message


def test_a_permission_that_lacks_is_told_as_such(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit.cli.runs, "list_runs", raising(PermissionError(13, "Permission denied", "locked")))
    message = refused("runs", "list")
    assert "could not read or write 'locked': permission denied. Change its permissions" in message
    assert "space" not in message


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "show", LONG],
        ["runs", "list", "--runs", LONG],
        ["audit", LONG],
        ["score", LONG, "texts.jsonl", "--out", "s.csv"],
        ["score", "m", LONG + ".jsonl", "--out", "s.csv"],
        ["score", "m", "texts.jsonl", "--out", LONG + ".csv"],
        ["score", "m", "texts.jsonl", "--out", "x" * 245 + ".csv"],  # its .meta.json would be too long
    ],
)
def test_a_name_that_is_too_long_is_a_message(
    refused: Callable[..., str], arguments: list[str], texts: Path, llama: Path
) -> None:
    message = refused(*(llama if argument == "m" else argument for argument in arguments))
    assert "name" in message
    assert "too long" in message


@pytest.mark.parametrize("when", ["early", "late"])
def test_sigterm_ends_a_command_as_ctrl_c_does(when: str) -> None:
    """Early: while typer is imported. Late: in the verb, whose own handlers still run."""
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    code = {
        "early": f"import sys\nclass Finder:\n    def find_spec(self, name, *_):\n        if name == 'typer':\n"
        f"            {kill}\nsys.meta_path.insert(0, Finder())\n",
        "late": f"import audit.cli.runs as runs\ndef list_runs(_):\n    {kill}\nruns.list_runs = list_runs\n",
    }[when]
    code += "from audit.cli.main import main\nmain(['runs', 'list'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("palimpsest: interrupted; what was finished is kept")
    assert len(done.stderr.splitlines()) == 1


def test_an_interruption_while_options_are_read_ends_as_any_other(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.core.TyperGroup.parse_args", raising(KeyboardInterrupt()))
    code, _, err = call("runs", "list")
    assert code == 3
    assert err.startswith("palimpsest: interrupted")


def test_a_reader_that_goes_away_is_no_breached_gate_and_no_traceback(tmp_path: Path) -> None:
    code = (
        "import sys, audit.cli.runs as runs\nfrom audit.cli.main import main\n"
        "def many(root):\n"
        "    while True:\n        print('x' * 1000)\n"
        "runs.list_runs = many\nmain(['runs', 'list'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(60) == 3
