"""The likelihood of questions before and after post-training, as a part of the extraction audit.

Which questions are asked, and what is said of `audit.extraction.shift_statistics.LikelihoodShift`. It is a second look
beside the verdict, never a verdict of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DataError
from ..runs.schema import Cell, Column, EstimateRecord, Finding, PValueRecord, Table
from ..text.numbers import p_number
from ..text.safe import counted
from .config import MatchPlan
from .dealing import Dealing
from .findings import AUDIT
from .rows import Rows
from .shift_statistics import Floats, LikelihoodShift, likelihood_shift

if TYPE_CHECKING:
    from ..lm.load import LanguageModel, Tokens
    from .likelihood import Prompts
    from .prefixes import Prefix

_LEAST = 10  # questions of each half
_MOST_ROWS = 20
HOW = (
    "The logarithm of a question's probability after the opening of the chat, under the model less under its base, in "
    "nats: what post-training did to it. Training on any chats raises all questions, so only the difference between "
    "trained and held-out ones speaks of memory. A difference above 0 says that the questions were learnt; it does not "
    "say that they are given back, and its size depends on their length."
)


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions that both models are asked.

    Attributes:
        texts: As they stand in the rows.
        prompts: Their tokens; None where they were asked before.
        trained: Whether each was trained on, shape (n,).
        clusters: What was dealt as one, a label for each.
        left_out: Reason -> questions.
    """

    texts: tuple[str, ...]
    prompts: Prompts | None
    trained: NDArray[np.bool_]
    clusters: tuple[Hashable, ...]
    left_out: Mapping[str, int]


def questions(
    lm: LanguageModel | Tokens,
    prefix: Prefix,
    trained: Rows,
    held_out: Rows,
    dealing: Dealing,
    *,
    plan: MatchPlan,
    most: int,
) -> Questions:
    """Questions of both halves that can be asked.

    Where the halves can be tested, the rows of that test in the view of questions (`Dealing.tested_in`), whole units
    drawn at random where there are too many, so that the p-value holds for the dealing that was made. Else those that
    are no canary and have no near-duplicate in the other half, and no p-value is told.

    Args:
        lm: The post-trained model's tokenizer.
        prefix: What opens the chat.
        trained: Rows that were trained on.
        held_out: Rows that were not.
        dealing: What the rows say of their division.
        plan: The seed.
        most: Questions of each half at most, >= 1; a single larger unit is asked whole.

    Raises:
        DataError: Fewer than ten of a half are left.
    """
    from .likelihood import cut, unfit  # with a tokenizer, which nothing else here needs

    n_trained = len(trained)
    asked = [*trained.questions, *held_out.questions]
    first_half, second_half = dealing.tested_in(asked)
    dealt = np.zeros(len(asked), dtype=bool)
    dealt[first_half], dealt[n_trained + second_half] = True, True
    if dealing.why_not:
        dealt = ~np.isin(dealing.near, np.intersect1d(dealing.near[:n_trained], dealing.near[n_trained:]))
    left_out: Counter[str] = Counter()
    places: list[int] = []
    for number, (rows, first) in enumerate(((trained, 0), (held_out, n_trained))):
        reasons = unfit(lm, prefix, rows.questions)
        for place, told in enumerate(rows.repetitions):
            if told is not None:
                reasons[place] = "canary"
            elif not dealt[first + place]:
                reasons[place] = "near-duplicates, or not dealt"
        left_out.update(reason for reason in reasons if reason is not None)
        usable = np.array([first + place for place, reason in enumerate(reasons) if reason is None], dtype=np.int64)
        if len(usable) < _LEAST:
            told_reasons = "; ".join(f"{reason}: {n:,}" for reason, n in left_out.items()) or "there are no more rows"
            raise DataError(
                f"{rows.source}: {counted(len(usable), 'question')} can be asked; the likelihood needs {_LEAST} of "
                f"each half ({told_reasons}). Give more rows, or leave the likelihood out: likelihood_questions = 0."
            )
        drawn = _drawn(usable, dealing.units[usable], most, np.random.default_rng([plan.seed, number]))
        if len(drawn) < len(usable):
            left_out["not drawn"] += len(usable) - len(drawn)
        places += drawn.tolist()
    ids = [*trained.ids, *held_out.ids]
    labels: list[Hashable] = [(place < n_trained, int(dealing.units[place])) for place in places]
    # Ids of the two files may be the same.
    names = [f"{'trained' if place < n_trained else 'held-out'} {ids[place]}" for place in places]
    chosen = tuple(asked[place] for place in places)
    prompts = cut(lm, prefix, chosen, names)
    return Questions(chosen, prompts, np.array(places) < n_trained, tuple(labels), dict(left_out))


def _drawn(
    places: NDArray[np.int64], units: NDArray[np.int64], most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Whole units in a random order, as many as hold at most ``most`` places, and one in any case; ascending."""
    if len(places) <= most:
        return places
    names, codes = np.unique(units, return_inverse=True)
    order = rng.permutation(len(names))
    n = int(np.searchsorted(np.bincount(codes)[order].cumsum(), most, side="right"))
    return places[np.isin(codes, order[: max(1, n)])]


def question_table(asked: Questions) -> pa.Table:
    """Which half each question is of, and what was dealt as one: one row for each, without its text."""
    halves, units = zip(*asked.clusters, strict=True)  # as `questions` made them
    return pa.table({"trained": list(halves), "unit": list(units)})


def shift_of(base: Floats, post: Floats, asked: Questions, *, plan: MatchPlan) -> LikelihoodShift:
    """`likelihood_shift` of the questions that were asked."""
    return likelihood_shift(base, post, asked.trained, asked.clusters, seed=plan.seed, level=plan.level)


def shift_finding(shift: LikelihoodShift, asked: Questions, *, at_random: bool) -> Finding:
    """What is said of it; the p-value stands only where the halves were divided at random."""
    moved = {"trained": shift.trained, "held-out": shift.held_out}
    means = " and ".join(
        f"{'an undefined number' if one.value is None else f'{one.value:+.2f}'} for {name} questions"
        for name, one in moved.items()
    )
    chance = f" (p = {p_number(shift.p_value.value)})" if at_random else ""
    left = "; ".join(f"{reason}: {n:,}" for reason, n in asked.left_out.items())
    return Finding(
        id="extraction.likelihood",
        audit=AUDIT,
        claim=(
            f"Post-training changed the mean log-likelihood, in nats, by {means}{chance}."
            f"{f' Left out: {left}.' if left else ''}"
        ),
        verdict="information",
        estimates={
            "difference": EstimateRecord.of(shift.difference),
            "median_difference": EstimateRecord.of(shift.median_difference),
            "trained": EstimateRecord.of(shift.trained),
            "held_out": EstimateRecord.of(shift.held_out),
        },
        p_values={"re_dealing": PValueRecord.of(shift.p_value)} if at_random else {},
        items="items/extraction-likelihood-subject.parquet",
        how_to_read=HOW,
    )


def shift_table(shift: LikelihoodShift) -> Table:
    """How many questions are at least so likely, before and after, at powers of ten."""
    halves = {"Trained": shift.trained_curve, "Held out": shift.held_out_curve}
    columns = {f"{name}, {when}": counts for name, one in halves.items()
               for when, counts in (("base model", one.base), ("model", one.post))}  # fmt: skip
    reached = [at for at in range(len(shift.trained_curve.log10)) if any(counts[at] for counts in columns.values())]
    shown = reached[:: max(1, len(reached) // _MOST_ROWS)]
    rows: list[dict[str, Cell]] = [
        {"power": f"1e{shift.trained_curve.log10[at]:.0f}", **{name: counts[at] for name, counts in columns.items()}}
        for at in shown
    ]
    return Table(
        name="likelihood",
        title="Questions at least so likely, before and after post-training",
        note=(
            f"Counts of {shift.trained_curve.n:,} trained and {shift.held_out_curve.n:,} held-out questions. One of "
            "probability q is expected once in 1/q generations from the opening of the chat."
        ),
        columns=(
            Column(key="power", label="Probability at least"),
            *(Column(key=name, label=name) for name in columns),
        ),
        rows=tuple(rows),
    )
