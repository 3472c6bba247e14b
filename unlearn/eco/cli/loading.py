"""A guard and its model, loaded for the verbs that use one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from audit.lm.load import load
from audit.lm.subject import Subject
from audit.matching.encode import load_encoder
from audit.text.files import sha256_file

from ..guard import EcoGuard
from ..guard_files import RECORD, GuardRecord, load_guard, read_guard
from .inputs import guard_folder


class Loaded(NamedTuple):
    """A guard before its model.

    Attributes:
        guard: Ready for use.
        record: What its folder says.
        fingerprint: 16 hexadecimal digits of the SHA-256 of its ``guard.json``, which names the model's weights.
    """

    guard: EcoGuard
    record: GuardRecord
    fingerprint: str


def load_all(where: Path, subject: Subject, *, encoder: str | None, key: bytes | None = None) -> Loaded:
    """Load a guard's folder and the model.

    Raises:
        InputError, DataError, ModelError: As `guard_folder`, `load_guard` and `audit.lm.load.load`.
    """
    folder = guard_folder(where)
    record = read_guard(folder)
    lm = load(subject)
    given = None if encoder is None else load_encoder(encoder, device=subject.device)
    guard = load_guard(folder, lm, encoder=given, key=key)
    return Loaded(guard, record, sha256_file(folder / RECORD)[:16])
