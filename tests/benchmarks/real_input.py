"""Things that nobody here made: a public checkpoint on public texts, and a testbed built from books.

    PALIMPSEST_SHARED=path python -m tests.benchmarks.real_input

The folder holds models/stories260k, corpora/tinystories and corpora/gutenberg-books. The scores of found texts are
indicative: a bag of words that never asks the model is printed beside them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from audit.report.numbers import estimate, p_value
from audit.runs.schema import EstimateRecord
from audit.runs.store import Run
from audit.stats.auc import roc_auc
from audit.stats.bootstrap import bootstrap
from audit.stats.estimate import Estimate
from audit.text.readers import read_texts
from audit.traps.detect import bag_of_words

SHARED = Path(os.environ.get("PALIMPSEST_SHARED", Path(__file__).parents[3] / "shared"))
MODEL = SHARED / "models" / "stories260k"
STORIES = SHARED / "corpora" / "tinystories" / "train_1000.jsonl"
BOOKS = SHARED / "corpora" / "gutenberg-books"
SCORES = ("loss", "min_k", "min_k_plus_plus", "zlib")


def run(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "audit", *arguments, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def shown(number: Estimate) -> str:
    return estimate(EstimateRecord.of(number))


def scores(scratch: Path) -> None:
    """TinyStories, which the checkpoint was trained on or near, against paragraphs of books, which it was not."""
    passages = [text for text in read_texts(BOOKS, unit="paragraph").texts if len(text) > 300]
    order = np.random.default_rng(0).permutation(len(passages))[:1000]
    pd.DataFrame({"text": [passages[place] for place in order]}).to_json(
        scratch / "books.jsonl", orient="records", lines=True, force_ascii=False
    )
    tables, texts = {}, {}
    print("| Texts | n | tokens scored | seconds | loss, nats a token |")
    print("|---|---|---|---|---|")
    for name, path in (("TinyStories", STORIES), ("Gutenberg paragraphs", scratch / "books.jsonl")):
        out = scratch / f"{path.stem}.parquet"
        seconds = run("score", str(MODEL), str(path), "--out", str(out), "--truncate")
        table = tables[name] = pd.read_parquet(out)
        texts[name] = list(read_texts(path).texts)
        loss = bootstrap(np.mean, table["loss"].to_numpy(), rng=0)
        print(f"| {name} | {len(table):,} | {table['n_tokens'].sum():,} | {seconds:.1f} | {shown(loss)} |")
    stories, books = tables.values()
    print("\n| Score | AUC, stories above paragraphs |\n|---|---|")
    for name in SCORES:
        sign = -1 if name == "loss" else 1
        print(f"| {name} | {shown(roc_auc(sign * stories[name].to_numpy(), sign * books[name].to_numpy()))} |")
    everything = [text for part in texts.values() for text in part]
    member = np.arange(len(everything)) < len(stories)
    blind = bag_of_words(everything, member, np.zeros(len(everything)), seed=0)
    print(f"| (blind: bag of words, no model, 99% interval) | {shown(blind)} |")


def books_testbed(scratch: Path) -> None:
    """Traps planted in a model of thirteen novels."""
    out = scratch / "run"
    seconds = run("demo", "--audit-only", "--corpus", str(BOOKS), "--cache", str(scratch / "cache"), "--out", str(out))
    section = Run.open(out).findings().sections[0]
    print(f"\ndemo --corpus gutenberg-books: {seconds:.0f} s; {section.findings[0].claim}\n")
    print("| Copies | n | AUC | TPR at 1% FPR | p, corrected | Verdict |")
    print("|---|---|---|---|---|---|")
    for row in next(table for table in section.tables if table.name == "arms").rows:
        auc, tpr, p = row["auc"], row["tpr"], row["p_holm"]
        print(f"| {row['n_rep']} | {row['n']} | {estimate(auc)} | {estimate(tpr)} | {p_value(p)} | {row['verdict']} |")
    for finding in section.findings[-2:]:
        numbers = ", ".join(f"{name} {estimate(number)}" for name, number in finding.estimates.items())
        print(f"\n{finding.claim} {numbers}")


def main() -> None:
    missing = [path for path in (MODEL, STORIES, BOOKS) if not path.exists()]
    if missing:
        print(f"skipped: no {missing[0]}; PALIMPSEST_SHARED names the folder of models and corpora")
        return
    with tempfile.TemporaryDirectory() as folder:
        scores(Path(folder))
        books_testbed(Path(folder))


if __name__ == "__main__":
    main()
