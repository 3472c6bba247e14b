r"""Fuzzy traps: near copies of a planted trap, which deduplication finds less easily than exact ones.

Shilov, Meeus, de Montjoye, *Mosaic Memory* (arXiv:2405.15523), with its released code: a trap is planted once as it is
and ``n_dup - 1`` times as a variant. What the variants were worth beside exact copies is
`audit.traps.fuzzy.equivalent`; which of them deduplication leaves is `audit.traps.survival`.

    replace   R token places; each gets a token drawn uniformly from what a model proposes there, the original left out
    insert    X random tokens of the vocabulary between consecutive n-grams
    shuffle   n-grams permuted to a Kendall tau distance (discordant pairs / C(L, 2), floored to 0.01); the space before
              the n-gram that comes first is dropped
    scatter   the n-grams alone, each to be planted at a place of its own

Variant v of a trap draws from a stream keyed by (seed, trap id, v), so it depends neither on other traps nor on the
order of the work. Only members get variants: a decoy that is planted in any form is no control.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from ...errors import InputError
from ...text.safe import quoted
from . import edits
from .design import FuzzyDesign, Kind
from .edits import Candidates, Edit

Proposer = Callable[[Sequence[int]], Candidates]
"""Takes a trap's token ids, (L,), and gives for each place what may stand there instead: tuples of one or more ids."""


class Codec(NamedTuple):
    """A tokenizer as two functions, without special tokens."""

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Variant:
    """One text to plant, and how it differs from its trap.

    Attributes:
        trap_id: Which trap.
        number: 1 to n_dup - 1.
        piece: Of "scatter": number of the n-gram in the order of the original, from 0; else None.
        kind: How it was made.
        text: What is planted; encoding it gives ``token_ids``.
        token_ids: Ids of the tokenizer that the variants were made with.
        places: Of "replace" the places of the original that were replaced; of "insert" those before which tokens were
            inserted; of "shuffle" the numbers of the n-grams in their new order; of "scatter" the first token of the
            piece.
        seed: Seed of the streams.
        distance: Levenshtein distance to the original in token ids.
        shared_with_original: Longest n-gram of token ids that it shares with the original.
        shared_among_variants: Longest that it shares with another variant of the trap; None for "scatter", whose
            variants hold the same pieces, and where there is no other.
    """

    trap_id: str
    number: int
    piece: int | None
    kind: Kind
    text: str
    token_ids: tuple[int, ...]
    places: tuple[int, ...]
    seed: int
    distance: int
    shared_with_original: int
    shared_among_variants: int | None


def make_variants(
    trap_id: str,
    token_ids: Sequence[int],
    design: FuzzyDesign,
    *,
    codec: Codec,
    seed: int,
    propose: Proposer | None = None,
    vocabulary: Sequence[int] = (),
) -> list[Variant]:
    """The ``n_dup - 1`` variants of one trap; of "scatter", its pieces once for each.

    Every text is one line of visible characters, survives decoding and encoding, and equals neither the original nor
    another variant ("scatter" apart: its variants are the same pieces in random order, planted anew).

    Args:
        trap_id: Id of the trap; it keys the streams.
        token_ids: The original, (L,).
        design: What is made.
        codec: The tokenizer of the ids.
        seed: Seed, >= 0.
        propose: Of "replace": gives the candidates, once for the original; see `audit.traps.fuzzy.proposers`.
        vocabulary: Of "insert": the ids that are drawn from.

    Raises:
        InputError: The original does not survive decoding and encoding, the design does not fit its length, or a
            variant was not met in ``max_tries`` draws; the trap is named.
    """
    ids = list(token_ids)
    name = f"trap {quoted(trap_id)}"
    _refuse_unfit(name, ids, design, codec, propose, vocabulary)
    if design.kind == "scatter":
        return _scattered(trap_id, ids, design, codec, seed)
    draw = _drawer(name, ids, design, codec, _stream(seed, trap_id, 0), propose, vocabulary)
    seen = {tuple(ids)}
    variants = []
    for number in range(1, design.n_dup):
        rng = _stream(seed, trap_id, number)
        for _ in range(design.max_tries):
            edit = draw(rng)
            if edit is not None and tuple(edit.ids) not in seen and _plain(codec, edit.ids):
                break
        else:
            raise InputError(
                f"{name}: variant {number} of {design.n_dup - 1} was not met in {design.max_tries} draws: what was "
                "drawn did not survive decoding and encoding, or was there already. Change fewer tokens, propose more "
                "(top-k), take longer n-grams or ask for fewer variants."
            )
        seen.add(tuple(edit.ids))
        variants.append(_variant(trap_id, number, None, design.kind, edit, ids, codec, seed))
    return _compared(variants)


def survives(codec: Codec, ids: Sequence[int]) -> bool:
    """Whether decoding and encoding give the ids again."""
    return codec.encode(codec.decode(ids)) == list(ids)


def longest_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest n-gram that stands in both."""
    return difflib.SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size


def _refuse_unfit(
    name: str,
    ids: list[int],
    design: FuzzyDesign,
    codec: Codec,
    propose: Proposer | None,
    vocabulary: Sequence[int],
) -> None:
    if not ids or not _plain(codec, ids):
        raise InputError(
            f"{name}: its {len(ids)} token ids are not one line of visible text that survives decoding and encoding. "
            "Give the tokenizer that the trap was drawn with, or another that gives texts back unchanged."
        )
    if design.kind == "replace":
        if propose is None:
            raise InputError('fuzzy traps: kind "replace" needs something that proposes tokens; give a proposer.')
        if design.replacements > len(ids):
            raise InputError(f"{name} has {len(ids)} tokens, fewer than the {design.replacements} to be replaced.")
    elif len(ids) <= design.ngram:
        raise InputError(f"{name} has {len(ids)} tokens, a single {design.ngram}-gram; take shorter n-grams.")
    if design.kind == "insert" and not vocabulary:
        raise InputError('fuzzy traps: kind "insert" needs a vocabulary to draw from.')
    if design.kind == "shuffle":
        edits.refuse_unreachable_tau(len(ids), design.ngram, design.tau)


def _drawer(
    name: str,
    ids: list[int],
    design: FuzzyDesign,
    codec: Codec,
    first: np.random.Generator,
    propose: Proposer | None,
    vocabulary: Sequence[int],
) -> Callable[[np.random.Generator], Edit | None]:
    """What draws one edit from a stream; ``first`` is the trap's own stream, for what its variants share."""

    def whole(made: Sequence[int]) -> bool:
        return survives(codec, made)

    def insert(rng: np.random.Generator) -> Edit | None:
        return edits.insert_between(
            ids,
            vocabulary,
            ngram=design.ngram,
            insertions=design.insertions,
            max_tries=design.max_tries,
            survives_inside=whole,
            rng=rng,
        )

    def shuffle(rng: np.random.Generator) -> Edit | None:
        order, nearest = edits.shuffle_blocks(
            len(ids), ngram=design.ngram, tau=design.tau, max_tries=10 * design.max_tries, rng=rng
        )
        if order is None:
            raise InputError(
                f"{name}: no order of its {design.ngram}-grams at a distance of {design.tau:g} was met in "
                f"{10 * design.max_tries:,} walks, {nearest / 100:g} was. Take another tau, or shorter n-grams, which "
                "reach more."
            )
        made = [token for block in order for token in ids[block * design.ngram : (block + 1) * design.ngram]]
        encoded = codec.encode(codec.decode(made).lstrip(" "))  # a text begins with no space
        return Edit(encoded, order) if encoded[len(encoded) - len(made) + 1 :] == made[1:] else None

    if design.kind == "insert":
        return insert
    if design.kind == "shuffle":
        return shuffle
    assert propose is not None
    candidates = propose(ids)
    n = design.replacements

    def fresh(rng: np.random.Generator) -> Edit | None:
        return edits.replace_anywhere(ids, candidates, n, survives=whole, rng=rng)

    if design.positions == "fresh":
        return fresh
    shared = fresh(first) if design.positions == "same" else None

    def placed(rng: np.random.Generator) -> Edit | None:
        if design.positions == "same":
            places = shared.places if shared is not None else ()
        elif design.positions == "segments":
            places = tuple(edits.segment_places(len(ids), n, rng))
        else:
            places = tuple(edits.even_places(len(ids), n, rng))
        edit = edits.replace_at(ids, candidates, places, survives=whole, rng=rng) if places else None
        too_long = edits.even_gap(len(ids), n) + 1
        if edit is not None and design.positions == "spread" and longest_shared(ids, edit.ids) >= too_long:
            return None  # a replacement of several tokens, or a repeat in the trap, brought an n-gram back
        return edit

    return placed


def _scattered(trap_id: str, ids: list[int], design: FuzzyDesign, codec: Codec, seed: int) -> list[Variant]:
    pieces = []
    for piece, start in enumerate(range(0, len(ids), design.ngram)):
        text = codec.decode(ids[start : start + design.ngram]).strip()
        encoded = codec.encode(text) if text else []
        if not encoded or not _plain(codec, encoded):
            raise InputError(
                f"trap {quoted(trap_id)}: tokens {start} to {start + design.ngram - 1} are no text of their own, so "
                "they cannot be planted alone. Take n-grams of another length."
            )
        pieces.append(_variant(trap_id, 0, piece, "scatter", Edit(encoded, (start,)), ids, codec, seed))
    return [
        replace(pieces[place], number=number)
        for number in range(1, design.n_dup)
        for place in _stream(seed, trap_id, number).permutation(len(pieces))
    ]


def _variant(
    trap_id: str, number: int, piece: int | None, kind: Kind, edit: Edit, ids: list[int], codec: Codec, seed: int
) -> Variant:
    return Variant(
        trap_id=trap_id,
        number=number,
        piece=piece,
        kind=kind,
        text=codec.decode(edit.ids),
        token_ids=tuple(edit.ids),
        places=edit.places,
        seed=seed,
        distance=Levenshtein.distance(ids, edit.ids),
        shared_with_original=longest_shared(ids, edit.ids),
        shared_among_variants=None,
    )


def _compared(variants: list[Variant]) -> list[Variant]:
    """With the longest n-gram that each shares with another."""
    longest = np.zeros((len(variants), len(variants)), dtype=np.int64)
    for one in range(len(variants)):
        for other in range(one):
            size = longest_shared(variants[one].token_ids, variants[other].token_ids)
            longest[one, other] = longest[other, one] = size
    if len(variants) < 2:
        return variants
    return [
        replace(variant, shared_among_variants=int(row.max())) for variant, row in zip(variants, longest, strict=True)
    ]


def _plain(codec: Codec, ids: Sequence[int]) -> bool:
    """One line of visible characters with single spaces, as traps are, that survives decoding and encoding."""
    text = codec.decode(ids)
    is_plain = text.isprintable() and "\ufffd" not in text and " ".join(text.split()) == text
    return is_plain and codec.encode(text) == list(ids)


def _stream(seed: int, trap_id: str, number: int) -> np.random.Generator:
    """The random stream of one variant; number 0 is the trap's own."""
    key = int.from_bytes(hashlib.sha256(trap_id.encode()).digest()[:16], "big")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, key, number])))
