"""Drawing traps from a model: candidates a second and what is rejected, by length; and the permutation test.

    PALIMPSEST_SHARED=path python -m tests.benchmarks.draw_speed

Draws from stories260k with canonical samples (decode, encode, truncate, round trip), and, for comparison, counts how
many samples of exactly that length would survive decoding and encoding by themselves, which is what rejecting instead
of making canonical would keep ("whole").
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from audit.lm.generate import Sampling, generate
from audit.lm.load import load
from audit.lm.tokens import encode, prefix_ids
from audit.stats.stratified import stratified_permutation
from audit.traps.config import TrapDesign
from audit.traps.generate import generate_pool

SHARED = Path(os.environ.get("PALIMPSEST_SHARED", Path(__file__).parents[3] / "shared"))
MODEL = SHARED / "models" / "stories260k"
DESIGN = TrapDesign(
    perplexity_edges=(1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 101),
    repetitions=(1, 10, 100, 1000),
    members_per_cell=5,
    decoys_per_stratum=20,
    max_jaccard=0.75,
    samples_per_round=512,
)


def draws() -> None:
    lm = load(MODEL)
    print("| Tokens | accepted | sampled | s | rejected | another text | no bucket | too similar | whole |")
    print("|---|---|---|---|---|---|---|---|---|")
    for length in (25, 50, 100):
        design = TrapDesign(**{**DESIGN.to_record(), "lengths": (length,)})
        start = time.perf_counter()
        (count,) = generate_pool(lm, design, seed=0).counts
        seconds = time.perf_counter() - start
        samples = generate(
            lm,
            [prefix_ids(lm)] * 512,
            sampling=Sampling(max_new_tokens=length, forbidden_ids=tuple(sorted(lm.tokenizer.all_special_ids))),
            seed=1,
            batch_size=256,
        )
        ids = [list(sample.token_ids) for sample in samples]
        again = encode(lm, [lm.tokenizer.decode(one, clean_up_tokenization_spaces=False) for one in ids])
        kept = np.mean([one == other for one, other in zip(ids, again, strict=True)])
        print(
            f"| {length} | {count.accepted} | {count.sampled:,} | {seconds:.0f} | {count.rejection_rate:.1%} | "
            f"{count.not_canonical:,} | {count.outside:,} | {count.too_similar:,} | {kept:.1%} |",
            flush=True,
        )


def permutation() -> None:
    rng = np.random.default_rng(0)
    member = np.tile(np.repeat([True, False], [20, 80]), 10)
    strata = np.repeat(np.arange(10), 100)
    scores = rng.normal(size=1000)
    start = time.perf_counter()
    stratified_permutation(scores, member, strata, n_draws=100_000, rng=0)
    print(f"\npermutation test, 1,000 traps in 10 strata, 100,000 re-draws: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    if MODEL.is_dir():
        draws()
    else:
        print(f"skipped: no {MODEL}; PALIMPSEST_SHARED names the folder of models and corpora")
    permutation()
