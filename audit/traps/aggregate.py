"""From traps to what a rights holder asks about: all traps of one owner, and the traps of one document.

Both test T = mean stratum-standardised score of the traps in question, by re-dealing them with the decoys of their own
strata (`audit.stats.stratified`), as the arm test does; copies of all numbers count together. The published
document-level rule (arXiv:2406.17975: a threshold tuned on half of the documents, then the share of a document's
sequences above it) is not used: it has no error rate of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..stats.estimate import Estimate, PValue
from ..stats.multiplicity import benjamini_hochberg
from ..stats.stratified import stratified_permutation
from . import detect
from .config import DetectionPlan

DOCUMENT_DRAWS = 999  # re-draws at most for a document: there are many of them, and they are screened


@dataclass(frozen=True, slots=True)
class Owner:
    """What the primary score says about all traps of one owner.

    Attributes:
        name: Owner.
        n_traps: Planted traps, whatever their number of copies.
        auc: Of these traps, each against the decoys of its own stratum.
        p_value: Permutation test over all of them.
        p_holm: After Holm's correction over all tests that can say "found": owners and arms.
        n_tests: How many these are.
        verdict: By the rule of `audit.traps.detect.judged`. A single owner's is not used: its traps are tested by the
            arms already, and a second look at the same traps at the full alpha would find too much.
        lower: As of `audit.traps.detect.Arm`.
    """

    name: str
    n_traps: int
    auc: Estimate
    p_value: PValue
    p_holm: float
    n_tests: int
    verdict: str
    lower: bool


@dataclass(frozen=True, slots=True)
class Document:
    """What the primary score says about the traps of one document.

    Attributes:
        name: Document.
        traps: Rows of the planted traps that have a copy in it, ascending.
        n_copies: Copies of these traps, in this document or elsewhere.
        p_value: Permutation test over them.
        q_value: After Benjamini and Hochberg over all documents: for screening.
    """

    name: str
    traps: tuple[int, ...]
    n_copies: int
    p_value: PValue
    q_value: float


def owner_tests(items: pd.DataFrame, *, plan: DetectionPlan) -> dict[str, PValue]:
    """Owner -> the test of all its traps, uncorrected; strata belong to one owner each."""
    member = items["arm"] == "member"
    return {
        name: _test(items, (items["owner"] == name).to_numpy(), plan, [plan.seed, 1, place], plan.n_draws)
        for place, name in enumerate(sorted(set(items.loc[member, "owner"])))
    }


def owners(
    items: pd.DataFrame, tests: Mapping[str, PValue], *, plan: DetectionPlan, others: Sequence[PValue] = ()
) -> list[Owner]:
    """What is said of each owner's traps, by name.

    Args:
        items: Scored traps with the column ``owner``; strata belong to one owner each.
        tests: From `owner_tests`.
        plan: What is tested.
        others: The arms' tests, with which these are corrected (`detect.corrected`).
    """
    found = []
    for (name, test), p_holm in zip(tests.items(), detect.corrected(list(tests.values()), others), strict=True):
        inside = (items["owner"] == name).to_numpy()
        said = detect.judged(items[inside], plan, float(p_holm), n_tests=len(tests) + len(others))
        found.append(
            Owner(
                name=name,
                n_traps=int((items.loc[inside, "arm"] == "member").sum()),
                auc=said.auc,
                p_value=test,
                p_holm=float(p_holm),
                n_tests=len(tests) + len(others),
                verdict=said.verdict,
                lower=said.lower,
            )
        )
    return found


def documents(items: pd.DataFrame, *, plan: DetectionPlan) -> list[Document]:
    """The test of each document's traps, smallest p-value first.

    A document's own decoys are those of the strata of its traps: decoys stand in no document. Documents of two owners
    are two, whatever they are called; where two are called alike, they are told as "owner: name".

    Args:
        items: Scored traps with the columns ``owner`` and ``documents``: for each, the list of documents that hold a
            copy.
        plan: What is tested.
    """
    decoy = (items["arm"] == "decoy").to_numpy()
    holders: dict[tuple[str, str], list[int]] = {}  # (name, owner) -> traps
    for place, (names, owner) in enumerate(zip(items["documents"], items["owner"], strict=True)):
        for name in names if not decoy[place] else ():
            holders.setdefault((str(name), str(owner)), []).append(place)
    n_called = Counter(name for name, _ in holders)
    tests = []
    for number, (_, places) in enumerate(sorted(holders.items())):
        own = np.zeros(len(items), bool)
        own[places] = True
        strata = set(items.loc[own, "stratum"])
        inside = own | (decoy & items["stratum"].isin(strata).to_numpy())
        tests.append(_test(items, inside, plan, [plan.seed, 2, number], min(plan.n_draws, DOCUMENT_DRAWS)))
    if not tests:
        return []
    n_rep = items["n_rep"].to_numpy()
    q_values = benjamini_hochberg([test.value for test in tests])
    found = [
        Document(
            name if n_called[name] == 1 else f"{owner}: {name}",
            tuple(places),
            int(n_rep[places].sum()),
            test,
            float(q),
        )
        for ((name, owner), places), test, q in zip(sorted(holders.items()), tests, q_values, strict=True)
    ]
    return sorted(found, key=lambda one: (one.p_value.value, one.name))


def _test(items: pd.DataFrame, inside: NDArray[np.bool_], plan: DetectionPlan, seed: list[int], n_draws: int) -> PValue:
    part = items[inside]
    return stratified_permutation(
        part[detect.column(plan.primary)].to_numpy(dtype=np.float64),
        (part["arm"] == "member").to_numpy(),
        part["stratum"].to_numpy(),
        n_draws=n_draws,
        rng=np.random.default_rng(seed),
    )
