"""The loop on real rows: TOFU's forget05 (arXiv:2401.06121), on the small testbed's base tuned on some authors.

    python -m tests.benchmarks.loop_tofu CORPORA --out FOLDER [--authors 30] [--passes 12]

The base is the testbed's reference, which read generated stories alone. The subject is tuned on forget05's 10 authors
and the first of retain95's, gold and gold_2 (another order) on the retained ones, all for as many rows. Never:
holdout10, whose 20 authors nobody met. Prints the tables of verdicts, measures and residuals.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from audit.answers.rows import QaRow, read_qa
from audit.report.numbers import estimate
from audit.runs.plan import load_plan
from audit.runs.schema import EstimateRecord, Table
from audit.testbed.planted import build
from audit.testbed.sizes import SIZES, Training
from audit.testbed.tiny_lm import make_batches
from audit.text.files import make_folder
from tests.benchmarks.unlearning.models import make_model, read_tokenizer, say
from unlearn.cli.remediate.execute import execute
from unlearn.cli.remediate.plan import LoopPlan
from unlearn.cli.remediate.texts import write_rows

ROWS = 20  # of an author
ROWS_TRAINING = Training(2e-3, batch_size=8, row_batch_size=32, block=256)
PLAN = """
[subject]
model = "full"
[gold]
model = "retained"
[gold_2]
model = "retained_2"
[forget]
rows = "forget.jsonl"
target = "the authors of forget05"
[keep]
rows = "keep.jsonl"
[never]
rows = "never.jsonl"
[general]
texts = "general.jsonl"
[format]
kind = "text"
prefix = "Question: "
suffix = "\\nAnswer:"
[utility]
real_authors = "real-authors.jsonl"
world_facts = "world-facts.jsonl"
[verify]
attacks = ["prompts", "quantisation", "relearning", "evasion"]
relearn_rate = 5e-4
relearn_steps = 10
relearn_unrelated = false
max_rows = 100
max_controls = 80
max_new_tokens = 32
[remedies.npo]
method = "npo"
settings = { steps = 60, rate = 5e-4, batch_size = 16 }
[remedies.gradient-difference]
method = "gradient_difference"
settings = { steps = 60, rate = 5e-4, batch_size = 16 }
[remedies.eco]
method = "eco"
settings = { alpha = 0.05 }
"""


def rows(corpora: Path, name: str, *, of_authors: bool = True) -> list[QaRow]:
    found = read_qa(corpora / "tofu" / f"{name}.json", cluster_size=ROWS if of_authors else None)
    return [replace(row, id=f"{name}/{row.id}", cluster=f"{name}/{row.cluster}") for row in found]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--authors", type=int, default=30)
    parser.add_argument("--passes", type=int, default=12)
    arguments = parser.parse_args()
    folder = make_folder(arguments.out)
    testbed = build("small", models=("reference",))
    forget = rows(arguments.corpora, "forget05_perturbed")
    audited = {row.prompt for row in rows(arguments.corpora, "retain_perturbed")}
    retained = rows(arguments.corpora, "retain95")[: (arguments.authors - len(forget) // ROWS) * ROWS]
    base = testbed.models["reference"]
    tokenizer = read_tokenizer(base)
    n_seen = (len(forget) + len(retained)) * arguments.passes
    for name, learnt, seed in (
        ("full", [*forget, *retained], 0),
        ("retained", retained, 0),
        ("retained_2", retained, 1),
    ):
        if (folder / name / "config.json").exists():
            continue
        order = np.random.default_rng([seed, 201]).permutation(len(learnt))
        whole, rest = divmod(n_seen, len(learnt))
        texts = [f"Question: {row.prompt}\nAnswer: {row.answer}" for row in learnt]
        texts = texts * whole + [texts[place] for place in order[:rest]]
        say(f"tuning {name} on {len(learnt)} rows, {n_seen:,} in all")
        make_model(
            folder / name, make_batches([], texts, tokenizer, ROWS_TRAINING, seed=seed), ROWS_TRAINING,
            start=base, size=SIZES["small"].model, tokenizer=tokenizer, seed=seed, device="cpu",
        )  # fmt: skip
    write_rows(folder / "forget.jsonl", forget)
    write_rows(folder / "keep.jsonl", retained)
    write_rows(folder / "never.jsonl", rows(arguments.corpora, "holdout10"))
    for name, part in (("real-authors", "real_authors_perturbed"), ("world-facts", "world_facts_perturbed")):
        write_rows(folder / f"{name}.jsonl", rows(arguments.corpora, part, of_authors=False))
    general = [{"id": one.id, "text": one.text} for one in testbed.world.documents_of("heldout")][:60]
    (folder / "general.jsonl").write_text("".join(json.dumps(one) + "\n" for one in general), encoding="utf-8")
    (folder / "plan.toml").write_text(PLAN, encoding="utf-8")
    say(
        f"{len(audited)} rows of retain_perturbed; {sum(row.prompt in audited for row in retained)} of them were learnt"
    )
    plan, text = load_plan(folder / "plan.toml", LoopPlan)
    run = execute(plan, text, folder / "plan.toml", out=folder / "run", quiet=False)
    for table in run.findings().sections[0].tables:
        if table.name in ("verdicts", "measures", "residuals", "utility", "changes", "tofu"):
            print(f"\n{table.title}\n{as_markdown(table)}")


def as_markdown(table: Table) -> str:
    lines = [f"| {' | '.join(column.label for column in table.columns)} |", "|---" * len(table.columns) + "|"]
    for row in table.rows:
        cells = [row.get(column.key, "") for column in table.columns]
        shown = [estimate(cell) if isinstance(cell, EstimateRecord) else str(cell) for cell in cells]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
