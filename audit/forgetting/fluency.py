r"""Whether a model still writes: repetition, and how strange its completions are to another model.

    repetition = 1 - distinct n-grams / n-grams     of a completion's words (Welleck et al. 2020, arXiv:1908.04319)

A model that was broken rather than taught to forget repeats itself, or writes what no other model expects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..lm.load import LanguageModel
from ..lm.logprobs import token_log_probs
from ..lm.tokens import prefix_ids
from ..stats.checks import count
from ..text.safe import quoted
from .completion import Completion, prompts_of
from .continuing import check_room, continued
from .measured import Measured
from .prompts import Prompt
from .terms import words


def repetition(text: str, *, n: int = 4) -> float | None:
    """Share of repeated n-grams of words, in [0, 1); None where the text has fewer than n words.

    Worked, n = 2: "on and on and on" has on-and, and-on, on-and, and-on: 1 - 2/4 = 1/2.

    Raises:
        InputError: ``n`` is below 1.
    """
    listed = words(text)
    grams = list(zip(*(listed[start:] for start in range(count(n, "n", least=1))), strict=False))
    return 1.0 - len(set(grams)) / len(grams) if grams else None


def repetitions(completions: Sequence[Completion], *, n: int = 4) -> Measured:
    """Repetition of each completion; those with fewer than n words are left out."""
    found = {_name(one): (one.passage, repetition(one.text, n=n)) for one in completions}
    left_out = {name: f"fewer than {n} words" for name, (_, value) in found.items() if value is None}
    kept = {name: (passage, value) for name, (passage, value) in found.items() if value is not None}
    return Measured(
        f"repeated {n}-grams",
        tuple(kept),
        tuple(passage for passage, _ in kept.values()),
        np.array([value for _, value in kept.values()]),
        left_out,
    )


def completion_losses(judge: LanguageModel, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Measured:
    """Mean loss of each completion after its prompt under another model, in nats per token of that model.

    Args:
        judge: The other model: a reference that is not itself compared, because a model finds its own text likely.
        prompts: What was continued.
        completions: Empty ones are left out.

    Raises:
        InputError: A completion's prompt is not among ``prompts``, or none has any text.
        DataError, ModelError: As `audit.lm.logprobs.token_log_probs`.
    """
    by_id = prompts_of(prompts, completions)
    whole = continued(judge, [by_id[one.prompt_id].text for one in completions], [one.text for one in completions])
    kept = [place for place, one in enumerate(whole) if one.n_before < len(one.ids)]
    if not kept:
        raise InputError(f"none of the {len(completions):,} completions has any text; expected at least one.")
    ids = [whole[place].ids for place in kept]
    check_room(judge, [f"completion {quoted(_name(completions[place]))} with its prompt" for place in kept], ids)
    scores = token_log_probs(
        judge,
        ids,
        prefix=prefix_ids(judge),
        n_unscored=[whole[place].n_before for place in kept],
    )
    empty = set(range(len(completions))) - set(kept)
    return Measured(
        "loss of completions under another model",
        tuple(_name(completions[place]) for place in kept),
        tuple(completions[place].passage for place in kept),
        np.array([-float(score.log_probs.mean(dtype=np.float64)) for score in scores]),
        {_name(completions[place]): "it is empty" for place in sorted(empty)},
    )


def _name(completion: Completion) -> str:
    return f"{completion.prompt_id}#{completion.sample}"
