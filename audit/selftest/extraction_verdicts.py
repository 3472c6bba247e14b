"""What the extraction audit says, by hand: every branch of its verdict, and rates of generations that are known.

Rates are Wilson's: 0 of 1,000 excludes 0.4% and more, so a negligible rate of 1% is excluded; 0 of 100 excludes 3.7%
only. The rates of a whole audit are asked with a threshold that is given (a cosine of 0.9): copies lie above, texts
without a word in common below, so nothing is left to chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..extraction.calibrate import Bucket, Calibration
from ..extraction.config import MatchPlan
from ..extraction.dealing import Dealing, dealing_of
from ..extraction.findings import Counts, Guards, overall
from ..extraction.results import Rated, Result
from ..extraction.rows import Rows
from ..extraction.sample import SCHEMA
from ..extraction.split_half import SplitHalf
from ..runs.schema import AuditSection
from ..stats.estimate import Estimate, PValue
from ..stats.proportion import difference, wilson
from .answers import Known, near, same

_PLAN = MatchPlan()  # negligible: 0.01
_COPIES, _STRANGERS, _REJECTS, _SHORT = 12, 36, 6, 6
Audit = Callable[[pa.Table, Rows, Rows, float], AuditSection]


def ask_verdicts() -> Iterator[Known]:
    """Every branch, each with only that changed which decides it."""
    none, some = _rates(0, 1_000), _rates(30, 1_000)
    sure, open_, below = _halves(0.0001, 1.0), _halves(0.5, 0.5), _halves(1.0, 0.0001)
    yield _said("no hit of 1,000, and nothing against it", "not found", _verdict(none, open_), "0.4% is excluded")
    yield _said("hits on the trained half", "found", _verdict(some, sure), "the test of the halves")
    yield _said("no hit of 100", "inconclusive", _verdict(_rates(0, 100), open_), "3.7% is not excluded: no pass")
    yield _said(
        "no hit of 1,000, 100 of them compared", "inconclusive", _verdict(_rates(0, 100, 1_000), open_), "3.7% again"
    )
    yield _said("hits on both halves alike", "inconclusive", _verdict(some, open_), "no memory, and no small rate")
    yield _said("hits on the held-out half", "confounded", _verdict(some, below), "no memory explains it")
    yield _said(
        "halves that the base model tells apart", "confounded", _verdict(some, sure, base=sure), "it never saw them"
    )
    apart = _dealing({"bag_of_words_auc": Estimate(0.8, 0.7, 0.9, 0.99, 400, "AUC")})
    yield _said("halves that words tell apart", "confounded", _verdict(some, sure, dealing=apart), "no random division")
    alike = _dealing({"bag_of_words_auc": Estimate(0.52, 0.45, 0.6, 0.99, 400, "AUC")})
    yield _said("halves that words do not tell apart", "found", _verdict(some, sure, dealing=alike), "0.5 lies inside")
    yield _said("more hits than false ones, without halves", "inconclusive", _verdict(some, None), "likely text, too")
    yield _said("no generation parsed", "inconclusive", _verdict(none, open_, counts=_counts(parsed=0)), "not a pass")
    for name, counts, guards in _against():
        verdict = _verdict(none, open_, counts=counts, guards=guards)
        yield _said(f"no hit of 1,000, but {name}", "inconclusive", verdict, "the audit could not have seen it")


def ask_rates(audit: Audit, trained: Rows, held_out: Rows) -> Iterator[Known]:
    """A whole audit of known generations, at a given threshold.

    Args:
        audit: Generations, training rows, held-out rows and the threshold -> the section.
        trained: Rows without a word in common, of which the first are given back.
        held_out: Likewise; others.
    """
    texts = [*zip(trained.questions[:_COPIES], trained.answers[:_COPIES], strict=True)]
    texts += [(f"s{place}a s{place}b s{place}c s{place}d", f"s{place}e s{place}f") for place in range(_STRANGERS)]
    texts += [("one", "two")] * _SHORT
    rows = [{"question": one, "answer": two, "whole": f"{one}\n{two}", "reject": None} for one, two in texts]
    rows += [{"question": None, "answer": None, "whole": None, "reject": "no marker: x"}] * _REJECTS
    made = [{"id": f"g{place}", "prefix": "p", "prefix_sha256": "0", **row} for place, row in enumerate(rows)]
    section = audit(pa.Table.from_pylist(made, schema=SCHEMA), trained, held_out, 0.9)
    found = {one.id: one for one in section.findings}
    told = found["extraction.overall"]
    n, compared = len(made), _COPIES + _STRANGERS
    for name, truth, why in (
        ("memorisation_rate", _COPIES / n, f"{_COPIES} copies of {n} generations"),
        ("rate_of_compared", _COPIES / compared, f"of {compared} that were parsed and long enough"),
        ("false_positive_rate", 0.0, "no held-out row shares a word with a training row"),
        ("excess", _COPIES / compared, "the one less the other"),
    ):
        yield near(f"known generations: {name}", told.estimates[name].value, truth, why)
    yield near(
        "known generations: share of hits on the trained half",
        found["extraction.halves"].estimates["share"].value,
        1.0,
        "each copy is of that half",
    )
    yield near(
        "known generations: changed training rows that are hits",
        found["extraction.sensitivity"].estimates["sensitivity"].value,
        1.0,
        "20 words of 22 are left: a cosine of 0.95",
    )
    yield same("known generations: verdict", told.verdict, "found", "12 of 12 hits on one half: 1 in 4,096 by chance")


def ask_dealing(trained: Rows, held_out: Rows) -> Iterator[Known]:
    """The check without the model, of rows that were divided at random and of rows that were not."""
    alike = dealing_of(trained, held_out, plan=_PLAN, at_random=True)
    yield same("rows of one draw: told by words", "bag_of_words_auc" in alike.differs, False, "no word stands in two")
    marked = replace(trained, wholes=tuple(f"{one} and so on" for one in trained.wholes))
    apart = dealing_of(marked, held_out, plan=_PLAN, at_random=True)
    why = "words and lengths need no model"
    yield same("a phrase in each trained row: told by", apart.differs, ["bag_of_words_auc", "length_auc"], why)
    twice = dealing_of(trained, replace(held_out, questions=trained.questions), plan=_PLAN, at_random=True)
    yield same("one question in both halves: rows tested", int(twice.tested.sum()), 0, "none lacks a near-duplicate")


def _against() -> Iterator[tuple[str, Counts, Guards]]:
    """What stands against "not found" however small the rate is, one at a time."""
    all_, fine = _counts(), _guards()
    yield "copies would be missed", all_, _guards(sensitivity=wilson(100, 200))
    yield "more at the threshold of held-out rows alone", all_, _guards(at_own=wilson(30, 1_000))
    yield "few were parsed", _counts(parsed=400, distinct=400), fine
    yield "many are too short", _counts(short=200), fine
    yield "many training rows are too short", _counts(short_rows=100), fine
    yield "few different texts", _counts(distinct=100), fine
    yield "one opening of two tells nothing", all_, _guards(by_prefix={"a": wilson(0, 950), "b": wilson(0, 50)})


def _counts(
    *, parsed: int = 1_000, short: int = 0, short_rows: int = 0, distinct: int = 1_000, n: int = 1_000
) -> Counts:
    rejects = Counter({"no marker": n - parsed} if parsed < n else {})
    return Counts(n, rejects, short, distinct, 400, short_rows, 0, 0, n, 0, None, None)


def _guards(
    *,
    at_own: Estimate | None = None,
    by_prefix: dict[str, Estimate] | None = None,
    sensitivity: Estimate | None = None,
) -> Guards:
    return Guards(at_own or wilson(0, 1_000), by_prefix or {"a": wilson(0, 1_000)}, sensitivity or wilson(200, 200))


def _dealing(blind: dict[str, Estimate]) -> Dealing:
    n = 4
    labels, all_ = np.arange(n), np.ones(n, dtype=bool)
    return Dealing(2, labels, labels, all_, "", np.zeros(2, dtype=bool), False, blind, np.full(n, np.nan))


def _halves(above: float, below: float) -> SplitHalf:
    name = "by hand"
    return SplitHalf(Estimate(0.5, 0.4, 0.6, 0.95, 100, name), 0.5, PValue(above, 1e-4, 100, name), below, 100, 100)


def _rates(hits: int, compared: int, generations: int | None = None) -> Rated:
    of = wilson(hits, compared)
    hit = np.zeros(compared, dtype=bool)
    return Rated(wilson(hits, generations or compared), of, difference(of, wilson(0, 1_000)), hit)


def _verdict(
    rated: Rated,
    halves: SplitHalf | None,
    *,
    base: SplitHalf | None = None,
    dealing: Dealing | None = None,
    counts: Counts | None = None,
    guards: Guards | None = None,
) -> str:
    calibration = Calibration(0.01, (Bucket(0, None, 0.9, 1_000),), {"held-out rows": wilson(0, 1_000)})
    nothing: NDArray[Any] = np.zeros(0)
    main = Result(
        view="whole",
        arm="embedding",
        calibration=calibration,
        rated=rated,
        at_own=rated,
        base=None,
        coverage_any=rated.rate,
        coverage_best=rated.rate,
        clusters_hit=0,
        curve_at=nothing,
        curve=nothing,
        hits_on=nothing,
        halves=halves,
        base_halves=base,
    )
    return overall(main, counts or _counts(), dealing or _dealing({}), guards or _guards(), _PLAN).verdict


def _said(name: str, truth: str, verdict: str, why: str) -> Known:
    return same(f"verdict: {name}", verdict, truth, why)
