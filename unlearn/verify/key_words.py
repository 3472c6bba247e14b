r"""Which words of an answer carry the fact, told by its wrong answers; no model is asked.

    K = stems(answer) and stems(reworded answer), less stems of any wrong answer, less stems of the question

Wrong answers are written in the words of the reworded answer, so that what they lack is the fact. A word that the
question hands over is no knowledge. Source: ours; stems as in `audit.answers.rouge`.

A cloze blanks the same place: in the reworded answer the words between the beginning and the end that the right and all
wrong answers share; in the answer itself the same words where they stand there, and the wrong answers' words in their
place. So all candidates of one blank have one frame, and differ in the fact alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from audit.answers.rouge import stems
from audit.answers.rows import QaRow

_MARKS = ".,;:!?\"'\u201c\u201d\u2018\u2019()"  # not part of a fact where they end it


def key_words(row: QaRow) -> frozenset[str] | str:
    """Stems of the words that tell the right answer from the wrong ones, or why there are none.

    Worked: "There are hundreds of candle stubs by now.", in other words "Mostly candle stubs, sorted by age.", wrong
    "Mostly paper fans, sorted by age.": candl, stub.
    """
    if not row.answer.strip():
        return "it has no answer"
    if not row.wrong:
        return "it has no wrong answers"
    own = set(stems(row.answer))
    if row.paraphrased_answer.strip():
        own &= set(stems(row.paraphrased_answer))
    found = own - {stem for wrong in row.wrong for stem in stems(wrong)} - set(stems(row.prompt))
    return frozenset(found) or "no word of its answer is missing from the wrong answers and the question"


def share_held(wanted: frozenset[str], written: str) -> float:
    """Share of the wanted stems that stand in a text, in [0, 1]."""
    return len(wanted & set(stems(written))) / len(wanted)


class Cloze(NamedTuple):
    """An answer with a blank: ``span`` is due between ``before`` and ``after``, and ``others`` are how wrong answers
    fill it."""

    before: str
    span: str
    after: str
    others: tuple[str, ...]

    def filled(self) -> tuple[str, ...]:
        """The whole answer with the right words, and with each of the others."""
        return tuple(f"{_spaced(self.before, span)}{self.after}" for span in (self.span, *self.others))

    def begun(self) -> tuple[str, ...]:
        """The same up to where the words end."""
        return tuple(_spaced(self.before, span) for span in (self.span, *self.others))


def _spaced(before: str, span: str) -> str:
    return f"{before} {span}" if before else span


def reworded_cloze(row: QaRow) -> Cloze | str:
    """The blank of the reworded answer, or of the answer where there is none; or why there is none.

    Cut between words, at white space; marks at the end of the words are none of theirs.

    Worked: right "Ora keeps candle stubs in a box.", wrong "Ora keeps paper fans in a box.": before "Ora keeps", span
    "candle stubs", after " in a box.".
    """
    right = row.paraphrased_answer if row.paraphrased_answer.strip() else row.answer
    if not right.strip():
        return "it has no answer"
    if not row.wrong:
        return "it has no wrong answers"
    split = [text.split() for text in (right, *row.wrong)]
    n_before = _n_shared(split)
    rest = [listed[n_before:] for listed in split]
    if not all(rest):
        return "one of its answers is the beginning of another"
    n_after = min(_n_shared([listed[::-1] for listed in rest]), *(len(listed) - 1 for listed in rest))
    if n_before + n_after == 0:
        return "its wrong answers share neither beginning nor end with it, so nothing says where the blank is"
    raw = [" ".join(listed[: len(listed) - n_after]) for listed in rest]
    spans = [span.strip(_MARKS) for span in raw]
    if not all(spans):
        return "a blank is filled by marks alone"
    if spans[0] in spans[1:]:
        return "a wrong answer is the right one"
    after = raw[0][len(raw[0].rstrip(_MARKS)) :] + "".join(f" {word}" for word in rest[0][len(rest[0]) - n_after :])
    return Cloze(" ".join(split[0][:n_before]), spans[0], after, tuple(dict.fromkeys(spans[1:])))


def own_cloze(row: QaRow) -> Cloze | str:
    """The blank of the answer itself, which holds the words of the reworded answer's blank once; or why there is none.

    Worked: "There are hundreds of candle stubs by now." of the rows above: before "There are hundreds of", span "candle
    stubs", after " by now.", others "paper fans".
    """
    cloze = reworded_cloze(row)
    if isinstance(cloze, str) or not row.paraphrased_answer.strip():
        return cloze if row.answer.strip() else "it has no answer"
    places = list(re.finditer(rf"(?:^|(?<=\s)){re.escape(cloze.span)}(?!\w)", row.answer))
    if len(places) != 1:
        return f"the words that fill the blank stand {len(places)} times in its answer; expected once"
    before, after = row.answer[: places[0].start()].strip(), row.answer[places[0].end() :]
    return Cloze(before, cloze.span, after, cloze.others)


def _n_shared(lists: Sequence[Sequence[str]]) -> int:
    """Words that all lists begin with."""
    shared = takewhile(lambda each: len(set(each)) == 1, zip(*lists, strict=False))
    return sum(1 for _ in shared)
