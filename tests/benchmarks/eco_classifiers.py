"""What the prompt classifiers of ECO cost, and which of them tells forget people from others.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.eco_classifiers [--recall] [--rates 2e-5 2e-4] [--epochs 2]

Costs: 240 forget and 2,000 retain prompts of the small testbed's world, plain, in one thread; seconds are the
processor's. The default classifier is fitted on all of them. The encoders begin at random and have the shapes of MiniLM
and of RoBERTa-base (with MiniLM's tokenizer, so a prompt has a token or two more or less than RoBERTa's own would give
it); three steps are timed after one that is not, and the training is extrapolated from them.

--recall: trained on the trained wordings of forget and retain people. The threshold at alpha 0.05 comes from wordings
that are in no training prompt, about half of the people who are in none; measured are the same wordings about forget
people (recall) and about the other half (false alarms). Strangers have names of their own; a namesake has the first or
the last name of a forget person. Intervals: bootstrap over people, 95%.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from audit.matching.encode import Encoder, load_encoder
from audit.stats.auc import roc_auc
from audit.stats.bootstrap import bootstrap
from audit.stats.estimate import Estimate
from audit.testbed.world import Row, World, build_world
from unlearn.eco.calibration import one_sided
from unlearn.eco.classifier import PromptScores, fit, score
from unlearn.eco.finetuned import FineTuned, FineTuning, Labelled, fine_tune

N_FORGET, N_RETAIN, N_SCORED = 240, 2_000, 256
ALPHA = 0.05
SHAPES = {
    "MiniLM's shape": {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536, "vocab_size": 30_522},
    "RoBERTa-base's shape": {
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "vocab_size": 50_265,
    },
}
Scores = Callable[[Sequence[str]], PromptScores]


def prompts(world: World) -> tuple[Labelled, list[str]]:
    """Training prompts and others to score."""

    def of(*groups: str) -> list[str]:
        rows = [row for group in groups for row in world.rows_of(group=group)]
        return list(dict.fromkeys([*(row.question for row in rows), *(row.paraphrased_question for row in rows)]))

    forget, retain = of("forget")[:N_FORGET], of("retain", "never")[:N_RETAIN]
    assert (len(forget), len(retain)) == (N_FORGET, N_RETAIN)
    labels = [True] * len(forget) + [False] * len(retain)
    fresh = [row.novel_question for group in ("forget", "retain") for row in world.rows_of(group=group)]
    return Labelled([*forget, *retain], labels), list(dict.fromkeys(fresh))[:N_SCORED]


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def random_encoder(folder: Path, encoder: Encoder, shape: dict[str, int]) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(encoder.files.transformer)
    config = AutoConfig.for_model("bert", num_attention_heads=12, max_position_embeddings=512, **shape)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def costs(world: World, encoder: Encoder) -> None:
    training, fresh = prompts(world)
    print("| Classifier | training | scoring a prompt |\n|---|---|---|")
    fitted = []
    fitting = seconds(lambda: fitted.append(fit(encoder, training.texts, training.forget)))
    scoring = seconds(lambda: score(fitted[0], encoder, fresh)) / len(fresh)
    print(f"| {encoder.name}, kernel logistic regression | {fitting:.1f} s | {1e3 * scoring:.2f} ms |", flush=True)
    plan = FineTuning()
    n_steps = plan.recipe(len(training.texts)).n_steps
    for name, shape in SHAPES.items():
        ticks: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            few = Labelled(training.texts[200:264], training.forget[200:264])
            found: FineTuned = fine_tune(
                random_encoder(Path(folder), encoder, shape),
                few,
                FineTuning(epochs=1),
                device="cpu",
                progress=lambda stage, done, total, ticks=ticks: ticks.append(time.process_time()),
            )
        step = (ticks[-1] - ticks[1]) / (len(ticks) - 2)
        scoring = seconds(lambda found=found: found.scores(fresh)) / len(fresh)
        whole = f"{n_steps:,} steps ({plan.epochs} epochs): {n_steps * step / 3600:.1f} h"
        told = f"{step:.2f} s a step of {plan.batch_size}; {whole}, extrapolated from {len(ticks) - 2} steps"
        print(f"| fine-tuned, {name} | {told} | {1e3 * scoring:.2f} ms |", flush=True)


def shown(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.2f} (no interval)" if one.value is not None else "undefined"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def namesake(name: str, known: str, number: int) -> str:
    """A name with a part of a known one: its first name, or its last."""
    (own_first, own_last), (first, last) = name.split(" ", 1), known.split(" ", 1)
    return f"{first} {own_last}" if number % 2 else f"{own_first} {last}"


def recall(world: World, encoder: Encoder, rates: Sequence[float], epochs: int) -> None:
    rows = {group: world.rows_of(group=group) for group in ("forget", "retain", "never")}
    asked = [(row.question, group == "forget") for group in ("forget", "retain") for row in rows[group]]
    training = Labelled([text for text, _ in asked], [is_forget for _, is_forget in asked])
    people = sorted({row.name for row in rows["never"]})
    order = np.random.default_rng(0).permutation(len(people))
    half = {people[place] for place in order[: len(people) // 2]}

    known = sorted({row.name for row in rows["forget"]})
    namesakes = {name: namesake(name, known[number % len(known)], number) for number, name in enumerate(people)}

    def wordings(chosen: Sequence[Row], names: Mapping[str, str] | None = None) -> tuple[list[str], list[str]]:
        found = {
            row.novel_question.replace(row.name, names[row.name]) if names else row.novel_question: row.name
            for row in chosen
        }
        return list(found), list(found.values())

    calibration = [row for row in rows["never"] if row.name in half]
    test = [row for row in rows["never"] if row.name not in half]
    parts = {
        "forget": wordings(rows["forget"]),
        "calibration": wordings(calibration),
        "test": wordings(test),
        "namesake calibration": wordings(calibration, namesakes),
        "namesake test": wordings(test, namesakes),
    }
    numbers = ", ".join(
        f"{len(texts)} {name} prompts of {len(set(who))} people" for name, (texts, who) in parts.items()
    )
    print(
        f"\n{sum(training.forget)} forget and {len(asked) - sum(training.forget)} retain training prompts; {numbers}\n"
    )
    columns = ("Classifier", "trained in", "others", "AUC", "recall", "false alarms", "recall of training prompts")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")

    def report(name: str, spent: float, scores: Scores) -> None:
        found = {part: scores(texts).p_forget for part, (texts, _) in parts.items()}
        trained = scores([text for text, is_forget in asked if is_forget]).p_forget
        for others, prefix in (("strangers", ""), ("namesakes", "namesake ")):
            threshold = one_sided(found[f"{prefix}calibration"], alpha=ALPHA)
            rate = {
                part: bootstrap(np.mean, threshold.flags(found[part]).astype(float), clusters=parts[part][1], rng=0)
                for part in ("forget", f"{prefix}test")
            }
            auc = bootstrap(
                lambda a, b: roc_auc(a, b).value,
                found["forget"],
                found[f"{prefix}test"],
                clusters=[parts["forget"][1], parts[f"{prefix}test"][1]],
                n_draws=400,
                rng=0,
            )
            cells = [*map(shown, (auc, *rate.values())), f"{threshold.flags(trained).mean():.2f}"]
            print(f"| {name} | {spent:.0f} s | {others} | {' | '.join(cells)} |", flush=True)

    classifier = []
    spent = seconds(lambda: classifier.append(fit(encoder, training.texts, training.forget)))
    report("vectors, kernel logistic regression", spent, lambda texts: score(classifier[0], encoder, texts))
    for rate in rates:
        tuned: list[FineTuned] = []
        plan = FineTuning(learning_rate=rate, epochs=epochs)
        spent = seconds(
            lambda plan=plan, tuned=tuned: tuned.append(
                fine_tune(encoder.files.transformer, training, plan, device="cpu")
            )
        )
        report(f"fine-tuned, rate {rate:g}, {epochs} epochs", spent, tuned[0].scores)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recall", action="store_true")
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-5, 2e-4])
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world, encoder = build_world("small"), load_encoder(device="cpu")
    if arguments.recall:
        recall(world, encoder, arguments.rates, arguments.epochs)
    else:
        costs(world, encoder)


if __name__ == "__main__":
    main()
