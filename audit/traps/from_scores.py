"""What a trap audit says, from the scores that were kept: made when they are new, and made again by a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from ..membership.columns import score_columns
from ..membership.score_names import SCORES, Score, score_names
from ..runs.replay import Derived, Replayed
from ..runs.schema import AuditSection
from ..runs.store import Run
from . import detect
from .aggregate import documents, owner_tests, owners
from .config import DetectionPlan
from .evidence import Committed
from .findings.section import make_section
from .in_context import judged
from .ledger.records import LotteryRecord

STAGE = "traps.detect"
ITEMS, IN_CONTEXT = "traps", "traps-in-context"
_OF_MODEL = ("n_tokens", "truncated", "loss", "reference_loss")
_OF_RANKS = ("rank_p", "exposure_bits")


@dataclass(frozen=True, slots=True)
class Beside:
    """What the section tells beside the scores.

    Attributes:
        commitments: As `audit.traps.run.Asked`.
        unscored: Tokens of a trap that the model does not score, 1 without a beginning-of-sequence token and else 0;
            None where lengths are no tokens of a generator.
        context_tokens: As `audit.traps.run.Asked`.
    """

    commitments: Mapping[str, Committed] = field(default_factory=dict)
    unscored: int | None = None
    context_tokens: int = 0


def add_scores(items: pd.DataFrame, own: pd.DataFrame, other: pd.DataFrame | None, scores: Sequence[Score]) -> None:
    """Adds what the models gave as columns.

    Args:
        items: The checked table of traps.
        own: Of the model under audit, a row for each trap (`audit.membership.scored.scored`).
        other: Of the reference, or None.
        scores: The scores that are made.
    """
    items["n_tokens"], items["truncated"], items["loss"] = own["n_tokens"], own["truncated"], own["loss"]
    if other is not None:
        items["reference_loss"] = other["loss"]
    for name, values in score_columns(own, other, scores).items():
        items[name] = values


def section_of(
    items: pd.DataFrame,
    scores: Sequence[Score],
    *,
    plan: DetectionPlan,
    beside: Beside,
    pairs: pd.DataFrame | None = None,
) -> AuditSection:
    """Every test and every table; adds each trap's rank among its decoys to ``items``.

    Args:
        items: Traps with their scores.
        scores: The scores that were made.
        plan: What is tested.
        beside: What is told beside.
        pairs: Scores in context (``items/traps-in-context.parquet``), or None.
    """
    cut_otherwise = None
    if beside.unscored is not None:
        whole = ~items["truncated"].to_numpy(dtype=bool)
        cut_otherwise = int(((items["n_tokens"] + beside.unscored != items["length"]) & whole).sum())
    items["rank_p"] = detect.rank_p_values(items, plan.primary)
    items["exposure_bits"] = -np.log2(items["rank_p"])
    of_owners = owner_tests(items, plan=plan)
    several = len(of_owners) > 1  # the traps of a single owner are those of the arms
    arms = detect.arms(items, scores, plan=plan, others=list(of_owners.values()) if several else ())
    return make_section(
        items,
        scores,
        cells=detect.cells(items, scores, plan=plan),
        arms=arms,
        blind=detect.blind(items, plan=plan),
        owners=owners(items, of_owners, plan=plan, others=[arm.p_value for arm in arms] if several else ()),
        documents=documents(items, plan=plan),
        in_context=None if pairs is None else judged(items, pairs, plan=plan, n_tokens=beside.context_tokens),
        commitments=beside.commitments,
        cut_otherwise=cut_otherwise,
        plan=plan,
    )


def kept_beside(commitments: Mapping[str, Committed], *, in_tokens: bool) -> dict[str, Any]:
    """What a stage keeps of the ledgers, as plain JSON values; no secret of a ledger is among them."""
    return {"in_tokens": in_tokens, "commitments": {owner: _plain(one) for owner, one in commitments.items()}}


def _plain(committed: Committed) -> dict[str, Any]:
    lottery = committed.lottery
    told = None if lottery is None else {"value": lottery.value, "source": lottery.source,
                                         "commitment": lottery.commitment, "dealt": lottery.dealt}  # fmt: skip
    return {
        "value": committed.value,
        "compared": committed.compared,
        "reference": committed.reference,
        "placements_sha256": committed.placements_sha256,
        "lottery": told,
    }


def _committed(told: Mapping[str, Any]) -> Committed:
    """The same again; of a lottery without the first seed and secret, of which nothing is said."""
    lottery = told["lottery"]
    known = None if lottery is None else LotteryRecord(first_seed=0, first_secret="0" * 64, **lottery)
    return Committed(**{**told, "lottery": known})


def replay(run: Run) -> Replayed:
    """The section anew, from ``items/traps*.parquet`` and run.json alone.

    Raises:
        DataError: A table is missing or damaged.
    """
    asked = run.record.plan["traps"]
    plan = DetectionPlan(**{one.name: asked[one.name] for one in fields(DetectionPlan)})
    stored = run.read_items(ITEMS).to_pandas()
    own = run.read_items("traps-subject").to_pandas()
    other = run.read_items("traps-reference").to_pandas() if run.has("traps.score.reference") else None
    scores = score_names(has_reference=other is not None, further=asked.get("scores") or ())
    made = {*_OF_MODEL, *_OF_RANKS, *(detect.column(score) for score in SCORES)}
    items = stored[[name for name in stored if name not in made]].copy()
    if "documents" not in items:
        items["documents"] = [()] * len(items)
    add_scores(items, own, other, scores)
    beside, why = _beside(run, asked)
    pairs = run.read_items(IN_CONTEXT).to_pandas() if run.has("traps.in_context") else None
    section = section_of(items, scores, plan=plan, beside=beside, pairs=pairs)
    columns = [name for name in dict.fromkeys([*stored, *items]) if name in made]  # one that lacks is told, too
    return Replayed((section,), why, tuple(Derived.column(ITEMS, name, stored, items) for name in columns))


def _beside(run: Run, asked: Mapping[str, Any]) -> tuple[Beside, dict[str, str]]:
    kept = next((stage.detail for stage in run.record.stages if stage.name == STAGE), {})
    n_tokens = asked.get("context_tokens") or 0
    if "in_tokens" not in kept:
        if asked.get("ledger") is None:  # a table of traps has neither commitment nor generator
            return Beside(context_tokens=n_tokens), {}
        why = "this run kept nothing of its ledger; later ones do"
        return Beside(context_tokens=n_tokens), {"traps.commitment": why, "traps.tokens": why}
    unscored = None
    if kept["in_tokens"]:
        unscored = 0 if run.record.subjects["subject"]["bos_id"] is not None else 1
    commitments = {owner: _committed(one) for owner, one in kept["commitments"].items()}
    return Beside(commitments, unscored, n_tokens), {}
