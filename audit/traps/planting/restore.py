"""Take the copies of traps out of files that they were planted in: byte for byte what was there before, or nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError, InputError
from ...progress import Progress, silent
from ...text.files import atomic_writer, make_folder, sha256_file
from ...text.safe import quoted
from ...text.sources import require_exists
from .corpus import MIB
from .placements import ORIGINALS, Placements, PlantedFile, originals_folder, read_placements
from .splice import cut_out, first_change
from .whole import check_output, whole_output


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done: files, those of them that had copies, copies, bytes, and files that were not there at planting."""

    n_files: int
    n_planted: int
    n_copies: int
    n_bytes: int
    others: tuple[str, ...]


def restore(placements: Path, planted: Path, out: Path, *, progress: Progress = silent) -> Restored:
    """Writes the corpus as it was before its traps were planted.

    Args:
        placements: What `audit.traps.planting.plant.plant` wrote.
        planted: The file or folder it wrote; only read.
        out: A new file or folder.
        progress: Told in MiB.

    Raises:
        InputError: A path is wrong, or an output stands in the way.
        DataError: A planted file is missing or was changed (where is told), or what comes out is not the original.
        StorageError: The output cannot be written; then none is there.
    """
    record = read_placements(placements)
    require_exists(planted)
    if planted.is_file() != record.single_file:
        kind = "one file" if record.single_file else "a folder"
        raise InputError(
            f"traps were planted in {kind}, but {planted} is {'a folder' if record.single_file else 'a file'}."
        )
    check_output("--out", out, outside={"the planted folder": planted})
    files = [planted if record.single_file else planted / file.path for file in record.files]
    for path, file in zip(files, record.files, strict=True):
        _check(path, file)
    cuts = record.cuts()
    total = max(1, sum(file.planted_bytes for file in record.files) // MIB)
    done = 0
    progress("restoring (MiB)", 0, total)
    with whole_output(out) as work:
        for number, (path, file) in enumerate(zip(files, record.files, strict=True)):
            target = work if record.single_file else work / file.path
            make_folder(target.parent)
            source, inserted = path, cuts.get(number, [])
            if file.kind == "parquet" and file.is_planted:
                source, inserted = _original(placements, file), []
            with atomic_writer(target) as stream:
                _, after = cut_out(source, stream, inserted)
            if after.sha256 != file.original_sha256:
                raise DataError(
                    f"{path}: without its copies it is not the original, though it is the file that was planted; "
                    f"{placements} was changed. Restore that from a copy."
                )
            done += file.planted_bytes
            progress("restoring (MiB)", min(done // MIB, total - 1), total)
    progress("restoring (MiB)", total, total)
    return Restored(
        n_files=len(files),
        n_planted=sum(file.is_planted for file in record.files),
        n_copies=sum(trap.n_rep for trap in record.traps),
        n_bytes=sum(file.original_bytes for file in record.files),
        others=_others(planted, record),
    )


def _check(path: Path, file: PlantedFile) -> None:
    """Refuses a file that is not as it was planted."""
    if not path.is_file():
        raise DataError(f"{path} is missing; it was planted as {quoted(file.path)}. Put it back.")
    if sha256_file(path) == file.planted_sha256:
        return
    where = ""
    if file.blocks:
        first, last = first_change(path, file.planted)
        where = f" The first change lies in bytes {first:,} to {last:,}{_lines(path, file, first, last)}."
    raise DataError(
        f"{path} is not as it was planted: it has {path.stat().st_size:,} bytes (planted: {file.planted_bytes:,}) and "
        f"another SHA-256.{where} Copies are cut out of the very file that was written, so that nothing else goes with "
        "them; give that one. If the change is wanted, make it again in the restored file."
    )


def _lines(path: Path, file: PlantedFile, first: int, last: int) -> str:
    if file.kind == "parquet":
        return ""
    with path.open("rb") as stream:
        before = sum(stream.read(min(MIB, first - 1 - at)).count(b"\n") for at in range(0, first - 1, MIB)) + 1
        inside = stream.read(last - first + 1).count(b"\n")
    return f", {f'line {before:,}' if not inside else f'lines {before:,} to {before + inside:,}'}"


def _original(placements: Path, file: PlantedFile) -> Path:
    """The kept original of a parquet file: named by its SHA-256, so that it is found after the placements are renamed.

    It is looked for in the folder that belongs to the placements' name, then in every other "*.originals" beside it.
    """
    own = originals_folder(placements)
    others = sorted(placements.absolute().parent.glob(f"*{ORIGINALS}"))
    found = [path for folder in (own, *others) if (path := folder / f"{file.original_sha256}.parquet").is_file()]
    for path in found:
        if sha256_file(path) == file.original_sha256:
            return path
    if found:
        why = f"is changed: {found[0]} has another SHA-256. Put it back from a copy"
    else:
        why = (
            f"is missing: {file.original_sha256}.parquet lies neither in {own} nor in another folder *{ORIGINALS} "
            f"beside {placements}. `traps inject` wrote such a folder beside the placements: move it there, or put it "
            "back from a copy"
        )
    raise DataError(
        f"the original of {quoted(file.path)} {why}; parquet cannot be brought back byte for byte without it."
    )


def _others(planted: Path, record: Placements) -> tuple[str, ...]:
    if record.single_file:
        return ()
    known = {file.path for file in record.files}
    found = [
        (Path(parent) / name).relative_to(planted).as_posix() for parent, _, names in os.walk(planted) for name in names
    ]
    return tuple(sorted(set(found) - known))
