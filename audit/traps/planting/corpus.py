"""A publisher's corpus: its files, their documents, and what has to be known of them before anything is planted."""

from __future__ import annotations

import html
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ahocorasick

from ...errors import DataError, InputError
from ...progress import Progress, silent
from ...text.files import sha256_file
from ...text.safe import printable, quoted
from ...text.sources import require_exists
from .hosts import csv_table, html_text, jsonl, parquet, plain
from .hosts.document import Document, HostOptions

Kind = Literal["jsonl", "csv", "tsv", "parquet", "txt", "markdown", "html", "other"]
KINDS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "txt",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
}
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the corpus: where it lies, its path inside the source ("/" between parts), its kind and bytes."""

    path: Path
    name: str
    kind: Kind
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Sources:
    """All files of a corpus in order of path; ``hidden`` ones and ``links`` to folders were passed over."""

    is_file: bool
    files: tuple[SourceFile, ...]
    hidden: tuple[str, ...]
    links: tuple[str, ...]


@dataclass(slots=True)
class Survey:
    """What one reading of the corpus tells; documents are numbered over all files.

    Attributes:
        firsts: Number of each file's first document.
        sizes: Word positions of each document.
        n_characters: Of all texts.
        n_without_text: Documents whose text is null, missing, or not UTF-8.
        sha256: Of each file.
    """

    firsts: list[int] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    n_characters: int = 0
    n_without_text: int = 0
    sha256: list[str] = field(default_factory=list)


def list_sources(source: Path) -> Sources:
    """The files of a source; files of other kinds are listed too, as "other".

    Raises:
        InputError: There is nothing to plant in, a file cannot be read or is no plain file, is packed (.gz), or has a
            name that is not UTF-8.
    """
    require_exists(source)
    if source.is_file():
        kind = KINDS.get(source.suffix.lower())
        if kind is None:
            raise InputError(f"{source} ends in {source.suffix or 'nothing'}; {_expected(source.name)}")
        return Sources(True, (_file(source, source.name, kind),), (), ())

    def fail(error: OSError) -> None:
        raise InputError(f"could not read the folder {error.filename}: {error.strerror}. Check its permissions.")

    found, hidden, links = [], [], []
    for parent, folders, names in os.walk(source, onerror=fail):
        for name in sorted([*folders, *names]):
            path = Path(parent) / name
            inside = path.relative_to(source).as_posix()
            if name.startswith("."):
                hidden.append(inside)
            elif name in folders:
                if path.is_symlink():
                    links.append(inside)
            else:
                found.append(_file(path, inside, KINDS.get(path.suffix.lower(), "other")))
        folders[:] = [name for name in folders if not name.startswith(".")]
    if all(file.kind == "other" for file in found):
        raise InputError(f"{source} holds no file to plant in; {_expected('')}")
    return Sources(False, tuple(sorted(found, key=lambda file: file.name)), tuple(hidden), tuple(links))


def _file(path: Path, name: str, kind: Kind) -> SourceFile:
    if printable(name) != name:
        raise InputError(f"the name of {printable(path)} is not UTF-8. Rename it.")
    if path.suffix.lower() == ".gz" and Path(path.stem).suffix.lower() in KINDS:
        raise InputError(f"{path} is packed, and traps are planted in plain files. Unpack it with gunzip first.")
    try:
        state = path.stat()
        path.open("rb").close() if stat.S_ISREG(state.st_mode) else None
    except OSError as error:
        raise InputError(f"could not read {path}: {error.strerror}. Check it, or move it out of the source.") from error
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{path} is a device or a pipe. Move it out of the source.")
    return SourceFile(path, name, kind, state.st_size)


def _expected(name: str) -> str:
    hint = " Unpack it with gunzip first." if name.lower().endswith(".gz") else ""
    return f"expected one of {', '.join(KINDS)}, or a folder with such files.{hint}"


def documents(file: SourceFile, options: HostOptions) -> Iterator[Document]:
    """The documents of a file in order; errors as in the module of its format under `audit.traps.planting.hosts`."""
    readers: dict[Kind, Callable[[], Iterator[Document]]] = {
        "jsonl": lambda: jsonl.documents(file.path, file.name, options),
        "csv": lambda: csv_table.documents(file.path, file.name, options, ","),
        "tsv": lambda: csv_table.documents(file.path, file.name, options, "\t"),
        "parquet": lambda: parquet.documents(file.path, file.name, options),
        "txt": lambda: plain.documents(file.path, file.name, options),
        "markdown": lambda: _markdown(file, options),
        "html": lambda: html_text.documents(file.path, file.name, options),
        "other": lambda: iter(()),
    }
    return readers[file.kind]()


def _markdown(file: SourceFile, options: HostOptions) -> Iterator[Document]:
    from .hosts import markdown

    return markdown.documents(file.path, file.name, options)


def survey(
    sources: Sources,
    options: HostOptions,
    traps: Iterable[tuple[str, str]],
    *,
    progress: Progress = silent,
) -> Survey:
    """Reads the whole corpus once, and checks it.

    Args:
        sources: What `list_sources` found.
        options: How texts are read.
        traps: (id, text) of all traps, members and decoys: none may stand in the corpus.
        progress: Told in MiB.

    Raises:
        InputError: No record has the field.
        DataError: A file cannot be read as what it is, an identifier stands twice in a file, or a trap is there.
    """
    found = Survey()
    search = _search(traps)
    total = max(1, sum(file.n_bytes for file in sources.files) // MIB)
    done = 0
    progress("reading (MiB)", 0, total)
    for file in sources.files:
        found.firsts.append(len(found.sizes))
        found.sha256.append(sha256_file(file.path))
        if file.kind == "other":
            _search_bytes(file, search)
        ids: dict[str, str] = {}
        read = 0
        for document in documents(file, options):
            if options.id_field is not None and ids.setdefault(document.id, document.place) != document.place:
                raise DataError(
                    f"{document.place}: {quoted(options.id_field)} {quoted(document.id)} was used at "
                    f"{ids[document.id]} already. Give every document its own, or leave --id-field out: documents are "
                    "then named by file and line."
                )
            if document.text is None:
                found.n_without_text += 1
                found.sizes.append(0)
                continue
            written = html.unescape(document.text) if file.kind == "html" else document.text
            _refuse_found(search, written, document.place)
            found.sizes.append(len(document.starts()))
            found.n_characters += len(document.text)
            read += len(document.text)
            if read >= MIB:
                read = 0
                progress("reading (MiB)", min(total - 1, (done + document.first) // MIB), total)
        done += file.n_bytes
    progress("reading (MiB)", total, total)
    return found


def _search(traps: Iterable[tuple[str, str]]) -> Any:
    search = ahocorasick.Automaton()
    for trap_id, text in traps:
        search.add_word(text, trap_id)
    search.make_automaton()
    return search


def _refuse_found(search: Any, text: str, place: str) -> None:
    for _, trap_id in search.iter(text):
        raise DataError(
            f"{place} holds trap {quoted(trap_id)} already. A source must hold no trap of the ledger: give the one "
            "from before planting (`traps remove` brings it back); keep the ledger itself and its tables out of it."
        )


def _search_bytes(file: SourceFile, search: Any) -> None:
    """Looks through a file that is copied as it is, so that no ledger and no table of traps goes out with it."""
    kept = b""
    overlap = 4 * max((len(key) for key in search.keys()), default=0)  # noqa: SIM118  # an automaton is no dict
    with file.path.open("rb") as stream:
        while content := stream.read(MIB):
            content = kept + content
            _refuse_found(search, content.decode("utf-8", "replace"), file.name)
            kept = content[-overlap:]
