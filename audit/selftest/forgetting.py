"""What a model still knows of a text, on tables that hold it and that do not; and tests of two models' values.

A table whose words have one successor each goes on with the text and nothing else: extraction strength, exact
memorisation and ROUGE-L of the greedy continuation are 1 for what it holds. For a text of other words the table is
uniform, so the probability of an answer is 1/V for each of its tokens, and that of a greedy word to be right is nil.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..answers import qa, quality, systems
from ..answers.formats import PromptFormat
from ..answers.rows import QaRow
from ..forgetting import gap, verbatim
from ..forgetting.measured import Measured, difference
from ..forgetting.prompts import Passage
from .answers import Instrument, Known, near, within
from .models import FIRST, table_log_probs, table_model, word_list

_N, _PASSAGES, _LENGTH = 480, 8, 24
_HELD = 0.98  # probability of the successor


def ask(work: Path) -> Iterator[Known]:
    """Verbatim measures, probabilities of answers, forget quality and the gap."""
    words = word_list(_N)
    n = FIRST + _N
    order = (FIRST + np.random.default_rng(9).permutation(_N))[: 2 * _PASSAGES * _LENGTH].reshape(-1, _LENGTH)
    held = order[:_PASSAGES]
    table = np.full((n, n), 1.0 / n)
    for row in held:
        table[row[:-1]] = (1 - _HELD) / (n - 1)
        table[row[:-1], row[1:]] = _HELD
    lm = table_model(work / "table", words, table)
    text = ["".join(words[one - FIRST] for one in row) for row in order]
    passages = {
        name: [Passage(f"{name}-{i}", text[first + i]) for i in range(_PASSAGES)]
        for name, first in (("held", 0), ("other", _PASSAGES))
    }
    plan = verbatim.VerbatimPlan(n_prompt=6, n_new=_LENGTH - 6)
    yield near(
        "extraction strength of 4 hits after 1 miss",
        verbatim.extraction_strength([False, True, True, True, True]),
        0.8,
        "1 - 1/5",
    )
    yield near(
        "extraction strength of 4 hits", verbatim.extraction_strength([True] * 4), 1.0, "the smallest prefix is none"
    )
    yield near(
        "ROUGE-L of a text with itself", verbatim.rouge_l("one two three", "one two three"), 1.0, "F1 of 1 and 1"
    )
    yield near(
        "ROUGE-L of half of a text", verbatim.rouge_l("one two three four", "one two"), 2 / 3, "precision 1, recall 1/2"
    )
    for name, low, high, why in (
        ("held", 1.0, 1.0, "every word has one successor"),
        ("other", 0.0, 0.05, "uniform rows: one greedy word in 484 is right"),
    ):
        found = verbatim.continue_greedily(lm, passages[name], plan=plan).rouge.values
        yield within(f"{name} text: ROUGE-L of greedy continuations", float(found.mean()), low, high, why)
        exact = verbatim.memorised(lm, passages[name]).exact.values
        first_free = 1 / _LENGTH if name == "held" else 0.0
        yield within(f"{name} text: exact memorisation", float(exact.mean()), low - first_free - 1e-9, high, why)

    rows = [
        _row(name, i, order[first + i], words)
        for name, first in (("held", 0), ("other", _PASSAGES))
        for i in range(_PASSAGES)
    ]
    system = systems.Bare(lm, PromptFormat("text"))
    asked = qa.measure_qa(system, rows, "forget", qa.measure_rouge(system, rows, "forget", max_new_tokens=_LENGTH - 8))
    truth = [
        float(np.exp(table_log_probs(table, list(order[i][8:]), before=int(order[i][7])).mean()))
        for i in range(2 * _PASSAGES)
    ]
    yield within(
        "probability of answers: largest error",
        float(np.abs(asked.probability.values - truth).max()),
        0,
        1e-4,
        "exp of the mean log-probability in the table: 0.98 where it is held, 1/484 elsewhere",
    )
    ratio = np.exp(asked.log_ratio.values)
    yield within(
        "truth ratio of held rows: largest",
        float(ratio[:_PASSAGES].max()),
        0.0,
        0.1,
        "a wrong answer's first word has (1 - 0.98)/483, and the geometric mean over 16 words is 0.57 of the "
        "rest at most",
    )

    again = qa.measure_qa(system, rows, "forget", asked.rouge)
    raw, _, _ = quality.forget_quality(asked, again)
    yield near(
        "forget quality of a system against itself",
        raw.p_value.value if raw.p_value else None,
        1.0,
        "the distance is 0",
    )
    yield from _tests()


def _row(name: str, i: int, order: np.ndarray, words: list[str]) -> QaRow:
    prompt, answer = ("".join(words[one - FIRST] for one in part) for part in (order[:8], order[8:]))
    wrong = tuple("".join(words[(one + shift) % len(words)] for one in order[8:]) for shift in (101, 202))
    return QaRow(f"{name}-{i}", f"{name}-{i}", prompt, answer, answer, answer, wrong)


def _tests() -> Iterator[Known]:
    """Values that are drawn: the same distribution, a shift, and a gap of known size."""
    rng = np.random.default_rng(10)
    ids = tuple(f"row{i}" for i in range(40))

    def measured(values: np.ndarray) -> Measured:
        return Measured("value", ids, ids, values)

    gold, subject = rng.normal(0, 1, 40), rng.normal(3, 1, 40)
    alike, far = measured(rng.normal(0, 1, 40)), measured(subject)
    yield within(
        "forget quality: p of two draws of one distribution",
        gap.forget_quality(alike, measured(gold)).p_value.value,
        1e-5,
        1.0,
        "a valid p-value is below 1e-5 in 1e-5 of draws",
        luck=1e-5,
    )
    yield within(
        "forget quality: p of a shift by three",
        gap.forget_quality(far, measured(gold)).p_value.value,
        0.0,
        1e-6,
        "a distance of 0.87 is expected with 40 each, and 0.55 gives 1e-6",
        luck=1e-6,
    )
    for closed in (0.0, 0.25, 1.0):
        between = measured(subject + closed * (gold - subject))
        found = gap.gap_closed(far, between, measured(gold), rng=0)
        yield near(f"gap closed by {closed:g}", found.value, closed, "(target - unlearned) / (target - retrained)")
    lifted = difference(measured(gold + 0.5), measured(gold), rng=0)
    yield near("paired difference of 0.5", lifted.value, 0.5, "the same rows, shifted; first less second")


INSTRUMENT = Instrument("forgetting", ask)
