"""The training rows that generations were compared with: read from the auditor's own file, where it is still there.

A run keeps the rows' ids and lengths, not their texts.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from audit.errors import InputError
from audit.runs.store import Run
from audit.text.hub import PREFIX

_MOST_BYTES = 2_000_000_000


def training_rows(key: str, run: Run) -> tuple[dict[str, str], str]:
    """Id -> text of the training rows, in the view that was compared, and that view.

    Args:
        key: Of the run's files.
        run: A run with an extraction audit.

    Raises:
        AuditError: The plan names no file, or one that is elsewhere, cannot be read, or is not the one that was
            compared.
    """
    source, view, settings = _source(run)
    found = source.stat()
    return _texts(f"{key}/{found.st_size}/{found.st_mtime_ns}", str(source), view, settings, _recorded(run)), view


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
    path = resolve_path(name, Path(run.record.plan_folder or ".") / "plan.toml")
    if not path.is_file():
        raise InputError(f"the file of the training rows, {path.name}, is not where the plan says.")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"the file of the training rows, {path.name}, is too large to be read here.")
    names = ("question_field", "answer_field", "id_field", "skip_bad_lines")
    return path, compared_view(run), tuple((one, plan[one]) for one in names if plan.get(one) is not None)


@st.cache_data(show_spinner="Reading the training rows", max_entries=1)
def _texts(key: str, source: str, view: str, settings: tuple[tuple[str, object], ...], recorded: str) -> dict[str, str]:
    from audit.extraction.rows import read_rows

    rows = read_rows(Path(source), **dict(settings))  # type: ignore[arg-type]  # read_rows checks what it is given
    if rows.sha256 != recorded:
        raise InputError(
            f"{Path(source).name} is not the file that was compared: the SHA-256 of its rows is {rows.sha256}, the "
            f"run's is {recorded or 'not recorded'}."
        )
    return dict(zip(rows.ids, rows.of_view(view), strict=True))  # type: ignore[arg-type]  # one of three names
