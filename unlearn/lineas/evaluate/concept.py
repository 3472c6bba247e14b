"""Does steering bring a concept about? The share of continuations of one opening that show it.

Source: LinEAS (arXiv:2503.10679): 50 target sentences of a concept, 200 continuations of "Once upon a time", decoding
of its code, which is 50 new tokens, top_p 0.6 and no repetition penalty. Departure: the paper's judge is a language
model; here it is a trained judge or a list of words (`judges`, `judge_words`), so that rates are not the paper's.

One opening gives one rate: what was drawn are the continuations, and so they are the units.
"""

from __future__ import annotations

from typing import Final

from audit.lm.generate import Sampling
from audit.lm.load import LanguageModel

from ..arms import Arm
from .rate import Continuations, continue_prompts

OPENING: Final = "Once upon a time"
DECODING: Final = Sampling(max_new_tokens=50, temperature=1.0, top_p=0.6)


def continue_opening(
    lm: LanguageModel,
    arm: Arm,
    strength: float,
    *,
    opening: str = OPENING,
    n: int = 200,
    sampling: Sampling = DECODING,
    seed: int = 0,
) -> Continuations:
    """``n`` continuations of one opening, which `rate.attribute_rate` judges; arguments as `rate.continue_prompts`."""
    return continue_prompts(lm, arm, strength, [opening] * n, sampling=sampling, seeds=(seed,))
