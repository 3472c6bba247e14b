"""A frozen network with trainable maps behind its modules: sentences go in, pooled activations come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from audit.errors import ModelError
from audit.lm.head import decoder_of
from audit.lm.hooks import patched
from audit.lm.load import LanguageModel

from .maps import AffineMap, Maps, affine
from .pooling import Pooling
from .steer import steered
from .texts import make_batch

Parameters = Mapping[str, tuple[Tensor, Tensor]]
"""Site -> its trainable w and b."""
Pooled = dict[str, Tensor]
"""Site -> (texts, neurons)."""
_TOKENS = {"cpu": 4_096}  # padded tokens of a batch that is only read
_DEVICE_TOKENS = 32_768


class Network(Protocol):
    """What maps are fitted on; a language model, or anything that a test can solve by hand."""

    def opened(self, maps: Parameters) -> AbstractContextManager[Callable[[Sequence[int]], Pooled]]:
        """Inside, a function from the places of source texts to the activations of each loss site, all maps acting.

        A backward pass through what it gives must also happen inside.
        """
        ...

    def __len__(self) -> int:
        """Source texts."""
        ...


class Sentences:
    """Texts through a language model without its head; a `Network`.

    Args:
        lm: The model; its parameters need no gradient, and get none.
        rows: Token ids of each text.
        sites: Loss sites: whose pooled activations are read, after the map where they have one.
        pooling: How tokens become one vector.
        checkpointing: Compute each layer's activations again in the backward pass, to save memory.
    """

    def __init__(
        self,
        lm: LanguageModel,
        rows: Sequence[Sequence[int]],
        sites: Sequence[str],
        pooling: Pooling,
        *,
        checkpointing: bool = False,
    ) -> None:
        self._lm, self._rows, self._sites, self._pooling = lm, rows, tuple(sites), pooling
        self._checkpointing = checkpointing
        self._decoder = decoder_of(lm.model)

    def __len__(self) -> int:
        return len(self._rows)

    @contextmanager
    def opened(self, maps: Parameters) -> Iterator[Callable[[Sequence[int]], Pooled]]:
        reading = _Reading(self._pooling)
        patches = {site: reading.patch(site, maps.get(site), site in self._sites) for site in {*maps, *self._sites}}
        with ExitStack() as stack:
            stack.enter_context(patched(self._lm.model, patches))
            if self._checkpointing:
                stack.enter_context(_recomputed(self._decoder))

            def pooled(which: Sequence[int]) -> Pooled:
                batch = make_batch(self._lm, [self._rows[one] for one in which], skip_bos=self._pooling.skip_bos)
                with reading.of(batch.counted) as kept:
                    self._decoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
                missed = [site for site in self._sites if site not in kept]
                if missed:
                    raise ModelError(f"module {missed[0]} was not called in a forward pass; it cannot be a site.")
                return {site: kept[site] for site in self._sites}

            yield pooled

    def groups(self) -> Iterator[list[int]]:
        """All texts in batches that fit memory when they are only read, like lengths together."""
        budget = _TOKENS.get(self._lm.device.type, _DEVICE_TOKENS)
        group: list[int] = []
        for place in sorted(range(len(self)), key=lambda one: len(self._rows[one])):
            if group and (len(group) + 1) * len(self._rows[place]) > budget:
                yield group
                group = []
            group.append(place)
        if group:
            yield group


class _Reading:
    """What the hooks share: the tokens that count, and what was pooled."""

    def __init__(self, pooling: Pooling) -> None:
        self._pooling = pooling
        self._counted: Tensor | None = None
        self._kept: Pooled | None = None

    @contextmanager
    def of(self, counted: Tensor) -> Iterator[Pooled]:
        """Keep what is pooled in this forward pass; not what a recomputation in the backward pass pools again."""
        self._counted, self._kept = counted, {}
        try:
            yield self._kept
        finally:
            self._kept = None

    def patch(self, site: str, own: tuple[Tensor, Tensor] | None, read: bool) -> Callable[[Tensor], Tensor]:
        def patch(z: Tensor) -> Tensor:
            if own is not None:
                w, b = (one.to(z.device) for one in own)
                z = affine(z.to(torch.promote_types(z.dtype, w.dtype)), w, b).to(z.dtype)
            if read and self._counted is not None:
                pooled = self._pooling(z, self._counted)  # also when recomputed, so that both passes save alike
                if self._kept is not None:
                    self._kept[site] = pooled
            return z

        return patch


@contextmanager
def _recomputed(decoder: nn.Module) -> Iterator[None]:
    """Non-reentrant checkpointing of each layer; the reentrant kind gives no gradient behind a frozen embedding.

    transformers' own switch works in training mode alone, in which dropout would act.
    """
    layers: list[Any] = [one for one in decoder.modules() if isinstance(one, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(f"{type(decoder).__name__} has no layers that can be recomputed; leave checkpointing off.")
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own


@torch.no_grad()
def pooled_activations(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    sites: Sequence[str],
    pooling: Pooling,
    *,
    maps: Maps | None = None,
    what: str = "these",
    on_done: Callable[[int], None] | None = None,
) -> Pooled:
    """Pooled activations of each site, (n, D_l) in float32, in the order of ``rows``; no gradient.

    Args:
        lm: The model.
        rows: Token ids of each text.
        sites: Modules that are read, after the map where they have one.
        pooling: How tokens become one vector.
        maps: Act meanwhile; without any the network is untouched.
        what: The texts, for messages.
        on_done: Called after each batch with the number of texts in it.

    Raises:
        ModelError: Activations are not finite; the site is named.
    """
    sentences = Sentences(lm, rows, sites, pooling)
    parts: list[tuple[list[int], Pooled]] = []
    # The maps' hooks are registered first and act first, so that what is read is steered.
    with steered(lm.model, maps or {}), sentences.opened({}) as pooled:
        for group in sentences.groups():
            parts.append((group, pooled(group)))
            if on_done is not None:
                on_done(len(group))
    order = torch.tensor([place for group, _ in parts for place in group]).argsort()
    found = {site: torch.cat([one[site] for _, one in parts])[order.to(parts[0][1][site].device)] for site in sites}
    require_finite(lm, found, what)
    return found


def require_finite(lm: LanguageModel, pooled: Mapping[str, Tensor], what: str) -> None:
    """Refuse activations that are no numbers.

    Raises:
        ModelError: The first such site is named.
    """
    for site, one in pooled.items():
        if not bool(torch.isfinite(one).all()):
            raise ModelError(
                f"activations of {what} sentences at {site} are not finite. The weights are broken, or "
                f"{lm.model.dtype} is too small for them; try --dtype float32 or bfloat16."
            )


def as_maps(parameters: Parameters) -> dict[str, AffineMap]:
    """The parameters as maps of their own, on the CPU."""
    return {
        site: AffineMap(w.detach().to("cpu", copy=True), b.detach().to("cpu", copy=True))
        for site, (w, b) in parameters.items()
    }
