"""The training rows that generations were compared with: read from the auditor's own file, where it is still there.

A run keeps the rows' ids and lengths, not their texts. Its plan can name any file of this machine, and whoever made the
run chose it: the file is read only where nobody but this machine reaches the server, and nothing of it is told unless
it is the one that was compared.
"""

from __future__ import annotations

import gzip
import ipaddress
import zlib
from pathlib import Path

import streamlit as st

from audit.errors import AuditError, InputError
from audit.runs.store import Run
from audit.text.hub import PREFIX

from .items import require_room

_MOST_BYTES = 512 * 2**20  # unpacked
_FILE = "the file of the training rows"


def training_rows(key: str, run: Run) -> tuple[dict[str, str], str]:
    """Id -> text of the training rows, in the view that was compared, and that view.

    Args:
        key: Of the run's files.
        run: A run with an extraction audit.

    Raises:
        InputError: Others can reach this server; the plan names no file, or one that is elsewhere, cannot be read, or
            is not the one that was compared. No message says anything of the file.
    """
    if not only_this_machine(st.get_option("server.address")):
        raise InputError("this server can be reached from other machines, so files outside of the runs are not read.")
    source, view, settings = _source(run)
    try:
        found = source.stat()
        key = f"{key}/{found.st_size}/{found.st_mtime_ns}"
        return _texts(key, str(source), view, settings, _recorded(run)), view
    except _NotReadError:
        raise
    except (AuditError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{_FILE} cannot be read as rows.") from error


def only_this_machine(address: str | None) -> bool:
    """Whether a server at that address is reached from this machine alone; None is every address it has."""
    try:
        return address == "localhost" or ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def compared_view(run: Run) -> str:
    """The view of generations and rows that was matched first: "whole", "question" or "answer"."""
    view = _plan(run).get("primary", "whole")
    return view if view in ("whole", "question", "answer") else "whole"


def _plan(run: Run) -> dict[str, object]:
    plan = run.record.plan.get("extraction")
    return plan if isinstance(plan, dict) else {}


def _recorded(run: Run) -> str:
    inputs = run.record.plan.get("inputs")
    return str(inputs.get("train", "")) if isinstance(inputs, dict) else ""


def _source(run: Run) -> tuple[Path, str, tuple[tuple[str, object], ...]]:
    from audit.runs.plan import resolve_path

    plan = _plan(run)
    name = plan.get("train")
    if not isinstance(name, str) or not name:
        raise InputError("the run does not name the file of its training rows.")
    if name.startswith(PREFIX):
        raise InputError(f"the training rows are {name}, and the dashboard reads nothing from a network.")
    try:
        path = resolve_path(name, Path(run.record.plan_folder or ".") / "plan.toml")
        is_there = path.is_file()
    except (AuditError, OSError, ValueError):
        is_there = False
    if not is_there:
        raise InputError(f"{_FILE} is not where the plan says.")
    names = ("question_field", "answer_field", "id_field", "skip_bad_lines")
    return path, compared_view(run), tuple((one, plan[one]) for one in names if plan.get(one) is not None)


class _NotReadError(InputError):
    """A message that says nothing of the file's content."""


@st.cache_data(show_spinner="Reading the training rows", max_entries=1)
def _texts(key: str, source: str, view: str, settings: tuple[tuple[str, object], ...], recorded: str) -> dict[str, str]:
    from audit.extraction.rows import read_rows

    path = Path(source)
    if _is_too_large(path):
        raise _NotReadError(f"{_FILE} is too large to be read here: more than {_MOST_BYTES // 2**20:,} MiB unpacked.")
    rows = read_rows(path, **dict(settings))  # type: ignore[arg-type]  # read_rows checks what it is given
    if not recorded or rows.sha256 != recorded:
        raise _NotReadError(
            f"{_FILE} is not the file that was compared: its SHA-256 is not the one that the run holds."
        )
    return dict(zip(rows.ids, rows.of_view(view), strict=True))  # type: ignore[arg-type]  # one of three names


def _is_too_large(path: Path) -> bool:
    """Whether the file is too large as it lies, or unpacked."""
    if path.stat().st_size > _MOST_BYTES:
        return True
    if path.suffix.lower() == ".parquet":
        require_room(path, whole=True)
    if path.suffix.lower() != ".gz":
        return False
    left = _MOST_BYTES
    try:
        with gzip.open(path) as stream:
            while left >= 0 and (piece := stream.read(1 << 20)):
                left -= len(piece)
    except (EOFError, zlib.error) as error:
        raise InputError(f"{_FILE} is not sound gzip.") from error
    return left < 0
