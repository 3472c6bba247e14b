"""Choose where the copies of traps go, plant them in documents, and take them out again.

Positions are the starts of space-separated words, drawn at random without replacement (arXiv:2402.09363,
released code). Departures: a separator stands on both sides of each copy (the released code writes none
after it, so that a trap fuses with the next word), and copies may also be scattered over many documents or, the
other way, stand at consecutive words of one. Documents here are texts in memory; `audit.traps.planting.plant` plants in
files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ...errors import InputError
from ..config import TrapDesign

if TYPE_CHECKING:
    from ..generate import Trap

_WORD_START = re.compile(r"(?:(?<=^)|(?<= ))(?=\S)")


@dataclass(frozen=True, slots=True)
class Placement:
    """One planted copy.

    Attributes:
        trap_id: Which trap.
        document_id: Where.
        copy: Number of the copy, from 0.
        offset: Character offset in the new document of what was inserted, its first separator included.
        n_characters: Characters inserted, separators included.
        before_sha256: SHA-256 of the new document's text before the copy.
    """

    trap_id: str
    document_id: str
    copy: int
    offset: int
    n_characters: int
    before_sha256: str


class PlannedCopy(NamedTuple):
    """Where a copy is to go: place of its document, number of the word position in it, place of its trap, copy."""

    document: int
    slot: int
    trap: int
    copy: int


def word_starts(text: str) -> list[int]:
    """Character offsets of the words of a text, cut at spaces alone, as published; one after other white space is none.

    >>> word_starts("one two\\nthree  four")
    [0, 4, 15]
    """
    return [match.start() for match in _WORD_START.finditer(text)]


def plan_copies(
    sizes: Sequence[int],
    traps: Sequence[tuple[str, int]],
    *,
    placement: Literal["document", "scattered"],
    seed: int,
    neighbourhood: bool = False,
    name: Callable[[int], str] = str,
) -> list[PlannedCopy]:
    """Draws a word position for every copy, no two copies at the same one.

    "document": the documents are shuffled and each trap gets one; its copies stand before distinct words of it, all
    sets of words being equally likely. With ``neighbourhood`` they stand before consecutive words, the first of which
    is drawn uniformly, so that all copies have nearly the same words around them.
    "scattered": all copies of all traps stand before distinct words of all documents, all sets being equally likely.

    Args:
        sizes: Word positions of each document.
        traps: Id and number of copies of each trap.
        placement: As above.
        seed: Seed of the positions.
        neighbourhood: As above; with "document" only.
        name: What a message calls the document at a place.

    Returns:
        One for each copy, by trap and copy.

    Raises:
        InputError: There are not enough documents or word positions.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    if placement == "document":
        return _one_document_each(sizes, traps, rng, neighbourhood, name)
    if neighbourhood:
        raise InputError("copies cannot be scattered and stand in one neighbourhood; choose one of the two.")
    return _scattered(sizes, traps, rng)


def inject(
    documents: Mapping[str, str], traps: Sequence[Trap], design: TrapDesign, *, seed: int
) -> tuple[dict[str, str], list[Placement]]:
    """Plant every member ``n_rep`` times; decoys are never written.

    Args:
        documents: Id -> text.
        traps: The dealt traps.
        design: Separator and placement.
        seed: Seed of the positions.

    Returns:
        The documents in the same order, and one placement for each copy, by document and offset.

    Raises:
        InputError: There are not enough documents or word positions for the copies.
    """
    members = [trap for trap in traps if trap.arm == "member"]
    names = list(documents)
    slots = {name: word_starts(text) for name, text in documents.items()}
    plan: dict[str, list[tuple[int, str, str, int]]] = {}  # document -> (offset, trap id, text, copy)
    for planned in plan_copies(
        [len(inside) for inside in slots.values()],
        [(trap.candidate.id, trap.n_rep) for trap in members],
        placement=design.placement,
        seed=seed,
        name=names.__getitem__,
    ):
        name, drawn = names[planned.document], members[planned.trap].candidate
        plan.setdefault(name, []).append((slots[name][planned.slot], drawn.id, drawn.text, planned.copy))
    planted: dict[str, str] = {}
    placements: list[Placement] = []
    for name, text in documents.items():
        planted[name], inside = _insert(name, text, sorted(plan.get(name, ())), design.separator)
        placements += inside
    return planted, placements


def remove(text: str, placements: Sequence[Placement]) -> str:
    """The document as it was before `inject`, character for character.

    Args:
        text: A document that copies were planted in.
        placements: All placements of that document.

    Raises:
        InputError: What stands before a copy is not what stood there when it was planted.
    """
    for placement in sorted(placements, key=lambda placement: placement.offset, reverse=True):
        if _sha256(text[: placement.offset]) != placement.before_sha256:
            raise InputError(
                f"document {placement.document_id} was changed before character {placement.offset} after trap "
                f"{placement.trap_id} was planted; take the copies out of the version that was written."
            )
        text = text[: placement.offset] + text[placement.offset + placement.n_characters :]
    return text


def _one_document_each(
    sizes: Sequence[int],
    traps: Sequence[tuple[str, int]],
    rng: np.random.Generator,
    neighbourhood: bool,
    name: Callable[[int], str],
) -> list[PlannedCopy]:
    if len(sizes) < len(traps):
        raise InputError(
            f"{len(traps)} traps were to get a document each, but there are {len(sizes)} documents; "
            'give more documents or use placement = "scattered".'
        )
    plan: list[PlannedCopy] = []
    for trap, document in enumerate(rng.permutation(len(sizes))[: len(traps)].tolist()):
        trap_id, n_rep = traps[trap]
        size = int(sizes[document])
        if size < n_rep:
            raise InputError(
                f"document {name(document)} has {size} word positions, trap {trap_id} needs {n_rep}; "
                "give longer documents or fewer repetitions."
            )
        if neighbourhood:
            first = int(rng.integers(size - n_rep + 1))
            slots = list(range(first, first + n_rep))
        else:
            slots = rng.choice(size, size=n_rep, replace=False).tolist()
        plan += [PlannedCopy(document, slot, trap, copy) for copy, slot in enumerate(slots)]
    return plan


def _scattered(sizes: Sequence[int], traps: Sequence[tuple[str, int]], rng: np.random.Generator) -> list[PlannedCopy]:
    ends = np.cumsum(np.asarray(sizes, dtype=np.int64))  # (documents,): word positions up to and with each document
    n_slots = int(ends[-1]) if len(ends) else 0
    n_copies = sum(n_rep for _, n_rep in traps)
    if n_slots < n_copies:
        raise InputError(
            f"{n_copies} copies were to be planted, but the documents have {n_slots} word positions; "
            "give more text or fewer repetitions."
        )
    drawn = rng.choice(n_slots, size=n_copies, replace=False)
    documents = np.searchsorted(ends, drawn, side="right")
    slots = drawn - ends[documents] + np.asarray(sizes, dtype=np.int64)[documents]
    places = iter(zip(documents.tolist(), slots.tolist(), strict=True))
    return [PlannedCopy(*next(places), trap, copy) for trap, (_, n_rep) in enumerate(traps) for copy in range(n_rep)]


def _insert(
    name: str, text: str, copies: Sequence[tuple[int, str, str, int]], separator: str
) -> tuple[str, list[Placement]]:
    pieces: list[str] = []
    placements: list[Placement] = []
    written = hashlib.sha256()
    offset = done = 0
    for slot, trap_id, trap_text, copy in copies:
        before = text[done:slot]
        inserted = f"{separator}{trap_text}{separator}"
        written.update(before.encode())
        offset += len(before)
        placements.append(Placement(trap_id, name, copy, offset, len(inserted), written.hexdigest()))
        written.update(inserted.encode())
        offset += len(inserted)
        pieces += [before, inserted]
        done = slot
    return "".join([*pieces, text[done:]]), placements


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
