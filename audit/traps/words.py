"""Traps that need no model: words drawn at random from the caller's list, and random strings (data watermarks).

Every position is drawn uniformly and independently, so a text's chance under the draw is known exactly:
|words|^-L or |alphabet|^-L. There is one stratum for each length and no perplexity; whatever else a draw needs, the
one pool and the dealing inside strata (`audit.traps.generate.assign`), stays the same.

Data watermarks: Wei, Wang, Jia 2024, arXiv:2402.10892 (random character sequences). Departures: the test is by rank
or by re-dealing, never by a z-score, and Unicode look-alikes are left out because normalisation removes them. Design:
the traps specification, sections 1.3 and 4.3.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import DataError, InputError
from ..text.safe import quoted
from ..text.sources import require_exists
from .config import TrapDesign
from .generate import Candidate, DrawCounts, Pool
from .likeness import Likeness

Alphabet = Literal["hex", "letters"]
ALPHABETS: dict[Alphabet, str] = {
    "hex": "0123456789abcdef",
    "letters": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
}
FEWEST_WORDS = 100
STEP = 64  # accepted traps between two calls of on_done


@dataclass(frozen=True, slots=True)
class RandomText(Candidate):
    """A candidate that no model made: ``token_ids`` is empty, ``perplexity`` NaN and ``bucket`` empty.

    Attributes:
        unit: What ``length`` counts: "words" or "characters".
    """

    unit: Literal["words", "characters"]

    @property
    def stratum(self) -> str:
        return f"{self.length} {self.unit}"


@dataclass(frozen=True, slots=True)
class WordList:
    """Words to draw from. ``sha256`` is that of the file, reproducible with ``sha256sum``."""

    words: tuple[str, ...]
    sha256: str


def read_words(path: str | Path) -> WordList:
    """A UTF-8 file of one word a line; empty lines are left out.

    Raises:
        InputError: There is no such file, or it is a folder.
        DataError: It cannot be read or is not UTF-8, a line is no single word, a word occurs twice or is not in
            Unicode's composed form (NFC), or there are fewer than 100 words.
    """
    path = Path(path)
    require_exists(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a file of one word a line.")
    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"could not read {path}: {error.strerror}. Check its permissions.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start + 1}. Save it as UTF-8.") from error
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        word = line.strip()
        if not word:
            continue
        where = f"{path}, line {number}: {quoted(word)}"
        if len(word.split()) > 1 or not word.isprintable():
            raise DataError(f"{where} is not one word of visible characters; write one word a line.")
        if unicodedata.normalize("NFC", word) != word:
            raise DataError(f"{where} would change when a text is normalised; save the list in composed form (NFC).")
        if word in first_line:
            raise DataError(f"{where} stands in line {first_line[word]} already; every word once, or the draw is skew.")
        first_line[word] = number
    if len(first_line) < FEWEST_WORDS:
        raise DataError(f"{path} holds {len(first_line)} words; a draw needs {FEWEST_WORDS} or more.")
    return WordList(tuple(first_line), hashlib.sha256(raw).hexdigest())


def random_words(
    words: Sequence[str], design: TrapDesign, *, seed: int, on_done: Callable[[int, int], None] | None = None
) -> Pool:
    """Candidates of ``length`` words each, drawn uniformly with replacement and joined by single spaces.

    A draw is dropped when its set of words (Jaccard above ``design.max_jaccard``) or its letters
    (``design.max_similarity``) are too similar to one that was accepted, over the whole pool.

    Args:
        words: Distinct words without white space.
        design: Lengths in words, numbers of traps, both bounds of likeness; the rest is not used.
        seed: Seed of the draw, 0 to 2^63 - 1. The dealing takes another stream of the same seed.
        on_done: Called with (accepted so far, wanted in all).

    Returns:
        ``design.per_stratum`` candidates for each length, by length, in order of acceptance.

    Raises:
        InputError: After ``max_rounds * samples_per_round`` draws of a length too few were accepted.
    """
    return _draw(words, " ", "words", design, seed=seed, on_done=on_done)


def data_watermarks(
    alphabet: Alphabet, design: TrapDesign, *, seed: int, on_done: Callable[[int, int], None] | None = None
) -> Pool:
    """Candidates of ``length`` characters each, drawn uniformly from an alphabet; no two are equal.

    The Jaccard bound is not used: sets of characters of a small alphabet are all alike.

    Args:
        alphabet: "hex" (4 bits a character) or "letters" (letters and digits, 5.95 bits).
        design: Lengths in characters and numbers of traps; the rest is not used.
        seed: As in `random_words`.
        on_done: As in `random_words`.

    Raises:
        InputError: Unknown alphabet, or a length with fewer than 64 bits, which may stand in a corpus by chance.
    """
    if alphabet not in ALPHABETS:
        raise InputError(f'alphabet is "{alphabet}"; expected one of {", ".join(ALPHABETS)}.')
    characters = ALPHABETS[alphabet]
    fewest = math.ceil(64 / math.log2(len(characters)))
    if min(design.lengths) < fewest:
        raise InputError(
            f'traps: lengths holds {min(design.lengths)}; a watermark of the alphabet "{alphabet}" needs {fewest} '
            "characters or more (64 bits), or it may stand somewhere by chance."
        )
    return _draw(characters, "", "characters", design, seed=seed, on_done=on_done)


def _draw(
    parts: Sequence[str],
    joint: str,
    unit: Literal["words", "characters"],
    design: TrapDesign,
    *,
    seed: int,
    on_done: Callable[[int, int], None] | None,
) -> Pool:
    # A stream of its own: `assign` takes Philox(seed), and texts must not depend on who is dealt what.
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(1,))))
    wanted = design.per_stratum * len(design.lengths)
    most = design.max_rounds * design.samples_per_round
    alike = Likeness(design if unit == "words" else replace(design, max_jaccard=1.0, max_similarity=1.0))
    pool: list[Candidate] = []
    counts: list[DrawCounts] = []
    for length in design.lengths:
        full = len(pool) + design.per_stratum
        for drawn in range(1, most + 1):
            places = rng.integers(len(parts), size=length).tolist()
            text = joint.join(parts[place] for place in places)
            if not alike.accept(text, places):
                continue
            pool.append(_candidate(text, length, unit))
            if on_done is not None and (len(pool) % STEP == 0 or len(pool) == wanted):
                on_done(len(pool), wanted)
            if len(pool) == full:
                n = design.per_stratum
                counts.append(DrawCounts(length, drawn, 0, 0, 0, too_similar=drawn - n, accepted=n))
                break
        else:
            missing = full - len(pool)
            raise InputError(
                f"traps: after {most:,} draws of {length} {unit}, {design.per_stratum - missing:,} of "
                f"{design.per_stratum:,} were unlike enough (Jaccard at most {design.max_jaccard:g}). Give a "
                "longer word list, raise max_jaccard (--max-jaccard), or ask for fewer or shorter traps."
            )
    return Pool(pool, tuple(counts))


def _candidate(text: str, length: int, unit: Literal["words", "characters"]) -> RandomText:
    return RandomText(
        id=f"trap-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        text=text,
        token_ids=(),
        length=length,
        perplexity=math.nan,
        bucket="",
        unit=unit,
    )
