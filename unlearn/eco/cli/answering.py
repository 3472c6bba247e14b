"""Answers through a guard, kept line by line as they come."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audit.answers.rows import read_qa
from audit.errors import DataError, InputError
from audit.lm.subject import Subject
from audit.progress import progress_bars
from audit.text.files import storage_errors
from audit.text.safe import for_terminal, quoted

from ...json_lines import append_lines, read_lines
from ..guard import EcoGuard
from .loading import load_all

_BATCH = 32


def read_prompts(path: Path) -> list[tuple[str, str]]:
    """Id and text of each prompt: of a txt each line that is not blank, else rows as `rows.read_qa`.

    Raises:
        InputError, DataError: There is no such file, or no prompt in it.
    """
    if path.suffix.lower() != ".txt":
        return [(row.id, row.prompt) for row in read_qa(path)]
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"there is no file of prompts at {path}.") from None
    except OSError as error:
        raise InputError(f"could not read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    found = [(str(number), line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise DataError(f"{path} holds no prompts; expected one a line.")
    return found


def answer_all(
    where: Path,
    subject: Subject,
    asked: Sequence[tuple[str, str]],
    *,
    out: Path | None,
    max_new_tokens: int,
    encoder: str | None,
    quiet: bool,
) -> list[dict[str, Any]]:
    """A row for each prompt, in order; those that ``out`` holds of the same guard are not made again.

    Raises:
        InputError: A prompt does not fit, or ``out`` holds rows of another guard or of other prompts.
        As `loading.load_all`.
    """
    if out is not None:
        _check_writable(out)
    loaded = load_all(where, subject, encoder=encoder)
    mark = {"guard": loaded.fingerprint, "max_new_tokens": max_new_tokens}
    rows: list[dict[str, Any]] = []
    if out is not None and out.exists():
        rows = read_lines(out)
        for (name, text), row in zip(asked, rows, strict=False):
            told = {key: row.get(key) for key in ("id", "prompt", *mark)}
            if told != {"id": name, "prompt": text, **mark}:
                raise InputError(f"{out} holds rows of other prompts or of another guard. Choose another --out.")
        if len(rows) > len(asked):
            raise InputError(f"{out} holds {len(rows):,} rows for {len(asked):,} prompts. Choose another --out.")
    guard = loaded.guard
    _check(guard, asked, max_new_tokens)
    with progress_bars(quiet=quiet) as progress:
        progress("answers", len(rows), len(asked))
        while len(rows) < len(asked):
            batch = asked[len(rows) : len(rows) + _BATCH]
            texts = [text for _, text in batch]
            made = [
                {"id": name, "prompt": text, "answer": answer, "flagged": verdict.flagged,
                 "score": verdict.score if math.isfinite(verdict.score) else None,
                 "threshold": guard.judge.threshold, **mark}
                for (name, text), answer, verdict in zip(
                    batch, guard.answers(texts, max_new_tokens=max_new_tokens), guard.verdicts(texts), strict=True
                )
            ]  # fmt: skip
            if out is not None:
                with storage_errors(out, kept="the rows before are kept"):
                    append_lines(out, made)
            rows += made
            progress("answers", len(rows), len(asked))
    return rows


def tell(rows: Sequence[dict[str, Any]], *, out: Path | None, as_json: bool) -> None:
    """Print the rows, or where they are."""
    if as_json:
        print(json.dumps(list(rows)))  # ASCII: nothing in it steers a terminal
        return
    n_flagged = sum(row["flagged"] for row in rows)
    if out is None:
        for row in rows:
            print(for_terminal(row["answer"]))
            score = "cannot be read" if row["score"] is None else f"score {row['score']:.6g}"
            told = "flagged" if row["flagged"] else "not flagged"
            print(for_terminal(f"  ({told}: {score}; above {row['threshold']:.6g} is flagged)"))
        return
    print(for_terminal(f"{len(rows):,} answers, {n_flagged:,} of them to flagged prompts -> {out}"))


def _check_writable(out: Path) -> None:
    """Refuse, before a model is loaded, a file that cannot be written; none is left behind."""
    is_new = not out.exists()
    with storage_errors(out, kept="nothing was answered"):
        out.open("ab").close()
        if is_new:
            out.unlink()


def _check(guard: EcoGuard, asked: Sequence[tuple[str, str]], max_new_tokens: int) -> None:
    """Refuse a prompt that does not fit before the first is answered, by its id."""
    for name, text in asked:
        try:
            (encoded,) = guard.encoded([text])
        except InputError as error:
            raise InputError(f"prompt {quoted(name)}: {str(error).removeprefix('prompt 0: ')}") from error
        if len(encoded.ids) + max_new_tokens > guard.lm.n_context:
            raise InputError(
                f"prompt {quoted(name)} has {len(encoded.ids):,} tokens and its answer may have {max_new_tokens:,}; "
                f"the model reads at most {guard.lm.n_context:,}. Shorten it, or give fewer --max-new-tokens."
            )
