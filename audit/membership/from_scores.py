"""What an audit of found texts says, from the scores that were kept: made when they are new, and by a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import pandas as pd

from ..progress import Progress, silent
from ..runs.replay import Derived, Replayed
from ..runs.schema import AuditSection
from ..runs.store import Run
from .columns import score_columns
from .config import MembershipPlan
from .findings import AUDIT, make_section
from .found import SIDES, blind, compare, dataset_inference, void_if_told_apart
from .score_names import Score, score_names

STAGE = "membership.compare"
_CONTROLS = ("min_k", "min_k_plus_plus", "zlib")  # of the reference, for the check without the model under audit


def add_scores(items: pd.DataFrame, own: pd.DataFrame, other: pd.DataFrame | None, scores: Sequence[Score]) -> None:
    """Adds what the models gave as columns; arguments as `audit.traps.from_scores.add_scores`, of texts."""
    items["n_tokens"], items["truncated"], items["loss"] = own["n_tokens"], own["truncated"], own["loss"]
    if other is not None:
        for name in ("loss", *_CONTROLS):
            items[f"reference_{name}"] = other[name]
    for name, values in score_columns(own, other, scores).items():
        items[name] = values


def section_of(
    items: pd.DataFrame,
    scores: Sequence[Score],
    *,
    plan: MembershipPlan,
    left_out: Mapping[str, int],
    progress: Progress = silent,
) -> AuditSection:
    """Every comparison, check and table.

    Args:
        items: Texts of both sets with their scores.
        scores: The scores that were made.
        plan: What is compared.
        left_out: Side -> rows of its file that were left out.
        progress: Called as the work goes on.
    """
    features = [name for name in items if name.endswith("_score")]
    controls = [name for name in items if name.startswith("reference_")]
    done, total = 0, (plan.n_splits + plan.n_checks) * (2 if controls else 1)

    def tell(n: int) -> None:
        nonlocal done
        done += n
        progress("Dataset inference", done, total)

    inference = dataset_inference(items, features, plan=plan, on_done=tell)
    control = dataset_inference(items, controls, plan=plan, on_done=tell) if controls else None
    checks = blind(items, plan=plan, control=control)
    return make_section(
        items,
        comparisons=compare(items, scores, level=plan.level),
        blind=checks,
        inference=void_if_told_apart(inference, checks),
        features=features,
        plan=plan,
        primary=plan.score(has_reference="reference_loss" in items, further=scores),
        left_out=left_out,
    )


def replay(run: Run) -> Replayed:
    """The section anew, from ``items/membership*.parquet`` and run.json alone.

    Raises:
        DataError: A table is missing or damaged.
    """
    asked = run.record.plan["membership"]
    plan = MembershipPlan(**{one.name: asked[one.name] for one in fields(MembershipPlan)})
    stored = run.read_items(AUDIT).to_pandas()
    own = run.read_items(f"{AUDIT}-subject").to_pandas()
    other = run.read_items(f"{AUDIT}-reference").to_pandas() if run.has(f"{AUDIT}.score.reference") else None
    scores = score_names(has_reference=other is not None, further=asked.get("scores") or ())
    items = stored[["text_id", "side", "id", "text"]].copy()
    items["n_characters"] = items["text"].str.len()
    add_scores(items, own, other, scores)
    kept = next((stage.detail for stage in run.record.stages if stage.name == STAGE), {})
    left_out = {side: len(kept.get(f"left_out_{side}", ())) for side in SIDES}
    section = section_of(items, scores, plan=plan, left_out=left_out)
    scored = [name for name in stored if name.endswith("_score") or name.startswith("reference_")]
    made = dict.fromkeys(name for name in [*items, *scored] if name not in ("text_id", "side", "id", "text"))
    return Replayed((section,), {}, tuple(Derived.column(AUDIT, name, stored, items) for name in made))
