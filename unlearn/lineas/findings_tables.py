"""The tables of a fit, for its section of the report."""

from __future__ import annotations

from audit.runs.schema import Cell, Column, EstimateRecord, Table

from .findings_made import Made

_LOSSES = 40  # that are shown; all stand in the items


def site_table(made: Made) -> Table:
    return Table(
        name="sites",
        title="The maps",
        note="A neuron is changed where |scale - 1| or |shift| is above 0.00001. Counts are of these very maps.",
        columns=(
            Column(key="site", label="Site"),
            Column(key="kind", label="Class"),
            Column(key="neurons", label="Neurons"),
            Column(key="changed", label="Changed"),
            Column(key="largest_scale", label="Largest |scale - 1|"),
            Column(key="largest_shift", label="Largest |shift|", help="in units of the site's activations"),
            Column(key="least_scale", label="Smallest scale", help="below 0 the map reflects"),
        ),
        rows=tuple(one.to_record() for one in made.site_facts()),
    )


def distance_table(made: Made) -> Table:
    """Of the sentences that were fitted on."""
    return Table(
        name="distances",
        title="Distances of the sentences that were fitted on",
        note="Squared Wasserstein distance, neurons reduced as the loss does. With maps it is a training loss, and has "
        "no interval.",
        columns=(
            Column(key="site", label="Site"),
            Column(key="before", label="Without maps"),
            Column(key="after", label="With maps"),
            Column(key="left", label="Share left"),
        ),
        rows=tuple(
            {
                "site": site,
                "before": one.before,
                "after": one.after,
                "left": one.after / one.before if one.before > 0 else None,
            }
            for site, one in made.fitted.items()
        ),
    )


def held_out_table(made: Made) -> Table:
    assert made.held_out is not None
    return Table(
        name="held-out-distances",
        title="Distances of held-out sentences",
        note="Corrected for what sampling alone adds, so that 0 stands for one distribution.",
        columns=(
            Column(key="site", label="Site"),
            Column(key="before", label="Without maps"),
            Column(key="after", label="With maps"),
            Column(key="removed", label="Removed", help="the same sentences with and without maps"),
        ),
        rows=tuple(
            {
                "site": site,
                "before": EstimateRecord.of(one.before),
                "after": EstimateRecord.of(one.after),
                "removed": EstimateRecord.of(one.removed),
            }
            for site, one in made.held_out.items()
        ),
    )


def loss_table(made: Made) -> Table:
    losses = made.record["losses"]
    looks = {int(step): value for step, value in made.record["held_out"]}
    every = max(1, -(-len(losses) // _LOSSES))
    steps = sorted({1, len(losses), *range(every, len(losses) + 1, every), *looks})
    rows: list[dict[str, Cell]] = [
        {"step": step, "loss": losses[step - 1], "held_out": looks.get(step)} for step in steps
    ]
    note = "The loss of a step is that of its batch, before the step; of held-out sentences it is that after it."
    if made.record["held_out_untouched"] is not None:
        note += f" Without maps that of held-out sentences is {made.record['held_out_untouched']:.4g}."
    note += f" The maps are those after step {made.record['step']:,}."
    if made.record["path"]:
        note += " This is the chosen fit of the path, which began where the one before it had ended."
    return Table(
        name="losses",
        title="The fit, step by step",
        note=note,
        columns=(
            Column(key="step", label="Step"),
            Column(key="loss", label="Loss of the batch"),
            Column(key="held_out", label="Loss of held-out sentences"),
        ),
        rows=tuple(rows),
    )


def path_table(made: Made) -> Table:
    chosen = made.record["settings"]["gamma"]
    return Table(
        name="path",
        title="The path of gammas",
        note="Each fit begins where the one before ended. Chosen is the sparsest whose held-out loss has gone back by "
        f"no more than a tenth of the way from the best of the path to the model without maps "
        f"({made.record['held_out_untouched']:.4g}).",
        columns=(
            Column(key="gamma", label="Gamma"),
            Column(key="support", label="Share of neurons changed"),
            Column(key="untouched_sites", label="Sites without a change"),
            Column(key="held_out", label="Loss of held-out sentences"),
            Column(key="step", label="Steps taken"),
            Column(key="chosen", label="Chosen"),
        ),
        rows=tuple({**one, "chosen": one["gamma"] == chosen} for one in made.record["path"]),
    )


def sentence_table(made: Made) -> Table:
    told = made.record["sentences"]
    return Table(
        name="sentences",
        title="Sentences",
        columns=(
            Column(key="side", label="Side"),
            Column(key="fitted", label="Fitted on"),
            Column(key="held_out", label="Held out"),
        ),
        rows=tuple(
            {"side": side, "fitted": told[side], "held_out": told[f"held-out {side}"]} for side in ("source", "target")
        ),
    )


def tables(made: Made) -> tuple[Table, ...]:
    """All that there are."""
    found = [site_table(made), distance_table(made)]
    if made.held_out is not None:
        found.append(held_out_table(made))
    if made.record["path"]:
        found.append(path_table(made))
    if made.record["losses"]:
        found.append(loss_table(made))
    return (*found, sentence_table(made))
