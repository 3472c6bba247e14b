r"""A baseline fitted at many sites: at once, or one after the other.

At once each site is fitted on the untouched network, and all maps then act together: each counts what those before it
have already done a second time. One after the other, site l is fitted on activations that the maps of sites 1 to l - 1
steer (Linear-AcT, arXiv:2410.23054); the target is read once, untouched.

Source texts that fit one batch need a single forward pass for all sites: a hook pools what a module gives, fits its map
and steers with it before the next module runs. More texts take one pass for each site, which ends there. Nothing but
activations of one batch and the targets is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from audit.errors import InputError, ModelError
from audit.lm.head import decoder_of
from audit.lm.hooks import patched
from audit.lm.load import LanguageModel
from audit.progress import Progress, silent

from ..caches import require_untouched
from ..maps import AffineMap, Maps
from ..network import Pooled, Sentences, pooled_activations, require_finite
from ..pooling import Pooling
from ..sites import find_sites
from ..steer import steered
from ..texts import Batch, make_batch
from .methods import Baseline, Fit

_STAGE = "baseline: sites"


def sites_of(lm: LanguageModel, method: Baseline, sites: str | None = None) -> list[str]:
    """Names of a method's sites, in the order in which the network meets them.

    Args:
        lm: The model.
        method: Its preset is taken unless ``sites`` is given; the middle site alone where it wants that.
        sites: Another preset or a regular expression.

    Raises:
        InputError: As `find_sites`.
    """
    names = in_order_met(lm, [one.name for one in find_sites(lm, sites or method.sites)])
    return [names[len(names) // 2]] if method.only_middle else names


def fit_baseline(
    lm: LanguageModel,
    source: Sequence[Sequence[int]],
    target: Sequence[Sequence[int]],
    sites: Sequence[str],
    method: Baseline,
    *,
    pooling: Pooling | None = None,
    progress: Progress = silent,
) -> dict[str, AffineMap]:
    """The maps of a method; they are for ``method.strength``, which is not in them.

    Args:
        lm: The model; its parameters get no gradient, and its hooks are gone afterwards, also after an error.
        source: Token ids of each sentence that shows what is unwanted.
        target: Of what is wanted. For CAA and RepE, sentence i is the pair of source sentence i.
        sites: Module names, in any order.
        method: One of `METHODS`.
        pooling: Another than the method's own.
        progress: Called after each site.

    Returns:
        Site -> map, in the order of ``sites``.

    Raises:
        InputError: A site cannot be fitted; it is named. Or the model is steered or in training mode.
        ModelError: Activations are not finite, or a module is not called once in a pass.
    """
    if not sites:
        raise InputError("there is no site; name one module or more.")
    require_untouched(lm.model)
    pooling = pooling or method.pooling
    targets = pooled_activations(lm, target, sites, pooling, what="target")
    if not method.sequential:
        before = pooled_activations(lm, source, sites, pooling, what="source")
        maps = {}
        for site in sites:
            maps[site] = fit_site(method.fit, site, before[site], targets[site])
            progress(_STAGE, len(maps), len(sites))
        return maps
    groups = list(Sentences(lm, source, sites, pooling).groups())
    if len(groups) == 1:
        maps = _in_one_pass(lm, source, targets, method.fit, pooling, progress)
    else:

        def read(site: str, steering: Maps) -> Tensor:
            return _up_to(lm, source, groups, site, steering, pooling)

        in_order = {site: targets[site] for site in in_order_met(lm, sites)}
        maps = one_after_the_other(read, in_order, method.fit, progress)
    return {site: maps[site] for site in sites}


def one_after_the_other(
    read: Callable[[str, Maps], Tensor], targets: Mapping[str, Tensor], fit: Fit, progress: Progress = silent
) -> dict[str, AffineMap]:
    """Each site fitted on what ``read(site, maps of the sites before)`` gives, in the order of ``targets``."""
    maps: dict[str, AffineMap] = {}
    for site, wanted in targets.items():
        maps[site] = fit_site(fit, site, read(site, dict(maps)), wanted)
        progress(_STAGE, len(maps), len(targets))
    return maps


def fit_site(fit: Fit, site: str, source: Tensor, target: Tensor) -> AffineMap:
    """One site's map; an error names the site."""
    try:
        return fit(source, target)
    except InputError as error:
        raise InputError(f"site {site}: {error}") from error


def in_order_met(lm: LanguageModel, sites: Sequence[str]) -> list[str]:
    """The sites in the order in which a forward pass calls them; that of ``named_modules`` is another in Gemma 2.

    Raises:
        ModelError: A site is not called.
    """
    order: dict[str, None] = {}

    def note(site: str) -> Callable[[Tensor], Tensor]:
        def patch(z: Tensor) -> Tensor:
            order.setdefault(site)
            return z

        return patch

    with torch.no_grad(), patched(lm.model, {site: note(site) for site in sites}):
        ids = torch.zeros((1, 2), dtype=torch.long, device=lm.device)
        decoder_of(lm.model)(input_ids=ids, use_cache=False)
    missed = [site for site in sites if site not in order]
    if missed:
        raise ModelError(f"module {missed[0]} was not called in a forward pass; it cannot be a site.")
    return list(order)


@torch.no_grad()
def _in_one_pass(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    targets: Pooled,
    fit: Fit,
    pooling: Pooling,
    progress: Progress,
) -> dict[str, AffineMap]:
    """As `one_after_the_other`, all texts in one batch: each map is fitted and acts as soon as its module has run."""
    batch = make_batch(lm, rows, skip_bos=pooling.skip_bos)
    maps: dict[str, AffineMap] = {}

    def patch(site: str) -> Callable[[Tensor], Tensor]:
        def fit_and_steer(z: Tensor) -> Tensor:
            pooled = pooling(z, batch.counted)
            require_finite(lm, {site: pooled}, "source")
            maps[site] = fit_site(fit, site, pooled, targets[site])
            progress(_STAGE, len(maps), len(targets))
            return maps[site].to(z.device)(z)

        return fit_and_steer

    with patched(lm.model, {site: patch(site) for site in targets}) as calls:
        _run(lm, batch)
    for site, n in calls.items():
        if n != 1:
            raise ModelError(f"module {site} was called {n} times in one forward pass; it cannot be a site.")
    return maps


class _ReachedError(Exception):
    """A pass has come to the site that is read; what lies behind it is not needed."""


@torch.no_grad()
def _up_to(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    site: str,
    maps: Maps,
    pooling: Pooling,
) -> Tensor:
    """Pooled activations of one site, (n, D), with maps acting before it; each pass ends at the site."""
    parts: list[Tensor] = []
    now: list[Any] = []

    def stop(z: Tensor) -> Tensor:
        parts.append(pooling(z, now[-1]))
        raise _ReachedError

    with steered(lm.model, maps), patched(lm.model, {site: stop}):
        for group in groups:
            batch = make_batch(lm, [rows[place] for place in group], skip_bos=pooling.skip_bos)
            now[:] = [batch.counted]
            try:
                _run(lm, batch)
            except _ReachedError:
                continue
            raise ModelError(f"module {site} was not called in a forward pass; it cannot be a site.")
    order = torch.tensor([place for group in groups for place in group]).argsort()
    found = torch.cat(parts)[order.to(parts[0].device)]
    require_finite(lm, {site: found}, "source")
    return found


def _run(lm: LanguageModel, batch: Batch) -> None:
    decoder_of(lm.model)(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
