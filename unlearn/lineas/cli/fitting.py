"""The stage of a run in which maps are fitted and saved."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from audit.lm.load import LanguageModel
from audit.progress import Progress

from ..baselines.at_sites import fit_baseline
from ..config import FitSettings
from ..files import Steering, data_hash, save_maps
from ..fit import Fitted
from ..loss import check_sizes
from ..maps import AffineMap, support_share
from ..network import pooled_activations
from ..path import gamma_path
from ..pooling import Pooling
from ..run import Plan, Rows, learn, prepare
from .methods import Method, Places, find_places, method_of

_PROBED = 8  # sentences of each side that are read before a run is begun


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be fitted.

    Attributes:
        method: How.
        plan: Where, and LinEAS's settings.
        gammas: Weights of the path, rising; one is no path.
        source, target: Sentences.
    """

    method: Method
    plan: Plan
    gammas: tuple[float, ...]
    source: tuple[str, ...]
    target: tuple[str, ...]

    def places(self, lm: LanguageModel) -> Places:
        return find_places(lm, self.method, self.plan.sites, self.plan.loss_sites)

    def rows(self, lm: LanguageModel) -> Rows:
        return prepare(lm, self.source, self.target, self.plan)


def asked_for(table: Any, source: Sequence[str], target: Sequence[str]) -> Asked:
    """The plan of a table.

    Raises:
        InputError: A setting is out of its range, or there is no such method.
    """
    method = method_of(table.method)
    settings = FitSettings(
        optimizer=table.optimizer,
        lr=table.rate,
        final_lr=table.final_lr,
        steps=table.steps,
        batch=table.batch,
        gamma=table.gamma[0],
        l1=table.l1,
        group=table.group,
        floor=table.floor,
        neurons=table.neurons,
        sites=table.over_sites,
        microbatch=table.microbatch,
        checkpointing=table.checkpointing,
        check_every=table.check_every,
        patience=table.patience,
        forced=table.forced,
        seed=table.seed,
    )
    gammas = tuple(sorted(replace(settings, gamma=one).gamma for one in table.gamma))  # each is checked
    plan = Plan(
        sites=table.sites or method.sites,
        loss_sites=table.loss_sites,
        pooling=Pooling(table.pooling or method.pooling.kind, table.skip_bos or method.pooling.skip_bos),
        max_tokens=table.max_tokens,
        held_out=table.held_out,
        settings=settings,
    )
    return Asked(method, plan, gammas, tuple(source), tuple(target))


def check(lm: LanguageModel, asked: Asked) -> None:
    """Refuse, before a run is begun, sites that are not there, sentences that do not fit and activations that fail.

    Raises:
        InputError, DataError, ModelError: As `find_places`, `prepare` and `pooled_activations`.
    """
    places, rows = asked.places(lm), asked.rows(lm)
    if asked.method.baseline is None:
        settings = asked.plan.settings
        check_sizes(len(rows.source), min(len(rows.source), settings.batch or len(rows.source)), forced=settings.forced)
    names = list(dict.fromkeys(one.name for one in (*places.sites, *places.loss_sites)))
    for side, what in ((rows.source, "source"), (rows.target, "target")):
        pooled_activations(lm, side[:_PROBED], names, asked.plan.pooling, what=what)


def fit_into(folder: Path, work: Path, lm: LanguageModel, asked: Asked, progress: Progress) -> dict[str, Any]:
    """Fit maps and save them.

    Args:
        folder: Where the maps go.
        work: Where a killed fit goes on from.
        lm: The model; it is left as it was.
        asked: What.
        progress: Called after each step or site.

    Returns:
        What happened, as plain JSON values.
    """
    if lm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lm.device)
    places, rows = asked.places(lm), asked.rows(lm)
    settings: FitSettings | None = asked.plan.settings
    path: list[dict[str, Any]] = []
    n_steps = 0
    fitted: Fitted | None = None
    untouched: float | None = None
    if asked.method.baseline is not None:
        settings = None
        names = [one.name for one in places.sites]
        maps = fit_baseline(
            lm, rows.source, rows.target, names, asked.method.baseline, pooling=asked.plan.pooling, progress=progress
        )
    elif len(asked.gammas) > 1:
        found = gamma_path(lm, asked.source, asked.target, asked.plan, asked.gammas, work=work, progress=progress)
        settings = replace(asked.plan.settings, gamma=found.steps[found.chosen].gamma)
        n_steps = sum(len(one.learnt.fitted.losses) for one in found.steps)
        fitted, untouched = found.steps[found.chosen].learnt.fitted, found.untouched
        path = [
            {
                "gamma": one.gamma,
                "support": one.learnt.support,
                "untouched_sites": sum(not bool(each.support().any()) for each in one.learnt.maps.values()),
                "held_out": one.held_out,
                "step": one.learnt.fitted.step,
            }
            for one in found.steps
        ]
        maps = fitted.maps
    else:
        fitted = learn(lm, asked.source, asked.target, asked.plan, work=work, progress=progress).fitted
        maps, untouched, n_steps = fitted.maps, fitted.held_out_before, len(fitted.losses)
    record = {
        "method": asked.method.title,
        "strength": asked.method.strength,
        **places.to_record(),
        "pooling": asdict(asked.plan.pooling),
        "max_tokens": asked.plan.max_tokens,
        "neurons": asked.plan.settings.neurons,
        "over_sites": asked.plan.settings.sites,
        "sentences": {
            "source": len(rows.source),
            "target": len(rows.target),
            "held-out source": len(rows.source_out),
            "held-out target": len(rows.target_out),
            "cut": rows.n_cut,
        },
        "settings": None if settings is None else settings.to_record(),
        "support": support_share(maps),
        "path": path,
        "losses": [] if fitted is None else list(fitted.losses),
        "held_out": [] if fitted is None else [list(one) for one in fitted.held_out],
        "held_out_untouched": untouched,
        "n_steps": n_steps,
        "step": None if fitted is None else fitted.step,
        "peak_memory": peak_memory(lm.device),
    }
    save_maps(folder, maps, _record(lm, asked, record, settings))
    return record


def _record(lm: LanguageModel, asked: Asked, made: dict[str, Any], settings: FitSettings | None) -> Steering:
    names = ("strength", "loss_sites", "max_tokens", "sentences", "path", "held_out", "held_out_untouched", "step")
    evidence = {name: made[name] for name in names}
    return Steering.of(
        lm,
        method=asked.method.title,
        pattern=made["pattern"],
        pooling=asked.plan.pooling,
        settings=settings,
        data=data_hash(asked.source, asked.target),
        evidence=evidence,
    )


def peak_memory(device: torch.device) -> dict[str, Any]:
    """Bytes at the highest, and of what."""
    if device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "of": "torch on the GPU, weights included"}
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"bytes": kept, "of": "the whole process since it began, weights and libraries included"}


def steered_at(maps: dict[str, AffineMap], strength: float) -> dict[str, AffineMap]:
    """The maps whose full strength is the method's."""
    return maps if strength == 1 else {site: one.at(strength) for site, one in maps.items()}
