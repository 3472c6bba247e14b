"""The sites of a fit, listed; nothing is written."""

from __future__ import annotations

import json

from audit.lm.load import load
from audit.lm.subject import Subject
from audit.text.safe import counted, for_terminal

from ..sites import Site
from .fit_table import LINEAS
from .methods import find_places, method_of


def list_sites(
    subject: Subject, *, method: str | None, sites: str | None, loss_sites: str | None, as_json: bool
) -> None:
    """Print name, class and neurons of each site, and how many there are in all.

    Raises:
        InputError: As `method_of` and `find_places`.
        As `audit.lm.load.load`.
    """
    chosen = method_of(method or LINEAS)
    places = find_places(load(subject), chosen, sites, loss_sites)
    if as_json:
        print(json.dumps(places.to_record()))
        return
    print(for_terminal(f"maps of {chosen.title} at {places.pattern}:"))
    _tell(places.sites)
    if loss_sites is not None:
        print(for_terminal(f"distances at {loss_sites}:"))
        _tell(places.loss_sites)


def _tell(sites: tuple[Site, ...]) -> None:
    longest = max(len(one.name) for one in sites)
    for one in sites:
        print(for_terminal(f"  {one.name:<{longest}}  {one.kind}  {one.width:,}"))
    total = sum(one.width for one in sites)
    print(f"{counted(len(sites), 'site')}, {counted(total, 'neuron')}")
