"""What a steering is, in words for reports, cards and terminals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.text.numbers import percent
from audit.text.safe import counted

_POOLED = {"mean": "the mean over tokens", "last": "the last token", "max": "the maximum over tokens"}


def pooling_words(kind: str, *, skip_bos: bool) -> str:
    """How tokens become one vector: "the mean over tokens, without the beginning-of-sequence token"."""
    return _POOLED[kind] + (", without the beginning-of-sequence token" if skip_bos else "")


def settings_words(settings: Mapping[str, Any]) -> str:
    """How LinEAS was fitted."""
    optimizer = "proximal gradient descent" if settings["optimizer"] == "sgd" else "Adam"
    told = f"{optimizer}, first rate {settings['lr']:g}, at most {counted(settings['steps'], 'step')}"
    if settings["gamma"]:
        told += f", sparse group lasso of weight {settings['gamma']:g}"
    if settings["floor"] is not None:
        told += f", scales of at least {settings['floor']:g}"
    return told


def support_words(changed: int, neurons: int) -> str:
    """ "80 of 96 neurons (83.3%)"."""
    return f"{changed:,} of {counted(neurons, 'neuron')} ({percent(round(changed / neurons, 4))})"


def memory_words(n_bytes: int) -> str:
    """ "1.50 GiB"."""
    return f"{n_bytes / 2**30:.2f} GiB"
