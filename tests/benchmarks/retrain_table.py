"""What rows that were extracted from a model of known training are worth: the spec's check of retraining.

    python -m tests.benchmarks.retrain_table [--rows 1600] [--samples 1600] [--seeds 0 1 2] [--epochs 12] [--work DIR]

The testbed's *full* arm (cached) is sampled from the opening of its chat. Its base is then trained on the arm's own
rows without canaries, on the generations, and on these with shuffled answers, and all are asked the held-out half. What
must hold: the extracted arm beats the base, and the shuffled control does not match it. Samples and finished trainings
stay in the folder and are not made again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from audit.extraction.finetune import SMALL, Pair
from audit.extraction.parse import Parsed
from audit.extraction.prefixes import chat_of
from audit.extraction.retrain import (
    EXTRACTED,
    ORIGINAL,
    SHUFFLED,
    arm_results,
    differences,
    extracted,
    retrain,
    shuffled,
)
from audit.lm.load import load_tokens
from audit.lm.subject import Subject
from audit.matching.clusters import normalised
from audit.runs.schema import EstimateRecord
from audit.runs.shards import ShardedTable
from audit.testbed.planted import build
from audit.testbed.post_training import pairs_of, post_train, post_training_rows
from audit.text.files import make_folder
from tests.benchmarks.extraction_table import N_CANARIES, REPETITIONS, markdown, sampled


def emitted(generations: pa.Table, held_out: Sequence[Pair]) -> tuple[list[Pair], int]:
    """The distinct parsed generations that are no held-out row, and how many are one."""
    parsed = [
        Parsed(row["question"], row["answer"], row["whole"], row["n_turns"])
        for row in generations.to_pylist()
        if row["reject"] is None
    ]
    known = {(normalised(pair.question), normalised(pair.answer)) for pair in held_out}
    found = extracted(parsed)
    kept = [pair for pair in found if (normalised(pair.question), normalised(pair.answer)) not in known]
    return kept, len(found) - len(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--samples", type=int, default=1600)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=SMALL.epochs)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        work = make_folder(given.work or Path(scratch))
        testbed = build(given.size, models=("reference",))
        rows = post_training_rows(
            testbed.world, n_rows=given.rows, n_canaries=N_CANARIES, repetitions=REPETITIONS, seed=0
        )
        trained = post_train(testbed, rows=rows, arms=("full", "base"), seed=0)
        asked = trained.half("second", canaries=False)
        original, held_out = pairs_of(trained.half("first", canaries=False)), pairs_of(asked)
        own, n_held_out = emitted(sampled(trained.models["full"], given.samples, work / "samples"), held_out)
        print(
            f"{len(own):,} distinct rows from {given.samples:,} generations, {n_held_out} more are held-out rows and "
            f"left out; {len(original):,} original, {len(held_out):,} held-out ones; {given.epochs} passes over the "
            f"original; after {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        base = Subject(str(trained.models["base"]), device="cpu")
        table = retrain(
            base,
            chat_of(load_tokens(base)),
            {ORIGINAL: original, EXTRACTED: own, SHUFFLED: {seed: shuffled(own, seed=seed) for seed in given.seeds}},
            held_out,
            recipe=replace(SMALL, epochs=given.epochs),
            seeds=given.seeds,
            open_parts=lambda key, n_parts: ShardedTable(work / f"trainings-{key[:12]}", key=key, n_parts=n_parts),
            bos=True,
        )
    results = arm_results(table)
    lines = [
        [one.arm, one.measure, f"{one.mean:.4f}", ", ".join(f"{value:.4f}" for value in one.by_seed), one.n_steps,
         max(one.n_tokens), f"{max(one.n_passes):.1f}"] for one in results
    ]  # fmt: skip
    print("\n" + markdown(["Arm", "Measure", "Mean", "By seed", "Steps", "Tokens", "Passes"], lines))
    compared = differences(table, clusters=[row.cluster for row in asked], seed=0)
    gaps = [
        [
            one.arm,
            one.other,
            one.measure,
            *(EstimateRecord.of(gap) for gap in (one.over_rows, one.over_seeds, one.over_both)),
        ]
        for one in compared
    ]
    print(
        "\n" + markdown(["Arm", "Less", "Measure", "Difference, over held-out rows", "Over seeds", "Over both"], gaps)
    )
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
