"""What a post-training row holds: its question, its answer, the whole, and how often it was planted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..text.safe import quoted

MESSAGES = "messages"
CANARY, REPEATS, CLUSTER = "canary", "repeats", "cluster"


class Views(NamedTuple):
    """A row without markers and without white space around its parts."""

    question: str
    answer: str
    whole: str


def views_of(values: dict[str, Any], fields: tuple[str, ...], markers: Sequence[str]) -> Views | str:
    """Question, answer and whole of a record, or what is missing; no message holds a row's own text."""
    turns: list[tuple[str, str]] = []  # role, clean text
    if fields == (MESSAGES,):
        messages = values.get(MESSAGES)
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            return f"{quoted(MESSAGES)} is no list of messages"
        for message in messages:
            role = message.get("role")
            if role in ("system", "developer"):
                continue
            if role not in ("user", "assistant"):
                return f"a message's role is {quoted(role, limit=30)}; expected user, assistant or system"
            turns.append((role, _clean(message.get("content"), markers)))
        first = next((place for place, (role, _) in enumerate(turns) if role == "user"), None)
        if first is None:
            return "no message of a user"
        question = turns[first][1]
        answer = next((text for role, text in turns[first:] if role == "assistant"), None)
        if answer is None:
            return "no message of an assistant after the user's first"
        if not question or not answer:
            return f"the {'answer' if question else 'question'} is blank or no text"
        return Views(question, answer, "\n".join(text for _, text in turns if text))
    for field in fields:
        problem = _problem(values, field, markers)
        if problem:
            return problem
    question, answer = (_clean(values[field], markers) for field in fields)
    return Views(question, answer, f"{question}\n{answer}")


def _problem(values: dict[str, Any], field: str, markers: Sequence[str]) -> str | None:
    text = values.get(field)
    if text is None:
        return f"{quoted(field)} is {'null' if field in values else 'missing'}"
    if not isinstance(text, str):
        return f"{quoted(field)} is no text ({type(text).__name__})"
    if not text.strip():
        return f"{quoted(field)} is blank"
    if not _clean(text, markers):
        return f"{quoted(field)} holds markers alone, or is not UTF-8"
    return None


def _clean(text: object, markers: Sequence[str]) -> str:
    """``text`` without markers and white space around it; "" for what is no text that UTF-8 can store."""
    if not is_text(text):
        return ""
    clean = str(text)
    for marker in markers:  # the longest first: a whole marker before a token of it
        clean = clean.replace(marker, "")
    return clean.strip()


def is_text(value: object) -> bool:
    """Whether a value is a text with something in it and no half of a surrogate pair, which JSON can spell."""
    return isinstance(value, str) and bool(value.strip()) and value == value.encode("utf-8", "ignore").decode()


def repetitions_of(values: dict[str, Any]) -> int | str | None:
    """How often a canary stands in the training set, None for an ordinary row, or what is wrong."""
    repeats = values.get(REPEATS)
    number: int | None = -1
    if repeats is None or repeats == "" or repeats != repeats:  # NaN: an empty cell of a column of numbers
        number = None
    elif isinstance(repeats, str):
        number = int(repeats) if repeats.isdecimal() and len(repeats) < 10 else -1
    elif type(repeats) is int or (type(repeats) is float and repeats.is_integer()):
        number = int(repeats)
    if number is not None and number < 0:
        return f"{quoted(REPEATS)} is {quoted(repeats)}; expected a whole number, 0 (a control) or more, or none"
    if CANARY not in values:
        return number
    told = values[CANARY]
    word = "" if told is None else str(told).strip().lower()
    if word in ("", "false", "0", "0.0", "nan"):
        return None
    if word not in ("true", "1", "1.0"):
        return f"{quoted(CANARY)} is {quoted(told)}; expected true or false"
    if number is None:
        return f"a canary without {quoted(REPEATS)}; expected how often it stands in the training set"
    return number
