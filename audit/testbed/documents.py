"""General documents: generated stories, diary pages and letters, or chunks of the caller's own text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..text.readers import read_texts
from . import plots, styles
from .grammar import Dice, fill, polish
from .lexicon import BOYS, GIRLS, WORDS

STYLE_SHARE = 0.2  # of all general documents; half diary pages, half letters
CORPUS_WORDS = 80  # words in a chunk of the caller's text
CORPUS_PASSES = 4  # how often the caller's training chunks may be seen at most


@dataclass(frozen=True, slots=True)
class Document:
    """A general document.

    Attributes:
        id: Unique name.
        split: "train" (reference), "fresh" (continued models) or "heldout" (none).
        kind: "story", "diary", "letter" or "corpus".
        side: Side of the style attribute ("cheerful", "formal", ...), empty for stories and corpus.
        text: The text.
    """

    id: str
    split: str
    kind: str
    side: str
    text: str


def make_documents(split: str, n: int, *, seed: int, chunks: list[str] | None = None) -> tuple[Document, ...]:
    """``n`` documents of a split; with ``chunks``, these stand in for the stories and there may be fewer of them.

    Args:
        split: Name of the split, part of every document's random stream.
        n: Number of documents.
        seed: Seed of the world.
        chunks: The split's share of the caller's text, or None for generated stories.
    """
    documents: list[Document] = []
    seen: set[str] = set()
    used = 0
    for number in range(n):
        dice = Dice(seed, "document", split, number)
        name = f"{split}-{number:06d}"
        if dice.chance(STYLE_SHARE):
            document = _styled(dice, name, split)
        elif chunks is None:
            document = Document(name, split, "story", "", make_story(dice))
        elif used < len(chunks):
            document = Document(name, split, "corpus", "", chunks[used])
            used += 1
        else:
            continue
        if document.text not in seen:
            seen.add(document.text)
            documents.append(document)
    return tuple(documents)


def _styled(dice: Dice, name: str, split: str) -> Document:
    if dice.chance(0.5):
        side = dice.pick(tuple(styles.MOOD))
        return Document(name, split, "diary", side, make_diary(dice, side))
    side = dice.pick(tuple(styles.REGISTER))
    return Document(name, split, "letter", side, make_letter(dice, side))


def make_story(dice: Dice) -> str:
    """One story of eight to ten sentences: opening, five beats of one plot, asides between them, ending."""
    girl = dice.chance(0.5)
    hero = dice.pick(GIRLS if girl else BOYS)
    friend = dice.pick(GIRLS + BOYS)
    while friend == hero:
        friend = dice.pick(GIRLS + BOYS)
    place, far = dice.sample(WORDS["place"], 2)
    elder = dice.pick(WORDS["elder"])
    his = "her" if girl else "his"
    bound = {
        "hero": hero,
        "he": "she" if girl else "he",
        "his": his,
        "him": "her" if girl else "him",
        "friend": friend,
        "elder": elder,
        "his_elder": f"{his} {elder}",
        "animal": dice.pick(WORDS["animal"]),
        "thing": f"{dice.pick(WORDS['adjective'])} {dice.pick(WORDS['noun'])}",
        "place": place,
        "far": far,
        "food": dice.pick(WORDS["food"]),
        "game": fill(dice.pick(WORDS["game"]), dice, plots.RULES),
    }
    templates = [dice.pick(plots.OPENINGS)]
    for beat in plots.PLOTS[dice.pick(tuple(plots.PLOTS))]:
        templates.append(dice.pick(beat))
        if dice.chance(0.4):
            templates.append(dice.pick(plots.ASIDES))
    templates.append(dice.pick(plots.ENDINGS))
    return " ".join(polish(fill(template, dice, plots.RULES, bound)) for template in templates)


def make_diary(dice: Dice, side: str) -> str:
    """A diary page that is ``side`` ("cheerful" or "gloomy") throughout."""
    bound = {"hero": dice.pick(GIRLS + BOYS)}
    sentences = [styles.DIARY_OPENINGS[dice.below(3)], *dice.sample(styles.MOOD[side], 4 + dice.below(3))]
    return polish(". ".join(fill(sentence, dice, styles.RULES, bound) for sentence in sentences) + ".")


def make_letter(dice: Dice, side: str) -> str:
    """A letter that is ``side`` ("formal" or "colloquial") throughout."""
    parts = [dice.pick(styles.LETTER_OPENINGS[side])]
    parts += dice.sample(styles.REGISTER[side], 3 + dice.below(3))
    parts.append(dice.pick(styles.LETTER_CLOSINGS[side]))
    text = [fill(part, dice, styles.RULES, {"hero": dice.pick(GIRLS + BOYS)}) for part in parts]
    return polish(f"{text[0]}, " + ". ".join(text[1:]) + ".")


def read_corpus(folder: Path) -> tuple[list[str], str]:
    """The caller's text in chunks of about `CORPUS_WORDS` words, and a SHA-256 of its files.

    Args:
        folder: Folder with ``.txt`` files in UTF-8, at any depth, or anything else that `read_texts` reads.

    Returns:
        Different chunks, of whole sentences where these are short enough, in reading order; and the hash.

    Raises:
        InputError: No such folder, or no text in it.
        DataError: A file is empty or not UTF-8.
    """
    table = read_texts(Path(folder))
    chunks = [chunk for text in table.texts for chunk in _chunks(text)]
    return list(dict.fromkeys(chunks)), table.sha256


def _chunks(text: str) -> list[str]:
    """Whole sentences up to `CORPUS_WORDS` words; a longer sentence is cut."""
    chunks: list[str] = []
    words: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        for word in sentence.split():
            words.append(word)
            if len(words) >= 2 * CORPUS_WORDS:
                chunks.append(" ".join(words))
                words = []
        if len(words) >= CORPUS_WORDS:
            chunks.append(" ".join(words))
            words = []
    if len(words) >= CORPUS_WORDS // 4:
        chunks.append(" ".join(words))
    return chunks


def split_corpus(chunks: list[str], *, n_train: int, n_fresh: int, n_heldout: int, seed: int) -> dict[str, list[str]]:
    """Shuffled chunks for each split; the training split may be seen up to `CORPUS_PASSES` times.

    Raises:
        InputError: There are too few; the number of words that the size needs is told.
    """
    share = 1 - STYLE_SHARE
    fresh, heldout = int(n_fresh * share * 1.1) + 1, int(n_heldout * share * 1.1) + 1
    need = fresh + heldout + int(n_train * share / CORPUS_PASSES)
    if len(chunks) < need:
        n_words = sum(len(chunk.split()) for chunk in chunks)
        raise InputError(
            f"the corpus has {n_words:,} words in {len(chunks):,} different chunks; this testbed size needs about "
            f"{need * CORPUS_WORDS:,} words. Add text, choose a smaller size, or leave the corpus out."
        )
    order = Dice(seed, "corpus").shuffled(chunks)
    return {"heldout": order[:heldout], "fresh": order[heldout : heldout + fresh], "train": order[heldout + fresh :]}
