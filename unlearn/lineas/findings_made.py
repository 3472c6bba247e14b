"""A fit of maps that has ended, with what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from audit.runs.schema import EstimateRecord

from .evaluate.tables import rises
from .files import Steering
from .findings_distances import ALL, HeldOutDistance, PlainDistance
from .maps import AffineMap


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What a map does to its site.

    Attributes:
        site: Name of the module.
        kind: Its class.
        neurons: How many.
        changed: Neurons in the support.
        largest_scale: Largest |w - 1|.
        largest_shift: Largest |b|.
        least_scale: Smallest w; below 0 the map reflects.
    """

    site: str
    kind: str
    neurons: int
    changed: int
    largest_scale: float
    largest_shift: float
    least_scale: float

    @classmethod
    def of(cls, site: str, kind: str, one: AffineMap) -> SiteFacts:
        return cls(
            site,
            kind,
            len(one),
            int(one.support().sum()),
            float((one.w - 1).abs().max()),
            float(one.b.abs().max()),
            float(one.w.min()),
        )

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Made:
    """A fit that has ended.

    Attributes:
        record: What happened in it: sites, sentences, settings, losses, memory.
        maps: Site -> map.
        steering: What is kept beside them.
        fitted: Distances of the sentences that were fitted on, by site and of all sites.
        held_out: Of held-out sentences; None where there are none.
        seconds: That the fit took, all attempts together.
    """

    record: Mapping[str, Any]
    maps: Mapping[str, AffineMap]
    steering: Steering
    fitted: Mapping[str, PlainDistance]
    held_out: Mapping[str, HeldOutDistance] | None
    seconds: float

    def site_facts(self) -> list[SiteFacts]:
        kinds = {one["name"]: one["class"] for one in self.record["sites"]}
        return [SiteFacts.of(site, kinds[site], one) for site, one in self.maps.items()]

    @property
    def n_neurons(self) -> int:
        return sum(len(one) for one in self.maps.values())

    @property
    def n_changed(self) -> int:
        return sum(int(one.support().sum()) for one in self.maps.values())

    def to_record(self) -> dict[str, Any]:
        """For the run's file, and for `lines`."""
        held_out = None
        if self.held_out is not None:
            held_out = {
                site: {
                    name: EstimateRecord.of(getattr(one, name)).model_dump() for name in ("before", "after", "removed")
                }
                for site, one in self.held_out.items()
            }
        return {
            **{key: value for key, value in self.record.items() if key not in ("losses", "sites", "loss_sites")},
            "model": self.steering.model,
            "maps": [one.to_record() for one in self.site_facts()],
            "neurons": self.n_neurons,
            "changed": self.n_changed,
            "distances": {site: asdict(one) for site, one in self.fitted.items()},
            "held_out_distances": held_out,
            "first_loss": self.record["losses"][0] if self.record["losses"] else None,
            "last_loss": self.record["losses"][-1] if self.record["losses"] else None,
            "seconds": self.seconds,
            "warnings": self.warnings(),
        }

    def warnings(self) -> list[str]:
        """What a user should know before these maps are used."""
        told = []
        whole = self.fitted[ALL]
        if whole.after >= whole.before:
            told.append(
                f"the maps do not bring the sentences nearer that they were fitted on: the distance was "
                f"{whole.before:.4g} and is {whole.after:.4g}."
            )
        elif self.held_out is not None and (self.held_out[ALL].removed.low or 0.0) <= 0:
            told.append("on held-out sentences, that the maps remove any of the distance is not shown.")
        if not self.n_changed:
            told.append("no neuron is changed: the maps do nothing. Give a smaller gamma, or more steps.")
        told += [
            f"from gamma {a:g} to {b:g} the share of neurons that are changed grows; the path is not settled. Give "
            "more steps."
            for a, b in rises({one["gamma"]: one["support"] for one in self.record["path"]})
        ]
        reflecting = [one.site for one in self.site_facts() if one.least_scale < 0]
        if reflecting:
            told.append(
                f"scales at {reflecting[0]} are below 0 ({len(reflecting):,} such sites in all): those maps reflect, "
                "and may have a low loss for the wrong reason. A floor of 0 keeps maps increasing."
            )
        if self.record["sentences"]["cut"]:
            told.append(
                f"{self.record['sentences']['cut']:,} sentences were longer than {self.record['max_tokens']:,} tokens "
                "and were cut."
            )
        return told
