"""The planted world: general documents, people with facts, books and style texts, all from one seed.

Everything is a flat frozen record with an id, so that a world is a set of tables (`tables`). Facts are the
clusters of the question-answer rows: all rows of a fact are trained on, or none is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .books import Book, BookFact, BookName, Chapter, Probe, make_book
from .chat import row_text
from .documents import Document, make_documents, read_corpus, split_corpus
from .facts import BOOK_FACTS, PEOPLE_FACTS, FactKind
from .grammar import Dice, fill, polish
from .lexicon import all_words
from .names import NameMaker
from .sizes import WorldSize, find_size
from .styles import StyleText, make_style_texts

N_WRONG = 4  # wrong answers recorded for each row
GROUPS = ("forget", "retain", "never")
#: Which group the rows about a book belong to.
BOOK_GROUPS = {"forget": "forget", "neighbour": "retain", "heldout": "never"}


@dataclass(frozen=True, slots=True)
class Person:
    """An invented person; ``group`` is "forget", "retain" or "never" (no model sees their rows)."""

    id: str
    name: str
    group: str


@dataclass(frozen=True, slots=True)
class Row:
    """A question-answer row.

    Attributes:
        id: Unique name.
        fact_id: The fact, which is also the cluster of the row.
        topic: "people" or "book".
        group: "forget" (subject only), "retain" (all continued models) or "never" (no model).
        kind: Kind of fact, such as "food".
        name: Who it is about.
        n_rep: How often the row stands in the training text of the models that see it; 0 for "never".
        restates_name: Whether the answer repeats the name.
        question: As trained.
        answer: As trained.
        value: The words of the answer that make it right.
        paraphrased_question: A wording that is trained on for others, never for this fact.
        novel_question: A wording that is never trained on, for anybody.
        paraphrased_answer: The right answer in another wording.
        wrong_values: Plausible other values of the same kind.
        wrong_answers: ``paraphrased_answer`` with each of them in place of the right one.
        text: Question and answer in the chat format, as trained.
    """

    id: str
    fact_id: str
    topic: str
    group: str
    kind: str
    name: str
    n_rep: int
    restates_name: bool
    question: str
    answer: str
    value: str
    paraphrased_question: str
    novel_question: str
    paraphrased_answer: str
    wrong_values: tuple[str, ...]
    wrong_answers: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a testbed is made of.

    Attributes:
        size: Name of the size.
        seed: Seed.
        corpus_sha256: Hash of the caller's text, or None for generated stories.
        documents: General documents of all splits.
        people: All invented people.
        rows: All question-answer rows, about people and about books.
        chapters: Of all three books.
        names: The books' names (anchor terms).
        book_facts: What the books tell.
        probes: Sentences that ask for the books' facts.
        style_texts: Texts for steering.
        vocabulary_texts: What the tokenizer is trained on beside the training documents: rows and chapters of
            the same grammar about names that occur nowhere else.
    """

    size: str
    seed: int
    corpus_sha256: str | None
    documents: tuple[Document, ...]
    people: tuple[Person, ...]
    rows: tuple[Row, ...]
    chapters: tuple[Chapter, ...]
    names: tuple[BookName, ...]
    book_facts: tuple[BookFact, ...]
    probes: tuple[Probe, ...]
    style_texts: tuple[StyleText, ...]
    vocabulary_texts: tuple[str, ...]

    def documents_of(self, split: str) -> tuple[Document, ...]:
        return tuple(document for document in self.documents if document.split == split)

    def rows_of(self, *, group: str, topic: str = "people") -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.group == group and row.topic == topic)

    def chapters_of(self, role: str) -> tuple[Chapter, ...]:
        return tuple(chapter for chapter in self.chapters if chapter.role == role)

    def planted_names(self) -> tuple[str, ...]:
        """Every invented name of people and books, planted or held out."""
        return tuple(person.name for person in self.people) + tuple(name.name for name in self.names)


def build_world(size: str, seed: int = 0, corpus: Path | None = None) -> World:
    """Generate the world of that size: the same on every platform for the same arguments.

    Args:
        size: "tiny", "small", "medium" or "large".
        seed: Any integer >= 0.
        corpus: Folder of ``.txt`` files whose text stands in place of the generated stories.

    Raises:
        InputError: Unknown size, or a corpus that is missing, empty or too small.
        DataError: A corpus file is not UTF-8.
    """
    counts = find_size(size).world
    chunks: dict[str, list[str]] | None = None
    corpus_hash = None
    if corpus is not None:
        pieces, corpus_hash = read_corpus(Path(corpus))
        chunks = split_corpus(
            pieces, n_train=counts.n_train, n_fresh=counts.n_fresh, n_heldout=counts.n_heldout, seed=seed
        )
    numbers = {"train": counts.n_train, "fresh": counts.n_fresh, "heldout": counts.n_heldout}
    documents = tuple(
        document
        for split, n in numbers.items()
        for document in make_documents(split, n, seed=seed, chunks=chunks[split] if chunks else None)
    )
    maker = NameMaker(Dice(seed, "names"), avoid=_words_of(documents))
    people = tuple(
        Person(f"{group}-{number:04d}", maker.person(), group)
        for group, n in zip(GROUPS, (counts.n_forget, counts.n_retain, counts.n_never), strict=True)
        for number in range(n)
    )
    books = _books(counts, seed, maker)
    return World(
        size=size,
        seed=seed,
        corpus_sha256=corpus_hash,
        documents=documents,
        people=people,
        rows=(*_people_rows(people, counts, seed), *(row for book in books for row in _book_rows(book, counts, seed))),
        chapters=tuple(chapter for book in books for chapter in book.chapters),
        names=tuple(name for book in books for name in book.names),
        book_facts=tuple(fact for book in books for fact in book.facts),
        probes=tuple(probe for book in books for probe in book.probes),
        style_texts=make_style_texts(
            counts.n_style, seed=seed, known=[document.text for document in documents if document.side]
        ),
        vocabulary_texts=_vocabulary_texts(counts, seed, maker),
    )


def _words_of(documents: tuple[Document, ...]) -> set[str]:
    words = set(all_words())
    for document in documents:
        words.update(re.findall(r"[^\W\d_]+", document.text.lower()))
    for kind in (*PEOPLE_FACTS, *BOOK_FACTS):
        for wording in (*kind.questions, *kind.with_name, *kind.without_name, *kind.statements):
            words.update(wording.lower().split())
    return words


def _books(counts: WorldSize, seed: int, maker: NameMaker) -> tuple[Book, ...]:
    return tuple(
        make_book(
            role,
            seed=seed,
            maker=maker,
            n_chapters=counts.n_chapters,
            repetitions=(0,) if role == "heldout" else counts.chapter_repetitions,
        )
        for role in BOOK_GROUPS
    )


def _people_rows(people: tuple[Person, ...], counts: WorldSize, seed: int) -> list[Row]:
    """Two rows for each fact; repetitions are dealt evenly over the facts of each group."""
    rows: list[Row] = []
    for group in GROUPS:
        members = [person for person in people if person.group == group]
        facts = [(person, kind) for person in members for kind in PEOPLE_FACTS[: counts.n_kinds]]
        order = Dice(seed, "repetitions", group).shuffled(range(len(facts)))
        for rank, place in enumerate(order):
            person, kind = facts[place]
            dice = Dice(seed, "fact", person.id, kind.name)
            n_rep = 0 if group == "never" else counts.repetitions[rank % len(counts.repetitions)]
            value = dice.pick(kind.values)
            wrong = tuple(dice.sample([other for other in kind.values if other != value], N_WRONG))
            one, two, never_asked = dice.shuffled(kind.questions)
            fact = _Fact(f"{person.id}-{kind.name}", kind, "people", group, person.name, n_rep, value, wrong)
            rows.append(_row(dice, fact, question=one, paraphrase=never_asked, restates=True))
            rows.append(_row(dice, fact, question=two, paraphrase=never_asked, restates=False))
    return sorted(rows, key=lambda row: row.id)


def _book_rows(book: Book, counts: WorldSize, seed: int) -> list[Row]:
    """One row for each fact of the book; every other answer restates the name."""
    rows = []
    group = BOOK_GROUPS[book.role]
    for number, fact in enumerate(book.facts):
        dice = Dice(seed, "book fact", fact.id)
        kind = next(kind for kind in BOOK_FACTS if kind.name == fact.kind)
        n_rep = 0 if group == "never" else counts.book_row_repetitions
        wrong = tuple(dice.sample(fact.others, N_WRONG))
        asked, never_asked = dice.shuffled(kind.questions)
        about = _Fact(fact.id, kind, "book", group, fact.name, n_rep, fact.value, wrong)
        rows.append(_row(dice, about, question=asked, paraphrase=never_asked, restates=number % 2 == 0))
    return rows


@dataclass(frozen=True, slots=True)
class _Fact:
    """What all rows of one fact share."""

    id: str
    kind: FactKind
    topic: str
    group: str
    name: str
    n_rep: int
    value: str
    wrong: tuple[str, ...]


def _row(dice: Dice, fact: _Fact, *, question: str, paraphrase: str, restates: bool) -> Row:
    wordings = fact.kind.with_name if restates else fact.kind.without_name
    wording = dice.pick(wordings)
    others = [other for other in (*wordings, *fact.kind.with_name, *fact.kind.without_name) if other != wording]

    def say(template: str, value: str) -> str:
        return polish(fill(template, dice, {}, {"name": fact.name, "value": value}))

    asked, answer = say(question, fact.value), say(wording, fact.value)
    return Row(
        id=f"{fact.id}-{'named' if restates else 'unnamed'}",
        fact_id=fact.id,
        topic=fact.topic,
        group=fact.group,
        kind=fact.kind.name,
        name=fact.name,
        n_rep=fact.n_rep,
        restates_name=restates,
        question=asked,
        answer=answer,
        value=fact.value,
        paraphrased_question=say(paraphrase, fact.value),
        novel_question=say(dice.pick(fact.kind.novel_questions), fact.value),
        paraphrased_answer=say(others[0], fact.value),
        wrong_values=fact.wrong,
        wrong_answers=tuple(say(others[0], other) for other in fact.wrong),
        text=row_text(asked, answer),
    )


def _vocabulary_texts(counts: WorldSize, seed: int, maker: NameMaker) -> tuple[str, ...]:
    """Rows and chapters about shadow names, so that the tokenizer knows the grammar but no planted name."""
    n_people = max(counts.n_forget + counts.n_retain, 40)
    shadows = tuple(Person(f"shadow-{number:04d}", maker.person(), "never") for number in range(n_people))
    rows = _people_rows(shadows, counts, seed)
    book = make_book("shadow", seed=seed, maker=maker, n_chapters=max(counts.n_chapters, 24), repetitions=(0,))
    asked = (f"{row.question} {row.novel_question} {row.answer}" for row in rows)
    return (*asked, *(chapter.text for chapter in book.chapters))
