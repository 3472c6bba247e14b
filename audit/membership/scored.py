"""The scores that an audit can make of its texts: their names, and how a run makes and keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from ..lm.load import LanguageModel
from ..progress import Progress
from ..runs.store import Run
from .extras import NOTHING, Extras
from .parts import score_in_parts


@dataclass(frozen=True, slots=True)
class Texts:
    """What is scored, and how.

    Attributes:
        audit: Name of the audit, which its stages and items bear.
        what: The texts in words, for progress: "traps".
        ids: A name for each.
        texts: The texts.
        k: As in `audit.membership.parts.score_in_parts`.
        truncate: Likewise.
    """

    audit: str
    what: str
    ids: Sequence[str]
    texts: Sequence[str]
    k: float
    truncate: bool


def scored(
    run: Run,
    role: str,
    texts: Texts,
    load: Callable[[], LanguageModel],
    *,
    progress: Progress,
    extras: Callable[[], Extras] = lambda: NOTHING,
) -> pd.DataFrame:
    """Scores of all texts by one model, made part by part, kept in the run and read back from it.

    Args:
        run: What an earlier attempt finished is not done again.
        role: "subject" or "reference".
        texts: What is scored.
        load: Loads the model; called only when something is left to score.
        progress: Called as the work goes on.
        extras: Makes what further scores need; called likewise.
    """
    name, stage = f"{texts.audit}-{role}", f"{texts.audit}.score.{role}"
    if not run.has(stage):
        with run.stage(stage) as detail:
            lm = load()
            run.add_subject(role, lm.to_record())
            table = score_in_parts(
                lm,
                texts.texts,
                texts.ids,
                open_parts=lambda key, n_parts: run.shards(name, key=key, n_parts=n_parts),
                k=texts.k,
                truncate=texts.truncate,
                what=f"Scoring {texts.what} with the {role}",
                progress=progress,
                extras=extras(),
            )
            run.write_items(name, table)
            detail["texts"] = len(texts.texts)
    return run.read_items(name).to_pandas()
