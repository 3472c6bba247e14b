"""How fast generations are matched with a corpus, against what a user would take instead; every answer is compared.

    taskset -c 0 python -m tests.benchmarks.matching_speed [--queries 2000] [--rows 100000] [--texts 4000]

Vectors: the best row for each query, at 384 and 768 dimensions, against faiss's flat index (where faiss is installed)
and sentence_transformers.util.semantic_search (likewise). The vectors are random, which suits all ways alike: none can
pass over a row. Strings: the best text at a similarity of 0.9, against process.cdist of all pairs with and without that
cutoff, on paragraphs of made words, a tenth of the queries being edited copies. Seconds are the processor's, of one
thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Indel, Levenshtein

from audit.matching.dense import top_k
from audit.matching.strings import Measure, TextCorpus

WIDTHS = (384, 768)
CUTOFF = 0.9
FEW = 40  # queries without a cutoff, which take a hundred times as long
REPEATS = 3
SCORERS: dict[Measure, Any] = {
    "levenshtein": Levenshtein.normalized_similarity,
    "indel": Indel.normalized_similarity,
}
Rows = NDArray[Any]


def best_of(ways: dict[str, Callable[[], Rows]], repeats: int) -> dict[str, tuple[float, Rows]]:
    """Seconds of the best repeat and the answer of each way; the ways take turns, so that noise meets all."""
    found: dict[str, tuple[float, Rows]] = {}
    for _ in range(repeats):
        for name, work in ways.items():
            start = time.process_time()
            answer = work()
            seconds = time.process_time() - start
            found[name] = min(found.get(name, (np.inf, answer)), (seconds, answer), key=lambda pair: pair[0])
    return found


def unit(n: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    rows = rng.normal(size=(n, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def vectors(n_queries: int, n_rows: int, rng: np.random.Generator) -> None:
    print("| Dimensions | way | s | times as fast is palimpsest | GFLOP/s | same rows |\n|---|---|---|---|---|---|")
    for width in WIDTHS:
        queries, corpus = unit(n_queries, width, rng), unit(n_rows, width, rng)
        ways: dict[str, Callable[[], Rows]] = {"palimpsest": lambda q=queries, c=corpus: top_k(q, c).rows[:, 0]}  # type: ignore[misc]
        if find_spec("faiss"):
            import faiss

            faiss.omp_set_num_threads(1)
            index = faiss.IndexFlatIP(width)
            index.add(corpus)

            def built(q: Rows = queries, c: Rows = corpus) -> Rows:
                new = faiss.IndexFlatIP(c.shape[1])
                new.add(c)
                return np.asarray(new.search(q, 1)[1][:, 0])

            ways["faiss flat, index made"] = built
            ways["faiss flat, index there"] = lambda q=queries, i=index: i.search(q, 1)[1][:, 0]  # type: ignore[misc]
        if find_spec("sentence_transformers"):
            from sentence_transformers.util import semantic_search

            def searched(q: torch.Tensor, c: torch.Tensor) -> Rows:
                return np.array([hits[0]["corpus_id"] for hits in semantic_search(q, c, top_k=1)])

            tensors = torch.from_numpy(queries), torch.from_numpy(corpus)
            ways["semantic_search"] = lambda t=tensors: searched(*t)  # type: ignore[misc]
        found = best_of(ways, REPEATS)
        ours, rows = found["palimpsest"]
        for name, (seconds, answer) in found.items():
            speed = 2e-9 * n_queries * n_rows * width / seconds
            same = float(np.mean(answer == rows))
            print(f"| {width} | {name} | {seconds:.2f} | {seconds / ours:.2f} | {speed:.0f} | {same:.2%} |", flush=True)
    for name, package in (("faiss", "faiss-cpu"), ("sentence_transformers", "sentence-transformers")):
        if not find_spec(name):
            print(f"\nNot compared with {name}: it is not installed here (pip install {package}).")


def made_texts(n: int, rng: np.random.Generator) -> list[str]:
    """Paragraphs of about 300 words, long and short, from 20,000 words that follow Zipf's law."""
    letters = list("etaoinshrdlcumwfgypbvk")
    words = ["".join(rng.choice(letters, size=size)) for size in np.sort(rng.integers(1, 12, size=20_000))]
    shares = 1 / np.arange(3, len(words) + 3)
    sizes = np.clip(rng.lognormal(5.5, 0.7, size=n), 5, 1_500).astype(int)
    drawn = rng.choice(len(words), size=int(sizes.sum()), p=shares / shares.sum())
    return [" ".join(words[at] for at in part) for part in np.split(drawn, np.cumsum(sizes)[:-1])]


def edited(text: str, rng: np.random.Generator) -> str:
    """A copy with up to a tenth of its letters replaced or taken out."""
    letters = list(text)
    for at in rng.integers(len(text), size=int(len(text) * rng.uniform(0, 0.1))):
        letters[at] = rng.choice(["", "z"])
    return "".join(letters)


def strings(n_texts: int, rng: np.random.Generator) -> None:
    texts, queries = made_texts(n_texts, rng), made_texts(n_texts // 2, rng)
    for at in range(0, len(queries), 10):
        queries[at] = edited(texts[at], rng)
    print("\n| Similarity | way | million pairs/s | times as fast is palimpsest | same rows |\n|---|---|---|---|---|")
    for measure, scorer in SCORERS.items():
        some = queries if measure == "levenshtein" else queries[: len(queries) // 10]

        def plain(some: list[str] = some, scorer: Any = scorer) -> Rows:
            whole = process.cdist(some, texts, scorer=scorer, score_cutoff=CUTOFF, dtype=np.float64, workers=1)
            return np.where(whole.max(axis=1) > 0, whole.argmax(axis=1), -1)

        few = some[:FEW]

        def without(few: list[str] = few, scorer: Any = scorer) -> Rows:
            whole = process.cdist(few, texts, scorer=scorer, dtype=np.float64, workers=1)
            return np.where(whole.max(axis=1) >= CUTOFF, whole.argmax(axis=1), -1)

        found = best_of(
            {
                "palimpsest": lambda s=some, m=measure: TextCorpus(texts, m, workers=1).best(s, CUTOFF).rows,  # type: ignore[misc]
                "process.cdist with the cutoff": plain,
                f"process.cdist without, {FEW} queries": without,
            },
            1,
        )
        ours, rows = found["palimpsest"]
        ours /= len(some)
        for name, (seconds, answer) in found.items():
            each, same = seconds / len(answer), float(np.mean(answer == rows[: len(answer)]))
            print(
                f"| {measure} | {name} | {len(texts) / each / 1e6:.3g} | {each / ours:.2f} | {same:.2%} |", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--texts", type=int, default=4_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    vectors(arguments.queries, arguments.rows, rng)
    strings(arguments.texts, rng)


if __name__ == "__main__":
    main()
