"""Does steering bring a concept about? The share of continuations of one opening that show it.

Source: LinEAS (arXiv:2503.10679): 50 target sentences of a concept, 200 continuations of "Once upon a time", decoding
of its code, which is 50 new tokens, top_p 0.6 and no repetition penalty. Departure: the paper's judge is a language
model; here it is a list of words for each concept (`judge_words`), so that rates are not the paper's.

One opening gives one rate: what was drawn are the continuations, and so they are the units. Several concepts are
counted one by one, and together: either of them, and all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from audit.errors import InputError
from audit.text.safe import quoted

from .judge_words import Joined, WordList
from .judges import Judge


def concept_judges(concepts: Sequence[Sequence[str]]) -> list[Judge]:
    """A judge for each concept, called by its first word; of two or more also of any and of all of them.

    Args:
        concepts: Of each its words.

    Raises:
        InputError: Two concepts have the same first word, or as `WordList`.
    """
    judges: list[Judge] = [WordList(listed[0] if listed else "", listed) for listed in concepts]
    names = [judge.name for judge in judges]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two concepts begin with the same word, {quoted(name)}; begin each with its own.")
    if len(judges) > 1:
        judges += [Joined("either", tuple(judges)), Joined("both", tuple(judges))]
    return judges
