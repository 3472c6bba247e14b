"""A model with maps behind its modules: for a block, or until it is told to stop.

The maps act on every token, of the prompt and of what is generated (LinEAS, arXiv:2503.10679). They look at one token
at a time, so that a cache of keys and values stays right as long as the strength does not change.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from audit.errors import InputError, ModelError
from audit.lm.generate import generate
from audit.lm.hooks import hooked, patched, pre_hooked
from audit.lm.logprobs import iter_token_log_probs

from .caches import Caches
from .maps import AffineMap, Maps, check_strength

Strength = float | Sequence[float]
"""One for all texts, or one for each text of the batch."""


@dataclass(slots=True)
class Steered:
    """What happened inside the block.

    Attributes:
        calls: Site -> forward passes in which its map acted; empty at strength 0, where there is nothing to call.
        passes: Forward passes of the whole model.
    """

    calls: dict[str, int] = field(default_factory=dict)
    passes: int = 0


@contextmanager
def steered(model: nn.Module, maps: Maps, strength: Strength = 1.0) -> Iterator[Steered]:
    """Steer a model inside the block; afterwards it is what it was, also after an error.

    Args:
        model: A model of transformers; ``forward`` and ``generate`` are called as always.
        maps: Site -> map.
        strength: 0 leaves the model alone (no map's hook; caches are looked at), 1 is as fitted; more than 1 is not in
            the paper. With one for each text, the batch must have as many rows in their order, or a multiple of it
            (beams, several samples). Palimpsest's own generation and scoring sort texts by length, and are refused.

    Yields:
        Counts of calls, so that a caller can tell that every step was steered.

    Raises:
        InputError: A site is not in the model, a width differs, a strength is not finite, a batch has other rows or
            comes from a function that sorts texts, or a cache was filled at another strength or with other maps.
        ModelError: The model ran, and some site's module was not called: a fused kernel goes past it.
    """
    strengths = _strengths(strength)
    done = Steered()
    guard = Caches(model, maps, strengths)

    def before(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        guard.check(named.get("past_key_values"))

    if not maps or not any(strengths):
        with pre_hooked(model, before):
            yield done
        return
    at = getattr(model, "device", torch.device("cpu"))
    patches = {site: _patch(site, one, strength, strengths, at) for site, one in maps.items()}
    with ExitStack() as stack:
        done.calls = stack.enter_context(patched(model, patches))

        def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
            done.passes += 1
            guard.filled(output)

        stack.enter_context(guard.acting())
        stack.enter_context(pre_hooked(model, before))
        stack.enter_context(hooked(model, after))
        yield done
    missed = [site for site, n in done.calls.items() if n == 0]
    if done.passes and missed:
        raise ModelError(
            f"{type(model).__name__} ran {done.passes:,} times, but module {missed[0]} was never called "
            f"({len(missed):,} of {len(maps):,} sites), so its map did nothing. A fused kernel may go past it; load "
            "the model with plain modules, or fold the maps into its weights."
        )


class SteeredModel:
    """A model that stays steered until `stop`; also a context manager.

    Args:
        model: As in `steered`.
        maps: Likewise.
        strength: Likewise; ``strength`` can be set later, between calls.

    ``stop`` raises as `steered` does where a site was never called.
    """

    def __init__(self, model: nn.Module, maps: Maps, strength: Strength = 1.0) -> None:
        self.model, self.maps = model, dict(maps)
        self._start(strength)

    @property
    def strength(self) -> Strength:
        return self._strength

    @strength.setter
    def strength(self, value: Strength) -> None:
        _strengths(value)
        self._stack.close()
        self._start(value)

    def _start(self, value: Strength) -> None:
        def stay(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            _ = self  # the model holds this hook, and the hook this object: a caller need not keep it

        self._stack = ExitStack()
        self._strength = value
        self._done = self._stack.enter_context(steered(self.model, self.maps, value))
        self._stack.enter_context(hooked(self.model, stay))

    @property
    def done(self) -> Steered:
        """Counts since the strength was last set."""
        return self._done

    def stop(self) -> None:
        """Take the hooks away; the model is what it was."""
        self._stack.close()

    def __enter__(self) -> SteeredModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)


def _strengths(strength: Strength) -> tuple[float, ...]:
    if not isinstance(strength, Iterable):
        return (check_strength(strength),)
    found = tuple(check_strength(one) for one in strength)
    if not found:
        raise InputError("there are no strengths; expected one number, or one for each text.")
    return found


_SORTING = frozenset({generate.__code__, iter_token_log_probs.__code__})


def _refuse_sorted() -> None:
    """Refuse a forward pass that is called from a function which sorts its texts: each would get another's strength."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _SORTING:
            raise InputError(
                f"audit.lm's {frame.f_code.co_name} sorts texts by length, so that each would get another's strength. "
                "Give one strength, and the texts of one strength at a time; or call the model itself."
            )
        frame = frame.f_back


def _patch(
    site: str, one: AffineMap, strength: Strength, strengths: tuple[float, ...], at: torch.device
) -> Callable[[Tensor], Tensor]:
    single = not isinstance(strength, Iterable)
    used = one.at(strengths[0]) if single else one
    ready = {at: used.to(at)}  # a site's map on each device that it is asked for; made here, outside a compiled graph

    def patch(z: Tensor) -> Tensor:
        if z.shape[-1] != len(one):
            raise InputError(
                f"the map of {site} has {len(one):,} neurons, the module {z.shape[-1]:,}; it is of another model."
            )
        if z.device not in ready:
            ready[z.device] = used.to(z.device)
        if single:
            return ready[z.device](z)
        if not torch.compiler.is_compiling():
            _refuse_sorted()
        copies, rest = divmod(len(z), len(strengths))
        if rest or not copies:
            raise InputError(
                f"there are {len(strengths):,} strengths for a batch of {len(z):,} texts at {site}; expected one for "
                "each text, in their order."
            )
        return ready[z.device].each(z, torch.tensor(strengths, device=z.device).repeat_interleave(copies))

    return patch
