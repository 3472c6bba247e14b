"""Invented names: pronounceable, unlike any word of the stories, never given twice."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InputError
from .grammar import Dice


def _syllables(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_STARTS = _syllables(
    "bel bran cor dag dor dra el fen gal gor hal ith jor kal kol lor mar mir nar nev or pel quil ras rin sar sel "
    "shan sol tal tev thor ul vel vor wen yar zan zeb zil"
)
_MIDDLES = _syllables("a e i o u an el ir")
_ENDS = {
    "first": _syllables("dan dis gar ia ine ka las len lo mir na nor ra rik ris sa seth tor van wyn"),
    "last": _syllables("beck croft dahl fane gard hask kin low mond nack quist rell stam sworth tam thorn vane vik"),
    "place": _syllables("bridge dun fell gate ham haven holm march mere moor mouth stead thorpe vale wick"),
    "thing": _syllables("adel bane blade crown eth flame heart horn ium ix lith oth seal shard ule"),
}
_TRIES = 1000


class NameMaker:
    """Draws names that are new and not among the words it was told to avoid.

    Names are put together from few syllables, as names of one language are; so a tokenizer that has seen other
    such names needs few tokens for a new one.

    Args:
        dice: Where the choices come from.
        avoid: Words that no name may equal, in lower case.
    """

    def __init__(self, dice: Dice, avoid: Iterable[str] = ()) -> None:
        self._dice = dice
        self._taken = set(avoid)

    def _word(self, end: str) -> str:
        dice = self._dice
        for _ in range(_TRIES):
            middle = dice.pick(_MIDDLES) if dice.chance(0.4) else ""
            word = dice.pick(_STARTS) + middle + dice.pick(_ENDS[end])
            if word not in self._taken:
                self._taken.add(word)
                return word.capitalize()
        raise InputError(
            f"no new {end} name in {_TRIES:,} tries; {len(self._taken):,} words are taken. Build a smaller world."
        )

    def person(self) -> str:
        """First and last name, such as "Dravan Jorcroft"; neither is ever given again."""
        return f"{self._word('first')} {self._word('last')}"

    def first_name(self) -> str:
        return self._word("first")

    def place(self) -> str:
        return self._word("place")

    def thing(self) -> str:
        return self._word("thing")
