"""The baseline inside the model that is trained from it: a copy of the trained weights alone, put back for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import nn


def initial(model: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Copies the weights that ask for a gradient, as they are now.

    Args:
        model: Before it is trained; what asks for no gradient never changes and is not copied.

    Returns:
        A context in which the model has those weights again; the trained ones are back after it, also after an error.
        No gradient may be asked for inside. The copy lies on the model's device.
    """
    kept = [(one, one.detach().clone()) for one in model.parameters() if one.requires_grad]

    @contextlib.contextmanager
    def off() -> Iterator[None]:
        trained = [one.data for one, _ in kept]
        torch.clear_autocast_cache()  # it holds weights in half precision by their parameter, whose values change here
        try:
            for one, weight in kept:
                one.data = weight
            yield
        finally:
            for (one, _), weight in zip(kept, trained, strict=True):
                one.data = weight
            torch.clear_autocast_cache()

    return off
