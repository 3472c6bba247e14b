r"""The four ways to make a near copy of a trap, on token ids: replace, insert, shuffle, scatter.

Source: released code of Shilov, Meeus, de Montjoye, *Mosaic Memory* (arXiv:2405.15523). Its builder applies
replacements of several tokens at unsorted places and shifts them by a running sum, which puts them in the wrong
place; here each token of the original keeps a slot of its own, so there is nothing to shift. It writes whatever the
ids decode to; here every edit must survive decoding and encoding, because a model under audit sees the text, not the
ids.

L tokens of the original, R replacements, n the length of the n-grams, X inserted tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from ...errors import InputError

Candidates = Sequence[Sequence[tuple[int, ...]]]  # for each place of the original, what may stand there instead
Survives = Callable[[Sequence[int]], bool]
AT_ONE_PLACE = 64  # candidates tried at one place before it is given up


class Shuffle(NamedTuple):
    """An order of n-grams, or None where none was met; the nearest distance that was, in hundredths."""

    order: tuple[int, ...] | None
    nearest: int


class Edit(NamedTuple):
    """A near copy's token ids, and the places of the original that made it what it is (see `audit.traps.fuzzy`)."""

    ids: list[int]
    places: tuple[int, ...]


def replace_anywhere(
    ids: Sequence[int], candidates: Candidates, n: int, *, survives: Survives, rng: np.random.Generator
) -> Edit | None:
    """``n`` places at random, each with one of its candidates; None where too few places take one.

    Places are drawn without replacement until ``n`` of them have taken a candidate. At a place the candidates are tried
    in random order until one survives beside what was replaced before, so that each that survives is as likely.
    """
    slots: list[tuple[int, ...]] = [(token,) for token in ids]
    taken: list[int] = []
    for place in rng.permutation(len(ids)).tolist():
        if _take(slots, place, candidates[place], survives, rng):
            taken.append(place)
            if len(taken) == n:
                return Edit(list(chain.from_iterable(slots)), tuple(sorted(taken)))
    return None


def replace_at(
    ids: Sequence[int],
    candidates: Candidates,
    places: Sequence[int],
    *,
    survives: Survives,
    rng: np.random.Generator,
) -> Edit | None:
    """A candidate at each of ``places``, in their order; None where a place takes none."""
    slots: list[tuple[int, ...]] = [(token,) for token in ids]
    if not all(_take(slots, place, candidates[place], survives, rng) for place in places):
        return None
    return Edit(list(chain.from_iterable(slots)), tuple(places))


def _take(
    slots: list[tuple[int, ...]],
    place: int,
    candidates: Sequence[tuple[int, ...]],
    survives: Survives,
    rng: np.random.Generator,
) -> bool:
    original = slots[place]
    for chosen in rng.choice(len(candidates), min(len(candidates), AT_ONE_PLACE), replace=False) if candidates else ():
        slots[place] = candidates[chosen]
        if slots[place] != original and survives(list(chain.from_iterable(slots))):
            return True
    slots[place] = original
    return False


def segment_places(length: int, n: int, rng: np.random.Generator) -> list[int]:
    """One random place in each of ``n`` equal segments, as published; the gap between two can be nearly 2 L / n."""
    return [int(rng.choice(segment)) for segment in np.array_split(np.arange(length), n)]


def even_gap(length: int, n: int) -> int:
    """Longest run of untouched tokens that ``n`` evenly spaced replacements leave: ceil((L - R) / (R + 1)).

    So no (gap + 1)-gram of the original is left whole, and R >= floor(L / n) replacements leave no n-gram.
    """
    return -(-(length - n) // (n + 1))


def even_places(length: int, n: int, rng: np.random.Generator) -> list[int]:
    """``n`` places with runs of at most `even_gap` untouched tokens between them; slack falls at random."""
    gap = even_gap(length, n)
    slack = (n + 1) * gap - (length - n)
    shorter = rng.choice((n + 1) * gap, slack, replace=False) // max(gap, 1)  # which gap loses a token
    gaps = gap - np.bincount(shorter.astype(np.int64), minlength=n + 1)
    return [int(place) for place in np.cumsum(gaps[:-1] + 1) - 1]


def insert_between(
    ids: Sequence[int],
    vocabulary: Sequence[int],
    *,
    ngram: int,
    insertions: int,
    max_tries: int,
    survives_inside: Survives,
    rng: np.random.Generator,
) -> Edit | None:
    """``insertions`` random tokens of the vocabulary between consecutive n-grams; the last n-gram may be shorter.

    The tokens of one gap are drawn together until they survive beside all that stands before and the n-gram after.
    None where ``max_tries`` draws of a gap do not.
    """
    made = list(ids[:ngram])
    for start in range(ngram, len(ids), ngram):
        for _ in range(max_tries):
            drawn = [vocabulary[place] for place in rng.integers(len(vocabulary), size=insertions)]
            longer = [*made, *drawn, *ids[start : start + ngram]]
            if survives_inside(longer):
                made = longer
                break
        else:
            return None
    return Edit(made, tuple(range(ngram, len(ids), ngram)))


def shuffle_blocks(length: int, *, ngram: int, tau: float, max_tries: int, rng: np.random.Generator) -> Shuffle:
    """An order of the n-grams at a normalised Kendall tau distance of ``tau``.

    distance = (pairs of tokens in the opposite order) / C(L, 2), floored to 0.01 as published. From the original order
    (from the reverse, where ``tau`` is above 0.5) two n-grams are swapped at random until the distance is met; a walk
    that passes it starts anew, at most ``max_tries`` times.
    """
    sizes = block_sizes(length, ngram)
    n_blocks = len(sizes)
    target = round(100 * tau)
    nearest = 0
    for _ in range(max_tries if n_blocks > 1 else 0):
        order = list(range(n_blocks)) if target <= 50 else list(range(n_blocks))[::-1]
        for _ in range(n_blocks * n_blocks):
            first, second = rng.choice(n_blocks, 2, replace=False)
            order[first], order[second] = order[second], order[first]
            distance = tau_hundredths(order, sizes)
            if distance == target:
                return Shuffle(tuple(order), target)
            nearest = min(nearest, distance, key=lambda met: abs(met - target))
            if (distance > target) if target <= 50 else (distance < target):
                break
    return Shuffle(None, nearest)


def block_sizes(length: int, ngram: int) -> list[int]:
    """Tokens of each n-gram; the last may be shorter."""
    return [min(ngram, length - start) for start in range(0, length, ngram)]


def tau_hundredths(order: Sequence[int], sizes: Sequence[int]) -> int:
    """Kendall tau distance of the tokens in hundredths, rounded down."""
    discordant = sum(
        sizes[one] * sizes[other] for at, one in enumerate(order) for other in order[at + 1 :] if other < one
    )
    return 100 * discordant // math.comb(sum(sizes), 2)


def refuse_unreachable_tau(length: int, ngram: int, tau: float) -> None:
    """Refuses a distance above that of the reversed order.

    Raises:
        InputError: It, the largest distance and the remedy are named.
    """
    sizes = block_sizes(length, ngram)
    most = tau_hundredths(list(range(len(sizes)))[::-1], sizes) if length > 1 else 0
    if round(100 * tau) > most:
        raise InputError(
            f"tau is {tau:g}, but {len(sizes)} {ngram}-grams of {length} tokens are at most {most / 100:g} apart. "
            "Lower tau, or shorten the n-grams."
        )
