"""The trap audit from end to end: traps -> scores -> tests -> findings, each step kept in the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import InputError
from ..lm.load import LanguageModel
from ..membership.extras import NOTHING, Extras
from ..membership.ratio import loss_difference, loss_ratio
from ..membership.score import TextScores
from ..membership.score_names import OF_REFERENCE, ExtraScore, score_names
from ..membership.scored import Texts, scored
from ..progress import Progress, silent
from ..runs.schema import AuditSection
from ..runs.store import Run
from .config import DetectionPlan
from .evidence import Committed
from .from_scores import STAGE, Beside, add_scores, kept_beside, section_of
from .in_context import pair_up, score_pairs
from .table import check_table

IN_CONTEXT = ("ratio", "ratio_of_losses", "loss", "min_k", "min_k_plus_plus", "zlib", "min_20", "zlib_rate")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an audit does beyond the five scores and the tests on them.

    Attributes:
        scores: Further scores.
        extras: Makes what they need, such as shots and a masked model; called when something is left to score.
        commitments: Owner -> what can be said of the commitment to the ledger, where there is one.
        in_tokens: Whether lengths are tokens of the traps' generator; then those cut otherwise by the model are told.
        contexts: Trap id -> what stood before a copy of it; empty for no test in context.
        context_tokens: Tokens of context.
    """

    scores: tuple[ExtraScore, ...] = ()
    extras: Callable[[], Extras] = lambda: NOTHING
    commitments: Mapping[str, Committed] = field(default_factory=dict)
    in_tokens: bool = False
    contexts: Mapping[str, str] = field(default_factory=dict)
    context_tokens: int = 0


def audit_traps(
    run: Run,
    traps: pa.Table,
    *,
    source: str,
    subject: Callable[[], LanguageModel],
    reference: Callable[[], LanguageModel] | None,
    plan: DetectionPlan,
    truncate: bool = False,
    asked: Asked | None = None,
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
        asked: Further scores, commitments and contexts.
        progress: Called as the work goes on.

    Raises:
        DataError: The table cannot be tested, or a trap does not fit the model.
        InputError: The primary score needs a reference model and there is none.
    """
    asked = asked or Asked()
    has_reference = reference is not None
    items = check_inputs(traps, source=source, plan=plan, has_reference=has_reference, asked=asked)
    scores = score_names(has_reference=has_reference, further=asked.scores)
    texts = Texts(
        audit="traps",
        what="traps",
        ids=items["trap_id"].tolist(),
        texts=items["text"].tolist(),
        k=plan.k,
        truncate=truncate,
    )
    own = scored(run, "subject", texts, subject, progress=progress, extras=asked.extras)
    other = None if reference is None else scored(run, "reference", texts, reference, progress=progress)
    add_scores(items, own, other, scores)
    unscored = None
    if asked.in_tokens:  # without a beginning-of-sequence token the first token is not scored
        unscored = 0 if run.record.subjects["subject"]["bos_id"] is not None else 1
    beside = Beside(asked.commitments, unscored, asked.context_tokens)
    pairs = None
    if asked.contexts:
        pairs = _in_context(run, items, subject, reference, plan=plan, asked=asked, progress=progress)
    step: AbstractContextManager[dict[str, Any]] = nullcontext({}) if run.has(STAGE) else run.stage(STAGE)
    with step as detail:
        detail |= kept_beside(asked.commitments, in_tokens=asked.in_tokens)
        section = section_of(items, scores, plan=plan, beside=beside, pairs=pairs)
        if not items["documents"].map(len).any():
            items = items.drop(columns="documents")
        run.write_items("traps", pa.Table.from_pandas(items, preserve_index=False), secret=True)  # decoys
    return section


def check_inputs(
    traps: pa.Table, *, source: str, plan: DetectionPlan, has_reference: bool, asked: Asked | None = None
) -> pd.DataFrame:
    """The checked table of traps; everything that can be refused without a model is refused here.

    Args:
        traps: As in `audit_traps`.
        source: Where the table came from, for messages.
        plan: What is tested.
        has_reference: Whether there will be a reference model.
        asked: As in `audit_traps`.

    Raises:
        DataError: The table cannot be tested.
        InputError: The primary score needs a reference model, a further pass or shots that were not given.
    """
    asked = asked or Asked()
    items = check_table(traps, source=source)
    # The order decides which re-dealings are made; so no p-value depends on how traps or ledgers were given.
    items = items.sort_values(["stratum", "trap_id"], ignore_index=True)
    scores = score_names(has_reference=has_reference, further=asked.scores)
    if plan.primary in OF_REFERENCE and not has_reference:
        otherwise = f", or choose primary from {', '.join(scores)}"
        if asked.commitments:
            otherwise = "; the ledger fixed that score, so another cannot be chosen now"
        raise InputError(
            f'the primary score is "{plan.primary}", which compares with a reference model, and none was given. '
            f"Give a model that never saw the traps (--reference, or [reference] in a plan){otherwise}."
        )
    if plan.primary not in scores:
        raise InputError(
            f'the primary score is "{plan.primary}", which is not among the scores that are made. Add it: --scores '
            f'{plan.primary}, or scores = ["{plan.primary}"] in a plan.'
        )
    if asked.contexts and plan.primary not in IN_CONTEXT:
        raise InputError(
            f'the primary score is "{plan.primary}", which is not made in context; leave context_tokens out, or choose '
            f"primary from {', '.join(IN_CONTEXT)}."
        )
    return items


def _in_context(
    run: Run,
    items: pd.DataFrame,
    subject: Callable[[], LanguageModel],
    reference: Callable[[], LanguageModel] | None,
    *,
    plan: DetectionPlan,
    asked: Asked,
    progress: Progress,
) -> pd.DataFrame:
    """The pairs with their primary score in context."""
    name, stage, n_tokens = "traps-in-context", "traps.in_context", asked.context_tokens
    if not run.has(stage):
        with run.stage(stage) as detail:
            pairs = pair_up(items, asked.contexts, seed=plan.seed)
            needed = [subject]
            if reference is not None and plan.primary in OF_REFERENCE:
                needed.append(reference)
            sides: list[list[TextScores]] = [[], []]
            done, total = 0, 2 * len(pairs) * len(needed)

            def tell(n: int) -> None:
                nonlocal done
                done += n
                progress("Scoring traps in context", done, total)

            for load in needed:
                found = score_pairs(load(), items, pairs, plan=plan, n_tokens=n_tokens, on_done=tell)
                pairs["n_context"] = found[0].n_context
                for side, one in zip(sides, found, strict=True):
                    side.append(one.scores)
            ids = items["trap_id"].to_numpy()
            table = pa.table(
                {
                    "trap_id": ids[pairs["member"]].tolist(),
                    "decoy_id": ids[pairs["decoy"]].tolist(),
                    "member": pairs["member"].to_numpy(),
                    "decoy": pairs["decoy"].to_numpy(),
                    "n_context": pairs["n_context"].to_numpy(),
                    "member_score": _primary(sides[0], plan.primary),
                    "decoy_score": _primary(sides[1], plan.primary),
                }
            )
            run.write_items(name, table, secret=True)
            detail["pairs"] = len(pairs)
    return run.read_items(name).to_pandas()


def _primary(scores: Sequence[TextScores], primary: str) -> np.ndarray:
    """The primary score of texts from the subject's scores and, for a ratio, the reference's; shape (n,)."""
    if primary == "ratio":
        return loss_difference(scores[0].loss, scores[1].loss)
    if primary == "ratio_of_losses":
        return loss_ratio(scores[0].loss, scores[1].loss)
    values: np.ndarray = -scores[0].loss if primary == "loss" else getattr(scores[0], primary)
    return values
