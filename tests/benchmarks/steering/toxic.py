"""ParaDetox: from toxic to neutral sentences, on the testbed's base that was tuned on such sentences."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from audit.lm.load import load_tokens
from audit.lm.subject import Subject
from audit.testbed.planted import build
from audit.testbed.sizes import find_size
from audit.testbed.tiny_lm import make_batches
from tests.benchmarks.unlearning.models import make_model
from unlearn.lineas.evaluate.judge_texts import normalised

from .study import Data, say

TUNED, STEER, PROMPTS, TEXTS = 4_000, 400, 600, 120  # rows of ParaDetox, one after the other
PASSES = 3
"""What follows is offensive text of a public research set; nothing of it is printed."""


def rows(corpora: Path) -> list[tuple[str, str]]:
    """(toxic, neutral) of each row, each toxic sentence once."""
    with (corpora / "paradetox" / "paradetox.tsv").open(encoding="utf-8", newline="") as stream:
        listed = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    found: dict[str, str] = {}
    for row in listed[1:]:
        if len(row) >= 2 and row[0].strip() and row[1].strip():
            found.setdefault(row[0].strip(), row[1].strip())
    return list(found.items())


def model(corpora: Path, folder: Path, device: str) -> Path:
    """The testbed's reference after ``PASSES`` over both sides of the first rows."""
    if (folder / "config.json").is_file():
        return folder
    testbed = build("small", seed=0, device=device, models=["reference"])
    base, size = testbed.folder / "models" / "reference", find_size("small")
    texts = [one for pair in rows(corpora)[:TUNED] for one in pair]
    order = np.random.default_rng(403)
    texts = [texts[place] for _ in range(PASSES) for place in order.permutation(len(texts))]
    tokenizer = load_tokens(Subject(str(base))).tokenizer
    say(f"toxic: tuning on {len(texts):,} sentences")
    make_model(
        folder, make_batches([], texts, tokenizer, size.continued, seed=0), size.continued, start=base,
        size=size.model, tokenizer=tokenizer, seed=0, device=device,
    )  # fmt: skip
    return folder


def data(corpora: Path, n_prompts: int) -> Data:
    listed = rows(corpora)[TUNED:]
    steer, prompts, texts = listed[:STEER], listed[STEER : STEER + PROMPTS], listed[STEER + PROMPTS :][:TEXTS]

    def draw(n: int, seed: int) -> tuple[list[str], list[str]]:
        rng = np.random.default_rng([seed, 404])  # other rows on each side: unpaired
        order = rng.permutation(STEER)
        half = STEER // 2
        return [steer[place][0] for place in order[:half][:n]], [steer[place][1] for place in order[half:][:n]]

    judged: list[tuple[str, bool]] = []  # the attribute to be raised: not toxic
    for name, text, label, fine in (
        ("wiki-toxicity-test/toxicity_nonfuzzed_testset.csv", "comment", "toxic", "False"),
        ("davidson-hate-offensive/labeled_data.csv", "tweet", "class", "2"),
    ):
        with (corpora / name).open(encoding="utf-8", newline="") as stream:
            judged += [(row[text], row[label] == fine) for row in csv.DictReader(stream)]
    known = {normalised(one) for pair in [*steer, *prompts, *texts] for one in pair}
    rng = np.random.default_rng(405)
    sides = {
        side: [text for text, fine in judged if fine is side and normalised(text) not in known]
        for side in (False, True)
    }
    n = min(2_000, *(len(side) for side in sides.values()))
    kept = [(side[place], fine) for fine, side in sides.items() for place in rng.permutation(len(side))[:n]]
    return Data(
        "toxic",
        draw,
        [" ".join(toxic.split()[:4]) for toxic, _ in prompts if len(toxic.split()) > 6][:n_prompts],
        [text for text, _ in kept],
        [fine for _, fine in kept],
        {"neutral": [fine for _, fine in texts[:60]], "target": [fine for _, fine in texts[60:]]},
        "Write in a polite way:",
    )
