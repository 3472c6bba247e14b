r"""Which planted copies of traps would a cleaning pipeline leave? Asked before anything is published.

The documents go through published filters, one after another, and after each of them every copy that still stands there
verbatim is counted: of the traps as they were drawn, and of their fuzzy variants. A copy of which a filter took away a
single character counts as lost.

This simulates published filters (`exact`, `minhash`, `repetition` and `perplexity` beside this file, each with its
sources) on the planted documents alone. It is no company's pipeline, and a real corpus holds other documents beside
these, in which duplicates of them may stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ahocorasick

from ...errors import InputError
from ...lm.load import LanguageModel, Tokens
from ...progress import Progress, silent
from .exact import by_tokenizer, by_words, repeated_tokens, without
from .minhash import clusters, shingles
from .plan import Pipeline, Stage
from .repetition import repetition

WHERE: dict[Stage, str] = {
    "exact": "nothing is left of it",
    "minhash": "near duplicate of an earlier document",
    "perplexity": "perplexity above the percentile",
}


class Planted(NamedTuple):
    """A text whose copies are followed: a trap as it was drawn, or a fuzzy variant of it."""

    trap_id: str
    text: str
    fuzzy: bool


class Copies(NamedTuple):
    """Copies that stand in the documents."""

    exact: int
    fuzzy: int


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one filter did.

    Attributes:
        stage: Its name.
        documents_in: Documents before it.
        dropped: Why documents were dropped, and how many.
        characters_cut: Characters taken out of documents that stayed.
        left: Copies of each trap after it.
    """

    stage: Stage
    documents_in: int
    dropped: dict[str, int]
    characters_cut: int
    left: dict[str, Copies]

    @property
    def documents_left(self) -> int:
        return self.documents_in - sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class Survival:
    """The whole of a simulation: ``planted`` are the copies of each trap before the first filter."""

    pipeline: Pipeline
    planted: dict[str, Copies]
    stages: tuple[StageResult, ...]
    n_documents: int


def simulate(
    texts: Sequence[str],
    planted: Iterable[Planted],
    pipeline: Pipeline,
    *,
    tokens: LanguageModel | Tokens | None = None,
    lm: LanguageModel | None = None,
    progress: Progress = silent,
) -> Survival:
    """Run the filters and count the copies after each.

    Args:
        texts: The documents, copies and all.
        planted: What to look for; texts of members only.
        pipeline: The filters.
        tokens: Tokenizer of "exact"; None cuts by words.
        lm: Model of "perplexity".
        progress: Told what is done.

    Raises:
        InputError: "perplexity" without a model, a tokenizer that has no offsets, or nothing to look for.
    """
    if "perplexity" in pipeline.stages and lm is None:
        raise InputError('survival: the stage "perplexity" needs a model.')
    finder = _Finder(planted)
    before = finder.count(texts)
    documents = list(texts)
    results: list[StageResult] = []
    for stage in pipeline.stages:
        n_before = len(documents)
        kept, dropped, cut = _run(stage, documents, pipeline, tokens, lm, progress)
        documents = kept
        results.append(StageResult(stage, n_before, dict(dropped), cut, finder.count(documents)))
    return Survival(pipeline, before, tuple(results), len(texts))


_Outcome = tuple[list[str], Counter[str], int]


def _run(
    stage: Stage,
    documents: list[str],
    pipeline: Pipeline,
    tokens: LanguageModel | Tokens | None,
    lm: LanguageModel | None,
    progress: Progress,
) -> _Outcome:
    tell = _teller(progress, stage, len(documents))
    if stage == "exact":
        return _exact(documents, pipeline, tokens, progress)
    if stage == "minhash":
        sets = (shingles(text, pipeline.width) for text in documents)
        found = clusters(sets, bands=pipeline.bands, rows=pipeline.rows, seed=pipeline.seed, on_done=tell)
        reasons = [WHERE[stage] if first != place else None for place, first in enumerate(found.tolist())]
    elif stage == "repetition":
        reasons = []
        for text in documents:
            reasons.append(repetition(text))
            tell(len(reasons))
    else:
        from .perplexity import above_percentile, document_perplexities

        assert lm is not None
        assert pipeline.percentile is not None  # both were checked
        progress(stage, 0, 1)
        above = above_percentile(document_perplexities(lm, documents), pipeline.percentile)
        progress(stage, 1, 1)
        reasons = [WHERE[stage] if gone else None for gone in above.tolist()]
    kept = [text for text, reason in zip(documents, reasons, strict=True) if reason is None]
    return kept, Counter(reason for reason in reasons if reason is not None), 0


def _exact(
    documents: list[str], pipeline: Pipeline, tokens: LanguageModel | Tokens | None, progress: Progress
) -> _Outcome:
    cutter = by_words if tokens is None else by_tokenizer(tokens.tokenizer)
    dropped: Counter[str] = Counter()
    cut = 0
    for round_ in range(pipeline.rounds):
        progress("exact", round_, pipeline.rounds)
        tokenised = cutter(documents)
        gone = repeated_tokens(tokenised.names, tokenised.bounds, pipeline.ngram, keep=pipeline.keep)
        shorter = without(documents, tokenised, gone)
        kept = [text for text in shorter if text.strip()]
        dropped[WHERE["exact"]] += len(shorter) - len(kept)
        cut += sum(len(old) - len(new) for old, new in zip(documents, shorter, strict=True) if new.strip())
        documents = kept
    progress("exact", pipeline.rounds, pipeline.rounds)
    return documents, +dropped, cut


def _teller(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    step = max(1, total // 200)

    def tell(done: int) -> None:
        if done % step == 0 or done == total:
            progress(stage, done, total)

    progress(stage, 0, total)
    return tell


class _Finder:
    """Counts copies by one pass of an Aho-Corasick automaton; what stands inside a longer copy is none of its own."""

    def __init__(self, planted: Iterable[Planted]) -> None:
        owners: dict[str, list[tuple[str, bool]]] = {}
        self._ids: dict[str, None] = {}
        for trap_id, text, fuzzy in planted:
            self._ids[trap_id] = None
            if text and (trap_id, fuzzy) not in owners.setdefault(text, []):
                owners[text].append((trap_id, fuzzy))
        if not any(owners.values()):
            raise InputError("survival: there is no text to look for; give the traps that were planted.")
        self._automaton = ahocorasick.Automaton()
        for text, holders in owners.items():
            if holders:
                self._automaton.add_word(text, (len(text), tuple(holders)))
        self._automaton.make_automaton()

    def count(self, texts: Sequence[str]) -> dict[str, Copies]:
        """Copies of each trap, by its id."""
        found: Counter[tuple[str, bool]] = Counter()
        for text in texts:
            spans = [(last + 1 - length, -last, holders) for last, (length, holders) in self._automaton.iter(text)]
            reached = -1
            for _, minus_last, holders in sorted(spans):  # by start, the longest first
                if -minus_last > reached:
                    found.update(holders)
                    reached = -minus_last
        return {trap_id: Copies(found[trap_id, False], found[trap_id, True]) for trap_id in self._ids}


def count_copies(texts: Sequence[str], planted: Iterable[Planted]) -> dict[str, Copies]:
    """Copies of each trap that stand in the texts verbatim, by its id.

    A text that stands inside another of them (a scattered piece inside an exact copy) is not counted there.

    Raises:
        InputError: There is nothing to look for.
    """
    return _Finder(planted).count(texts)
