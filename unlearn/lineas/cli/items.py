"""Tables of a run's items: sites, the neurons that are changed, and losses; figures are drawn of them."""

from __future__ import annotations

import pyarrow as pa

from ..findings_made import Made


def site_items(made: Made) -> pa.Table:
    """A row for each site of a map."""
    return pa.Table.from_pylist([one.to_record() for one in made.site_facts()])


def neuron_items(made: Made) -> pa.Table:
    """Scale and shift of each neuron that is changed."""
    columns: dict[str, list[object]] = {"site": [], "neuron": [], "scale": [], "shift": []}
    for site, one in made.maps.items():
        places = one.support().nonzero().flatten()
        columns["site"] += [site] * len(places)
        columns["neuron"] += places.tolist()
        columns["scale"] += one.w[places].tolist()
        columns["shift"] += one.b[places].tolist()
    kinds = (pa.string(), pa.int64(), pa.float64(), pa.float64())
    return pa.table({name: pa.array(values, kind) for (name, values), kind in zip(columns.items(), kinds, strict=True)})


def loss_items(made: Made) -> pa.Table:
    """The loss of each step's batch, before that step."""
    losses = made.record["losses"]
    return pa.table({"step": list(range(1, len(losses) + 1)), "loss": losses})
