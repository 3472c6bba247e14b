"""How fast one core looks for traps in a corpus, against what a user would take instead.

    taskset -c 0 python -m tests.benchmarks.scan_speed [--megabytes 200] [--texts FOLDER] [--tokenizer FOLDER]

The corpus is made from a seed: documents of paragraphs drawn at random, from words that follow Zipf's law or, with
--texts, from the .txt files of a folder. Copies of traps are planted and must all be found, else it stops. Without
--tokenizer a byte-level BPE of 32,000 tokens is trained on the paragraphs. Every way runs in this process, or beside it
on the same core, on the same files; slow ways get a small part of them, and their time is per megabyte all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import ahocorasick
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rapidfuzz import fuzz
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from audit.text.rows import jsonl_rows
from audit.traps.scan.shards import Unit, plan_corpus
from audit.traps.scan.units import Scanner, ScanPlan

SIZES = (100, 1_000, 6_000)  # traps
WORDS = (25, 50, 100)  # of a trap; each is one token or more
DISTANCE = 10
COPIES = 200


def made_paragraphs(rng: np.random.Generator) -> list[str]:
    """About 20 MB of sentences, from 40,000 words of 1 to 12 letters; the commoner, the shorter."""
    lengths = np.sort(rng.integers(1, 13, size=40_000))
    letters = "etaoinshrdlucmfwypvbgk"
    weights = 1 / np.arange(1, len(letters) + 1)
    vocabulary = ["".join(rng.choice(list(letters), size=n, p=weights / weights.sum())) for n in lengths]
    shares = 1 / np.arange(3, len(vocabulary) + 3)
    drawn = rng.choice(len(vocabulary), size=3_400_000, p=shares / shares.sum())
    return [" ".join(vocabulary[at] for at in part) + "." for part in np.array_split(drawn, 34_000)]


def documents(paragraphs: list[str], n_bytes: int, copies: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Documents of 2 to 60 paragraphs, a few kB each; the copies are spread over them."""
    written = 0
    rest = iter(copies)
    while written < n_bytes:
        chosen = [paragraphs[at] for at in rng.integers(len(paragraphs), size=rng.integers(2, 20))]
        if written >= n_bytes * (len(copies) - rest.__length_hint__()) / len(copies):  # type: ignore[attr-defined]
            chosen.insert(1, next(rest, ""))
        text = "\n\n".join(chosen)
        written += len(text.encode())
        yield text


def write_corpus(folder: Path, texts: list[str]) -> None:
    with (folder / "c.jsonl").open("w", encoding="utf-8") as stream:
        for number, text in enumerate(texts):
            stream.write(json.dumps({"id": str(number), "text": text}) + "\n")
    for shard in range(8):
        (folder / f"c{shard}.txt").write_text("\n\n".join(texts[shard::8]), encoding="utf-8")
    table = pa.table({"id": [str(number) for number in range(len(texts))], "text": texts})
    pq.write_table(table, folder / "c.parquet", row_group_size=2_000)


def rate(work: Callable[[], int], n_bytes: int, repeats: int = 1) -> tuple[float, int]:
    """(MB/s of the best repeat, what the work gave back); seconds of the processor, a child's too."""
    seconds = []
    for _ in range(repeats):
        start = processor_seconds()
        answer = work()
        seconds.append(processor_seconds() - start)
    return n_bytes / min(seconds) / 1e6, answer


def processor_seconds() -> float:
    """Spent by this process and the children that it waited for; what else runs on the core does not count."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def scan_all(scanner: Scanner, units: list[Unit]) -> int:
    return sum(len(scanner.scan(unit).hits) for unit in units)


def size_of(units: list[Unit]) -> int:
    return sum(part.end - part.begin for unit in units for part in unit)


def report(way: str, format_: str, n_traps: int, speed: float, ours: float) -> None:
    print(f"| {way} | {format_} | {n_traps:,} | {speed:,.3g} | {ours / speed:,.3g} |", flush=True)


def exact(folder: Path, traps: list[str], texts: list[str], planted: int) -> None:
    """All formats, then what else there is, on 20 MB, 4 MB or less of the JSON lines."""
    plan = ScanPlan(tuple(map(str, range(len(traps)))), tuple(traps))
    scanner = Scanner(plan)
    speeds = {}
    for format_ in ("jsonl", "txt", "parquet"):
        units = plan_corpus(sorted(folder.glob(f"c*.{format_}"))).units
        speeds[format_], n_found = rate(lambda units=units: scan_all(scanner, units), size_of(units), 2)  # type: ignore[misc]
        assert n_found == planted, (format_, n_found, planted)
        report("palimpsest, exact", format_, len(traps), speeds[format_], speeds[format_])
    ours = speeds["jsonl"]
    loose = Scanner(ScanPlan(plan.trap_ids, plan.trap_texts, loose=True))
    units = plan_corpus([folder / "c.jsonl"]).units[:3]
    report("palimpsest, --loose", "jsonl", len(traps), rate(lambda: scan_all(loose, units), size_of(units))[0], ours)
    part = folder / "part.jsonl"
    with (folder / "c.jsonl").open("rb") as stream:
        part.write_bytes(stream.read(20 * 10**6).rsplit(b"\n", 1)[0] + b"\n")
    (folder / "traps.list").write_text("\n".join(traps) + "\n", encoding="utf-8")

    def grep() -> int:
        command = ["grep", "-F", "-c", "-f", str(folder / "traps.list"), str(part)]
        return int(subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "C"}, check=False).stdout)

    report("grep -F -f (no escapes, no places)", "jsonl", len(traps), rate(grep, part.stat().st_size)[0], ours)
    automaton = ahocorasick.Automaton()
    for number, trap in enumerate(traps):
        automaton.add_word(trap, number)
    automaton.make_automaton()

    def aho() -> int:
        rows = (row.values["text"] for row in jsonl_rows(part) if hasattr(row, "values"))
        return sum(1 for text in rows for _ in automaton.iter(text))

    report("pyahocorasick", "jsonl", len(traps), rate(aho, part.stat().st_size)[0], ours)
    few = texts[: max(5, 200_000 // len(traps))]
    n_bytes = sum(len(text.encode()) for text in few)
    loop = rate(lambda: sum(trap in text for text in few for trap in traps), n_bytes)[0]
    report("`trap in text` for each, parsed already", "texts", len(traps), loop, ours)


def fuzzy(folder: Path, traps: list[str], texts: list[str], tokenizer: str) -> None:
    """The first 16 MB of JSON lines, or 64 MB where it is fast, and partial_ratio on a few texts."""
    ids = tuple(map(str, range(len(traps))))
    scanner = Scanner(ScanPlan(ids, tuple(traps), max_distance=DISTANCE, tokenizer=tokenizer))
    units = plan_corpus([folder / "c.jsonl"]).units[:1]
    ours, n_found = rate(lambda: scan_all(scanner, units), size_of(units))
    exact_ = sum(hit.kind == "exact" for hit in Scanner(ScanPlan(ids, tuple(traps))).scan(units[0]).hits)
    assert n_found >= exact_ > 0
    report(f"palimpsest, --fuzzy, distance {DISTANCE}", "jsonl", len(traps), ours, ours)
    few, some = texts[:3], traps[:100]
    n_bytes = sum(len(text.encode()) for text in few)
    slow = rate(lambda: int(sum(fuzz.partial_ratio(trap, text) for text in few for trap in some)), n_bytes)[0]
    report("rapidfuzz partial_ratio for each (from 100)", "texts", len(traps), slow * len(some) / len(traps), ours)


def trained(paragraphs: list[str]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=32_000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(paragraphs[:8_000], trainer)
    return str(tokenizer.to_str())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rng = np.random.default_rng(0)
    if arguments.texts is None:
        paragraphs = made_paragraphs(rng)
    else:
        whole = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(arguments.texts.rglob("*.txt")))
        paragraphs = [part for part in whole.split("\n\n") if part.strip()]
    words = " ".join(paragraphs).split()
    sizes = rng.choice(WORDS, size=max(SIZES))
    pool = [" ".join(words[at] for at in rng.integers(len(words), size=n)) for n in sizes]
    planted = [pool[at] for at in rng.integers(SIZES[0], size=COPIES)]
    texts = list(documents(paragraphs, arguments.megabytes * 10**6, planted, rng))
    assert arguments.tokenizer is None or (arguments.tokenizer / "tokenizer.json").is_file()
    content = (
        trained(paragraphs) if arguments.tokenizer is None else (arguments.tokenizer / "tokenizer.json").read_text()
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, texts)
        size = (folder / "c.jsonl").stat().st_size
        cores = len(os.sched_getaffinity(0))
        print(f"{len(texts):,} texts, {size / 1e6:.0f} MB as JSON lines, {COPIES} copies planted; {cores} core(s)\n")
        print("| Way | files | traps | MB/s of the files | times as fast is palimpsest |")
        print("|---|---|---|---|---|")
        for n_traps in SIZES:
            exact(folder, pool[:n_traps], texts, COPIES)
        for n_traps in SIZES:
            fuzzy(folder, pool[:n_traps], texts, content)


if __name__ == "__main__":
    main()
