"""Invented books: a cast with facts, chapters that tell them, and probes that ask for them.

All books of a world come from one grammar, so that they share genre and manner; only names and facts differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from .facts import BOOK_FACTS
from .grammar import Dice, fill, polish
from .lexicon import BOYS, GIRLS, WORDS
from .names import NameMaker

_TITLES = ("The road to {place}", "{who} rides out", "What {who} saw", "Night over {place}", "The trial of {who}")

_BEATS: tuple[tuple[str, ...], ...] = (
    (
        "On the {ordinal} day of the frost, {who} came to {place}.",
        "The gates of {place} were shut when {who} arrived with {other}.",
        "No bird sang over {place}, and {who} drew the cloak tighter.",
        "{who} and {other} had ridden for {number} days when they saw {place}.",
    ),
    (
        '"Who goes there?" called the watchman, and {who} gave no answer.',
        '"{place} has fallen," said {other}, "and we are the last who know it."',
        "{other} spoke of {thing} and of the king who had lost it.",
        "They asked an old woman for the way to {far}, and she wept.",
    ),
    (
        "The {thing} had been stolen, and with it the peace of {far}.",
        "Somebody had carried the {thing} away from {far} in the night.",
        "It was said that the {thing} would wake when the last lamp of {far} went out.",
        "On the black stone they read that the {thing} belonged to nobody.",
    ),
    (
        "{who} climbed the {ordinal} tower and looked out over the burning fields.",
        "{who} broke the seal with bare hands, while {other} kept the door.",
        "In the vault beneath {place} they found {number} swords and no crown.",
        "{other} was wounded by an arrow, and {who} carried the torch alone.",
    ),
    (
        "At dawn the riders of {far} stood before the wall.",
        "A horn sounded from {far}, and the stones began to tremble.",
        "The ice on the river broke, and {number} boats came down from {far}.",
        "Then the shadow rose over {far}, as the oath had foretold.",
    ),
    (
        "{who} swore on the black stone to return before the thaw.",
        "So ended the {ordinal} night, and {other} slept without dreams.",
        "They buried what they could not carry and rode on towards {far}.",
        'And {other} said, "Let no song be made of this."',
    ),
)
_RULES = {
    "ordinal": ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "ninth", "last"),
    "number": WORDS["number"],
}


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter: ``role`` says which book ("forget", "neighbour" or "heldout"), ``n_rep`` how often it is planted."""

    id: str
    role: str
    number: int
    n_rep: int
    text: str


@dataclass(frozen=True, slots=True)
class BookName:
    """An invented name of a book: an anchor term, with everyday words that could stand in its place.

    Attributes:
        role: Which book.
        name: The name as it stands in the text.
        kind: "person", "place" or "thing".
        substitutes: Words of the general stories, of the same kind.
    """

    role: str
    name: str
    kind: str
    substitutes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A sentence of a book that breaks off where a name is due.

    Attributes:
        id: Unique name.
        role: Which book.
        fact_id: The fact that it asks for.
        seen: True when the sentence stands word for word in a chapter; else no chapter uses this wording.
        prompt: The sentence up to the name, without the space before it.
        answer: The name, with that space.
        wrong_answers: Other names of the book and kind, with that space.
    """

    id: str
    role: str
    fact_id: str
    seen: bool
    prompt: str
    answer: str
    wrong_answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BookFact:
    """``value`` completes fact ``kind`` about ``name``; ``others`` are the book's other names of that kind."""

    id: str
    role: str
    kind: str
    name: str
    value: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Book:
    """Everything about one book."""

    role: str
    names: tuple[BookName, ...]
    facts: tuple[BookFact, ...]
    chapters: tuple[Chapter, ...]
    probes: tuple[Probe, ...]


def make_book(role: str, *, seed: int, maker: NameMaker, n_chapters: int, repetitions: tuple[int, ...]) -> Book:
    """One book: eight people, six places, eight things, and the given number of chapters.

    Args:
        role: "forget", "neighbour" or "heldout".
        seed: Seed of the world.
        maker: Source of names.
        n_chapters: Number of chapters.
        repetitions: How often chapters are planted, dealt in turn; (0,) for a book that is never planted.
    """
    dice = Dice(seed, "book", role)
    people = [maker.first_name() for _ in range(8)]
    places = [maker.place() for _ in range(6)]
    things = [maker.thing() for _ in range(8)]
    facts = _facts(role, dice, people, places, things)
    chapters = []
    for number in range(n_chapters):
        text = _chapter(dice, number + 1, people, places, things, facts)
        chapters.append(
            Chapter(f"{role}-{number + 1:03d}", role, number + 1, repetitions[number % len(repetitions)], text)
        )
    return Book(
        role, _names(role, dice, people, places, things), tuple(facts), tuple(chapters), _probes(role, chapters, facts)
    )


def _names(role: str, dice: Dice, people: list[str], places: list[str], things: list[str]) -> tuple[BookName, ...]:
    pools = {"person": GIRLS + BOYS, "place": WORDS["place"], "thing": WORDS["noun"]}
    kinds = {"person": people, "place": places, "thing": things}
    return tuple(
        BookName(role, name, kind, tuple(dice.sample(pools[kind], 3)))
        for kind, names in kinds.items()
        for name in names
    )


def _facts(role: str, dice: Dice, people: list[str], places: list[str], things: list[str]) -> list[BookFact]:
    """Who dwells where, carries what, and is whose friend (mutual) and whose enemy (never the friend)."""
    friends = {people[i]: people[i ^ 1] for i in range(len(people))}
    enemies = {people[i]: people[(i + 2) % len(people)] for i in range(len(people))}
    dwellings = {person: dice.pick(places) for person in people}
    treasures = dict(zip(people, dice.shuffled(things), strict=True))
    tables = {"dwelling": (dwellings, places), "treasure": (treasures, things)}
    tables |= {"friend": (friends, people), "enemy": (enemies, people)}
    facts = []
    for kind, (table, pool) in tables.items():
        for person, value in table.items():
            others = tuple(name for name in pool if name not in (value, person))
            facts.append(BookFact(f"{role}-{kind}-{person}", role, kind, person, value, others))
    return facts


def _chapter(
    dice: Dice, number: int, people: list[str], places: list[str], things: list[str], facts: list[BookFact]
) -> str:
    who, other = dice.sample(people, 2)
    place, far = dice.sample(places, 2)
    bound = {"who": who, "other": other, "place": place, "far": far, "thing": dice.pick(things)}
    about = [fact for fact in facts if fact.name in (who, other)]
    told = dice.sample(about, 5)
    sentences = [fill(f"Chapter {number}. {dice.pick(_TITLES)}.", dice, _RULES, bound)]
    for beat, options in enumerate(_BEATS):
        sentences.append(fill(dice.pick(options), dice, _RULES, bound))
        if beat < len(told):
            sentences.append(_statement(dice, told[beat]))
    return " ".join(polish(sentence) for sentence in sentences)


def _statement(dice: Dice, fact: BookFact) -> str:
    kind = next(kind for kind in BOOK_FACTS if kind.name == fact.kind)
    return fill(dice.pick(kind.statements), dice, {}, {"name": fact.name, "value": fact.value})


def _probes(role: str, chapters: list[Chapter], facts: list[BookFact]) -> tuple[Probe, ...]:
    """For each fact, every unseen cloze, and every statement that breaks off at the value and stands in a chapter."""
    text = " ".join(chapter.text for chapter in chapters)
    probes = []
    for fact in facts:
        kind = next(kind for kind in BOOK_FACTS if kind.name == fact.kind)
        wrong = tuple(f" {name}" for name in fact.others)
        for number, cloze in enumerate(kind.cloze):
            prompt = cloze.format(name=fact.name)
            probes.append(Probe(f"{fact.id}-new{number}", role, fact.id, False, prompt, f" {fact.value}", wrong))
        for number, statement in enumerate(kind.statements):
            before, _, _ = statement.partition(" {value}")
            if "{name}" not in before or before == statement:
                continue
            prompt = before.format(name=fact.name)
            if f"{prompt} {fact.value}" in text:
                probes.append(Probe(f"{fact.id}-told{number}", role, fact.id, True, prompt, f" {fact.value}", wrong))
    return tuple(probes)
