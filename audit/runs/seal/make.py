"""Seal a complete run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import DataError, IncompleteRunError, InputError
from ...progress import Progress, silent
from ...text.files import sha256_file, write_bytes
from ...text.safe import quoted
from ..lock import FolderLock
from ..moments import now
from ..records import read_json
from ..schema import RunRecord
from ..store import Run
from .check import Checked, verify_run
from .files import find_files, hash_files
from .record import (
    FORMAT,
    SEAL_NAME,
    FileEntry,
    Heading,
    PolicyNamed,
    SealRecord,
    Tree,
    entries_root,
    is_sealed,
    spelled,
)
from .rows import table_entry
from .secret import make_secret
from .signing import SigningKey

_MANY = 20


@dataclass(frozen=True, slots=True)
class Sealed:
    """A seal and how it came about: "sealed" now, "signed" now over the head that stood, or "unchanged"."""

    record: SealRecord
    how: str


def seal_run(
    folder: str | Path,
    *,
    key: SigningKey | None = None,
    policy: Path | None = None,
    progress: Progress = silent,
) -> Sealed:
    """Writes ``seal.json`` (and ``seal.secret``) into a complete run's folder.

    A run that is sealed is not sealed again: where nothing differs its seal is returned as it stands, or gets the
    signature that it lacked, which leaves the head as it was.

    Args:
        folder: The run's folder.
        key: Signs the head.
        policy: The policy file that the release is judged by. Where the run recorded one, it must be the same.
        progress: Told in MiB and rows, where there are many.

    Raises:
        IncompleteRunError: The run has not ended.
        InputError: There is no run, another process writes it, it is sealed by another key, or the policy is not the
            one that it recorded.
        DataError: It is sealed and was changed since, its plan is not the one of opening.json, or it holds links or
            other things that cannot be sealed.
        StorageError: Files cannot be read or written.
    """
    folder = Path(folder)
    run = Run.open(folder)
    if not run.complete:
        raise IncompleteRunError(
            f"{folder} has not ended ({run.state()}); only a complete run can be sealed. Run its command again to "
            "finish it."
        )
    lock = FolderLock(folder)
    lock.acquire()
    try:
        policy_sha256 = None if policy is None else sha256_file(policy)
        if is_sealed(folder):
            return _sealed_already(folder, key, policy, policy_sha256, progress)
        return Sealed(_seal(folder, run.record, key, policy, policy_sha256, progress), "sealed")
    finally:
        lock.release()


def _sealed_already(
    folder: Path, key: SigningKey | None, policy: Path | None, policy_sha256: str | None, progress: Progress
) -> Sealed:
    checked = verify_run(folder, progress=progress)
    if checked.problems:
        raise DataError(
            f"{folder} is sealed, and is not as it was sealed:\n{checked.listed()}\nRestore it from a copy. A seal is "
            "not renewed: to seal it as it is now, remove seal.json first, and tell whoever has the old head."
        )
    record = _intact(checked)
    if policy_sha256 is not None and record.heading.policy_sha256 != policy_sha256:
        raise InputError(
            f"{folder} is sealed with the policy of SHA-256 {record.heading.policy_sha256 or '(none)'}, and {policy} "
            f"has {policy_sha256}. A seal is not renewed."
        )
    if key is None or record.public_key == key.public_key:
        return Sealed(record, "unchanged")
    if record.public_key is not None:
        raise InputError(f"{folder} is sealed and signed by another key, {record.public_key}. A seal is not renewed.")
    signed = record.model_copy(update={"public_key": key.public_key, "signature": key.sign(record.head)})
    write_bytes(folder / SEAL_NAME, spelled(signed))
    return Sealed(signed, "signed")


def _intact(checked: Checked) -> SealRecord:
    if checked.record is None:
        raise DataError("the seal could not be read.")
    return checked.record


def _seal(
    folder: Path,
    record: RunRecord,
    key: SigningKey | None,
    policy: Path | None,
    policy_sha256: str | None,
    progress: Progress,
) -> SealRecord:
    for name, value in (("id", record.id), ("kind", record.kind)):
        if not re.fullmatch(r"[!-~]{1,200}", value):
            raise DataError(f"{folder}: run.json has the {name} {quoted(value)}; expected a word in ASCII.")
    _refuse_strange(folder)
    opening = folder / "opening.json"
    opened = read_json(opening, missing="") if opening.exists() else None
    named, agreed = _policy(folder, record, opened, policy, policy_sha256)
    secret = make_secret(folder)
    found = _refuse_strange(folder)
    files = hash_files(folder, found, progress=progress)
    tables = tuple(table_entry(folder, path, secret, progress=progress) for path in found if path.endswith(".parquet"))
    heading = Heading(
        id=record.id,
        kind=record.kind,
        opening_sha256=None if opened is None else _entry(files, "opening.json").sha256,
        plan_sha256=record.plan_sha256,
        policy_sha256=agreed,
        policy_named=named,
        files=Tree(count=len(files), root=entries_root(files)),
        tables=Tree(count=len(tables), root=entries_root(tables)),
        created=now(),
        palimpsest=__version__,
    )
    head = heading.head()
    seal = SealRecord(
        format=FORMAT,
        heading=heading,
        head=head,
        public_key=None if key is None else key.public_key,
        signature=None if key is None else key.sign(head),
        files=tuple(files),
        tables=tables,
    )
    write_bytes(folder / SEAL_NAME, spelled(seal))
    return seal


def _refuse_strange(folder: Path) -> tuple[str, ...]:
    found = find_files(folder)
    if found.strange:
        lines = [f"- {quoted(path, limit=200)} {why}" for path, why in found.strange[:_MANY]]
        more = len(found.strange) - _MANY
        lines += [f"- and {more} more"] if more > 0 else []
        raise DataError(
            f"{folder} cannot be sealed, because it holds what is no plain file of its own:\n"
            + "\n".join(lines)
            + "\nReplace links by copies of what they lead to, rename or remove the rest, then seal again."
        )
    return found.files


def _policy(
    folder: Path, record: RunRecord, opened: Any, policy: Path | None, given: str | None
) -> tuple[PolicyNamed | None, str | None]:
    """Where the policy's hash stands first, and the hash; the run's record must agree with its opening."""
    if opened is not None:
        says = {name: getattr(record, name) for name in _OPENED} | {"created": record.provenance.created}
        for name, expected in says.items():
            value = opened.get(name) if isinstance(opened, dict) else None
            if value != expected:
                raise DataError(
                    f"{folder}: opening.json has {name} {quoted(value, limit=80)}, run.json "
                    f"{quoted(expected, limit=80)}. One of them was changed after the run was made; "
                    "restore it from a copy."
                )
    known = record.policy_sha256
    if known is not None and given is not None and known != given:
        raise InputError(
            f"{folder} was begun with a policy of SHA-256 {known}, and {policy} has {given}. Give the policy that the "
            "run was begun with, or leave --policy out."
        )
    if known is not None:
        return ("in-record" if opened is None else "before-scoring"), known
    return (None, None) if given is None else ("at-sealing", given)


_OPENED = ("id", "kind", "plan_sha256", "policy_sha256")


def _entry(files: list[FileEntry], path: str) -> FileEntry:
    return next(entry for entry in files if entry.path == path)
