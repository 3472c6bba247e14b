"""Labelled texts for a judge: apart from all that steers or prompts, each once, and split by text."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from audit.errors import DataError, InputError
from audit.forgetting.terms import words
from audit.text.safe import counted, quoted

LEAST: Final = 20  # texts of a class
VALIDATION: Final = 0.25  # share of them


def normalised(text: str) -> str:
    """Words in one case and form (NFKC) with single spaces: texts that differ in no more are one text."""
    return " ".join(words(unicodedata.normalize("NFKC", text)))


def shared_places(texts: Sequence[str], others: Mapping[str, Sequence[str]]) -> list[tuple[int, str]]:
    """Places of the texts that stand in a set of ``others``, normalised, and the first such set's name.

    Near copies that differ in a word are not found: two texts on one subject may be that alike.
    """
    known: dict[str, str] = {}
    for name, listed in others.items():
        for one in listed:
            known.setdefault(normalised(one), name)
    known.pop("", None)
    return [(place, known[key]) for place, key in enumerate(map(normalised, texts)) if key in known]


def require_apart(texts: Sequence[str], others: Mapping[str, Sequence[str]], what: str) -> None:
    """Refuse texts that stand in a set of others.

    Raises:
        DataError: The first such text and where it stands.
    """
    shared = shared_places(texts, others)
    if shared:
        place, name = shared[0]
        raise DataError(
            f"{what} {place + 1}, {quoted(texts[place])}, also stands in {name} (case and punctuation aside; "
            f"{counted(len(shared), 'such text')} in all). What judges must not have seen what is judged: leave them "
            "out on one side."
        )


@dataclass(frozen=True, slots=True)
class JudgeTexts:
    """What a judge is trained on, and what fixes its threshold.

    Attributes:
        train: Texts.
        train_labels: Whether each shows the attribute; shape (n,).
        validation: Other texts.
        validation_labels: Likewise.
        n_repeated: Texts that were left out because they stood there before.
        n_contradicted: Texts that were left out because copies have both labels.
        n_wordless: Texts that were left out because they hold no word.
        key: SHA-256 of all that was kept.
    """

    train: tuple[str, ...]
    train_labels: NDArray[np.bool_]
    validation: tuple[str, ...]
    validation_labels: NDArray[np.bool_]
    n_repeated: int
    n_contradicted: int
    n_wordless: int
    key: str


def deal(
    texts: Sequence[str],
    labels: Sequence[bool],
    *,
    apart_from: Mapping[str, Sequence[str]],
    seed: int,
    share: float = VALIDATION,
) -> JudgeTexts:
    """Check and split.

    What a model writes often shows neither side of an attribute. A judge that was trained on the two sides alone tosses
    a coin there, so give it neutral texts as well, labelled as not showing it.

    Args:
        texts: Of any origin but the sets below.
        labels: Whether each shows the attribute.
        apart_from: Name -> texts: the steering sets, the prompts, the texts for perplexities.
        seed: Of the split.
        share: Of each class for validation, above 0 and below 1.

    Raises:
        InputError: Not one label for each text, a share out of range, one class, or fewer than `LEAST` of a class.
        DataError: A text stands in one of the sets.
    """
    if len(texts) != len(labels):
        raise InputError(f"there are {len(labels):,} labels for {len(texts):,} judge texts; expected one for each.")
    if not 0 < share < 1:
        raise InputError(f"the share for validation is {share}; expected a number between 0 and 1.")
    require_apart(texts, apart_from, "judge text")
    seen: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        seen.setdefault(normalised(text), []).append(place)
    wordless = seen.pop("", [])
    agreed = {key: places for key, places in seen.items() if len({bool(labels[place]) for place in places}) == 1}
    kept = [places[0] for places in agreed.values()]
    n_repeated = sum(len(places) - 1 for places in agreed.values())
    n_contradicted = sum(len(places) for key, places in seen.items() if key not in agreed)
    sides = {side: [place for place in kept if bool(labels[place]) is side] for side in (True, False)}
    for side, places in sides.items():
        if len(places) < LEAST:
            others = f" (of {len(texts):,}: {n_repeated} repeated, {n_contradicted} with both labels)"
            raise InputError(
                f"there are {counted(len(places), 'judge text')} {'with' if side else 'without'} the attribute"
                f"{others}; expected {LEAST} or more of each class. Give more labelled texts."
            )
    rng = np.random.default_rng(seed)
    validation: list[int] = []
    for places in sides.values():
        n = min(len(places) - 1, max(1, round(share * len(places))))
        validation += rng.permutation(places)[:n].tolist()
    held = set(validation)
    train = [place for place in kept if place not in held]
    validation = [place for place in kept if place in held]
    digest = sha256()
    for place in (*train, -1, *validation):
        digest.update(b"|" if place < 0 else repr((texts[place], bool(labels[place]))).encode())
    return JudgeTexts(
        tuple(texts[place] for place in train),
        np.array([bool(labels[place]) for place in train]),
        tuple(texts[place] for place in validation),
        np.array([bool(labels[place]) for place in validation]),
        n_repeated,
        n_contradicted,
        len(wordless),
        digest.hexdigest(),
    )
