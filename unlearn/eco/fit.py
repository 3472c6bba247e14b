"""Fit a guard: classifier, threshold, strength, in this order, each on rows of its own (`unlearn.eco.deal`).

    1. classifier   on all forget prompts and the training prompts that may pass, reworded and with slips
    2. threshold    on calibration prompts that may pass, or conversations of them, and, if misses are to be bounded,
                    rewordings of tuning rows
    3. target       of each metric, from what was never learnt
    4. strength     by zeroth-order search on the tuning rows

Nothing here looks at the audit rows, at the test prompts, or at a model that was trained without the forget set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from audit.answers.formats import Prompt, PromptFormat
from audit.answers.rows import ChoiceRow, QaRow
from audit.answers.systems import SCOPES, Bare, Scope
from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.matching.encode import Encoder
from audit.progress import Progress, silent
from audit.runs.schema import EstimateRecord
from audit.stats.checks import Floats, choice
from audit.text.safe import quoted

from .aims import CHANCE, GIVEN, Aim, ByRow
from .calibration import ACTIONS, Action, Calibration, Drawn, Threshold, TwoSided, calibrate, require_unseen
from .classifier import fit as fit_classifier
from .conversations import Asked, conversations, counted_units
from .corruptions import FUNCTIONS, Corruption
from .deal import Dealt, ForgetRows, Shares, deal
from .guard import EcoGuard, GuardSettings, Selection
from .guard_files import GuardRecord, fingerprint_of
from .held_out import hold_out
from .judge import EmbeddingScorer, Judge, Scorer, conversation_scores, score_texts
from .objective import (
    GuardMeasure,
    MetricName,
    Rows,
    check_metrics,
    row_values,
)
from .prompts import training_prompts
from .search import SearchSettings, search
from .search_ledger import Measure, Measurement
from .search_result import SearchResult
from .selection import Finder, NameMatcher

Teach: TypeAlias = Callable[[Sequence[str], Sequence[bool]], Scorer]
SCORE_BATCH: Final = 256
UNREADABLE: Final = 3.0
"""In place of the infinite score of a text with a part that the classifier cannot read; others are 2 at most."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What a guard is fitted on.

    Attributes:
        forget: Rows about what is to be forgotten.
        retain: Rows whose prompts may pass.
        never: Rows in the same template about entities that the model never met, for the target; may be empty.
        names: Names of the forget set; may be empty.
        others: Names to put in their place in training prompts (hard negatives); may be empty.
        groups: Row id of a retain row -> its language or source, for a promise to each group; may be empty.
    """

    forget: ForgetRows
    retain: ForgetRows
    never: ForgetRows = ()
    names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How a guard is fitted.

    Raises:
        InputError: A value is out of its range.
    """

    target: str
    """What is to be forgotten, in words."""
    alpha: float = 0.01
    """Highest promised rate of prompts that may pass and are flagged, in (0, 1)."""
    alpha_forget: float | None = None
    """Highest promised rate of misses, from rewordings of the tuning rows; None bounds false positives alone."""
    on_both: Action = "corrupt"
    """With ``alpha_forget``: what is done where neither bound decides and both labels are plausible."""
    on_none: Action = "corrupt"
    """Likewise where neither label is."""
    turns: int = 1
    """Prompts of one user in a conversation, at most: above 1 the promise of ``alpha`` is for whole conversations, see
    `unlearn.eco.conversations`. That of ``alpha_forget`` is for single prompts in any case, alone or in one."""
    function: str = "rand_noise_first_n"
    dims: int | None = 1
    strength: float | None = None
    """Given, nothing is searched."""
    selection: Selection = "all"
    ratio: float = 0.9
    """Likeness from which a name counts as found."""
    metrics: tuple[MetricName, ...] = ("probability",)
    targets: tuple[float, ...] = ()
    """Of each metric; empty takes them from what was never learnt."""
    scope: Scope = "prompt"
    """How far the corruption reaches where the search scores answers: "prompt", as in use, or "prompt+answer", as in
    the authors' code, which fits a strength for numbers that no answer meets."""
    max_new_tokens: int = 64
    """Of greedy answers, for the metric rouge."""
    search: SearchSettings = field(default_factory=SearchSettings)
    inverse_penalty: float = 10.0
    """scikit-learn's C of the default classifier."""
    n_each: int = 2
    """Rewordings, slips and composites of each training prompt."""
    most_reworded: int | None = 400
    """Of the retain prompts at most so many are reworded, which is enough to teach that wording says nothing."""
    shares: Shares = field(default_factory=Shares)
    held_out: float = 0.0
    """Share of the classifier's retain clusters that choose among its checkpoints in place of training it; see
    `unlearn.eco.held_out`. The default classifier has no checkpoints and holds nothing out."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("alpha_forget", self.alpha_forget)):
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} is {value}; expected a number between 0 and 1.")
        if self.turns < 1:
            raise InputError(f"turns is {self.turns}; expected 1 or more.")
        choice(self.on_both, "on_both", ACTIONS)
        choice(self.on_none, "on_none", ACTIONS)
        choice(self.scope, "scope", SCOPES)
        if self.targets and len(self.targets) != len(self.metrics):
            raise InputError(
                f"there are {len(self.targets)} targets for {len(self.metrics)} metrics; expected as many."
            )
        given = self.strength if self.strength is not None or not self.needs_strength else self.search.lower
        Corruption(self.function, given, self.dims)  # refuses what is unfit

    @property
    def needs_strength(self) -> bool:
        return self.function not in FUNCTIONS or FUNCTIONS[self.function].needs_strength


class NotEnoughError(InputError):
    """The calibration prompts cannot hold the promise that was asked for."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A guard with the evidence of its making.

    Attributes:
        guard: Ready for use.
        record: What `guard_files.save_guard` keeps of it.
        dealt: Who saw which rows.
        test: What was only tested: prompts that may pass, or conversations of them.
        calibration: The threshold, or those of each group.
        found: The search; None where no strength was searched.
        held_out: Scores of ``test``, and of reworded audit rows, which nothing was fitted on.
        warnings: What a reader has to know.
        drawn: What the calibration rests on.
        aims: What the search rests on, metric by metric; empty where no strength was searched.
    """

    guard: EcoGuard
    record: GuardRecord
    dealt: Dealt
    test: tuple[Asked, ...]
    calibration: Calibration
    found: SearchResult | None
    held_out: Mapping[Literal["retain", "forget"], Floats]
    warnings: tuple[str, ...]
    drawn: Drawn
    aims: tuple[Aim, ...] = ()


def fit(
    lm: LanguageModel,
    texts: Texts,
    plan: FitPlan,
    *,
    form: PromptFormat,
    teach: Teach,
    base: LanguageModel | None = None,
    finder: Finder | None = None,
    key: bytes | None = None,
    done: Iterable[Measurement] = (),
    on_measured: Callable[[Measurement], None] | None = None,
    progress: Progress = silent,
) -> Fitted:
    """Fit a guard for a model.

    Args:
        lm: The model that it will stand before.
        texts: Rows and names.
        plan: How.
        form: How a prompt becomes the model's input.
        teach: Training prompts and their labels -> a classifier; see `embedding_teacher`.
        base: The model before it was taught, for the target where there are no never-learnt rows.
        finder: The tagger, for the selection "tagger".
        key: As `judge.Judge`.
        done: As `search.search`; with ``on_measured`` a killed fit goes on.
        on_measured: As `search.search`.
        progress: Called with (stage, done, total).

    Raises:
        NotEnoughError: The calibration prompts are too few for alpha; says how many are needed.
        InputError: Rows, metrics and targets do not fit, or a prompt does not fit the model.
    """
    if plan.turns > 1 and form.kind == "text":
        raise InputError("a format of text around one prompt takes no conversation; leave turns out, or take a chat.")
    dealt = deal(texts.forget, texts.retain, shares=plan.shares, seed=plan.seed)
    test = conversations(dealt.test, plan.turns, seed=plan.seed)
    targets_known = bool(plan.targets) or plan.strength is not None or not plan.needs_strength
    if not targets_known:
        check_metrics(plan.metrics, dealt.tuning)
        _check_target(plan, texts, base)
    judge, calibration, warnings, drawn = fit_judge(texts, dealt, plan, teach=teach, key=key, progress=progress)
    scorer, matcher = judge.scorer, judge.matcher

    searched = plan.needs_strength and plan.strength is None
    settings = GuardSettings(
        plan.target,
        Corruption(plan.function, plan.search.lower if searched else plan.strength, plan.dims),
        plan.selection,
        form,
    )
    guard = EcoGuard(lm, judge, settings, finder=finder)
    found: SearchResult | None = None
    aims: tuple[Aim, ...] = ()
    if searched:
        aims = _aims(guard, lm, texts, dealt.tuning, plan, base, progress)
        found = _search(guard, aims, dealt, plan, done, on_measured, progress)
        if found.strength is None:
            raise InputError(
                f"nothing is to be forgotten: {'; '.join(found.warnings) or 'the model is at its targets already'}. "
                "Check that this is the model that learnt, and that the forget rows are what it learnt."
            )
        guard = guard.with_corruption(dataclasses.replace(settings.corruption, strength=found.strength))
    warnings = all_warnings(warnings, found, form)
    held_out = {
        "retain": scores_of(scorer, matcher, [one.prompt for one in test], "test prompts", progress),
        "forget": scores_of(scorer, matcher, reworded(dealt.audit), "reworded audit rows", progress),
    }
    record = GuardRecord(
        guard.settings,
        judge.threshold,
        texts.names,
        plan.ratio,
        _name(lm.subject.model),
        fingerprint_of(lm),
        {
            "threshold": calibration_record(calibration, turns=plan.turns),
            "search": None if found is None else _brief(found),
            "seen": seen_record(dealt),
            "taught": taught_record(texts, dealt, plan),
        },
    )
    return Fitted(guard, record, dealt, tuple(test), calibration, found, held_out, warnings, drawn, aims)  # type: ignore[arg-type]


def all_warnings(of_calibration: tuple[str, ...], found: SearchResult | None, form: PromptFormat) -> tuple[str, ...]:
    """What a reader of a fit has to know: of its calibration, its search and its format."""
    of_search = () if found is None else found.warnings + found.fallbacks
    of_form: tuple[str, ...] = ()
    if form.kind == "text" and not form.suffix:
        of_form = (
            "nothing stands behind a prompt in this format, so that the prompt's own last token is the last one and is "
            "never corrupted; give a suffix",
        )
    return (*of_calibration, *of_search, *of_form)


def fit_judge(
    texts: Texts, dealt: Dealt, plan: FitPlan, *, teach: Teach, key: bytes | None = None, progress: Progress = silent
) -> tuple[Judge, Calibration, tuple[str, ...], Drawn]:
    """Classifier and threshold, steps 1 and 2, for which no model is asked.

    Returns:
        The judge, its calibration, what a reader has to know, and the scores that all rests on.

    Raises:
        NotEnoughError, InputError: As `fit`.
    """
    matcher = NameMatcher(texts.names, ratio=plan.ratio) if texts.names else None
    progress("classifier", 0, 1)
    scorer = teach(*_training(texts, dealt, plan))
    progress("classifier", 1, 1)
    calibration, warnings, drawn = _calibrate(scorer, matcher, texts, dealt, plan, progress)
    return Judge(scorer, threshold_of(calibration), matcher=matcher, key=key), calibration, warnings, drawn


def embedding_teacher(encoder: Encoder, plan: FitPlan) -> Teach:
    """The default classifier: sentence embeddings and kernel logistic regression."""

    def teach(texts: Sequence[str], forget: Sequence[bool]) -> Scorer:
        return EmbeddingScorer(
            fit_classifier(encoder, texts, forget, inverse_penalty=plan.inverse_penalty, seed=plan.seed), encoder
        )

    return teach


def reworded(rows: Iterable[Any]) -> list[str]:
    """The rewordings that rows bring along; none was trained on."""
    return [row.paraphrased_prompt for row in rows if isinstance(row, QaRow) and row.paraphrased_prompt]


def threshold_of(calibration: Calibration) -> float:
    """One number that keeps the promises: a text is flagged where its score is strictly above it.

    Of several groups the highest threshold keeps every group's promise. Of two sides, a set holds "retain" where
    s <= a and "forget" where s >= b, so that each policy is one threshold, see `TwoSided.flags`.
    """
    if isinstance(calibration, Threshold):
        return calibration.value
    if isinstance(calibration, TwoSided):
        a = calibration.retain.value
        b = math.nextafter(-calibration.forget.value, -math.inf)  # s >= b as s > the number before it
        both, none = calibration.on_both == "corrupt", calibration.on_none == "corrupt"
        if both and none:
            return min(a, b)
        if both:
            return b
        return a if none else max(a, b)
    return max(one.value for one in calibration.values())


def calibration_record(calibration: Calibration, *, turns: int = 1) -> dict[str, Any]:
    """Plain JSON: each threshold with what it promises, for prompts or for conversations of so many."""
    if isinstance(calibration, Threshold):
        return {"kind": "one-sided", "turns": turns, "retain": _threshold_record(calibration)}
    if isinstance(calibration, TwoSided):
        return {
            "kind": "two-sided",
            "turns": turns,
            "retain": _threshold_record(calibration.retain),
            "forget": _threshold_record(calibration.forget),
            "on_both": calibration.on_both,
            "on_none": calibration.on_none,
            "bounds_misses": calibration.bounds_misses,
            "bounds_false_positives": calibration.bounds_false_positives,
        }
    return {"kind": "by group", "groups": {str(name): _threshold_record(one) for name, one in calibration.items()}}


def _threshold_record(one: Threshold) -> dict[str, Any]:
    record = dataclasses.asdict(one)
    return record | {
        "value": "infinity" if math.isinf(one.value) else one.value,
        "rate": EstimateRecord.of(one.rate).model_dump(),
    }


def _name(model: str) -> str:
    """Of a folder its last part: a guard is handed on, and where its model lay is nobody's business."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def seen_record(dealt: Dealt) -> dict[str, list[str]]:
    """What was fitted on, as `prompt_mark` of each prompt: for an evaluation that leaves it out."""
    parts = ("tuning", "training", "calibration")
    return {name: sorted({prompt_mark(row.asked) for row in getattr(dealt, name)}) for name in parts}


def taught_record(texts: Texts, dealt: Dealt, plan: FitPlan) -> list[str]:
    """`prompt_mark` of every prompt that the classifier was taught to flag.

    These are all forget prompts, the audit's too, with the rewordings that they were taught in: a classifier is to know
    the whole forget set, and is audited on other wordings of it. An evaluation that asks forget prompts as they are
    asks what the classifier was taught; `seen_record` alone does not say so.
    """
    made, is_forget = _training(texts, dealt, plan)
    return sorted({prompt_mark(text) for text, forget in zip(made, is_forget, strict=True) if forget})


def prompt_mark(text: str) -> str:
    """16 hexadecimal digits of the SHA-256 of a prompt, case and white space aside."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()[:16]


def _brief(found: SearchResult) -> dict[str, Any]:
    record = found.to_record()
    return {key: record[key] for key in ("outcome", "strength", "metrics", "n_evaluations", "passes", "warnings")}


def _training(texts: Texts, dealt: Dealt, plan: FitPlan) -> tuple[list[str], list[bool]]:
    others = {name: list(texts.others) for name in texts.names} if texts.others else {}
    made = training_prompts(
        [row.asked for row in texts.forget],
        [row.asked for row in hold_out(dealt, share=plan.held_out, seed=plan.seed).kept],
        others,
        seed=plan.seed,
        n_each=plan.n_each,
        most_reworded=plan.most_reworded,
    )
    return made.texts, made.forget


def scores_of(
    scorer: Scorer, matcher: NameMatcher | None, prompts: Sequence[Prompt], stage: str, progress: Progress
) -> Floats:
    """As `judge.conversation_scores`, in batches; what cannot be read counts as `UNREADABLE`, above every score."""

    def score(texts: Sequence[str]) -> Floats:
        found: list[Floats] = []
        for start in range(0, len(texts), SCORE_BATCH):
            progress(stage, start, len(texts))
            found.append(score_texts(scorer, matcher, texts[start : start + SCORE_BATCH]))
        progress(stage, len(texts), len(texts))
        return np.concatenate(found)

    return np.minimum(conversation_scores(score, prompts), UNREADABLE) if len(prompts) else np.zeros(0)


def _calibrate(
    scorer: Scorer, matcher: NameMatcher | None, texts: Texts, dealt: Dealt, plan: FitPlan, progress: Progress
) -> tuple[Calibration, tuple[str, ...], Drawn]:
    asked = [row.asked for row in dealt.calibration]
    require_unseen(asked, [row.asked for row in (*texts.forget, *dealt.training)])
    if plan.turns > 1 and texts.groups:
        raise InputError("a promise by group is one for single prompts; give groups or turns, not both.")
    talks = conversations(dealt.calibration, plan.turns, seed=plan.seed)
    scores = scores_of(scorer, matcher, [one.prompt for one in talks], "calibration prompts", progress)
    drawn = Drawn(tuple(one.id for one in talks), scores)
    if plan.alpha_forget is not None:
        if texts.groups:
            raise InputError("bounds on misses by group are not offered; give alpha_forget or groups, not both.")
        misses = reworded(dealt.tuning)
        if not misses:
            raise InputError(
                "a bound on misses needs rewordings of the forget rows that the classifier was not trained on: give "
                'the rows a field "paraphrased_question", or leave alpha_forget out.'
            )
        require_unseen(misses, [row.asked for row in texts.forget])
        ids = tuple(row.id for row in dealt.tuning if reworded([row]))
        forget = scores_of(scorer, matcher, misses, "rewordings", progress)
        drawn = dataclasses.replace(drawn, forget_ids=ids, forget=forget)
    elif texts.groups:
        labels = [texts.groups.get(row.id) for row in dealt.calibration]
        missing = next((row for row, label in zip(dealt.calibration, labels, strict=True) if label is None), None)
        if missing is not None:
            raise InputError(f"retain row {quoted(missing.id)} has no group, and others have one. Give every row one.")
        drawn = dataclasses.replace(drawn, groups=tuple(map(str, labels)))
    calibration, warnings = calibrate(
        drawn, alpha=plan.alpha, alpha_forget=plan.alpha_forget, on_both=plan.on_both, on_none=plan.on_none
    )
    if UNREADABLE <= threshold_of(calibration) < math.inf:
        n_unread = int((scores >= UNREADABLE).sum())
        whole = counted_units(len(scores), plan.turns, "calibration ")
        raise NotEnoughError(
            f"{n_unread:,} of {whole} hold a part of which the classifier's encoder knows "
            f"no character, and such prompts are always flagged: a rate of {plan.alpha:g} cannot be promised. Take "
            "another encoder, leave these prompts out, or raise alpha."
        )
    if not math.isfinite(threshold_of(calibration)):
        raise NotEnoughError(
            f"{'; '.join(warnings).rstrip('.')}. Give more retain prompts, or a larger alpha: a guard that flags "
            "nothing, or everything, is none."
        )
    return calibration, warnings, drawn


def _check_target(plan: FitPlan, texts: Texts, base: LanguageModel | None) -> None:
    if plan.metrics != ("accuracy",) and not texts.never and base is None:
        raise InputError(
            "there is no target for the strength: give rows about entities that the model never met (never), the base "
            "model before it was taught, or the targets themselves."
        )


def _search(
    guard: EcoGuard,
    aims: Sequence[Aim],
    dealt: Dealt,
    plan: FitPlan,
    done: Iterable[Measurement],
    on_measured: Callable[[Measurement], None] | None,
    progress: Progress,
) -> SearchResult:
    settings = plan.search
    total = (settings.scan_points + settings.local_points) * settings.n_seeds + 4 * settings.n_fresh
    n_measured = 0

    def measured(one: Measurement) -> None:
        nonlocal n_measured
        n_measured += 1
        progress("strength", min(n_measured, total), total)
        if on_measured is not None:
            on_measured(one)

    measure = GuardMeasure(guard, dealt.tuning, plan.metrics, scope=plan.scope, max_new_tokens=plan.max_new_tokens)
    found = searched_for(aims, measure, settings, seed=plan.seed, done=done, on_measured=measured)
    progress("strength", total, total)
    return found


def searched_for(
    aims: Sequence[Aim],
    measure: Measure,
    settings: SearchSettings,
    *,
    seed: int,
    done: Iterable[Measurement],
    on_measured: Callable[[Measurement], None] | None = None,
) -> SearchResult:
    """The search of a strength that brings each metric to its aim; ``seed`` is of the targets' intervals."""
    metrics, bare = [one.metric(seed=seed) for one in aims], [one.without for one in aims]
    return search(measure, metrics, bare, settings, done=done, on_measured=on_measured)


def _aims(
    guard: EcoGuard,
    lm: LanguageModel,
    texts: Texts,
    rows: Rows,
    plan: FitPlan,
    base: LanguageModel | None,
    progress: Progress,
) -> tuple[Aim, ...]:
    """Target and bare value of each metric, row by row."""
    progress("targets", 0, 1)

    def by_row(model: LanguageModel, name: MetricName, listed: Rows) -> ByRow:
        values = row_values(Bare(model, guard.form), listed, name, max_new_tokens=plan.max_new_tokens)
        return _by_row(listed, values)

    def target(name: MetricName, place: int) -> tuple[str, ByRow]:
        if plan.targets:
            return GIVEN, ByRow(("",), ("",), np.array([plan.targets[place]]))
        if name == "accuracy":
            return CHANCE, _by_row(rows, [float(len(row.options)) for row in rows if isinstance(row, ChoiceRow)])
        if texts.never:
            return "entities never learnt", by_row(lm, name, tuple(texts.never))
        assert base is not None
        return "base model", by_row(base, name, rows)

    targets = [target(name, place) for place, name in enumerate(plan.metrics)]
    progress("targets", 1, 1)
    return tuple(Aim(name, *one, by_row(lm, name, rows)) for name, one in zip(plan.metrics, targets, strict=True))


def _by_row(rows: Rows, values: Sequence[float] | Floats) -> ByRow:
    ids, clusters = tuple(row.id for row in rows), tuple(row.cluster for row in rows)
    return ByRow(ids, clusters, np.asarray(values, dtype=np.float64))
