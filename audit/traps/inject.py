"""Plant traps in documents, and take them out again.

Positions are the starts of space-separated words, drawn at random without replacement (arXiv:2402.09363,
released code). Departures: a separator stands on both sides of each copy (the released code writes none
after it, so that a trap fuses with the next word), and copies may also be scattered over many documents.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .config import TrapDesign
from .generate import Trap


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
    rng = np.random.Generator(np.random.Philox(seed))
    slots = {
        name: [match.start() for match in re.finditer(r"(?:(?<=^)|(?<= ))(?=\S)", text)]
        for name, text in documents.items()
    }
    if design.placement == "document":
        plan = _one_document_each(members, slots, rng)
    else:
        plan = _scattered(members, slots, rng)
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


_Plan = dict[str, list[tuple[int, str, str, int]]]  # document -> (slot, trap id, text, copy)


def _one_document_each(members: Sequence[Trap], slots: Mapping[str, list[int]], rng: np.random.Generator) -> _Plan:
    names = list(slots)
    if len(names) < len(members):
        raise InputError(
            f"{len(members)} traps were to get a document each, but there are {len(names)} documents; "
            'give more documents or use placement = "scattered".'
        )
    plan: _Plan = {}
    for trap, place in zip(members, rng.permutation(len(names)), strict=False):
        name = names[place]
        if len(slots[name]) < trap.n_rep:
            raise InputError(
                f"document {name} has {len(slots[name])} word positions, trap {trap.candidate.id} needs {trap.n_rep}; "
                "give longer documents or fewer repetitions."
            )
        chosen = rng.choice(len(slots[name]), size=trap.n_rep, replace=False)
        plan[name] = [
            (slots[name][slot], trap.candidate.id, trap.candidate.text, copy) for copy, slot in enumerate(chosen)
        ]
    return plan


def _scattered(members: Sequence[Trap], slots: Mapping[str, list[int]], rng: np.random.Generator) -> _Plan:
    everywhere = [(name, slot) for name, inside in slots.items() for slot in inside]
    n_copies = sum(trap.n_rep for trap in members)
    if len(everywhere) < n_copies:
        raise InputError(
            f"{n_copies} copies were to be planted, but the documents have {len(everywhere)} word positions; "
            "give more text or fewer repetitions."
        )
    chosen = iter(rng.choice(len(everywhere), size=n_copies, replace=False))
    plan: _Plan = {}
    for trap in members:
        for copy in range(trap.n_rep):
            name, slot = everywhere[next(chosen)]
            plan.setdefault(name, []).append((slot, trap.candidate.id, trap.candidate.text, copy))
    return plan


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
