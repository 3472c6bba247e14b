"""Show some rows of a sealed table, with proofs that lead up to the head, and nothing of the other rows.

A proof holds the rows, each with its salt and its path to the table's root; the table's entry with its path to the root
over the tables; and the heading, whose hash is the head. What it tells of the rest: the table's path, its number of
rows, how many tables and files there are, and hashes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from ...errors import DataError, InputError
from ...progress import Progress, silent
from ...text.files import sha256_file
from ...text.merkle import inclusion_paths, root_from_path
from ...text.safe import did_you_mean, printable, quoted
from ...text.tables import read_parquet
from ..schema import Record
from .canonical_rows import row_from_shown, shown
from .record import FORMAT as SEAL_FORMAT
from .record import SEAL_NAME, Count, SealRecord, Sha256, Signed, TableEntry, entry_hash, is_sealed, parsed
from .rows import row_leaf, row_leaves, row_salt, table_key
from .secret import read_secret
from .signing import check_signature

FORMAT = "palimpsest-row-proof-v1"
_IDS = ("id", "trap_id", "text_id", "row_id", "generation", "question", "prompt")  # first of them that a table has


class RowProof(Record):
    """One row: its place in the table, its salt, what it says (`shown`), and its path to the table's root."""

    place: Count
    salt: Sha256
    row: dict[str, Any]
    path: tuple[Sha256, ...]


class Proof(Signed):
    """What is handed to whoever may see the rows."""

    table: TableEntry
    table_place: Count
    table_path: tuple[Sha256, ...]
    rows: Annotated[tuple[RowProof, ...], Field(min_length=1)]


def disclose(
    folder: str | Path,
    table: str,
    *,
    ids: Sequence[str] = (),
    id_column: str | None = None,
    places: Sequence[int] = (),
    progress: Progress = silent,
) -> Proof:
    """The proof of every row that has one of the ids, and of the rows at the given places.

    Args:
        folder: A sealed run.
        table: Path of the table inside it: ``items/traps.parquet``.
        ids: Values of the id column.
        id_column: Which column that is; by default the first of id, trap_id, text_id, row_id, generation, question
            and prompt that there is.
        places: Rows by place, from 0: for tables whose rows follow those of another and have no id of their own.
        progress: Told in rows, where there are many.

    Raises:
        InputError: The run is not sealed; it has no such table, column, id or place; or nothing was asked for.
        DataError: Table, seal or secret are not as they were sealed, or the table's rows have no root.
    """
    folder = Path(folder)
    if not ids and not places:
        raise InputError("no row was named. Give --id or --row.")
    seal = _seal(folder)
    entry = _entry(seal, folder, table)
    wanted = sorted({*_places(folder / entry.path, ids, id_column), *_checked(places, entry)})
    secret = read_secret(folder)
    kept: dict[int, bytes] = {}

    def keep(place: int, row: bytes) -> None:
        if place in chosen:
            kept[place] = row

    chosen = set(wanted)
    leaves = row_leaves(folder, entry.path, secret, also=keep, progress=progress)
    paths = inclusion_paths(leaves, wanted)
    if len(leaves) != entry.rows or any(
        root_from_path(leaves[place], place, len(leaves), path).hex() != entry.root
        for place, path in zip(wanted, paths, strict=True)
    ):
        raise DataError(
            f"{folder}: the rows of {entry.path} do not lead to the root that was sealed, so the table or the secret "
            "was changed. Restore them from a copy."
        )
    key = table_key(secret, entry.path)
    rows = tuple(
        RowProof(
            place=place,
            salt=row_salt(key, place).hex(),
            row=shown(kept[place]),
            path=tuple(sibling.hex() for sibling in path),
        )
        for place, path in zip(wanted, paths, strict=True)
    )
    at = seal.tables.index(entry)
    table_path = inclusion_paths([entry_hash(one) for one in seal.tables], [at])[0]
    return Proof(
        format=FORMAT,
        heading=seal.heading,
        head=seal.head,
        public_key=seal.public_key,
        signature=seal.signature,
        table=entry,
        table_place=at,
        table_path=tuple(sibling.hex() for sibling in table_path),
        rows=rows,
    )


def _seal(folder: Path) -> SealRecord:
    if not is_sealed(folder):
        raise InputError(f"{folder} is not sealed: it has no {SEAL_NAME}. Seal it: palimpsest runs seal {folder}")
    return parsed((folder / SEAL_NAME).read_bytes(), SealRecord, str(folder / SEAL_NAME), format=SEAL_FORMAT)


def _entry(seal: SealRecord, folder: Path, table: str) -> TableEntry:
    known = {entry.path: entry for entry in seal.tables}
    if table not in known:
        raise InputError(
            f"{folder} has no sealed table {quoted(table)}; it has {', '.join(sorted(known)) or 'none'}."
            f"{did_you_mean(table, known)}"
        )
    entry = known[table]
    if entry.root is None:
        raise DataError(f"rows of {table} cannot be disclosed alone: {entry.why}")
    sealed = next((one.sha256 for one in seal.files if one.path == table), None)
    if not (folder / table).is_file() or sha256_file(folder / table) != sealed:
        raise DataError(f"{folder / table} is not as it was sealed. `palimpsest runs verify {folder}` tells more.")
    return entry


def _checked(places: Sequence[int], entry: TableEntry) -> Sequence[int]:
    for place in places:
        if not 0 <= place < entry.rows:
            raise InputError(f"{entry.path} has no row {place}; it has {entry.rows:,}, numbered from 0.")
    return places


def _places(table: Path, ids: Sequence[str], column: str | None) -> list[int]:
    """Places of the rows whose id is one of ``ids``; numbers are compared as text."""
    if not ids:
        return []
    names = pq.read_schema(table).names
    name = column or next((one for one in _IDS if one in names), None)
    if name is None:
        raise InputError(
            f"{table} has no column of ids that is known; name it with --id-column, or rows by place with --row. "
            f"It has {', '.join(names)}."
        )
    values = read_parquet(table, [name]).column(name)
    try:
        texts = values.cast(pa.large_string())
    except pa.ArrowException as error:
        raise InputError(f"{table}: column {quoted(name)} holds {values.type}, which is no id.") from error
    places: list[int] = []
    for value in ids:
        if printable(value) != value:
            raise InputError(f"the id {quoted(value)} is not UTF-8, so no row can have it.")
        found = pc.indices_nonzero(pc.fill_null(pc.equal(texts, value), False)).to_pylist()
        if not found:
            near = pc.unique(texts.slice(0, 20_000)).drop_null().to_pylist()
            raise InputError(
                f"{table} has no row whose {name} is {quoted(value)}.{did_you_mean(value, near)} Give another --id, or "
                "another column with --id-column."
            )
        places += found
    return places


def read_proof(path: Path) -> Proof:
    """A proof from its file.

    Raises:
        InputError: There is no such file.
        DataError: It is no proof, or is spelt otherwise than one.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}. Give the proof that `palimpsest runs disclose` wrote.")
    return parsed(path.read_bytes(), Proof, str(path), format=FORMAT)


def check_proof(proof: Proof, *, head: str | None = None, public_key: str | None = None) -> None:
    """Passes where every row leads to the head, and the head is the one that was published or signed.

    Args:
        proof: The proof.
        head: The head that was published; without it, the proof only agrees with itself.
        public_key: The key that must have signed; 64 hexadecimal digits.

    Raises:
        DataError: Says the first thing that does not hold.
        MissingDependencyError: The proof is signed and the extra ``sign`` is not installed.
    """
    places = [row.place for row in proof.rows]
    if places != sorted(set(places)):
        raise DataError("the rows of the proof are out of order or twice there.")
    for row in proof.rows:
        leaf = row_leaf(bytes.fromhex(row.salt), row_from_shown(row.row))
        root = _climb(leaf, row.place, proof.table.rows, row.path, f"row {row.place}")
        if root != proof.table.root:
            raise DataError(f"row {row.place} is not the one that was sealed: it does not lead to its table's root.")
    tables = proof.heading.tables
    root = _climb(entry_hash(proof.table), proof.table_place, tables.count, proof.table_path, "the table")
    if root != tables.root:
        raise DataError(f"the table {quoted(proof.table.path)} is not one of those that were sealed.")
    if proof.head != proof.heading.head():
        raise DataError("the head is not the hash of the heading: the chain is broken.")
    if (proof.public_key is None) != (proof.signature is None):
        raise DataError("the proof has a key without a signature, or the other way about.")
    if proof.public_key is not None and proof.signature is not None:
        check_signature(proof.head, proof.public_key, proof.signature)
    if head is not None and proof.head != head:
        raise DataError(f"the rows lead to the head {proof.head}, not to the one that was given, {head}.")
    if public_key is not None and proof.public_key != public_key:
        raise DataError(f"the proof is signed by {proof.public_key or 'nobody'}, and not by the key that was given.")


def _climb(leaf: bytes, place: int, n: int, path: Sequence[str], what: str) -> str:
    try:
        return root_from_path(leaf, place, n, [bytes.fromhex(sibling) for sibling in path]).hex()
    except DataError as error:
        raise DataError(f"{what}: {error}") from error


def proof_summary(proof: Proof) -> list[dict[str, str]]:
    """Each row as column -> value in words, for a terminal."""
    return [{name: _plain(value) for name, value in row.row.items()} for row in proof.rows]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("reads") or value.get("integer") or value.get("bytes") or value.get("fields"))
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return re.sub(r"\s+", " ", str(value))
