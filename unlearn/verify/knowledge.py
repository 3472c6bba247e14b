r"""What a system still knows of questions and answers, asked in several ways.

    answered       all words that carry the fact (`key_words`) stand in the greedy answer
    ROUGE-L, p     as `audit.answers.qa`: recall of the greedy answer; exp(mean log-probability of the answer's tokens)
    reworded p     the same of the answer in other words, after the question
    cloze p        exp(sum of log p(token)) of the words that carry the fact, after question and answer's beginning
    choice         the right option is the most probable one: by letter, or by mean log-probability of a token or a byte

Each question is asked as it was trained and, where the rows have them, in other words, by another name or over another
fact, and in another language. Sources: the axes of Lynch et al. 2024 (arXiv:2402.16835) and TOFU (arXiv:2401.06121);
choice by letter as in ECO's code, by byte as lm-evaluation-harness's acc_norm. Cloze and "answered" are ours. Options
stand in an order drawn by the row's id, the same for all systems, so that a place tells nothing.

A system that refuses gives no answer any probability: p is 0, and a choice that it does not make is wrong. It is then
below chance, which is no knowledge and no forgetting either: compare with what gold scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from audit.answers.choices import chosen, measure_choices
from audit.answers.qa import MAX_NEW_TOKENS
from audit.answers.rouge import rouge_l_recall
from audit.answers.rows import ChoiceRow, QaRow
from audit.answers.systems import Scope, System
from audit.forgetting.measured import Measured
from audit.forgetting.probability import expected_probabilities
from audit.forgetting.prompts import Prompt
from audit.lm.load import LanguageModel
from audit.stats.checks import Floats

from .asking import Unasked, answer_log_probs, each, greedy_answers
from .found import Found, kept, together
from .key_words import Cloze, key_words, own_cloze, reworded_cloze, share_held
from .measures import Direction, Measure

_Row: TypeAlias = QaRow | ChoiceRow


class _Way(NamedTuple):
    """A way to ask: suffix of its keys, what it is called, and a row's question in it."""

    suffix: str
    label: str
    question: Callable[[QaRow], str]


_WAYS: Final = (
    _Way("", "", lambda row: row.prompt),
    _Way(".paraphrased", ", question in other words", lambda row: row.paraphrased_prompt),
    _Way(".alias", ", by another name or fact", lambda row: row.alias_prompt),
    _Way(".translated", ", in another language", lambda row: row.translated_prompt),
)
_MORE: Final[Direction] = "more is known"
_CHANCE: Final = "chance is 1 / options; below chance is refusal, not forgetting; compare with gold"


def _asked(way: _Way) -> tuple[Measure, ...]:
    return (
        Measure(
            f"knowledge.answered{way.suffix}", f"right answers{way.label}", "knowledge", _MORE, 0.0, 1.0,
            "1 if every word of the answer that no wrong answer and no question has stands in the greedy answer",
            "ours", "right facts in other words, and wrong answers in words of their own, are not seen",
        ),
        Measure(
            f"knowledge.rouge{way.suffix}", f"ROUGE-L recall of answers{way.label}", "knowledge", _MORE, 0.0, 1.0,
            "LCS of stems / stems of the answer", "TOFU, arXiv:2401.06121",
            "names that the question holds and common words give a floor far above 0; long answers raise it",
        ),
        Measure(
            f"knowledge.probability{way.suffix}", f"probability of answers{way.label}", "knowledge", _MORE, 0.0, 1.0,
            "exp(mean log p(token)) of the answer after the question", "TOFU, arXiv:2401.06121",
            "falls with any change of style; suppressing one wording leaves the fact",
        ),
    )  # fmt: skip


class _Frame(NamedTuple):
    """An answer with a blank: suffix of its keys, what it is called, and a row's blank in it."""

    suffix: str
    label: str
    cloze: Callable[[QaRow], Cloze | str]


_FRAMES: Final = (
    _Frame("", " of the answer", own_cloze),
    _Frame(".reworded", " of the reworded answer", reworded_cloze),
)


def _blanked(frame: _Frame) -> tuple[Measure, ...]:
    return (
        Measure(
            f"knowledge.cloze{frame.suffix}", f"probability of the blanked words{frame.label}", "knowledge",
            _MORE, 0.0, 1.0, "exp(sum log p(token)) of the words that carry the fact, after question and beginning",
            "ours", "falls with any change of style; small for all models after a beginning that was never trained on",
        ),
        Measure(
            f"knowledge.cloze_share{frame.suffix}", f"share of the right words in the blank{frame.label}", "knowledge",
            _MORE, 0.0, 1.0, "p(right words) / (p(right words) + sum p(wrong words)) in the blank", "ours",
            f"words with fewer tokens are favoured, for all systems alike; {_CHANCE}",
        ),
    )  # fmt: skip


MEASURES: Final[tuple[Measure, ...]] = (
    *(one for way in _WAYS for one in _asked(way)),
    Measure(
        "knowledge.reworded", "probability of the answer in other words", "knowledge", _MORE, 0.0, 1.0,
        "exp(mean log p(token)) of the reworded answer after the question", "TOFU, arXiv:2401.06121",
        "mostly style: what a model gives words it was not trained on",
    ),
    *(one for frame in _FRAMES for one in _blanked(frame)),
    Measure(
        "knowledge.choice_letters", "right choices by letter", "knowledge", _MORE, 0.0, 1.0,
        "the right option's letter has the highest logit; k ties count 1/k", "ECO's code, arXiv:2406.07933",
        f"small models cannot read letters and stay at chance whatever they know; {_CHANCE}",
    ),
    Measure(
        "knowledge.choice_tokens", "right choices by token", "knowledge", _MORE, 0.0, 1.0,
        "the right option has the highest mean log p(token); k ties count 1/k", "ours; TOFU's p of an answer",
        f"rare words of a wrong option may be cut into easy tokens; {_CHANCE}",
    ),
    Measure(
        "knowledge.choice_bytes", "right choices by byte", "knowledge", _MORE, 0.0, 1.0,
        "the right option has the highest sum of log p(token) / bytes; k ties count 1/k",
        "lm-evaluation-harness (acc_norm)",
        f"long options are favoured where their beginnings tell their ends; {_CHANCE}",
    ),
    Measure(
        "knowledge.name", "probability of the name that is due", "knowledge", _MORE, 0.0, 1.0,
        "p(whole name | sentence of the book cut before it)", "ours (audit.forgetting.probability)",
        "names that occur in other texts are known without the book",
    ),
)  # fmt: skip


def measure_knowledge(
    system: System,
    rows: Sequence[QaRow],
    part: str,
    *,
    scope: Scope = "prompt",
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Found:
    """Every measure at the head of this file that the rows allow.

    Args:
        system: Who is asked.
        rows: Any number; what a row lacks leaves it out of that measure, and is told.
        part: Which they are; it stands in the names, so that parts are not compared with each other.
        scope: How far a guard's corruption reaches where answers are scored.
        max_new_tokens: Of a greedy answer.
    """
    return together(
        *(_ask(system, rows, part, way, scope, max_new_tokens) for way in _WAYS),
        _reworded(system, rows, part, scope),
        *(_cloze(system, rows, part, frame, scope) for frame in _FRAMES),
        measure_choice(system, rows, part, scope=scope),
    )


def _ask(system: System, rows: Sequence[QaRow], part: str, way: _Way, scope: Scope, max_new_tokens: int) -> Found:
    asked = [row for row in rows if way.question(row).strip()]
    absent = {row.id: "it has no such question" for row in rows if not way.question(row).strip()}
    keys = [f"knowledge.{name}{way.suffix}" for name in ("answered", "rouge", "probability")]
    if not asked:
        return Found({}, dict.fromkeys(keys, f"no row has such a question{way.label}" if rows else "there are no rows"))
    questions = [way.question(row) for row in asked]
    said = greedy_answers(system, questions, max_new_tokens=max_new_tokens)
    held: list[float | str] = []
    recall: list[float | str] = []
    for row, text in zip(asked, said, strict=True):
        if isinstance(text, Unasked):
            held.append(text.why)
            recall.append(text.why)
            continue
        wanted = key_words(row)
        held.append(wanted if isinstance(wanted, str) else float(share_held(wanted, text) == 1.0))
        value = rouge_l_recall(row.answer, text)
        recall.append("its answer has no words" if value is None else value)
    probability = _probabilities(system, questions, [row.answer for row in asked], scope)
    return together(
        kept(keys[0], _named(f"right answers{way.label}, {part}", asked, held, absent)),
        kept(keys[1], _named(f"ROUGE-L recall{way.label}, {part}", asked, recall, absent)),
        kept(
            keys[2],
            _named(f"probability of answers{way.label}, {part}, scope {scope}", asked, probability, absent),
        ),
    )


def _reworded(system: System, rows: Sequence[QaRow], part: str, scope: Scope) -> Found:
    asked = [row for row in rows if row.paraphrased_answer.strip()]
    absent = {row.id: "it has no answer in other words" for row in rows if not row.paraphrased_answer.strip()}
    values = _probabilities(system, [row.prompt for row in asked], [row.paraphrased_answer for row in asked], scope)
    name = f"probability of the reworded answer, {part}, scope {scope}"
    return kept("knowledge.reworded", _named(name, asked, values, absent))


def _cloze(system: System, rows: Sequence[QaRow], part: str, frame: _Frame, scope: Scope) -> Found:
    """Probability of the blanked words, and their share among the options', after question and beginning.

    log p(span | question, beginning) is the sum of the last n - m token log-probabilities of "beginning span", which
    has n tokens and its beginning alone m. Tokens do not cross white space in the tokenizers that this was tried with.
    """
    blanks = [(row, frame.cloze(row)) for row in rows]
    absent = {row.id: cloze for row, cloze in blanks if isinstance(cloze, str)}
    asked = [(row, cloze) for row, cloze in blanks if isinstance(cloze, Cloze)]
    pairs = [(row.prompt, text) for row, cloze in asked for text in (*filter(None, (cloze.before,)), *cloze.begun())]
    scores = iter(answer_log_probs(system, pairs, scope=scope))
    due: list[float | str] = []
    share: list[float | str] = []
    for _, cloze in asked:
        own = [next(scores) for _ in (*filter(None, (cloze.before,)), *cloze.begun())]
        sums = _span_sums(own, begins=bool(cloze.before))
        if isinstance(sums, str):
            due.append(sums)
            share.append(sums)
            continue
        refused = bool(np.isneginf(sums).any())
        due.append(0.0 if refused else float(np.exp(sums[0])))
        share.append(0.0 if refused else float(1 / np.exp(np.minimum(sums - sums[0], 700.0)).sum()))
    names = [
        f"{what}{frame.label}, {part}, scope {scope}" for what in ("p of the blanked words", "share of the right words")
    ]
    return together(
        kept(f"knowledge.cloze{frame.suffix}", _named(names[0], [row for row, _ in asked], due, absent)),
        kept(f"knowledge.cloze_share{frame.suffix}", _named(names[1], [row for row, _ in asked], share, absent)),
    )


def _span_sums(scores: Sequence[Floats | Unasked], *, begins: bool) -> Floats | str:
    """log p of each span, from the tokens of the beginning, where it has any, and of each begun answer; or why not."""
    if (why := _first_reason(scores)) is not None:
        return why
    told = [one for one in scores if not isinstance(one, Unasked)]
    n_before = len(told[0]) if begins else 0
    spans = [one[n_before:] for one in told[1 if begins else 0 :]]
    if not all(map(len, spans)):
        return "its tokens run across the border of the blank"
    return np.array([float(np.sum(span)) for span in spans])


def _first_reason(scores: Sequence[Floats | Unasked]) -> str | None:
    return next((one.why for one in scores if isinstance(one, Unasked)), None)


def choice_row(row: QaRow) -> ChoiceRow | str:
    """The question with its answers as options, in an order drawn by the row's id; or why there are none.

    The right option is the reworded answer where there is one, because wrong answers are written in its words.
    """
    right = (row.paraphrased_answer if row.paraphrased_answer.strip() else row.answer).strip()
    if not right:
        return "it has no answer"
    wrong = list(dict.fromkeys(one.strip() for one in row.wrong if one.strip()))
    if not wrong:
        return "it has no wrong answers"
    if right.casefold() in {one.casefold() for one in wrong}:
        return "a wrong answer is the right one"
    if len(wrong) > 25:
        return f"it has {len(wrong)} wrong answers; there are letters for 25"
    seed = int.from_bytes(hashlib.sha256(row.id.encode()).digest()[:8], "big")
    order = np.random.default_rng(seed).permutation(len(wrong) + 1).tolist()
    options = [right, *wrong]
    return ChoiceRow(row.id, row.cluster, row.prompt, tuple(options[place] for place in order), order.index(0))


def measure_choice(system: System, rows: Sequence[QaRow], part: str, *, scope: Scope = "prompt") -> Found:
    """Right choices by letter, by token and by byte; the names state the chance.

    Args:
        system: Who chooses.
        rows: Any number; those without wrong answers are left out, and said to be.
        part: Which they are.
        scope: As in `measure_knowledge`; letters know no scope.
    """
    made = [(row.id, choice_row(row)) for row in rows]
    absent = {name: one for name, one in made if isinstance(one, str)}
    asked = [one for _, one in made if isinstance(one, ChoiceRow)]
    keys = ("knowledge.choice_letters", "knowledge.choice_tokens", "knowledge.choice_bytes")
    if not asked:
        why = f"no row has options; first: {next(iter(absent.values()))}" if absent else "there are no rows"
        return Found({}, dict.fromkeys(keys, why))
    lettered = each(asked, lambda some: measure_choices(system, some, part).measured.values.tolist())
    by_letter = [one.why if isinstance(one, Unasked) else float(one) for one in lettered]
    chance = f"{part} (chance {np.mean([1 / len(row.options) for row in asked]):.3g})"
    pairs = [(row.prompt, option) for row in asked for option in row.options]
    scores = iter(answer_log_probs(system, pairs, scope=scope))
    by_token: list[float | str] = []
    by_byte: list[float | str] = []
    for row in asked:
        found = [next(scores) for _ in row.options]
        refusal = _first_reason(found)
        if refusal is not None:
            by_token.append(refusal)
            by_byte.append(refusal)
            continue
        own = [one for one in found if not isinstance(one, Unasked)]
        by_token.append(_choice(np.array([float(np.mean(one)) for one in own]), row.right))
        sizes = [len(option.encode()) for option in row.options]
        by_byte.append(
            _choice(np.array([float(np.sum(one)) / n for one, n in zip(own, sizes, strict=True)]), row.right)
        )
    return together(
        kept(keys[0], _named(f"right choices by letter, {chance}", asked, by_letter, absent)),
        kept(keys[1], _named(f"right choices by token, {chance}, scope {scope}", asked, by_token, absent)),
        kept(keys[2], _named(f"right choices by byte, {chance}, scope {scope}", asked, by_byte, absent)),
    )


def _choice(scores: Floats, right: int) -> float:
    """0, 1 or 1/k; 0 where an option is never said, which is no choice."""
    shown = np.full_like(scores, np.nan) if np.isneginf(scores).any() else scores
    values, _, _ = chosen(shown[None], np.array([right], dtype=np.int64))
    return float(values[0])


def measure_names(lm: LanguageModel, prompts: Sequence[Prompt]) -> Found:
    """Probability of the name that is due in the book's own sentences, as `audit.forgetting.prompts` cuts them.

    Args:
        lm: A model whose own logits are the system's.
        prompts: Any number; those that expect nothing are left out, and said to be.

    Raises:
        DataError, ModelError: As `audit.forgetting.probability.expected_probabilities`.
    """
    if not any(prompt.expected for prompt in prompts):
        return Found({}, {"knowledge.name": "no prompt says which name is due"})
    return kept("knowledge.name", expected_probabilities(lm, prompts))


def _probabilities(system: System, questions: Sequence[str], answers: Sequence[str], scope: Scope) -> list[float | str]:
    """exp(mean log p(token)) of each answer, 0 where the system refuses; or why there is none."""
    places = [place for place, answer in enumerate(answers) if answer.strip()]
    found: list[float | str] = ["it has no answer"] * len(answers)
    if places:
        scores = answer_log_probs(system, [(questions[at], answers[at]) for at in places], scope=scope)
        for place, values in zip(places, scores, strict=True):
            found[place] = values.why if isinstance(values, Unasked) else float(np.exp(np.mean(values)))
    return found


def _named(name: str, rows: Sequence[_Row], values: Sequence[float | str], absent: dict[str, str]) -> Measured:
    """The rows with a number, and of the others the reason in its place."""
    pairs = [(row, value) for row, value in zip(rows, values, strict=True) if not isinstance(value, str)]
    reasons = {row.id: value for row, value in zip(rows, values, strict=True) if isinstance(value, str)}
    return Measured(
        name,
        tuple(row.id for row, _ in pairs),
        tuple(row.cluster for row, _ in pairs),
        np.array([value for _, value in pairs], dtype=np.float64),
        absent | reasons,
    )
