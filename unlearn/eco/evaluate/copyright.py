r"""Does a system still write a protected text when it is given the beginning?

    ASG = mean over measures of | mean sim(system, source) - mean sim(gold, source) |       average similarity gap

The measures are ECO's (`similarity`). The formula is remembered from the paper and not in the authors' code: it could
not be checked. As an absolute value it is above 0 by chance where two systems are equally like the source, and so are
the draws behind its interval: look at each measure's signed difference beside it.

Also as there: perplexity of prompt and output under the model that knows the text, here the geometric mean over texts,
exp of the mean loss, since single perplexities are unbounded; and unique tokens / tokens of the output, which falls
where a system repeats itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from audit.answers.rows import QaRow
from audit.answers.systems import System
from audit.errors import InputError
from audit.forgetting.measured import Measured, joined, paired_bootstrap
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import encode, prefix_ids
from audit.matching.encode import Encoder
from audit.stats.checks import Floats, Seed
from audit.stats.estimate import Estimate

from .similarity import NAMES, similarities

MAX_NEW_TOKENS: Final = 256  # the authors'
ASG: Final = "average similarity gap (formula not confirmed)"
LOSS: Final = "loss of prompt and output, nats a token"
UNIQUE: Final = "unique tokens / tokens of the output"


@dataclass(frozen=True, slots=True)
class Continued:
    """What one system wrote.

    Attributes:
        written: Its continuation of each text.
        similar: One for each of `similarity.NAMES`.
        loss: Mean loss of prompt and output under the judging model, nats a token; what is longer than its context is
            left out.
        unique: Unique tokens / tokens of each output; empty ones are left out.
    """

    written: tuple[str, ...]
    similar: tuple[Measured, ...]
    loss: Measured
    unique: Measured

    def perplexity(self, *, rng: Seed, level: float = 0.95) -> Estimate:
        """exp of the mean loss, with the exponentials of its bounds."""
        mean = self.loss.mean(rng=rng, level=level)
        value, low, high = (None if one is None else math.exp(one) for one in (mean.value, mean.low, mean.high))
        return replace(mean, value=value, low=low, high=high, method=f"perplexity, geometric mean; {mean.method}")


def measure_continuations(
    system: System,
    rows: Sequence[QaRow],
    judge: LanguageModel,
    encoder: Encoder,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Continued:
    """Each text continued from its prompt, and compared with its answer, which is what follows in the source.

    Args:
        system: Who continues.
        rows: Beginnings and what follows; one or more, none without an answer.
        judge: Whose perplexity is taken: the model that was trained on the texts.
        encoder: For the cosine.
        max_new_tokens: Of each continuation.

    Raises:
        InputError: There are no rows, or one has no answer.
    """
    if not rows:
        raise InputError("there are no texts to continue; expected one or more.")
    written = system.answers([row.prompt for row in rows], max_new_tokens=max_new_tokens)
    scores = similarities([row.answer for row in rows], written, encoder)
    ids, homes = tuple(row.id for row in rows), tuple(row.cluster for row in rows)
    similar = tuple(Measured(name, ids, homes, one) for name, one in zip(NAMES, scores, strict=True))
    whole = encode(judge, [f"{row.prompt} {text}".rstrip() for row, text in zip(rows, written, strict=True)])
    room = judge.n_context - len(prefix_ids(judge))
    fits = [2 <= len(one) <= room for one in whole]
    scored = token_log_probs(
        judge, [one for one, is_fit in zip(whole, fits, strict=True) if is_fit], prefix=prefix_ids(judge)
    )
    tokens = encode(system.lm, written)
    return Continued(
        tuple(written),
        similar,
        _where(fits, rows, LOSS, [-one.log_probs.mean(dtype=np.float64) for one in scored],
               f"prompt and output are not 2 to {room:,} tokens"),
        _where([bool(one) for one in tokens], rows, UNIQUE, [len(set(one)) / len(one) for one in tokens if one],
               "nothing was written"),
    )  # fmt: skip


def _where(kept: Sequence[bool], rows: Sequence[QaRow], name: str, values: Sequence[float], why: str) -> Measured:
    """Values of the rows that are kept; the others are left out for one reason."""
    own = [row for row, is_kept in zip(rows, kept, strict=True) if is_kept]
    left_out = {row.id: why for row, is_kept in zip(rows, kept, strict=True) if not is_kept}
    homes = tuple(row.cluster for row in own)
    return Measured(name, tuple(row.id for row in own), homes, np.array(values, dtype=np.float64), left_out)


def similarity_gap(system: Continued, gold: Continued, *, rng: Seed, level: float = 0.95) -> Estimate:
    """ASG of a system against the model that never saw the texts; the same texts are drawn for both.

    Args:
        system: Its continuations.
        gold: The other's, of the same texts.
        rng: Seed or generator.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: The two have no text in common.
    """
    columns: list[Floats] = []
    for own, others in zip(system.similar, gold.similar, strict=True):
        (one, other), homes, note = joined([own, others])
        columns.append(one - other)

    def gap(*differences: Floats, axis: int = -1) -> Floats:
        return np.asarray(np.mean([np.abs(one.mean(axis=axis)) for one in differences], axis=0))

    return paired_bootstrap(gap, columns, homes, name=ASG, note=note, rng=rng, level=level)
