"""The tables of an evaluation, for its section of the report."""

from __future__ import annotations

from audit.runs.schema import Column, EstimateRecord, Table

from .evaluated import BOTH, Choices, Evaluated, Truthful
from .sweep_tables import perplexity_table, rate_table

_ENDS = (
    Column(key="before", label="Unsteered"),
    Column(key="after", label="Steered"),
    Column(key="change", label="Difference", help="paired by question"),
    Column(key="chance", label="By chance", help="all answers equally likely"),
)


def truth_table(one: Truthful) -> Table:
    return Table(
        name="truthfulqa",
        title="TruthfulQA",
        note="Each question is measured with maps that were fitted on the other half. Share of neurons changed in the "
        f"two halves' maps: {one.support[0]:.3g} and {one.support[1]:.3g}.",
        columns=(
            Column(key="measure", label="Measure"),
            Column(key="halves", label="Questions of"),
            Column(key="strength", label="Strength"),
            *_ENDS,
        ),
        rows=tuple(
            {
                "measure": name.upper(),
                "halves": halves,
                "strength": strength,
                **{
                    part: EstimateRecord.of(getattr(change, f"{name}_{part}")) for part in ("before", "after", "change")
                },
                "chance": by_chance if halves == BOTH else None,
            }
            for halves, strength, change in one.rows
            for name, by_chance in zip(("mc1", "mc2"), one.chance, strict=True)
        ),
    )


def choice_table(one: Choices) -> Table:
    return Table(
        name="choices",
        title="Multiple choice",
        note="Share of right choices; where options tie for the highest, their share of one.",
        columns=(Column(key="how", label="Choice"), Column(key="strength", label="Strength"), *_ENDS),
        rows=tuple(
            {
                "how": row.how,
                "strength": row.strength,
                "before": EstimateRecord.of(row.before),
                "after": EstimateRecord.of(row.after),
                "change": EstimateRecord.of(row.change),
                "chance": one.chance,
            }
            for row in one.rows
        ),
    )


def evaluation_tables(made: Evaluated) -> tuple[Table, ...]:
    """All that there are."""
    found = []
    if made.truthful is not None:
        found.append(truth_table(made.truthful))
    if made.choices is not None:
        found.append(choice_table(made.choices))
    if made.concept is not None:
        found.append(rate_table(made.concept).model_copy(update={"title": "How often continuations show a concept"}))
        found.append(perplexity_table(made.concept))
    return tuple(found)
