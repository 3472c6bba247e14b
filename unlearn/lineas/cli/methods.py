"""The method that a plan names, and where it stands: LinEAS, or a baseline of `unlearn.lineas.baselines`."""

from __future__ import annotations

from dataclasses import dataclass

from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.text.safe import did_you_mean, quoted

from ..baselines.at_sites import sites_of
from ..baselines.methods import METHODS, Baseline
from ..pooling import Pooling
from ..sites import Site, find_sites, pattern_of
from .fit_table import LINEAS


@dataclass(frozen=True, slots=True)
class Method:
    """A way to find maps.

    Attributes:
        title: In tables.
        sites: Preset that it stands at unless others are asked for.
        pooling: Likewise.
        strength: At which its source applies the maps.
        baseline: How it is fitted; None is LinEAS.
    """

    title: str
    sites: str = "norms"
    pooling: Pooling = Pooling("mean")  # noqa: RUF009  (frozen)
    strength: float = 1.0
    baseline: Baseline | None = None


def method_of(name: str) -> Method:
    """A method by its name.

    Raises:
        InputError: There is none of that name.
    """
    if name == LINEAS:
        return Method("LinEAS")
    if name not in METHODS:
        known = [LINEAS, *METHODS]
        raise InputError(
            f"no steering method {quoted(name)}; expected one of {', '.join(known)}.{did_you_mean(name, known)}"
        )
    one = METHODS[name]
    return Method(one.title, one.sites, one.pooling, one.strength, one)


@dataclass(frozen=True, slots=True)
class Places:
    """Where maps stand and where distances are taken.

    Attributes:
        pattern: Regular expression of the map sites.
        sites: Map sites, in the model's order.
        loss_sites: Where distances are taken.
    """

    pattern: str
    sites: tuple[Site, ...]
    loss_sites: tuple[Site, ...]

    def to_record(self) -> dict[str, object]:
        return {
            "pattern": self.pattern,
            "sites": [_site_record(one) for one in self.sites],
            "loss_sites": [_site_record(one) for one in self.loss_sites],
        }


def find_places(lm: LanguageModel, method: Method, sites: str | None, loss_sites: str | None) -> Places:
    """The sites of a method in a model.

    Raises:
        InputError: No module matches; the nearest are named.
    """
    asked = sites or method.sites
    found = tuple(find_sites(lm, asked))
    if method.baseline is not None and method.baseline.only_middle:
        names = sites_of(lm, method.baseline, asked)
        found = tuple(one for one in found if one.name in names)
    return Places(pattern_of(lm, asked), found, found if loss_sites is None else tuple(find_sites(lm, loss_sites)))


def _site_record(site: Site) -> dict[str, object]:
    return {"name": site.name, "class": site.kind, "neurons": site.width}
