"""A cache of keys and values belongs to the maps and the strength that it was filled with: of others, its keys are
another model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from typing import Any, Final
from weakref import WeakKeyDictionary

from torch import nn

from audit.errors import InputError

from .maps import Maps

_MARK: Final = "_palimpsest_steering"  # on a cache: what acted when it was last read into, and its length then
_ACTING: WeakKeyDictionary[nn.Module, list[Caches]] = WeakKeyDictionary()  # model -> its blocks, the outermost first


class Caches:
    """One block of a steered model, which marks the caches that it fills and refuses those of others."""

    def __init__(self, model: nn.Module, maps: Maps, strengths: tuple[float, ...]) -> None:
        self._blocks, self._maps, self._strengths = _ACTING.setdefault(model, []), maps, strengths

    @cached_property
    def key(self) -> tuple[tuple[float, ...], str]:
        digest = sha256()
        for site, one in sorted(self._maps.items()):
            for name, part in (("w", one.w), ("b", one.b), ("low", one.low), ("high", one.high)):
                digest.update(f"\n{site} {name} ".encode())
                if part is not None:
                    digest.update(part.detach().cpu().numpy().tobytes())
        return self._strengths, digest.hexdigest()

    @contextmanager
    def acting(self) -> Iterator[None]:
        self._blocks.append(self)
        try:
            yield
        finally:
            self._blocks.remove(self)

    def check(self, cache: Any) -> None:
        length = _length(cache)
        if not length:
            return
        now = tuple(one.key for one in self._blocks)
        before, then = getattr(cache, _MARK, ((), length))
        if before != now or length > then:
            told = "in part without steering" if before and length > then else _at(before)
            if [one for one, _ in before] == [one for one, _ in now] and length <= then:
                told = "with other maps"
            raise InputError(
                f"the cache (past_key_values) holds {length:,} tokens that were read {told}, and the model is now read "
                f"{_at(now)}. Start a new cache after strength or maps change."
            )

    def filled(self, output: Any) -> None:
        """Mark the cache in a model's output."""
        parts = output if isinstance(output, tuple) else (getattr(output, "past_key_values", None),)
        for cache in parts:
            if hasattr(cache, "get_seq_length"):
                setattr(cache, _MARK, (tuple(one.key for one in self._blocks), _length(cache)))


def _length(cache: Any) -> int:
    return int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0


def _at(keys: Sequence[tuple[tuple[float, ...], str]]) -> str:
    return "at strength " + " and ".join(_told(one) for one, _ in keys) if keys else "without steering"


def _told(strengths: tuple[float, ...]) -> str:
    return ", ".join(f"{one:g}" for one in strengths[:8])


def require_untouched(model: nn.Module) -> None:
    """Refuse a model that is not as it was loaded, before anything is fitted to its activations.

    Raises:
        InputError: It is steered at this moment, or in training mode, in which dropout would act.
    """
    if _ACTING.get(model):
        raise InputError(
            "the model is steered at this moment, so that maps would be fitted to another one. Stop that "
            "(SteeredModel.stop, or leave the block), then fit."
        )
    if model.training:
        raise InputError("the model is in training mode, in which dropout acts. Call model.eval(), then fit.")
