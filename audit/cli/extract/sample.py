"""``palimpsest extract sample MODEL --out GENERATIONS``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ...text.safe import counted, for_terminal, quoted
from .. import options
from ..outputs import check_out, parts_folder
from . import flags
from .asked import settings_of

if TYPE_CHECKING:
    from ...extraction.completions import Server
    from .sampling import Done, Job

SUFFIXES = (".parquet", ".jsonl")
SHOWN = 10  # generations that are told of on the screen


def sample(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a checkpoint, or a Hugging Face id; with --endpoint, only its tokenizer is read."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the generations go: .parquet or .jsonl, readable by you alone.")],
    prefix: flags.Prefix = None,
    preset: flags.Preset = None,
    assistant: flags.Assistant = None,
    bos: flags.Bos = None,
    n: flags.N = 1000,
    seed: options.Seed = 0,
    temperature: flags.Temperature = 1.0,
    top_p: flags.TopP = 1.0,
    top_k: flags.TopK = 0,
    max_new_tokens: flags.MaxNewTokens = None,
    batch_size: flags.BatchSize = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Sample from an OpenAI-compatible server instead: http://HOST:PORT/v1.")
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="Name of the model at --endpoint. [default: MODEL]")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the key of --endpoint.")] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            help="What --endpoint understands: openai, vllm or transformers. Only vllm can be asked to leave markers "
            "that are special tokens in the text. [default: openai]"
        ),
    ] = None,
    rpm: Annotated[float | None, typer.Option(help="Requests a minute at most. [default: no limit]")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at a time. [default: 4]")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that one answer may take at most. [default: 600]")
    ] = None,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show what the model wrote; it may be training text.")
    ] = False,
    revision: options.Revision = None,
    adapter: options.Adapter = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an earlier attempt finished, or an earlier OUT.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Give a model the opening of a chat and nothing else, and keep what it writes.

    One row for each generation: id, prefix, prefix_sha256, seed, token_ids, n_tokens, finish_reason, text, and
    question, answer, whole and n_turns, or reject, why there are none. Generation i depends on seed and i alone. An
    interrupted job goes on from its finished parts, and requests that failed are asked again, by the same command.
    Exit code: 0 when there are generations to match, 4 when none could be parsed, 2 for bad input, 3 when interrupted.
    """
    _check_flags(
        endpoint,
        of_server={
            "--model-name": model_name,
            "--key-env": key_env,
            "--dialect": dialect,
            "--rpm": rpm,
            "--concurrency": concurrency,
            "--timeout": timeout,
        },
        of_model={
            "--adapter": adapter,
            "--device-map": device_map,
            "--batch-size": batch_size,
            "--dtype": None if dtype == "auto" else dtype,
            "--device": None if device == "auto" else device,
        },
    )
    _check_ranges(
        {
            "--batch-size": (batch_size, batch_size is None or batch_size >= 1, "1 or more"),
            "--rpm": (rpm, rpm is None or 0.0 < rpm < math.inf, "a positive number"),
            "--concurrency": (concurrency, concurrency is None or concurrency >= 1, "1 or more"),
            "--timeout": (timeout, timeout is None or 0.0 < timeout < math.inf, "a positive number"),
        }
    )
    settings = settings_of(
        prefix=prefix,
        preset=preset,
        assistant=assistant,
        bos=bos,
        n=n,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
    )
    subject = options.subject(
        model,
        revision=revision,
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    _check_out(out, model, restart=restart)
    options.quiet_libraries()  # before torch is imported
    from .sampling import Job, run_job

    server = None
    if endpoint is not None:
        server = _server(
            endpoint, model_name or model, key_env, dialect, rpm=rpm, concurrency=concurrency, timeout=timeout
        )
    job = Job(subject, server, out, settings, batch_size)
    done = run_job(job, restart=restart, quiet=quiet)
    _tell(done, job, show_text=show_text, as_json=as_json)
    sys.exit(0 if done.rates.n_parsed else 4)


def _check_flags(endpoint: str | None, *, of_server: Mapping[str, object], of_model: Mapping[str, object]) -> None:
    given = next((flag for flag, value in of_server.items() if value is not None), None)
    if endpoint is None and given is not None:
        raise InputError(f"{given} is of a server, and none is named; give --endpoint, or leave {given} out.")
    given = next((flag for flag, value in of_model.items() if value is not None), None)
    if endpoint is not None and given is not None:
        raise InputError(f"{given} is of a model that is loaded here, but --endpoint samples; leave one of them out.")


def _check_ranges(values: Mapping[str, tuple[float | None, bool, str]]) -> None:
    for flag, (value, fits, expected) in values.items():
        if not fits:
            raise InputError(f"{flag} is {value}; expected {expected}.")


def _check_out(out: Path, model: str, *, restart: bool) -> None:
    """Refuses an --out that could not be written in the end, or whose generations would be lost."""
    if not out.is_dir() and out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out} ends in {out.suffix or 'nothing'}; expected one of {', '.join(SUFFIXES)}.")
    check_out(out, model)
    if out.exists() and not parts_folder(out).exists() and not restart:
        raise InputError(
            f"--out {out} exists, and no part of it is left to do. Choose another --out, or sample it anew with "
            "--restart."
        )


def _server(
    url: str,
    model: str,
    key_variable: str | None,
    dialect: str | None,
    *,
    rpm: float | None,
    concurrency: int | None,
    timeout: float | None,
) -> Server:
    from ...extraction.completions import Server

    settings: dict[str, Any] = {"per_minute": rpm, "workers": concurrency, "dialect": dialect}
    if timeout is not None:
        settings |= {"answer_seconds": timeout, "read_seconds": timeout}
    return Server(url, model, key_variable, **{name: value for name, value in settings.items() if value is not None})


def _tell(done: Done, job: Job, *, show_text: bool, as_json: bool) -> None:
    for note in done.notes:
        print(for_terminal(f"note: {note}"), file=sys.stderr)
    if as_json:
        print(json.dumps(done.meta))
        return
    rates = done.rates
    share = f"{rates.n_parsed:,} parsed ({rates.parsed_rate:.1%}), {rates.n_distinct:,} distinct"
    print(
        for_terminal(f"{counted(rates.n, 'generation')}: {share} -> {options.shown(job.out)} (readable by you alone)")
    )
    if rates.rejects:
        print("rejected: " + ", ".join(f"{count:,} {reason}" for reason, count in rates.rejects.items()))
    if len(rates.by_prefix) > 1:
        for name, (count, n_parsed) in rates.by_prefix.items():
            print(for_terminal(f"prefix {name}: {n_parsed:,} of {count:,} parsed ({n_parsed / count:.1%})"))
    for row in done.generations.slice(0, SHOWN).to_pylist():
        print(for_terminal(f"  {row['id']}: {_shown(row)}"))
        if show_text:
            print(for_terminal(f"    {quoted(row['text'], limit=2_000)}"))
    if rates.n > SHOWN:
        print(f"  and {rates.n - SHOWN:,} more in the file")


def _shown(row: Mapping[str, Any]) -> str:
    """What may be told of a generation without telling what the model wrote."""
    size = counted(row["n_tokens"], "token")
    if row["reject"] is not None:
        return f"{size}, rejected: {row['reject']}"
    sides = f"question of {len(row['question']):,} and answer of {len(row['answer']):,} characters"
    return f"{size}, {sides}, {counted(row['n_turns'], 'turn')}"
