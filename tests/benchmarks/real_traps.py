"""Traps in real text, by repetition and by fuzziness: plant, continue training, detect.

    PALIMPSEST_SHARED=path python -m tests.benchmarks.real_traps [--seeds 3] [--members 30] [--base stories260k|testbed]

Base models: the public stories260k (260K parameters, 512-token vocabulary), and the reference of the small testbed.
Corpora: public-domain novels (gutenberg-books) and TinyStories. Traps of 100 tokens are drawn from the base, which is
also the reference of the ratio; arms of 1 to 10 exact copies, and arms of one exact copy with 9 variants in which R
tokens are replaced (by the base itself, from its 10 likeliest tokens given what stands before), all scattered over one
corpus; the base goes on for one epoch. rho is beside that of Mosaic Memory (arXiv:2405.15523), whose models are a
thousand times as large and whose proposals come from a masked model: the shape may be compared, the numbers not.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.membership.score import score_texts
from audit.report.numbers import estimate
from audit.runs.schema import EstimateRecord
from audit.stats.auc import roc_auc
from audit.stats.estimate import Estimate
from audit.stats.stratified import stratified_permutation
from audit.testbed.planted import build
from audit.testbed.sizes import Training
from audit.testbed.tiny_lm import make_batches, train
from audit.text.readers import read_texts
from audit.traps.config import TrapDesign
from audit.traps.fuzzy.equivalent import exact_duplicate_equivalent_interval
from audit.traps.fuzzy.proposers import causal_proposer, codec
from audit.traps.fuzzy.variants import FuzzyDesign, make_variants
from audit.traps.generate import Trap, assign, generate_pool
from audit.traps.planting.inject import inject

SHARED = Path(os.environ.get("PALIMPSEST_SHARED", Path(__file__).parents[3] / "shared"))
STORIES260K = SHARED / "models" / "stories260k"
CORPORA = {"gutenberg-books": SHARED / "corpora/gutenberg-books", "tinystories": SHARED / "corpora/tinystories"}
EXACT = tuple(range(1, 11))
REPLACED = (5, 10, 20, 50)
N_DUP = 10
LENGTH = 100
FUZZY = 1000  # n_rep of an arm with R replaced tokens is FUZZY + R, so that one dealing serves all arms
PUBLISHED = {0: "1", 5: ".76-.78", 10: ".60-.65", 20: ".39-.46", 50: ".13-.19"}  # four models, released data
CHARACTERS = 1_200_000


@dataclass(frozen=True, slots=True)
class Base:
    """A model to go on from.

    The testbed's rate (2e-3) takes exact copies to the ceiling at 6 copies, where rho cannot be read; a quarter of it
    does not. It was chosen by the curve of exact copies, before a fuzzy trap was scored with it.
    """

    name: str
    folder: str
    training: Training


def bases(names: list[str], learning_rate: float) -> list[Base]:
    training = Training(learning_rate, batch_size=8, block=256)
    found = []
    if "stories260k" in names:
        found.append(Base("stories260k", str(STORIES260K), training))
    if "testbed" in names:
        folder = build("small", models=("reference",), device="cpu").models["reference"]
        found.append(Base("testbed small, reference", str(folder), training))
    return found


def documents_of(corpus: str) -> dict[str, str]:
    """Paragraphs of novels, or stories, up to `CHARACTERS`, in a fixed random order."""
    if corpus == "gutenberg-books":
        texts = [text for text in read_texts(CORPORA[corpus], unit="paragraph").texts if len(text) > 300]
    else:
        texts = list(read_texts(CORPORA[corpus] / "train_1000.jsonl").texts)
    order = np.random.default_rng(0).permutation(len(texts))
    kept: dict[str, str] = {}
    size = 0
    for place in order:
        if size > CHARACTERS:
            break
        kept[f"d{place}"] = texts[place]
        size += len(texts[place])
    return kept


def planted(
    base: LanguageModel, documents: dict[str, str], *, members: int, seed: int
) -> tuple[list[Trap], dict[str, str]]:
    """The dealt traps, and the documents with exact and fuzzy copies in them."""
    design = TrapDesign(
        lengths=(LENGTH,),
        perplexity_edges=(2, 1000),
        repetitions=(*EXACT, *(FUZZY + n for n in REPLACED)),
        members_per_cell=members,
        decoys_per_stratum=4 * members,
        temperatures=(0.8, 1.0, 1.2),
        max_jaccard=0.75,
        samples_per_round=512,
        placement="scattered",
    )
    traps = assign(generate_pool(base, design, seed=seed).candidates, design, seed=seed)
    propose = causal_proposer(base, top_k=10)
    texts: list[Trap] = []
    for trap in traps:
        if trap.n_rep <= FUZZY:
            texts.append(trap)
            continue
        fuzzy = FuzzyDesign(kind="replace", n_dup=N_DUP, replacements=trap.n_rep - FUZZY, max_tries=2000)
        drawn = trap.candidate
        variants = make_variants(drawn.id, drawn.token_ids, fuzzy, codec=codec(base), seed=seed, propose=propose)
        texts.append(replace(trap, n_rep=1))
        texts += [
            Trap(replace(drawn, id=f"{drawn.id}/{variant.number}", text=variant.text), "member", 1)
            for variant in variants
        ]
    hosts, _ = inject(documents, texts, design, seed=seed)
    return traps, hosts


def continued(base: LanguageModel, documents: dict[str, str], training: Training, *, seed: int) -> LanguageModel:
    """A copy of the base after one epoch."""
    model = copy.deepcopy(base.model)
    model.requires_grad_(True)
    tokenizer = cast(PreTrainedTokenizerFast, base.tokenizer)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = 0  # blocks are full, so that nothing is padded
    batches = make_batches(list(documents.values()), [], tokenizer, training, seed=seed)
    train(cast(LlamaForCausalLM, model), batches, training, stage="training")
    model.requires_grad_(False)
    return replace(base, model=model)


def scored(subject: LanguageModel, base: LanguageModel, traps: list[Trap]) -> pd.DataFrame:
    texts, ids = [trap.candidate.text for trap in traps], [trap.candidate.id for trap in traps]
    own, other = (score_texts(lm, texts, ids=ids).loss for lm in (subject, base))
    return pd.DataFrame(
        {
            "arm": [trap.arm for trap in traps],
            "n_rep": [trap.n_rep for trap in traps],
            "stratum": [trap.candidate.stratum for trap in traps],
            "ratio": other - own,
            "loss": -own,
        }
    )


def pooled(tables: list[pd.DataFrame], score: str) -> pd.DataFrame:
    """All seeds together, a stratum of one seed each, standardised by its decoys."""
    items = pd.concat([table.assign(stratum=f"{seed}/" + table["stratum"]) for seed, table in enumerate(tables)])
    decoys = items[items["arm"] == "decoy"].groupby("stratum")[score]
    mean, spread = items["stratum"].map(decoys.mean()), items["stratum"].map(decoys.std())
    return items.assign(z=(items[score] - mean) / spread)


def shown(number: Estimate) -> str:
    return estimate(EstimateRecord.of(number))


def report(items: pd.DataFrame, loss: pd.DataFrame) -> None:
    """The tables by repetition and by fuzziness."""
    decoys = items.loc[items["arm"] == "decoy", "z"].to_numpy()
    arms: dict[int, NDArray[np.float64]] = {
        n: items.loc[items["n_rep"] == n, "z"].to_numpy() for n in sorted(set(items["n_rep"]) - {0})
    }
    print("| Copies | traps | AUC, ratio | AUC, loss | p |\n|---|---|---|---|---|")
    for n in EXACT:
        inside = ((items["n_rep"] == n) | (items["arm"] == "decoy")).to_numpy()
        part = items[inside]
        p = stratified_permutation(
            part["z"], (part["arm"] == "member").to_numpy(), part["stratum"].to_numpy(), n_draws=9999, rng=n
        )
        by_loss = roc_auc(
            loss.loc[loss["n_rep"] == n, "z"].to_numpy(), loss.loc[loss["arm"] == "decoy", "z"].to_numpy()
        )
        auc = roc_auc(arms[n], decoys)
        print(f"| {n} | {len(arms[n])} | {shown(auc)} | {shown(by_loss)} | {p.value:.4f} |")
    exact = np.stack([arms[n] for n in EXACT])
    print("\n| R of 100 tokens | traps | AUC, ratio | rho | rho, published |\n|---|---|---|---|---|")
    for n in (0, *REPLACED):
        fuzzy = arms[FUZZY + n] if n else arms[N_DUP]
        rho = exact_duplicate_equivalent_interval(
            exact, np.tile(decoys, (len(EXACT), 1)), fuzzy, decoys, n_dup=N_DUP, rng=n
        )
        print(f"| {n} | {len(fuzzy)} | {shown(roc_auc(fuzzy, decoys))} | {shown(rho)} | {PUBLISHED[n]} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--members", type=int, default=30)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--base", nargs="+", default=["stories260k", "testbed"])
    parser.add_argument("--corpus", nargs="+", default=list(CORPORA))
    given = parser.parse_args()
    missing = [path for path in (STORIES260K, *CORPORA.values()) if not path.exists()]
    if missing:
        print(f"skipped: no {missing[0]}; PALIMPSEST_SHARED names the folder of models and corpora")
        return
    for base in bases(given.base, given.learning_rate):
        lm = load(Subject(base.folder, device="cpu"))
        for corpus in given.corpus:
            documents = documents_of(corpus)
            size = sum(len(ids) for ids in lm.tokenizer(list(documents.values()), verbose=False)["input_ids"])
            tables, start, shares = [], time.perf_counter(), []
            for seed in range(given.seeds):
                traps, hosts = planted(lm, documents, members=given.members, seed=seed)
                subject = continued(lm, hosts, base.training, seed=seed)
                tables.append(scored(subject, lm, traps))
                after = sum(len(ids) for ids in lm.tokenizer(list(hosts.values()), verbose=False)["input_ids"])
                shares.append((after - size) / after)
            print(
                f"\n{base.name} ({lm.n_parameters:,} parameters) on {corpus}: {size:,} tokens, traps are "
                f"{np.mean(shares):.0%} of what was trained on, {given.seeds} seeds pooled, "
                f"{time.perf_counter() - start:.0f} s\n",
                flush=True,
            )
            report(pooled(tables, "ratio"), pooled(tables, "loss"))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    main()
