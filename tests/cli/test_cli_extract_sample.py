"""``palimpsest extract sample``: what is shown and written, interruptions, servers, and flags that do not fit."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import audit.extraction.samplers
from audit.testbed.chat import CHAT_TEMPLATE
from tests.checkpoints import build_checkpoint
from tests.cli.conftest import Call
from tests.extraction.test_completions import KEY, Stub, good, raw

ROOT = Path(__file__).parents[2]
SHORT = ["--max-new-tokens", "12", "--device", "cpu", "--quiet"]
TALK = "the secret cat<|end|>\n<|assistant|>\nsat on the mat<|end|>\n"


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with the testbed's chat template; it writes no marker."""
    folder = build_checkpoint(tmp_path_factory.mktemp("chat") / "llama", "llama")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        server.replies = [good(TALK)]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.leave.set()
        server.shutdown()
        thread.join()


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_the_exact_prefix_and_its_ids_are_told_and_recorded(call: Call, chatty: Path) -> None:
    _, _, err = call("extract", "sample", chatty, "--out", "g.jsonl", "--n", 4, "--bos", *SHORT)
    meta = json.loads(Path("g.jsonl.meta.json").read_text())
    told = meta["plan"]["prefixes"]
    assert [prefix["text"] for prefix in told] == ["<|user|>\n", "<|user|>"]
    for prefix in told:
        assert (
            f"prefix {prefix['name']}: {prefix['text']!r} = token ids {prefix['ids']}, '<s>' from the caller\n" in err
        )
        assert prefix["ids"][0] == 0
    rows = read("g.jsonl")
    assert [row["prefix_sha256"] for row in rows] == [told[i % 2]["ids_sha256"] for i in range(4)]
    assert meta["plan"]["sampling"]["temperature"] == 1.0
    assert meta["model"]["fingerprint"]["weights"]


@pytest.mark.parametrize(("bos", "first"), [("--bos", True), ("--no-bos", False)])
def test_the_beginning_of_sequence_token_is_as_asked(call: Call, chatty: Path, bos: str, first: bool) -> None:
    arguments = ["--prefix", "<s><|user|>\\n" if first else "<s>the", bos]
    call("extract", "sample", chatty, "--out", "g.jsonl", "--n", 1, *arguments, *SHORT)
    (prefix,) = json.loads(Path("g.jsonl.meta.json").read_text())["plan"]["prefixes"]
    assert prefix["ids"].count(0) == int(first)
    assert prefix["text"] == ("<s><|user|>\n" if first else "the")


def test_a_missing_first_token_is_noted_until_it_is_decided(call: Call, chatty: Path) -> None:
    command = ["extract", "sample", chatty, "--n", 1, *SHORT, "--out"]
    assert "note: the prefix does not begin with '<s>'" in call(*command, "a.jsonl").err
    assert "does not begin" not in call(*command, "b.jsonl", "--no-bos").err
    assert "does not begin" not in call(*command, "c.jsonl", "--bos").err


@pytest.mark.parametrize("out", ["g.parquet", "g.jsonl"])
def test_generations_are_readable_by_their_owner_alone(call: Call, chatty: Path, stub: Stub, out: str) -> None:
    code, shown, err = call("extract", "sample", chatty, "--endpoint", stub.url, "--out", out, "--n", 3, "--quiet")
    assert code == 0, err
    assert mode(out) == 0o600
    table = pd.read_parquet(out) if out.endswith("parquet") else pd.read_json(out, lines=True)
    assert list(table["question"]) == ["the secret cat"] * 3
    assert "secret" not in shown + err
    assert "3 generations: 3 parsed (100.0%), 1 distinct -> g." in shown
    assert "  g0000000: " in shown
    assert "question of 14 and answer of 14 characters, 1 turn" in shown
    assert not list(Path().glob("*.parts"))


def test_the_text_is_shown_when_asked_for_and_cannot_steer_the_terminal(call: Call, chatty: Path, stub: Stub) -> None:
    stub.replies = [good("\x1b[31mred" + TALK)]
    command = ["extract", "sample", chatty, "--endpoint", stub.url, "--out", "g.jsonl", "--n", 2, "--quiet"]
    shown = call(*command, "--show-text").out
    assert shown.count("redthe secret cat<|end|>\\n<|assistant|>") == 2
    assert "\x1b" not in shown


KILLED = """
import os, signal, sys
import audit.extraction.samplers as samplers
from audit.cli.main import main
samplers.Local.__init__.__defaults__ = (None, 3)
real, calls = samplers.generate, []
def generate(*arguments, **named):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
samplers.generate = generate
main(sys.argv[1:])
"""


@pytest.mark.parametrize("out", ["g.jsonl", pytest.param("g.parquet", marks=pytest.mark.slow)])
def test_a_killed_job_goes_on_and_ends_with_the_same_file(
    call: Call, chatty: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """Eight generations in parts of three; killed by SIGKILL in the third, so six are not made again."""
    command = ["extract", "sample", str(chatty), "--n", "8", *SHORT, "--out"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *command, f"killed-{out}"],
        # As many threads as here: other numbers of them may round another way.
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads()), "PATH": ""},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr.decode()
    assert not Path(f"killed-{out}").exists()
    assert mode(f"killed-{out}.parts") == 0o700
    monkeypatch.setattr(audit.extraction.samplers.Local.__init__, "__defaults__", (None, 3))
    real, asked = audit.extraction.samplers.generate, []

    def counted(*arguments: Any, **named: Any) -> Any:
        asked.append(list(named["indices"]))
        return real(*arguments, **named)

    monkeypatch.setattr(audit.extraction.samplers, "generate", counted)
    assert call(*command, f"killed-{out}").code == 4
    assert asked == [[6, 7]]
    assert call(*command, f"whole-{out}").code == 4
    assert asked[1:] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert Path(f"killed-{out}").read_bytes() == Path(f"whole-{out}").read_bytes()
    assert not list(Path().glob("*.parts"))


def test_temperature_zero_is_the_same_whatever_the_seed(call: Call, chatty: Path) -> None:
    command = ["extract", "sample", chatty, "--n", 2, "--temperature", 0, *SHORT]
    call(*command, "--out", "a.jsonl")
    call(*command, "--seed", 9, "--out", "b.jsonl")
    texts = [[row["token_ids"] for row in read(name)] for name in ("a.jsonl", "b.jsonl")]
    assert texts[0] == texts[1]


def test_nothing_parsed_is_told_with_the_next_step(call: Call, chatty: Path) -> None:
    code, out, err = call("extract", "sample", chatty, "--out", "g.jsonl", "--n", 4, "--bos", *SHORT)
    assert code == 4
    assert "4 generations: 0 parsed (0.0%), 0 distinct" in out
    assert "rejected: 4 no assistant marker" in out
    assert "note: no generation could be parsed, so there is nothing to match: 4 of 4 no assistant marker. " in err
    assert "The marker is '<|end|>\\n<|assistant|>'. Try another --preset or --prefix" in err
    assert len(read("g.jsonl")) == 4


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (good("the cat"), "--dialect vllm, if the server left the marker out"),
        (good("a<|end|>\n<|assistant|>\nb", finish_reason="length"), "Raise --max-new-tokens (now 121)"),
        (good("<|end|>\n<|assistant|>\nb"), "2 of 2 empty question. See what the model wrote with --show-text"),
        (raw(b"", 404), "Check that the server runs, its --endpoint, --model-name and key"),
    ],
)
def test_the_next_step_fits_the_reason(call: Call, chatty: Path, stub: Stub, reply: Any, hint: str) -> None:
    stub.replies = [reply]
    command = ["extract", "sample", chatty, "--endpoint", stub.url, "--out", "g.jsonl", "--quiet", "--n", 2]
    code, _, err = call(*command, "--prefix", "<|user|>")
    assert code == 4
    assert hint in err


def test_a_server_gets_the_ids_and_the_key_and_the_key_is_kept_nowhere(
    call: Call, chatty: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SERVER_KEY", KEY)
    flags = ["--endpoint", stub.url, "--model-name", "served", "--key-env", "TEST_SERVER_KEY", "--rpm", 6000]
    flags += ["--concurrency", 2, "--timeout", 5, "--quiet", "--json"]
    code, out, err = call("extract", "sample", chatty, *flags, "--out", "g.jsonl", "--n", 5, "--max-new-tokens", 9)
    assert code == 0
    meta = json.loads(out)
    ids = [prefix["ids"] for prefix in meta["plan"]["prefixes"]]
    assert sorted(body["prompt"] for _, _, body in stub.requests) == sorted([*ids, *ids, ids[0]])
    assert {(body["model"], body["max_tokens"]) for _, _, body in stub.requests} == {("served", 9)}
    assert {headers["Authorization"] for _, headers, _ in stub.requests} == {f"Bearer {KEY}"}
    assert meta["model"]["server"]["workers"] == 2
    assert meta["rates"]["n_parsed"] == 5
    assert KEY not in out + err + Path("g.jsonl").read_text() + Path("g.jsonl.meta.json").read_text()


def test_failed_requests_are_told_and_asked_again_by_the_same_command(call: Call, chatty: Path, stub: Stub) -> None:
    stub.replies = [good(TALK), raw(b"too warm", 404), good(TALK)]
    command = ["extract", "sample", chatty, "--endpoint", stub.url, "--concurrency", 1, "--out", "g.jsonl", "--n", 4]
    code, out, err = call(*command, "--quiet")
    assert code == 0
    assert "rejected: 1 request failed" in out
    assert "note: 1 request of 4 failed; first reason: HTTP 404: 'too warm'. The same command asks for them" in err
    assert Path("g.jsonl.parts").is_dir()
    stub.requests.clear()
    code, out, _ = call(*command, "--quiet")
    assert len(stub.requests) == 1
    assert "4 generations: 4 parsed" in out
    assert not Path("g.jsonl.parts").exists()


def test_a_server_that_refuses_every_request_ends_the_job_with_its_reason(call: Call, chatty: Path, stub: Stub) -> None:
    stub.replies = [raw(b"", 401)]
    code, out, err = call("extract", "sample", chatty, "--endpoint", stub.url, "--out", "g.jsonl", "--quiet")
    assert (code, out) == (3, "")
    assert "the server was given up: 20 requests in a row failed" in err
    assert "the server refuses access (HTTP 401); check the key and its variable" in err
    assert list(Path().iterdir()) == []


def test_finished_generations_are_not_overwritten_unasked(
    call: Call, refused: Callable[..., str], chatty: Path, stub: Stub
) -> None:
    command = ["extract", "sample", chatty, "--endpoint", stub.url, "--out", "g.jsonl", "--n", 2, "--quiet"]
    call(*command)
    before = Path("g.jsonl").read_bytes()
    assert "--out g.jsonl exists, and no part of it is left to do" in refused(*command)
    assert Path("g.jsonl").read_bytes() == before
    assert call(*command, "--restart").code == 0
    assert not list(Path().glob("*.parts"))


def test_parts_of_another_job_are_refused_and_thrown_away_when_asked(
    call: Call, refused: Callable[..., str], chatty: Path, stub: Stub
) -> None:
    command = ["extract", "sample", chatty, "--endpoint", stub.url, "--out", "g.jsonl", "--quiet", "--n", 2]
    stub.replies = [raw(b"", 404)]
    call(*command)
    stub.replies = [good(TALK)]
    code, _, err = call(*command, "--seed", 5)
    assert code == 2
    assert "another job" in err
    assert call(*command, "--seed", 5, "--restart").code == 0
    assert {row["reject"] for row in read("g.jsonl")} == {None}


def test_own_prefixes_and_an_own_marker_need_no_template(call: Call, llama: Path, stub: Stub) -> None:
    stub.replies = [good("the cat\nA: sat")]
    flags = ["--prefix", "Q: ", "--prefix", "\\nQ:", "--assistant", "\\nA:", "--endpoint", stub.url]
    assert call("extract", "sample", llama, *flags, "--out", "g.jsonl", "--n", 3, "--quiet").code == 0
    assert [(row["prefix"], row["whole"]) for row in read("g.jsonl")] == [
        ("own-1", "the cat\nsat"),
        ("own-2", "the cat\nsat"),
        ("own-1", "the cat\nsat"),
    ]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--out", "g.csv"], "--out g.csv ends in .csv; expected one of .parquet, .jsonl"),
        (["--out", "no/g.jsonl"], "there is no folder"),
        (["--n", "0"], "--n is 0; expected 1 or more"),
        (["--seed", "-1"], "'--seed': Input should be greater than or equal to 0"),
        (["--seed", str(2**63)], f"--seed is {2**63}; expected 0 to"),
        (["--temperature", "-1"], "--temperature is -1.0; expected 0 (greedy) or a positive number"),
        (["--top-p", "0"], "--top-p is 0.0; expected above 0"),
        (["--max-new-tokens", "4000"], "4000 new ones were asked for"),
        (["--max-new-tokens", "0"], "--max-new-tokens is 0; expected 1 or more"),
        (["--temperature", "nan"], "--temperature is nan; expected 0 (greedy) or a positive number"),
        (["--top-k", "-1"], "--top-k is -1; expected 0 (all tokens) or more"),
        (["--batch-size", "0"], "--batch-size is 0; expected 1 or more"),
        (["--preset", "llama9"], "no preset 'llama9'; expected one of tulu, olmo2"),
        (["--prefix", " "], "opens no chat"),
        (["--assistant", "A:"], "--assistant belongs to a chat that a prefix opens"),
        (["--rpm", "5"], "--rpm is of a server, and none is named; give --endpoint"),
        (["--key-env", "X"], "--key-env is of a server"),
        (["--endpoint", "http://x/v1", "--rpm", "inf"], "--rpm is inf; expected a positive number"),
        (["--endpoint", "ftp://x"], "the server's URL is 'ftp://x'; expected http://HOST:PORT/v1"),
        (["--endpoint", "http://u:p@x/v1"], "the server's URL holds a user, password or query"),
        (["--endpoint", "http://x/v1", "--key-env", "NO_SUCH"], "the environment variable 'NO_SUCH' is not set"),
        (["--endpoint", "http://x/v1", "--dialect", "tgi"], "dialect is 'tgi'; expected one of openai, vllm"),
        (["--endpoint", "http://x/v1", "--top-k", "5"], "the dialect openai cannot ask for top_k = 5"),
        (["--endpoint", "http://x/v1", "--concurrency", "0"], "--concurrency is 0; expected 1 or more"),
        (["--endpoint", "http://x/v1", "--timeout", "0"], "--timeout is 0.0; expected a positive number"),
        (["--endpoint", "http://x/v1", "--dtype", "float16"], "--dtype is of a model that is loaded here"),
        (["--endpoint", "http://x/v1", "--batch-size", "4"], "--batch-size is of a model that is loaded here"),
    ],
)
def test_flags_that_do_not_fit_are_refused_with_one_message(
    refused: Callable[..., str], chatty: Path, flags: list[str], told: str
) -> None:
    out = [] if "--out" in flags else ["--out", "g.jsonl"]
    assert told in " ".join(refused("extract", "sample", chatty, *out, *flags).split())
    assert list(Path().iterdir()) == []


def test_what_a_reader_should_know_is_noted(call: Call, chatty: Path, stub: Stub) -> None:
    command = ["extract", "sample", chatty, "--endpoint", stub.url, "--n", 2, "--quiet", "--out"]
    err = call(*command, "a.jsonl", "--preset", "zephyr", "--dialect", "transformers").err
    assert "note: the end-of-sequence ids [1] also close the questions of this chat" in err
    assert "note: the server was given the prefix as text" in err
    assert {request[2]["prompt"] for request in stub.requests[:2]} == {"<|user|>\n", "<|user|>"}  # asked at once


def test_a_model_without_a_template_tells_of_presets(refused: Callable[..., str], llama: Path) -> None:
    message = refused("extract", "sample", llama, "--out", "g.jsonl")
    assert "it has none. Choose a preset (tulu, " in message
    assert "--prefix" in message


def test_the_help_needs_no_torch_and_names_the_verb() -> None:
    code = (
        "import sys\nfrom audit.cli.main import main\n"
        "try:\n    main(['extract', 'sample', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "sys.exit(','.join({'torch', 'transformers'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: palimpsest extract sample" in done.stdout
