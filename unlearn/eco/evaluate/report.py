"""An evaluation as one result: its tables as plain rows, systems side by side, each number with its interval.

Systems go by the names that they are given under; "before" is the bare model and "gold" one that was never trained on
what is to be forgotten. The others are compared with both. Gold is for judging alone: nothing may be fitted to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeAlias

from audit.answers.choices import Accuracy, measure_choices
from audit.answers.qa import MAX_NEW_TOKENS, USEFUL, Part, Qa, changed_rows, measure_qa, measure_rouge
from audit.answers.quality import forget_quality
from audit.answers.rows import ChoiceRow, QaRow
from audit.answers.systems import Scope, System
from audit.answers.utility import model_utility, utility_difference
from audit.errors import InputError
from audit.forgetting.measured import Measured, difference
from audit.stats.estimate import Estimate, PValue

from .copyright import Continued, similarity_gap
from .latency import Delay
from .recall import FalsePositives, Recall

BEFORE: Final = "before"
GOLD: Final = "gold"
SCOPES: Final[tuple[Scope, ...]] = ("prompt", "prompt+answer")
Row: TypeAlias = dict[str, Any]


def evaluate_qa(
    systems: Mapping[str, System],
    rows: Mapping[Part, Sequence[QaRow]],
    *,
    scopes: Sequence[Scope] = SCOPES,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> dict[str, tuple[Qa, ...]]:
    """Each system on each part in each scope; greedy answers are written once.

    Args:
        systems: Name -> system, as in `Evaluation`.
        rows: Part -> its rows.
        scopes: One or both.
        max_new_tokens: Of an answer.
    """
    found = {}
    for name, system in systems.items():
        written = {part: measure_rouge(system, own, part, max_new_tokens=max_new_tokens) for part, own in rows.items()}
        found[name] = tuple(
            measure_qa(system, own, part, written[part], scope=scope) for scope in scopes for part, own in rows.items()
        )
    return found


def evaluate_choices(
    systems: Mapping[str, System], rows: Mapping[str, Sequence[ChoiceRow]]
) -> dict[str, tuple[Accuracy, ...]]:
    """Each system on each part of multiple-choice questions."""
    return {
        name: tuple(measure_choices(system, own, part) for part, own in rows.items())
        for name, system in systems.items()
    }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured of a guard; what was not is empty.

    Attributes:
        target: What is to be forgotten, in words.
        recall: By attack.
        false_positives: By source.
        qa: System -> its measures on each part in each scope.
        flagged: Part -> ids of its rows that the guard flags, for the rows that may change.
        choices: System -> its accuracies.
        continuations: System -> what it made of protected texts.
        latency: Delays.
        seed: Of every interval.
        level: Of every interval.
    """

    target: str
    recall: tuple[Recall, ...] = ()
    false_positives: tuple[FalsePositives, ...] = ()
    qa: Mapping[str, tuple[Qa, ...]] = field(default_factory=dict)
    flagged: Mapping[Part, tuple[str, ...]] = field(default_factory=dict)
    choices: Mapping[str, tuple[Accuracy, ...]] = field(default_factory=dict)
    continuations: Mapping[str, Continued] = field(default_factory=dict)
    latency: tuple[Delay, ...] = ()
    seed: int = 0
    level: float = 0.95

    def tables(self) -> dict[str, list[Row]]:
        """Name of each table -> its rows; values are texts, numbers, None, lists and records of estimates."""
        return {
            "recall": [_plain(asdict(one)) for one in self.recall],
            "false positives": [_plain(asdict(one)) for one in self.false_positives],
            "questions and answers": self._qa_rows(),
            "model utility": self._utility_rows(),
            "forget quality": self._quality_rows(),
            "changed rows": self._changed_rows(),
            "multiple choice": self._choice_rows(),
            "protected texts": self._text_rows(),
            "latency": [_plain(asdict(one)) for one in self.latency],
        }

    def to_record(self) -> Row:
        """For a run's file: the tables with what they hold of; infinities are the words "inf" and "-inf"."""
        return {"target": self.target, "seed": self.seed, "level": self.level, "tables": self.tables()}

    def _qa_rows(self) -> list[Row]:
        rows: list[Row] = []
        for part, scope in dict.fromkeys((one.part, one.scope) for own in self.qa.values() for one in own):
            own = {
                name: one
                for name, listed in self.qa.items()
                for one in listed
                if (one.part, one.scope) == (part, scope)
            }
            for place in range(4):
                measured = {name: one.measures[place] for name, one in own.items()}
                for row in self._compared(measured):
                    refused = len(own[row["system"]].refused)
                    rows.append({"part": part, "scope": scope, **row, "n_refused": refused})
        return rows

    def _utility_rows(self) -> list[Row]:
        rows: list[Row] = []
        for scope in SCOPES:
            own = {
                name: [one for one in listed if one.scope == scope and one.part in USEFUL]
                for name, listed in self.qa.items()
            }
            whole = {name: parts for name, parts in own.items() if len(parts) == len(USEFUL)}
            for name, parts in whole.items():
                row: Row = {"system": name, "scope": scope}
                row["estimate"] = _estimate(model_utility(parts, rng=self.seed, level=self.level))
                for other in (BEFORE, GOLD):
                    apart = None
                    if other in whole and other != name:
                        apart = utility_difference(parts, whole[other], rng=self.seed, level=self.level)
                    row[f"less {other}"] = _estimate(apart)
                rows.append(row)
        return rows

    def _quality_rows(self) -> list[Row]:
        gold = {one.scope: one for one in self.qa.get(GOLD, ()) if one.part == "forget"}
        rows: list[Row] = []
        for name, listed in self.qa.items():
            for one in listed:
                if name != GOLD and one.part == "forget" and one.scope in gold:
                    for tested in forget_quality(one, gold[one.scope], level=self.level):
                        rows.append({
                            "system": name, "scope": one.scope, "test": tested.name,
                            "distance": _estimate(tested.distance), "p_value": _p_value(tested.p_value),
                        })  # fmt: skip
        return rows

    def _changed_rows(self) -> list[Row]:
        """Rows with other numbers behind the guard than before it; those not flagged should be none."""
        before = {(one.part, one.scope): one for one in self.qa.get(BEFORE, ())}
        rows: list[Row] = []
        for one in self.qa.get("guard", ()):
            if (one.part, one.scope) in before and one.part in self.flagged:
                changed = changed_rows(before[one.part, one.scope], one)
                flagged = set(self.flagged[one.part])
                rows.append({
                    "part": one.part, "scope": one.scope, "flagged": list(self.flagged[one.part]),
                    "changed": list(changed), "changed, not flagged": [name for name in changed if name not in flagged],
                })  # fmt: skip
        return rows

    def _choice_rows(self) -> list[Row]:
        rows: list[Row] = []
        for part in dict.fromkeys(one.part for own in self.choices.values() for one in own):
            own = {name: one for name, listed in self.choices.items() for one in listed if one.part == part}
            for row in self._compared({name: one.measured for name, one in own.items()}):
                one = own[row["system"]]
                row["estimate"] = _estimate(one.estimate(rng=self.seed, level=self.level))
                rows.append({
                    "part": part, **row, "chance": one.chance, "n_unanswered": one.n_unanswered, "n_tied": one.n_tied,
                })  # fmt: skip
        return rows

    def _text_rows(self) -> list[Row]:
        own = self.continuations
        rows: list[Row] = []
        if not own:
            return rows
        for place in range(len(next(iter(own.values())).similar)):
            rows += self._compared({name: one.similar[place] for name, one in own.items()})
        for name, one in own.items():
            perplexity = one.perplexity(rng=self.seed, level=self.level)
            rows.append(
                {"measure": "perplexity of prompt and output", "system": name, "estimate": _estimate(perplexity)}
            )
        rows += self._compared({name: one.loss for name, one in own.items()})
        rows += self._compared({name: one.unique for name, one in own.items()})
        if GOLD in own:
            for name, one in own.items():
                if name != GOLD:
                    gap = similarity_gap(one, own[GOLD], rng=self.seed, level=self.level)
                    rows.append({"measure": "average similarity gap", "system": name, "estimate": _estimate(gap)})
        return rows

    def _compared(self, measured: Mapping[str, Measured]) -> list[Row]:
        """One row for each system: its mean, and less before and less gold, paired."""
        rows: list[Row] = []
        for name, one in measured.items():
            row: Row = {"measure": one.name, "system": name}
            row["estimate"] = _estimate(one.mean(rng=self.seed, level=self.level))
            for other in (BEFORE, GOLD):
                apart = None
                if other in measured and other != name:
                    apart = apart_from(one, measured[other], seed=self.seed, level=self.level)
                row[f"less {other}"] = _estimate(apart)
            rows.append(row)
        return rows


def apart_from(one: Measured, other: Measured, *, seed: int, level: float = 0.95) -> Estimate:
    """Paired difference of means, undefined where no row has both numbers; of equal rows it is 0 and says so."""
    if not set(one.ids) & set(other.ids):
        why = "no row has a number from both systems"
        return Estimate.undefined(method=f"{one.name}: paired difference", why=why, level=level)
    found = difference(one, other, rng=seed, level=level)
    same = one.ids == other.ids and one.values.tolist() == other.values.tolist()
    return replace(found, low=0.0, high=0.0, why="every row has the same number, to the bit") if same else found


def _estimate(estimate: Estimate | None) -> Row | None:
    return None if estimate is None else _plain(asdict(estimate))


def _p_value(p_value: PValue | None) -> Row | None:
    return None if p_value is None else _plain(asdict(p_value))


def _plain(value: Any) -> Any:
    """Tuples as lists and infinities as words, so that JSON holds it."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            raise InputError("a number of the evaluation is NaN; expected an undefined estimate that says why.")
        return "inf" if value > 0 else "-inf"
    return value
