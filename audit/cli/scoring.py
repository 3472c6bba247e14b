"""The work behind ``palimpsest score``: made in parts, resumed after a kill, written once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import __version__
from ..lm.load import load
from ..lm.subject import Subject
from ..membership.parts import score_in_parts
from ..progress import Progress, progress_bars
from ..runs.lock import LOCK_NAME, FolderLock
from ..runs.shards import ShardedTable, has_parts, remove_parts
from ..text.files import make_folder, sha256_file, storage_errors, write_json
from ..text.readers import TextTable
from ..text.safe import printable
from ..text.tables import write_table
from .checks import check_models
from .outputs import ROLES, meta_path, parts_folder


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
        return parts_folder(self.out)


def run_job(job: Job, *, restart: bool, quiet: bool) -> dict[str, Any]:
    """Score all texts and write them; returns what is also written to ``OUT.meta.json``.

    Whatever can be refused is refused before the first model is loaded. The models are loaded one after the other,
    so that both need not fit into memory at once. One process at a time works for an OUT.
    """
    notes = check_models(job.subject, job.reference, ids=job.table.names, texts=job.table.texts, truncate=job.truncate)
    lock = FolderLock(make_folder(job.parts))
    lock.acquire()
    try:
        return _score_and_write(job, notes, restart=restart, quiet=quiet)
    finally:
        if not any(has_parts(job.parts / role) for role in ROLES):
            _remove_parts(job)
        lock.release()


def _remove_parts(job: Job) -> None:
    """Remove what `run_job` made in the folder of parts, and the folder when nothing else lies in it."""
    if not job.parts.is_dir():
        return
    for role in ROLES:
        if (job.parts / role).is_dir():
            remove_parts(job.parts / role)
    with storage_errors(job.parts, kept="the scores and the finished parts are unchanged", doing="tidy"):
        (job.parts / LOCK_NAME).unlink(missing_ok=True)
        if not any(job.parts.iterdir()):
            job.parts.rmdir()


def _score_and_write(job: Job, notes: list[str], *, restart: bool, quiet: bool) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "palimpsest": __version__,
        "source": printable(job.table.source),
        "source_sha256": job.table.sha256,
        "k": job.k,
        "truncate": job.truncate,
        "skipped": [
            {"line": bad.line, "place": printable(bad.place), "reason": printable(bad.reason)} for bad in job.table.bad
        ],
        "notes": notes,
        "models": {},
    }
    with progress_bars(quiet=quiet) as progress:
        own = _scores_of("subject", job.subject, job, meta, progress, restart=restart)
        columns: dict[str, Any] = {
            "id": pa.array(job.table.ids, pa.string()),
            "n_tokens": own["n_tokens"],
            "loss": own["loss"],
            "perplexity": _perplexity(own["loss"].to_numpy()),
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
        "out_sha256": sha256_file(job.out),
        "n_texts": len(job.table),
        "n_tokens": int(own["n_tokens"].to_numpy().sum()),
        "n_skipped": len(job.table.bad),
        "n_truncated": int(own["truncated"].to_numpy(zero_copy_only=False).sum()),
    }
    _write_meta(job.out, meta)
    _remove_parts(job)
    return meta


def _perplexity(loss: np.ndarray) -> pa.Array:
    """exp(loss), null where it is beyond any float64 (loss above 709 nats)."""
    with np.errstate(over="ignore"):
        values = np.exp(loss)
    return pa.array(values, mask=~np.isfinite(values))


def _write_meta(out: Path, meta: dict[str, Any]) -> None:
    """An earlier job's meta goes first, so that it never stays beside scores that it does not tell of."""
    path = meta_path(out)
    with storage_errors(path, kept="the scores are written and the finished parts are unchanged", doing="replace"):
        Path(os.path.realpath(path)).unlink(missing_ok=True)
    write_json(path, meta)


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
