"""The extraction audit on rows that nobody here made: the small testbed's base model post-trained on GSM8K.

    PALIMPSEST_SHARED=path python -m tests.benchmarks.gsm8k_table [--rows 800] [--epochs 10] [--work DIR]

Rows of the training file (corpora/gsm8k/train.jsonl) are dealt to two halves at random by clusters of near-duplicates;
more of them become canaries, each with as many copies. The first half and the canaries are trained on (loss on all
tokens), the second is held out. Base and tokenizer were made for an invented world: rows that take more tokens than
the context holds are left out and counted, and a model this small need not learn to give rows back. Samples and the
trained model stay in the folder and are not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audit.extraction.config import MatchPlan
from audit.extraction.finetune import SMALL, Budget, Pair, Recipe, batches, encode_pairs, save, train
from audit.extraction.prefixes import chat_of
from audit.extraction.rows import Rows, read_rows
from audit.extraction.run import Compared
from audit.extraction.sample import rates
from audit.lm.load import load, load_tokens
from audit.lm.subject import Subject
from audit.matching.clusters import near_duplicates
from audit.matching.encode import load_encoder
from audit.runs.records import content_key
from audit.runs.schema import PValueRecord
from audit.runs.store import Run
from audit.testbed.cache import STAGE, make_stage
from audit.testbed.planted import build
from audit.text.files import make_folder
from tests.benchmarks.extraction_table import Outcome, audited, details, sampled, shift_of, shift_records, tables

SHARED = Path(os.environ.get("PALIMPSEST_SHARED", Path(__file__).parents[3] / "shared"))
GSM8K = SHARED / "corpora" / "gsm8k" / "train.jsonl"
COPIES = (1, 4, 16)
N_CANARIES = 10


def pairs_of(rows: Rows) -> list[Pair]:
    """Rows as they are trained on, each as often as it is seen."""
    seen = zip(rows.ids, rows.questions, rows.answers, rows.repetitions, strict=True)
    return [Pair(name, question, answer) for name, question, answer, n in seen for _ in range(1 if n is None else n)]


def chosen(rows: Rows, places: Sequence[int], clusters: Sequence[str], copies: Sequence[int | None]) -> Rows:
    sides = (rows.ids, rows.questions, rows.answers, rows.wholes)
    ids, questions, answers, wholes = (tuple(side[place] for place in places) for side in sides)
    return Rows(ids, questions, answers, wholes, tuple(copies), tuple(clusters), source=rows.source)


def dealt(rows: Rows, usable: Sequence[int], n_half: int, *, seed: int) -> tuple[Rows, Rows]:
    """The trained half with the canaries behind it, and the held-out half; whole clusters in a random order."""
    clusters = near_duplicates(
        [rows.wholes[place] for place in usable], threshold=MatchPlan().near_duplicate, seed=seed
    )
    members: dict[int, list[int]] = {}
    for place, cluster in zip(usable, clusters, strict=True):
        members.setdefault(int(cluster), []).append(place)
    order = [members[name] for name in np.random.default_rng(seed).permutation(sorted(members))]
    halves: list[list[int]] = [[], []]
    names: list[list[str]] = [[], []]
    taken = 0
    for places in order:
        half = 0 if len(halves[0]) < n_half else 1
        if len(halves[half]) >= n_half:
            break
        halves[half] += places
        names[half] += [f"cluster-{taken}"] * len(places)
        taken += 1
    canaries = [places[0] for places in order[taken : taken + N_CANARIES * len(COPIES)]]
    copies = [None] * len(halves[0]) + [COPIES[number // N_CANARIES] for number in range(len(canaries))]
    named = names[0] + [f"canary-{number}" for number in range(len(canaries))]
    return chosen(rows, halves[0] + canaries, named, copies), chosen(rows, halves[1], names[1], [None] * len(halves[1]))


def post_trained(base: Path, rows: Rows, recipe: Recipe, folder: Path, *, seed: int) -> tuple[Path, dict[str, Any]]:
    """The base after the recipe, and what the training did."""

    def make(target: Path) -> dict[str, Any]:
        lm = load(Subject(str(base), dtype="float32", device="cpu"))
        encoded = encode_pairs(lm, pairs_of(rows), chat_of(lm), max_tokens=recipe.max_tokens, bos=True)
        log = train(lm, batches(encoded, Budget.of(encoded, recipe), seed=seed), recipe, seed=seed)
        save(lm, target / "model")
        return dataclasses.asdict(log)

    key = content_key(rows=rows.sha256, recipe=recipe.to_record(), seed=seed, base=str(base))
    make_stage(folder / key[:12], make)
    return folder / key[:12] / "model", json.loads((folder / key[:12] / STAGE).read_text("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, default=GSM8K)
    parser.add_argument("--rows", type=int, default=800, help="of each half")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=SMALL.learning_rate)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--base-samples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    if not given.gsm8k.exists():
        print(f"skipped: no {given.gsm8k}; PALIMPSEST_SHARED names the folder of models and corpora")
        return
    began = time.perf_counter()
    base = build("small", models=("reference",)).models["reference"]
    tokens = load_tokens(Subject(str(base), device="cpu"))
    recipe = dataclasses.replace(
        SMALL, epochs=given.epochs, learning_rate=given.learning_rate, max_tokens=tokens.n_context
    )
    rows = read_rows(given.gsm8k)
    room = 10**6  # nothing is cut here, so that lengths are told
    long = dataclasses.replace(tokens, n_context=room)
    encoded = encode_pairs(long, pairs_of(rows), chat_of(tokens), max_tokens=room, bos=True)
    lengths = np.array([len(row.ids) for row in encoded])
    usable = np.flatnonzero(lengths <= tokens.n_context).tolist()
    first, second = dealt(rows, usable, given.rows, seed=given.seed)
    n_canaries = sum(n is not None for n in first.repetitions)
    print(
        f"{len(rows):,} rows of {np.median(lengths):.0f} tokens (median); {len(rows) - len(usable):,} do not fit the "
        f"{tokens.n_context} of the context and are left out. Trained on {len(first) - n_canaries:,} rows and "
        f"{n_canaries} canaries, alike many each at {', '.join(map(str, COPIES))} copies; {len(second):,} held out."
        f"\n\n{recipe}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        work = make_folder(given.work or Path(scratch))
        model, stage = post_trained(base, first, recipe, work, seed=given.seed)
        log = stage["detail"]
        print(
            f"\n{log['n_steps']:,} steps, {log['n_tokens']:,} tokens, {stage['seconds']:.0f} s; loss from "
            f"{log['first_loss']:.2f} to {log['last_loss']:.2f} nats a token",
            flush=True,
        )
        room = tokens.n_context - 8  # the prefix stands before
        made = {
            name: sampled(folder, n, work / f"{model.parent.name}-{name}", seed=given.seed, max_new_tokens=room)
            for name, folder, n in (("gsm8k", model, given.samples), ("base", base, given.base_samples))
        }
        run = Path(scratch) / "run"
        encoder = load_encoder(device="cpu", cache=work / "vectors")
        plan = MatchPlan(seed=given.seed)
        section = audited(run, Compared(made["gsm8k"], first, second, made["base"]), encoder, plan)
        maxima = Run.open(run).read_items("extraction-maxima").to_pandas()
    shift = shift_of(base, model, first, second, seed=given.seed)
    parsed = rates(made["gsm8k"])
    one = Outcome(
        arm="gsm8k",
        seed=given.seed,
        settings={},
        n=parsed.n,
        n_parsed=parsed.n_parsed,
        section=section,
        shift=shift_records(shift),
        p_shift=PValueRecord.of(shift.p_value),
    )
    print("\n" + "\n\n".join((*tables([one]), *details(one))))
    print("\nQuantiles of the largest cosine, 50%, 90%, 99% and 100%:")
    for name, values in maxima.dropna().groupby("set")["similarity"]:
        print(f"- {name}: " + ", ".join(f"{value:.3f}" for value in np.quantile(values, (0.5, 0.9, 0.99, 1))))
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
