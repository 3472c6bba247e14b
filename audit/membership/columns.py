"""From what the models gave of each text to the columns of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .ratio import loss_difference, loss_ratio
from .score_names import OF_REFERENCE


def score_columns(
    own: pd.DataFrame, other: pd.DataFrame | None, scores: Sequence[str]
) -> Mapping[str, NDArray[np.float64]]:
    """``<score>_score`` for each score, higher for likelier members.

    Args:
        own: What `audit.membership.scored.scored` gave of the model under audit.
        other: Of the reference, or None.
        scores: From `audit.membership.score_names.score_names`.
    """
    loss = own["loss"].to_numpy(dtype=np.float64)
    found = {}
    for score in scores:
        if score == "loss":
            found["loss_score"] = -loss
        elif score not in OF_REFERENCE:
            found[f"{score}_score"] = own[score].to_numpy(dtype=np.float64)
        elif other is not None:
            form = loss_difference if score == "ratio" else loss_ratio
            found[f"{score}_score"] = form(loss, other["loss"].to_numpy(dtype=np.float64))
    return found
