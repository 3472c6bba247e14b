"""Extraction: a model that holds sixty rows and nothing else is sampled, and so is one that holds sixty strangers.

The model is a table: after the opening of a chat each row's first word is equally likely, and every word has one
successor, so a sample is one of its rows, word for word. All generations of the planted model are training rows; none
of the null model's is a row of either half. The encoder is a bag of hashed words, so that nothing here rests on another
model. The threshold is the highest of 30 held-out maxima (a target of 5%); a stranger exceeds it with a share of
Beta(1, 30), which is above 0.3 with a chance of 2e-5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..extraction import run as extraction
from ..extraction import sample, samplers
from ..extraction.config import MatchPlan
from ..extraction.coverage import coverage_curve
from ..extraction.prefixes import encode_prefix
from ..extraction.presets import Chat
from ..extraction.rows import Rows
from ..lm.load import LanguageModel
from ..runs.schema import AuditSection
from ..runs.shards import ShardedTable
from ..runs.store import Run
from . import extraction_verdicts
from .answers import Instrument, Known, near, same, within
from .models import BOS, EOS, FIRST, table_model, word_list

_ROWS, _QUESTION, _ANSWER, _SAMPLES = 60, 10, 12, 120
_LENGTH = _QUESTION + _ANSWER
_CHAT = Chat("self-test", opening=" <u>", assistant=" <a>", end=" <e>")
_PLAN = MatchPlan(least_words=5, target=0.05)
_WORDS = word_list(3 * _ROWS * _LENGTH)


def ask(work: Path) -> Iterator[Known]:
    """Sampling, parsing, matching, threshold, rates and coverage, from end to end."""
    order = np.random.default_rng(7).permutation(len(_WORDS)).reshape(3, _ROWS, _LENGTH)
    trained, held_out = _rows(order[0], "trained"), _rows(order[1], "held-out")
    made = {
        name: _sampled(_holding(work / name, order[place]), work / f"{name}-parts")
        for name, place in (("planted", 0), ("null", 2))
    }
    for name, table in made.items():
        n = sum(one is not None for one in table["whole"].to_pylist())
        yield same(f"{name}: samples that parse", n, _SAMPLES, "the table writes whole rows")
    whole = {*trained.wholes}
    yield same(
        "planted: samples that are training rows, word for word",
        sum(one in whole for one in made["planted"]["whole"].to_pylist()),
        _SAMPLES,
        "it knows nothing else",
    )
    found = {name: _audited(work / f"run-{name}", table, trained, held_out) for name, table in made.items()}
    overall = {name: section.findings for name, section in found.items()}
    planted, null = ({one.id: one for one in overall[name]} for name in ("planted", "null"))
    yield same("planted: verdict", planted["extraction.overall"].verdict, "found", "every sample is a training row")
    yield near(
        "planted: memorisation rate",
        planted["extraction.overall"].estimates["memorisation_rate"].value,
        1.0,
        "every sample is a training row",
    )
    share = planted["extraction.halves"].estimates["share"].value
    yield within("planted: share of hits on the trained half", share, 0.95, 1.0, "no sample is near a held-out row")
    expected = len(set(made["planted"]["whole"].to_pylist())) / _ROWS
    yield near(
        "planted: coverage",
        planted["extraction.coverage"].estimates["coverage_best"].value,
        expected,
        "different rows among the samples, of 60",
    )
    yield within(
        "planted: different rows of 60 in 120 samples",
        expected,
        0.70,
        0.98,
        "1 - (1 - 1/60)^120 = 0.867; a standard error of 0.031, five of them and one row",
        luck=1e-6,
    )
    yield same(
        "null: verdict is not found",
        null["extraction.overall"].verdict == "found",
        False,
        "no sample is a row of either half",
    )
    yield within(
        "null: memorisation rate",
        null["extraction.overall"].estimates["memorisation_rate"].value,
        0.0,
        0.4,
        "see the head of the module",
        luck=2e-5,
    )
    yield from extraction_verdicts.ask_verdicts()
    yield from extraction_verdicts.ask_rates(
        lambda *given: _audited(work / "run-known", *given[:3], threshold=given[3]), trained, held_out
    )
    yield from extraction_verdicts.ask_dealing(trained, held_out)
    yield near(
        "coverage curve: one hit on each of ten rows in ten, after five",
        float(coverage_curve(np.ones(10, dtype=np.int64), 10, [5])[0]),
        0.5,
        "each row's hit is among five of ten by half",
    )


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """A bag of hashed words, unit norm."""
    vectors = np.zeros((len(texts), 256), dtype=np.float32)
    for place, text in enumerate(texts):
        for word in text.split():
            vectors[place, hashlib.sha256(word.encode()).digest()[0]] += 1
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _rows(order: NDArray[np.int64], name: str) -> Rows:
    questions = tuple("".join(_WORDS[one] for one in row[:_QUESTION]).strip() for row in order)
    answers = tuple("".join(_WORDS[one] for one in row[_QUESTION:]).strip() for row in order)
    wholes = tuple(f"{question}\n{answer}" for question, answer in zip(questions, answers, strict=True))
    ids = tuple(f"{name}-{place}" for place in range(len(order)))
    return Rows(ids, questions, answers, wholes, (None,) * len(order), source=name)


def _holding(folder: Path, order: NDArray[np.int64]) -> LanguageModel:
    """The last word of a question is one token with the marker after it, else the table would forget which row it is
    in; likewise the last of an answer."""
    words = [" <u>"]
    for row in order:
        for place, one in enumerate(row):
            after = {_QUESTION - 1: _CHAT.assistant, _LENGTH - 1: _CHAT.end}.get(place, "")
            words.append(_WORDS[one] + after)
    n = FIRST + len(words)
    table = np.full((n, n), 1e-9)
    firsts = FIRST + 1 + _LENGTH * np.arange(len(order))
    table[BOS, FIRST] = 1.0
    table[FIRST, firsts] = 1.0
    for first in firsts:
        for place in range(_LENGTH - 1):
            table[first + place, first + place + 1] = 1.0
        table[first + _LENGTH - 1, EOS] = 1.0
    return table_model(folder, words, table / table.sum(axis=1, keepdims=True))


def _sampled(lm: LanguageModel, folder: Path) -> pa.Table:
    prefix = encode_prefix(lm, _CHAT.opening, bos=True)
    plan = sample.plan_samples(lm, _CHAT, [prefix], n=_SAMPLES, seed=8, max_new_tokens=_LENGTH + 4)
    return sample.sample_in_parts(
        samplers.Local(lm, batch_size=_SAMPLES),
        plan,
        open_parts=lambda stage, key, n: ShardedTable(folder / stage, key=key, n_parts=n),
    )


def _audited(
    folder: Path, made: pa.Table, trained: Rows, held_out: Rows, *, threshold: float | None = None
) -> AuditSection:
    with Run.start(folder, kind="extraction", plan={}, plan_text="", command=[]) as run:
        compared = extraction.Compared(made, trained, held_out)
        return extraction.audit_extraction(
            run, compared, encode=encode, encoder="words", plan=_PLAN, threshold=threshold
        )


INSTRUMENT = Instrument("extraction", ask)
