"""Which rows of a run's tables of items an estimate was made from, audit by audit.

What is said here is checked before it is used: a difference is paired only where the items give the recorded value
again in both runs (`differences`). An estimate that is not listed is compared without pairing. Generations that were
sampled are not listed on purpose: the same id in two runs is another text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from ...errors import AuditError
from ..store import Run
from .differences import Items, Ranked, Values
from .estimates import Place

Frame: TypeAlias = pd.DataFrame

#: Headings of the scores in tables of membership (`audit.membership.score_names.NAMES`) -> score.
SCORES: Final[Mapping[str, str]] = {
    "Ratio": "ratio",
    "Loss": "loss",
    "Min-K%": "min_k",
    "Min-K%++": "min_k_plus_plus",
    "zlib": "zlib",
    "Ratio of losses": "ratio_of_losses",
    "Min-20 tokens": "min_20",
    "zlib rate": "zlib_rate",
    "Lower-case": "lowercase",
    "Neighbourhood": "neighbourhood",
    "ReCaLL": "recall",
}
#: How tables of a guard's evaluation begin to name a measure of questions -> its name among the items.
_QUESTIONS: Final[Mapping[str, str]] = {
    "probability of answers": "probability",
    "ROUGE-L recall": "rouge",
    "ln truth ratio": "ln truth ratio",
    "max(0, 1 - truth ratio)": "truth",
}
_SCOPES: Final = ("prompt", "prompt+answer")  # of tables questions-0, questions-1


class ItemTables:
    """The tables of items of one run, each read once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._frames: dict[str, Frame | None] = {}
        self._plan: dict[str, Any] = run.record.plan

    def of(self, place: Place) -> Items | None:
        """What an estimate rests on; None where nothing is declared of it or the run lacks the items."""
        make = _MADE.get(place.audit)
        return None if make is None else make(self, place)

    def frame(self, name: str) -> Frame | None:
        """A table of items; None where there is none, or it cannot be read."""
        if name not in self._frames:
            path = self._run.items_path(name)
            try:
                self._frames[name] = self._run.read_items(name).to_pandas() if path.exists() else None
            except AuditError:
                self._frames[name] = None
        return self._frames[name]

    def setting(self, audit: str, name: str) -> Any:
        """A setting of an audit, None where the plan has none."""
        table = self._plan.get(audit)
        return table.get(name) if isinstance(table, dict) else None


def _traps(tables: ItemTables, place: Place) -> Items | None:
    """AUCs inside strata and shares of low ranks; of traps that were planted n times, or of all."""
    frame = tables.frame("traps")
    if frame is None or place.name not in ("auc", "low_rank_share"):
        return None
    row = dict(place.row)
    copies = place.finding.removeprefix("traps.copies_") if place.finding else row.get("n_rep", "")
    if place.finding == "traps.all":
        copies = "all"
    elif not copies.isdigit() or not (place.finding or place.table in ("arms", "auc")):
        return None
    met = frame["arm"].eq("decoy") | (frame["n_rep"].astype(str).eq(copies) if copies != "all" else True)
    if row.get("length", "all") != "all":
        met &= frame["length"].astype(str).eq(row["length"])
    frame = frame[met]
    if place.name == "low_rank_share":
        own, alpha = frame[frame["arm"].eq("member")], tables.setting("traps", "alpha")
        if alpha is None or "rank_p" not in own:
            return None
        ids = tuple(own["trap_id"].astype(str))
        return Values(ids, ids, (own["rank_p"] <= alpha).to_numpy(dtype=np.float64))
    score = row.get("score") or tables.setting("traps", "primary")
    return _ranked(frame, "trap_id", frame["arm"].eq("member"), score, frame["stratum"])


def _membership(tables: ItemTables, place: Place) -> Items | None:
    """AUCs of scores, suspect texts against validation texts."""
    frame = tables.frame("membership")
    if frame is None or place.name != "auc":
        return None
    score = tables.setting("membership", "primary") or ("ratio" if "ratio_score" in frame else "loss")
    if place.table == "scores":
        score = SCORES.get(dict(place.row).get("score", ""))
    elif place.finding != "membership.overall":
        return None
    whole = pd.Series("all", index=frame.index)
    return _ranked(frame, "text_id", frame["side"].eq("suspect"), score, whole)


def _unlearning(tables: ItemTables, place: Place) -> Items | None:
    """Means over passages before, in the result, and of the change between them."""
    frame = tables.frame("unlearning-curves")
    if frame is None:
        return None
    last = int(frame["step"].max())
    if place.finding is not None:
        measure, name = place.finding.removeprefix("unlearning."), place.name
        if name == "result less before":
            ends = [_values(_where(frame, step=step, measure=measure), "passage") for step in (0, last)]
            return _less(ends[1], ends[0])
        steps = {"before": 0, "result": last}
        return _values(_where(frame, step=steps[name], measure=measure), "passage") if name in steps else None
    step = dict(place.row).get("step", "")
    if place.table != "curves" or not step.isdigit():
        return None
    return _values(_where(frame, step=int(step), measure=place.name), "passage")


def _guard(tables: ItemTables, place: Place) -> Items | None:
    """Means over questions or passages of one system, or of its difference from another."""
    if place.finding == "eco-evaluation.known":
        table, measure = "questions-0", "probability of answers, forget"
        system = " - ".join(place.name.split(" less "))
    elif place.finding == "eco-evaluation.passages":
        table, (measure, _, system) = "passages-0", place.name.rpartition(", ")
    elif place.table is not None:
        table, measure, system = place.table.partition(" ")[0], dict(place.row).get("measure", ""), place.name
    else:
        return None
    kind, _, rest = table.partition("-")
    number = rest.partition("-")[0]
    if kind == "questions" and number in ("0", "1"):
        name, _, part = measure.rpartition(", ")
        known = next((short for words, short in _QUESTIONS.items() if name.startswith(words)), None)
        frame, chosen = tables.frame("eco-questions"), {"part": part, "scope": _SCOPES[int(number)], "measure": known}
    elif kind == "passages" and number == "0":
        frame, chosen = tables.frame("eco-passages"), {"measure": measure}
    else:
        return None
    if frame is None:
        return None
    ends = [_values(_where(frame, system=one, **chosen), "cluster") for one in system.split(" - ")]
    return ends[0] if len(ends) == 1 else _less(ends[0], ends[1])


def _where(frame: Frame, **chosen: Any) -> Frame:
    """The rows in which each column has the given value and an item has one."""
    met = frame["value"].notna()
    for column, value in chosen.items():
        met &= frame[column].eq(value)
    return frame[met]


def _values(frame: Frame, cluster: str) -> Values | None:
    if not len(frame) or frame["id"].duplicated().any():
        return None
    return Values(
        tuple(frame["id"].astype(str)), tuple(frame[cluster].astype(str)), frame["value"].to_numpy(dtype=np.float64)
    )


def _less(one: Values | None, other: Values | None) -> Values | None:
    """Item by item, over the items that both have."""
    if one is None or other is None:
        return None
    theirs = dict(zip(other.ids, other.values.tolist(), strict=True))
    kept = [place for place, identifier in enumerate(one.ids) if identifier in theirs]
    if not kept:
        return None
    ids = tuple(one.ids[place] for place in kept)
    values = one.values[kept] - np.array([theirs[identifier] for identifier in ids])
    return Values(ids, tuple(one.clusters[place] for place in kept), values)


def _ranked(frame: Frame, identifier: str, positive: Any, score: str | None, strata: Any) -> Ranked | None:
    column = f"{score}_score"
    if column not in frame or not len(frame) or frame[identifier].duplicated().any() or frame[column].isna().any():
        return None
    return Ranked(
        tuple(frame[identifier].astype(str)),
        tuple(map(bool, positive)),
        tuple(strata.astype(str)),
        frame[column].to_numpy(dtype=np.float64),
    )


_MADE: Final[Mapping[str, Callable[[ItemTables, Place], Items | None]]] = {
    "traps": _traps,
    "membership": _membership,
    "unlearning": _unlearning,
    "eco-evaluation": _guard,
}
