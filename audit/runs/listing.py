"""The runs in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import AuditError, InputError
from .schema import RunRecord
from .store import Run

_SIGNS = ("run.json", "opening.json", "findings.json")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One readable run.

    Attributes:
        folder: The run's folder.
        record: Its ``run.json``.
        state: As `Run.state`.
        has_findings: Whether ``findings.json`` exists.
    """

    folder: Path
    record: RunRecord
    state: str
    has_findings: bool


@dataclass(frozen=True, slots=True)
class RunList:
    """What `list_runs` found.

    Attributes:
        runs: Readable runs, the newest first.
        unreadable: (folder, reason) of runs that could not be read, and of what could not be looked at; folders that
            are no runs are not named.
    """

    runs: tuple[RunSummary, ...]
    unreadable: tuple[tuple[Path, str], ...]


def run_folders(root: str | Path) -> list[Path]:
    """Folders directly in ``root``, and ``root`` itself, that hold a run or, without a ``run.json``, the rest of one.

    What cannot be looked at is among them: it may be a run, and whoever opens it learns why it cannot be read.

    Raises:
        InputError: ``root`` is no folder or cannot be read.
    """
    found = []
    for folder, problem in _folders(Path(root)):
        try:
            if problem is not None or any((folder / name).exists() for name in _SIGNS):
                found.append(folder)
        except OSError:
            found.append(folder)
    return found


def _folders(root: Path) -> list[tuple[Path, OSError | None]]:
    """Folders in ``root``, and ``root`` itself; with an error, where it cannot be told whether it is a folder."""
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise InputError(
            f"could not list the runs in {root}: {error.strerror}. Name the folder that holds them with --runs."
        ) from error
    found: list[tuple[Path, OSError | None]] = [(root, None)]
    for path in entries:
        try:
            if path.is_dir():
                found.append((path, None))
        except OSError as error:
            found.append((path, error))
    return found


def list_runs(root: str | Path) -> RunList:
    """Runs directly in ``root``, and ``root`` itself when it is one.

    Raises:
        InputError: ``root`` is no folder or cannot be read.
    """
    runs, unreadable = [], []
    for folder, problem in _folders(Path(root)):
        try:
            if problem is not None:
                raise problem
            if (folder / "run.json").exists():
                run = Run.open(folder)
                runs.append(RunSummary(folder, run.record, run.state(), (folder / "findings.json").exists()))
        except (AuditError, OSError) as error:
            unreadable.append((folder, str(error)))
    runs.sort(key=lambda summary: summary.record.provenance.created, reverse=True)
    return RunList(tuple(runs), tuple(unreadable))
