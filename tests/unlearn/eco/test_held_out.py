"""Prompts that choose a checkpoint: from which rows they are, and from which not."""

from __future__ import annotations

import pytest

from audit.answers.rewordings import PARAPHRASES as ATTACKS
from audit.answers.rows import QaRow
from audit.errors import InputError
from tests.unlearn.eco.cli.conftest import FORGET, RETAIN
from unlearn.eco.deal import Dealt, Shares, deal
from unlearn.eco.held_out import TEMPLATES, hold_out
from unlearn.eco.prompts import PARAPHRASES


@pytest.fixture(scope="module")
def dealt() -> Dealt:
    forget, retain = (
        [QaRow(f"{name}-{n}", name, f"What is book {n} of {name}?") for name in names for n in range(5)]
        for names in (FORGET, RETAIN)
    )
    return deal(forget, retain, shares=Shares(), seed=0)


def test_held_out_are_whole_clusters_and_rewordings_of_tuning_rows_alone(dealt: Dealt) -> None:
    held = hold_out(dealt, share=0.2, seed=0)
    out = [row for row in dealt.training if row not in held.kept]
    assert {row.cluster for row in out}.isdisjoint(row.cluster for row in held.kept)
    assert sum(held.forget) == len(dealt.tuning)
    assert len(held.forget) - sum(held.forget) == len(out) == 5
    asked = {row.asked for row in (*dealt.tuning, *dealt.training)}
    assert not asked & set(held.texts)
    assert set(held.texts).isdisjoint(row.asked for row in (*dealt.audit, *dealt.calibration, *dealt.test))
    assert hold_out(dealt, share=0.2, seed=0) == held
    assert hold_out(dealt, share=0.2, seed=1) != held
    assert hold_out(dealt, share=0, seed=0) == (dealt.training, (), ())
    assert set(TEMPLATES).isdisjoint({*PARAPHRASES, *ATTACKS})


def test_one_cluster_cannot_be_divided(dealt: Dealt) -> None:
    one = dealt._replace(training=dealt.training[:5])
    with pytest.raises(InputError, match="expected 2 or more"):
        hold_out(one, share=0.1, seed=0)
    with pytest.raises(InputError, match="from 0 to below 1"):
        hold_out(dealt, share=1, seed=0)
