"""A sampled continuation as a conversation: its first question and answer, or the reason why there is none.

Role markers are plain text for some tokenizers (OLMo 2's special-token map lists none), so they are found and
stripped as strings. The rules are ours: the paper's own filter is not published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..matching.clusters import normalised
from .presets import Chat

SHORT = 20  # tokens; a shorter row ("Yes.", a greeting) matches some training row trivially
Reason = Literal[
    "no assistant marker",
    "no end of the thinking",
    "cut off by the length limit",
    "empty question",
    "empty answer",
    "marker inside the question",
    "marker inside the answer",
]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A conversation without markers and without white space around its parts.

    Attributes:
        question: The first one.
        answer: Its answer; in a chat with thinking, what follows that.
        whole: All complete turns as plain text, question and answer in turn, a newline between them.
        n_turns: Complete pairs of question and answer, >= 1.
        thinking: What stands before the answer in a chat with thinking; part of neither answer nor whole.
    """

    question: str
    answer: str
    whole: str
    n_turns: int
    thinking: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A continuation that is no conversation, and why."""

    reason: Reason


class Distinct(NamedTuple):
    """Texts that are equal once normalised: the normalised text, the first one's position, and how many there are."""

    text: str
    first: int
    copies: int


class _Pair(NamedTuple):
    question: str
    answer: str
    thinking: str | None
    closed: bool
    next_question: int | None  # where the next user's text begins


def parse(text: str, *, finish_reason: str | None, chat: Chat, stops: Sequence[str] = ()) -> Parsed | Reject:
    """Every continuation is either parsed or rejected.

    The text ends at the first of ``stops`` in it. A continuation that was cut off by the length limit is kept if its
    first answer was complete before: where a format's end-of-sequence token also closes questions, nothing else
    stops the sampling, and the model writes row after row.

    Args:
        text: What was sampled after the prefix, special tokens kept.
        finish_reason: "length" where the limit of new tokens ended it; anything else means that the model did.
        chat: The format whose prefix was given.
        stops: Strings that end a sample (`prefixes.Stops.texts`), where the sampling left them in the text.
    """
    text, stopped = _before_first(text, stops)
    cut_off = finish_reason == "length" and not stopped
    first = _pair(text, 0, chat)
    if isinstance(first, Reject):
        return Reject("cut off by the length limit") if cut_off and first.reason == "no end of the thinking" else first
    if cut_off and not first.closed:
        return Reject("cut off by the length limit")
    if not first.question:
        return Reject("empty question")
    if not first.answer:
        return Reject("empty answer")
    if any(marker in first.question for marker in chat.markers):
        return Reject("marker inside the question")
    if any(marker in first.answer for marker in chat.markers):
        return Reject("marker inside the answer")
    pairs = [first]
    while pairs[-1].next_question is not None:
        pair = _pair(text, pairs[-1].next_question, chat)
        if isinstance(pair, Reject) or (cut_off and not pair.closed) or not (pair.question and pair.answer):
            break
        pairs.append(pair)
    whole = "\n".join(part for pair in pairs for part in (pair.question, pair.answer))
    return Parsed(first.question, first.answer, whole, len(pairs), first.thinking)


def _before_first(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _pair(text: str, start: int, chat: Chat) -> _Pair | Reject:
    """The question that begins at ``start`` with its answer; markers are found without the white space around them.

    Nothing is looked for beyond the next question, so that a chat of many turns is read once and not once a turn.
    """
    marker = chat.assistant.strip()
    place = text.find(marker, start)
    if place < 0:
        return Reject("no assistant marker")
    question = text[start:place].strip().removeprefix(chat.lead.strip()).strip()
    start, thinking = place + len(marker), None
    if chat.thinking_end:
        place = text.find(chat.thinking_end, start)
        if place < 0:
            return Reject("no end of the thinking")
        thinking = text[start:place].strip()
        start = place + len(chat.thinking_end)
    end, user = chat.end.strip(), chat.user.strip()
    goes_on = text.find(user, start) if user else -1
    ends = text.find(end, start, goes_on + len(end) - 1 if goes_on >= 0 else len(text)) if end else -1
    next_question = None
    if goes_on >= 0 and ends < 0:
        ends, next_question = goes_on, goes_on + len(user)
    answer = text[start : ends if ends >= 0 else len(text)].strip().removeprefix(chat.answer_start).strip()
    return _Pair(question, answer, thinking, ends >= 0, next_question)


def distinct(texts: Iterable[str]) -> list[Distinct]:
    """Texts without exact duplicates, in order of first appearance; the counts are evidence and are kept."""
    found: dict[str, Distinct] = {}
    for position, text in enumerate(texts):
        key = normalised(text)
        known = found.get(key, Distinct(key, position, 0))
        found[key] = known._replace(copies=known.copies + 1)
    return list(found.values())


def is_short(token_ids: Sequence[int], *, least: int = SHORT) -> bool:
    """Whether a row has too few tokens to be matched; the share that is left out for it belongs in the report."""
    return len(token_ids) < least
