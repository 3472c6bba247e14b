"""The work behind ``palimpsest extract sample``: made in parts, resumed after a kill, written once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ... import __version__
from ...extraction.completions import Server
from ...extraction.config import SampleSettings
from ...extraction.planning import sample_plan
from ...extraction.prefixes import Prefix
from ...extraction.sample import FAILED, Rates, SamplePlan, rates, sample_in_parts
from ...extraction.samplers import Local, Remote
from ...lm.load import Tokens, load, load_tokens
from ...lm.subject import Subject
from ...progress import progress_bars
from ...runs.lock import LOCK_NAME, FolderLock
from ...runs.shards import ShardedTable, has_parts, remove_parts
from ...text.files import atomic_writer, make_folder, sha256_file, storage_errors, write_json
from ...text.safe import counted, for_terminal, quoted
from ...text.tables import write_parquet
from ..outputs import meta_path, parts_folder


@dataclass(frozen=True, slots=True)
class Job:
    """What is sampled, from what, and where it goes; `settings` as the flags of the verb tell."""

    subject: Subject
    server: Server | None
    out: Path
    settings: SampleSettings
    batch_size: int | None

    @property
    def parts(self) -> Path:
        """Where finished parts lie until every request is answered."""
        return parts_folder(self.out)


@dataclass(frozen=True, slots=True)
class Done:
    """The generations, their rates, what a reader should know, and what ``OUT.meta.json`` holds."""

    generations: pa.Table
    rates: Rates
    notes: list[str]
    meta: dict[str, Any]


def run_job(job: Job, *, restart: bool, quiet: bool) -> Done:
    """Sample, and write the generations and what they were made with; one process at a time works for an OUT.

    Prefixes are made and told before a model is loaded. The parts stay as long as a request has no answer.
    """
    tokens = load_tokens(job.subject)
    plan = sample_plan(tokens, job.settings)
    tell_prefixes(plan.prefixes)
    make_folder(job.parts)
    with storage_errors(job.parts, kept="nothing was changed", doing="protect"):
        job.parts.chmod(0o700)
    lock = FolderLock(job.parts)
    lock.acquire()
    try:
        if restart:
            _remove_parts(job.parts, keep_lock=True)
        return _sample_and_write(job, tokens, quiet=quiet)
    finally:
        if not any(has_parts(folder) for folder in _attempts(job.parts)):
            _remove_parts(job.parts)
        lock.release()


def tell_prefixes(found: Sequence[Prefix]) -> None:
    """What the model will be given, to the token."""
    for prefix in found:
        start = f", {quoted(prefix.bos)} from the {prefix.bos_from}" if prefix.bos else ""
        text = f"prefix {prefix.name}: {prefix.text!r} = token ids {list(prefix.ids)}{start}"
        print(for_terminal(text), file=sys.stderr)


def _sample_and_write(job: Job, tokens: Tokens, *, quiet: bool) -> Done:
    sampler: Local | Remote
    if job.server is None:
        lm = load(job.subject)
        plan, model = (
            sample_plan(lm, job.settings),
            lm.to_record(),
        )  # with the stop ids of the model's own configuration
        sampler = Local(lm, batch_size=job.batch_size)
    else:
        plan, model = (
            sample_plan(tokens, job.settings),
            {"tokenizer": job.subject.to_record(), "server": job.server.to_record()},
        )
        sampler = Remote(job.server, tokens)
    with progress_bars(quiet=quiet) as progress:
        generations = sample_in_parts(
            sampler,
            plan,
            open_parts=lambda name, key, n_parts: ShardedTable(job.parts / name, key=key, n_parts=n_parts),
            progress=progress,
        )
    found = rates(generations)
    notes = _notes(job, tokens, plan, generations, found)
    meta: dict[str, Any] = {
        "palimpsest": __version__,
        "model": model,
        "plan": plan.to_record(),
        "rates": found.to_record(),
        "notes": notes,
        "out": str(job.out),
    }
    path = meta_path(job.out)
    with storage_errors(path, kept="the finished parts are unchanged", doing="replace"):
        Path(os.path.realpath(path)).unlink(missing_ok=True)  # so that it never stays beside other generations
    _write_secret(job.out, generations)
    meta["out_sha256"] = sha256_file(job.out)
    write_json(path, meta)
    if not found.n_failed:
        _remove_parts(job.parts, keep_lock=True)
    return Done(generations, found, notes, meta)


def _write_secret(path: Path, table: pa.Table) -> None:
    """Parquet or JSON lines that their owner alone can read: what the model wrote may be training text."""
    if path.suffix.lower() == ".parquet":
        write_parquet(path, table, secret=True)
        return
    with atomic_writer(path, secret=True) as stream:
        for batch in table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _attempts(parts: Path) -> list[Path]:
    """Folders of parts that `sample_in_parts` made."""
    return [folder for folder in sorted(parts.glob("generations*")) if folder.is_dir() and not folder.is_symlink()]


def _remove_parts(parts: Path, *, keep_lock: bool = False) -> None:
    """Remove what `run_job` made in the folder of parts, and the folder when nothing else lies in it."""
    for folder in _attempts(parts):
        remove_parts(folder)
    if keep_lock:
        return
    with storage_errors(parts, kept="the generations and the finished parts are unchanged", doing="tidy"):
        (parts / LOCK_NAME).unlink(missing_ok=True)
        if not any(parts.iterdir()):
            parts.rmdir()


def _notes(job: Job, tokens: Tokens, plan: SamplePlan, generations: pa.Table, found: Rates) -> list[str]:
    """What a reader of the generations should know, and what to do next where none can be used."""
    notes = list(plan.chat.notes)
    notes += bos_note(tokens, plan, job.settings)
    if plan.stops.passed_over:
        notes.append(
            f"the end-of-sequence ids {list(plan.stops.passed_over)} also close the questions of this chat, so they "
            "end no generation; each then goes on to its limit of new tokens."
        )
    if job.server is not None and job.server.dialect == "transformers":
        notes.append("the server was given the prefix as text, and decides itself whether a BOS stands before it.")
    if found.n_failed:
        failures = (reason for reason in generations["reject"].to_pylist() if str(reason).startswith(FAILED))
        notes.append(
            f"{counted(found.n_failed, 'request')} of {found.n:,} failed; first reason: "
            f"{next(failures).removeprefix(f'{FAILED}: ')}. The same command asks for them again, and for no others."
        )
    if not found.n_parsed:
        notes.append(_next_step(job, plan, found))
    return notes


def bos_note(tokens: Tokens, plan: SamplePlan, settings: SampleSettings) -> list[str]:
    """That the beginning-of-sequence token is missing where nobody decided so; a model may answer otherwise with it."""
    if settings.bos is not None or tokens.bos_id is None or all(prefix.bos for prefix in plan.prefixes):
        return []
    return [
        f"the prefix does not begin with {quoted(str(tokens.tokenizer.bos_token))}, since neither template nor "
        "tokenizer puts it there. If the model was trained with it before every row, pass --bos; else --no-bos."
    ]


def _next_step(job: Job, plan: SamplePlan, found: Rates) -> str:
    """No generation was parsed: why, and what to try."""
    reason, n = next(iter(found.rejects.items()))
    told = f"no generation could be parsed, so there is nothing to match: {n:,} of {found.n:,} {reason}. "
    if reason == FAILED:
        return f"{told}Check that the server runs, its --endpoint, --model-name and key."
    if reason == "cut off by the length limit":
        limit = f"--max-new-tokens (now {plan.sampling.max_new_tokens:,})"
        return (
            f"{told}Raise {limit} if the context has room, or see with --show-text whether the model comes to an end."
        )
    if reason == "no assistant marker":
        marker = quoted(plan.chat.assistant.strip())
        tries = ["another --preset or --prefix, if the model was trained with another format", "--bos"]
        if job.server is not None and job.server.dialect != "vllm":
            tries.insert(0, "--dialect vllm, if the server left the marker out as a special token")
        return f"{told}The marker is {marker}. Try {'; or '.join(tries)}. A base model that saw no chat writes none."
    return f"{told}See what the model wrote with --show-text, and try another --prefix or --preset."
