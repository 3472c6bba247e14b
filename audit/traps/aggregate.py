"""From traps to what a rights holder asks about: all traps of one owner, and the traps of one document.

Both test T = mean stratum-standardised score of the traps in question, by re-dealing them with the decoys of their own
strata (`audit.stats.stratified`), as the arm test does; copies of all numbers count together. The published
document-level rule (arXiv:2406.17975: a threshold tuned on half of the documents, then the share of a document's
sequences above it) is not used: it has no error rate of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..stats.auc import roc_auc
from ..stats.estimate import Estimate, PValue
from ..stats.multiplicity import benjamini_hochberg, holm
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
        auc: Of these traps against the owner's decoys, standardised inside each stratum.
        p_value: Permutation test over all of them.
        p_holm: After Holm's correction over all owners, times the number of families.
        n_tests: Tests that are counted for it: owners times families.
        verdict: By the rule of `audit.traps.detect.arms`. A single owner's is not used: its traps are tested by the
            arms already, and a second look at the same traps at the full alpha would find too much.
    """

    name: str
    n_traps: int
    auc: Estimate
    p_value: PValue
    p_holm: float
    n_tests: int
    verdict: str


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


def n_families(items: pd.DataFrame) -> int:
    """How many families of tests decide: the arms and, where there are several owners, these (`detect.arms`)."""
    return 1 if items.loc[items["arm"] == "member", "owner"].nunique() == 1 else 2


def owners(items: pd.DataFrame, *, plan: DetectionPlan) -> list[Owner]:
    """The test of each owner's traps, by name, Holm-corrected over owners.

    Args:
        items: Scored traps with the column ``owner``; strata belong to one owner each.
        plan: What is tested.
    """
    even = detect.standardised(items, plan.primary)
    decoy = (items["arm"] == "decoy").to_numpy()
    names = sorted(set(items.loc[~decoy, "owner"]))
    tests, families = [], n_families(items)
    for place, name in enumerate(names):
        inside = (items["owner"] == name).to_numpy()
        tests.append(_test(items, inside, plan, [plan.seed, 1, place], plan.n_draws))
    corrected = np.minimum(1.0, families * np.array(holm([test.value for test in tests])))
    found = []
    for name, test, p_holm in zip(names, tests, corrected, strict=True):
        inside = (items["owner"] == name).to_numpy()
        auc = roc_auc(even[inside & ~decoy], even[inside & decoy], level=plan.level)
        enough = detect.enough_decoys(items[inside])
        found.append(
            Owner(
                name=name,
                n_traps=int((inside & ~decoy).sum()),
                auc=auc,
                p_value=test,
                p_holm=float(p_holm),
                n_tests=len(tests) * families,
                verdict=detect.verdict(float(p_holm), auc, plan, enough=enough),
            )
        )
    return found


def documents(items: pd.DataFrame, *, plan: DetectionPlan) -> list[Document]:
    """The test of each document's traps, smallest p-value first.

    A document's own decoys are those of the strata of its traps: decoys stand in no document.

    Args:
        items: Scored traps with the column ``documents``: for each, the list of documents that hold a copy.
        plan: What is tested.
    """
    decoy = (items["arm"] == "decoy").to_numpy()
    holders: dict[str, list[int]] = {}
    for place, names in enumerate(items["documents"]):
        for name in names if not decoy[place] else ():
            holders.setdefault(str(name), []).append(place)
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
        Document(name, tuple(places), int(n_rep[places].sum()), test, float(q))
        for (name, places), test, q in zip(sorted(holders.items()), tests, q_values, strict=True)
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
