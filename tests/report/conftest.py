"""A made-up run of the trap audit: 2 lengths, 3 strata each, members at 1, 4, 16 and 64 copies, 99 decoys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from audit.report.figures import Figure
from audit.report.traps_section import trap_figures
from audit.runs.schema import (
    AuditSection,
    Column,
    EstimateRecord,
    Finding,
    Findings,
    Provenance,
    PValueRecord,
    RunRecord,
    StageRecord,
    Table,
)

SCORES = ("ratio", "loss", "min_k_plus_plus", "min_k", "zlib")
REPETITIONS = (1, 4, 16, 64)
SHIFT = {0: 0.0, 1: 0.15, 4: 0.8, 16: 1.9, 64: 4.0}  # in standard deviations of the decoys, for "ratio"
STRENGTH = {"ratio": 1.0, "loss": 0.55, "min_k_plus_plus": 0.75, "min_k": 0.6, "zlib": 0.5}


def _items(rng: np.random.Generator) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for length in (25, 50):
        for bucket in ("[1, 11)", "[11, 21)", "[21, 31)"):
            dealt = [("decoy", 0)] * 99 + [("member", n) for n in REPETITIONS for _ in range(10)]
            for at, (arm, n_rep) in enumerate(dealt):
                row: dict[str, Any] = {
                    "trap_id": f"trap-{length}-{bucket}-{at}",
                    "arm": arm,
                    "n_rep": n_rep,
                    "length": length,
                    "bucket": bucket,
                    "stratum": f"{length} tokens, perplexity {bucket}",
                    "text": "the quiet harbour keeps nine lamps",
                    "n_tokens": length,
                }
                for score in SCORES:
                    effect = SHIFT[n_rep] * STRENGTH[score] * (1.3 if length == 50 else 1.0)
                    row[f"{score}_score"] = float(rng.normal(effect, 1.0) * 0.2 - (0 if score == "ratio" else 2.5))
                rows.append(row)
    items = pd.DataFrame(rows)
    items["rank_p"] = np.nan
    for _, part in items.groupby("stratum"):
        decoys = part.loc[part["arm"] == "decoy", "ratio_score"].to_numpy()
        members = part.loc[part["arm"] == "member", "ratio_score"]
        items.loc[members.index, "rank_p"] = [(1 + (decoys >= s).sum()) / (1 + len(decoys)) for s in members]
    return items


def _auc(members: np.ndarray, decoys: np.ndarray) -> EstimateRecord:
    truth = np.repeat([1, 0], [len(members), len(decoys)])
    value = float(roc_auc_score(truth, np.concatenate([members, decoys])))
    half = 1.96 * np.sqrt(max(value * (1 - value), 1e-4) / min(len(members), len(decoys)))
    low, high = max(0.0, value - half), min(1.0, value + half)
    return EstimateRecord(
        value=value, low=low, high=high, level=0.95, n=len(members), method="AUC, DeLong on the logit scale"
    )


def _tpr(members: np.ndarray, decoys: np.ndarray) -> EstimateRecord:
    method = "TPR at 1% FPR, stratified bootstrap, 2,000 draws"
    if len(decoys) < 100:
        why = f"{len(decoys)} decoys cannot resolve a false-positive rate of 1%; 100 or more are needed"
        return EstimateRecord(value=None, low=None, high=None, level=0.95, n=len(members), method=method, why=why)
    value = float((members > np.quantile(decoys, 0.99, method="higher")).mean())
    half = 1.96 * np.sqrt(max(value * (1 - value), 0.01) / len(members))
    low, high = max(0.0, value - half), min(1.0, value + half)
    return EstimateRecord(value=value, low=low, high=high, level=0.95, n=len(members), method=method)


def _auc_table(items: pd.DataFrame) -> Table:
    rows = []
    for score in SCORES:
        for length in (25, 50):
            part = items[items["length"] == length]
            decoys = part.loc[part["arm"] == "decoy", f"{score}_score"].to_numpy()
            cells: list[tuple[int | str, np.ndarray, np.ndarray]] = [("control", decoys[:148], decoys[148:])]
            cells += [(n, part.loc[part["n_rep"] == n, f"{score}_score"].to_numpy(), decoys) for n in REPETITIONS]
            for n_rep, members, controls in cells:
                rows.append(
                    {
                        "score": score,
                        "length": length,
                        "n_rep": n_rep,
                        "n_members": len(members),
                        "n_decoys": len(controls),
                        "auc": _auc(members, controls),
                        "tpr_at_1pct_fpr": _tpr(members, controls)
                        if n_rep != "control"
                        else _tpr(members, controls[:50]),
                    }
                )
    columns = (
        Column(key="score", label="Score"),
        Column(key="length", label="Length", help="tokens of the generator's tokenizer"),
        Column(key="n_rep", label="Copies", help='"control" compares decoys with decoys: it must be near 0.5'),
        Column(key="n_members", label="Members"),
        Column(key="n_decoys", label="Decoys"),
        Column(key="auc", label="AUC", help="0.5 is chance, 1 is perfect separation"),
        Column(key="tpr_at_1pct_fpr", label="TPR at 1% FPR"),
    )
    note = "Only the ratio score was chosen in advance; the others are exploratory."
    return Table(name="auc", title="Separation of members from decoys", note=note, columns=columns, rows=tuple(rows))


@pytest.fixture(scope="session")
def items() -> pd.DataFrame:
    return _items(np.random.default_rng(7))


@pytest.fixture(scope="session")
def findings(items: pd.DataFrame) -> Findings:
    table = _auc_table(items)
    found = next(row for row in table.rows if (row["score"], row["length"], row["n_rep"]) == ("ratio", 50, 64))
    once = next(row for row in table.rows if (row["score"], row["length"], row["n_rep"]) == ("ratio", 25, 1))
    permutation = "re-draws of the assignment within strata, 9,999 draws, one-sided"
    members = Finding(
        id="traps.members",
        audit="traps",
        claim="The model remembers the planted traps: with 64 copies, members score above decoys almost always.",
        verdict="found",
        estimates={"AUC, 50 tokens, 64 copies": found["auc"], "TPR at 1% FPR": found["tpr_at_1pct_fpr"]},
        p_values={"all members": PValueRecord(value=0.0001, attainable=0.0001, n=9999, method=permutation)},
        items="items/traps.parquet",
        how_to_read="An AUC of 0.5 would mean that members and decoys cannot be told apart.",
        clause="traps.memorised",
    )
    single = Finding(
        id="traps.single_copy",
        audit="traps",
        claim="For traps planted once the evidence is too weak to say whether they are remembered.",
        verdict="inconclusive",
        estimates={"AUC, 25 tokens, 1 copy": once["auc"]},
        p_values={"1 copy": PValueRecord(value=0.04996, attainable=0.0001, n=9999, method=permutation)},
        items="items/traps.parquet",
        how_to_read="The interval holds 0.5 as well as values that would matter.",
    )
    control = Finding(
        id="traps.control",
        audit="traps",
        claim="Decoys compared with decoys are at chance, as they must be.",
        verdict="information",
        estimates={"AUC, control": table.rows[0]["auc"]},
        how_to_read="If this were far from 0.5, the instrument would be wrong.",
    )
    section = AuditSection(
        audit="traps",
        title="Copyright traps",
        method="Each trap was dealt at random to be planted or kept back. Members and decoys are compared by score.",
        assumptions=("The deal was recorded before training.", "Decoys were never published."),
        cannot_show=("Whether a text that carries no trap was trained on.",),
        findings=(members, single, control),
        tables=(table,),
    )
    return Findings(sections=(section,), limitations=("One training run: variance between runs is not measured.",))


@pytest.fixture(scope="session")
def figures(items: pd.DataFrame, findings: Findings) -> list[Figure]:
    return trap_figures(items, findings)


@pytest.fixture(scope="session")
def record() -> RunRecord:
    return RunRecord(
        id="20260301-101500-traps",
        kind="traps",
        status="complete",
        plan={"traps": {"primary": "ratio", "alpha": 0.05, "lengths": [25, 50]}, "subject": {"model": "out/subject"}},
        plan_sha256="ab" * 32,
        subjects={
            "subject": {"model": "out/subject", "fingerprint": "3f" * 32, "dtype": "float32", "parameters": 1_004_672},
            "reference": {"model": "out/reference", "fingerprint": "9c" * 32, "dtype": "float32"},
        },
        seeds={"assignment": 11, "permutation": 0},
        stages=(
            StageRecord(name="score", seconds=75.31, finished="2026-03-01T10:16:20Z", detail={"texts": 834}),
            StageRecord(name="detect", seconds=4.2, finished="2026-03-01T10:16:25Z"),
        ),
        provenance=Provenance(
            created="2026-03-01T10:15:00Z",
            palimpsest="0.1.0",
            python="3.11.9",
            platform="Linux-6.1-x86_64",
            commit="0123456789abcdef0123456789abcdef01234567",
            dirty=True,
            packages={"torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.3.5"},
            hardware={"cpu": "x86_64", "cores": 2, "ram_gib": 8.0},
            command=("palimpsest", "traps", "detect", "plan with space.toml", "--seed", "11"),
        ),
        finished="2026-03-01T10:16:26Z",
    )
