"""One way to steer, so that all are measured alike: maps behind modules, or words before a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .maps import AffineMap


@dataclass(frozen=True, slots=True)
class Arm:
    """A method's product.

    Attributes:
        name: In tables: "LinEAS", "Linear-AcT, sequential", "unsteered".
        maps: Site -> map; empty for a prompt and for the model as it is.
        instruction: Words put before each prompt; the perplexity of other text is taken without them.
    """

    name: str
    maps: Mapping[str, AffineMap] = field(default_factory=dict)
    instruction: str = ""


UNSTEERED = Arm("unsteered")
