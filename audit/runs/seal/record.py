"""What stands in ``seal.json``, its one spelling, and the head that it all comes down to.

    files_root  = tree (`audit.text.merkle`) over the files, leaves JSON({"path", "sha256", "size"}), in order of the
                  paths' bytes
    tables_root = tree over the tables, leaves JSON({"path", "root", "rows", "why"}), likewise
    head        = SHA-256 of these lines in ASCII, each ended by one line feed, "-" where there is none:

        palimpsest-seal-v1
        id <the run's id>
        kind <its kind>
        opening <SHA-256 of opening.json>
        plan <SHA-256 of the plan>
        policy <SHA-256 of the policy>
        policy-named <before-scoring | in-record | at-sealing>
        files <number> <files_root>
        tables <number> <tables_root>
        created <when it was sealed>
        palimpsest <version>

``JSON`` is ``json.dumps(value, sort_keys=True, separators=(",", ":"))`` in ASCII. The lines hold no spaces beyond those
shown, so no two seals share them. ``seal.json`` itself has one spelling (`spelled`): every byte of it is either held by
the head and the signature or fixed by that spelling.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from ...errors import DataError
from ...text.merkle import leaf_hash, tree_root
from ..problems import plain_problems
from ..schema import Record

SEAL_NAME, SECRET_NAME = "seal.json", "seal.secret"
FORMAT = "palimpsest-seal-v1"
HEX64 = r"^[0-9a-f]{64}$"
Sha256 = Annotated[str, Field(pattern=HEX64)]
Word = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]
Count = Annotated[int, Field(ge=0)]
PolicyNamed = Literal["before-scoring", "in-record", "at-sealing"]
AnyRecord = TypeVar("AnyRecord", bound=Record)


class FileEntry(Record):
    """One file: its path inside the run with ``/``, its bytes' number and SHA-256."""

    path: str
    sha256: Sha256
    size: Count


class TableEntry(Record):
    """One table: its number of rows and the root over them, or ``why`` it has none."""

    path: str
    root: Sha256 | None
    rows: Count
    why: str | None = None


class Tree(Record):
    """Number of leaves and root."""

    count: Count
    root: Sha256


class Heading(Record):
    """What the head is the hash of, besides the format's name.

    Attributes:
        opening_sha256: Of opening.json; None where the run, of an older version, has none.
        policy_named: Where the policy's hash stands first: in opening.json, only in run.json, or only here.
    """

    id: Word
    kind: Word
    opening_sha256: Sha256 | None
    plan_sha256: Sha256
    policy_sha256: Sha256 | None
    policy_named: PolicyNamed | None
    files: Tree
    tables: Tree
    created: Word
    palimpsest: Word

    def text(self) -> str:
        """The lines whose SHA-256 is the head."""
        lines = (
            FORMAT,
            f"id {self.id}",
            f"kind {self.kind}",
            f"opening {self.opening_sha256 or '-'}",
            f"plan {self.plan_sha256}",
            f"policy {self.policy_sha256 or '-'}",
            f"policy-named {self.policy_named or '-'}",
            f"files {self.files.count} {self.files.root}",
            f"tables {self.tables.count} {self.tables.root}",
            f"created {self.created}",
            f"palimpsest {self.palimpsest}",
        )
        return "".join(f"{line}\n" for line in lines)

    def head(self) -> str:
        """SHA-256 of `text` as 64 hexadecimal digits."""
        return hashlib.sha256(self.text().encode("ascii")).hexdigest()


class Signed(Record):
    """A head and, where it was signed, the key (32 bytes) and the signature (64 bytes), both in hexadecimal digits."""

    format: str
    heading: Heading
    head: Sha256
    public_key: Annotated[str, Field(pattern=HEX64)] | None = None
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")] | None = None


class SealRecord(Signed):
    """``seal.json``."""

    files: tuple[FileEntry, ...]
    tables: tuple[TableEntry, ...]


def compact(value: Any) -> bytes:
    """The encoding that leaves are hashed in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def entries_root(entries: Sequence[FileEntry] | Sequence[TableEntry]) -> str:
    """Root over files or tables that stand in order of their paths, 64 hexadecimal digits."""
    return tree_root([entry_hash(entry) for entry in entries]).hex()


def entry_hash(entry: FileEntry | TableEntry) -> bytes:
    """Leaf hash of a file or table."""
    return leaf_hash(compact(entry.model_dump(mode="json")))


def path_order(path: str) -> bytes:
    """What paths are ordered by: their UTF-8 bytes (lone surrogates, which no seal holds, after a fashion)."""
    return path.encode("utf-8", "surrogatepass")


def is_sealed(folder: str | Path) -> bool:
    """Whether a run has a seal, intact or not."""
    return (Path(folder) / SEAL_NAME).exists()


def spelled(record: Record) -> bytes:
    """The one spelling of ``seal.json`` and of proofs: JSON in ASCII, sorted keys, two spaces, a last line feed."""
    return (json.dumps(record.model_dump(mode="json"), sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def parsed(content: bytes, kind: type[AnyRecord], where: str, *, format: str) -> AnyRecord:
    """A record from its one spelling.

    Args:
        content: Bytes of the file.
        kind: `SealRecord`, or the record of a proof.
        where: The file's name, for messages.
        format: What its field ``format`` has to say.

    Raises:
        DataError: It is not JSON, of another format, has a wrong or unknown field, or is spelt otherwise.
    """
    try:
        return _parsed(content, kind, where, format)
    except RecursionError as error:
        raise DataError(f"{where} is nested deeper than any file of ours. It was changed or damaged.") from error


def _parsed(content: bytes, kind: type[AnyRecord], where: str, format: str) -> AnyRecord:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}. It was changed or damaged.") from error
    found = value.get("format") if isinstance(value, dict) else None
    if found != format:
        raise DataError(
            f"{where} has the format {found!r:.80}; this version reads {format!r}. It was changed, or comes from "
            "another version of Palimpsest."
        )
    try:
        record = kind.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        problems = "; ".join(plain_problems(error, kind))
        raise DataError(f"{where} was changed or damaged: {problems}.") from error
    if spelled(record) != content:
        raise DataError(f"{where} says the same in another spelling (spaces, line ends, order): it was rewritten.")
    return record
