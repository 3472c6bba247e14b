"""Seeded choices and slot filling: the engine under every generated text.

A grammar is a table from a rule's name to its alternatives. An alternative is a string with slots in braces;
a slot stands for a word bound earlier (the hero's name, say) or for another rule:

    rules = {"greeting": ("{hello}, {name}!",), "hello": ("Hello", "Good day")}
    fill("{greeting}", dice, rules, {"name": "Ada"})   ->   "Hello, Ada!" or "Good day, Ada!"
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from ..errors import InputError

Item = TypeVar("Item")
Rules = Mapping[str, Sequence[str]]

_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
_SENTENCE_START = re.compile(r"(?:^\"?|(?<=[.!?] ))[a-z]")


class Dice:
    """A stream of choices named by a seed and labels, the same on every platform and Python version.

    Only ``random.Random.random`` is used, whose sequence Python guarantees; its ``choice`` and ``shuffle`` have
    changed between versions. Streams with different labels are independent, so that adding a document to one
    part of the world changes no other part.

    Args:
        seed: Seed of the world.
        labels: What the stream is for, such as ``"story", 17``.
    """

    def __init__(self, seed: int, *labels: str | int) -> None:
        name = "/".join(str(part) for part in (seed, *labels))
        self._random = random.Random(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")).random

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return int(self._random() * n)

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self._random() * len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """A new list in random order (Fisher and Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result

    def sample(self, items: Sequence[Item], n: int) -> list[Item]:
        """``n`` different items, in random order."""
        if n > len(items):
            raise InputError(f"{n} different items were asked for, but there are only {len(items)}")
        return self.shuffled(items)[:n]


def fill(template: str, dice: Dice, rules: Rules, bound: Mapping[str, str] | None = None) -> str:
    """Replace every slot, inner slots included.

    Args:
        template: Text with slots.
        dice: Where the choices come from.
        rules: Rule name -> alternatives.
        bound: Slot name -> text that is already decided; goes before ``rules``.

    Raises:
        InputError: A slot is neither bound nor a rule.
    """
    bound = bound or {}

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in bound:
            return bound[name]
        if name not in rules:
            raise InputError(f'slot {{{name}}} in "{template}" is neither bound nor a rule of the grammar')
        alternative = dice.pick(rules[name])
        return _SLOT.sub(replace, alternative) if "{" in alternative else alternative

    return _SLOT.sub(replace, template)


def polish(text: str) -> str:
    """Mend "a apple" to "an apple" and capitalise the start and what follows a full stop.

    What follows a closing quotation mark stays: it may be ``"Who?" asked Ada.``
    """
    text = _ARTICLE.sub(r"\1n ", text)
    return _SENTENCE_START.sub(lambda match: match.group().upper(), text)
