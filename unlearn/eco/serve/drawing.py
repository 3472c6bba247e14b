"""The next token of each row, with temperature, top p and a uniform number of its own.

As in `audit.lm.generate`: token v is drawn by inverting the cumulative distribution at u. Here each row has its own
settings, and so a row's token depends on its own logits and numbers alone. Departure from transformers: in the nucleus
(Holtzman et al. 2020, arXiv:1904.09751) the most probable token always stays, so that top p = 0 is greedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_MANY = 2**64


@dataclass(frozen=True, slots=True)
class Draw:
    """How a request's tokens are drawn.

    Attributes:
        max_new_tokens: At most so many, the end token included; None takes what the server and the context allow.
        temperature: Divides the logits; 0 takes the most probable token.
        top_p: Keep the smallest set of tokens with at least this probability, 0 to 1.
        seed: Any whole number; with ``index`` the key of the random numbers.
        index: Place of the prompt in its request.
        stop: The answer ends before any of these texts.
    """

    max_new_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    index: int = 0
    stop: tuple[str, ...] = ()

    def uniforms(self) -> np.random.Generator:
        """The request's own numbers, whatever shares the batch with it."""
        return np.random.Generator(np.random.Philox(key=np.array([self.seed % _MANY, self.index], dtype=np.uint64)))


def draw(logits: Tensor, draws: Sequence[Draw], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Token ids (B,), and whether each row's logits (B, V) were finite, (B,) bool; a token of another row says nothing.

    ``uniforms`` are numbers in [0, 1), one for each row.
    """
    top = logits.amax(dim=1, keepdim=True)  # nan where there is one
    fine = torch.isfinite(top[:, 0])
    tokens = logits.argmax(dim=1)
    rows = [row for row, one in enumerate(draws) if one.temperature > 0 and one.top_p > 0]
    if rows:
        place = torch.device("cpu") if logits.device.type == "mps" else logits.device  # mps knows no double precision
        chosen = torch.tensor(rows, device=logits.device)
        scaled = (logits[chosen] - top[chosen]).to(place).double()
        scaled /= _column([draws[row].temperature for row in rows], place)
        likely = scaled.softmax(dim=1)
        if any(draws[row].top_p < 1 for row in rows):
            likely = _nucleus(likely, _column([draws[row].top_p for row in rows], place))
        cumulative = likely.cumsum(dim=1)
        # The first token whose cumulative probability exceeds u; scaled by the total, which is not quite 1.
        goal = _column([uniforms[row] for row in rows], place) * cumulative[:, -1:]
        found = torch.searchsorted(cumulative, goal, right=True)[:, 0].clamp_max(logits.shape[1] - 1)
        tokens[chosen] = found.to(tokens.device)
    return tokens, fine


def _nucleus(likely: Tensor, top_p: Tensor) -> Tensor:
    """Probabilities (R, V) with 0 outside the nucleus of each row, top_p of shape (R, 1)."""
    ordered, places = likely.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(dim=1) - ordered
    outside = (before >= top_p) & (top_p < 1)
    outside[:, 0] = False
    return torch.zeros_like(likely).scatter(1, places, ordered.masked_fill(outside, 0.0))


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]
