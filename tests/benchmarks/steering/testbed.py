"""The testbed's two attributes of style."""

from __future__ import annotations

import numpy as np

from audit.testbed.styles import PRESENT
from audit.testbed.world import World

from .study import Data

NEUTRAL, JUDGED = 80, 200  # held-out stories: for perplexity, for the judges
INSTRUCTION = {"mood": "Write cheerfully.", "register": "Write as you would talk to a friend."}


def data(world: World, attribute: str, n_prompts: int) -> Data:
    own = [text for text in world.style_texts if text.attribute == attribute]

    def texts(split: str, present: bool) -> list[str]:
        return [text.text for text in own if text.split == split and text.present is present]

    def draw(n: int, seed: int) -> tuple[list[str], list[str]]:
        rng = np.random.default_rng([seed, 401])
        sides = [texts("train", present) for present in (False, True)]
        source, target = ([side[place] for place in rng.permutation(len(side))[:n]] for side in sides)
        return source, target

    stories = [one.text for one in world.documents if one.split == "heldout" and one.kind == "story"]
    neutral, other = stories[:NEUTRAL], stories[NEUTRAL : NEUTRAL + JUDGED]
    judged = [(text, present) for present in (False, True) for text in texts("judge", present)]
    judged += [(text, False) for text in other]
    assert attribute in PRESENT
    return Data(
        attribute,
        draw,
        texts("test", False)[:n_prompts],
        [text for text, _ in judged],
        [present for _, present in judged],
        {"neutral": neutral, "target": texts("test", True)},
        INSTRUCTION[attribute],
    )
