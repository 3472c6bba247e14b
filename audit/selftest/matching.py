"""Matching: what is alike by construction is found, what is not is not; and an encoder that says nothing is caught.

String similarities are arithmetic. The encoder, an instrument of its own, is the embedded one: a text's cosine with
itself is 1 to rounding; eight sentences on eight subjects lie below the published threshold of 0.95 by far (the highest
of their 28 cosines is 0.24; 0.6 is asked), and each is nearer to its own paraphrase than to any other. Without the
extra "offline" it is not asked. An encoder of the user's own is not vouched for here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import MissingDependencyError
from ..matching import clusters, dense, encode, numbers, spans, strings
from .answers import Instrument, Known, left_out, near, same, within

_TEXTS = (
    ("The cat slept on the warm windowsill all afternoon.", "All afternoon a cat was sleeping on the warm windowsill."),
    ("Interest rates rose for the third month in a row.", "For the third consecutive month, interest rates went up."),
    ("Add two cups of flour and knead the dough.", "Knead the dough after adding two cups of flour."),
    ("The spacecraft entered orbit around Mars.", "The probe went into an orbit around the planet Mars."),
    ("She practised the violin sonata every morning.", "Every morning she rehearsed the sonata on her violin."),
    ("Glaciers are melting faster than expected.", "The melting of glaciers is quicker than was expected."),
    ("The goalkeeper saved a penalty in the last minute.", "In the final minute the penalty was saved by the keeper."),
    ("Vaccines teach the immune system to recognise a virus.", "A vaccine trains the immune system to know a virus."),
)


def ask(work: Path) -> Iterator[Known]:
    """Strings, dense search and near-duplicates."""
    yield near(
        "Levenshtein of kitten and sitting",
        strings.similarity("kitten", "sitting", "levenshtein"),
        1 - 3 / 7,
        "three edits of seven letters",
    )
    yield near(
        "Indel of kitten and sitting",
        strings.similarity("kitten", "sitting", "indel"),
        1 - 5 / 13,
        "two letters exchanged cost four, one more inserted one, of 13",
    )
    for measure in ("levenshtein", "indel"):
        yield near(
            f"{measure} of a text with itself",
            strings.similarity("one text", "one text", measure),
            1.0,
            "nothing to edit",
        )
    corpus = strings.TextCorpus([first for first, _ in _TEXTS], "levenshtein")
    asked = [_TEXTS[5][0].replace("faster", "fasted"), "Nothing of the kind stands in that corpus at all."]
    best = corpus.best(asked, 0.8)
    n = len(_TEXTS[5][0])
    yield same("nearest string of a misspelt text", int(best.rows[0]), 5, "one letter was changed")
    yield near("its similarity", float(best.similarity[0]), 1 - 1 / n, f"one edit of {n} letters", tolerance=1e-6)
    yield within(
        "an unrelated text below the threshold of 0.8",
        float(np.nan_to_num(best.similarity[1])),
        -1,
        0.8,
        "no text of the corpus shares a fifth of its letters in order",
    )
    pairs = corpus.pairs_above(asked, 0.8)
    yield same(
        "pairs above 0.8",
        list(zip(pairs.queries.tolist(), pairs.rows.tolist(), strict=True)),
        [(0, 5)],
        "the threshold keeps one of 16 pairs",
    )

    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(50, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = vectors[:10].astype(float) @ vectors[10:].T.astype(float)
    top = dense.top_k(vectors[:10], vectors[10:], 1)
    yield same(
        "dense search: nearest rows",
        top.rows[:, 0].tolist(),
        truth.argmax(axis=1).tolist(),
        "the largest dot product, row by row",
    )
    yield within(
        "dense search: largest error",
        float(np.abs(top.scores[:, 0] - truth.max(axis=1)).max()),
        0,
        1e-6,
        "summed in float64, given as float32",
    )
    close = dense.pairs_above(vectors[:10], vectors[10:], 0.3)
    expected = sorted(zip(*(axis.tolist() for axis in np.nonzero(truth >= 0.3)), strict=True))
    yield same(
        "dense search: pairs above 0.3",
        sorted(zip(close.queries.tolist(), close.rows.tolist(), strict=True)),
        expected,
        "every pair whose product reaches the threshold, and no other",
    )
    yield same(
        "numbers: 7 and 14 differ, 1,000 and 1000 do not",
        (numbers.numbers_differ("7 apples", "14 apples"), numbers.numbers_differ("1,000 of them", "1000 of them")),
        (True, False),
        "numbers are compared as values",
    )
    yield same(
        "longest common run of 1 2 3 4 5 and 9 2 3 4 9",
        spans.longest_common_span([1, 2, 3, 4, 5], [9, 2, 3, 4, 9]).length,
        3,
        "2 3 4",
    )
    texts = [first for first, _ in _TEXTS] + [_TEXTS[0][0] + " "]
    found = clusters.near_duplicates(texts, seed=0)
    yield same(
        "near-duplicates of nine texts", found.tolist(), [*range(8), 0], "the last is the first, white space aside"
    )


def ask_encoder(work: Path) -> Iterator[Known]:
    """The embedded encoder."""
    try:
        encoder = encode.load_encoder(device="cpu")
    except MissingDependencyError as error:
        yield left_out("the embedded encoder", str(error))
        return
    first = encoder.encode([one for one, _ in _TEXTS]).vectors.astype(float)
    other = encoder.encode([two for _, two in _TEXTS]).vectors.astype(float)
    again = encoder.encode([one for one, _ in reversed(_TEXTS)]).vectors.astype(float)[::-1]
    yield within(
        "lowest cosine of a text with itself",
        float((first * again).sum(axis=1).min()),
        1 - 1e-4,
        1 + 1e-4,
        "one text, one direction; a batch in another order rounds otherwise",
    )
    yield within(
        "shortest vector",
        float(np.linalg.norm(first, axis=1).min()),
        1 - 1e-4,
        1 + 1e-4,
        "vectors have length 1; a zero is a text that it cannot see",
    )
    apart = (first @ first.T)[~np.eye(len(first), dtype=bool)]
    yield within("highest cosine of two subjects", float(apart.max()), -1.0, 0.6, "see the head of the module")
    crossed = first @ other.T
    yield same(
        "nearest paraphrase of each",
        crossed.argmax(axis=1).tolist(),
        [*range(len(_TEXTS))],
        "each is nearest to its own",
    )
    yield within(
        "lowest cosine with the own paraphrase",
        float(np.diag(crossed).min()),
        0.65,
        1.0,
        "paraphrases share subject and most words; the lowest is 0.80",
    )


INSTRUMENT = Instrument("matching", ask)
ENCODER = Instrument("encoder", ask_encoder)
