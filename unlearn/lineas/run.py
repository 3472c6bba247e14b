"""Sentences in, maps out: the paper's steps on a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.progress import Progress, silent
from audit.runs.records import content_key
from audit.text.safe import counted

from .caches import require_untouched
from .config import FitSettings
from .fit import Fitted, HeldOut, fit_maps
from .loss import Distances
from .maps import AffineMap, Maps, support_share
from .network import Sentences, pooled_activations
from .pooling import Pooling
from .sites import Site, find_sites
from .texts import encode_texts

MAX_TOKENS = 128  # Linear-AcT's configurations; LinEAS's own value is not sourced
_LEAST_HELD_OUT = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What to steer, apart from the sentences.

    Attributes:
        sites: Where maps stand: a preset's name or a regular expression (`sites`).
        loss_sites: Where distances are taken; None takes the map sites.
        pooling: How tokens become one vector.
        max_tokens: Longest sentence, the beginning-of-sequence token included; longer ones are cut.
        held_out: Share of the sentences of each side that fits nothing and says when to stop.
        settings: The fit.
    """

    sites: str = "norms"
    loss_sites: str | None = None
    pooling: Pooling = field(default_factory=Pooling)
    max_tokens: int = MAX_TOKENS
    held_out: float = 0.0
    settings: FitSettings = field(default_factory=FitSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise InputError(f"held_out is {self.held_out}; expected a share from 0 to below 1.")
        if self.max_tokens < 2:
            raise InputError(f"max_tokens is {self.max_tokens}; expected 2 or more.")

    def to_record(self) -> dict[str, Any]:
        return {
            "sites": self.sites,
            "loss_sites": self.loss_sites,
            "pooling": self.pooling.kind,
            "skip_bos": self.pooling.skip_bos,
            "max_tokens": self.max_tokens,
            "held_out": self.held_out,
            **self.settings.to_record(),
        }


@dataclass(frozen=True, slots=True)
class Learnt:
    """Maps with what they were made of.

    Attributes:
        fitted: Maps and losses.
        sites: Where maps stand, in the model's order.
        loss_sites: Where distances were taken.
        n_source: Source sentences that were fitted on.
        n_target: Target sentences.
        n_cut: Sentences that were longer than ``max_tokens``.
    """

    fitted: Fitted
    sites: tuple[Site, ...]
    loss_sites: tuple[Site, ...]
    n_source: int
    n_target: int
    n_cut: int

    @property
    def maps(self) -> dict[str, AffineMap]:
        return self.fitted.maps

    @property
    def support(self) -> float:
        return support_share(self.maps)


@dataclass(frozen=True, slots=True)
class Rows:
    """Token ids of both sides, the held-out ones apart.

    Attributes:
        source: To be led away from.
        target: To be led to.
        source_out: Held-out sentences of the source; empty where none are.
        target_out: Of the target.
        n_cut: As `Learnt`.
    """

    source: list[list[int]]
    target: list[list[int]]
    source_out: list[list[int]]
    target_out: list[list[int]]
    n_cut: int


def prepare(lm: LanguageModel, source: Sequence[str], target: Sequence[str], plan: Plan) -> Rows:
    """Sentences as rows; a share of each side is held out (`split`).

    Raises:
        InputError: A side has too few sentences, both sides are the same, or too few are held out.
        DataError: A sentence is empty.
    """
    check_texts(source, target)
    encoded = [
        encode_texts(lm, texts, what, max_tokens=plan.max_tokens)
        for texts, what in ((source, "source"), (target, "target"))
    ]
    most = min(plan.max_tokens, lm.n_context)
    room = most - len(prefix_ids(lm))
    n_cut = sum(len(ids) > room for texts in (source, target) for ids in encode(lm, texts))
    parts: list[list[list[int]]] = []
    for rows, what in zip(encoded, ("source", "target"), strict=True):
        fitted, out = split(rows, round(plan.held_out * len(rows)), seed=plan.settings.seed)
        if plan.held_out and min(len(fitted), len(out)) < _LEAST_HELD_OUT:
            raise InputError(
                f"held_out = {plan.held_out:g} of {counted(len(rows), what + ' sentence')} leaves {len(out)} held out "
                f"and {len(fitted)} to fit, equal ones on one side; expected at least {_LEAST_HELD_OUT} of each. Give "
                "more sentences."
            )
        parts += [fitted, out]
    return Rows(parts[0], parts[2], parts[1], parts[3], n_cut)


def split(rows: Sequence[list[int]], n_out: int, *, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Rows that are fitted on and rows that are held out, each in their order.

    Drawn by the seed, so that a sorted file is no trouble. Equal rows stay on one side, and so there may be fewer
    held out than asked for.
    """
    copies: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(rows):
        copies.setdefault(tuple(row), []).append(place)
    distinct = list(copies.values())
    out: set[int] = set()
    for number in np.random.default_rng([seed, len(rows)]).permutation(len(distinct)):
        if len(out) + len(distinct[number]) <= n_out:
            out |= set(distinct[number])
    return [row for place, row in enumerate(rows) if place not in out], [rows[place] for place in sorted(out)]


def check_texts(source: Sequence[str], target: Sequence[str]) -> None:
    """Refuse sides from which nothing can be learnt.

    Raises:
        InputError: One sentence or none on a side, or both sides hold the same sentences.
    """
    for texts, what in ((source, "source"), (target, "target")):
        if len(texts) < 2:
            raise InputError(
                f"there is {counted(len(texts), what + ' sentence')}; a distribution needs several (the paper takes "
                "32 on each side)."
            )
    if sorted(set(source)) == sorted(set(target)):
        raise InputError(
            "source and target hold the same sentences, so there is nothing to learn. Give sentences that show what "
            "is unwanted as the source, and what is wanted as the target."
        )


def learn(
    lm: LanguageModel,
    source: Sequence[str],
    target: Sequence[str],
    plan: Plan | None = None,
    *,
    start: Maps | None = None,
    work: Path | None = None,
    progress: Progress = silent,
) -> Learnt:
    """Learn maps that lead from source to target sentences; the two sides are unpaired.

    Args:
        lm: The model; it is left as it was, also after an error.
        source: What is unwanted.
        target: What is wanted.
        plan: Where and how; None takes the paper's.
        start: Maps to start from; without them w = 1, b = 0.
        work: Folder of the state, from which a killed fit goes on.
        progress: Called after each step.

    Raises:
        InputError: No site matches, sides are too small or the same, the loss is no longer finite, or the model is
            steered or in training mode.
        DataError: A sentence is empty.
        ModelError: Activations are not finite.
        StorageError: ``work`` cannot be written.
    """
    plan = plan or Plan()
    require_untouched(lm.model)
    sites = find_sites(lm, plan.sites)
    loss_sites = sites if plan.loss_sites is None else find_sites(lm, plan.loss_sites)
    rows = prepare(lm, source, target, plan)
    settings = plan.settings
    read = [site.name for site in loss_sites]

    pooling = plan.pooling

    def distances(target_rows: list[list[int]], what: str) -> Distances:
        pooled = pooled_activations(lm, target_rows, read, pooling, what=what)
        return Distances.to(pooled, neurons=settings.neurons, over_sites=settings.sites)

    held_out = None
    if rows.source_out:
        held_out = HeldOut(len(rows.source_out), distances(rows.target_out, "held-out target"))
    pooled_activations(lm, rows.source, read, pooling, what="source")  # refuses what is not finite, by its site
    fitted = fit_maps(
        Sentences(lm, [*rows.source, *rows.source_out], read, pooling, checkpointing=settings.checkpointing),
        distances(rows.target, "target"),
        {site.name: site.width for site in sites},
        settings,
        start=start,
        held_out=held_out,
        device=lm.device,
        work=work,
        key=content_key(
            plan=plan.to_record(),
            rows=[rows.source, rows.target, rows.source_out, rows.target_out],
            model=[lm.fingerprint.to_record(), str(lm.model.dtype)],
            start=None if start is None else {site: [one.w.tolist(), one.b.tolist()] for site, one in start.items()},
        ),
        progress=progress,
    )
    return Learnt(fitted, tuple(sites), tuple(loss_sites), len(rows.source), len(rows.target), rows.n_cut)
