"""Continuations by a steered model, kept line by line as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from audit.errors import DataError, InputError
from audit.forgetting.continuing import check_room, text_after
from audit.lm.generate import Sampling, generate
from audit.lm.load import LanguageModel
from audit.lm.subject import Subject
from audit.lm.tokens import encode, prefix_ids
from audit.progress import progress_bars
from audit.text.csv_rows import csv_rows
from audit.text.files import storage_errors
from audit.text.readers import read_texts
from audit.text.rows import BadLine, Row, json_rows, jsonl_rows
from audit.text.safe import counted, for_terminal, quoted
from audit.text.tables import read_parquet

from ...json_lines import append_lines, read_lines
from ..steer import steered
from .inputs import NO_SKIPPING
from .loading import Loaded, load_all
from .strengths import row_strength

_BATCH = 32


class Ask(NamedTuple):
    """A prompt, and how strongly the model is steered that continues it."""

    id: str
    prompt: str
    strength: float


@dataclass(slots=True)
class Continued:
    """What was written.

    Attributes:
        rows: One for each prompt.
        passes: Forward passes of the model that were steered, in this process.
        calls: Site -> of these, how many its map acted in.
    """

    rows: list[dict[str, Any]]
    passes: int = 0
    calls: dict[str, int] = field(default_factory=dict)


def read_asked(path: Path, strength: float | None) -> list[Ask]:
    """The prompts of a file; a row's own field "strength" goes before the flag's.

    Raises:
        InputError: No such file, or a row without a strength.
        DataError: A row cannot be used.
    """
    try:
        found = read_texts(path, field="prompt", unit="line")
    except DataError as error:
        raise DataError(str(error).replace(*NO_SKIPPING)) from error
    own = list(_own_strengths(path))
    if len(own) != len(found):
        own = [None] * len(found)
    return [
        Ask(name, text, row_strength(value, f"{path}, prompt {quoted(shown)}", strength))
        for name, shown, text, value in zip(found.ids, found.names, found.texts, own, strict=True)
    ]


def _own_strengths(path: Path) -> Iterator[object]:
    """The field "strength" of each row, which `read_texts` has found good; of a kind without fields, nothing."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        table = read_parquet(path)
        yield from (table["strength"].to_pylist() if "strength" in table.column_names else ())
        return
    readers: dict[str, Callable[[Path], Iterator[Row | BadLine]]] = {
        ".jsonl": jsonl_rows,
        ".json": json_rows,
        ".csv": partial(csv_rows, delimiter=","),
    }
    reader = readers.get(Path(name.removesuffix(".gz")).suffix)
    for row in () if reader is None else reader(path):
        if not isinstance(row, BadLine):
            yield row.values.get("strength")


def continue_all(
    where: Path,
    subject: Subject,
    asked: Sequence[Ask],
    *,
    sampling: Sampling,
    seed: int,
    out: Path | None,
    quiet: bool,
) -> Continued:
    """A row for each prompt, in order; those that ``out`` holds of the same steering are not made again.

    Raises:
        InputError: ``out`` holds rows of another steering, of other prompts or of other settings.
        DataError: A prompt has no token, or no room for the new ones.
        As `loading.load_all`.
    """
    if out is not None:
        _check_writable(out)
    loaded = load_all(where, subject)
    lm = loaded.lm
    if not sampling.stop_ids and lm.tokenizer.eos_token_id is not None:
        sampling = replace(sampling, stop_ids=(int(lm.tokenizer.eos_token_id),))
    mark = {
        "steering": loaded.fingerprint,
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed,
    }
    encoded = encode(lm, [one.prompt for one in asked])
    names = [f"prompt {quoted(one.id)}" for one in asked]
    check_room(lm, names, encoded, n_new=sampling.max_new_tokens, least=0 if lm.bos_id is not None else 1)
    done = Continued(_kept(out, asked, mark))
    with progress_bars(quiet=quiet) as progress:
        progress("continuations", len(done.rows), len(asked))
        while len(done.rows) < len(asked):
            which = range(len(done.rows), min(len(done.rows) + _BATCH, len(asked)))
            texts = _continued(loaded, asked, encoded, which, sampling, seed, done)
            made = [
                {"id": asked[one].id, "prompt": asked[one].prompt, "strength": asked[one].strength,
                 "continuation": texts[one], **mark}
                for one in which
            ]  # fmt: skip
            if out is not None:
                with storage_errors(out, kept="the rows before are kept"):
                    append_lines(out, made)
            done.rows += made
            progress("continuations", len(done.rows), len(asked))
    return done


def _continued(
    loaded: Loaded,
    asked: Sequence[Ask],
    encoded: Sequence[list[int]],
    which: Sequence[int],
    sampling: Sampling,
    seed: int,
    done: Continued,
) -> dict[int, str]:
    """Place -> text. Prompts of one strength go together; a prompt's random numbers are those of its place."""
    lm: LanguageModel = loaded.lm
    texts: dict[int, str] = {}
    for strength in dict.fromkeys(asked[one].strength for one in which):
        places = [one for one in which if asked[one].strength == strength]
        ids = [[*prefix_ids(lm), *encoded[one]] for one in places]
        with steered(lm.model, loaded.maps, strength) as seen:
            found = generate(lm, ids, sampling=sampling, seed=seed, indices=places)
        done.passes += seen.passes
        for site, n in seen.calls.items():
            done.calls[site] = done.calls.get(site, 0) + n
        texts |= {one: text_after(lm, encoded[one], new.token_ids) for one, new in zip(places, found, strict=True)}
    return texts


def _kept(out: Path | None, asked: Sequence[Ask], mark: dict[str, Any]) -> list[dict[str, Any]]:
    if out is None or not out.exists():
        return []
    rows = read_lines(out)
    for one, row in zip(asked, rows, strict=False):
        told = {key: row.get(key) for key in ("id", "prompt", "strength", *mark)}
        if told != {**one._asdict(), **mark} or not isinstance(row.get("continuation"), str):
            raise InputError(
                f"{out} holds rows of other prompts, strengths or settings, or of another steering. Choose another "
                "--out."
            )
    if len(rows) > len(asked):
        raise InputError(f"{out} holds {len(rows):,} rows for {len(asked):,} prompts. Choose another --out.")
    return rows


def _check_writable(out: Path) -> None:
    """Refuse, before a model is loaded, a file that cannot be written; none is left behind."""
    is_new = not out.exists()
    with storage_errors(out, kept="nothing was written"):
        out.open("ab").close()
        if is_new:
            out.unlink()


def tell(done: Continued, *, out: Path | None, as_json: bool) -> None:
    """Print the rows, or where they are, and how often maps acted."""
    if as_json:
        print(json.dumps({"rows": done.rows, "steered_passes": done.passes, "calls": done.calls}))
        return
    if out is None:
        for row in done.rows:
            print(for_terminal(f"{row['prompt']}{row['continuation']}"))
            print(for_terminal(f"  (strength {row['strength']:g})"))
    else:
        print(for_terminal(f"{counted(len(done.rows), 'continuation')} -> {out}"))
    if not done.passes:
        print("no forward pass was steered: all rows were there, or their strength is 0")
        return
    fewest = min(done.calls.values())
    print(
        f"steered forward passes: {done.passes:,}; the map of each of "
        f"{counted(len(done.calls), 'site')} acted in {'all' if fewest == done.passes else f'at least {fewest:,}'} of "
        "them"
    )
