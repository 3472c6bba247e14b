"""One vector for each text and site: activations over its tokens, padding left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from audit.errors import InputError

Kind = Literal["mean", "last", "max"]


@dataclass(frozen=True, slots=True)
class Pooling:
    """How tokens become one vector.

    An affine map of each neuron commutes with the mean and with a choice of token, so that pooling after the map is the
    map of the pooled; with the maximum it does only where w is positive.

    Attributes:
        kind: "mean" over tokens (LinEAS and Linear-AcT), "last" token, or the "max" of each neuron (AurA).
        skip_bos: Leave the beginning-of-sequence token out; Linear-AcT's code keeps it.
    """

    kind: Kind = "mean"
    skip_bos: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f'pooling is "{self.kind}"; expected one of {", ".join(get_args(Kind))}.')

    def __call__(self, z: Tensor, mask: Tensor) -> Tensor:
        """Activations (B, T, D), or (B T, D) text after text, to one vector each, (B, D) in float32.

        The mask (B, T) is true at tokens that count.

        Raises:
            InputError: The shapes do not belong together: the module sees other tokens than the model.
        """
        if z.dim() == 2 and len(z) == mask.numel():
            z = z.reshape(*mask.shape, -1)
        if z.dim() != 3 or z.shape[:2] != mask.shape:
            raise InputError(
                f"a site gives activations of shape {tuple(z.shape)} for {tuple(mask.shape)} tokens; expected "
                "(texts, tokens, neurons). Choose a module that sees whole texts, such as a norm or a layer."
            )
        here = mask.to(z.device)
        if self.kind == "last":
            places = torch.arange(z.shape[1], device=z.device)
            last = torch.where(here, places, -1).amax(dim=1)  # (B,)
            return z[torch.arange(len(z), device=z.device), last].float()
        if self.kind == "max":
            return z.float().masked_fill(~here[:, :, None], -torch.inf).amax(dim=1)
        weights = here.float()
        weights = weights / weights.sum(dim=1, keepdim=True)  # (B, T); a zero, never a NaN, at padding
        wide = torch.promote_types(z.dtype, torch.float32)
        return torch.einsum("bt,btd->bd", weights.to(wide), z.to(wide))
