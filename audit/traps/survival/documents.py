"""The documents of a simulation: what `traps inject` takes as its reader gives it, and what else `read_texts` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ...text.readers import read_texts
from ...text.references import resolved
from ...text.sources import NOTHING, LeftOut, hash_of_files, list_folder, states
from ..planting.corpus import KINDS, SourceFile, documents, list_sources
from ..planting.hosts.document import HostOptions


@dataclass(frozen=True, slots=True)
class Documents:
    """Planted documents.

    Attributes:
        texts: None is blank. Markdown is as it stands; of HTML it is the source, tags and all, its character
            references resolved.
        source: As it was given.
        sha256: Of the files that were read, as `audit.text.readers.TextTable.sha256`.
        n_without_text: Records without a text (null, missing, blank, or half a surrogate pair).
        n_html: Files of HTML.
        left_out: What of a folder was not read.
    """

    texts: tuple[str, ...]
    source: str
    sha256: str
    n_without_text: int = 0
    n_html: int = 0
    left_out: LeftOut = NOTHING


def read_documents(source: str, options: HostOptions) -> Documents:
    """Reads planted documents.

    Files and folders are read as `audit.traps.planting.corpus` reads them. What traps are not planted in (.json, packed
    files and folders that hold some, ``hf:``) is read by `audit.text.readers.read_texts`: of such a folder, its .txt.

    Raises:
        InputError: Wrong path, extension or field; no permission.
        DataError: A file cannot be read as what it is or changed meanwhile, or there is no text.
        MissingDependencyError: As `read_texts`.
    """
    path = Path(source)
    if not _is_planted_in(path):
        table = read_texts(source, field=options.field, id_field=options.id_field)
        return Documents(table.texts, table.source, table.sha256, left_out=table.left_out)
    found = list_sources(path)
    files = [file for file in found.files if file.kind != "other"]
    paths = [file.path for file in files]
    before, digest = states(paths), hash_of_files(path, paths)
    every = [text for file in files for text in _texts(file, options)]
    if states(paths) != before:
        raise DataError(f"{source} changed while it was read. Read it again when nothing writes to it.")
    texts = tuple(text for text in every if text is not None and text.strip())
    if not texts:
        raise DataError(f"{source} holds no text. Give the planted documents.")
    left_out = LeftOut.under(
        path,
        others=[file.name for file in found.files if file.kind == "other"],
        hidden=found.hidden,
        links=found.links,
    )
    n_html = sum(file.kind == "html" for file in files)
    return Documents(texts, source, digest, len(every) - len(texts), n_html, left_out)


def _is_planted_in(path: Path) -> bool:
    """Whether traps are planted in such a file, or in a folder, which then holds no packed file of such a kind."""
    if path.is_dir():
        packed = tuple(f"{suffix}.gz" for suffix in KINDS)
        return not list_folder(path, lambda name: name.lower().endswith(packed))[0]
    return path.is_file() and path.suffix.lower() in KINDS


def _texts(file: SourceFile, options: HostOptions) -> list[str | None]:
    texts = [document.text for document in documents(file, options)]
    if file.kind in ("jsonl", "csv", "tsv", "parquet"):
        return texts
    whole = [text.replace("\r\n", "\n") for text in texts if text is not None]  # as `read_texts` reads .txt
    return [resolved(text) if file.kind == "html" else text for text in whole]
