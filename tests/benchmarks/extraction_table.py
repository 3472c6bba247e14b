"""The extraction audit on models whose truth is known: the spec's acceptance table.

    python -m tests.benchmarks.extraction_table [--size small] [--rows 2000] [--samples 1500] [--arms full base ...]

Trains the testbed's post-training arms (cached), samples each from the opening of its chat, and audits it with the
first half as training rows and the second as held-out rows; *base*, which saw neither, is the base model of the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.extraction.config import MatchPlan
from audit.extraction.prefixes import chat_of, prefixes
from audit.extraction.rows import Rows
from audit.extraction.run import Compared, audit_extraction
from audit.extraction.sample import plan_samples, rates, sample_in_parts
from audit.extraction.samplers import Local
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.matching.encode import Encoder, load_encoder
from audit.report.numbers import estimate
from audit.runs.schema import AuditSection, EstimateRecord, PValueRecord
from audit.runs.shards import ShardedTable
from audit.runs.store import Run
from audit.testbed.planted import build
from audit.testbed.post_training import ARMS, PostRow, post_train, post_training_rows


def rows_of(rows: list[PostRow]) -> Rows:
    return Rows(
        tuple(row.id for row in rows),
        tuple(row.question for row in rows),
        tuple(row.answer for row in rows),
        tuple(f"{row.question}\n{row.answer}" for row in rows),
        tuple(row.repeats if row.canary else None for row in rows),
        tuple(row.cluster for row in rows),
        source="testbed",
    )


def sampled(model: Path, n: int, parts: Path) -> pa.Table:
    lm = load(Subject(str(model), device="cpu"))
    chat = chat_of(lm)
    plan = plan_samples(lm, chat, prefixes(lm, chat, bos=True), n=n, seed=0, max_new_tokens=160)
    return sample_in_parts(
        Local(lm), plan, open_parts=lambda name, key, n_parts: ShardedTable(parts / name, key=key, n_parts=n_parts)
    )


def audited(folder: Path, compared: Compared, encoder: Encoder, plan: MatchPlan) -> AuditSection:
    def encode(texts: object) -> NDArray[np.float32]:
        return encoder.encode(texts).vectors  # type: ignore[arg-type]

    with Run.start(folder, kind="extraction", plan={}, plan_text="", command=[]) as run:
        return audit_extraction(run, compared, encode=encode, encoder="MiniLM", plan=plan)


def shown(cell: object) -> str:
    return estimate(cell) if isinstance(cell, EstimateRecord) else str(cell)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--least-words", type=int, default=12)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    given = parser.parse_args()
    began = time.perf_counter()
    testbed = build(given.size, models=("reference",))
    rows = post_training_rows(testbed.world, n_rows=given.rows, n_canaries=10, repetitions=(1, 4, 16, 64), seed=0)
    trained = post_train(testbed, rows=rows, arms=tuple(dict.fromkeys([*given.arms, "base"])), seed=0)
    print(f"{len(rows):,} rows, models after {time.perf_counter() - began:.0f} s", flush=True)
    first, second = rows_of(trained.half("first", canaries=True)), rows_of(trained.half("second", canaries=False))
    plan = MatchPlan(least_words=given.least_words)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        encoder = load_encoder(device="cpu", cache=work / "cache")
        made = {arm: sampled(trained.models[arm], given.samples, work / arm) for arm in {*given.arms, "base"}}
        for arm in given.arms:
            base = None if arm == "base" else made["base"]
            section = audited(work / f"run-{arm}", Compared(made[arm], first, second, base), encoder, plan)
            overall, *rest = section.findings
            parsed = rates(made[arm])
            print(f"\n## {arm}: {overall.verdict}; {parsed.n_parsed} of {parsed.n} parsed\n\n{overall.claim}")
            for finding in rest:
                ps = ", ".join(f"p {p.value:.4f}" for p in finding.p_values.values() if isinstance(p, PValueRecord))
                values = "; ".join(f"{name} {shown(one)}" for name, one in finding.estimates.items())
                print(f"- {finding.claim} [{values}{'; ' if ps else ''}{ps}]")
            table = next(one for one in section.tables if one.name == "rates")
            print("\n| " + " | ".join(column.label for column in table.columns) + " |")
            print("|" + "---|" * len(table.columns))
            for row in table.rows:
                print("| " + " | ".join(shown(row[column.key]) for column in table.columns) + " |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
