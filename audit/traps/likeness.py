"""Is a candidate too much like one that was accepted? Asked of the whole pool, members and decoys alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from rapidfuzz import process
from rapidfuzz.distance import Indel

from .config import TrapDesign


class Overlap:
    """Jaccard similarity of token-id sets against everything accepted so far, through an inverted index."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._sizes: list[int] = []
        self._holders: dict[Hashable, list[int]] = {}

    def too_similar(self, ids: Sequence[Hashable]) -> bool:
        own = set(ids)
        shared = Counter(holder for token in own for holder in self._holders.get(token, ()))
        return any(count > self._most * (len(own) + self._sizes[holder] - count) for holder, count in shared.items())

    def add(self, ids: Sequence[Hashable]) -> None:
        for token in set(ids):
            self._holders.setdefault(token, []).append(len(self._sizes))
        self._sizes.append(len(set(ids)))


class Likeness:
    """Both bounds of a design: Jaccard of the sets of parts (token ids, words), and similarity of the letters.

    The letters are compared by rapidfuzz's Indel similarity; equal ones are always too much alike.
    """

    def __init__(self, design: TrapDesign) -> None:
        self._overlap = Overlap(design.max_jaccard)
        self._most = design.max_similarity
        self._letters: dict[str, None] = {}

    def accept(self, text: str, parts: Sequence[Hashable]) -> bool:
        """Whether a text may join, which it then does.

        Args:
            text: As it would be planted.
            parts: Its token ids, or words.
        """
        letters = " ".join(text.lower().split())
        if self._overlap.too_similar(parts) or self._near(letters):
            return False
        self._overlap.add(parts)
        self._letters[letters] = None
        return True

    def _near(self, letters: str) -> bool:
        if letters in self._letters:
            return True
        if self._most >= 1:
            return False
        nearest = process.extractOne(
            letters, self._letters.keys(), scorer=Indel.normalized_similarity, score_cutoff=self._most
        )
        # The cutoff lets through what lies on the bound, which is allowed.
        return nearest is not None and nearest[1] > self._most
