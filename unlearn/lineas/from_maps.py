"""What a fit of maps says, from the maps themselves and what was kept beside them: by the run, and by a replay.

Counts of neurons, supports and the warnings follow from the maps. Distances of held-out sentences follow from those of
the sentences as they are and of each draw of the bootstrap, which are kept site by site; the activations that they were
taken of are not, since they are as large as a model's.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from audit.runs.records import plain, read_json
from audit.runs.replay import Derived, Replayed
from audit.runs.store import Run

from .files import load_maps
from .findings import AUDIT, make_section
from .findings_distances import DrawnDistances, PlainDistance
from .findings_made import Made

FIT_RECORD, RECORD, STEERING = "fit.json", "steer.json", "steering"
SITES, NEURONS, LOSSES, DRAWS = "steer-sites", "steer-neurons", "steer-losses", "steer-draws"
_NOT_KEPT: Final = "it rests on activations of every sentence, which are not kept"


# Tables of items


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


def draw_items(drawn: DrawnDistances) -> pa.Table:
    """Distances of held-out sentences; draw 0 is the sentences as they are."""
    rows = np.concatenate([drawn.values[None], drawn.draws])  # (draws + 1, 2, L + 1)
    return pa.table(
        {
            "site": [site for site in drawn.names for _ in rows],
            "draw": [number for _ in drawn.names for number in range(len(rows))],
            "before": rows[:, 0].T.ravel(),
            "after": rows[:, 1].T.ravel(),
        }
    )


# And back


def replay(run: Run) -> Replayed:
    """The section anew, from the maps, the draws of held-out distances, fit.json and steer.json.

    Raises:
        DataError: A file is missing or damaged.
    """
    gone = "restore it from a copy."
    record = read_json(run.folder / FIT_RECORD, missing=f"{run.folder} has no {FIT_RECORD}; {gone}")
    told = read_json(run.folder / RECORD, missing=f"{run.folder} has no {RECORD}; {gone}")
    if told["held_out_distances"] is not None and not run.items_path(DRAWS).exists():
        why = "this run did not keep the draws of its held-out distances; later ones do"
        return Replayed((), {AUDIT: why})
    maps, steering = load_maps(run.folder / STEERING)
    held_out = None
    if told["held_out_distances"] is not None:
        sizes = record["sentences"]
        drawn = _drawn(run.read_items(DRAWS).to_pandas(), sizes["held-out source"], sizes["held-out target"])
        held_out = drawn.estimates()
    fitted = {site: PlainDistance(**one) for site, one in told["distances"].items()}
    seconds = next(one.seconds for one in run.record.stages if one.name == "fit")
    made = Made(record, maps, steering, fitted, held_out, seconds)
    again = plain(made.to_record(), RECORD)
    derived = [Derived.record(f"{RECORD}/{name}", told[name], again[name]) for name in again]
    for name, table in ((SITES, site_items), (NEURONS, neuron_items), (LOSSES, loss_items)):
        if name != LOSSES or record["losses"]:
            stored, other = run.read_items(name).to_pandas(), table(made).to_pandas()
            derived += [Derived.column(name, column, stored, other) for column in stored.columns]
    return Replayed((make_section(made),), {f"{AUDIT}:distances": _NOT_KEPT}, tuple(derived))


def _drawn(table: pd.DataFrame, n: int, m: int) -> DrawnDistances:
    names = tuple(dict.fromkeys(table["site"]))
    rows = np.stack([table[side].to_numpy(dtype=float).reshape(len(names), -1).T for side in ("before", "after")], 1)
    return DrawnDistances(names, rows[0], rows[1:], n, m)
