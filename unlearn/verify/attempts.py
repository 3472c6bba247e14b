"""What is tried to bring the forgotten back, of one system: each attempt a function, its result plain JSON.

Every attempt is the same for every system (rows, seeds, steps), so that remedied, gold and subject compare. What needs
the model's weights is not tried on a guard: whoever has the weights goes round it, and the verdict says so.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from audit.answers.formats import PromptFormat, messages_of
from audit.answers.rewordings import attacks, encodings
from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import InputError, ModelError
from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage
from audit.forgetting.verbatim import memorised
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.progress import Progress, silent
from audit.text.safe import counted

from ..lora import has_adapter, merge_layers
from ..training import DivergedError, Recipe
from .battery import Material, Subjected, without
from .privacy.membership import answer_scores, membership_scores, score_sets
from .privacy.texts import Role, Sets
from .robustness.evasion import evade
from .robustness.quantise import INT4, INT8, Quantisation, measure_quantised
from .robustness.relearn import (
    FACTS,
    FORGET_ROWS,
    UNRELATED,
    Curve,
    RelearnPlan,
    Tuning,
    plain_texts,
    question_texts,
    relearn,
)
from .robustness.soft_prompt import SoftSettings, attack_pairs, never_controls, wrong_controls
from .robustness.variants import N_SHOTS, probability, variants, vary

FORGET_TEXTS: Final = "forget texts"
UNRELATED_OF_TEXTS: Final = "unrelated text for forget texts"
FAMILIARITY: Final[Mapping[str, str]] = {"rows": "probability of answers", "texts": "exact memorisation"}
ROUNDINGS: Final[Mapping[int, Quantisation]] = {8: INT8, 4: INT4}
MEMBERSHIP: Final = "membership"
N_LOOKS: Final = 3  # at a model while it is tuned, beside the one before: a measurement costs as much as many steps
_LEAST_ROWS: Final = 2 * N_SHOTS  # of a cluster, to spare some as hints


@dataclass(frozen=True, slots=True)
class AttemptPlan:
    """Sizes of the attempts.

    Attributes:
        bits: Of the roundings, each 8 or 4.
        relearn_seeds: How many; fewer than three are few.
        relearn_steps: Steps of the tuning.
        relearn_rate: Peak rate of it.
        relearn_share: Of the forget clusters that are tuned on.
        relearn_unrelated: Tune on general texts too.
        known: Forget rows, and texts, that rounding and relearning are measured on, at most: of every cluster alike.
        soft_rows: Rows that are attacked with soft prompts, at most.
        soft: How soft prompts are found.
        seed: Of everything that is drawn.
    """

    bits: tuple[int, ...] = (8, 4)
    relearn_seeds: int = 3
    relearn_steps: int = 20
    relearn_rate: float = 1e-4
    relearn_share: float = 0.25
    relearn_unrelated: bool = True
    known: int = 128
    soft_rows: int = 32
    soft: SoftSettings = field(default_factory=SoftSettings)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """One text of the forget set as something that relearning is measured on."""

    id: str
    cluster: str
    text: str


def try_prompts(one: Subjected, material: Material, plan: AttemptPlan) -> dict[str, Any]:
    """Probability of the answers under every way of asking that the rows allow.

    What a remedy was tuned on is left out where it is asked in the very words, case and white space aside; the same
    question in other words is new as a prompt, and stays.

    Returns:
        ``measured``: way -> record; ``missing``: way -> why.
    """
    shots, rows = spare_shots(material.forget_rows)
    measured: dict[str, Any] = {}
    missing: dict[str, str] = {}
    if not rows:
        return {"measured": {}, "missing": {"prompts": "there are no forget rows"}}
    for way in variants(shots=shots, retain=material.neighbour_rows[: 10 * N_SHOTS]):
        varied = vary(way, rows, seed=plan.seed)
        seen = {row.id for row in varied.rows if one.saw(row.prompt)}
        found = without(probability(one.system, varied), seen)
        if len(found.ids):
            measured[way.name] = found.to_record()
        else:
            missing[way.name] = next(iter(found.left_out.values()), "no row allows it")
    return {"measured": measured, "missing": missing}


def try_roundings(
    lm: LanguageModel, form: PromptFormat, material: Material, plan: AttemptPlan, *, progress: Progress = silent
) -> dict[str, dict[str, Any]]:
    """What the model knows with its weights rounded: "rows" and "texts" -> "whole" and each of ``bits`` -> record.

    An adapter is merged in a copy first: left unrounded beside rounded weights it would hardly be attacked.
    """
    items = known_items(material, lm, plan.known)
    roundings = [ROUNDINGS[bits] for bits in plan.bits]
    names = {one.name: f"int{bits}" for bits, one in zip(plan.bits, roundings, strict=True)} | {"whole": "whole"}
    merged = _merged(lm)
    found: dict[str, dict[str, Any]] = {}
    for what, listed in items.items():
        measure = partial(familiarity, items=listed, form=form)
        made = measure_quantised(merged, roundings, measure, progress=progress)
        found[what] = {names[name]: measured.to_record() for name, measured in made.items()}
    return found


def try_relearning(
    lm: LanguageModel,
    name: str,
    form: PromptFormat,
    material: Material,
    plan: AttemptPlan,
    *,
    path: Path,
    progress: Progress = silent,
) -> tuple[list[Curve], dict[str, str], bool]:
    """Curves of the model under every kind of text that is there; finished ones are read from ``path``.

    Kinds are tried one at a time, so that one under which the model breaks takes no other with it.

    Returns:
        Curves; kind -> why, of kinds that could not be tried to the end; and whether these end so every time, because
        the loss is no longer finite (a rate that is too high, say), and not because memory ran out.
    """
    items = known_items(material, lm, plan.known)
    n_steps = plan.relearn_steps
    settings = RelearnPlan(
        Recipe(plan.relearn_rate, n_steps), every=math.ceil(n_steps / N_LOOKS), seeds=tuple(range(plan.relearn_seeds))
    )
    curves: list[Curve] = []
    missing: dict[str, str] = {}
    for_good = True
    for what, tuning in _tunings(lm, form, material, items, plan):
        measure: Callable[[LanguageModel, Sequence[Any]], Measured] = partial(familiarity, form=form)
        try:
            curves += relearn(
                lm, name, [tuning], items[what], measure, settings,
                settings={"familiarity": FAMILIARITY[what]}, path=path, progress=progress,
            )  # fmt: skip
        except ModelError as error:
            missing[tuning.kind] = str(error)
            for_good = for_good and isinstance(error, DivergedError)
    return curves, missing, for_good


def _tunings(
    lm: LanguageModel, form: PromptFormat, material: Material, items: Mapping[str, Sequence[Any]], plan: AttemptPlan
) -> Iterator[tuple[str, Tuning]]:
    """What is measured ("rows" or "texts"), and what is tuned on. The ids of what is tuned on are its own."""
    share = plan.relearn_share
    general = material.general_texts if plan.relearn_unrelated else ()
    unrelated = plain_texts(lm, [(one.id, f"general/{one.id}", one.text) for one in general])
    if rows := material.forget_rows:
        yield "rows", Tuning(FORGET_ROWS, question_texts(lm, form, [_tuned(row) for row in rows]), share)
        reworded = [
            replace(_tuned(row), prompt=row.paraphrased_prompt or row.prompt, answer=row.paraphrased_answer)
            for row in rows
            if row.paraphrased_answer.strip()
        ]
        if reworded:
            yield "rows", Tuning(FACTS, question_texts(lm, form, reworded), share)
        if unrelated:
            yield "rows", Tuning(UNRELATED, unrelated, share)
    if texts := items.get("texts"):
        listed = [(f"{one.id}#tuned", one.cluster, one.text) for one in texts]
        yield "texts", Tuning(FORGET_TEXTS, plain_texts(lm, listed), share)
        if unrelated:
            yield "texts", Tuning(UNRELATED_OF_TEXTS, unrelated, share)


def _tuned(row: QaRow) -> QaRow:
    return replace(row, id=f"{row.id}#tuned")


def try_soft_prompts(
    lm: LanguageModel,
    form: PromptFormat,
    rows: Sequence[QaRow],
    never: Sequence[QaRow],
    plan: AttemptPlan,
    *,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Advantage of forget answers over controls under soft prompts.

    Controls are rows that nobody saw where there are as many, else the rows' own wrong answers; a strong attack brings
    the latter out as easily as the right ones, so that the advantage is smaller. ``missing`` says why there is none.
    """
    order = np.random.default_rng([plan.seed, 8]).permutation(len(rows))[: plan.soft_rows]
    chosen = [rows[place] for place in sorted(order.tolist())]
    if chosen and len(never) >= len(chosen):
        pairs = never_controls(chosen, never)
    else:
        pairs, left_out = wrong_controls(chosen, seed=plan.seed)
        if not pairs:
            return {"missing": next(iter(left_out.values()), "there are no forget rows")}
    found = attack_pairs(lm, form, pairs, replace(plan.soft, seed=plan.seed), progress=progress)
    return {
        "advantage": found.advantage.to_record(),
        "elicited": found.target.elicited.to_record(),
        "controls": found.control.elicited.to_record(),
        "settings": asdict(plan.soft),
    }


def try_evasion(one: Subjected, rows: Sequence[QaRow], plan: AttemptPlan, *, progress: Progress = silent) -> Any:
    """Rewordings put to the system: which pass, and what is known of those; rewording -> records.

    A rewording in the very words that a remedy was tuned on is left out; see `try_prompts`.
    """
    if not rows:
        return {}
    rewordings = [*attacks(), *encodings()]
    found: dict[str, Any] = {}
    for each in evade(one.system, rows, rewordings, seed=plan.seed, progress=progress):
        reword = next(made for made in rewordings if made.name == each.name)
        asked = {row.id: reword.prompt(row, seed=plan.seed) for row in rows}
        seen = {name for name, prompt in asked.items() if prompt and one.saw(messages_of(prompt)[-1]["content"])}
        passing, leak = without(each.passing, seen), without(each.leak, seen)
        if len(passing.ids):
            found[each.name] = {"passing": passing.to_record(), "leak": leak.to_record()}
    return found


def try_membership(one: Subjected, material: Material, *, progress: Progress = silent) -> dict[str, Any]:
    """Membership scores of forget, neighbour and never texts: score -> set -> record."""
    found: dict[str, dict[Role, Measured]] = {}
    if one.lm is not None:
        sets = Sets.made_of(
            forget=[*material.forget_texts, *material.forget_rows],
            retain=[*material.neighbour_texts, *material.neighbour_rows],
            never=[*material.never_texts, *material.never_rows],
        )
        table: pd.DataFrame = score_sets(one.lm, sets, truncate=True, progress=progress)
        found = {score: dict(by_set) for score, by_set in membership_scores(table).items()}
    if material.forget_rows and material.never_rows:
        rows: dict[Role, Sequence[QaRow]] = {"forget": material.forget_rows, "never": material.never_rows}
        scores = {
            role: without(measured, {row.id for row in rows[role] if one.saw(row.prompt)})
            for role, measured in answer_scores(one.system, rows).items()
        }
        if all(len(measured.ids) for measured in scores.values()):
            found["answer"] = scores
    return {score: {role: measured.to_record() for role, measured in by_set.items()} for score, by_set in found.items()}


def known_items(material: Material, lm: LanguageModel, most: int) -> dict[str, list[Any]]:
    """What rounding and relearning are measured on, "rows" and "texts" apart, where there are any.

    Texts that are longer than the context, or have no token to guess, cannot be read whole and are not among them.
    """
    found: dict[str, list[Any]] = {}
    if material.forget_rows:
        found["rows"] = _evenly(material.forget_rows, most)
    texts = material.forget_texts
    lead = len(prefix_ids(lm))
    sizes = [lead + len(ids) for ids in encode(lm, [one.text for one in texts])] if texts else []
    readable = [one for one, n in zip(texts, sizes, strict=True) if 2 <= n <= lm.n_context]
    if readable:
        found["texts"] = [Known(one.id, one.id, one.text) for one in readable[:most]]
    return found


def familiarity(lm: LanguageModel, items: Sequence[Any], *, form: PromptFormat) -> Measured:
    """Probability of each row's answer, exp(mean log p); of a text the share of its tokens that come first."""
    ids, homes = tuple(one.id for one in items), tuple(one.cluster for one in items)
    if isinstance(items[0], QaRow):
        scores = Bare(lm, form).log_probs([one.prompt for one in items], [one.answer for one in items])
        values = np.array([float(np.exp(one.mean())) for one in scores])
        return Measured(FAMILIARITY["rows"], ids, homes, values)
    exact = memorised(lm, [Passage(one.id, one.text) for one in items]).exact
    return Measured(FAMILIARITY["texts"], ids, homes, exact.values)


def _evenly(rows: Sequence[QaRow], most: int) -> list[QaRow]:
    """The first rows of each cluster, as many of each as fit into ``most``, one at least: clusters are what is drawn.

    Worked: 12 clusters of 16 rows, at most 128: 10 of each, 120 rows.
    """
    n_clusters = len({row.cluster for row in rows})
    each = len(rows) if len(rows) <= most else max(1, most // n_clusters)
    taken: Counter[str] = Counter()
    found = []
    for row in rows:
        taken[row.cluster] += 1
        if taken[row.cluster] <= each:
            found.append(row)
    return found


def _merged(lm: LanguageModel) -> LanguageModel:
    if not has_adapter(lm.model):
        return lm
    model = copy.deepcopy(lm.model)
    merge_layers(model, adapter=str(lm.subject.adapter))
    return replace(lm, model=model)


def spare_shots(rows: Sequence[QaRow]) -> tuple[list[QaRow], list[QaRow]]:
    """Rows that may stand in prompts as hints, `N_SHOTS` of each cluster that can spare them, and the other rows."""
    by_cluster: dict[str, list[QaRow]] = {}
    for row in rows:
        by_cluster.setdefault(row.cluster, []).append(row)
    shots = [row for listed in by_cluster.values() if len(listed) >= _LEAST_ROWS for row in listed[:N_SHOTS]]
    taken = {row.id for row in shots} | {row.prompt for row in shots}
    return shots, [row for row in rows if row.id not in taken and row.prompt not in taken]


def require_forget_set(material: Material) -> None:
    """Refuse a verification of nothing.

    Raises:
        InputError: There are neither forget rows nor forget texts, or fewer than two of them.
    """
    n = len(material.forget_rows) + len(material.forget_texts)
    if n < 2:
        raise InputError(f"the forget set has {counted(n, 'item')}; expected two rows or texts or more.")
