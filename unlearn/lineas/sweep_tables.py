"""The tables of a sweep, for its section of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from audit.runs.schema import Cell, Column, EstimateRecord, Table
from audit.stats.estimate import Estimate

from .evaluate.perplexity import KINDS
from .evaluate.sweep import SweepRow
from .sweep_made import ArmFacts, Swept

Row = dict[str, Cell]


def arm_table(made: Swept) -> Table:
    return Table(
        name="arms",
        title="What was measured",
        note="The support is counted on all neurons of these maps. Maps that were fitted on other sentences, or on "
        "fewer, are no fair comparison of methods.",
        columns=(
            Column(key="name", label="Arm"),
            Column(key="method", label="Method"),
            Column(key="sites", label="Sites"),
            Column(key="support", label="Share of neurons changed"),
            Column(key="gamma", label="Gamma", help="weight of the sparse group lasso"),
            Column(key="sentences", label="Source sentences"),
            Column(key="same", label="Fitted on the given sentences", help="source and target of this sweep"),
        ),
        rows=tuple(
            {
                "name": one.name, "method": one.method, "sites": one.n_sites, "support": one.support,
                "gamma": one.gamma, "sentences": one.n_sentences,
                "same": _same(one),
            }
            for one in made.arms
        ),
    )  # fmt: skip


def judge_table(made: Swept) -> Table:
    """How well the judges know validation texts; a classifier of a folder has none here."""
    rows: list[Row] = []
    for one in made.judges:
        quality: Mapping[str, Any] = one.get("quality") or {}
        rows.append(
            {"name": one["name"], "role": "chose" if one["name"] == made.ours.judge else "reports"}
            | {part: _record(quality[part]) if quality else "not measured" for part in _QUALITY}
            | {"train": one.get("n_train"), "validation": one.get("n_validation")}
        )
    return Table(
        name="judges",
        title="The judges",
        note="Trained on the labelled texts; all numbers are of validation texts, on which the threshold was fixed.",
        columns=(
            Column(key="name", label="Judge"),
            Column(key="role", label="Role"),
            *(Column(key=part, label=label) for part, label in _QUALITY.items()),
            Column(key="train", label="Texts trained on"),
            Column(key="validation", label="Validation texts"),
        ),
        rows=tuple(rows),
    )


_QUALITY = {"auroc": "AUROC", "f1": "F1", "sensitivity": "Sensitivity", "specificity": "Specificity"}


def rate_table(made: Swept) -> Table:
    """Rates of each arm at each strength, by every judge that reports."""
    rows = []
    for place in _steered(made):
        point = made.points[place]
        row: Row = {"arm": point.arm, "strength": point.strength, "note": _note(made, place)}
        for judge, listed in made.rows.items():
            row |= {f"rate {judge}": EstimateRecord.of(listed[place].rate.rate)}
            row |= {f"change {judge}": _change(listed[place])}
            row |= {"empty": listed[place].rate.n_empty}
        rows.append(row)
    return Table(
        name="rates",
        title=f"How often continuations show what is {_counted(made)}",
        note="Of continuations that are not empty. A change is paired with the model as it is, prompt by prompt.",
        columns=(
            Column(key="arm", label="Arm"),
            Column(key="strength", label="Strength"),
            Column(key="note", label="Note"),
            *(
                Column(key=f"{name} {judge}", label=f"{label}, {judge}")
                for judge in made.rows
                for name, label in (("rate", "Rate"), ("change", "Change"))
            ),
            Column(key="empty", label="Empty"),
        ),
        rows=tuple(rows),
    )


def perplexity_table(made: Swept) -> Table:
    rows = []
    shown = next(iter(made.rows.values()))
    for place in _steered(made):
        row = shown[place]
        for name in made.texts:
            cells: Row = {"arm": row.arm, "strength": row.strength, "texts": name}
            for kind in KINDS:
                cells |= {
                    kind: EstimateRecord.of(row.perplexity[name][kind]),
                    f"{kind}, change": EstimateRecord.of(row.perplexity_change[name][kind]) if place else None,
                }
            rows.append(cells)
    return Table(
        name="perplexities",
        title="What steering costs",
        note="Perplexity of texts while the maps act; changes in percent of the model as it is. Per sentence is the "
        "mean of the sentences' own perplexities, of their first 50 tokens at most. Words before a prompt are left "
        "out, so that their cost is not measured.",
        columns=(
            Column(key="arm", label="Arm"),
            Column(key="strength", label="Strength"),
            Column(key="texts", label="Texts"),
            *(
                column
                for kind in KINDS
                for column in (
                    Column(key=kind, label=f"Perplexity {kind}"),
                    Column(key=f"{kind}, change", label="Change in percent"),
                )
            ),
        ),
        rows=tuple(rows),
    )


def size_table(made: Swept) -> Table:
    """Our method from several numbers of sentences, where steerings of several were given."""
    sizes = made.sizes()
    first = next(iter(sizes.values()))
    rows: list[Row] = []
    for place, size in enumerate(first):
        row: Row = {"n": size.n, "fits": size.n_fits}
        row |= {f"rate {judge}": EstimateRecord.of(listed[place].rate) for judge, listed in sizes.items()}
        row |= {f"change {name}": EstimateRecord.of(one) for name, one in size.perplexity_change.items()}
        rows.append(row)
    return Table(
        name="sizes",
        title=f"{made.arms[0].method} at strength {made.ours.strength:g} by the number of sentences",
        note="Means over the steerings that were given with that many source sentences; intervals are Student's "
        "between these fits, and one fit has none.",
        columns=(
            Column(key="n", label="Source sentences"),
            Column(key="fits", label="Fits"),
            *(Column(key=f"rate {judge}", label=f"Rate, {judge}") for judge in sizes),
            *(
                Column(key=f"change {name}", label=f"Change of perplexity in percent, {name} texts")
                for name in made.texts
            ),
        ),
        rows=tuple(rows),
    )


def matched_table(made: Swept) -> Table:
    good = "above" if made.goal == "raise" else "below"
    return Table(
        name="matched",
        title=f"{made.ours.arm} at strength {made.ours.strength:g} against the others at the same perplexity",
        note="The other arm's rate is interpolated between the two measured strengths around our perplexity, never "
        f"beyond what was measured. {made.ours.arm} is better where the whole interval of the difference lies {good} "
        "0. Intervals are of single comparisons.",
        columns=(
            Column(key="baseline", label="Other arm"),
            Column(key="judge", label="Judge"),
            Column(key="texts", label="Texts of the perplexity"),
            Column(key="perplexity", label="Perplexity"),
            Column(key="strength", label="Its strength there"),
            Column(key="ours", label="Our rate"),
            Column(key="theirs", label="Its rate there"),
            Column(key="difference", label="Difference"),
            Column(key="outcome", label="Ours is"),
        ),
        rows=tuple(
            {
                "baseline": one.matched.baseline, "judge": one.judge, "texts": one.texts,
                "perplexity": one.matched.perplexity, "strength": one.matched.baseline_strength,
                "ours": EstimateRecord.of(one.matched.our_rate),
                "theirs": EstimateRecord.of(one.matched.baseline_rate),
                "difference": EstimateRecord.of(one.matched.difference), "outcome": one.outcome,
            }
            for one in made.compared
        ),
    )  # fmt: skip


def choice_table(made: Swept) -> Table:
    return Table(
        name="choice",
        title="How our strength was chosen",
        note=f"{made.ours.rule[0].upper()}{made.ours.rule[1:]}; of equal ones the smaller strength. None of these "
        "prompts is reported.",
        columns=(
            Column(key="strength", label="Strength"),
            Column(key="rate", label=f"Rate, {made.ours.judge}"),
            Column(key="change", label="Change of neutral perplexity in percent"),
            Column(key="chosen", label="Chosen"),
        ),
        rows=tuple(
            {
                "strength": row.strength,
                "rate": EstimateRecord.of(row.rate.rate),
                "change": EstimateRecord.of(row.perplexity_change["neutral"]["per token"]),
                "chosen": row.strength == made.ours.strength,
            }
            for row in made.choice
        ),
    )


def sweep_tables(made: Swept) -> tuple[Table, ...]:
    """All that there are."""
    found = [arm_table(made), judge_table(made)]
    if made.choice:
        found.append(choice_table(made))
    found += [rate_table(made), perplexity_table(made)]
    if made.sizes():
        found.append(size_table(made))
    if made.compared:
        found.append(matched_table(made))
    return tuple(found)


def _steered(made: Swept) -> list[int]:
    """Places of the points but those at strength 0, which are the unsteered model's; that is the first."""
    return [place for place, point in enumerate(made.points) if place == 0 or point.strength != 0]


def _same(one: ArmFacts) -> str:
    if not one.n_sites:
        return "nothing is fitted"
    return "not known" if one.same_sentences is None else "yes" if one.same_sentences else "no"


def _counted(made: Swept) -> str:
    return "wanted" if made.goal == "raise" else "unwanted"


def _change(row: SweepRow) -> EstimateRecord | None:
    """None of the unsteered model, and at strength 0, which is the same."""
    return None if row.strength == 0 else EstimateRecord.of(row.rate_change)


def _note(made: Swept, place: int) -> str:
    point = made.points[place]
    told: Sequence[str] = [
        words
        for words, holds in (
            ("compared", place == made.our_place),
            ("outside the paper's strengths", point.outside_paper),
            ("no strength", point.instructed),
        )
        if holds
    ]
    return ", ".join(told)


def _record(one: Any) -> EstimateRecord:
    return EstimateRecord.of(one) if isinstance(one, Estimate) else EstimateRecord(**one)
