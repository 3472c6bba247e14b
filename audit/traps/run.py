"""The trap audit from end to end: traps -> scores -> tests -> findings, each step kept in the run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import InputError
from ..lm.load import LanguageModel
from ..membership.parts import score_in_parts
from ..progress import Progress, silent
from ..runs.schema import AuditSection
from ..runs.store import Run
from . import detect
from .aggregate import documents, owners
from .config import SCORES, DetectionPlan
from .findings import make_section
from .table import check_table


def audit_traps(
    run: Run,
    traps: pa.Table,
    *,
    source: str,
    subject: Callable[[], LanguageModel],
    reference: Callable[[], LanguageModel] | None,
    plan: DetectionPlan,
    truncate: bool = False,
    progress: Progress = silent,
) -> AuditSection:
    """Score every trap, test the arms, and say what was found.

    Args:
        run: Where scores are kept part by part; what an earlier attempt finished is not done again.
        traps: Table of dealt traps, decoys included (`audit.traps.table`).
        source: Where the table came from, for messages.
        subject: Loads the model under audit; called only when something is left to score.
        reference: Loads the reference model, or None; then there is no ratio.
        plan: What is tested, fixed beforehand.
        truncate: Score the first tokens of a trap that is longer than the context.
        progress: Called as the work goes on.

    Raises:
        DataError: The table cannot be tested, or a trap does not fit the model.
        InputError: The primary score needs a reference model and there is none.
    """
    items = check_inputs(traps, source=source, plan=plan, has_reference=reference is not None)
    scores = _scores(has_reference=reference is not None)
    own = _scored(run, "subject", items, subject, plan=plan, truncate=truncate, progress=progress)
    for name in ("loss", "min_k", "min_k_plus_plus", "zlib"):
        items[detect.column(name)] = own[name]
    items["n_tokens"] = own["n_tokens"]
    items["loss"] = own["loss"]
    items["loss_score"] = -own["loss"]
    items["truncated"] = own["truncated"]
    if reference is not None:
        other = _scored(run, "reference", items, reference, plan=plan, truncate=truncate, progress=progress)
        items["reference_loss"] = other["loss"]
        items["ratio_score"] = items["reference_loss"] - items["loss"]
    with nullcontext() if run.has("traps.detect") else run.stage("traps.detect"):
        items["rank_p"] = detect.rank_p_values(items, plan.primary)
        items["exposure_bits"] = -np.log2(items["rank_p"])
        section = make_section(
            items,
            list(scores),
            cells=detect.cells(items, list(scores), plan=plan),
            arms=detect.arms(items, list(scores), plan=plan),
            blind=detect.blind(items, plan=plan),
            owners=owners(items, plan=plan),
            documents=documents(items, plan=plan),
            plan=plan,
        )
        if not items["documents"].map(len).any():
            items = items.drop(columns="documents")
        run.write_items("traps", pa.Table.from_pandas(items, preserve_index=False))
    return section


def check_inputs(traps: pa.Table, *, source: str, plan: DetectionPlan, has_reference: bool) -> pd.DataFrame:
    """The checked table of traps; everything that can be refused without a model is refused here.

    Args:
        traps: As in `audit_traps`.
        source: Where the table came from, for messages.
        plan: What is tested.
        has_reference: Whether there will be a reference model.

    Raises:
        DataError: The table cannot be tested.
        InputError: The primary score needs a reference model and there is none.
    """
    items = check_table(traps, source=source)
    scores = _scores(has_reference=has_reference)
    if plan.primary not in scores:
        raise InputError(
            f'the primary score is "{plan.primary}", which compares with a reference model, and none was given. '
            f"Add [reference] to the plan, or choose primary from {', '.join(scores)}."
        )
    return items


def _scores(*, has_reference: bool) -> list[str]:
    return [score for score in SCORES if has_reference or score != "ratio"]


def _scored(
    run: Run,
    role: str,
    items: pd.DataFrame,
    load: Callable[[], LanguageModel],
    *,
    plan: DetectionPlan,
    truncate: bool,
    progress: Progress,
) -> pd.DataFrame:
    """Scores of all traps by one model, made part by part and read back from the run."""
    name, stage = f"traps-{role}", f"traps.score.{role}"
    if not run.has(stage):
        with run.stage(stage) as detail:
            lm = load()
            run.add_subject(role, lm.to_record())
            scores = score_in_parts(
                lm,
                items["text"].tolist(),
                items["trap_id"].tolist(),
                open_parts=lambda key, n_parts: run.shards(name, key=key, n_parts=n_parts),
                k=plan.k,
                truncate=truncate,
                what=f"Scoring traps with the {role}",
                progress=progress,
            )
            run.write_items(name, scores)
            detail["texts"] = len(items)
    return run.read_items(name).to_pandas()
