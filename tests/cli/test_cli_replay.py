"""``palimpsest runs replay`` on runs with hand-made scores: equal, and every altered number is seen and named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from audit.cli.replay_audit import replay
from audit.extraction.config import MatchPlan
from audit.extraction.from_maxima import STAGE as MATCHED
from audit.extraction.from_maxima import opening_finding, with_what_was_asked
from audit.extraction.rows import Rows
from audit.extraction.run import Compared, audit_extraction
from audit.extraction.sample import SCHEMA
from audit.membership import from_scores as membership
from audit.membership.config import MembershipPlan
from audit.membership.score_names import score_names
from audit.runs.records import plan_hash
from audit.runs.replay import NOT_COMPARED
from audit.runs.schema import AuditSection, Findings
from audit.runs.store import Run
from audit.traps import from_scores as traps
from audit.traps.config import DetectionPlan
from audit.traps.evidence import Committed
from audit.traps.ledger.records import LotteryRecord
from tests.cli.conftest import Call

ROOT = Path(__file__).parents[2]
WORDS = [a + b for a in ("ba", "ke", "lo", "mu", "ti", "so") for b in ("ran", "lim", "dos", "ket", "vun", "pel")]
LOTTERY = LotteryRecord(
    first_seed=5, first_secret="5e" * 32, commitment="c0" * 32, value="7 11 13", source="a lottery", dealt="2026-01-01"
)
COMMITTED = Committed("a1" * 32, True, None, LOTTERY, "b2" * 32)
PRINT = {"fingerprint": {"files": {}, "tokenizer": "t"}, "bos_id": 1}


def of_models(rng: np.random.Generator, n: int, lift: NDArray[np.float64]) -> pd.DataFrame:
    """What a model gives of each text; ``lift`` is what it knows of it, in nats a token."""
    loss = rng.normal(3.0, 0.3, n) - lift
    return pd.DataFrame(
        {
            "n_tokens": rng.integers(20, 30, n),
            "loss": loss,
            "min_k": -loss + rng.normal(0, 0.1, n),
            "min_k_plus_plus": -loss + rng.normal(0, 0.1, n),
            "zlib": -loss / 50,
            "truncated": False,
        }
    )


def keep(run: Run, audit: str, role: str, scores: pd.DataFrame) -> None:
    with run.stage(f"{audit}.score.{role}"):
        run.add_subject(role, PRINT)
        run.write_items(f"{audit}-{role}", pa.Table.from_pandas(scores, preserve_index=False))


def trap_section(run: Run, rng: np.random.Generator) -> AuditSection:
    """Members and decoys of two lengths, one and eight copies."""
    plan = DetectionPlan(n_draws=99)
    rows = [
        {"trap_id": f"{length}-{n_rep}-{place}", "text": " ".join(rng.choice(WORDS, 12)), "n_rep": n_rep,
         "arm": "member" if n_rep else "decoy", "length": length, "stratum": str(length), "owner": "all traps",
         "documents": ()}
        for length in (25, 50) for n_rep, n in ((0, 24), (1, 12), (8, 12)) for place in range(n)
    ]  # fmt: skip
    items = pd.DataFrame(rows).sort_values(["stratum", "trap_id"], ignore_index=True)
    own = of_models(rng, len(items), 0.2 * np.log1p(items["n_rep"].to_numpy()))
    other = of_models(rng, len(items), np.zeros(len(items)))
    keep(run, "traps", "subject", own)
    keep(run, "traps", "reference", other)
    scores = score_names(has_reference=True)
    traps.add_scores(items, own, other, scores)
    with run.stage(traps.STAGE) as detail:
        detail |= traps.kept_beside({"Ann": COMMITTED}, in_tokens=True)
        beside = traps.Beside({"Ann": COMMITTED}, unscored=0)
        section = traps.section_of(items, scores, plan=plan, beside=beside)
        run.write_items("traps", pa.Table.from_pandas(items.drop(columns="documents"), preserve_index=False))
    return section


def found_section(run: Run, rng: np.random.Generator) -> AuditSection:
    plan = MembershipPlan(n_splits=3, n_checks=100)
    n = 48
    items = pd.DataFrame({"side": ["suspect"] * 24 + ["validation"] * 24, "id": [str(one) for one in range(n)]})
    items["text"] = [" ".join(rng.choice(WORDS, 12)) for _ in range(n)]
    items.insert(0, "text_id", items["side"] + ":" + items["id"])
    items["n_characters"] = items["text"].str.len()
    own, other = of_models(rng, n, np.arange(n) < 24), of_models(rng, n, np.zeros(n))
    keep(run, "membership", "subject", own)
    keep(run, "membership", "reference", other)
    scores = score_names(has_reference=True)
    membership.add_scores(items, own, other, scores)
    with run.stage(membership.STAGE) as detail:
        detail |= {"left_out_suspect": ["line 3: empty"], "left_out_validation": []}
        left_out = {"suspect": 1, "validation": 0}
        section = membership.section_of(items, scores, plan=plan, left_out=left_out)
        run.write_items("membership", pa.Table.from_pandas(items, preserve_index=False))
    return section


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Bag of hashed words, unit norm."""
    vectors = np.zeros((len(texts), 64), dtype=np.float32)
    for place, text in enumerate(texts):
        for word in text.split():
            vectors[place, int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big") % 64] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def extracted_section(run: Run, rng: np.random.Generator) -> AuditSection:
    """A third of the generations are training rows with a word changed; one in ten cannot be parsed."""
    plan = MatchPlan(least_words=5, target=0.05)

    def rows(name: str, n: int = 80) -> Rows:
        sides = [tuple(" ".join(rng.choice(WORDS, 10)) for _ in range(n)) for _ in range(2)]
        wholes = tuple("\n".join(pair) for pair in zip(*sides, strict=True))
        ids = tuple(f"{name}{place}" for place in range(n))
        return Rows(ids, sides[0], sides[1], wholes, (None,) * n, source=name)

    def given(question: str, answer: str, place: int) -> dict[str, Any]:
        parsed = place % 10 > 0
        pair = {"question": question, "answer": answer, "whole": f"{question}\n{answer}"}
        return {"id": f"g{place}", **{name: text if parsed else None for name, text in pair.items()},
                "reject": None if parsed else "no marker: x"}  # fmt: skip

    trained, held_out = rows("d1-"), rows("d2-")
    strange = rows("no-", 60)
    made = [
        given(trained.questions[place], trained.answers[place].rsplit(" ", 1)[0] + " other", place)
        if place % 3 == 0
        else given(strange.questions[place], strange.answers[place], place)
        for place in range(60)
    ]
    sampled = pa.Table.from_pylist(made, schema=SCHEMA)
    base = pa.Table.from_pylist([given(*pair, 1) for pair in zip(strange.answers, strange.questions, strict=True)],
                                schema=SCHEMA)  # fmt: skip
    run.write_items("extraction-generations", sampled)
    run.write_items("extraction-base-generations", base)
    run.add_subject("encoder", {"name": "words"})
    compared = Compared(sampled, trained, held_out, base)
    with run.stage(MATCHED) as detail:
        detail |= {"why_not_tested": "", "by_row": False, "notes": ["no marker stands first."], "texts": 400,
                   "truncated": 3, "unseen": 0}  # fmt: skip
        seen = {name: detail[name] for name in ("texts", "truncated", "unseen")}
        section = audit_extraction(run, compared, encode=encode, encoder="words", plan=plan, truncated=seen)
    opening = opening_finding(run, None, detail["notes"])
    return with_what_was_asked(section, run, opening, None, at_random=True, plan=plan)


MADE: dict[str, tuple[Any, Callable[[Run, np.random.Generator], AuditSection]]] = {
    "traps": (DetectionPlan(n_draws=99).to_record() | {"scores": [], "ledger": None}, trap_section),
    "membership": (
        {"primary": None, "k": 0.2, "level": 0.95, "n_splits": 3, "n_checks": 100, "seed": 0, "scores": []},
        found_section,
    ),
    "extraction": (MatchPlan(least_words=5, target=0.05).to_record() | {"divided_at_random": True}, extracted_section),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each audit, by its name. Read only."""
    root = tmp_path_factory.mktemp("replay")
    for name, (plan, make) in MADE.items():
        with Run.start(root / name, kind="audit", plan={name: plan}, plan_text=None, command=["test"]) as run:
            section = make(run, np.random.default_rng(3))
            run.write_findings(Findings(sections=(section,)))
            run.finish()
    return root


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(runs / name, tmp_path / name))


def alter(folder: Path, table: str, column: str, row: int, change: Callable[[Any], Any]) -> None:
    path = folder / "items" / f"{table}.parquet"
    items = pd.read_parquet(path)
    items.loc[row, column] = change(items.loc[row, column])
    pq.write_table(pa.Table.from_pandas(items, preserve_index=False), path)


def alter_findings(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "findings.json"
    findings = json.loads(path.read_text())
    change(findings["sections"][0])
    path.write_text(json.dumps(findings))


@pytest.mark.parametrize("name", MADE)
def test_what_the_scores_give_is_equal_to_the_bit_and_counted(call: Call, runs: Path, name: str) -> None:
    done = call("runs", "replay", runs / name, "--json")
    told = json.loads(done.out)
    assert (done.code, told["differences"], told["reworded"], told["not_replayed"]) == (0, [], [], {})
    assert told["tolerance"]["relative"] == 0.0
    findings = json.loads((runs / name / "findings.json").read_text())["sections"][0]["findings"]
    expected = sum(len(one["estimates"]) + (one["power"] is not None) for one in findings)
    assert told["compared"]["estimates"] == expected
    assert told["compared"].get("p-values", 0) == sum(len(one["p_values"]) for one in findings)
    assert told["compared"]["verdicts"] == len(findings)
    assert told["compared"]["cells"] > 10


def test_what_a_ledger_said_is_replayed_without_its_secret(call: Call, runs: Path) -> None:
    findings = json.loads((runs / "traps" / "findings.json").read_text())["sections"][0]["findings"]
    assert "traps.commitment" in {one["id"] for one in findings}
    assert "5e5e" not in (runs / "traps" / "run.json").read_text()
    assert call("runs", "replay", runs / "traps").code == 0


def test_what_no_score_tells_of_is_named_each_time(call: Call, runs: Path) -> None:
    """A list that nothing else would show to be incomplete."""
    told = json.loads(call("runs", "replay", runs / "traps", "--json").out)
    assert told["not_compared"] == list(NOT_COMPARED)
    shown = call("runs", "replay", runs / "traps").out
    assert f"not looked at, for no score tells of it: {'; '.join(NOT_COMPARED)}. A seal covers these" in shown
    for word in ("ids, texts", "names and hashes of models", "self-test", "report.html, plan.toml", "deviations"):
        assert word in shown


def test_a_check_of_words_whose_scores_were_not_kept_leaves_the_verdict_open(
    call: Call, copied: Callable[[str], Path]
) -> None:
    """The verdict is made with that number, so it is not said to follow from the scores; and this code keeps them."""
    folder = copied("extraction")
    path = folder / "items" / "extraction-rows.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["words_score"]), path)
    told = json.loads(call("runs", "replay", folder, "--json", "--partial").out)
    assert [one["address"] for one in told["differences"]] == ["items/extraction-rows.parquet/words_score"]
    done = call("runs", "replay", by_an_older_version(folder), "--json")
    told = json.loads(done.out)
    assert (done.code, told["differences"]) == (4, [])
    open_ = {"extraction.overall/verdict", "extraction.overall/claim", "extraction.overall/bag_of_words_auc"}
    assert told["not_replayed"].keys() == {*open_, "items/extraction-rows.parquet/words_score"}


@pytest.mark.parametrize("verdict", ["as it was", "confounded"])
def test_the_check_of_the_rows_words_is_computed_anew(call: Call, copied: Callable[[str], Path], verdict: str) -> None:
    """With another AUC, and with all that follows from it, no extraction becomes clean or confounded."""
    folder = copied("extraction")

    def apart(section: dict[str, Any]) -> None:
        overall = finding(section, "extraction.overall")
        overall["estimates"]["bag_of_words_auc"] |= {"value": 0.9, "low": 0.85, "high": 0.95, "why": None}
        overall["verdict"] = overall["verdict"] if verdict == "as it was" else verdict

    alter_findings(folder, apart)
    done = call("runs", "replay", folder, "--json", "--partial")
    assert done.code == 2
    seen = {one["address"] for one in json.loads(done.out)["differences"]}
    assert "extraction.overall/bag_of_words_auc" in seen
    assert ("extraction.overall/verdict" in seen) == (verdict == "confounded")


def test_no_torch_is_imported(runs: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from audit.cli.replay import replayed\nfrom audit.runs.store import Run\n"
        "for name in sys.argv[1:]:\n    assert not replayed(Run.open(Path(name))).differences\n"
        "loaded = sorted({'torch', 'transformers', 'peft'} & set(sys.modules))\nassert not loaded, loaded\n"
    )
    folders = [str(runs / name) for name in MADE]
    command = [sys.executable, "-c", script, *folders]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "table", "column", "address"),
    [
        ("traps", "traps-subject", "loss", "items/traps.parquet/loss"),
        ("traps", "traps-reference", "loss", "items/traps.parquet/ratio_score"),
        ("traps", "traps", "ratio_score", "items/traps.parquet/ratio_score"),
        ("traps", "traps", "rank_p", "items/traps.parquet/rank_p"),
        ("membership", "membership-subject", "zlib", "items/membership.parquet/zlib_score"),
        ("membership", "membership", "reference_min_k", "items/membership.parquet/reference_min_k"),
        ("extraction", "extraction-nearest", "similarity", "items/extraction-maxima.parquet/similarity"),
        ("extraction", "extraction-matches", "cosine", "items/extraction-matches.parquet/cosine"),
        ("extraction", "extraction-maxima", "threshold", "items/extraction-maxima.parquet/threshold"),
    ],
)
def test_one_altered_score_is_seen_and_named(
    call: Call, copied: Callable[[str], Path], name: str, table: str, column: str, address: str
) -> None:
    folder = copied(name)
    alter(folder, table, column, 30 if name == "traps" else 5, lambda value: value * 0.75)
    done = call("runs", "replay", folder, "--json")
    assert done.code == 2
    assert address in {one["address"] for one in json.loads(done.out)["differences"]}
    assert "do not give the stored findings" in done.err


def test_an_altered_score_shows_in_the_statistics_that_rest_on_it(call: Call, copied: Callable[[str], Path]) -> None:
    folder = copied("traps")
    items = pd.read_parquet(folder / "items" / "traps.parquet")
    place = int(items.index[items["n_rep"] == 8][0])
    for table in ("traps-subject", "traps"):
        alter(folder, table, "loss", place, lambda value: value + 5)
    told = json.loads(call("runs", "replay", folder, "--json").out)
    seen = {one["address"] for one in told["differences"]}
    assert {"traps.copies_8/auc", "items/traps.parquet/loss_score", "items/traps.parquet/rank_p"} <= seen
    assert "traps.copies_1/auc" not in seen


ALTERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "traps.copies_8/auc": lambda section: finding(section, "traps.copies_8")["estimates"]["auc"].update(low=0.4999),
    "traps.copies_8/p:arm": lambda section: finding(section, "traps.copies_8")["p_values"]["arm"].update(value=0.02),
    "traps.overall/verdict": lambda section: finding(section, "traps.overall").update(verdict="information"),
    "traps.overall/claim": lambda section: finding(section, "traps.overall").update(claim="All is well."),
    "traps:arms[2]/median_exposure": lambda section: section["tables"][0]["rows"][1].update(median_exposure=0.5),
    "traps:arms[1]/verdict": lambda section: section["tables"][0]["rows"][0].update(verdict="fine"),
    "traps.power": lambda section: section["findings"].remove(finding(section, "traps.power")),
    "traps.more": lambda section: section["findings"].append({**finding(section, "traps.blind"), "id": "traps.more"}),
    "traps:arms": lambda section: section["tables"][0]["rows"].pop(),
    "traps/cannot_show": lambda section: section["cannot_show"].pop(),
    "traps": lambda section: section.update(audit="other"),
    "traps.blind/audit": lambda section: finding(section, "traps.blind").update(audit="membership"),
    "traps/findings/order": lambda section: section["findings"].reverse(),
    "traps/tables/order": lambda section: section["tables"].reverse(),
    "traps.overall/power": lambda section: finding(section, "traps.overall").update(power=None),
    "traps.overall/power_effect": lambda section: finding(section, "traps.overall").update(power_effect=0.9),
}


def finding(section: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in section["findings"] if one["id"] == name)
    return found


def by_an_older_version(folder: Path, *, before_openings: bool = True) -> Path:
    record = json.loads((folder / "run.json").read_text())
    record["provenance"]["palimpsest"] = "0.0.1"
    if before_openings:
        del record["policy_sha256"], record["self_test"]
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("address", ALTERED)
def test_one_altered_finding_is_seen_and_named(call: Call, copied: Callable[[str], Path], address: str) -> None:
    folder = copied("traps")
    alter_findings(folder, ALTERED[address])
    done = call("runs", "replay", folder, "--json", "--partial")
    assert done.code == 2
    assert address in {one["address"] for one in json.loads(done.out)["differences"]}


def test_numbers_of_other_versions_may_differ_by_rounding_and_words_are_told(
    call: Call, copied: Callable[[str], Path]
) -> None:
    folder = by_an_older_version(copied("traps"))

    def nudge(section: dict[str, Any]) -> None:
        auc = finding(section, "traps.copies_8")["estimates"]["auc"]
        auc["value"] *= 1 + 1e-11
        finding(section, "traps.blind")["claim"] = "As another version says it."

    alter_findings(folder, nudge)
    done = call("runs", "replay", folder)
    assert done.code == 4  # the claim has other words, which may say something else
    assert "within 1e-09 of each other, for Palimpsest was 0.0.1" in done.out
    assert "worded otherwise, by other code:\n  traps.blind/claim" in done.out
    assert call("runs", "replay", folder, "--partial").code == 4  # which excuses what was not replayed alone


@pytest.mark.parametrize("claim", ["No trace of the traps was found.", "The AUC is 0.512.", "All is inconclusive."])
def test_other_code_is_no_excuse_for_other_numbers_and_verdicts(
    call: Call, copied: Callable[[str], Path], claim: str
) -> None:
    folder = by_an_older_version(copied("traps"))
    alter_findings(folder, lambda section: finding(section, "traps.overall").update(claim=claim))
    done = call("runs", "replay", folder, "--json")
    assert done.code == 2
    assert [one["address"] for one in json.loads(done.out)["differences"]] == ["traps.overall/claim"]


def test_what_an_older_version_did_not_state_is_not_replayed(call: Call, copied: Callable[[str], Path]) -> None:
    folder = by_an_older_version(copied("traps"))

    def forget(section: dict[str, Any]) -> None:
        for one in section["findings"]:
            one.update(power=None, power_for=None, power_effect=None)

    alter_findings(folder, forget)
    path = folder / "items" / "traps.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["rank_p"]), path)
    (folder / "opening.json").unlink()
    done = call("runs", "replay", folder, "--json")
    told = json.loads(done.out)
    assert (done.code, told["differences"], told["reworded"]) == (4, [], [])
    assert {"opening.json", "items/traps.parquet/rank_p", "traps.overall/power"} <= told["not_replayed"].keys()
    assert call("runs", "replay", folder, "--partial").code == 0


@pytest.mark.parametrize(
    ("name", "column"), [("traps", "loss_score"), ("traps", "exposure_bits"), ("membership", "zlib_score")]
)
def test_a_column_that_was_taken_out_is_told(call: Call, copied: Callable[[str], Path], name: str, column: str) -> None:
    folder = copied(name)
    path = folder / "items" / f"{name}.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    done = call("runs", "replay", folder, "--json")
    assert done.code == 2
    assert [one["address"] for one in json.loads(done.out)["differences"]] == [f"items/{name}.parquet/{column}"]


def test_a_plan_that_was_changed_with_its_findings_is_seen(call: Call, copied: Callable[[str], Path]) -> None:
    """Findings made anew by another plan follow from the scores; opening.json tells which plan the run began with."""
    folder = copied("traps")
    record = json.loads((folder / "run.json").read_text())
    record["plan"]["traps"]["alpha"] = 0.0001
    record["plan_sha256"] = plan_hash(record["plan"])
    (folder / "run.json").write_text(json.dumps(record))
    again = replay(Run.open(folder))
    findings = Findings(sections=again.sections, limitations=again.limitations)
    (folder / "findings.json").write_text(findings.model_dump_json())
    done = call("runs", "replay", folder, "--json", "--partial")
    assert done.code == 2
    assert [one["address"] for one in json.loads(done.out)["differences"]] == ["opening.json/plan_sha256"]


def test_that_there_is_no_opening_is_excused_of_code_that_wrote_none_alone(
    call: Call, copied: Callable[[str], Path]
) -> None:
    """Else whoever changes the plan takes opening.json away, and --partial says equal."""
    folder = copied("traps")
    (folder / "opening.json").unlink()
    for changed in (folder, by_an_older_version(folder, before_openings=False)):
        done = call("runs", "replay", changed, "--json", "--partial")
        assert done.code == 2
        assert [one["address"] for one in json.loads(done.out)["differences"]] == ["opening.json"]
    done = call("runs", "replay", by_an_older_version(folder), "--json", "--partial")
    told = json.loads(done.out)
    assert (done.code, list(told["not_replayed"])) == (0, ["opening.json"])


def test_runs_that_cannot_be_replayed_say_why(call: Call, copied: Callable[[str], Path], tmp_path: Path) -> None:
    with Run.start(tmp_path / "begun", kind="audit", plan={}, plan_text=None, command=["test"]):
        pass
    assert call("runs", "replay", tmp_path / "begun").code == 3
    folder = copied("traps")
    (folder / "items" / "traps-subject.parquet").unlink()
    done = call("runs", "replay", folder)
    assert (done.code, "has no items/traps-subject.parquet" in done.err) == (2, True)
    other = tmp_path / "other"
    with Run.start(other, kind="unheard", plan={}, plan_text=None, command=["test"]) as run:
        run.write_findings(Findings(sections=()))
        run.finish()
    done = call("runs", "replay", other)
    assert (done.code, "'unheard', which cannot be replayed" in done.err) == (2, True)


def test_an_older_run_without_the_maxima_is_told_as_not_replayed(call: Call, copied: Callable[[str], Path]) -> None:
    folder = copied("extraction")
    record = json.loads((folder / "run.json").read_text())
    record["stages"][-1]["detail"] = {"texts": 1, "truncated": 0, "unseen": 0}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "items" / "extraction-nearest.parquet").unlink()
    done = call("runs", "replay", folder)
    assert done.code == 4
    assert "not looked at, for no score tells of it: ids, texts and other columns" in done.out
    assert "extraction: this run kept the maxima of one view and one arm alone; later ones keep all" in done.out


def test_rows_that_do_not_fit_each_other_are_refused_with_a_message(call: Call, copied: Callable[[str], Path]) -> None:
    folder = copied("traps")
    alter(folder, "traps", "stratum", 30, lambda _: "elsewhere")
    done = call("runs", "replay", folder)
    assert done.code == 2
    assert "Traceback" not in done.err
