r"""Preference of refusals (IdkDPO of TOFU, arXiv:2401.06121; the loss is DPO's, arXiv:2305.18290, equation 7).

    loss = -2 / beta * E log sigmoid(beta * (log p(y_w | x) / p_0(y_w | x) - log p(y_l | x) / p_0(y_l | x)))

p_0 is the baseline, x a prompt from the forget text, y_l what follows there, y_w a refusal. The factor 2 / beta is
that of TOFU's and NPO's trainers; DPO itself has none. Departures: TOFU has questions and answers; running text is cut
in two here (`unlearn.baselines.config.Refusal.prompt`), while a row with labels is cut where its first label stands.
The refusals are this project's. As in `unlearn.baselines.npo` the loss is one of whole texts beside a retain term of
tokens, with what that does to their balance.

trl holds this loss inside a trainer that brings its own loop and data format; the one line that is needed stands here,
under the loop that all remedies share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from audit.errors import InputError
from audit.lm.tokens import encode
from audit.text.safe import quoted

from ..sequences import NO_LABEL, Labelled, checked
from ..training import Term
from .likelihood import log_probs, reference_log_probs, references
from .method import Method, Start, one


@dataclass(frozen=True, slots=True)
class Preference:
    """One prompt with a refusal and with what the forget text says.

    Attributes:
        chosen: Prompt and refusal; the refusal is labelled.
        rejected: Prompt and text; the text is labelled.
        reference: log p(chosen) - log p(rejected) under the baseline, nats.
    """

    chosen: Labelled
    rejected: Labelled
    reference: float

    @property
    def n_tokens(self) -> int:
        return self.chosen.n_tokens + self.rejected.n_tokens


def preference_loss(margin: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """-2 / beta * log sigmoid(beta * (margin - reference)) of each pair.

    Args:
        margin: log p(chosen) - log p(rejected) under the model, nats, shape (B,).
        reference: Under the baseline, shape (B,).
        beta: Inverse temperature, > 0.

    Returns:
        Shape (B,), above 0.
    """
    return -2 / beta * functional.logsigmoid(beta * (margin - reference))


def cut(row: Labelled, prompt: float) -> int:
    """Tokens of a row that are its prompt: all before the first label, or a share where every token has one."""
    first = int(np.flatnonzero(row.labels != NO_LABEL)[0])
    return first if first > 1 else min(max(1, round(prompt * row.n_tokens)), row.n_tokens - 1)


def answered(row: Labelled, n_prompt: int, refusal: Sequence[int]) -> tuple[Labelled, Labelled]:
    """(prompt and refusal, prompt and the row's own text), labels on what follows the prompt."""
    answer = np.asarray(refusal, dtype=np.int64)
    silent = np.full(n_prompt, NO_LABEL, dtype=np.int64)
    chosen = Labelled(np.concatenate([row.ids[:n_prompt], answer]), np.concatenate([silent, answer]))
    return chosen, Labelled(row.ids, np.concatenate([silent, row.labels[n_prompt:]]))


def pairs(start: Start) -> list[Preference]:
    """A pair for each row of the forget text that has a label after its prompt.

    Raises:
        InputError: A refusal has no token.
        DataError: A prompt and its refusal exceed the model's context.
    """
    own = start.plan.refusal
    refusals = encode(start.lm, own.texts)
    for text, ids in zip(own.texts, refusals, strict=True):
        if not ids:
            raise InputError(f"refusal: the text {quoted(text)} has no token in this model's vocabulary; leave it out.")
    drawn = np.random.default_rng([start.plan.seed, 2]).integers(len(refusals), size=len(start.forget))
    both = [
        answered(row, cut(row, own.prompt), refusals[which]) for row, which in zip(start.forget, drawn, strict=True)
    ]
    both = [(chosen, rejected) for chosen, rejected in both if rejected.n_labels]
    checked(start.lm, [chosen.ids.tolist() for chosen, _ in both], what="prompts with refusals")
    micro = start.plan.recipe.micro_tokens
    model = start.lm.model
    refused = reference_log_probs(model, [chosen for chosen, _ in both], micro_tokens=micro)
    told = reference_log_probs(model, [rejected for _, rejected in both], micro_tokens=micro)
    return [Preference(*pair, reference=left - right) for pair, left, right in zip(both, refused, told, strict=True)]


def terms(start: Start) -> list[Term[Any]]:
    beta = start.plan.refusal.beta

    def loss(model: Any, batch: Sequence[Preference]) -> Tensor:
        chosen = log_probs(model, [pair.chosen for pair in batch])
        margin = chosen - log_probs(model, [pair.rejected for pair in batch])
        return preference_loss(margin, references(batch, margin), beta=beta).sum()

    return [start.forget_term(pairs(start), loss, one)]


METHOD = Method("refusal", terms, retain=("mixed", "none", "kl"), settings="refusal")
