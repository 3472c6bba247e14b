"""Sad and happy sentences of TinyStories, for a real checkpoint that its author trained on such stories."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from unlearn.lineas.evaluate.judge_texts import normalised

from .study import Data

SAD = re.compile(r"\b(sad|cried|cry|crying|tears|lonely|unhappy|upset|hurt|lost|scared|afraid|sorry)\b", re.IGNORECASE)
HAPPY = re.compile(
    r"\b(happy|happily|smile[ds]?|smiling|laugh(?:ed|ing)?|joy|proud|glad|fun|excited|love[ds]?|hug(?:ged)?)\b",
    re.IGNORECASE,
)
_STORY = re.compile(r"\n\n(?=(?:Once upon a time|One day)\b)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
WORDS = (6, 30)  # of a sentence
NEUTRAL, TARGET, JUDGED = 120, 120, 400  # texts; JUDGED twice of each side


def sentences(stories: list[str]) -> dict[str, list[str]]:
    """Sentences by side, each once: "sad", "happy", or "neither"."""
    found: dict[str, list[str]] = {"sad": [], "happy": [], "neither": []}
    for story in stories:
        for one in _SENTENCE.split(story.replace("\n", " ")):
            one = one.strip()
            if not WORDS[0] <= len(one.split()) <= WORDS[1] or not one.isascii():
                continue
            sad, happy = bool(SAD.search(one)), bool(HAPPY.search(one))
            if not (sad and happy):
                found["sad" if sad else "happy" if happy else "neither"].append(one)
    return {side: list(dict.fromkeys(listed)) for side, listed in found.items()}


def data(corpora: Path, n_prompts: int) -> Data:
    folder = corpora / "tinystories"
    train = [
        json.loads(line)["text"] for line in (folder / "train_1000.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    steer, judge = sentences(train[:500]), sentences(train[500:])
    valid = _STORY.split((folder / "valid.txt").read_text(encoding="utf-8"))
    held = sentences(valid)
    known = {normalised(one) for side in steer.values() for one in side}
    prompts = []
    for story in valid:
        parts = _SENTENCE.split(story.replace("\n", " ").strip())
        place = next((number for number, one in enumerate(parts[:8]) if SAD.search(one)), None)
        if place and story.isascii() and not any(HAPPY.search(one) for one in parts[:place]):
            prompts.append(" ".join(parts[: place + 1]))

    def draw(n: int, seed: int) -> tuple[list[str], list[str]]:
        rng = np.random.default_rng([seed, 402])
        source, target = (
            [steer[side][place] for place in rng.permutation(len(steer[side]))[:n]] for side in ("sad", "happy")
        )
        return source, target

    judged = [
        (one, side == "happy") for side, listed in judge.items() for one in listed if normalised(one) not in known
    ]
    judged = [pair for happy in (False, True) for pair in [one for one in judged if one[1] is happy][: 2 * JUDGED]]
    seen = {normalised(one) for one, _ in judged} | known
    fresh = {side: [one for one in listed if normalised(one) not in seen] for side, listed in held.items()}
    return Data(
        "stories",
        draw,
        list(dict.fromkeys(prompts))[:n_prompts],
        [one for one, _ in judged],
        [happy for _, happy in judged],
        {"neutral": fresh["neither"][:NEUTRAL], "target": fresh["happy"][:TARGET]},
        "A happy story.",
    )
