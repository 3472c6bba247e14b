"""The model that a run speaks of, by the SHA-256 of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from ..errors import DataError, InputError
from ..runs.schema import RunRecord
from ..text.safe import did_you_mean, quoted

_ADAPTER: Final = "adapter/"


@dataclass(frozen=True, slots=True)
class ModelSubject:
    """A model.

    Attributes:
        role: What it was in the run: "subject".
        name: Its Hugging Face id, or the last part of its folder's path: where it lay is nobody's business.
        revision: Where it has one.
        combined: The fingerprint over all weights; no file has this hash.
        weights: Name -> SHA-256 of each weights file; an adapter's files start with "adapter/".

    `own` and `base` are the parts of ``weights`` that are this model's alone, and that other adapters may share.
    """

    role: str
    name: str
    revision: str | None
    combined: str
    weights: Mapping[str, str]

    @property
    def own(self) -> dict[str, str]:
        """The adapter's files where there is an adapter, else all."""
        adapter = {name: sha for name, sha in self.weights.items() if name.startswith(_ADAPTER)}
        return adapter or dict(self.weights)

    @property
    def base(self) -> dict[str, str]:
        """The base model's files where there is an adapter, else none."""
        return {name: sha for name, sha in self.weights.items() if name not in self.own}


def model_subject(record: RunRecord, role: str | None = None) -> ModelSubject:
    """The model under audit, or the one that has a given role in the run.

    Raises:
        InputError: There is no such role; those that exist are named.
        DataError: The run names no model, or keeps no hashes of its weights.
    """
    subjects = record.subjects
    if not subjects:
        raise DataError(f"the run {record.id} names no model, so there is nothing that a statement could speak of.")
    if role is not None and role not in subjects:
        raise InputError(
            f"the run has no model in the role {quoted(role)}; it has {', '.join(sorted(subjects))}."
            f"{did_you_mean(role, subjects)}"
        )
    chosen = role or record.audited_role
    if chosen is None:
        raise InputError(f"the run has the models {', '.join(sorted(subjects))}. Say which one with --role.")
    told: Mapping[str, Any] = subjects[chosen]
    fingerprint = told.get("fingerprint")
    files = fingerprint.get("files") if isinstance(fingerprint, dict) else None
    weights = {name: sha for name, sha in sorted((files or {}).items()) if name.endswith(".safetensors")}
    if not isinstance(fingerprint, dict) or not weights:
        raise DataError(f"the run keeps no SHA-256 of the weights of its model in the role {chosen}.")
    model = str(told.get("model", "model"))
    local = model.count("/") != 1 or model.startswith(("/", ".", "~"))
    name = PurePosixPath(model).name or model if local else model
    revision = told.get("revision")
    return ModelSubject(
        chosen, name, None if revision is None else str(revision), str(fingerprint.get("weights")), weights
    )
