"""``palimpsest steer evaluate`` on real parts: a concept of TinyStories, TruthfulQA, and MMLU by letter and by option.

    python -m tests.benchmarks.steering.evaluation concept --work W --steps 400
    python -m tests.benchmarks.steering.evaluation concept --work V --method caa
    python -m tests.benchmarks.steering.evaluation truthfulqa --work W --model stories260k --steps 300
    python -m tests.benchmarks.steering.evaluation mmlu --work W --steps 300

Other flags are the command's own. Files that it reads, and its runs, lie in the work folder; a killed run goes on. The
last lines of a concept are means over seeds, of other sentences each, with Student's interval between fits.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

from audit.cli.main import main as palimpsest
from audit.runs.schema import EstimateRecord
from audit.stats.estimate import Estimate
from audit.testbed.planted import build
from unlearn.lineas.evaluate.tables import over_fits

from .study import told

DOGS = ("dog", "dogs", "puppy", "puppies")
N, NEUTRAL, STRENGTHS = 50, 120, (0.25, 0.5, 0.75, 1.0)
_DOG = re.compile(rf"\b({'|'.join(DOGS)})\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["concept", "truthfulqa", "mmlu"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--corpora", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--model", choices=["stories260k", "testbed"], default="testbed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-rows", type=int)
    arguments, fit = parser.parse_known_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.study == "concept":
        concept(arguments.models / "stories260k", arguments.corpora, arguments.work, fit, range(arguments.seeds))
        return
    model = arguments.models / "stories260k"
    if arguments.model == "testbed":
        model = build("small", seed=0, device="cpu", models=["reference"]).folder / "models" / "reference"
    if arguments.study == "truthfulqa":
        asked = ["--truthfulqa", arguments.corpora / "truthfulqa" / "TruthfulQA.csv", "--no-primer"]
    else:
        asked = ["--choices", mmlu(arguments.corpora, arguments.work), *toxic(arguments.corpora, arguments.work)]
    rows = arguments.max_rows or {"truthfulqa": 200, "mmlu": 300}[arguments.study]
    run(model, arguments.work / f"{arguments.study}-{arguments.model}", [*asked, "--max-rows", rows, *fit])


def run(model: Path, out: Path, flags: Sequence[object]) -> None:
    try:
        palimpsest([str(one) for one in ("steer", "evaluate", model, *flags, "--out", out, "--quiet")])
    except SystemExit as end:
        if end.code:
            raise


def concept(model: Path, corpora: Path, work: Path, fit: Sequence[str], seeds: range) -> None:
    """Sentences with a word of the concept against others, drawn anew for each seed."""
    lines = (corpora / "tinystories" / "train_1000.jsonl").read_text(encoding="utf-8").splitlines()
    shown: dict[str, None] = {}
    others: dict[str, None] = {}
    for line in lines:
        for one in _SENTENCE.split(json.loads(line)["text"].replace("\n", " ")):
            one = one.strip()
            if 6 <= len(one.split()) <= 30 and one.isascii():
                (shown if _DOG.search(one) else others)[one] = None
    rates: dict[float, list[Estimate]] = {}
    costs: dict[float, list[Estimate]] = {}
    for seed in seeds:
        rng = random.Random(seed)
        target, rest = rng.sample(list(shown), N), rng.sample(list(others), N + NEUTRAL)
        if seed == 0:
            write(work / "neutral.txt", rest[N:])
        files = write(work / f"other-{seed}.txt", rest[:N]), write(work / f"dog-{seed}.txt", target)
        out = work / f"concept-{seed}"
        run(model, out, [
            "--concept", ",".join(DOGS), "--neutral", work / "neutral.txt", "--source", files[0], "--target", files[1],
            "--strengths", ",".join(map(str, STRENGTHS)), "--seed", seed, *fit,
        ])  # fmt: skip
        (rows,) = json.loads((out / "evaluation.json").read_text())["concept"]["rows"].values()
        for row in [rows[0], *(row for row in rows if row["strength"])]:
            rates.setdefault(row["strength"], []).append(estimate(row["rate"]["rate"]))
            costs.setdefault(row["strength"], []).append(estimate(row["perplexity_change"]["neutral"]["per token"]))
    print("| strength | rate | perplexity, neutral, % |\n|---|---|---|")
    for strength, found in rates.items():
        print(f"| {strength:g} | {told(over_fits(found), 3)} | {told(over_fits(costs[strength]), 1)} |")


def estimate(record: dict[str, object]) -> Estimate:
    return EstimateRecord(**record).estimate()  # type: ignore[arg-type]


def mmlu(corpora: Path, work: Path) -> Path:
    """All test questions in one file."""
    rows: list[list[str]] = []
    head: list[str] = []
    for path in sorted((corpora / "mmlu-subset" / "test").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            head, *own = csv.reader(stream)
        rows += own
    with (work / "mmlu.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([head, *rows])
    return work / "mmlu.csv"


def toxic(corpora: Path, work: Path) -> list[object]:
    """32 toxic against 32 neutral sentences of ParaDetox, of other rows."""
    with (corpora / "paradetox" / "paradetox.tsv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = [one for one in rows if (one["toxic"] or "").strip() and (one["neutral1"] or "").strip()]
    drawn = random.Random(0).sample(rows, 64)
    source = write(work / "toxic.txt", [one["toxic"].strip() for one in drawn[:32]])
    target = write(work / "neutral-sentences.txt", [one["neutral1"].strip() for one in drawn[32:]])
    return ["--source", source, "--target", target]


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
