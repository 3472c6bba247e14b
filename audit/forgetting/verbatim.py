r"""How much of the text's wording a model still holds: greedy continuation, extraction strength, exact memorisation.

    ROUGE-L F1   2 P R / (P + R), P = LCS / words written, R = LCS / words that follow (Lin 2004)
    ES           1 - k / n, k the smallest prefix after which all teacher-forced argmaxes are right, of n tokens
    EM           share of the n teacher-forced argmaxes that are right

Sources: greedy continuations as the verbatim criterion of MUSE (Shi et al. 2024, arXiv:2407.06460); ES and EM as
open-unlearning's code computes them. The 128 new tokens are common; the 64 given ones are ours, unsourced. Departures:
ES is 0, not 1/n, where the last argmax is wrong; ROUGE-L compares case-folded words of any script, where the package
rouge-score drops every letter outside a-z. On texts without such letters both give one number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from rapidfuzz.distance import LCSseq
from torch import Tensor

from ..errors import InputError, ModelError
from ..lm.generate import Sampling, generate
from ..lm.load import LanguageModel
from ..lm.tokens import encode, prefix_ids
from ..text.safe import quoted
from .continuing import check_room, text_after
from .measured import Measured
from .positions import read_positions
from .prompts import Passage
from .terms import words


@dataclass(frozen=True, slots=True)
class VerbatimPlan:
    """How passages are continued: ``n_prompt`` tokens are given, ``n_new`` written and compared with what follows."""

    n_prompt: int = 64
    n_new: int = 128

    def __post_init__(self) -> None:
        for name in ("n_prompt", "n_new"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more.")


def rouge_l(reference: str, candidate: str) -> float:
    """ROUGE-L F1 of two texts by their words, in [0, 1]; 0 where a side has no words.

    Worked: reference "the cat sat on the mat", candidate "the cat on a mat": LCS 4 (the cat on mat), P = 4/5, R = 4/6,
    F1 = 2 (4/5)(4/6) / (4/5 + 4/6) = 8/11.
    """
    theirs, ours = words(reference), words(candidate)
    if not theirs or not ours:
        return 0.0
    return 2 * LCSseq.similarity(theirs, ours) / (len(theirs) + len(ours))


class Continuation(NamedTuple):
    """What a model wrote after the start of a passage, and what stands there."""

    passage: str
    prompt: str
    written: str
    truth: str


class Continuations(NamedTuple):
    """All continuations, and ROUGE-L F1 of each."""

    written: tuple[Continuation, ...]
    rouge: Measured


def continue_greedily(
    lm: LanguageModel,
    passages: Sequence[Passage],
    *,
    plan: VerbatimPlan | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Continuations:
    """Greedy continuation of each passage's first tokens against what follows them.

    Args:
        lm: The model.
        passages: Those with fewer tokens than the plan asks for are left out, and said to be.
        plan: Lengths.
        on_done: Called with the number of passages finished.

    Raises:
        InputError: No passage is long enough, or the model's context is too short.
        ModelError: As `audit.lm.generate.generate`.
    """
    plan = plan or VerbatimPlan()
    needed = plan.n_prompt + plan.n_new
    if len(prefix_ids(lm)) + needed > lm.n_context:
        raise InputError(
            f"n_prompt is {plan.n_prompt:,} and n_new {plan.n_new:,}; the model holds {lm.n_context:,} tokens, its "
            "beginning-of-sequence token included. Lower n_prompt or n_new."
        )
    ids = dict(zip(passages, encode(lm, [passage.text for passage in passages]), strict=True))
    kept = [passage for passage in passages if len(ids[passage]) >= needed]
    if not kept:
        longest = max(map(len, ids.values()), default=0)
        raise InputError(
            f"no passage has {needed:,} tokens (the longest has {longest:,}). Give longer ones, or lower n_prompt and "
            "n_new."
        )
    stop = () if lm.tokenizer.eos_token_id is None else (int(lm.tokenizer.eos_token_id),)
    sampling = Sampling(max_new_tokens=plan.n_new, temperature=0.0, stop_ids=stop)
    starts = [ids[passage][: plan.n_prompt] for passage in kept]
    made = generate(lm, [prefix_ids(lm) + start for start in starts], sampling=sampling, seed=0, on_done=on_done)
    written = tuple(
        Continuation(
            passage.id,
            text_after(lm, [], start),
            text_after(lm, start, one.token_ids),
            text_after(lm, start, ids[passage][plan.n_prompt : needed]),
        )
        for passage, start, one in zip(kept, starts, made, strict=True)
    )
    left_out = {
        passage.id: f"{len(tokens):,} tokens, fewer than {needed:,}"
        for passage, tokens in ids.items()
        if len(tokens) < needed
    }
    names = tuple(passage.id for passage in kept)
    scores = np.array([rouge_l(one.truth, one.written) for one in written])
    return Continuations(written, Measured("ROUGE-L F1 of the greedy continuation", names, names, scores, left_out))


class Memorised(NamedTuple):
    """Both measures of the same teacher-forced pass."""

    extraction_strength: Measured
    exact: Measured


def memorised(lm: LanguageModel, passages: Sequence[Passage]) -> Memorised:
    """Extraction strength and exact memorisation of each passage, in [0, 1].

    All tokens of a passage are predicted after the beginning-of-sequence token; without one, all but the first.

    Args:
        lm: The model.
        passages: Each fits the model's context.

    Raises:
        InputError: There are no passages.
        DataError: A passage has no token to predict or does not fit.
        ModelError: As `argmax_hits`.
    """
    if not passages:
        raise InputError("there are no passages; expected at least one.")
    ids = encode(lm, [passage.text for passage in passages])
    check_room(lm, [f"passage {quoted(passage.id)}" for passage in passages], ids, least=1 if prefix_ids(lm) else 2)
    hits = argmax_hits(lm, ids)
    names = tuple(passage.id for passage in passages)
    strength = np.array([extraction_strength(one) for one in hits])
    exact = np.array([float(np.mean(one)) for one in hits])
    return Memorised(
        Measured("extraction strength", names, names, strength), Measured("exact memorisation", names, names, exact)
    )


def extraction_strength(hits: Sequence[bool]) -> float:
    """1 - k / n for whether each of n argmaxes is right.

    Worked: right, wrong, right, right: k = 2, so 1/2. All right: 1. The last one wrong: 0.

    Raises:
        InputError: There are none: nothing was predicted, so nothing was extracted.
    """
    if not len(hits):
        raise InputError("there is no predicted token, so no extraction strength; expected at least one.")
    wrong = np.flatnonzero(~np.asarray(hits, dtype=bool))
    return 1.0 if not len(wrong) else 1.0 - (int(wrong[-1]) + 1) / len(hits)


def argmax_hits(lm: LanguageModel, sequences: Sequence[Sequence[int]]) -> list[list[bool]]:
    """Whether the most probable token is the one that stands there, for every predicted token of each sequence.

    Raises:
        DataError, ModelError: As `positions.read_positions`; also where logits are not finite: a broken model's argmax
            is always wrong, which must not pass for forgetting.
    """
    first = -1 if prefix_ids(lm) else 0
    width = max((len(ids) for ids in sequences), default=0) + 1
    targets = torch.tensor([[*ids, *[-1] * (width - len(ids))] for ids in sequences])  # position p predicts p + 1

    def right(logits: Tensor, sequence: Tensor, position: Tensor) -> Tensor:
        wanted = targets.to(logits.device)[sequence, position + 1]
        hit = (logits.argmax(dim=1) == wanted).float()
        return hit.masked_fill(~logits.isfinite().all(dim=1), torch.nan)

    read = read_positions(lm, sequences, [first] * len(sequences), right)
    broken = [place for place, values in enumerate(read) if np.isnan(values).any()]
    if broken:
        raise ModelError(
            f"the model's logits are not finite in {len(broken):,} of {len(read):,} texts; its weights are broken, or "
            f"{lm.model.dtype} is too small for it. Try --dtype float32."
        )
    return [(values[:-1] > 0).tolist() for values in read]  # after the last token nothing stands
