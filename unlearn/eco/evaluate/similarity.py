"""How like two texts are, by four measures, each from 0 (nothing) to 1 (the same), the cosine from -1.

Source: the authors' code of ECO takes ROUGE-L, SacreBLEU, METEOR and BERTScore. Departures: METEOR in its stages
"exact" and "stem" alone, because WordNet's synonyms are a download; the cosine of a local sentence encoder in place of
BERTScore, for the same reason. Numbers of these two are not the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from nltk.translate.meteor_score import single_meteor_score
from sacrebleu import sentence_bleu

from audit.errors import InputError
from audit.forgetting.terms import words
from audit.forgetting.verbatim import rouge_l
from audit.matching.encode import Encoder
from audit.stats.checks import Floats

NAMES: Final = ("ROUGE-L F1", "BLEU (sacrebleu)", "METEOR (exact and stem)", "cosine of sentence vectors")


class _NoSynonyms:
    """In place of WordNet: no word has one."""

    def synsets(self, word: str) -> list[object]:
        return []


def similarities(sources: Sequence[str], written: Sequence[str], encoder: Encoder) -> Floats:
    """Each of `NAMES` for each pair, shape (4, n); 0 where nothing was written.

    Args:
        sources: The texts themselves, none blank.
        written: What a system wrote in their place.
        encoder: Reads the first ``encoder.n_context`` tokens of a text.

    Raises:
        InputError: The numbers of texts differ, or a source is blank.
    """
    if len(sources) != len(written):
        raise InputError(f"there are {len(written)} written texts for {len(sources)} sources; expected one for each.")
    for place, source in enumerate(sources):
        if not source.strip():
            raise InputError(f"source text {place} is blank; expected the text that follows the prompt.")
    found = np.zeros((len(NAMES), len(sources)))
    kept = [place for place, text in enumerate(written) if text.strip()]
    for place in kept:
        source, text = sources[place], written[place]
        found[:3, place] = rouge_l(source, text), sentence_bleu(text, [source]).score / 100, meteor(source, text)
    if kept:
        vectors = encoder.encode([sources[place] for place in kept] + [written[place] for place in kept]).vectors
        found[3, kept] = (vectors[: len(kept)] * vectors[len(kept) :]).sum(axis=1)
    return found


def meteor(source: str, text: str) -> float:
    """METEOR (Lavie & Agarwal 2007) by words and their stems, through nltk, alpha 0.9, beta 3, gamma 0.5.

    Worked: source "the cats sat", text "the cat sat": all three match (cat by its stem) in one chunk, so
    F = 1 and the penalty is 0.5 (1/3)^3: 1 - 1/54.
    """
    return float(single_meteor_score(words(source), words(text), wordnet=_NoSynonyms()))
