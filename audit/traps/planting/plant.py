"""Plant a ledger's members into a publisher's files.

    list the files -> read them all -> draw the places -> write every file -> keep the placements -> show the output

The corpus is read twice and never held: once to count word positions and to check it, once to write. Nothing is at its
final place before all of it is written, and the placements are there before the output is.

Source: arXiv:2402.09363, released code (positions), and the traps specification, section 1.3 (what is kept of a copy).
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from ... import __version__
from ...errors import InputError
from ...progress import Progress, silent
from ...runs.moments import now
from ...runs.provenance import package_versions
from ...text.files import storage_errors
from ...text.safe import counted
from ..ledger.records import Ledger
from .corpus import Sources, Survey, list_sources, survey
from .files import Plan, TokenStarts, Writing
from .hosts.document import HostOptions
from .inject import plan_copies
from .placements import (
    PLACEMENTS_FORMAT,
    PLACEMENTS_VERSION,
    Placements,
    PlantedFile,
    PlantedTrap,
    PlantingOptions,
    originals_folder,
    write_placements,
)
from .secret_files import refuse_secrets
from .whole import check_output, whole_output


@dataclass(frozen=True, slots=True)
class Planting:
    """What is to be planted, and how.

    Attributes:
        ledger: Its members are planted, its decoys never.
        host: How texts are read and copies are written.
        placement: As `audit.traps.config.TrapDesign.placement`.
        seed: Of the positions, 0 to 2^63 - 1.
        neighbourhood: All copies of a trap before consecutive words.
        min_words: Documents with fewer word positions are no hosts.
        tokenizer: For the token offset of each copy, with the SHA-256 of its file.
        variants: Id of a member -> near copies that stand in place of all its copies but the first, in turn.
    """

    ledger: Ledger
    host: HostOptions
    placement: Literal["document", "scattered"]
    seed: int
    neighbourhood: bool = False
    min_words: int = 1
    tokenizer: tuple[TokenStarts, str] | None = None
    variants: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def members(self) -> tuple[PlantedTrap, ...]:
        """What is planted.

        Raises:
            InputError: Nothing, or a trap that no text file can hold.
        """
        chosen = [trap for trap in self.ledger.traps if trap.arm == "member"]
        if not chosen:
            raise InputError("the ledger has no members, so there is nothing to plant.")
        for trap in chosen:
            if any("\0" in text for text in (trap.text, *self.variants.get(trap.id, ()))):
                raise InputError(f"trap {trap.id} holds a NUL character, which no text file can. Draw another ledger.")
        return tuple(
            PlantedTrap(id=trap.id, text=trap.text, n_rep=trap.n_rep, variants=tuple(self.variants.get(trap.id, ())))
            for trap in chosen
        )

    def options(self) -> PlantingOptions:
        return PlantingOptions(
            separator=self.host.separator,
            field=self.host.field,
            id_field=self.host.id_field,
            html=self.host.html,
            min_words=self.min_words,
            placement=self.placement,
            neighbourhood=self.neighbourhood,
            tokenizer_sha256=None if self.tokenizer is None else self.tokenizer[1],
        )


class Room(NamedTuple):
    """What a corpus must have: documents with ``words_each`` word positions or more, and ``words`` in all of them."""

    n_documents: int
    words_each: int
    words: int


def room(copies: Sequence[int], placement: Literal["document", "scattered"], *, min_words: int = 1) -> Room:
    """The least room that copies need.

    With a document for each trap, every host has room for the trap with most copies, so that hosts do not depend on
    the arm.

    Args:
        copies: Number of copies of each trap.
        placement: As in `Planting`.
        min_words: As in `Planting`.
    """
    if placement == "scattered":
        return Room(0, min_words, sum(copies))
    each = max(min_words, *copies)
    return Room(len(copies), each, each * len(copies))


@dataclass(frozen=True, slots=True)
class Told:
    """What was planted, for a person.

    Attributes:
        sources: The files, and what was passed over.
        n_documents: Of the corpus.
        n_hosts: Those with room for copies.
        n_without_text: Those whose text is null, missing or not UTF-8.
        n_planted: Those that got copies.
        n_traps: Members.
        n_copies: Of all of them.
        share: Characters that were inserted / characters of the planted corpus, in [0, 1].
        largest: The same of the document with the largest share, and its place.
        shortest: Fewest word positions of a document with copies, its copies, and its place.
        kept_bytes: Bytes of original parquet files that are kept beside the placements.
    """

    sources: Sources
    n_documents: int
    n_hosts: int
    n_without_text: int
    n_planted: int
    n_traps: int
    n_copies: int
    share: float
    largest: tuple[float, str]
    shortest: tuple[int, int, str]
    kept_bytes: int

    def kinds(self) -> Counter[str]:
        """Files of each kind."""
        return Counter(file.kind for file in self.sources.files)


def plant(
    planting: Planting,
    source: Path,
    out: Path,
    placements: Path,
    *,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Told:
    """Writes a planted copy of a corpus, and where every copy stands.

    Args:
        planting: What and how.
        source: A file or a folder; only read.
        out: A new file or folder.
        placements: A new .json file. Beside it, the originals of planted parquet files are kept.
        dry_run: Compute and tell everything, write nothing.
        progress: Told of both readings, in MiB.

    Raises:
        InputError: An output stands in the way or lies in the source, or there is not enough room for the copies.
        DataError: A file cannot be read or changed meanwhile, holds a trap already, or is itself a ledger, placements,
            a disclosure or a table of traps.
        InstrumentError: A parquet file did not keep what it must.
        StorageError: An output cannot be written; then none is there.
    """
    members = planting.members()
    sources = list_sources(source)
    _check_outputs(source, out, placements)
    refuse_secrets(sources)
    known = [(trap.id, trap.text) for trap in planting.ledger.traps]
    found = survey(sources, planting.host, known, progress=progress)
    plan, n_hosts = _plan(planting, members, found)
    tokens = None if planting.tokenizer is None else planting.tokenizer[0]
    writing = Writing(planting.host, members, sources, found, plan, tokens)
    if dry_run:
        writing.write(None, None, progress)
    else:
        _write(planting, writing, out, placements, progress)
    planted_characters = found.n_characters + writing.added
    return Told(
        sources=sources,
        n_documents=len(found.sizes),
        n_hosts=n_hosts,
        n_without_text=found.n_without_text,
        n_planted=len(writing.planted),
        n_traps=len(members),
        n_copies=sum(trap.n_rep for trap in members),
        share=writing.added / planted_characters if planted_characters else 0.0,
        largest=writing.largest,
        shortest=writing.shortest,
        kept_bytes=writing.kept_bytes,
    )


def _check_outputs(source: Path, out: Path, placements: Path) -> None:
    check_output("--out", out, outside={"the source": source})
    if source.is_file() and out.suffix.lower() != source.suffix.lower():
        raise InputError(f"--out {out} ends in {out.suffix or 'nothing'}; expected {source.suffix}, as the source.")
    if placements.suffix.lower() != ".json":
        raise InputError(f"--placements {placements} ends in {placements.suffix or 'nothing'}; expected .json.")
    originals = originals_folder(placements)
    if os.path.lexists(placements) or os.path.lexists(originals):
        raise InputError(
            f"{placements if os.path.lexists(placements) else originals} is there already, and placements are never "
            f"overwritten; {out}, which is written after it, is not there. If a start was broken off between the two, "
            f"delete {placements} and {originals.name} and start again; else choose another name."
        )
    check_output("--placements", placements, outside={"the source": source, "--out": out})


def _write(planting: Planting, writing: Writing, out: Path, placements: Path, progress: Progress) -> None:
    """Output and placements, or neither."""
    originals = originals_folder(placements)
    made: list[Path] = []  # by us, so ours to take away again
    try:
        with whole_output(out) as work:
            if writing.needs_originals():
                with storage_errors(originals, kept="nothing was changed", doing="create the folder"):
                    originals.mkdir(mode=0o700)
                made.append(originals)
            files = writing.write(work, originals, progress)
            write_placements(placements, _record(planting, writing, files))
            made.append(placements)
    except BaseException:
        for path in made:
            if path == originals:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _record(planting: Planting, writing: Writing, files: list[PlantedFile]) -> Placements:
    return Placements(
        format=PLACEMENTS_FORMAT,
        schema_version=PLACEMENTS_VERSION,
        created=now(),
        palimpsest=__version__,
        packages=package_versions(("markdown-it-py", "numpy", "pyarrow")),
        commitment=planting.ledger.commitment(),
        seed=planting.seed,
        options=planting.options(),
        single_file=writing.sources.is_file,
        traps=writing.members,
        files=tuple(files),
        documents=tuple(writing.planted),
    )


def _plan(planting: Planting, members: tuple[PlantedTrap, ...], found: Survey) -> tuple[Plan, int]:
    """Draws the places, among hosts that all have room for the trap with most copies: hosts do not depend on the arm.

    Returns:
        The plan, and how many documents are hosts.
    """
    needed = room([trap.n_rep for trap in members], planting.placement, min_words=planting.min_words)
    hosts = [number for number, size in enumerate(found.sizes) if size >= needed.words_each]
    if len(hosts) < needed.n_documents:
        most = max(trap.n_rep for trap in members)
        raise InputError(
            f"{counted(len(members), 'trap')} need a document each, with {needed.words_each:,} word positions or more "
            f"(the most copies of a trap: {most:,}; --min-words: {planting.min_words:,}). "
            f"Of {counted(len(found.sizes), 'document')} {len(hosts):,} have that many, and the longest has "
            f"{max(found.sizes, default=0):,}. Give more or longer "
            "documents, a ledger with fewer traps or repetitions, or --placement scattered."
        )
    plan: Plan = {}
    for copy in plan_copies(
        [found.sizes[host] for host in hosts],
        [(trap.id, trap.n_rep) for trap in members],
        placement=planting.placement,
        seed=planting.seed,
        neighbourhood=planting.neighbourhood,
    ):
        plan.setdefault(hosts[copy.document], []).append((copy.slot, copy.trap, copy.copy))
    for inside in plan.values():
        inside.sort()
    return plan, len(hosts)
