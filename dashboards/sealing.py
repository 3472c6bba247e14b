"""What a run's seal says, checked once for each state of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import streamlit as st

from audit.errors import AuditError
from audit.runs.seal.check import verify_run
from audit.runs.seal.record import SEAL_NAME, SECRET_NAME, is_sealed
from audit.text.safe import counted

from .store import Opened, told

_MOST_UNASKED: Final = 512 * 2**20  # bytes that are hashed without being asked: some seconds
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Sealed:
    """The state of a seal.

    Attributes:
        state: "none", "intact", "broken", or "unchecked".
        says: One sentence.
        head: What the seal names as its head; None where there is none to read.
        public_key: That signed it; None where it is not signed.
        created: When it was sealed.
        problems: What is not as it was sealed, the first 20.
        notes: What should be known besides.
        n_bytes: Bytes that were hashed.
    """

    state: Literal["none", "intact", "broken", "unchecked"]
    says: str
    head: str | None = None
    public_key: str | None = None
    created: str | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    n_bytes: int = 0


def seal_of(opened: Opened, *, asked: bool = False) -> Sealed:
    """The state of the run's seal; a run larger than 512 MiB is hashed only when ``asked``."""
    try:
        if opened.folder is None or not is_sealed(opened.folder):
            return _unsealed(opened)
        size = sum(path.lstat().st_size for path in opened.folder.rglob("*"))
    except OSError as error:
        folder = opened.folder or Path()
        return Sealed("unchecked", f"The seal could not be checked: {told(error, folder)}")
    if size > _MOST_UNASKED and not asked:
        return Sealed("unchecked", f"Sealed; not checked yet, for {size / 2**20:,.0f} MiB have to be hashed.")
    return _checked(opened.key, str(opened.folder), opened.id)


def _unsealed(opened: Opened) -> Sealed:
    if opened.folder is not None and (opened.folder / SECRET_NAME).exists():
        says = f"It holds {SECRET_NAME} and no {SEAL_NAME}: it was sealed once, or sealing was interrupted."
        return Sealed("broken", says, problems=(says,))
    return Sealed("none", "Not sealed: nothing shows that these files are as they were written.")


@st.cache_data(show_spinner="Checking the seal ...", max_entries=500)
def _checked(key: str, folder: str, id_: str) -> Sealed:
    """``key`` changes with the files, so that a changed run is checked anew."""
    try:
        found = verify_run(folder)
    except (AuditError, OSError) as error:
        return Sealed("unchecked", f"The seal could not be checked: {told(error, Path(folder))}")
    record = found.record
    head, public_key, created = (
        (None, None, None) if record is None else (record.head, record.public_key, record.heading.created)
    )
    problems = tuple(problem.says for problem in found.problems[:_SHOWN])
    if problems:
        more = len(found.problems) - len(problems)
        says = f"Not as it was sealed: {counted(len(found.problems), 'problem')}. Nothing of it must be relied on."
        problems += (f"and {more:,} more",) if more else ()
        return Sealed("broken", says, head, public_key, created, problems, found.notes, found.n_bytes)
    says = (
        "As it was sealed. Compare the head with the one that was published: whoever can write the files can also seal "
        "them anew."
    )
    return Sealed("intact", says, head, public_key, created, (), found.notes, found.n_bytes)
