"""Two sets of pooled activations, looked at before anything is fitted to them."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.errors import InputError

LEAST = 2  # sentences of a set, below which nothing has a spread


def samples(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 on the CPU, where every baseline is computed.

    Args:
        source: Pooled activations of what is unwanted, (n, D).
        target: Of what is wanted, (m, D).

    Raises:
        InputError: Shapes do not fit, a set has fewer than `LEAST` sentences, holds numbers that are not finite, or
            gives the same activations for all its sentences.
    """
    if source.dim() != 2 or target.dim() != 2 or source.shape[1] != target.shape[1]:
        raise InputError(
            f"source and target activations have shapes {tuple(source.shape)} and {tuple(target.shape)}; expected "
            "(n, D) and (m, D)."
        )
    for name, one in (("source", source), ("target", target)):
        if len(one) < LEAST:
            raise InputError(
                f"there is {len(one)} {name} sentence; expected {LEAST} or more, because of fewer no spread is known. "
                "Give more sentences."
            )
        broken = int((~torch.isfinite(one)).any(dim=0).sum())
        if broken:
            raise InputError(
                f"{name} activations of {broken:,} of {one.shape[1]:,} neurons are not finite; load the model in "
                "float32 or bfloat16."
            )
        if bool((one == one[0]).all()):
            raise InputError(
                f"all {len(one):,} {name} sentences give the same activations; give sentences that differ."
            )
    return source.detach().to("cpu", torch.float64), target.detach().to("cpu", torch.float64)
