"""Conversations: which user turns are corrupted, and with which noise.

Source: spec of ECO, section 2.4 (the authors' code reads one prompt). At each turn two texts are scored, each in its
windows (`unlearn.eco.classifier`):

    s_t = max(p_f(u_t), p_f(u_i ... u_t)),    u_i ... u_t: the user turns not flagged so far, joined by spaces,

and where s_t is above the threshold, the shortest run of those turns that ends in u_t and is above it alone is
flagged, or all of them where no run is. A flagged turn stays flagged, and its noise comes from its text and a secret
key: the same in each later turn, on each machine, and for each conversation with the same beginning, so that keys and
values that were kept are those that would be computed again.

Departure: turns that are flagged already are left out of the joined text, or one flagged question would have every
later turn flagged. What they say is hidden from the model in any case.

Only users' turns are read. A caller who lets users write the assistant's or the system's turns has to pass those too.
A word that is split over two turns is not put together again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audit.errors import InputError

from .corruptions import noise_seed

Score: TypeAlias = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts -> P(forget) of each, as `unlearn.eco.classifier.score` gives it; +inf where a text is to be flagged anyhow."""


class Turn(NamedTuple):
    """A user turn.

    Attributes:
        text: The user's own text, without the chat template.
        flagged: Whether it is corrupted.
        seed: Of its noise, 0 to 2^32 - 1, whether or not it is flagged.
    """

    text: str
    flagged: bool
    seed: int


class Verdict(NamedTuple):
    """A conversation after its newest turn.

    Attributes:
        turns: All user turns.
        newest: p_f of the newest turn.
        joined: p_f of the open turns joined, the newest among them.
        stale_from: First turn before the newest that is flagged only now; keys and values that were kept from there
            on do not hold any more and are computed again. None where there is none.
    """

    turns: tuple[Turn, ...]
    newest: float
    joined: float
    stale_from: int | None

    @property
    def flagged(self) -> bool:
        """Whether any turn is corrupted."""
        return any(turn.flagged for turn in self.turns)

    @property
    def score(self) -> float:
        """The newest turn's score, alone or joined, whichever is higher."""
        return max(self.newest, self.joined)


def next_turn(earlier: Sequence[Turn], text: str, *, score: Score, threshold: float, secret: bytes) -> Verdict:
    """The conversation with one more user turn.

    Args:
        earlier: The turns so far, as the verdict before gave them; empty at the beginning.
        text: The newest user turn.
        score: The classifier.
        threshold: A turn is flagged above it, strictly; may be infinite.
        secret: Noise key, 16 bytes or more.

    Raises:
        InputError: As `corruptions.noise_seed`, or as ``score``.
    """
    turns = [*earlier, Turn(text, False, noise_seed(text, key=secret))]
    newest = len(turns) - 1
    still_open = [place for place, turn in enumerate(turns) if not turn.flagged]
    alone, joined = (float(p) for p in score([text, _joined(turns, still_open)]))
    flagged: list[int] = []
    if alone > threshold:
        flagged = [newest]
    elif joined > threshold:
        flagged = _shortest_run(turns, still_open, score, threshold)
    for place in flagged:
        turns[place] = turns[place]._replace(flagged=True)
    stale = flagged[0] if flagged and flagged[0] < newest else None
    return Verdict(tuple(turns), alone, joined, stale)


def replayed(texts: Sequence[str], *, score: Score, threshold: float, secret: bytes) -> Verdict:
    """The verdict on a conversation of which nothing was kept, turn by turn; ``texts`` are its user turns."""
    if not texts:
        raise InputError("there is no user turn; expected one or more.")
    verdict = Verdict((), 0.0, 0.0, None)
    for text in texts:
        verdict = next_turn(verdict.turns, text, score=score, threshold=threshold, secret=secret)
    return verdict


def conversation_score(texts: Sequence[str], score: Score) -> float:
    """max over t of s_t with no turn flagged: some turn of the conversation is flagged exactly if this is above the
    threshold.

    A threshold calibrated on single prompts promises its rate for single prompts. Calibrated on these scores, of
    conversations that may pass, it promises it for conversations.

    Args:
        texts: The user turns, 1 or more.
        score: The classifier.
    """
    if not texts:
        raise InputError("there is no user turn; expected one or more.")
    beginnings = [" ".join(texts[: end + 1]) for end in range(len(texts))]
    return float(np.max(score([*texts, *beginnings])))


def _joined(turns: Sequence[Turn], places: Sequence[int]) -> str:
    return " ".join(turns[place].text for place in places)


def _shortest_run(turns: Sequence[Turn], still_open: list[int], score: Score, threshold: float) -> list[int]:
    """Fewest of the last open turns that are above the threshold joined; all of them where no fewer are."""
    runs = [still_open[start:] for start in range(len(still_open) - 2, 0, -1)]
    if runs:
        above = np.flatnonzero(score([_joined(turns, run) for run in runs]) > threshold)
        if len(above):
            return runs[above[0]]
    return still_open
