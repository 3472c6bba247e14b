"""Every measure is documented, once."""

from __future__ import annotations

from pathlib import Path

from unlearn.verify.catalogue import MEASURES, table
from unlearn.verify.judging import DIRECT
from unlearn.verify.judging import MEASURES as JUDGED

PAGE = Path(__file__).parents[3] / "docs" / "methods" / "verification.md"


def test_keys_are_unique_and_every_measure_says_how_it_fails() -> None:
    keys = [one.key for one in MEASURES]
    assert len(set(keys)) == len(keys)
    assert all(one.formula and one.source and one.failure for one in MEASURES)


def test_the_page_holds_the_table_of_all_measures() -> None:
    """Printed by ``python -m unlearn.verify.catalogue``."""
    page = PAGE.read_text(encoding="utf-8")
    missing = [line.split("|")[1].strip() for line in table().splitlines()[2:] if line not in page]
    assert not missing


def test_what_a_verdict_rests_on_is_in_the_catalogue() -> None:
    assert set(DIRECT) <= set(JUDGED)
    assert all(JUDGED[key].direction == "more is known" for key in DIRECT)
