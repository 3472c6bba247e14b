"""Detection on scores whose truth is planted, and on scores where there is nothing to find."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import binom, kstest

from audit.errors import DataError
from audit.stats.estimate import Estimate
from audit.traps import detect
from audit.traps.aggregate import documents, owner_tests, owners
from audit.traps.config import DetectionPlan
from audit.traps.findings.section import _overall, make_section
from audit.traps.from_scores import Beside
from audit.traps.from_scores import section_of as section_of_scores
from audit.traps.run import check_inputs
from audit.traps.table import check_table

PLAN = DetectionPlan(n_draws=999)
section_of = partial(section_of_scores, plan=PLAN, beside=Beside())
SCORES = ["ratio", "loss"]
REPS = (1, 4, 16)
CHANCE = Estimate(0.5, 0.45, 0.55, 0.99, 100, "AUC")
SOUND = detect.Blind(CHANCE, CHANCE, confounded=False)


def scores_of(effects: dict[int, float], *, seed: int, members: int = 10, decoys: int = 99) -> pd.DataFrame:
    """Three strata whose scores differ in mean and spread; members of an arm are shifted by so many deviations."""
    rng = np.random.default_rng(seed)
    rows = []
    words = [f"w{i}" for i in range(40)]
    for stratum in range(3):
        deck = [("member", n) for n in REPS for _ in range(members)] + [("decoy", 0)] * decoys
        for place, (arm, n_rep) in enumerate(deck):
            noise = rng.standard_normal(3)
            shift = effects.get(n_rep, 0.0) if arm == "member" else 0.0
            rows.append(
                {
                    "trap_id": f"t{stratum}-{place}",
                    "text": " ".join(rng.choice(words, size=8)),
                    "arm": arm,
                    "n_rep": n_rep,
                    "length": 25 if stratum < 2 else 50,
                    "stratum": f"s{stratum}",
                    "owner": "all traps",
                    "documents": (),
                    "ratio_score": 10.0 * stratum + (1 + stratum) * (noise[0] + shift),
                    "loss_score": -5.0 * stratum + noise[1] + shift / 2,
                    "reference_loss": noise[2],
                }
            )
    return pd.DataFrame(rows)


def test_planted_effects_are_found_and_their_size_is_right() -> None:
    draws = [detect.arms(scores_of({16: 2.0, 4: 1.0}, seed=seed), SCORES, plan=PLAN) for seed in range(40)]
    assert [arm.n_rep for arm in draws[0]] == [1, 4, 16]
    for arms in draws:
        assert arms[2].verdict == "found"
        assert arms[2].p_value.value == arms[2].p_value.attainable == pytest.approx(1 / 1000)
        assert arms[2].by_score["ratio"].value <= 0.01
    # AUC of two normals with distance d is Phi(d / sqrt 2): 0.760 for 1, 0.921 for 2.
    for place, expected in enumerate((0.5, 0.760, 0.921)):
        covered = [(arms[place].auc.low or 0) <= expected <= (arms[place].auc.high or 0) for arms in draws]
        assert sum(covered) >= binom.ppf(0.001, 40, 0.95)


def test_traps_stand_out_one_by_one_only_where_enough_of_them_reach_the_smallest_rank_p() -> None:
    """90 traps, 99 decoys a stratum: p >= 0.01 = 0.05 * 18 / 90, so it takes 18 traps above all their decoys.

    At 4 deviations a trap tops 99 decoys with probability 0.91, so some 27 of the arm's 30 do; at 2 it is 0.32, so
    some 10 do, which hardly ever suffices, although the arm as a whole is beyond doubt.
    """
    for effect, enough in ((4.0, True), (2.0, False)):
        draws = [detect.arms(scores_of({16: effect}, seed=seed), SCORES, plan=PLAN) for seed in range(20)]
        counts = np.array([sum(arm.n_discoveries for arm in arms) for arms in draws])
        assert all(count == 0 or count >= 18 for count in counts)
        assert (counts >= 18).sum() >= 18 if enough else (counts >= 18).sum() <= 2
        assert all(arms[2].verdict == "found" for arms in draws)


@pytest.mark.slow
def test_where_nothing_was_planted_arm_tests_reject_as_often_as_alpha_says() -> None:
    plan = replace(PLAN, n_draws=199)
    p_values = np.array(
        [
            detect.arms(scores_of({}, seed=seed, members=4, decoys=19), ["ratio"], plan=replace(plan, seed=seed))[
                0
            ].p_value.value
            for seed in range(300)
        ]
    )
    low, high = binom.interval(0.99, 300, 0.05)
    assert low <= (p_values <= 0.05).sum() <= high
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_rank_p_values_are_uniform_where_nothing_was_planted() -> None:
    p_values = np.concatenate(
        [detect.rank_p_values(scores_of({}, seed=seed, members=1), "ratio") for seed in range(70)]
    )
    p_values = p_values[~np.isnan(p_values)]
    steps = np.round(p_values * 100).astype(int)
    assert set(steps) <= set(range(1, 101))
    assert kstest(p_values - np.random.default_rng(0).uniform(0, 0.01, len(p_values)), "uniform").pvalue > 0.01


def test_one_trap_is_ranked_among_the_decoys_of_its_own_stratum_only() -> None:
    items = pd.DataFrame(
        {
            "arm": ["member", "decoy", "decoy", "decoy", "member", "decoy"],
            "stratum": ["a", "a", "a", "a", "b", "b"],
            "x_score": [5.0, 1.0, 7.0, 5.0, 0.0, 100.0],
        }
    )
    np.testing.assert_allclose(detect.rank_p_values(items, "x"), [0.75, *[np.nan] * 3, 1.0, np.nan])


def test_cells_cover_every_score_length_and_repetition_with_a_control() -> None:
    items = scores_of({16: 2.0}, seed=1)
    cells = detect.cells(items, SCORES, plan=PLAN)
    assert {(cell.score, cell.length, cell.n_rep) for cell in cells} == {
        (score, length, n) for score in SCORES for length in (25, 50, None) for n in (*REPS, None)
    }
    controls = [cell for cell in cells if cell.n_rep is None]
    assert all(0.35 < (cell.auc.value or 0) < 0.65 for cell in controls)
    assert all(abs(cell.n_members - cell.n_decoys) <= 3 for cell in controls)
    (cell,) = (cell for cell in cells if (cell.score, cell.length, cell.n_rep) == ("ratio", 50, 16))
    assert (cell.n_members, cell.n_decoys) == (10, 99)
    assert cell.tpr.at_1pct_fpr.value is None
    assert cell.tpr.at_1pct_fpr.why


def test_blind_baselines_see_nothing_in_a_sound_design() -> None:
    blind = detect.blind(scores_of({16: 3.0}, seed=2), plan=PLAN)
    assert not blind.confounded
    assert blind.bag_of_words.level == 0.99


def test_strata_with_unlike_shares_of_members_are_not_taken_for_a_difference() -> None:
    """Long traps mostly planted, short ones mostly not: length tells the arm, but not inside a stratum."""
    called = 0
    for seed in range(10):
        items = scores_of({}, seed=seed, members=20, decoys=60)
        long, member = items["stratum"] == "s2", items["arm"] == "member"
        items = items[~(long & ~member & (items.index % 3 > 0)) & ~(~long & member & (items.index % 3 > 0))]
        items.loc[items["stratum"] == "s2", "text"] += " dragon"
        items.loc[items["stratum"] == "s2", "reference_loss"] -= 3
        called += detect.blind(items, plan=PLAN).confounded
    assert called <= binom.ppf(0.99, 10, 0.02)


def test_an_effect_is_not_ruled_out_with_fewer_than_ten_decoys_in_a_stratum() -> None:
    for decoys, expected in ((9, "inconclusive"), (10, "not found")):
        items = pd.concat([scores_of({}, seed=s, members=60, decoys=decoys) for s in range(8)])
        items["stratum"] += "/" + (np.arange(len(items)) // (len(items) // 8)).astype(str)
        assert {arm.verdict for arm in detect.arms(items, SCORES, plan=PLAN)} == {expected}


def test_a_single_decoy_leaves_the_control_undefined_instead_of_failing() -> None:
    items = scores_of({}, seed=0, members=1, decoys=1)
    items = items[items["stratum"] == "s0"]
    (control,) = (cell for cell in detect.cells(items, ["ratio"], plan=PLAN) if cell.n_rep is None)
    assert control.auc.value is None
    assert control.auc.why == "no stratum has texts on both sides"


def test_members_that_read_differently_are_called_confounded() -> None:
    items = scores_of({16: 3.0}, seed=3)
    member = items["arm"] == "member"
    items.loc[member, "text"] = items.loc[member, "text"] + " dragon"
    blind = detect.blind(items, plan=PLAN)
    assert blind.confounded
    section = make_section(
        items,
        SCORES,
        cells=detect.cells(items, SCORES, plan=PLAN),
        arms=detect.arms(items, SCORES, plan=PLAN),
        blind=blind,
        owners=[],
        documents=[],
        plan=PLAN,
    )
    assert section.findings[0].verdict == "confounded"


def test_an_uneven_reference_is_called_confounded() -> None:
    items = scores_of({}, seed=4)
    items.loc[items["arm"] == "member", "reference_loss"] -= 2
    assert detect.blind(items, plan=PLAN).confounded


@pytest.mark.parametrize(
    ("effects", "members", "expected"),
    [({16: 2.0}, 10, "found"), ({}, 60, "not found"), ({}, 2, "inconclusive")],
)
def test_the_overall_verdict_follows_the_written_rule(effects: dict[int, float], members: int, expected: str) -> None:
    verdicts = []
    for seed in range(20):
        items = scores_of(effects, seed=seed, members=members, decoys=199)
        arms = detect.arms(items, SCORES, plan=PLAN)
        for arm in arms:
            if arm.p_holm > PLAN.alpha:
                excluded = members >= 10 and not arm.lower and (arm.auc.high or 1) < PLAN.negligible_auc
                # A loss that finds what the ratio does not keeps the ratio from a "not found".
                assert arm.verdict in (("not found", "inconclusive") if excluded else ("inconclusive",))
        verdicts.append(_overall(arms, [], SOUND, PLAN).verdict)
    assert verdicts.count(expected) >= 14  # by chance alone, one draw in 20 finds something, and a few stay open


def test_every_finding_says_how_to_read_it_and_the_section_what_it_cannot_show() -> None:
    items = scores_of({16: 2.0}, seed=0)
    section = make_section(
        items,
        SCORES,
        cells=detect.cells(items, SCORES, plan=PLAN),
        arms=detect.arms(items, SCORES, plan=PLAN),
        blind=detect.blind(items, plan=PLAN),
        owners=owners(items, owner_tests(items, plan=PLAN), plan=PLAN),
        documents=documents(items, plan=PLAN),
        plan=PLAN,
    )
    assert section.findings[0].verdict == "found"
    stated = [finding for finding in section.findings if finding.power is not None]
    assert {finding.id.rstrip("0123456789") for finding in stated} == {"traps.overall", "traps.copies_"}
    assert {finding.power_effect for finding in stated} == {PLAN.negligible_auc}  # as in words, for a policy to bound
    assert all(finding.how_to_read for finding in section.findings)
    assert section.assumptions
    assert section.cannot_show
    assert {table.name for table in section.tables} == {"arms", "power", "owners", "auc", "scores"}


def test_an_owner_who_is_found_is_never_told_beside_an_overall_not_found() -> None:
    """A few traps of Ann that were learnt, many of Bob that were not: the arm over both sees nothing."""
    rng = np.random.default_rng(0)
    named = 0
    for seed in range(3):
        ann, bob = (scores_of({}, seed=seed * 2 + k, members=n, decoys=99) for k, n in ((0, 10), (1, 100)))
        for one, name in ((ann, "Ann"), (bob, "Bob")):
            one["owner"], one["stratum"] = name, name + one["stratum"]
            one["trap_id"] = name + one["trap_id"]
        ann.loc[ann["arm"] == "member", "ratio_score"] += 9
        items = pd.concat([ann, bob], ignore_index=True)
        items["loss_score"] = rng.standard_normal(len(items))
        overall, *rest = section_of(items, SCORES).findings
        assert any(one.verdict == "found" for one in rest if one.id == "traps.owner_1")
        assert overall.verdict == "found"
        named += "all traps of 'Ann'" in overall.claim
    assert named == 3


@pytest.mark.parametrize("shift", [-0.7, -2.0])
def test_traps_that_score_below_their_decoys_are_no_pass(shift: float) -> None:
    """Unlearnt, or in the reference: random dealing explains that no better than traps far above."""
    for seed in range(5):
        items = scores_of(dict.fromkeys(REPS, shift), seed=seed, members=30)
        overall = section_of(items, SCORES).findings[0]
        assert overall.verdict == "inconclusive"
        assert "score below their decoys" in overall.claim


def test_a_loss_that_finds_what_the_ratio_does_not_keeps_the_ratio_from_not_found() -> None:
    """The reference saw the same traps as the model, so that their ratio shows nothing."""
    for seed in range(5):
        items = scores_of({}, seed=seed, members=60, decoys=199)
        clean = [arm.verdict for arm in detect.arms(items, SCORES, plan=PLAN)]
        items.loc[items["arm"] == "member", "loss_score"] += 1.0
        hidden = [arm.verdict for arm in detect.arms(items, SCORES, plan=PLAN)]
        assert "not found" in clean
        assert "not found" not in hidden


def test_fewer_than_ten_traps_rule_nothing_out() -> None:
    for members, expected in ((3, {"inconclusive"}), (200, {"not found"})):
        plan = replace(PLAN, negligible_auc=0.95, alpha=0.001)
        arms = detect.arms(scores_of({}, seed=1, members=members, decoys=199), SCORES, plan=plan)
        assert {arm.verdict for arm in arms} == expected


@pytest.mark.slow
def test_unlike_shares_of_members_leave_the_auc_of_nothing_at_a_half() -> None:
    """Skewed scores, a stratum mostly planted and one hardly: a pooled AUC is 0.54 and excludes 0.5 in 4 of 10."""
    rng = np.random.default_rng(5)
    values, missed = [], 0
    for _ in range(100):
        rows = [
            {"arm": arm, "n_rep": int(arm == "member"), "stratum": stratum, "owner": "x", "length": 25, "score": score}
            for stratum, n1, n0, sign in (("a", 40, 200, 1), ("b", 200, 100, -1))
            for arm, n in (("member", n1), ("decoy", n0))
            for score in sign * rng.gamma(1.0, size=n)
        ]
        items = pd.DataFrame(rows).rename(columns={"score": "loss_score"})
        (arm,) = detect.arms(items, ["loss"], plan=replace(PLAN, n_draws=99, primary="loss"))
        values.append(arm.auc.value)
        missed += not (arm.auc.low or 0) <= 0.5 <= (arm.auc.high or 1)
        assert arm.tpr.at_1pct_fpr.value is None  # a rate over both strata means nothing
    assert abs(np.mean(values) - 0.5) < 0.012  # 4 standard errors; a pooled one is 0.04 off
    assert missed <= binom.ppf(0.999, 100, 0.05)


def test_what_could_not_be_checked_is_not_said_to_have_passed() -> None:
    items = scores_of({}, seed=0).drop(columns="reference_loss")
    items["text"] = [f"{i:x}f{i * 7919:x}" for i in range(len(items))]
    findings = {one.id: one for one in section_of(items, SCORES).findings}
    assert "could not be checked" in findings["traps.blind"].claim
    alone = scores_of({}, seed=0, members=1, decoys=1)
    assert "cannot be compared" in {one.id: one for one in section_of(alone, SCORES).findings}["traps.controls"].claim


def test_the_share_of_low_ranks_stands_beside_what_chance_gives_and_has_no_interval_with_few_decoys() -> None:
    many = detect.arms(scores_of({}, seed=0, decoys=99), SCORES, plan=PLAN)[0]
    few = detect.arms(scores_of({}, seed=0, decoys=18), SCORES, plan=PLAN)[0]
    assert many.low_rank_chance == pytest.approx(0.05)
    assert few.low_rank_chance == 0  # 1/19 is above 0.05
    assert many.low_rank_share.low is not None
    assert few.low_rank_share.low is None


def test_a_refused_section_holds_no_found_for_a_program_that_reads_it() -> None:
    items = scores_of({16: 3.0}, seed=3)
    items.loc[items["arm"] == "member", "reference_loss"] -= 2
    verdicts = {one.verdict for one in section_of(items, SCORES).findings}
    assert verdicts == {"confounded", "information"}


def test_no_p_value_depends_on_the_order_of_the_rows() -> None:
    items = scores_of({16: 0.3}, seed=6)
    columns = ["trap_id", "text", "arm", "n_rep", "length", "stratum"]
    forward = check_inputs(pa.Table.from_pandas(items[columns]), source="t", plan=PLAN, has_reference=True)
    back = check_inputs(pa.Table.from_pandas(items[columns][::-1]), source="t", plan=PLAN, has_reference=True)
    assert forward["trap_id"].tolist() == back["trap_id"].tolist()


def table(**changes: object) -> pa.Table:
    columns = {
        "trap_id": ["a", "b"],
        "text": ["x", "y"],
        "arm": ["member", "decoy"],
        "n_rep": [1, 0],
        "length": [5, 5],
        "stratum": ["s", "s"],
    } | changes
    return pa.table({name: values for name, values in columns.items() if values is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": None}, "t.parquet lacks the columns arm; a table of traps needs trap_id, text"),
        ({"trap_id": ["a", "a"]}, "row 2: trap 'a' occurs more than once"),
        ({"arm": ["member", "control"]}, 'arm is \'control\'; expected "member" or "decoy"'),
        ({"arm": ["decoy", "decoy"], "n_rep": [0, 0]}, "has no members"),
        ({"n_rep": [0, 0]}, "members need n_rep of 1 or more"),
        ({"stratum": ["s", "t"]}, "stratum 's' has members but no decoys"),
        ({"text": ["x", None]}, "column text has empty cells"),
        ({"n_rep": [1.5, 0.0]}, "row 1: n_rep is 1.5; expected int"),
        ({"n_rep": [True, False]}, "row 1: n_rep is True; expected int"),
        ({"text": ["x", " "]}, "row 2: text is blank"),
        ({"length": [5, 0]}, "row 2: length is 0; expected 1 token or more"),
    ],
)
def test_a_table_that_cannot_be_tested_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_table(table(**changes), source="t.parquet")


def test_two_columns_of_one_name_and_bytes_that_are_no_text_are_refused() -> None:
    doubled = table().append_column("text", pa.array(["x", "y"]))
    with pytest.raises(DataError, match="more than one column 'text'"):
        check_table(doubled, source="t.parquet")
    broken = table(text=pa.array([b"\xff", b"y"]).view(pa.string()))
    with pytest.raises(DataError, match="t.parquet holds a damaged value, such as a text that is not UTF-8"):
        check_table(broken, source="t.parquet")


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("owner", ["Ann", None], "row 2: owner is"),
        ("owner", ["Ann", " "], "row 2: owner is ' '"),
        ("documents", ["a.txt", "b.txt"], "row 1: documents is 'a.txt'; expected a list of names"),
        ("documents", [3, 4], "row 1: documents is 3"),
    ],
)
def test_owners_and_documents_that_cannot_be_used_are_named(column: str, values: list[object], told: str) -> None:
    table = pa.table(
        {
            "trap_id": ["a", "b"],
            "text": ["one", "two"],
            "arm": ["member", "decoy"],
            "n_rep": [1, 0],
            "length": [5, 5],
            "stratum": ["s", "s"],
            column: values,
        }
    )
    with pytest.raises(DataError, match=told):
        check_table(table, source="t.parquet")


def test_a_stratum_is_of_one_owner() -> None:
    table = pa.table(
        {
            "trap_id": ["a", "b"],
            "text": ["one", "two"],
            "arm": ["member", "decoy"],
            "n_rep": [1, 0],
            "length": [5, 5],
            "stratum": ["s", "s"],
            "owner": ["Ann", "Bob"],
            "documents": [["a.txt"], []],
        }
    )
    with pytest.raises(DataError, match="stratum 'Ann: s' has members but no decoys"):
        check_table(table, source="t.parquet")
