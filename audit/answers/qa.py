r"""What a system knows of questions and answers, by TOFU's three measures.

    p = exp(mean of log p(token))                                       probability of an answer
    R = exp(mean over wrong answers of log p_wrong  -  log p_right)     truth ratio, p_right of the reworded answer

The mean over wrong answers is that of logarithms, the geometric mean of their p (TOFU has an arithmetic one in another
module); ECO's code takes the geometric one too. R is kept as its logarithm, because R itself overflows. Above 1 the
wrong answers are the likelier ones. Where a row has no reworded answer, the answer itself is the right one.

Of real authors and world facts the answers are options: p is the right one's share, p_right / (p_right + sum p_wrong).

Sources: Maini et al. 2024 (arXiv:2401.06121); spec of ECO, section 5. Departures: ``max_new_tokens`` counts new tokens,
where TOFU's 200 count the prompt as well. A system that refuses gives no answer any probability: its p is 0 and its R
undefined; its max(0, 1 - R), which goes into the utility (`utility`), is then 0, or leaving the row out would raise it.

"prompt" corrupts the prompt alone, as in use; "prompt+answer" the scored answer too, as in the authors' likelihoods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from scipy.special import logsumexp

from ..errors import InputError
from ..forgetting.measured import Measured
from .rouge import rouge_l_recall
from .rows import QaRow
from .systems import Scope, System

Part: TypeAlias = Literal["forget", "retain", "real authors", "world facts"]
USEFUL: Final[tuple[Part, ...]] = ("retain", "real authors", "world facts")
OPTIONS: Final[tuple[Part, ...]] = ("real authors", "world facts")  # the wrong answers are options beside the right one
MAX_NEW_TOKENS: Final = 200
REFUSED: Final = "the system refuses, so R is not defined"


@dataclass(frozen=True, slots=True)
class Qa:
    """The measures of one system on one part, in one scope.

    Attributes:
        part: Which rows.
        scope: How far a corruption reaches where answers are scored; greedy answers know no scope.
        probability: p of each row, or its share among the options.
        rouge: ROUGE-L recall of greedy answers.
        log_ratio: ln R.
        truth: max(0, 1 - R), 0 where the system refuses.
        refused: Ids of rows where it refuses.
    """

    part: Part
    scope: Scope
    probability: Measured
    rouge: Measured
    log_ratio: Measured
    truth: Measured
    refused: tuple[str, ...]

    @property
    def measures(self) -> tuple[Measured, ...]:
        return self.probability, self.rouge, self.log_ratio, self.truth

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values, to the bit."""
        return {
            "part": self.part,
            "scope": self.scope,
            "measures": [measured.to_record() for measured in self.measures],
            "refused": list(self.refused),
        }

    @classmethod
    def of_record(cls, told: Mapping[str, Any]) -> Qa:
        """What `to_record` wrote."""
        probability, rouge, log_ratio, truth = map(Measured.of_record, told["measures"])
        return cls(told["part"], told["scope"], probability, rouge, log_ratio, truth, tuple(told["refused"]))


def measure_rouge(
    system: System, rows: Sequence[QaRow], part: Part, *, max_new_tokens: int = MAX_NEW_TOKENS
) -> Measured:
    """ROUGE-L recall of greedy answers; the same for both scopes, so measured once.

    Args:
        system: Who answers.
        rows: Any number; rows without words in their answer are left out.
        part: Which they are.
        max_new_tokens: Of an answer.
    """
    said = system.answers([row.prompt for row in rows], max_new_tokens=max_new_tokens) if rows else []
    return rouge_of(rows, said, part)


def rouge_of(rows: Sequence[QaRow], said: Sequence[str], part: Part) -> Measured:
    """As `measure_rouge`, of answers that were given already, one for each row."""
    values = [rouge_l_recall(row.answer, text) for row, text in zip(rows, said, strict=True)]
    reasons = [None if value is not None else "its answer has no words" for value in values]
    return _measured(f"ROUGE-L recall of greedy answers, {part}", rows, [value or 0.0 for value in values], reasons)


def measure_qa(system: System, rows: Sequence[QaRow], part: Part, rouge: Measured, *, scope: Scope = "prompt") -> Qa:
    """Probability and truth ratio of each row.

    Args:
        system: Whose.
        rows: Any number; what a row lacks (an answer, wrong answers) leaves it out of that measure, and is told.
        part: Which they are.
        rouge: As `measure_rouge` gave it for these rows.
        scope: See the head of this file.
    """
    listed = [_scored_answers(row) for row in rows]
    flat = [(row.prompt, answer) for row, answers in zip(rows, listed, strict=True) for answer in answers]
    scores = system.log_probs([one[0] for one in flat], [one[1] for one in flat], scope=scope) if flat else []
    means = iter([float(np.mean(one)) if len(one) else np.nan for one in scores])
    own, right, wrong = [], [], []
    for answers in listed:
        found = [next(means) for _ in answers]
        own.append(found[0] if answers else np.nan)
        right.append(found[1] if answers else np.nan)
        wrong.append(np.array(found[2:]))
    refused = [bool(np.isneginf([o, r, *w]).any()) for o, r, w in zip(own, right, wrong, strict=True)]
    unanswered = [None if not np.isnan(one) else "it has no answer" for one in own]
    alone = [
        why or (None if len(values) and not np.isnan(values).any() else "it has no wrong answers")
        for why, values in zip(unanswered, wrong, strict=True)
    ]
    if part in OPTIONS:
        values = [
            0.0 if no or why else float(np.exp(o - logsumexp([o, *w])))
            for no, why, o, w in zip(refused, alone, own, wrong, strict=True)
        ]
        name = f"share of the right option, {part}, scope {scope}"
        probability = _measured(name, rows, values, alone)
    else:
        values = [0.0 if no or why else float(np.exp(o)) for no, why, o in zip(refused, unanswered, own, strict=True)]
        probability = _measured(f"probability of answers, {part}, scope {scope}", rows, values, unanswered)
    log_ratios = [
        0.0 if no or why else float(w.mean() - r) for no, why, r, w in zip(refused, alone, right, wrong, strict=True)
    ]
    undefined = [why or (REFUSED if no else None) for no, why in zip(refused, alone, strict=True)]
    truths = [
        0.0 if no else max(0.0, -float(np.expm1(min(ratio, 0.0))))
        for no, ratio in zip(refused, log_ratios, strict=True)
    ]
    return Qa(
        part,
        scope,
        probability,
        rouge,
        _measured(f"ln truth ratio, {part}, scope {scope}", rows, log_ratios, undefined),
        _measured(f"max(0, 1 - truth ratio), {part}, scope {scope}", rows, truths, alone),
        tuple(row.id for row, no in zip(rows, refused, strict=True) if no),
    )


def changed_rows(before: Qa, after: Qa) -> tuple[str, ...]:
    """Ids of rows with another number in any measure, to the bit, or that only one of the two has.

    Raises:
        InputError: The two are of different parts or scopes.
    """
    if (before.part, before.scope) != (after.part, after.scope):
        raise InputError(
            f"{before.part} in scope {before.scope} cannot be compared with {after.part} in scope {after.scope}."
        )
    changed: dict[str, None] = {}
    for one, other in zip(before.measures, after.measures, strict=True):
        mine, theirs = (dict(zip(each.ids, each.values.tolist(), strict=True)) for each in (one, other))
        changed |= {name: None for name in mine | theirs if mine.get(name) != theirs.get(name)}
    return tuple(changed)


def _scored_answers(row: QaRow) -> list[str]:
    """The answer, the right one of the truth ratio, the wrong ones; nothing where there is no answer."""
    return [row.answer, row.paraphrased_answer or row.answer, *row.wrong] if row.answer.strip() else []


def _measured(name: str, rows: Sequence[QaRow], values: Sequence[float], reasons: Sequence[str | None]) -> Measured:
    kept = [place for place, why in enumerate(reasons) if why is None]
    return Measured(
        name,
        tuple(rows[place].id for place in kept),
        tuple(rows[place].cluster for place in kept),
        np.array([values[place] for place in kept], dtype=np.float64),
        {row.id: why for row, why in zip(rows, reasons, strict=True) if why is not None},
    )
