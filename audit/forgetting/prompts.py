r"""Prompts that break off where a name of the book is due, cut automatically or read from the user's file.

Paper: Eldan & Russinovich 2023, arXiv:2310.02238. Its 300 prompts were written with the help of a language model and
say which references they mention. Departure: ours are the book's own sentences, cut before a name that they have not
mentioned yet, so that whatever the model adds was not handed to it; a file of written prompts can be given instead.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, InputError
from ..text.rows import BadLine, jsonl_rows
from ..text.safe import did_you_mean, quoted
from .terms import Terms, canonical, is_mark

_SENTENCE_END = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]*\s+|\n\s*\n")
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")
_OPENING = "\u201c\u2018([\n"  # after these a name has no space before it
_DASHES = "-\u2013\u2014"
_NAMED = 5  # bad lines that a message names; the rest are counted


class Passage(NamedTuple):
    """A piece of the book: the unit that is resampled, and that lies wholly in one set of prompts."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to be continued.

    Attributes:
        id: Unique name.
        passage: Where it comes from; prompts of one passage are resampled together.
        text: The prompt, without white space at its end.
        references: What it mentions of the book; no model gets credit for these.
        expected: Names of the book that are due next. Cut prompts have one; written ones may have none.
    """

    id: str
    passage: str
    text: str
    references: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CutPlan:
    """Where prompts are cut. The numbers are ours; the paper's prompts have 22 words on average.

    Attributes:
        min_words: Words of the prompt at least.
        max_words: At most; a prompt starts with a sentence where one starts within that many.
        per_passage: Prompts of one passage at most, drawn at random; None takes all.
        seed: Seed of that draw, >= 0.
    """

    min_words: int = 6
    max_words: int = 40
    per_passage: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise InputError(
                f"min_words is {self.min_words} and max_words {self.max_words}; expected 1 <= min_words <= max_words."
            )
        if self.per_passage is not None and self.per_passage < 1:
            raise InputError(f"per_passage is {self.per_passage}; expected 1 or more, or None for all.")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more.")


def cut_passages(text: str, *, n_words: int = 300) -> list[Passage]:
    """Whole paragraphs, gathered until they have ``n_words`` words; the last passage may have fewer.

    Args:
        text: A book; blank lines end paragraphs.
        n_words: 1 or more.

    Raises:
        InputError: ``n_words`` is below 1.
    """
    if n_words < 1:
        raise InputError(f"n_words is {n_words}; expected 1 or more.")
    passages: list[Passage] = []
    start = 0
    ends = [match.end() for match in _PARAGRAPH_END.finditer(text)] + [len(text)]
    for end in ends:
        piece = text[start:end].strip()
        if piece and (len(piece.split()) >= n_words or end == len(text)):
            passages.append(Passage(f"passage-{len(passages) + 1:05d}", piece))
            start = end
    return passages


def make_prompts(passages: Sequence[Passage], names: Sequence[str], *, plan: CutPlan | None = None) -> list[Prompt]:
    """Every place where a name is due that the prompt before it has not mentioned.

    A cut lies between a word and a name that one space parts, so that the name's tokens have one surface form; names
    after a line break or an opening quote are passed over. A prompt that stands in the book twice is made once.

    Args:
        passages: The book.
        names: Its names, by hand or from `names.find_names`; the case of letters counts. What is due is written as the
            book writes it, with its own apostrophes and composed or decomposed letters.
        plan: Where to cut.

    Returns:
        Prompts in the order of the book, each with one expected name.

    Raises:
        InputError: There are no names, two passages share an id, or no place fits.
    """
    plan = plan or CutPlan()
    if not names:
        raise InputError("there are no names to cut before; give the book's names, or find them with find_names.")
    if len({passage.id for passage in passages}) < len(passages):
        raise InputError("two passages have one id; give each its own.")
    ordered = tuple(sorted(dict.fromkeys(names), key=len, reverse=True))  # of names that start alike the longest is due
    due = re.compile(rf"(?<=\S) (?P<name>{'|'.join(map(_spelt, ordered))})(?!\w)")
    terms = Terms(ordered)
    prompts: list[Prompt] = []
    taken: set[str] = set()
    for number, passage in enumerate(passages):
        fresh: dict[str, Prompt] = {}
        for match in due.finditer(passage.text):
            text = _before(passage.text[: match.start()], plan)
            key = canonical(text)
            if not text or key in taken | fresh.keys() or is_mark(passage.text[match.end() : match.end() + 1]):
                continue
            seen = terms.found_in(text)
            if canonical(match["name"]) not in map(canonical, seen):
                identifier = f"{passage.id}-{match.start()}"
                fresh[key] = Prompt(identifier, passage.id, text, seen, (match["name"],))
        keys = list(fresh)
        if plan.per_passage is not None and len(keys) > plan.per_passage:
            rng = np.random.default_rng([plan.seed, number])
            keys = [keys[i] for i in sorted(rng.choice(len(keys), plan.per_passage, replace=False))]
        taken.update(keys)
        prompts += [fresh[key] for key in keys]
    if not prompts:
        raise InputError(
            f"none of the {len(names):,} names is due after {plan.min_words} words or more in these passages without "
            "having been mentioned. Check the names' spelling, or lower min_words."
        )
    return prompts


def _spelt(name: str) -> str:
    """A pattern for a name in composed and decomposed letters, with either apostrophe."""
    forms = dict.fromkeys(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return "|".join(re.sub("['\u2019]", "['\u2019]", re.escape(form)) for form in forms)


def gap_after(prompt: str) -> str:
    """What parts a prompt from the word that is due: nothing after an opening mark or a line break, else a space.

    A straight quote opens where nothing, a space or an opening mark stands before it; a dash joins the next word where
    it joins the last one.
    """
    last, before = prompt[-1:], prompt[-2:-1]
    apart = before in ("", *_OPENING) or before.isspace()
    if last == '"':
        return "" if apart else " "
    if last in ("", *_OPENING) or (last in _DASHES and not apart):
        return ""
    return " "


def _before(text: str, plan: CutPlan) -> str:
    """The end of ``text`` that becomes a prompt; "" where it is too short or ends in a quote, dash or opening mark."""
    pieces = text.rsplit(None, plan.max_words)
    if len(pieces) < plan.min_words or text[-1] == '"' or gap_after(text) == "":
        return ""
    if len(pieces) <= plan.max_words:  # the passage begins within reach
        return text.strip()
    tail = text[len(pieces[0]) :]
    if _SENTENCE_END.search(f"{pieces[0][-3:]} "):
        return tail.strip()
    starts = [match.end() for match in _SENTENCE_END.finditer(tail)]
    first = next((start for start in starts if len(tail[start:].split()) >= plan.min_words), 0)
    return tail[first:].strip()


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """Refuse an empty list of prompts, and two with one id (`InputError`)."""
    if not prompts:
        raise InputError("there are no prompts; expected at least one.")
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise InputError("two prompts have one id; give each its own.")


class PromptSets(NamedTuple):
    """Prompts to audit with, prompts for early stopping, and how many of the latter were dropped as repetitions."""

    audit: tuple[Prompt, ...]
    validation: tuple[Prompt, ...]
    n_dropped: int


def split_prompts(prompts: Sequence[Prompt], *, validation_share: float = 0.2, seed: int) -> PromptSets:
    """Deal whole passages at random, so that no passage has prompts in both sets.

    A validation prompt whose text also stands in the audit set, from another passage, is dropped.

    Args:
        prompts: From `make_prompts` or `read_prompts`.
        validation_share: Share of the passages that go to validation, in (0, 1); at least one goes to each set.
        seed: >= 0.

    Raises:
        InputError: The share is out of range, or there are fewer than two passages.
    """
    if not 0.0 < validation_share < 1.0:
        raise InputError(f"validation_share is {validation_share}; expected a number between 0 and 1, both excluded.")
    passages = list(dict.fromkeys(prompt.passage for prompt in prompts))
    if len(passages) < 2:
        raise InputError(f"the prompts come from {len(passages)} passages; expected two or more to split them.")
    n = min(len(passages) - 1, max(1, round(validation_share * len(passages))))
    chosen = {passages[i] for i in np.random.default_rng(seed).permutation(len(passages))[:n]}
    audit = tuple(prompt for prompt in prompts if prompt.passage not in chosen)
    texts = {canonical(prompt.text).casefold() for prompt in audit}
    own = [prompt for prompt in prompts if prompt.passage in chosen]
    validation = tuple(prompt for prompt in own if canonical(prompt.text).casefold() not in texts)
    return PromptSets(audit, validation, len(own) - len(validation))


def read_prompts(path: str | Path) -> list[Prompt]:
    """The user's prompts: JSON Lines, each an object with "prompt" and "references" (the list of what it mentions).

    "expected" (names due next), "passage" (prompts of one passage are resampled together; default: each its own) and
    "id" (default: the line) may be given. White space at a prompt's end is cut off.

    Raises:
        InputError: No such file.
        DataError: A line is malformed; the first five are named.
    """
    path = Path(path)
    prompts: list[Prompt] = []
    bad: list[str] = []
    used: dict[str, str] = {}
    n_rows = 0
    for row in jsonl_rows(path):
        n_rows += 1
        problem = row.reason if isinstance(row, BadLine) else _problem(row.values)
        if not problem and not isinstance(row, BadLine):
            values = {"id": f"line-{row.line}", **row.values}
            if values["id"] in used:
                problem = f'"id" {quoted(values["id"])} was used at {used[values["id"]]} already'
            used.setdefault(values["id"], row.place)
        if problem:
            bad.append(f"- {row.place}: {problem}")
            continue
        prompts.append(
            Prompt(
                id=values["id"],
                passage=values.get("passage", values["id"]),
                text=values["prompt"].rstrip(),
                references=tuple(values["references"]),
                expected=tuple(values.get("expected", ())),
            )
        )
    if bad:
        more = [f"- and {len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
        lines = "\n".join(bad[:_NAMED] + more)
        raise DataError(
            f"{path}: {len(bad)} of {n_rows} prompts cannot be used:\n{lines}\n"
            'Expected lines such as {"prompt": "Her letter came by owl, and", "references": ["owl"]}.'
        )
    if not prompts:
        raise DataError(f"{path} holds no prompts. Give a file with at least one line.")
    return prompts


def _text_problem(name: str, value: object) -> str | None:
    if not isinstance(value, str):
        return f"{quoted(name)} is {quoted(value)}, not a text"
    if not value.strip():
        return f"{quoted(name)} is empty"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return f"{quoted(name)} holds half of a surrogate pair"
    return None


def _list_problem(name: str, value: object) -> str | None:
    if not isinstance(value, list):
        return f"{quoted(name)} is {quoted(value)}, not a list of texts"
    for item in value:
        if problem := _text_problem(name, item):
            return f"in the list {problem}"
        if not any(character.isalnum() for character in item):
            return f"{quoted(name)} lists {quoted(item)}, which holds no letter or digit"
    return None


_CHECKS: dict[str, Callable[[str, object], str | None]] = {
    "prompt": _text_problem,
    "references": _list_problem,
    "expected": _list_problem,
    "passage": _text_problem,
    "id": _text_problem,
}


def _problem(values: dict[str, Any]) -> str | None:
    """What is wrong with one line, or None."""
    for name in ("prompt", "references"):
        if name not in values:
            return f"no field {quoted(name)}; it has {', '.join(map(quoted, list(values)[:8])) or 'none'}"
    for name, value in values.items():
        if name not in _CHECKS:
            return f"unknown field {quoted(name)}.{did_you_mean(name, _CHECKS)}"
        if problem := _CHECKS[name](name, value):
            return problem
    return None
