"""A tiny random model, maps that change what it says, and judges and measures that are told what to give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, RobertaForSequenceClassification

from audit.lm.load import LanguageModel
from tests.forgetting.small_models import small_model
from tests.unlearn.eco.small_encoders import SHAPE, byte_tokenizer
from unlearn.lineas.arms import Arm
from unlearn.lineas.evaluate.perplexity import TextLosses
from unlearn.lineas.evaluate.points import Point
from unlearn.lineas.evaluate.rate import Continuations
from unlearn.lineas.maps import AffineMap
from unlearn.lineas.sites import find_sites

PROMPTS = ("the cat sat", "a dog ran over", "the hill", "the mat and the dog")
TEXTS = ("the dog sat on the mat and ran", "the cat ran over the hill", "on the hill the dog and the cat sat")


def model_and_arm(folder: Path) -> tuple[LanguageModel, Arm]:
    lm = small_model(folder)
    generator = torch.Generator().manual_seed(0)
    maps = {
        site.name: AffineMap(
            1 + torch.randn(site.width, generator=generator), 0.5 * torch.randn(site.width, generator=generator)
        )
        for site in find_sites(lm, "norms")
    }
    return lm, Arm("ours", maps)


class Told:
    """A judge that is told by a function of the text."""

    def __init__(self, rule: Callable[[str], bool], name: str = "told") -> None:
        self._rule, self.name = rule, name

    def flags(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([self._rule(text) for text in texts], dtype=np.bool_)

    def to_record(self) -> dict[str, Any]:
        return {"name": self.name}


HAS_X = Told(lambda text: "x" in text)


def losses(arm: str, strength: float, values: Sequence[float], *, name: str = "neutral") -> TextLosses:
    """Texts of 10 tokens with these mean losses."""
    sums = 10 * np.asarray(values, dtype=np.float64)
    tens = np.full(len(sums), 10.0)
    return TextLosses(name, arm, strength, tuple(map(str, range(len(sums)))), sums, tens, sums, tens)


def point(
    arm: str,
    strength: float,
    shown: Sequence[bool],
    mean_loss: float | Sequence[float],
    *,
    scaled: bool = True,
    prefix: str = "prompt",
) -> Point:
    """A point whose continuations hold an x where the attribute is shown."""
    texts = tuple("x" if one else "o" for one in shown)
    prompts = tuple(f"{prefix} {place}" for place in range(len(texts)))
    values = [mean_loss] * 3 if isinstance(mean_loss, float) else mean_loss
    written = Continuations(arm, strength, prompts, (0,), (texts,))
    return Point(arm, strength, scaled, written, {"neutral": losses(arm, strength, values)})


def build_classifier(folder: Path, texts: Sequence[str]) -> Path:
    """A random RoBERTa that calls texts "neutral" or "toxic", as one of them is saved."""
    torch.manual_seed(1)
    tokenizer = byte_tokenizer(texts, window=64)
    config = AutoConfig.for_model(
        "roberta", vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1, num_labels=2,
        id2label={0: "neutral", 1: "toxic"}, **SHAPE,
    )  # fmt: skip
    model = RobertaForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.mul_(20)  # so that texts differ in their class
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
