r"""How much of a training text a generation holds, in n-grams, and BLEU of the two.

Counts of an n-gram g in the training text t and the generation y, which are sequences of words or of token ids:

    overlap_n(t, y) = sum_g min(t_g, y_g) / sum_g t_g                    share of t's n-grams, copies clipped
    BLEU(t, y) = min(1, exp(1 - |t| / |y|)) (p_1 p_2 p_3 p_4)^(1/4),     p_1 = sum_g min(t_g, y_g) / sum_g y_g,
    p_n = (1 + sum_g min(t_g, y_g)) / (1 + sum_g y_g) for n = 2, 3, 4.

Sources: BLEU-4, Papineni et al. 2002; the added ones, which keep a pair without a common 4-gram from 0, Lin & Och 2004;
BLEU > 0.75 as a bound for approximate memorisation, Ippolito et al. 2023 (arXiv:2210.17546). The best overlap of k
generations for n = 1, 2, 3 is credited by the specification, section 5, to a later version of the extraction paper;
its definition could not be read, so the one above is ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

from ..errors import InputError
from ..stats.checks import count

APPROXIMATE: Final = 0.75  # BLEU above which a pair counts as approximately memorised
_ORDERS: Final = 4


def ngram_overlap(training: Sequence[Hashable], generation: Sequence[Hashable], n: int) -> float | None:
    """Share of the training text's n-grams that the generation holds, in [0, 1]; None if it has none.

    Args:
        training: Words or token ids; text without splitting is a sequence of characters.
        generation: The same.
        n: 1 or more.

    Raises:
        InputError: ``n`` is no whole number of 1 or more.
    """
    theirs = _grams(training, count(n, "n", least=1))
    if not theirs:
        return None
    return (theirs & _grams(generation, n)).total() / theirs.total()


def bleu(training: Sequence[Hashable], generation: Sequence[Hashable]) -> float:
    """BLEU-4 of a generation against a training text, in [0, 1]; 1 only if they are equal in all n-grams and length.

    Args:
        training: Words or token ids, the reference.
        generation: The same, the candidate.

    Raises:
        InputError: A side is empty.
    """
    for name, side in (("training", training), ("generation", generation)):
        if not len(side):
            raise InputError(f"the {name} text has no tokens; expected one or more. Drop empty texts first.")
    logs = 0.0
    for n in range(1, _ORDERS + 1):
        ours = _grams(generation, n)
        added = int(n > 1)
        shared = (ours & _grams(training, n)).total() + added
        if not shared:
            return 0.0
        logs += math.log(shared / (ours.total() + added))
    brevity = min(0.0, 1 - len(training) / len(generation))
    return math.exp(brevity + logs / _ORDERS)


def _grams(tokens: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))
