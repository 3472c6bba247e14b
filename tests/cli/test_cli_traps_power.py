"""``palimpsest traps power``: both questions, from every source, and every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from audit.runs.store import Run
from audit.traps.power.design import Design
from audit.traps.power.model import arm_power
from audit.traps.power.needed import detectable, members_needed, pairs_needed
from tests.cli.conftest import Call

Refused = Callable[..., str]
POWER = ["traps", "power", "--quiet"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of 2 strata, 40 decoys and 15 members in each: at 1 copy delta 0.5, at 10 copies 1.2."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for stratum in ("a", "b"):
        for n_rep, delta, n in ((0, 0.0, 40), (1, 0.5, 15), (10, 1.2, 15)):
            arm = "decoy" if n_rep == 0 else "member"
            rows += [
                {"arm": arm, "n_rep": n_rep, "stratum": stratum, "loss_score": delta + x} for x in rng.normal(size=n)
            ]
    folder = tmp_path / "run"
    with Run.start(
        folder, kind="audit", plan={"traps": {"primary": "loss"}}, plan_text=None, command=["test"]
    ) as begun:
        begun.write_items("traps", pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False))
        begun.finish()
    return folder


def answer(call: Call, *flags: object) -> Any:
    code, out, err = call(*POWER, "--json", *flags)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_size_for_an_auc_is_that_of_the_library_and_confirmed_by_simulation(call: Call) -> None:
    told = answer(call, "--auc", "0.7")
    (item,) = told["answers"]
    design = members_needed(0.7, arms=4)
    assert (told["question"], told["alpha"], told["arms"], told["power"]) == ("needed", 0.05, 4, 0.9)
    assert item["design"]["n_members"] == design.n_members
    assert item["design"]["decoys_per_stratum"] == [design.decoys[0]] * 2
    assert item["arm_power"]["computed"] == arm_power(0.7, design, arms=4)
    simulated = item["arm_power"]["simulated"]
    assert simulated["n"] == 400
    assert simulated["low"] <= item["arm_power"]["computed"] <= simulated["high"]
    assert item["sign_test"]["pairs_needed"] == pairs_needed(0.7, alpha=0.0125)


def test_the_answer_reads_plainly_and_states_what_it_assumes(call: Call) -> None:
    code, out, err = call(*POWER, "--auc", "0.7")
    assert (code, err) == (0, "")
    assert out.startswith("Design for 90% power, alpha 0.05 over 4 arms (Holm, counted as 0.0125 for each)\n")
    assert "arm test: 30 members an arm, 3 in each of 10 strata, among 12 decoys in each (120 in all)" in out
    assert "in `traps generate`: --members 3 --decoys 12" in out
    assert "no number of decoys gives 90% (at most 0.183)" in out
    assert "Assumed: traps are independent" in out
    assert "Not covered: training again." in out
    assert call(*POWER, "--auc", "0.7").out == out  # the seed is fixed


def test_published_copies_carry_their_caveat(call: Call) -> None:
    told = answer(call, "--published", "gpt-neo-1.3b", "--copies", "1,4,10", "--simulations", "0")
    assert [(item["copies"], round(item["auc"], 3)) for item in told["answers"]] == [
        (1, 0.612),
        (4, 0.833),
        (10, 0.964),
    ]
    assert all(item["arm_power"]["simulated"] is None for item in told["answers"])
    sizes = [item["design"]["n_members"] for item in told["answers"]]
    assert sizes == sorted(sizes, reverse=True)
    out = call(*POWER, "--published", "gpt-neo-1.3b", "--copies", "4", "--simulations", "0").out
    assert "4 copies: AUC 0.833 (interpolated in log(copies); the source gives no interval)" in out
    assert "Continued training of a finished model, one epoch" in out
    assert "not simulated" in out


def test_a_run_is_measured_by_its_own_primary_score(call: Call, run: Path) -> None:
    told = answer(call, "--from-run", run, "--simulations", "50")
    assert [item["copies"] for item in told["answers"]] == [1, 10]
    for item, delta in zip(told["answers"], (0.5, 1.2), strict=True):
        assert item["low"] < 0.5 + 0.282 * delta * 1.1
        assert item["low"] < item["auc"] < item["high"]
        assert item["arm_power"]["simulated"]["n"] == 50
        assert item["n_members_at_low"] is None or item["n_members_at_low"] >= item["design"]["n_members"]
    assert told["source"] == str(run)
    out = call(*POWER, "--from-run", run, "--copies", "3", "--simulations", "0").out
    assert "3 copies: AUC" in out
    assert "interpolated in log(copies); the bounds likewise, which is approximate" in out
    assert "Measured on one model in one training run." in out


def test_a_given_design_tells_what_it_can_see(call: Call) -> None:
    flags = ["--members", "10", "--decoys", "99", "--strata", "6"]
    told = answer(call, *flags)
    (item,) = told["answers"]
    can = detectable(Design.even(6, 10, 99), arms=4, powers=(0.8, 0.9))
    assert told["question"] == "seen"
    assert item["detectable"]["smallest_auc"] == {str(power): auc for power, auc in can.smallest_auc.items()}
    assert item["detectable"]["excluded_auc"] == {str(power): auc for power, auc in can.excluded_auc.items()}
    assert item["at"] == []
    out = call(*POWER, *flags, "--auc", "0.6", "--simulations", "50").out
    assert "an arm: 60 members, 594 decoys, 6 strata" in out
    assert "smallest p-values: 0.0004 of the arm test (corrected), 0.01 of one trap's rank test" in out
    assert "with 90% power: AUC 0.633 or more is found" in out
    assert "if the model never saw the traps: AUC 0.625 or more is ruled out in 90% of audits" in out
    assert "AUC 0.600 (given)" in out
    assert "in 50 simulated audits" in out


def test_few_decoys_are_told_to_rule_nothing_out(call: Call) -> None:
    out = call(*POWER, "--members", "2", "--decoys", "8").out
    assert 'With fewer than 10 decoys in a stratum the audit never says "not found".' in out
    assert "ruled out" not in out


def test_a_ledger_brings_its_arms_strata_and_plan(call: Call, run: Path) -> None:
    draw = ["--watermark", "--lengths", "20", "--repetitions", "1,10,64", "--members", "4", "--decoys", "20"]
    assert (
        call("traps", "generate", *draw, "--primary", "loss", "--alpha", "0.02", "--out", "L.json", "--quiet").code == 0
    )
    told = answer(call, "--ledger", "L.json", "--from-run", run, "--simulations", "20")
    assert (told["alpha"], told["arms"]) == (0.02, 3)
    assert [item["copies"] for item in told["answers"]] == [1, 10, 64]
    assert all((item["design"]["n_members"], item["design"]["n_decoys"]) == (4, 20) for item in told["answers"])
    assert [len(item["at"]) for item in told["answers"]] == [1, 1, 0]
    assert told["answers"][1]["at"][0]["arm_power"]["computed"] > told["answers"][0]["at"][0]["arm_power"]["computed"]
    out = call(*POWER, "--ledger", "L.json", "--from-run", run, "--simulations", "0").out
    assert "no power: so many copies were not measured" in out
    assert answer(call, "--ledger", "L.json", "--alpha", "0.1")["alpha"] == 0.1


def test_a_simulation_that_falls_short_is_said(call: Call, tmp_path: Path) -> None:
    """Scores with one far outlier in ten: their AUC promises more than a test of means can keep."""
    rng = np.random.default_rng(1)
    rows = [
        {"arm": arm, "n_rep": n_rep, "stratum": "a", "ratio_score": delta + x * (40 if place % 10 == 0 else 1)}
        for arm, n_rep, delta, n in (("decoy", 0, 0.0, 300), ("member", 4, 1.0, 100))
        for place, x in enumerate(rng.normal(size=n))
    ]
    folder = tmp_path / "heavy"
    with Run.start(
        folder, kind="audit", plan={"traps": {"primary": "ratio"}}, plan_text=None, command=["test"]
    ) as begun:
        begun.write_items("traps", pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False))
        begun.finish()
    assert "The simulated power falls short" in call(*POWER, "--from-run", folder, "--strata", "2").out


def test_simulated_audits_show_progress(call: Call) -> None:
    assert "simulated audits: 20 to do" in call("traps", "power", "--auc", "0.8", "--simulations", "20").err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to go by; give --auc"),
        (["--auc", "0.5"], "--auc is 0.5; expected above 0.5"),
        (["--auc", "1"], "--auc is 1.0; expected above 0.5 (chance: nothing to find) and below 1"),
        (["--auc", "nan"], "--auc is nan"),
        (["--auc", "1.5", "--members", "3", "--decoys", "9"], "auc is 1.5; expected a number between 0 and 1"),
        (["--auc", "0.7", "--published", "phi-2"], "--auc and --published were given; give one of them"),
        (["--auc", "0.7", "--copies", "3"], "--copies goes with --from-run or --published"),
        (["--auc", "0.7", "--alpha", "0"], "--alpha is 0.0; expected a number between 0 and 1"),
        (["--auc", "0.7", "--power", "1"], "--power is 1.0; expected a number between 0 and 1"),
        (["--auc", "0.7", "--power", "0.01"], "power is 0.01, not above the level 0.0125"),
        (["--auc", "0.7", "--arms", "0"], "--arms"),
        (["--auc", "0.7", "--decoys-per-member", "0"], "decoys_per_member is 0.0; expected a number above 0"),
        (["--auc", "0.7", "--arms", "10000"], "below the smallest p-value of 9,999 re-dealings"),
        (["--published", "gpt-neo"], "no published curve is called 'gpt-neo'"),
        (["--published", "phi-2", "--copies", "20"], "20 copies lie outside"),
        (["--published", "phi-2", "--copies", "x"], "--copies is 'x'; expected whole numbers of at least 1"),
        (["--published", "phi-2", "--copies", "0"], "--copies is '0'; expected whole numbers of at least 1"),
        (["--members", "3"], "--members and --decoys go together"),
        (["--members", "3", "--decoys", "9", "--decoys-per-member", "2"], "--decoys-per-member goes with the search"),
        (["--ledger", "L.json", "--strata", "3"], "--strata does not go with --ledger"),
        (["--ledger", "L.json"], "L.json"),
        (["--from-run", "nowhere"], "there is no run folder at nowhere"),
    ],
)
def test_flags_that_do_not_fit_are_refused(refused: Refused, flags: list[str], message: str) -> None:
    assert message in refused(*POWER, *flags)


def test_a_run_without_the_primary_score_is_refused(refused: Refused, run: Path) -> None:
    table = pd.read_parquet(run / "items" / "traps.parquet").drop(columns="loss_score")
    table.to_parquet(run / "items" / "traps.parquet")
    assert "lacks the columns loss_score; expected the items of a trap audit" in refused(*POWER, "--from-run", run)
