"""A steering and its model, loaded for the verbs that use one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.text.files import sha256_file

from ..files import RECORD, Steering, load_maps, require_model
from ..maps import AffineMap
from .inputs import steering_folder


class Loaded(NamedTuple):
    """Maps and the model that they belong to.

    Attributes:
        lm: The model, as it is.
        maps: Site -> map.
        record: What is kept beside the maps.
        folder: Where they lie.
        fingerprint: 16 hexadecimal digits of the SHA-256 of ``steering.json``, which names maps and model.
    """

    lm: LanguageModel
    maps: dict[str, AffineMap]
    record: Steering
    folder: Path
    fingerprint: str


def load_all(where: Path, subject: Subject) -> Loaded:
    """Load a steering's folder and its model.

    Raises:
        InputError, DataError, ModelError: As `steering_folder`, `load_maps`, `audit.lm.load.load`, `require_model`.
    """
    folder = steering_folder(where)
    maps, record = load_maps(folder)
    lm = load(subject)
    require_model(record, lm, maps, folder=folder)
    return Loaded(lm, maps, record, folder, sha256_file(folder / RECORD)[:16])
