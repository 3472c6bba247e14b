"""Verify a sealed run: what was changed, removed, added, renamed or replaced, and whether the chain holds.

Only files that are found in the folder are opened, never a path that ``seal.json`` names.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import DataError, InputError
from ...progress import Progress, silent
from ...text.files import storage_errors
from ...text.safe import quoted
from ..records import plan_hash
from .files import find_files, hash_files
from .record import FORMAT, SEAL_NAME, SECRET_NAME, FileEntry, SealRecord, entries_root, is_sealed, parsed, path_order
from .rows import table_entry
from .secret import read_secret
from .signing import check_signature

Kind = Literal[
    "seal",
    "head",
    "given head",
    "signature",
    "key",
    "plan",
    "changed",
    "removed",
    "added",
    "renamed",
    "replaced",
    "rows",
]
_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was sealed.

    Attributes:
        kind: What sort of thing.
        path: The file it speaks of.
        says: A sentence.
    """

    kind: Kind
    path: str
    says: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What `verify_run` found.

    Attributes:
        record: The seal; None where it could not be read.
        problems: None where the run is as it was sealed.
        notes: What is no problem and should be known.
        pinned_head: Whether the head was compared with one that was given.
        pinned_key: Whether the key was.
        n_bytes: Bytes that were hashed.
    """

    record: SealRecord | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    pinned_head: bool
    pinned_key: bool
    n_bytes: int = 0

    @property
    def is_of_another(self) -> bool:
        """Whether nothing is wrong but the head or the key, which are not those that were given."""
        return bool(self.problems) and all(problem.kind in ("given head", "key") for problem in self.problems)

    def listed(self) -> str:
        """One line for each problem, the first 50."""
        lines = [f"- {problem.says}" for problem in self.problems[:_SHOWN]]
        more = len(self.problems) - _SHOWN
        return "\n".join([*lines, *([f"- and {more:,} more"] if more > 0 else [])])


def parse_head(text: str) -> str:
    """A head as a user gives it, in small letters.

    Raises:
        InputError: It is not 64 hexadecimal digits.
    """
    plain = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise InputError(
            f"--head {quoted(text, limit=80)} is no head; expected the 64 hexadecimal digits that `palimpsest runs "
            "seal` printed."
        )
    return plain


def verify_run(
    folder: str | Path,
    *,
    head: str | None = None,
    public_key: str | None = None,
    rows: bool = False,
    progress: Progress = silent,
) -> Checked:
    """Compares a sealed run with its seal.

    Args:
        folder: The run's folder.
        head: The head that was published; 64 hexadecimal digits.
        public_key: The key that must have signed; 64 hexadecimal digits.
        rows: Whether to compute the roots over the rows anew as well. Files whose hash holds were sealed with the
            rows they have, so this only asks whether the seal was made rightly.
        progress: Told in MiB and rows, where there are many.

    Raises:
        InputError: There is no such folder, or it is not sealed.
        MissingDependencyError: The seal is signed and the extra ``sign`` is not installed.
        StorageError: A file cannot be read.
    """
    folder = Path(folder)
    pinned = {"pinned_head": head is not None, "pinned_key": public_key is not None}
    content = _read_seal(folder)
    try:
        record = parsed(content, SealRecord, SEAL_NAME, format=FORMAT)
    except DataError as error:
        return Checked(None, (Problem("seal", SEAL_NAME, str(error)),), (), **pinned)
    problems = [*_own_problems(record), *_pin_problems(record, head, public_key)]
    found = find_files(folder)
    problems += [_strange(path, why) for path, why in found.strange]
    now = hash_files(folder, found.files, progress=progress)
    problems += _file_problems(record.files, now, {path for path, _ in found.strange})
    problems += _chain_problems(folder, record, {entry.path: entry for entry in now})
    if rows and not problems:
        problems += _row_problems(folder, record, progress)
    notes = _notes(folder, record)
    return Checked(record, tuple(problems), notes, **pinned, n_bytes=sum(entry.size for entry in now))


def _read_seal(folder: Path) -> bytes:
    if not folder.is_dir():
        raise InputError(f"there is no run folder at {folder}.")
    path = folder / SEAL_NAME
    if not is_sealed(folder):
        once = (
            f" It holds {SECRET_NAME}, so it was sealed once, or sealing was interrupted."
            if (folder / SECRET_NAME).exists()
            else ""
        )
        raise InputError(f"{folder} is not sealed: it has no {SEAL_NAME}.{once} Seal it: palimpsest runs seal {folder}")
    with storage_errors(path, kept="nothing was changed", doing="read"):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise InputError(f"{path} is no plain file. Put the seal itself there.")
        return path.read_bytes()


def _own_problems(record: SealRecord) -> Iterator[Problem]:
    """Whether seal.json agrees with itself."""
    for what, entries, tree in (
        ("files", record.files, record.heading.files),
        ("tables", record.tables, record.heading.tables),
    ):
        paths = [entry.path for entry in entries]
        for path in paths:
            if why := _unsafe(path):
                yield Problem("seal", path, f"{SEAL_NAME} names {quoted(path, limit=200)}, which {why}")
        if paths != sorted(set(paths), key=path_order):
            yield Problem("seal", SEAL_NAME, f"{SEAL_NAME} has its {what} out of order or twice")
        elif not any(map(_unsafe, paths)) and (tree.count, tree.root) != (len(entries), entries_root(entries)):
            yield Problem("seal", SEAL_NAME, f"{SEAL_NAME}: its list of {what} is not the one that its root stands for")
    listed = {entry.path: entry.sha256 for entry in record.files}
    if record.heading.opening_sha256 != listed.get("opening.json"):
        yield Problem("plan", "opening.json", f"{SEAL_NAME}: its hash of opening.json is not the one in its files")
    if stray := {entry.path for entry in record.tables} - listed.keys():
        yield Problem("seal", SEAL_NAME, f"{SEAL_NAME} names the table {quoted(min(stray))}, which is not in its files")
    if record.head != record.heading.head():
        yield Problem("head", SEAL_NAME, f"{SEAL_NAME}: its head is not the hash of its heading: the chain is broken")
    if (record.public_key is None) != (record.signature is None):
        yield Problem("signature", SEAL_NAME, f"{SEAL_NAME} has a key without a signature, or the other way about")
    elif record.public_key is not None and record.signature is not None:
        try:
            check_signature(record.head, record.public_key, record.signature)
        except DataError as error:
            yield Problem("signature", SEAL_NAME, f"{SEAL_NAME}: {str(error).rstrip('.')}")


def _unsafe(path: str) -> str | None:
    """Why a path could lead out of the run's folder or is no path."""
    if "\0" in path:
        return "holds a NUL byte"
    if path.startswith("/"):
        return "is absolute"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "leads out of the run's folder or is not in its plain form"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    return None


def _pin_problems(record: SealRecord, head: str | None, public_key: str | None) -> Iterator[Problem]:
    if head is not None and record.head != head:
        yield Problem("given head", SEAL_NAME, f"the head is {record.head}, not the one that was given, {head}")
    if public_key is not None and record.public_key is None:
        yield Problem("key", SEAL_NAME, "the seal is not signed; expected a signature by the key that was given")
    elif public_key is not None and record.public_key != public_key:  # which may be a private one: it is not shown
        yield Problem("key", SEAL_NAME, f"the seal is signed by another key than the one given: {record.public_key}")


def _strange(path: str, why: str) -> Problem:
    return Problem("changed", path, f"{quoted(path, limit=200)} {why}; a seal covers plain files only")


def _file_problems(then: Sequence[FileEntry], now: Sequence[FileEntry], strange: set[str]) -> Iterator[Problem]:
    before = {entry.path: entry for entry in then}
    after = {entry.path: entry for entry in now}
    sealed_as: dict[str, list[str]] = defaultdict(list)
    for entry in then:
        sealed_as[entry.sha256].append(entry.path)
    gone = {path for path in before.keys() - after.keys() if path not in strange}
    for path in sorted(after.keys() - before.keys(), key=path_order):
        came_from = next((old for old in sealed_as[after[path].sha256] if old in gone), None)
        if came_from is None:
            yield Problem("added", path, f"{_q(path)} was added")
        else:
            gone.discard(came_from)
            yield Problem("renamed", path, f"{_q(came_from)} was renamed to {_q(path)}")
    for path in sorted(gone, key=path_order):
        yield Problem("removed", path, f"{_q(path)} was removed")
    for path in sorted(before.keys() & after.keys(), key=path_order):
        old, new = before[path], after[path]
        if (old.sha256, old.size) == (new.sha256, new.size):
            continue
        others = [other for other in sealed_as[new.sha256] if other != path]
        if others:
            yield Problem("replaced", path, f"{_q(path)} was replaced: it holds what was sealed as {_q(others[0])}")
        else:
            sizes = f"{old.size:,} bytes then, {new.size:,} now" if old.size != new.size else "its size is the same"
            yield Problem("changed", path, f"{_q(path)} was changed ({sizes})")


def _q(path: str) -> str:
    return quoted(path, limit=200)


def _chain_problems(folder: Path, record: SealRecord, now: dict[str, FileEntry]) -> Iterator[Problem]:
    """Whether plan, opening and policy in the run are those of the heading; read as plain JSON, of any version."""
    heading = record.heading
    run = _json(folder, "run.json", now)
    if run is None:
        return  # changed or removed, which is said already
    says = {name: run.get(name) for name in ("id", "kind", "plan_sha256")}
    if heading.policy_named in ("before-scoring", "in-record"):
        says["policy_sha256"] = run.get("policy_sha256")
    for name, value in says.items():
        if value != getattr(heading, name):
            yield Problem("plan", "run.json", f"run.json: its {name} is not the one that was sealed")
    plan = run.get("plan")
    if not isinstance(plan, dict) or _plan_hash(plan) != heading.plan_sha256:
        yield Problem("plan", "run.json", "run.json: its plan is not the one that was sealed")
    if run.get("status") != "complete":
        yield Problem("plan", "run.json", "run.json: the run is not complete")
    if heading.opening_sha256 is None:
        return
    opening = _json(folder, "opening.json", now)
    if opening is None:
        return
    for name in ("id", "kind", "plan_sha256", "policy_sha256"):
        expected = getattr(heading, name)
        if name == "policy_sha256" and heading.policy_named == "at-sealing":
            expected = None
        if opening.get(name) != expected:
            yield Problem("plan", "opening.json", f"opening.json: its {name} is not the one that was sealed")
    made = run.get("provenance")
    if opening.get("created") != (made.get("created") if isinstance(made, dict) else None):
        yield Problem("plan", "opening.json", "opening.json: its created is not that of run.json, so it is not its own")


def _plan_hash(plan: dict[str, Any]) -> str | None:
    try:
        return plan_hash(plan)
    except ValueError:
        return None


def _json(folder: Path, name: str, now: dict[str, FileEntry]) -> dict[str, Any] | None:
    if name not in now:
        return None
    try:
        value = json.loads((folder / name).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _row_problems(folder: Path, record: SealRecord, progress: Progress) -> Iterator[Problem]:
    secret = read_secret(folder)
    for entry in record.tables:
        found = table_entry(folder, entry.path, secret, progress=progress)
        if (found.root, found.rows) != (entry.root, entry.rows):
            yield Problem("rows", entry.path, f"{_q(entry.path)}: its rows do not lead to the root in {SEAL_NAME}")


def _notes(folder: Path, record: SealRecord) -> tuple[str, ...]:
    heading = record.heading
    notes: list[str] = []
    if heading.opening_sha256 is None:
        notes.append(
            "the run has no opening.json (an older version made it, or it was removed before sealing): nothing fixes "
            "its plan before scoring"
        )
    if heading.policy_named == "at-sealing":
        notes.append("the policy was first named when the run was sealed, not before it was scored")
    if heading.policy_named == "in-record":
        notes.append("the policy stands in run.json only, so nothing shows that it was fixed before scoring")
    rootless = [entry.path for entry in record.tables if entry.root is None]
    notes += [f"rows of {_q(path)} cannot be disclosed alone" for path in rootless]
    secret = folder / SECRET_NAME
    if secret.exists() and stat.S_IMODE(os.lstat(secret).st_mode) & 0o077:
        notes.append(f"others can read {SECRET_NAME}, with which guesses at rows can be confirmed: chmod 600 {secret}")
    return tuple(notes)
