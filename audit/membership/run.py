"""The audit of found texts from end to end: texts -> scores -> comparison -> findings, each step kept in the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pandas as pd
import pyarrow as pa

from ..lm.load import LanguageModel
from ..progress import Progress, silent
from ..runs.schema import AuditSection
from ..runs.store import Run
from ..text.readers import TextTable
from ..text.safe import printable
from .config import MembershipPlan
from .extras import NOTHING, Extras
from .findings import AUDIT
from .found import SIDES, check_texts
from .from_scores import STAGE, add_scores, section_of
from .score_names import ExtraScore, score_names
from .scored import Texts, scored


def audit_membership(
    run: Run,
    suspect: TextTable,
    validation: TextTable,
    *,
    subject: Callable[[], LanguageModel],
    reference: Callable[[], LanguageModel] | None,
    plan: MembershipPlan,
    truncate: bool = False,
    further: Sequence[ExtraScore] = (),
    extras: Callable[[], Extras] = lambda: NOTHING,
    progress: Progress = silent,
) -> AuditSection:
    """Score every text, compare the two sets, and say what that indicates.

    Args:
        run: Where scores are kept part by part; what an earlier attempt finished is not done again.
        suspect: Texts that the model may have been trained on.
        validation: Texts of the same kind that it was not trained on.
        subject: Loads the model under audit; called only when something is left to score.
        reference: Loads the reference model, or None; then there is no ratio.
        plan: What is compared, fixed beforehand.
        truncate: Score the first tokens of a text that is longer than the context.
        further: Scores beyond the five.
        extras: Makes what these need; called when something is left to score.
        progress: Called as the work goes on.

    Raises:
        DataError: The sets cannot be compared, or a text does not fit the model.
        InputError: The primary score needs a reference model and there is none.
    """
    has_reference = reference is not None
    items = check_inputs(suspect, validation, plan=plan, has_reference=has_reference, further=further)
    texts = Texts(
        audit=AUDIT,
        what="found texts",
        ids=items["text_id"].tolist(),
        texts=items["text"].tolist(),
        k=plan.k,
        truncate=truncate,
    )
    scores = score_names(has_reference=has_reference, further=further)
    own = scored(run, "subject", texts, subject, progress=progress, extras=extras)
    other = None if reference is None else scored(run, "reference", texts, reference, progress=progress)
    add_scores(items, own, other, scores)
    bad = {SIDES[0]: suspect.bad, SIDES[1]: validation.bad}
    step: AbstractContextManager[dict[str, Any]] = nullcontext({}) if run.has(STAGE) else run.stage(STAGE)
    with step as detail:
        for side, lines in bad.items():
            detail[f"left_out_{side}"] = [printable(f"{line.place}: {line.reason}") for line in lines]
        left_out = {side: len(lines) for side, lines in bad.items()}
        section = section_of(items, scores, plan=plan, left_out=left_out, progress=progress)
        run.write_items(AUDIT, pa.Table.from_pandas(items, preserve_index=False))
    return section


def check_inputs(
    suspect: TextTable,
    validation: TextTable,
    *,
    plan: MembershipPlan,
    has_reference: bool,
    further: Sequence[ExtraScore] = (),
) -> pd.DataFrame:
    """The checked table of both sets; everything that can be refused without a model is refused here.

    Raises:
        DataError: The sets cannot be compared.
        InputError: The primary score needs a reference model and there is none.
    """
    plan.score(has_reference=has_reference, further=further)
    return check_texts(suspect, validation)
