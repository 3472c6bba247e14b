r"""Membership inference on forget, retain and never-seen text, by every score of ``palimpsest score``, for one model.

    A = P(score of a forget text > score of a never text) + ties / 2         0.5: the score tells nothing

and the same of retain against never (what training leaves, beside it) and of forget against retain (whether what was
forgotten stands out among what was kept, in either direction). The scores are those of `audit.membership`: Ratio where
there is a reference model, Loss, Min-K%, Min-K%++, zlib, and the extras that are asked for; two more are made here:

    min_40    mean of the floor(0.4 T) lowest log-probabilities, which MUSE's PrivLeak takes (`priv_leak`)
    answer    mean log-probability a token of the answer after its prompt, through a `System`: guards have it too

**Indicative.** The texts were found and not dealt, so nothing here carries a p-value. Where the two sets differ in
themselves (a bag of words, the length, or a model that saw neither tells them apart), the AUC of one model is refused,
as the membership audit does. The difference to gold is not: gold sees the same difference between the sets.

Sources: the scores', in `audit.membership`; AUC and TPR at a low FPR of unlearned models: MUSE (arXiv:2407.06460) and
open-unlearning's code. Intervals by cluster, refusal and the two comparisons beside forget-never: ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from audit.answers.rows import QaRow
from audit.answers.systems import Scope, System
from audit.forgetting.measured import Measured
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import check_lengths, encode, prefix_ids
from audit.membership.blind import bag_of_words, blind_auc, excludes_half
from audit.membership.columns import score_columns
from audit.membership.extras import NOTHING, Extras, FurtherPasses
from audit.membership.found import FPRS
from audit.membership.score import lowest_mean, scored_part, summarise
from audit.membership.score_names import NAMES, score_names
from audit.progress import Progress, silent
from audit.stats.checks import Floats, Seed, generator
from audit.stats.estimate import Estimate
from audit.stats.tpr import tpr_at_fpr

from ..asking import Unasked, answer_log_probs
from ..measures import Measure
from .areas import SmallestSeen, TwoSets, auc, difference, smallest_seen
from .texts import PAIRS, ROLES, Pair, Role, Sets

MIN_40: Final = "min_40"
ANSWER: Final = "answer"
MUSE_K: Final = 0.4
NEVER_SAID: Final = -1e4  # nats a token: a lower mean log-probability, a refusal's -inf too, is taken as this
LABELS: Final[Mapping[str, str]] = {**NAMES, MIN_40: "Min-40%", ANSWER: "Answer"}

BySet: TypeAlias = Mapping[Role, Measured]
"""One score of one model: of each set that is not empty."""


# What one model gives each text


def score_sets(
    lm: LanguageModel,
    sets: Sets,
    *,
    k: float = 0.2,
    extras: Extras = NOTHING,
    truncate: bool = False,
    token_budget: int | None = None,
    progress: Progress = silent,
    what: str = "Scoring texts",
) -> pd.DataFrame:
    """What the scores are made from: one row for each text, in one pass and those of the extras.

    Args:
        lm: The model.
        sets: The texts.
        k: Share of the tokens that Min-K% and Min-K%++ average over; Min-40% is made beside it.
        extras: Scores beyond those of one pass.
        truncate: Score the first tokens of a text that is too long, instead of refusing it.
        token_budget: As in `audit.lm.logprobs.token_log_probs`.
        progress: Called as the work goes on.
        what: Name of the work.

    Returns:
        ``role``, ``id``, ``cluster``, ``n_tokens``, ``truncated``, ``loss`` and a column for each score.

    Raises:
        DataError, ModelError, InputError: As `audit.membership.parts.score_in_parts`.
    """
    every = list(sets.every())
    texts = [text.text for _, text in every]
    names = [f"{role}:{text.id}" for role, text in every]
    sequences, cut = check_lengths(lm, names, encode(lm, texts), truncate=truncate)
    further = FurtherPasses.prepare(lm, extras, sequences, texts, ids=names, cut=cut, truncate=truncate)
    done, total = 0, len(texts) * extras.n_passes

    def tell(n: int) -> None:
        nonlocal done
        done += n
        progress(what, done, total)

    progress(what, 0, total)
    tokens = token_log_probs(
        lm, further.sequences, prefix=prefix_ids(lm), moments=True, token_budget=token_budget, on_done=tell
    )
    short = np.isin(np.array(names, dtype=object), further.cut)
    triples = zip(further.sequences, texts, short, strict=True)
    parts = [scored_part(lm, sequence, text, cut=bool(is_cut)) for sequence, text, is_cut in triples]
    scores = summarise(lm, tokens, parts, ids=names, truncated=short, k=k)
    columns = {
        "n_tokens": scores.n_tokens,
        "truncated": scores.truncated,
        "loss": scores.loss,
        "min_k": scores.min_k,
        "min_k_plus_plus": scores.min_k_plus_plus,
        "zlib": scores.zlib,
        MIN_40: np.array([lowest_mean(one.log_probs, MUSE_K) for one in tokens]),
    }
    columns |= further.columns(slice(None), scores, token_budget=token_budget, on_done=tell)
    named = {
        "role": [role for role, _ in every],
        "id": [text.id for _, text in every],
        "cluster": [text.cluster for _, text in every],
    }
    return pd.DataFrame(named | columns)


def membership_scores(own: pd.DataFrame, reference: pd.DataFrame | None = None) -> dict[str, BySet]:
    """Every score that can be made of a model's texts, each higher for a likelier member.

    Args:
        own: What `score_sets` gave of the model.
        reference: Of a model that saw none of the texts, or None; the ratios need it.
    """
    further = [name for name in own.columns if name in NAMES] + ["ratio_of_losses"]
    names = score_names(has_reference=reference is not None, further=further)
    columns = dict(score_columns(own, reference, names)) | {f"{MIN_40}_score": own[MIN_40].to_numpy(dtype=np.float64)}
    found: dict[str, BySet] = {}
    for name in (*names, MIN_40):
        values = columns[f"{name}_score"]
        found[name] = {
            role: Measured(
                f"{LABELS[name]} score",
                tuple(own["id"][of_role]),
                tuple(own["cluster"][of_role]),
                values[of_role.to_numpy()],
            )
            for role in ROLES
            if (of_role := own["role"] == role).any()
        }
    return found


def answer_scores(system: System, rows: Mapping[Role, Sequence[QaRow]], *, scope: Scope = "prompt") -> BySet:
    """Mean log-probability a token of each row's answer, nats; `NEVER_SAID` where the system refuses.

    A refusal is the lowest rank and not a missing value: it is what an observer sees.

    Args:
        system: Who answers.
        rows: Of each set, with answers; those that do not fit the context are left out and told.
        scope: How far a guard's corruption reaches.
    """
    name = f"{LABELS[ANSWER]} score"
    found: dict[Role, Measured] = {}
    for role, of_role in rows.items():
        told = [row for row in of_role if row.answer.strip()]
        without = {row.id: "the row has no answer" for row in of_role if not row.answer.strip()}
        values = answer_log_probs(system, [(row.prompt, row.answer) for row in told], scope=scope)
        without |= {row.id: one.why for row, one in zip(told, values, strict=True) if isinstance(one, Unasked)}
        means = [max(float(one.mean()), NEVER_SAID) for one in values if not isinstance(one, Unasked)]
        ids, clusters = (
            tuple(getattr(row, field) for row in told if row.id not in without) for field in ("id", "cluster")
        )
        found[role] = Measured(name, ids, clusters, np.array(means, dtype=np.float64), without)
    return found


# Whether two sets may be compared


@dataclass(frozen=True, slots=True)
class Alike:
    """Can the two sets be told apart without the model that is judged?

    Attributes:
        pair: Which sets.
        checks: Name -> AUC with a 99% interval, one value for each cluster; where clusters are too few for the words,
            also one text by text.
        told_apart: Names of the checks whose interval leaves out 0.5.
        unchecked: Why the words could not be compared, or None.
    """

    pair: Pair
    checks: Mapping[str, Estimate]
    told_apart: tuple[str, ...]
    unchecked: str | None

    def refused(self) -> str | None:
        """Why the AUC of a single model is not to be read, or None."""
        if not self.told_apart:
            return None
        what = " and ".join(f"{name} (AUC {_short(self.checks[name])})" for name in self.told_apart)
        other = "held-out text is not i.i.d." if self.pair[1] == "never" else "two sets differ in themselves"
        return f"refused: {what} can tell {self.pair[0]} from {self.pair[1]} without this model, so the {other}"


def check_alike(sets: Sets, pair: Pair, *, saw_neither: Mapping[str, BySet] | None = None, seed: int = 0) -> Alike:
    """A bag of words, the length, and the scores of models that saw neither set, each at 99%.

    The texts of one cluster are put together to one, and scores averaged: a forest that learned a person's name from
    one row would know it again in another, and tell apart sets that are alike.

    Args:
        sets: The texts.
        pair: Which two sets.
        saw_neither: In words -> one score of a model that saw neither: "the reference model's loss". Gold saw neither
            forget nor never.
        seed: Of the bag of words.
    """
    documents, lengths, member = [], [], []
    for role in pair:
        by_cluster: dict[str, list[str]] = {}
        for text in sets.of(role):
            by_cluster.setdefault(text.cluster, []).append(text.text)
        documents += ["\n".join(texts) for texts in by_cluster.values()]
        lengths += [float(np.mean([len(text) for text in texts])) for texts in by_cluster.values()]
        member += [role == pair[0]] * len(by_cluster)
    sides = np.array(member, dtype=np.bool_)
    strata = np.zeros(len(documents))
    checks = {
        "a bag of words": bag_of_words(documents, sides, strata, seed=seed),
        "the length": blind_auc(np.array(lengths), sides, strata),
    }
    others: dict[str, Estimate] = {}
    for name, scores in (saw_neither or {}).items():
        if all(role in scores for role in pair):
            one, other = (_cluster_means(scores[role]) for role in pair)
            both = np.concatenate([one, other])
            checks[name] = blind_auc(both, np.arange(len(both)) < len(one), np.zeros(len(both)))
    words, unchecked = checks["a bag of words"], None
    if words.value is None:
        texts = [text.text for role in pair for text in sets.of(role)]
        of_first = np.arange(len(texts)) < len(sets.of(pair[0]))
        apart = bag_of_words(texts, of_first, np.zeros(len(texts)), seed=seed)
        unchecked = _unchecked(words, apart)
        others["a bag of words, text by text"] = apart
    told_apart = tuple(name for name, found in checks.items() if excludes_half(found))
    return Alike(pair, checks | others, told_apart, unchecked)


def _unchecked(words: Estimate, apart: Estimate) -> str | None:
    """Why the words are unchecked where clusters are too few to be divided; None where single texts say enough.

    Text by text the forest may know a cluster's own words again, and the interval is too narrow: both towards telling
    the sets apart. So only its failing to counts.
    """
    if apart.value is not None and not excludes_half(apart):
        return None
    why = words.why if apart.value is None else f"{words.why}, and text by text they differ ({_short(apart)})"
    return f"whether the sets differ in their words could not be checked: {why}"


def _cluster_means(measured: Measured) -> Floats:
    means = pd.Series(measured.values).groupby(list(measured.passages), sort=False).mean()
    return np.array(means, dtype=np.float64)


def _short(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


# One model, and two


@dataclass(frozen=True, slots=True)
class Comparison:
    """One score of one model on two sets.

    Attributes:
        score: Which.
        pair: The sets; the first should score higher.
        auc: A; refused where the sets can be told apart without the model.
        tpr: Name -> share of the first set above a threshold that at most 10%, 1% or 0.1% of the second pass.
        seen: The smallest distance from 0.5 that sets of this size show.
    """

    score: str
    pair: Pair
    auc: Estimate
    tpr: Mapping[str, Estimate]
    seen: SmallestSeen


def compare(
    scores: Mapping[str, BySet],
    alike: Mapping[Pair, Alike],
    *,
    pairs: Sequence[Pair] = PAIRS,
    rng: Seed,
    level: float = 0.95,
) -> list[Comparison]:
    """AUC and TPR of every score on every pair of sets that the model has scores of.

    Args:
        scores: What `membership_scores` or `answer_scores` gave, by name.
        alike: What `check_alike` said of each pair.
        pairs: Which pairs.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).
    """
    draws = generator(rng)
    found = []
    for name, by_set in scores.items():
        for pair in pairs:
            if not all(role in by_set and len(by_set[role].values) for role in pair):
                continue
            first, second = (by_set[role] for role in pair)
            area = auc(first, second, rng=draws, level=level)
            rates = {key: tpr_at_fpr(first.values, second.values, fpr=fpr, level=level) for key, fpr in FPRS.items()}
            sizes = (len(first.values), len(second.values), len(set(first.passages)), len(set(second.passages)))
            if sizes[:2] != sizes[2:]:
                rates = {key: _noted(rate, CLUSTERED_TPR) for key, rate in rates.items()}
            said = alike.get(pair)
            if said is not None:
                area = _read(area, said)
                rates = {key: _read(rate, said) for key, rate in rates.items()}
            found.append(Comparison(name, pair, area, rates, smallest_seen(*sizes, level=level)))
    return found


CLUSTERED_TPR: Final = "texts of one cluster are counted as independent, so the interval is too narrow"


def _read(estimate: Estimate, alike: Alike) -> Estimate:
    refused = alike.refused()
    if refused is None or estimate.value is None:
        return _noted(estimate, alike.unchecked)
    number = (
        f"{estimate.value:.3g}"
        if estimate.low is None
        else f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
    )
    return Estimate.undefined(
        method=estimate.method, why=f"{refused}; the number was {number}", n=estimate.n, level=estimate.level
    )


def _noted(estimate: Estimate, note: str | None) -> Estimate:
    return estimate if note is None else replace(estimate, why="; ".join(part for part in (estimate.why, note) if part))


def pair_of(by_set: BySet, pair: Pair = ("forget", "never")) -> TwoSets:
    """The two sets of a pair, as `areas.difference`, `areas.residual` and `priv_leak` take them."""
    return by_set[pair[0]], by_set[pair[1]]


def excess(
    model: BySet,
    gold: BySet,
    *,
    alike: Alike | None = None,
    pair: Pair = ("forget", "never"),
    rng: Seed,
    level: float = 0.95,
) -> Estimate:
    """A of a model less A of gold, on the same texts: 0 as gold, above it more can be told, below it is overshot.

    Args:
        model: One score of the remedied model, or of the subject.
        gold: The same score of gold.
        alike: Where the sets differ in themselves, the estimate says so.
        pair: Which sets.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    found = difference(pair_of(model, pair), pair_of(gold, pair), rng=rng, level=level)
    if alike is None or alike.refused() is None:
        return found
    told = " and ".join(alike.told_apart)
    return _noted(
        found, f"{told} tells the sets apart; the difference to gold rests on gold seeing the same difference"
    )


def _measure(score: str) -> Measure:
    return Measure(
        key=f"privacy.membership.{score}",
        label=f"{LABELS[score]}: AUC, forget against never",
        axis="privacy",
        direction="more is known",
        low=0.0,
        high=1.0,
        formula="P(score of a forget text > score of a never text) + ties / 2; read it less gold's",
        source="score: audit.membership; AUC on unlearned models: MUSE, arXiv:2407.06460"
        if score != ANSWER
        else "ours: loss of the answer alone, so that a guard has it",
        failure="below 0.5 is a trace too (overshot); where the sets differ in themselves it shows that (refused); a "
        "destroyed model has about 0.5, so read utility beside it",
    )


MEASURES: Final = tuple(_measure(score) for score in LABELS)
