"""The work behind ``palimpsest score``: made in parts, resumed after a kill, written once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import __version__
from ..lm.load import load
from ..lm.subject import Subject
from ..progress import Progress, progress_bars
from ..runs.lock import LOCK_NAME, FolderLock
from ..runs.shards import ShardedTable
from ..text.files import make_folder, storage_errors, write_json
from ..text.readers import TextTable
from ..text.tables import write_table
from ..traps.parts import score_in_parts
from . import options
from .checks import check_models

ROLES = ("subject", "reference")


@dataclass(frozen=True, slots=True)
class Job:
    """What is scored, with what, and where the scores go."""

    table: TextTable
    out: Path
    subject: Subject
    reference: Subject | None
    k: float
    truncate: bool
    token_budget: int | None

    @property
    def parts(self) -> Path:
        """Where finished parts lie until the scores are written."""
        return self.out.with_name(f"{self.out.name}.parts")


def run_job(job: Job, *, restart: bool, quiet: bool) -> dict[str, Any]:
    """Score all texts and write them; returns what is also written to ``OUT.meta.json``.

    Whatever can be refused is refused before the first model is loaded. The models are loaded one after the other,
    so that both need not fit into memory at once. One process at a time works for an OUT.
    """
    options.quiet_libraries()
    notes = check_models(job.subject, job.reference, ids=job.table.ids, texts=job.table.texts, truncate=job.truncate)
    lock = FolderLock(make_folder(job.parts))
    lock.acquire()
    try:
        return _score_and_write(job, notes, restart=restart, quiet=quiet)
    finally:
        if job.parts.is_dir() and not any(job.parts.rglob("part-*.parquet")):
            _remove_parts(job)
        lock.release()


def _remove_parts(job: Job) -> None:
    """Remove what `run_job` made in the folder of parts, and the folder when nothing else lies in it."""
    with storage_errors(job.parts, kept="the scores and the finished parts are unchanged", doing="tidy"):
        for role in ROLES:
            if (job.parts / role).is_dir():
                shutil.rmtree(job.parts / role)
        if [path.name for path in job.parts.iterdir()] == [LOCK_NAME]:
            shutil.rmtree(job.parts)


def _score_and_write(job: Job, notes: list[str], *, restart: bool, quiet: bool) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "palimpsest": __version__,
        "source": job.table.source,
        "source_sha256": job.table.sha256,
        "k": job.k,
        "truncate": job.truncate,
        "skipped": [{"line": line.line, "place": line.place, "reason": line.reason} for line in job.table.bad],
        "notes": notes,
        "models": {},
    }
    with progress_bars(quiet=quiet) as progress:
        own = _scores_of("subject", job.subject, job, meta, progress, restart=restart)
        columns: dict[str, Any] = {
            "id": pa.array(job.table.ids, pa.string()),
            "n_tokens": own["n_tokens"],
            "loss": own["loss"],
            "perplexity": pa.array(np.exp(own["loss"].to_numpy())),
            **{name: own[name] for name in ("min_k", "min_k_plus_plus", "zlib")},
        }
        if job.reference is not None:
            other = _scores_of("reference", job.reference, job, meta, progress, restart=restart)
            columns["ratio"] = pa.array(other["loss"].to_numpy() - own["loss"].to_numpy())
    if job.truncate:
        columns["truncated"] = own["truncated"]
    write_table(job.out, pa.table(columns))
    meta |= {
        "out": str(job.out),
        "n_texts": len(job.table),
        "n_tokens": int(own["n_tokens"].to_numpy().sum()),
        "n_skipped": len(job.table.bad),
        "n_truncated": int(own["truncated"].to_numpy(zero_copy_only=False).sum()),
    }
    write_json(job.out.with_name(job.out.name + ".meta.json"), meta)
    _remove_parts(job)
    return meta


def _scores_of(
    role: str, subject: Subject, job: Job, meta: dict[str, Any], progress: Progress, *, restart: bool
) -> pa.Table:
    lm = load(subject)
    meta["models"][role] = lm.to_record()
    return score_in_parts(
        lm,
        job.table.texts,
        job.table.ids,
        open_parts=lambda key, n_parts: ShardedTable(job.parts / role, key=key, n_parts=n_parts, restart=restart),
        k=job.k,
        truncate=job.truncate,
        what=f"Scoring with the {'model' if role == 'subject' else role}",
        progress=progress,
        token_budget=job.token_budget,
    )
