"""Scan one unit of a corpus: every copy of every trap, with its place."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ...errors import AuditError, InputError
from ...runs.schema import Record
from .exact import ExactFinder, LooseFinder
from .near import NearFinder
from .pieces import Piece, Reading, pieces
from .shards import Part, Unit
from .tokens import check_distance, usable_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["exact", "loose", "near"]
KINDS: Final[tuple[Kind, ...]] = ("exact", "loose", "near")
_BATCH: Final = 2**20  # characters that are searched at once
_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")  # JSON can spell one, and no tokenizer takes it
_MARGIN: Final = 16  # longest tokens beside a copy at a cut, so that it is cut into tokens as in the whole text


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """What a scan looks for and how; it decides every hit.

    Attributes:
        trap_ids: Ids, for messages.
        trap_texts: What is looked for, in the same order.
        field: Field or column that holds a text of the corpus.
        id_field: Field that names it, or None for "id" where there is one.
        loose: Let white space and the Unicode normal form differ.
        max_distance: Also find near copies, of at most that many token edits; None: none.
        tokenizer: JSON of the tokenizer that counts them (tokenizer.json); None without ``max_distance``.
        skip_bad: Leave out what cannot be read, and count it.
    """

    trap_ids: tuple[str, ...]
    trap_texts: tuple[str, ...]
    field: str = "text"
    id_field: str | None = None
    loose: bool = False
    max_distance: int | None = None
    tokenizer: str | None = None
    skip_bad: bool = False


class Hit(Record):
    """A copy of a trap.

    Attributes:
        part: Place of the file or range in the unit.
        line: Line, row or item of the record in it, from 1.
        identifier: What the record calls itself.
        trap: Place of the trap in the ledger.
        kind: "exact"; "loose": white space or the Unicode normal form differ; "near": at most so many token edits.
        distance: Token edits of a near copy, else 0.
        start: First character in the text; of HTML, in the source with its character references resolved.
        end: One past the last.
        token_start: First token of a near copy in the text, where the text was not cut.
        token_end: One past the last.
    """

    part: int
    line: int
    identifier: str | None
    trap: int
    kind: Kind
    distance: int
    start: int
    end: int
    token_start: int | None = None
    token_end: int | None = None


class BadRecord(Record):
    """A record that could not be read, as `audit.text.rows.BadLine`."""

    line: int
    place: str
    reason: str


class PartRecord(Record):
    """What a part held, as `Reading`; ``problem`` says why it could not be read to its end, and then no hit counts."""

    shard: str
    n_bytes: int
    n_texts: int
    n_without: int
    n_bad: int
    n_lines: int
    bad: tuple[BadRecord, ...]
    problem: str | None


class UnitRecord(Record):
    """A scanned unit: its parts in order, and the hits by part, line, place and trap."""

    parts: tuple[PartRecord, ...]
    hits: tuple[Hit, ...]


class Scanner:
    """Finds what a plan looks for.

    Args:
        plan: See there.

    Raises:
        InputError: A trap is too short for the distance, or white space alone with ``loose``.
        ModelError: The tokenizer cannot be used.
    """

    def __init__(self, plan: ScanPlan) -> None:
        self._plan = plan
        self._exact = LooseFinder(plan.trap_texts) if plan.loose else ExactFinder(plan.trap_texts)
        self._overlap = self._exact.longest
        self._near: NearFinder | None = None
        if plan.max_distance is not None:
            self._tokenizer = usable_tokenizer(plan.tokenizer or "")
            encoded = self._tokenizer.encode_batch_fast(list(plan.trap_texts), add_special_tokens=False)
            ids = [one.ids for one in encoded]
            check_distance(plan.trap_ids, ids, plan.max_distance)
            self._near = NearFinder(ids, plan.max_distance)
            longest_token = max(map(len, self._tokenizer.get_vocab()), default=1)
            longest_trap = max(map(len, plan.trap_texts))
            self._overlap = max(self._overlap, longest_trap + (plan.max_distance + 2 * _MARGIN) * longest_token)

    def scan(self, unit: Unit) -> UnitRecord:
        """Reads a unit to its end.

        A damaged file does not stop the others; of such a file no hit counts.

        Raises:
            InputError: A file has no such field or may not be read; with ``skip_bad`` that is its problem instead.
        """
        hits: list[Hit] = []
        records: list[PartRecord] = []
        batch: list[tuple[int, Piece]] = []
        n_characters = 0
        for number, part in enumerate(unit):
            reading, problem = Reading(), None
            stream = pieces(part, reading, field=self._plan.field, id_field=self._plan.id_field, overlap=self._overlap)
            try:
                for piece in stream:
                    batch.append((number, piece))
                    n_characters += len(piece.text)
                    if n_characters >= _BATCH:
                        hits += self._search(batch)
                        batch, n_characters = [], 0
            except InputError as error:
                if not self._plan.skip_bad:
                    raise
                problem = str(error)
            except AuditError as error:
                problem = str(error)
            records.append(_record(part, reading, problem))
        hits += self._search(batch)
        sound = [hit for hit in hits if records[hit.part].problem is None]
        return UnitRecord(parts=tuple(records), hits=tuple(disjoint(sound)))

    def _search(self, batch: Sequence[tuple[int, Piece]]) -> list[Hit]:
        if not batch:
            return []
        texts = [piece.text for _, piece in batch]
        hits = []
        for found in self._exact.find(texts):
            number, piece = batch[found.text]
            kind: Kind = "exact" if found.exact else "loose"
            hits.append(_hit(number, piece, found.trap, kind, 0, found.start, found.end))
        if self._near is not None:
            hits += self._search_near(self._near, batch, texts)
        return hits

    def _search_near(self, near: NearFinder, batch: Sequence[tuple[int, Piece]], texts: list[str]) -> list[Hit]:
        import numpy as np

        texts = [_HALF_PAIR.sub("\ufffd", text) if _HALF_PAIR.search(text) else text for text in texts]
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids: list[NDArray[np.int32]] = [np.array(one.ids, dtype=np.int32) for one in encoded]
        spans: dict[int, list[tuple[int, int]]] = {}
        hits = []
        for run in near.find(ids):
            if run.text not in spans:
                spans[run.text] = self._tokenizer.encode(texts[run.text], add_special_tokens=False).offsets
            inside = spans[run.text][run.start : run.end]
            start, end = min(a for a, _ in inside), max(b for _, b in inside)
            number, piece = batch[run.text]
            tokens = (run.start, run.end) if piece.whole else (None, None)
            hits.append(_hit(number, piece, run.trap, "near", run.distance, start, end, *tokens))
        return hits


def _hit(
    part: int,
    piece: Piece,
    trap: int,
    kind: Kind,
    distance: int,
    start: int,
    end: int,
    token_start: int | None = None,
    token_end: int | None = None,
) -> Hit:
    return Hit(
        part=part,
        line=piece.line,
        identifier=piece.identifier,
        trap=trap,
        kind=kind,
        distance=distance,
        start=piece.start + start,
        end=piece.start + end,
        token_start=token_start,
        token_end=token_end,
    )


def _record(part: Part, reading: Reading, problem: str | None) -> PartRecord:
    return PartRecord(
        shard=part.shard,
        n_bytes=part.end - part.begin,
        n_texts=reading.n_texts,
        n_without=reading.n_without,
        n_bad=reading.n_bad,
        n_lines=reading.n_lines,
        bad=tuple(BadRecord(line=row.line, place=row.place, reason=row.reason) for row in reading.bad),
        problem=problem,
    )


def disjoint(hits: Sequence[Hit]) -> list[Hit]:
    """Copies of one trap in one text that share no character: the best first, of equally good ones the first.

    Best is exact, then loose, then the smallest distance. So a copy that was found by its letters and by its tokens, or
    on both sides of a cut, counts once.
    """
    rank = {kind: place for place, kind in enumerate(KINDS)}
    ordered = sorted(
        hits, key=lambda hit: (hit.part, hit.line, hit.trap, rank[hit.kind], hit.distance, hit.start, hit.end)
    )
    taken: dict[tuple[int, int, int], _Spans] = {}
    kept = [
        hit for hit in ordered if taken.setdefault((hit.part, hit.line, hit.trap), _Spans()).take(hit.start, hit.end)
    ]
    return sorted(kept, key=lambda hit: (hit.part, hit.line, hit.start, hit.end, hit.trap))


class _Spans:
    """Spans that share nothing, in order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def take(self, start: int, end: int) -> bool:
        """Adds a span unless it shares something with one that is there."""
        place = bisect_right(self._ends, start)
        if place < bisect_left(self._starts, end):
            return False
        self._starts.insert(place, start)
        self._ends.insert(place, end)
        return True
