"""The exact search for best matches on one GPU, against a plain matrix product with topk on the same GPU.

    python -m tests.benchmarks.gpu_matching [--queries 100000] [--rows 1000000] [--width 768] [--out FILE.json]
    python -m tests.benchmarks.gpu_matching --queries 500 --rows 4000 --device cpu    # tries the code

Vectors are random, of length 1, and lie on the GPU. The plain way multiplies a slice of the queries with the whole
corpus and takes topk of it, as many queries at once as 8 GiB of products allow; it is what a user would write in three
lines. Palimpsest's answer is exact in every precision: its rows must be the same in both. How many rows the plain way
gets like it is printed. Seconds are the median of the repeats after one that is not counted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.matching.dense import top_k

PLAIN_BYTES = 2**33
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def unit(n: int, width: int, device: str, seed: int) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    rows = torch.randn(n, width, device=device, generator=generator)
    return rows / rows.norm(dim=1, keepdim=True)


def plain(queries: Tensor, corpus: Tensor, k: int, kind: torch.dtype) -> NDArray[np.int64]:
    ours, theirs = queries.to(kind), corpus.to(kind).T
    step = max(1, PLAIN_BYTES // (ours.element_size() * theirs.shape[1]))
    parts = [(ours[at : at + step] @ theirs).topk(k, dim=1).indices for at in range(0, len(ours), step)]
    return torch.cat(parts).cpu().numpy()


def timed(work: Callable[[], NDArray[np.int64]], repeats: int) -> tuple[float, NDArray[np.int64]]:
    """Median seconds and the answer, which is on the CPU when the work is done."""
    rows, seconds = work(), []
    for _ in range(repeats):
        start = time.perf_counter()
        rows = work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON of the rows")
    arguments = parser.parse_args()
    queries = unit(arguments.queries, arguments.width, arguments.device, 0)
    corpus = unit(arguments.rows, arguments.width, arguments.device, 1)
    operations = 2 * arguments.queries * arguments.rows * arguments.width
    name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device
    print(f"{name}, torch {torch.__version__}: {arguments.queries:,} x {arguments.rows:,} in {arguments.width}\n")
    print("| k | precision | way | s | TFLOP/s | times as fast is palimpsest | same rows as palimpsest in float32 |")
    print("|---|---|---|---|---|---|---|", flush=True)
    found: list[dict[str, object]] = []
    for k in (1, 10):
        exact: NDArray[np.int64] | None = None
        for precision, kind in PRECISIONS.items():
            ways: dict[str, Callable[[], NDArray[np.int64]]] = {
                "palimpsest": lambda k=k, p=precision: (
                    top_k(  # type: ignore[misc]
                        queries, corpus, k, device=arguments.device, precision=p
                    ).rows
                ),
                "plain": lambda k=k, kind=kind: plain(queries, corpus, k, kind),  # type: ignore[misc]
            }
            ours = 0.0
            for way, work in ways.items():
                seconds, rows = timed(work, arguments.repeats)
                ours = seconds if way == "palimpsest" else ours
                exact = rows if exact is None else exact
                same = float((rows == exact).mean())
                rate = operations / seconds / 1e12
                print(
                    f"| {k} | {precision} | {way} | {seconds:.3f} | {rate:.1f} | {seconds / ours:.2f} | {same:.3%} |",
                    flush=True,
                )
                found.append({"k": k, "precision": precision, "way": way, "seconds": seconds, "same": same})
                if arguments.out is not None:
                    about = {"device": name, "torch": torch.__version__, "shape": [*queries.shape, len(corpus)]}
                    arguments.out.write_text(json.dumps({**about, "rows": found}, indent=1), encoding="utf-8")
                if way == "palimpsest" and same < 1:
                    print(f"\n{1 - same:.3%} of palimpsest's rows differ between precisions; they must not.\n")


if __name__ == "__main__":
    main()
