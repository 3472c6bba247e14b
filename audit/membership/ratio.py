r"""Three published forms of the ratio to a reference model. Every one is higher for a likelier member.

With NLL = -mean_t l_t of the model (target) and of the reference, each over its own tokens of the same text, and
ppl = exp(NLL):

    loss_difference     NLL_ref - NLL_target     MIMIR, ReCaLL; the ratio of this project
    perplexity_ratio    -ppl_target / ppl_ref    results table of Meeus et al., arXiv:2402.09363
    loss_ratio          -NLL_target / NLL_ref    figure 1 of the same paper; SoK, arXiv:2406.17975

The second is -exp(-difference), a monotone function of the first, and ranks texts exactly as it does. The third
ranks otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_LOSS = 2.0**-24  # nats a token; float32 holds no loss between it and 0, so a smaller one is taken as this


def loss_difference(loss: Floats, reference_loss: Floats) -> Floats:
    """NLL_ref - NLL_target, in nats a token, shape (N,), for losses of shape (N,)."""
    return reference_loss - loss


def perplexity_ratio(loss: Floats, reference_loss: Floats) -> Floats:
    """-ppl_target / ppl_ref, shape (N,), < 0; -inf where the first loss is higher by more than 709 nats."""
    with np.errstate(over="ignore"):
        return -np.exp(loss - reference_loss)


def loss_ratio(loss: Floats, reference_loss: Floats) -> Floats:
    """-NLL_target / NLL_ref, shape (N,), < 0; losses below `MIN_LOSS` are taken as that."""
    ratio: Floats = np.maximum(loss, MIN_LOSS) / np.maximum(reference_loss, MIN_LOSS)
    return -ratio
