"""All baselines that are maps, by name. Words before a prompt are in `unlearn.lineas.baselines.prompt`.

Left out, by name: LoReFT (arXiv:2404.03592), whose published package asks for an older transformers; ActAdd, which is
CAA from a single pair; and reinforcement learning against the classifier that also judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from audit.errors import InputError
from audit.text.safe import did_you_mean, quoted

from ..maps import AffineMap
from ..pooling import Pooling
from .aura import aura
from .caa import caa
from .gaussian import gaussian
from .iti import iti_c, iti_m
from .linear_act import linear_act, unclipped_linear_act
from .mean_shift import mean_shift
from .repe import repe

Fit = Callable[[Tensor, Tensor], AffineMap]
"""From pooled activations of source (n, D) and target (m, D) to the map of that site."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A method, and where and how it is used in its source.

    Attributes:
        title: In tables.
        fit: The map of one site.
        sites: Preset of `unlearn.lineas.sites`.
        pooling: How tokens become one vector.
        strength: At which the maps are applied.
        sequential: Each site is fitted on activations that the maps before it steer; otherwise all on the untouched.
        only_middle: Of the sites, in the order in which the network meets them, the middle one alone.
    """

    title: str
    fit: Fit
    sites: str = "norms"
    pooling: Pooling = Pooling("mean")  # noqa: RUF009  (frozen)
    strength: float = 1.0
    sequential: bool = False
    only_middle: bool = False


_LAST: Final = Pooling("last")
METHODS: Final[Mapping[str, Baseline]] = {
    "mean-act": Baseline("Mean-AcT", mean_shift),
    "mean-act-sequential": Baseline("Mean-AcT, sequential", mean_shift, sequential=True),
    "gaussian": Baseline("Gaussian", gaussian),
    "linear-act": Baseline("Linear-AcT, sequential", linear_act, sequential=True),
    "linear-act-at-once": Baseline("Linear-AcT, at once", linear_act),
    "unclipped": Baseline("unclipped least squares, sequential", unclipped_linear_act, sequential=True),
    "unclipped-at-once": Baseline("unclipped least squares, at once", unclipped_linear_act),
    "caa": Baseline("CAA, all layers", caa, "layers", _LAST),
    "caa-middle": Baseline("CAA, middle layer", caa, "layers", _LAST, only_middle=True),
    "iti-c": Baseline("ITI-c", iti_c, "o_proj", strength=0.5),
    "iti-m": Baseline("ITI-m", iti_m, "o_proj", strength=0.5),
    "repe": Baseline("RepE", repe, "layers", _LAST),
    "aura": Baseline("AurA", aura, "mlp_out", Pooling("max")),
}
"""Sites of Mean-AcT, Gaussian and Linear-AcT are those at which LinEAS is best, so that methods are compared at the
same modules. CAA and RepE read the last token, as their sources do."""


def baseline(name: str) -> Baseline:
    """A baseline by its name.

    Raises:
        InputError: There is none of that name.
    """
    if name not in METHODS:
        raise InputError(
            f"no steering baseline {quoted(name)}; expected one of {', '.join(METHODS)}.{did_you_mean(name, METHODS)}"
        )
    return METHODS[name]
