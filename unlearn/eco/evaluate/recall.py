r"""What a guard recognises, and whom it stops by mistake.

    recall                flagged / asked, of prompts about what is to be forgotten, under each attack
    false-positive rate   flagged / asked, of prompts that may pass

Rows of one cluster (an author) are not independent: where there are several, recall is resampled by cluster, and where
all are flagged, or none is, its interval is the exact one with one trial for each cluster. A false-positive rate has
the exact interval of Clopper and Pearson over prompts, as the promise is about prompts; beside it stands the one by
cluster.

What calibration promised, P(flag | may pass) <= alpha on average over calibration sets, is tested: the false positives
among m new prompts, exchangeable with the n of calibration, are beta-binomial(m, n + 1 - k, k), k the threshold's rank,
and p is the probability of as many or more. Ties make it larger, never smaller. Of general questions nothing was
promised, as they are from another source.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import betabinom

from audit.answers.formats import Prompt
from audit.answers.rewordings import Attack, Kind
from audit.answers.rows import QaRow
from audit.errors import InputError
from audit.forgetting.measured import few_passages
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Seed, finite_vector, generator
from audit.stats.estimate import Estimate, PValue
from audit.stats.proportion import clopper_pearson
from audit.text.safe import counted

from ..calibration import Threshold


class Verdict(Protocol):
    """What is said of one prompt: whether it is flagged, and its score, +inf where it cannot be read."""

    @property
    def flagged(self) -> bool: ...
    @property
    def score(self) -> float: ...


class Watcher(Protocol):
    """A guard, or a filter, whose verdicts ask for no model's format."""

    def verdicts(self, prompts: Sequence[Prompt]) -> Sequence[Verdict]: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """Prompts of one kind, and what was said of each; rates follow from it.

    Attributes:
        of: Which prompts: an attack's name, or a source.
        ids, clusters: One for each prompt.
        scores: Likewise, +inf where a prompt cannot be read.
        flagged: Likewise.
        texts: Likewise; a replay has only those that were quoted.
        n_left_out: Rows that no such prompt could be made from.
        lacking: Where no prompt could be asked: why.
    """

    of: str
    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    scores: tuple[float, ...]
    flagged: tuple[bool, ...]
    texts: tuple[str, ...]
    n_left_out: int = 0
    lacking: str | None = None

    @classmethod
    def by(
        cls, guard: Watcher, prompts: Sequence[Prompt], *, of: str, ids: Sequence[str], clusters: Sequence[Any],
        n_left_out: int = 0,
    ) -> Judged:  # fmt: skip
        """What the guard says of some prompts.

        Raises:
            InputError: The guard refuses one.
        """
        verdicts = guard.verdicts(prompts) if prompts else []
        return cls(
            of,
            tuple(ids),
            tuple(clusters),
            tuple(float(one.score) for one in verdicts),
            tuple(bool(one.flagged) for one in verdicts),
            tuple(map(prompt_text, prompts)),
            n_left_out,
        )

    def listed(self, *, flagged: bool) -> tuple[Scored, ...]:
        """Those that were flagged, or those that were not."""
        rows = zip(self.ids, self.texts, self.scores, self.flagged, strict=True)
        return tuple(Scored(name, text, score) for name, text, score, flag in rows if flag is flagged)


@dataclass(frozen=True, slots=True)
class Scored:
    """A prompt's row and its score."""

    id: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall under one attack.

    Attributes:
        attack: Its name.
        kind: Its kind.
        share: Recall.
        n_prompts: Prompts that were asked.
        n_left_out: Rows from which the attack could not be made.
        missed: Those that were not flagged, with their score.
    """

    attack: str
    kind: Kind
    share: Estimate
    n_prompts: int
    n_left_out: int
    missed: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """Prompts that may pass and do not.

    Attributes:
        source: Where the prompts are from.
        rate: By prompts, exact interval.
        by_cluster: The same rate with an interval by clusters; None where each row is a cluster of its own.
        alpha: Highest rate that calibration promised, None where it promised nothing.
        surplus: Probability of so many false positives or more if the promise holds; None likewise.
        listed: All of them, highest score first.
    """

    source: str
    rate: Estimate
    by_cluster: Estimate | None
    alpha: float | None
    surplus: PValue | None
    listed: tuple[Scored, ...]


def share(hits: ArrayLike, clusters: Sequence[Hashable], *, name: str, rng: Seed, level: float = 0.95) -> Estimate:
    """Share of 1s: exact where all are alike or no two rows share a cluster, else clusters are resampled.

    Args:
        hits: 0 or 1 of each row, shape (n,); none gives an undefined estimate.
        clusters: Of each row.
        name: What is measured.
        rng: Seed or generator.
        level: Confidence level, in (0, 1).
    """
    if not len(clusters):
        return Estimate.undefined(method=name, why="there are no prompts of this kind", level=level)
    values = finite_vector(np.asarray(hits, dtype=np.float64), name)
    n_clusters = len(set(clusters))
    if n_clusters == len(values):
        found = clopper_pearson(int(values.sum()), n_clusters, level=level)
    elif values.min() == values.max():
        found = clopper_pearson(n_clusters if values[0] else 0, n_clusters, level=level)
        found = replace(found, method=f"{found.method}, one trial for each cluster")
    else:
        found = bootstrap(np.mean, values, clusters=list(clusters), level=level, rng=rng)
    why = "; ".join(note for note in (found.why, few_passages(found)) if note) or None
    return replace(found, method=f"{name}, {found.method}", why=why)


def recall(
    guard: Watcher,
    rows: Sequence[QaRow],
    attacks: Sequence[Attack],
    *,
    seed: int,
    level: float = 0.95,
) -> list[Recall]:
    """Recall under each attack, in their order; one that can be made from no row is undefined and says why, and so is
    a conversation where the guard's model takes none.

    Args:
        guard: Who decides.
        rows: Held-out rows about what is to be forgotten.
        attacks: As `rewordings.attacks` gives them.
        seed: Of the attacks and of the draws.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: There are no rows, or the guard refuses a prompt.
    """
    if not rows:
        raise InputError("there are no forget rows to measure recall on; expected one or more.")
    draws = generator(seed)
    return [recalled(under(guard, rows, one, seed=seed), one.kind, rng=draws, level=level) for one in attacks]


def under(guard: Watcher, rows: Sequence[QaRow], attack: Attack, *, seed: int) -> Judged:
    """What the guard says of each row's prompt under one attack; where none can be asked, why."""
    made = [(row, attack.prompt(row, seed=seed)) for row in rows]
    asked = [(row, prompt) for row, prompt in made if prompt is not None]
    nothing = Judged(attack.name, (), (), (), (), (), len(rows), attack.lacking)
    if not asked:
        return nothing
    try:
        return Judged.by(
            guard,
            [prompt for _, prompt in asked],
            of=attack.name,
            ids=[row.id for row, _ in asked],
            clusters=[row.cluster for row, _ in asked],
            n_left_out=len(rows) - len(asked),
        )
    except InputError as error:
        if attack.kind != "turns":
            raise
        return replace(nothing, lacking=str(error))


def recalled(judged: Judged, kind: Kind, *, rng: Seed, level: float = 0.95) -> Recall:
    """Recall under an attack, from what was said of each prompt.

    Args:
        judged: As `under` gives it.
        kind: Of the attack.
        rng: Seed or generator.
        level: Confidence level, in (0, 1).
    """
    name, n_left_out, n = f"recall, {judged.of}", judged.n_left_out, len(judged.ids)
    if judged.lacking is not None:
        nothing = Estimate.undefined(method=name, why=f"not measured: {judged.lacking}", level=level)
        return Recall(judged.of, kind, nothing, 0, n_left_out, ())
    estimate = share(judged.flagged, judged.clusters, name=name, rng=rng, level=level)
    if n_left_out:
        note = f"{counted(n_left_out, 'row')} of {n + n_left_out:,} left out: the attack cannot be made from them"
        estimate = replace(estimate, why="; ".join(part for part in (estimate.why, note) if part))
    return Recall(judged.of, kind, estimate, n, n_left_out, judged.listed(flagged=False))


def false_positives(
    guard: Watcher,
    prompts: Sequence[Prompt],
    *,
    source: str,
    ids: Sequence[str] | None = None,
    clusters: Sequence[Hashable] | None = None,
    promised: Threshold | None = None,
    seed: int,
    level: float = 0.95,
) -> FalsePositives:
    """False positives among prompts that may pass.

    Args:
        guard: Who decides.
        prompts: From neither training nor calibration; none gives an undefined rate.
        source: "retain test", "general questions".
        ids: One for each prompt; default its place.
        clusters: One for each prompt; default each its own.
        promised: The threshold, if the prompts are from the source that it was calibrated on.
        seed: Of the draws.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: Ids or clusters do not fit, or the guard refuses a prompt.
    """
    names = [str(place) for place in range(len(prompts))] if ids is None else list(ids)
    homes: list[Hashable] = list(names) if clusters is None else list(clusters)
    if len(names) != len(prompts) or len(homes) != len(prompts):
        raise InputError(
            f"{source}: {len(names)} ids and {len(homes)} clusters for {len(prompts)} prompts; expected one of each."
        )
    judged = Judged.by(guard, prompts, of=source, ids=names, clusters=homes)
    return mistaken(judged, promised=promised, seed=seed, level=level)


def mistaken(judged: Judged, *, promised: Threshold | None, seed: int, level: float = 0.95) -> FalsePositives:
    """False positives, from what was said of each prompt; arguments as in `false_positives`."""
    name, n, n_flagged = f"false-positive rate, {judged.of}", len(judged.ids), sum(judged.flagged)
    rate = clopper_pearson(n_flagged, n, level=level)
    rate = replace(rate, method=f"{name}, {rate.method}", why=None if n else "there are no prompts")
    several = len(set(judged.clusters)) < n
    by_cluster = share(judged.flagged, judged.clusters, name=name, rng=seed, level=level) if several else None
    return FalsePositives(
        judged.of,
        rate,
        by_cluster,
        None if promised is None else promised.alpha,
        None if promised is None else surplus(n_flagged, n, promised),
        tuple(sorted(judged.listed(flagged=True), key=lambda one: -one.score)),
    )


def surplus(n_flagged: int, n: int, threshold: Threshold) -> PValue | None:
    """P(n_flagged or more of n new prompts are flagged) where they are exchangeable with those of calibration.

    Worked: 3 calibration scores with alpha 1/2, k = 2, and one new prompt: it is above the second smallest of three
    with probability 2/4.

    Returns:
        None without prompts, and where the threshold is infinite: then any false positive is one of what cannot be
        read.
    """
    if not n or not math.isfinite(threshold.value):
        return None
    law = betabinom(n, threshold.n + 1 - threshold.rank, threshold.rank)
    tail, least = (max(float(law.pmf(np.arange(count, n + 1)).sum()), np.finfo(float).tiny) for count in (n_flagged, n))
    method = f"beta-binomial({n}, {threshold.n + 1 - threshold.rank}, {threshold.rank}), one-sided"
    return PValue(min(tail, 1.0), least, n, method)


def prompt_text(prompt: Prompt) -> str:
    """A prompt for a list: a conversation is its messages, one a line."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
