"""Who sees which rows."""

from __future__ import annotations

import pytest

from audit.answers.rows import ChoiceRow, QaRow
from audit.errors import InputError
from unlearn.eco.deal import Shares, deal


def people(name: str, n: int, each: int) -> list[QaRow]:
    return [
        QaRow(f"{name}{who}-{row}", f"{name}{who}", f"{name}{who} row {row}?")
        for who in range(n)
        for row in range(each)
    ]


def test_parts_share_no_row_and_keep_clusters_together() -> None:
    forget, retain = people("f", 6, 4), people("r", 20, 5)
    dealt = deal(forget, retain, shares=Shares(), seed=1)
    assert sorted(row.id for row in (*dealt.tuning, *dealt.audit)) == sorted(row.id for row in forget)
    rest = (*dealt.training, *dealt.calibration, *dealt.test)
    assert sorted(row.id for row in rest) == sorted(row.id for row in retain)
    assert not {row.cluster for row in dealt.tuning} & {row.cluster for row in dealt.audit}
    trained = {row.cluster for row in dealt.training}
    assert not trained & {row.cluster for row in (*dealt.calibration, *dealt.test)}
    assert (len(dealt.tuning), len(dealt.training), len(dealt.calibration)) == (12, 40, 30)
    assert dealt == deal(forget, retain, shares=Shares(), seed=1)
    assert dealt != deal(forget, retain, shares=Shares(), seed=2)


def test_what_cannot_be_dealt() -> None:
    forget, retain = people("f", 6, 4), people("r", 20, 5)
    with pytest.raises(InputError, match="2 clusters or more"):
        deal(people("f", 1, 9), retain, shares=Shares(), seed=0)
    with pytest.raises(InputError, match="stand among the forget prompts"):
        deal(forget, [*retain, forget[0]], shares=Shares(), seed=0)
    with pytest.raises(InputError, match="between 0 and 1"):
        deal(forget, retain, shares=Shares(tuning=1.0), seed=0)
    with pytest.raises(InputError, match="are left for calibration"):
        deal(forget, people("r", 2, 1), shares=Shares(), seed=0)


def test_a_question_with_other_options_is_another_one() -> None:
    """MMLU asks "Which of the following is true?" in several subjects."""
    forget = [ChoiceRow(f"f{n}", f"f{n}", "Which is true?", (f"tax {n}", "none"), 0) for n in range(3)]
    retain = [ChoiceRow(f"r{n}", f"r{n}", "Which is true?", (f"law {n}", "none"), 1) for n in range(5)]
    dealt = deal(forget, retain, shares=Shares(), seed=0)
    assert len(dealt.tuning) + len(dealt.audit) == 3
    same = ChoiceRow("r9", "r9", "which  is true?", ("TAX 1", "none"), 0)
    with pytest.raises(InputError, match="1 retain prompts stand among the forget prompts"):
        deal(forget, [*retain, same], shares=Shares(), seed=0)
