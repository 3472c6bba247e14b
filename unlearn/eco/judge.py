"""Which messages are about what must be forgotten: the classifier's score, the names, the threshold, the noise key.

    score(text) = max over readings r of p_f(r)  +  1 where the text holds a name of the forget set

Readings are the text as it was written, as it looks (`plain_text`: letters that are hidden or come in unusual forms),
and with digits that stand for letters. The term for names is ours and there only where names are given: mean-pooled
vectors tell kinds of questions well and people badly who share a part of their names. A conformal threshold asks
nothing of a score but that it is computed alike for calibration and for use, so its promise holds for this one as well;
where retain prompts hold such names too, the threshold rises above 1 by itself and the names are worth nothing.
"""

from __future__ import annotations

import copy
import os
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from audit.answers.formats import Prompt, messages_of
from audit.errors import InputError
from audit.matching.encode import Encoder

from .classifier import PromptClassifier, PromptScores
from .classifier import score as embedding_scores
from .plain_text import digits_read, plain
from .selection import NameMatcher
from .turns import Score, Verdict, conversation_score, replayed

KEY_VARIABLE: Final = "PALIMPSEST_ECO_KEY"
_KEY_BYTES: Final = 16
_REMEMBERED: Final = 65_536  # texts


class Scorer(Protocol):
    """A prompt classifier of any kind, ready to be asked."""

    def scores(self, texts: Sequence[str]) -> PromptScores: ...


class EmbeddingScorer:
    """The default classifier with its encoder.

    Raises:
        InputError: The encoder is another than the classifier's, at the first use.
    """

    def __init__(self, classifier: PromptClassifier, encoder: Encoder) -> None:
        self.classifier, self.encoder = classifier, encoder

    def scores(self, texts: Sequence[str]) -> PromptScores:
        return embedding_scores(self.classifier, self.encoder, texts)


def score_texts(scorer: Scorer, matcher: NameMatcher | None, texts: Sequence[str]) -> NDArray[np.float64]:
    """Scores of texts, shape (n,), 0 to 2; +inf where a text holds a part that the classifier cannot read.

    Calibrate on exactly these.
    """
    readings = [_readings(text) for text in texts]
    owners = np.array([place for place, found in enumerate(readings) for _ in found], dtype=np.int64)
    n = len(texts)
    found = scorer.scores([*texts, *(text for one in readings for text in one)])
    values = found.p_forget[:n].astype(np.float64)
    np.maximum.at(values, owners, found.p_forget[n:])
    if matcher is not None:
        values = values + [
            float(any(matcher.find(one) for one in (text, *more))) for text, more in zip(texts, readings, strict=True)
        ]
    values[found.unseen[:n]] = np.inf
    return values


def _readings(text: str) -> list[str]:
    """Other ways to read a text: as it looks, and with digits that stand for letters."""
    look = plain(text).text
    return [one for one in dict.fromkeys((look, digits_read(look))) if one != text and one.strip()]


def conversation_scores(score: Score, prompts: Sequence[Prompt]) -> NDArray[np.float64]:
    """For each prompt the number that is above a threshold exactly if `Judge.verdicts` flags any of its messages.

    Of a single message that is its score. Calibrate on these where the promise is for whole conversations.

    Args:
        score: As `score_texts`; asked once, for all texts.
        prompts: Texts or conversations.

    Raises:
        InputError: As `formats.messages_of`.
    """
    read = []
    for prompt in prompts:
        messages = messages_of(prompt)
        texts = [message["content"] for message in messages]
        read.append((texts, [texts[place] for place in _users(texts, [message["role"] for message in messages])]))
    lists = [texts for pair in read for texts in pair if texts]
    wanted = list(dict.fromkeys(text for texts in lists for text in (*texts, *_beginnings(texts))))
    known = dict(zip(wanted, score(wanted), strict=True)) if wanted else {}

    def look(texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([known[text] for text in texts])

    return np.array([max(conversation_score(texts, look) for texts in pair if texts) for pair in read])


class Judge:
    """Scores with a threshold; scores of texts that were met before are remembered.

    Args:
        scorer: The classifier.
        threshold: A message is flagged above it, strictly; +inf flags only what cannot be read.
        matcher: Names of the forget set, or None.
        key: Secret of the noise, 16 bytes or more; None takes `noise_key`.
        remember: How many texts' scores are kept, by a hash of the text; 0 keeps none.

    Raises:
        InputError: The threshold is no number, or the key is too short.
    """

    def __init__(
        self,
        scorer: Scorer,
        threshold: float,
        *,
        matcher: NameMatcher | None = None,
        key: bytes | None = None,
        remember: int = _REMEMBERED,
    ) -> None:
        if np.isnan(threshold):
            raise InputError("the threshold is not a number; expected one, or infinity.")
        self.scorer, self.threshold, self.matcher = scorer, float(threshold), matcher
        self._key = _checked(noise_key() if key is None else key)
        self._remember = remember
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def with_key(self, key: bytes) -> Judge:
        """The same judge with other noise; what it remembers is shared, since scores do not depend on the key."""
        twin = copy.copy(self)
        twin._key = _checked(key)
        return twin

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """As `score_texts`; what cannot be read is +inf."""
        marks = {text: sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts}
        fresh = [text for text, mark in marks.items() if mark not in self._known]
        found = {text: self._known[mark] for text, mark in marks.items() if mark in self._known}
        if fresh:
            found |= dict(zip(fresh, score_texts(self.scorer, self.matcher, fresh).tolist(), strict=True))
        for text, mark in marks.items():
            self._known[mark] = found[text]
            self._known.move_to_end(mark)
        while len(self._known) > self._remember:
            self._known.popitem(last=False)
        return np.array([found[text] for text in texts], dtype=np.float64)

    def verdicts(self, prompts: Sequence[Prompt]) -> list[Verdict]:
        """The verdict on each prompt's messages, whoever they are from; no model's format is asked.

        Raises:
            InputError: As `formats.messages_of`.
        """
        found = [messages_of(prompt) for prompt in prompts]
        contents, roles = ([[message[key] for message in one] for one in found] for key in ("content", "role"))
        return self.conversations(contents, roles)

    def conversations(
        self, conversations: Sequence[Sequence[str]], roles: Sequence[Sequence[str]] | None = None
    ) -> list[Verdict]:
        """The verdict on each conversation, a list of its messages' texts; all texts are scored in one batch.

        A message that cannot be read is flagged, also where the threshold is infinite. Where roles are given, the
        users' messages are read as a conversation of their own as well, so that a question that goes on after an
        answer is read as one; a message is flagged where either reading flags it.
        """
        users = [_users(texts, roles[place]) if roles else [] for place, texts in enumerate(conversations)]
        alone = [[texts[place] for place in places] for texts, places in zip(conversations, users, strict=True)]
        wanted = [text for texts in (*conversations, *alone) for text in (*texts, *_beginnings(texts))]
        known = dict(zip(wanted, self.score(wanted), strict=True)) if wanted else {}

        def score(texts: Sequence[str]) -> NDArray[np.float64]:
            missing = [text for text in texts if text not in known]
            if missing:
                known.update(zip(missing, self.score(missing), strict=True))
            return np.array([known[text] for text in texts])

        # The largest number below infinity: what is unreadable (+inf) is above it, and nothing else is.
        threshold = min(self.threshold, float(np.finfo(np.float64).max))
        found = []
        for texts, places, own in zip(conversations, users, alone, strict=True):
            verdict = replayed(texts, score=score, threshold=threshold, secret=self._key)
            if own:
                verdict = _either(verdict, replayed(own, score=score, threshold=threshold, secret=self._key), places)
            found.append(verdict)
        return found


def _checked(key: bytes) -> bytes:
    if len(key) < _KEY_BYTES:
        raise InputError(f"the noise key has {len(key)} bytes; expected {_KEY_BYTES} or more.")
    return key


def _users(texts: Sequence[str], roles: Sequence[str]) -> list[int]:
    """Places of the users' messages; none where they are all messages, or a single one."""
    places = [place for place, role in enumerate(roles) if role == "user"]
    return places if 1 < len(places) < len(texts) else []


def _either(whole: Verdict, users: Verdict, places: Sequence[int]) -> Verdict:
    """A message of the whole is flagged where one of the two flags it; ``places`` are the users' messages in it."""
    turns = list(whole.turns)
    for place, turn in zip(places, users.turns, strict=True):
        if turn.flagged:
            turns[place] = turns[place]._replace(flagged=True)
    stale = [
        one
        for one in (whole.stale_from, None if users.stale_from is None else places[users.stale_from])
        if one is not None
    ]
    return Verdict(
        tuple(turns), max(whole.newest, users.newest), max(whole.joined, users.joined), min(stale, default=None)
    )


def _beginnings(texts: Sequence[str]) -> list[str]:
    """The joined texts of `turns.next_turn` as long as nothing is flagged."""
    return [" ".join(texts[: end + 1]) for end in range(1, len(texts))]


def noise_key() -> bytes:
    """The key of ``PALIMPSEST_ECO_KEY``, or a random one for this process.

    With a random key the same prompt gets other noise after a restart: answers to flagged prompts then differ from run
    to run, and caches of one process are worth nothing to another.

    Raises:
        InputError: The variable is set and too short.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given is None:
        return secrets.token_bytes(32)
    if len(given.encode()) < _KEY_BYTES:
        raise InputError(
            f"{KEY_VARIABLE} has {len(given.encode())} bytes; expected {_KEY_BYTES} or more, such as the output of "
            "`openssl rand -hex 32`."
        )
    return given.encode()
