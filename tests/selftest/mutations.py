"""A mistake in a function of the package, made in its own source and for everybody who imported it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest


def mutate(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], old: str, new: str) -> None:
    """Compile ``function`` anew with ``old`` replaced by ``new`` and exchange its code, for the time of a test."""
    plain = inspect.unwrap(function)
    assert isinstance(plain, FunctionType)
    source = textwrap.dedent(inspect.getsource(plain))
    assert old in source, f"{old!r} is not in {plain.__qualname__}; write the mutation anew"
    source = "from __future__ import annotations\n" + source.replace(old, new, 1)
    names: dict[str, Any] = dict(plain.__globals__)
    exec(compile(source, f"<mutated {plain.__qualname__}>", "exec"), names)
    changed = inspect.unwrap(names[plain.__name__])
    assert changed.__code__.co_freevars == plain.__code__.co_freevars
    monkeypatch.setattr(plain, "__code__", changed.__code__)
