"""Tests of all traps of an owner, and of a document, on scores whose truth is planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, kstest

from audit.stats.estimate import PValue
from audit.traps.aggregate import Owner, documents, owner_tests, owners
from audit.traps.config import DetectionPlan
from audit.traps.detect import arms
from audit.traps.findings.groups import document_finding, owner_findings, tokens_finding

PLAN = DetectionPlan(n_draws=999, primary="loss")


def two_owners(rng: np.random.Generator, effect: float) -> pd.DataFrame:
    """20 members and 60 decoys of each of two owners; only Ann's members are shifted. Ten documents of two traps."""
    n = 160
    items = pd.DataFrame(
        {
            "owner": np.repeat(["Ann", "Bob"], n // 2),
            "arm": np.tile(np.repeat(["member", "decoy"], [20, 60]), 2),
            "loss_score": rng.standard_normal(n) + np.repeat([0.0, 50.0], n // 2),
        }
    )
    items["stratum"] = items["owner"] + ": 25 tokens"
    member = items["arm"] == "member"
    items["n_rep"] = np.where(member, 4, 0)
    items.loc[member & (items["owner"] == "Ann"), "loss_score"] += effect
    place = items.groupby("owner").cumcount()
    items["documents"] = [
        (f"{owner}-{at // 2}",) if arm else () for owner, at, arm in zip(items["owner"], place, member, strict=True)
    ]
    return items


def of_owners(items: pd.DataFrame, *, plan: DetectionPlan = PLAN, others: Sequence[PValue] = ()) -> list[Owner]:
    return owners(items, owner_tests(items, plan=plan), plan=plan, others=others)


def test_the_owner_whose_traps_were_learnt_is_named_and_the_other_is_not() -> None:
    items = two_owners(np.random.default_rng(0), 1.5)
    ann, bob = of_owners(items, others=[arm.p_value for arm in arms(items, ["loss"], plan=PLAN)])
    assert (ann.name, ann.verdict, ann.n_traps) == ("Ann", "found", 20)
    assert (bob.name, bob.verdict) == ("Bob", "inconclusive")
    assert ann.p_holm == pytest.approx(3 * ann.p_value.value)  # two owners, one number of copies
    first, second = owner_findings([ann, bob], "how")
    assert (first.id, second.id) == ("traps.owner_1", "traps.owner_2")
    assert first.p_values["holm"].attainable == pytest.approx(0.003)


def test_one_owner_needs_no_correction_and_speaks_of_all_traps() -> None:
    items = two_owners(np.random.default_rng(1), 1.5)
    (ann,) = of_owners(items[items["owner"] == "Ann"])
    assert ann.p_holm == ann.p_value.value
    (finding,) = owner_findings([ann], "how")
    assert finding.id == "traps.all"
    assert finding.claim.startswith("All planted traps together (20, whatever their copies): AUC")


def test_p_values_of_owners_are_uniform_where_nothing_was_learnt() -> None:
    plan = replace(PLAN, n_draws=199)
    drawn = [of_owners(two_owners(np.random.default_rng([7, seed]), 0.0), plan=plan) for seed in range(150)]
    p_values = np.array([one.p_value.value for found in drawn for one in found])
    jitter = np.random.default_rng(0).uniform(0, 1 / 200, len(p_values))
    assert kstest(p_values - jitter, "uniform").pvalue > 0.01
    assert binom.ppf(0.005, 300, 0.05) <= (p_values <= 0.05).sum() <= binom.ppf(0.995, 300, 0.05)


def test_screening_of_documents_names_few_by_chance_and_most_of_those_learnt() -> None:
    by_chance, named = 0, []
    for seed in range(20):
        nothing = documents(two_owners(np.random.default_rng([8, seed]), 0.0), plan=PLAN)
        by_chance += any(one.q_value <= 0.05 for one in nothing)
        learnt = documents(two_owners(np.random.default_rng([9, seed]), 4.0), plan=PLAN)
        named.append([one.name.split("-")[0] for one in learnt if one.q_value <= 0.05].count("Ann"))
        assert [one.p_value.value for one in learnt] == sorted(one.p_value.value for one in learnt)
    assert by_chance <= binom.ppf(0.999, 20, 0.05)
    assert np.mean(named) > 7  # of ten
    assert (len(learnt[0].traps), learnt[0].n_copies) == (2, 8)
    assert document_finding(learnt, PLAN).claim.startswith("Of 20 documents with traps, ")


def test_traps_without_documents_give_none() -> None:
    items = two_owners(np.random.default_rng(3), 0.0)
    items["documents"] = [()] * len(items)
    assert documents(items, plan=PLAN) == []


def test_traps_that_are_cut_otherwise_are_counted() -> None:
    assert tokens_finding(3, 20).claim == (
        "The model cuts 3 of 20 traps into another number of tokens than their generator did."
    )


@pytest.mark.slow
@pytest.mark.parametrize("n_owners", [1, 2])
def test_an_audit_of_a_model_that_saw_nothing_says_found_anywhere_in_at_most_alpha(n_owners: int) -> None:
    """Whatever may say "found" is looked at: numbers of copies, and owners where there are two; 100 audits."""
    plan = replace(PLAN, n_draws=199)
    wrong = 0
    for seed in range(100):
        items = two_owners(np.random.default_rng([11, seed]), 0.0)
        items.loc[(items["arm"] == "member") & (items.index % 2 == 0), "n_rep"] = 16
        items = items[items["owner"].isin(["Ann", "Bob"][:n_owners])].reset_index(drop=True)
        tests = owner_tests(items, plan=plan)
        beside = list(tests.values()) if n_owners > 1 else []
        found = arms(items, ["loss"], plan=plan, others=beside)
        others = [arm.p_value for arm in found] if n_owners > 1 else []
        listed = owner_findings(owners(items, tests, plan=plan, others=others), "how")
        wrong += any(one.verdict == "found" for one in [*found, *listed])
    assert wrong <= binom.ppf(0.995, 100, 0.05)
