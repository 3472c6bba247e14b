"""What each model is trained on, as a table: nothing else reaches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InputError, InstrumentError
from .contamination import occurring, occurring_words
from .world import World

#: Models in the order of building; the last three go on from the first.
MODELS = ("reference", "subject", "retrained", "retrained_2")
#: Groups of rows and roles of books that each continued model sees.
_SEEN = {"subject": ("forget", "retain"), "retrained": ("retain",), "retrained_2": ("retain",)}
_BOOKS = {"subject": ("forget", "neighbour"), "retrained": ("neighbour",), "retrained_2": ("neighbour",)}


@dataclass(frozen=True, slots=True)
class TrainingText:
    """One text of a model's training, seen ``n_rep`` times.

    Attributes:
        source: Id of the document, row or chapter.
        kind: "document", "row" or "chapter".
        n_rep: How often it is seen.
        text: As seen; in the continued models, documents carry traps.
    """

    source: str
    kind: str
    n_rep: int
    text: str


def training_texts(model: str, world: World, hosts: Mapping[str, str], *, n_reference: int) -> list[TrainingText]:
    """The training text of one model.

    Args:
        model: One of `MODELS`.
        world: The world.
        hosts: Fresh documents with traps in them, by id; not used for the reference.
        n_reference: Documents that the reference sees; a caller's corpus with fewer is gone through again.

    Raises:
        InputError: Unknown model.
    """
    if model == "reference":
        documents = world.documents_of("train")
        whole, rest = divmod(n_reference, len(documents))
        return [
            TrainingText(document.id, "document", whole + (place < rest), document.text)
            for place, document in enumerate(documents)
            if whole + (place < rest)
        ]
    if model not in _SEEN:
        raise InputError(f'no model "{model}" in a testbed; expected one of {", ".join(MODELS)}.')
    texts = [TrainingText(name, "document", 1, text) for name, text in hosts.items()]
    texts += [TrainingText(row.id, "row", row.n_rep, row.text) for row in world.rows if row.group in _SEEN[model]]
    texts += [
        TrainingText(chapter.id, "chapter", chapter.n_rep, chapter.text)
        for chapter in world.chapters
        if chapter.role in _BOOKS[model]
    ]
    return texts


def repeated(texts: Sequence[TrainingText]) -> list[str]:
    """Every text as often as it is seen."""
    return [text.text for text in texts for _ in range(text.n_rep)]


def check_clean(model: str, texts: Sequence[TrainingText], world: World, traps: Sequence[str]) -> None:
    """Search a model's training text for what it must not hold.

    These are the questions, rows and chapters of the groups and books that it does not see, every word of their
    names, all paraphrased and novel questions, and the given traps.

    Args:
        model: One of `MODELS`.
        texts: Its training text.
        world: The world.
        traps: Texts of the decoys; for the reference, of the members as well.

    Raises:
        InstrumentError: Something is there; the testbed would tell a wrong truth.
    """
    rows = [row for row in world.rows if row.group not in _SEEN.get(model, ())]
    strings = [row.question for row in rows] + [row.text for row in rows]
    strings += [question for row in world.rows for question in (row.paraphrased_question, row.novel_question)]
    strings += traps
    strings += [chapter.text for chapter in world.chapters if chapter.role not in _BOOKS.get(model, ())]
    words = [
        word for person in world.people if person.group not in _SEEN.get(model, ()) for word in person.name.split()
    ]
    words += [name.name for name in world.names if name.role not in _BOOKS.get(model, ())]
    seen = [text.text for text in texts]
    found = sorted(occurring(strings, seen) | occurring_words(words, seen))
    if found:
        raise InstrumentError(
            f"the training text of {model} holds {len(found)} strings that it must not hold, first {found[0]!r}; "
            "truths of this testbed would be wrong. Build it with another seed."
        )
