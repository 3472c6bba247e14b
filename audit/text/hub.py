"""Hugging Face datasets as a stream of rows, through the optional package ``datasets``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import DataError, InputError, MissingDependencyError
from .rows import BadLine, Row, require_field

PREFIX = "hf:"
_FORM = re.compile(r"hf:([\w.-]+/[\w.-]+)(?::([^:]*))?(?::([^:]*))?")


class HubSource(NamedTuple):
    """``hf:owner/name[:config][:split]``; ``suffixes`` are the parts after the name, at most two."""

    name: str
    suffixes: tuple[str, ...]


def parse_hub_source(source: str) -> HubSource:
    """Splits ``hf:owner/name[:config][:split]``.

    Raises:
        InputError: It has another form.
    """
    form = _FORM.fullmatch(source)
    if form is None:
        raise InputError(
            f"{source!r} does not name a dataset; expected hf:owner/name, hf:owner/name:split, "
            "hf:owner/name:config or hf:owner/name:config:split."
        )
    return HubSource(form[1], tuple(part for part in form.groups()[1:] if part is not None))


def hub_rows(source: str, field: str, id_field: str | None) -> Iterator[Row | BadLine]:
    """Rows of a dataset in its own order, streamed: nothing is kept on disk.

    A single suffix is a configuration when the dataset has one of that name, else a split. The split is "train" when
    none is named.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        InputError: The source is ill-formed, or the dataset, configuration, split or field does not exist.
        DataError: The dataset cannot be read or reached.
    """
    name, suffixes = parse_hub_source(source)
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            f"{source} needs the package datasets. Install it with: pip install 'palimpsest-audit[utility]'"
        ) from error
    number = 0
    try:
        config, split = _config_and_split(datasets.get_dataset_config_names(name), suffixes)
        for number, values in enumerate(datasets.load_dataset(name, config, split=split, streaming=True), start=1):
            if number == 1:
                require_field(field, list(values), source)
                if id_field is not None:
                    require_field(id_field, list(values), source)
            yield Row(number, f"row {number}", str(number), dict(values))
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(f"{source}: {error}. Check the name, and log in if the dataset is private.") from error
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        where = f"after row {number}" if number else "at its start"
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{source} could not be read {where}: {first_line}. Check the name and the network.") from error


def _config_and_split(configs: list[str], suffixes: tuple[str, ...]) -> tuple[str | None, str]:
    if len(suffixes) == 2:
        return suffixes[0] or None, suffixes[1] or "train"
    if len(suffixes) == 1 and suffixes[0] not in configs:
        return None, suffixes[0] or "train"
    return (suffixes[0] if suffixes else None), "train"
