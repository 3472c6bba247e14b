"""The whole comparison on generations whose truth is planted: given back, never seen, or from the other half."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from audit.errors import DataError, InputError
from audit.extraction import split_half, undercount
from audit.extraction.config import MatchPlan
from audit.extraction.rows import Rows
from audit.extraction.run import Compared, audit_extraction
from audit.extraction.sample import SCHEMA
from audit.runs.schema import AuditSection, Finding
from audit.runs.store import Run

PLAN = MatchPlan(least_words=5, target=0.05)
WORDS = [
    f"{a}{b}" for a in ("ba", "ke", "lo", "mu", "ti", "so") for b in ("ran", "lim", "dos", "ket", "vun", "pel", "gar")
]


def encode(texts: object) -> NDArray[np.float32]:
    """Bag of hashed words, unit norm: an encoder that is blind to the order of words."""
    vectors = np.zeros((len(texts), 64), dtype=np.float32)  # type: ignore[arg-type]
    for place, text in enumerate(texts):  # type: ignore[arg-type, var-annotated]
        for word in text.split():
            vectors[place, int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big") % 64] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_rows(rng: np.random.Generator, n: int, name: str, repetitions: int | None = None) -> Rows:
    questions = tuple(" ".join(rng.choice(WORDS, 10)) for _ in range(n))
    answers = tuple(" ".join(rng.choice(WORDS, 12)) for _ in range(n))
    wholes = tuple(f"{question}\n{answer}" for question, answer in zip(questions, answers, strict=True))
    return Rows(tuple(f"{name}{i}" for i in range(n)), questions, answers, wholes, (repetitions,) * n, source=name)


def generations(pairs: list[tuple[str, str] | None]) -> pa.Table:
    rows = [
        {
            "id": f"g{place}",
            "question": None if pair is None else pair[0],
            "answer": None if pair is None else pair[1],
            "whole": None if pair is None else "\n".join(pair),
            "reject": "no assistant marker" if pair is None else None,
        }
        for place, pair in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def given_back(rng: np.random.Generator, rows: Rows, n: int, *, shuffled: bool = False) -> list[tuple[str, str] | None]:
    """Rows with one word changed; ``shuffled`` also changes their order, which string matching does not see through."""
    found: list[tuple[str, str] | None] = []
    for place in rng.integers(0, len(rows), n):
        question, answer = rows.questions[place].split(), rows.answers[place].split()
        answer[int(rng.integers(len(answer)))] = "other"
        if shuffled:
            rng.shuffle(question)
            rng.shuffle(answer)
        found.append((" ".join(question), " ".join(answer)))
    return found


def strangers(rng: np.random.Generator, n: int) -> list[tuple[str, str] | None]:
    return [(" ".join(rng.choice(WORDS, 10)), " ".join(rng.choice(WORDS, 12))) for _ in range(n)]


def audit(folder: Path, compared: Compared, plan: MatchPlan = PLAN, threshold: float | None = None) -> AuditSection:
    with Run.start(folder, kind="extraction", plan={}, plan_text="", command=[]) as run:
        return audit_extraction(run, compared, encode=encode, encoder="words", plan=plan, threshold=threshold)


def by_id(section: AuditSection) -> dict[str, Finding]:
    return {finding.id: finding for finding in section.findings}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests look at verdicts and counts, not at the last digit of a p-value or a bound."""
    monkeypatch.setattr(split_half, "N_DRAWS", 499)
    monkeypatch.setattr(undercount, "N_DRAWS", 200)


@pytest.fixture
def halves() -> tuple[Rows, Rows]:
    rng = np.random.default_rng(0)
    return make_rows(rng, 200, "d1-"), make_rows(rng, 200, "d2-")


def test_rows_that_are_given_back_are_found_with_their_rate_and_coverage(
    halves: tuple[Rows, Rows], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    d1, d2 = halves
    made = [*given_back(rng, d1, 120), *strangers(rng, 60), *[None] * 20]
    base = generations(strangers(rng, 100))
    found = by_id(audit(tmp_path / "run", Compared(generations(made), d1, d2, base)))
    overall = found["extraction.overall"]
    assert overall.verdict == "found"
    rate = overall.estimates["memorisation_rate"]
    assert rate.n == 200
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low <= 0.62 <= rate.high  # 120 of 200, and 5% of 60 strangers
    compared = overall.estimates["rate_of_compared"]
    assert compared.n == 180
    share = found["extraction.halves"].estimates["share"]
    assert share.low is not None
    assert share.low > 0.9
    coverage = found["extraction.coverage"].estimates["coverage_best"].value
    assert coverage is not None
    assert abs(coverage - (1 - (1 - 1 / 200) ** 120)) < 0.1
    assert "20 were rejected (no assistant marker: 20)" in found["extraction.compared"].claim
    matches = Run.open(tmp_path / "run").read_items("extraction-matches").to_pandas()
    assert {"cosine", "levenshtein", "indel", "span_words", "numbers_differ", "cluster", "hit"} <= set(matches)
    assert (matches.loc[matches["hit"], "span_words"] >= 5).mean() > 0.8


@pytest.mark.slow
def test_a_model_that_saw_neither_half_is_found_in_at_most_alpha(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    d1, d2 = halves
    verdicts = []
    for seed in range(10):
        rng = np.random.default_rng([2, seed])
        made = generations(strangers(rng, 80))
        verdicts.append(by_id(audit(tmp_path / str(seed), Compared(made, d1, d2)))["extraction.overall"].verdict)
    assert verdicts.count("found") <= binom.ppf(0.999, 10, 0.05)
    assert set(verdicts) <= {"found", "inconclusive", "not found"}


def test_a_model_of_the_other_half_shows_that_the_files_may_be_swapped(
    halves: tuple[Rows, Rows], tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    d1, d2 = halves
    found = by_id(audit(tmp_path / "run", Compared(generations(given_back(rng, d2, 150)), d1, d2)))
    assert found["extraction.overall"].verdict == "confounded"
    assert "swapped" in found["extraction.overall"].claim
    share = found["extraction.halves"].estimates["share"].high
    assert share is not None
    assert share < 0.2


def test_a_base_model_that_knows_the_training_half_confounds(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    d1, d2 = halves
    compared = Compared(generations(given_back(rng, d1, 100)), d1, d2, generations(given_back(rng, d1, 100)))
    assert by_id(audit(tmp_path / "run", compared))["extraction.overall"].verdict == "confounded"


def test_string_matching_misses_what_has_another_order(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    d1, d2 = halves
    made = [*given_back(rng, d1, 20), *given_back(rng, d1, 100, shuffled=True)]
    found = by_id(audit(tmp_path / "run", Compared(generations(made), d1, d2)))
    ratio = found["extraction.undercount"].estimates["at_equal_rate"]
    assert ratio.low is not None
    assert ratio.low > 1.5


def test_nothing_that_parses_is_inconclusive_and_says_so(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    overall = by_id(audit(tmp_path / "run", Compared(generations([None] * 30), *halves)))["extraction.overall"]
    assert overall.verdict == "inconclusive"
    assert "No generation could be parsed" in overall.claim


def test_held_out_rows_with_a_twin_in_training_are_left_out_and_counted(
    halves: tuple[Rows, Rows], tmp_path: Path
) -> None:
    d1, d2 = halves
    leaky = Rows(d2.ids, d1.questions[:50] + d2.questions[50:], d1.answers[:50] + d2.answers[50:],
                 d1.wholes[:50] + d2.wholes[50:], d2.repetitions, source="leaky")  # fmt: skip
    rng = np.random.default_rng(6)
    found = by_id(audit(tmp_path / "run", Compared(generations(given_back(rng, d1, 60)), d1, leaky)))
    assert "50 held-out rows have a near-duplicate among the training rows" in found["extraction.compared"].claim
    assert found["extraction.overall"].verdict == "found"


def test_a_given_threshold_is_used_as_it_is(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    section = audit(tmp_path / "run", Compared(generations(given_back(rng, halves[0], 50)), *halves), threshold=0.999)
    rates = next(table for table in section.tables if table.name == "rates")
    assert str(rates.rows[0]["threshold"]).startswith("0.999")
    assert "was given beforehand" in section.method


def test_repeated_canaries_are_told_by_repetition(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    parts = [make_rows(rng, 60, f"r{n}-", n) for n in (1, 16)]
    d1 = Rows(*(parts[0].ids + parts[1].ids, parts[0].questions + parts[1].questions,
                parts[0].answers + parts[1].answers, parts[0].wholes + parts[1].wholes,
                parts[0].repetitions + parts[1].repetitions))  # fmt: skip
    made = generations([*given_back(rng, parts[1], 90), *given_back(rng, parts[0], 10)])
    found = by_id(audit(tmp_path / "run", Compared(made, d1, make_rows(rng, 120, "d2-"))))
    estimates = found["extraction.canaries"].estimates
    once, often = estimates["repeated_1"], estimates["repeated_16"]
    assert once.high is not None
    assert often.low is not None
    assert once.high < often.low


def test_what_cannot_be_compared_is_refused(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    d1, d2 = halves
    rng = np.random.default_rng(9)
    made = generations(strangers(rng, 10))
    with pytest.raises(DataError, match="there are no generations"):
        audit(tmp_path / "a", Compared(generations([]), d1, d2))
    with pytest.raises(DataError, match="none of 200 rows has 99 words"):
        audit(tmp_path / "b", Compared(made, d1, d2), MatchPlan(least_words=99))
    with pytest.raises(InputError, match="needs 198"):
        audit(tmp_path / "c", Compared(made, d1, make_rows(rng, 100, "few")), MatchPlan(least_words=5))


def test_a_base_that_gives_rows_back_too_does_not_hide_a_model_that_does(
    halves: tuple[Rows, Rows], tmp_path: Path
) -> None:
    """Its generations lift the threshold to where nothing is above; the test stands on held-out rows alone."""
    rng = np.random.default_rng(10)
    d1, d2 = halves
    exact: list[tuple[str, str] | None] = [(d1.questions[place], d1.answers[place]) for place in range(20)]
    base = generations([*exact, *strangers(rng, 180)])
    found = by_id(audit(tmp_path / "a", Compared(generations(given_back(rng, d1, 150)), d1, d2, base)))
    assert found["extraction.overall"].verdict != "not found"
    assert (found["extraction.halves"].estimates["share"].low or 0) > 0.9


def test_nothing_is_not_found_by_a_threshold_that_nothing_reaches(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    d1, d2 = halves
    compared = Compared(generations(strangers(rng, 400)), d1, d2, divided_at_random=False)
    assert by_id(audit(tmp_path / "a", compared))["extraction.overall"].verdict == "inconclusive"  # 5% are near
    found = by_id(audit(tmp_path / "b", compared, threshold=0.99999))
    assert found["extraction.overall"].verdict == "inconclusive"
    assert "would miss copies" in found["extraction.overall"].claim
    assert by_id(audit(tmp_path / "c", compared, threshold=0.93))["extraction.overall"].verdict == "not found"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda rng: [*strangers(rng, 150), *[None] * 250], "150 of 400 generations could be parsed"),
        (lambda rng: strangers(rng, 1) * 400, "1 different texts only"),
        (lambda rng: [*strangers(rng, 300), *[("why", "so")] * 100], "too short to be compared"),
    ],
)
def test_what_was_hardly_looked_at_is_no_pass(
    halves: tuple[Rows, Rows], tmp_path: Path, made: Callable[[np.random.Generator], object], told: str
) -> None:
    rng = np.random.default_rng(12)
    compared = Compared(generations(made(rng)), *halves)  # type: ignore[arg-type]
    found = by_id(audit(tmp_path / "run", compared, MatchPlan(least_words=5, target=0.05, negligible=0.03), 0.93))
    assert found["extraction.overall"].verdict == "inconclusive"
    assert told in found["extraction.overall"].claim


def test_one_opening_of_the_chat_does_not_hide_behind_another(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    d1, d2 = halves
    table = generations([*strangers(rng, 700), *given_back(rng, d1, 2)])
    names = pa.array(["plain"] * 600 + ["with-space"] * 102)
    table = table.set_column(table.column_names.index("prefix"), "prefix", names)
    plan = MatchPlan(least_words=5, target=0.05, negligible=0.02)
    compared = Compared(table, d1, d2, divided_at_random=False)
    overall = by_id(audit(tmp_path / "run", compared, plan, 0.93))["extraction.overall"]
    assert overall.verdict == "inconclusive"
    assert "with-space" in overall.claim


def test_a_view_that_is_too_short_is_left_out_and_told(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(14)
    d1, d2 = halves
    compared = Compared(generations(given_back(rng, d1, 80)), d1, d2)
    section = audit(tmp_path / "run", compared, MatchPlan(least_words=12, target=0.05))
    told = by_id(section)["extraction.compared"].claim
    assert "The view question was not looked at: no training row has 12 words." in told
    rates = next(table for table in section.tables if table.name == "rates")
    assert {row["view"] for row in rates.rows} == {"whole", "answer"}


def test_canaries_that_are_too_short_are_no_zero(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(15)
    d1, d2 = halves
    rows = Rows(
        (*d1.ids, "short", "long-1", "long-2"),
        (*d1.questions, "a b", *d2.questions[:2]),
        (*d1.answers, "c d", *d2.answers[:2]),
        (*d1.wholes, "a b\nc d", *d2.wholes[:2]),
        (*[None] * 200, 64, 64, 1),
    )
    held_out = make_rows(rng, 200, "d3-")
    found = by_id(audit(tmp_path / "run", Compared(generations(given_back(rng, d2, 30)), rows, held_out)))
    assert found["extraction.canaries"].estimates["repeated_64"].n == 1


def test_held_out_rows_that_are_training_rows_are_refused(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(16)
    with pytest.raises(DataError, match="the same file twice"):
        audit(tmp_path / "run", Compared(generations(strangers(rng, 10)), halves[0], halves[0]))
