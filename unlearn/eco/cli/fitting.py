"""The stage of a run in which a guard is fitted: classifier kept once it is there, measurements as they come."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.answers.formats import PromptFormat
from audit.answers.rewordings import attacks
from audit.answers.rows import QaRow
from audit.lm.load import LanguageModel, load
from audit.matching.encode import load_encoder
from audit.progress import Progress
from audit.runs.store import Run
from audit.text.files import make_folder

from ...json_lines import append_lines, read_lines
from ..classifier import RECORD as CLASSIFIER_RECORD
from ..corruptions import FUNCTIONS
from ..deal import Shares, deal
from ..finetuned import FineTuned, FineTuning, Labelled, fine_tune
from ..fit import FitPlan, Fitted, Teach, Texts, embedding_teacher, fit
from ..fit_made import FitMade, Reworded
from ..from_scores import (
    AIMS,
    DEALT,
    DRAWN,
    SCORES,
    SEARCH,
    aim_table,
    dealt_table,
    drawn_table,
    score_table,
    search_table,
)
from ..guard import EcoGuard
from ..guard_files import load_scorer, save_guard, save_scorer
from ..held_out import hold_out
from ..judge import Scorer
from ..search_ledger import Measurement
from ..tagger import Tagger
from .inputs import GUARD
from .plan import FineTuningTable

_MEASURED = "measured.jsonl"
_CLASSIFIER = "classifier"
_PROBED = 32  # prompts whose embeddings' size is told
BY_TEMPLATE = "paraphrase, by template"


def fit_plan(table: Any, dtype: torch.dtype | None = None) -> FitPlan:
    """The plan of the fit; with the model's dtype no strength is searched that it does not hold.

    Raises:
        InputError: A setting is out of its range.
    """
    function = FUNCTIONS.get(table.function)
    most = function.half_limit if function is not None and dtype == torch.float16 else None
    dims = 1 if table.dims is None and (function is None or function.needs_dims) else table.dims
    shares = Shares() if table.shares is None else Shares(**table.shares.model_dump())
    return FitPlan(
        table.target,
        alpha=table.alpha,
        alpha_forget=table.alpha_forget,
        on_both=table.on_both,
        on_none=table.on_none,
        turns=table.turns,
        function=table.function,
        dims=dims,
        strength=table.strength,
        selection=table.selection,
        ratio=table.ratio,
        metrics=table.metrics,
        targets=table.surrogate,
        scope=table.scope,
        max_new_tokens=table.max_new_tokens,
        search=table.search_settings(most=most),
        inverse_penalty=table.inverse_penalty,
        n_each=table.n_each,
        shares=shares,
        held_out=(table.fine_tuning or FineTuningTable()).held_out if table.classifier == "fine-tuned" else 0.0,
        seed=table.seed,
    )


def form_of(table: Any) -> PromptFormat:
    """How prompts become the model's input."""
    return PromptFormat(table.format, table.prefix, table.suffix)


def fine_tuning(table: Any) -> FineTuning:
    """Settings of the fine-tuned classifier."""
    given = {} if table.fine_tuning is None else table.fine_tuning.model_dump(exclude_none=True, exclude={"held_out"})
    return FineTuning(**given, seed=table.seed)


def fit_into(
    run: Run,
    table: Any,
    path: Path,
    lm: LanguageModel,
    texts: Texts,
    progress: Progress,
    *,
    tagger: Tagger | None = None,
) -> FitMade:
    """Fit the guard of a plan into ``guard`` of the run's folder, or go on with it."""
    plan = fit_plan(table, lm.model.dtype)
    measured = run.folder / _MEASURED
    done = [
        Measurement(row["strength"], row["seed"], tuple(row["values"]), row["stage"])
        for row in (read_lines(measured) if measured.exists() else [])
    ]

    def keep(one: Measurement) -> None:
        append_lines(
            measured,
            [{"strength": one.strength, "seed": one.seed, "values": list(one.values), "stage": one.stage}],
        )

    total = 0

    def told(stage: str, done: int, n: int) -> None:
        nonlocal total
        total = n if stage == "strength" else total
        progress(stage, done, n)

    base = None
    if table.base is not None and not texts.never and not plan.targets:
        base = load(table.subject_of(table.base, path))
    fitted = fit(
        lm,
        texts,
        plan,
        form=form_of(table),
        teach=_teacher(run.folder, table, path, plan, lm, texts, progress),
        base=base,
        finder=tagger,
        done=done,
        on_measured=keep,
        progress=told,
    )
    if total:
        progress("strength", total, total)  # a search may end before it has taken all that it may
    save_guard(fitted.record, fitted.guard.judge.scorer, run.folder / GUARD, tagger=tagger)
    reworded = _reworded(fitted, seed=plan.seed)
    made = FitMade.of(fitted, reworded, _selected_rms(fitted), kind_of(fitted.guard.judge.scorer))
    run.write_items(SCORES, score_table(made))
    run.write_items(DEALT, dealt_table(made))
    run.write_items(DRAWN, drawn_table(fitted.drawn))
    if fitted.found is not None:
        run.write_items(AIMS, aim_table(fitted.aims))
        run.write_items(SEARCH, search_table(fitted.found))
    return made


def tidy(run: Run) -> None:
    """Take away what only served to go on after a kill."""
    (run.folder / _MEASURED).unlink(missing_ok=True)
    shutil.rmtree(run.folder / _CLASSIFIER, ignore_errors=True)


def _teacher(
    folder: Path, table: Any, path: Path, plan: FitPlan, lm: LanguageModel, texts: Texts, progress: Progress
) -> Teach:
    """Fits the classifier once; a later attempt reads it."""
    where = folder / _CLASSIFIER
    device = str(lm.device) if lm.device.type == "cuda" else lm.device.type

    def teach(prompts: Sequence[str], forget: Sequence[bool]) -> Scorer:
        tuned = table.classifier == "fine-tuned"
        encoder = None if tuned else load_encoder(table.path("encoder", path), device=device)
        if (where / CLASSIFIER_RECORD).exists():
            return load_scorer(where, encoder=encoder, device=device)
        scorer: Scorer
        if encoder is not None:
            scorer = embedding_teacher(encoder, plan)(prompts, forget)
        else:
            work = make_folder(folder / "training")
            dealt = deal(texts.forget, texts.retain, shares=plan.shares, seed=plan.seed)
            held = hold_out(dealt, share=plan.held_out, seed=plan.seed)
            scorer = fine_tune(
                table.path("start", path),
                Labelled(prompts, forget),
                fine_tuning(table),
                held_out=Labelled(held.texts, held.forget) if held.texts else None,
                work=work,
                device=device,
                progress=progress,
            )
        save_scorer(scorer, where)
        shutil.rmtree(folder / "training", ignore_errors=True)
        return scorer

    return teach


def _reworded(fitted: Fitted, *, seed: int) -> Reworded:
    """The rewordings that the audit rows bring along; where none does, ones by templates that no training uses."""
    audit = fitted.dealt.audit
    given = [row for row in audit if isinstance(row, QaRow) and row.paraphrased_prompt]
    if given:
        return Reworded(
            tuple(row.id for row in given),
            tuple(row.cluster for row in given),
            fitted.held_out["forget"],
            "the rewordings in the file",
        )
    attack = next(one for one in attacks() if one.name == BY_TEMPLATE)
    rows = [row if isinstance(row, QaRow) else QaRow(row.id, row.cluster, row.asked) for row in audit]
    texts = [str(attack.prompt(row, seed=seed)) for row in rows]
    scores = np.minimum(fitted.guard.judge.score(texts), 2.0)
    return Reworded(
        tuple(row.id for row in rows), tuple(row.cluster for row in rows), scores, "rewordings by templates of ours"
    )


@torch.inference_mode()
def _selected_rms(fitted: Fitted) -> tuple[float, ...]:
    """Root mean square of the selected embeddings of some tuning prompts, before they are corrupted."""
    rows = fitted.dealt.tuning[:_PROBED]
    forced: EcoGuard = fitted.guard.forcing(0)
    found: list[float] = []
    for row in rows:
        prepared = forced.prepare([row.asked])
        ids: Tensor = prepared.input_ids
        with forced.corrupting(prepared) as layers:
            forced.lm.model(input_ids=ids, use_cache=False)
        found += [rms for layer in layers for rms in layer.selected_rms if rms is not None]
    return tuple(found)


def kind_of(scorer: Scorer) -> str:
    """The classifier in words."""
    if isinstance(scorer, FineTuned):
        return f"fine-tuned encoder, kept by: {scorer.record['kept_by']}"
    return "kernel logistic regression on sentence embeddings"
