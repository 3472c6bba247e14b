"""Anchor terms: expressions that only the forget text uses, each with generic words that could stand in its place.

Paper: Eldan and Russinovich 2023, arXiv:2310.02238, the dictionary of anchored terms. Its text was not at hand: that
replies are merged with every distinct substitute kept, and the two rules of pruning, are read from the authors'
released script. Added here: kinds, sources, and checks for what would spoil the labels.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from audit.errors import DataError
from audit.text.safe import counted, quoted

from .anchor_match import AnchorMatcher, comparable, is_letter

MAX_CHARACTERS = 200  # of a key or substitute; a longer one is a sentence, not a term
_SHOWN = 20  # problems in one message


@dataclass(frozen=True, slots=True)
class Anchor:
    """An anchor term.

    Attributes:
        key: The expression, as the forget text writes it.
        substitutes: Generic expressions; one of them is drawn for each block.
        kind: "person", "place", "thing" or "other" where known; any other word is kept as it is.
        source: Where it comes from: "user", "statistics", "model"; several are joined by ", ".
    """

    key: str
    substitutes: tuple[str, ...]
    kind: str | None = None
    source: str = "user"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an anchor: ``substitute`` is None where it is the key, or the anchor as a whole."""

    key: str
    substitute: str | None
    why: str

    def __str__(self) -> str:
        at = f"anchor {quoted(self.key)}"
        return (
            f"{at}: {self.why}"
            if self.substitute is None
            else f"{at}, substitute {quoted(self.substitute)}: {self.why}"
        )


@dataclass(frozen=True, slots=True)
class Anchors:
    """A dictionary of anchor terms, in the order in which they came."""

    anchors: tuple[Anchor, ...] = ()

    def __iter__(self) -> Iterator[Anchor]:
        return iter(self.anchors)

    def __len__(self) -> int:
        return len(self.anchors)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(anchor.key for anchor in self.anchors)

    def sorted(self) -> Anchors:
        """The same anchors in alphabetical order, case ignored first."""
        return Anchors(tuple(sorted(self.anchors, key=lambda anchor: (anchor.key.casefold(), anchor.key))))

    def merged(self, *others: Anchors, fold_case: bool = False) -> Anchors:
        """All anchors of all dictionaries, each key once, with every distinct substitute.

        Keys that compare equal (composition, kind of white space and apostrophe, case where asked) are one key; the
        first spelling and the first kind stay.
        """
        table: dict[str, Anchor] = {}
        for anchor in (one for group in (self, *others) for one in group):
            name = comparable(anchor.key, fold_case=fold_case)
            held = table.get(name)
            if held is None:
                table[name] = replace(anchor, substitutes=_distinct(anchor.substitutes))
                continue
            table[name] = replace(
                held,
                substitutes=_distinct((*held.substitutes, *anchor.substitutes)),
                kind=held.kind or anchor.kind,
                source=", ".join(dict.fromkeys((*held.source.split(", "), *anchor.source.split(", ")))),
            )
        return Anchors(tuple(table.values()))

    def pruned(self, *, fold_case: bool = False) -> Anchors:
        """Without keys that other keys translate already.

        Left out is a key (a) that is another key with "'s", or (b) of several words each of which is a key: two
        translations of one expression would contradict each other.
        """
        names = {comparable(key, fold_case=fold_case) for key in self.keys}

        def covered(key: str) -> bool:
            name = comparable(key, fold_case=fold_case)
            words = name.split()
            return (name[-2:] in ("'s", "'S") and name[:-2] in names) or (
                len(words) > 1 and all(word in names for word in words)
            )

        return Anchors(tuple(anchor for anchor in self.anchors if not covered(anchor.key)))

    def problems(self, *, fold_case: bool = False) -> list[Problem]:
        """Everything that would spoil the labels, in the order of the anchors.

        A key is wrong when it is empty, has no letter, is longer than `MAX_CHARACTERS`, holds a control character or
        half of a surrogate pair, or occurs twice; an anchor when it has no substitutes; a substitute when it is empty,
        too long, unprintable, equal to its key, or is or holds any key as a whole word (a cycle, when that key leads
        back): the generic label would then be a term of the forget text.

        Args:
            fold_case: Whether keys are found whatever their case.
        """
        found: list[Problem] = []
        matcher = AnchorMatcher(self.keys, fold_case=fold_case)
        held = [self._held(matcher, anchor) for anchor in self.anchors]
        numbers: dict[str, int] = {}
        for number, anchor in enumerate(self.anchors):
            name = comparable(anchor.key, fold_case=fold_case)
            if why := _why_no_key(anchor.key):
                found.append(Problem(anchor.key, None, why))
            elif (first := numbers.setdefault(name, number)) != number:
                twin = self.anchors[first].key
                found.append(Problem(anchor.key, None, f"the same key as {quoted(twin)}; merge the two."))
            if not anchor.substitutes:
                found.append(Problem(anchor.key, None, "no substitutes; give at least one."))
            for substitute, inside in zip(anchor.substitutes, held[number], strict=True):
                if why := _why_no_term(substitute):
                    found.append(Problem(anchor.key, substitute, why))
                elif comparable(substitute, fold_case=fold_case) == name:
                    found.append(Problem(anchor.key, substitute, "equal to its key; give another word."))
                elif inside:
                    found.append(Problem(anchor.key, substitute, self._why_circular(number, inside, held)))
        return found

    def check(self, *, fold_case: bool = False, source: str = "the anchors") -> None:
        """Refuse a dictionary that has any of `problems`.

        Args:
            fold_case: As in `problems`.
            source: What the dictionary is called in the message, such as its path.

        Raises:
            DataError: One line for each problem, twenty at most.
        """
        if not self.anchors:
            raise DataError(f"{source}: there are no anchor terms; give at least one key with a substitute.")
        problems = [str(problem) for problem in self.problems(fold_case=fold_case)]
        if len(problems) == 1:
            raise DataError(f"{source}: {problems[0]}")
        if problems:
            more = [f"- and {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else []
            lines = "\n".join([*(f"- {line}" for line in problems[:_SHOWN]), *more])
            raise DataError(f"{source}: {counted(len(problems), 'problem')}:\n{lines}")

    def sound(self, *, fold_case: bool = False) -> tuple[Anchors, tuple[Problem, ...]]:
        """What is left when every substitute and anchor with a problem is taken out, and those problems.

        For dictionaries that nobody wrote by hand; a user's file is checked instead.
        """
        kept, dropped = self.merged(fold_case=fold_case), []
        while problems := kept.problems(fold_case=fold_case):
            dropped += problems
            whole = {problem.key for problem in problems if problem.substitute is None}
            parts = {(problem.key, problem.substitute) for problem in problems}
            thinned = (
                replace(one, substitutes=tuple(text for text in one.substitutes if (one.key, text) not in parts))
                for one in kept
                if one.key not in whole
            )
            kept = Anchors(tuple(one for one in thinned if one.substitutes))
        return kept, tuple(dropped)

    @staticmethod
    def _held(matcher: AnchorMatcher, anchor: Anchor) -> list[set[int]]:
        """For each substitute, the numbers of the keys in it."""
        return [{one.number for one in matcher.all_in(substitute)} for substitute in anchor.substitutes]

    def _why_circular(self, number: int, inside: set[int], held: list[list[set[int]]]) -> str:
        """A cycle when a key inside the substitute leads back to this anchor; else a chain."""
        seen: set[int] = set()
        todo = sorted(inside)
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo.extend(sorted(set().union(*held[here]) - seen))
        first = quoted(self.anchors[min(inside)].key)
        if number in seen:
            return f"a cycle: it holds the key {first}, which leads back to this one. Give a word that holds no key."
        return f"it holds the key {first}. Give a word that holds no key."


@dataclass(frozen=True, slots=True)
class Joined:
    """Dictionaries of several sources as one.

    Attributes:
        anchors: The dictionary.
        pruned: Keys that other keys translate already; see `Anchors.pruned`.
        overruled: Keys that were found, and that a given substitute holds.
        dropped: Problems that the sources have only together, with what had them left out.
    """

    anchors: Anchors
    pruned: tuple[str, ...]
    overruled: tuple[str, ...]
    dropped: tuple[Problem, ...]


def joined(given: Sequence[Anchors], found: Sequence[Anchors]) -> Joined:
    """Merge, prune and make sound what a person wrote and what was found; where the two disagree the person is right.

    Args:
        given: Dictionaries of the user, whose keys all stay, with their own substitutes and no others.
        found: Those of a model or of statistics, the more trusted first: of one key the first spelling and kind stay.

    Raises:
        DataError: Those of the user contradict each other.
    """
    own = Anchors().merged(*given)
    if given:
        own.check(source="the files to be merged")
    substitutes = " \n\n ".join(text for anchor in own for text in anchor.substitutes)
    names = {comparable(key) for key in own.keys}
    others = Anchors(tuple(anchor for anchor in Anchors().merged(*found) if comparable(anchor.key) not in names))
    held = {match.number for match in AnchorMatcher(others.keys).all_in(substitutes)}
    free = Anchors(tuple(anchor for number, anchor in enumerate(others) if number not in held))
    whole = own.merged(free)
    left = {*own.keys, *whole.pruned().keys}
    sound, dropped = Anchors(tuple(anchor for anchor in whole if anchor.key in left)).sound()
    return Joined(
        sound,
        tuple(key for key in whole.keys if key not in left),
        tuple(anchor.key for number, anchor in enumerate(others) if number in held),
        dropped,
    )


def _distinct(substitutes: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(" ".join(unicodedata.normalize("NFC", one).split()) for one in substitutes))


def _why_no_key(key: str) -> str | None:
    if why := _why_no_term(key):
        return why
    return None if any(map(is_letter, key)) else "no letter in it, so that it would match everywhere; leave it out."


def _why_no_term(text: str) -> str | None:
    if not text.strip():
        return "empty; give a text."
    if len(text) > MAX_CHARACTERS:
        return f"{len(text):,} characters; a term has at most {MAX_CHARACTERS}."
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and not character.isspace():
            return f"it holds {character!a}, which no text should; take it out."
    return None
