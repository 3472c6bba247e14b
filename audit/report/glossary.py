"""Words of statistics that a report uses, each with one sentence on how to read its number."""

from __future__ import annotations

import re
from typing import Final

# Pattern in names, methods and claims -> the term and how to read it, in the order in which they are told.
_TERMS: Final = (
    (r"\bAUC|\bauc(?:\b|_)", "AUC", "The chance that a random item of the one kind scores above a random one of the "
     "other: 0.5 tells nothing, 1 tells them apart without fail."),
    (r"\bTPR|\btpr_", "TPR at a false-positive rate (FPR)", "The share that is found when at most so many of the "
     "others are flagged by mistake; no better than that rate is chance."),
    (r"rank", "Rank p-value", "Where one planted item ranks among controls of the same draw; small means that hardly "
     "any control scores as high."),
    (r"\bHolm|_holm\b", "Holm", "A correction for several tests: p-values are made larger so that any false alarm "
     "among them stays as rare as in one test."),
    (r"Benjamini", "Benjamini-Hochberg", "A correction that bounds the expected share of false alarms among what "
     "stands out."),
    (r"bootstrap", "Bootstrap", "An interval made by drawing the items anew from themselves many times."),
    (r"[Pp]ermutation|[Rr]e-?dealing|redraws?|[Rr]e-draws", "Permutation", "A p-value made by dealing the items anew "
     "at random many times and counting how often the result is as strong."),
    (r"\bgold", "Gold", "A model that was trained alike, but without what was to be forgotten: what a remedy "
     "is measured against."),
    (r"residual", "Residual r", "What is left of the lead that the model had before the remedy: 0 is as a model that "
     "never learnt it, 1 as before; below 0 is less than never learnt."),
    (r"nats?\b", "nats", "Units of log-probability: one nat more of loss makes a text e (2.72) times less probable, "
     "a token at a time."),
    (r"[Pp]erplexity", "Perplexity", "How many words the model hesitates between, on average; larger is less sure."),
    (r"[Cc]osine", "Cosine", "How alike two texts are by their embeddings: 1 is the same direction, 0 is unrelated."),
    (r"[Ll]evenshtein", "Levenshtein similarity", "How alike two texts are by letters: 1 is the same, 0 shares "
     "nothing."),
    (r"ROUGE|\brouge", "ROUGE-L", "The longest run of words in order that two texts share, from 0 to 1."),
    (r"\bMC1|\bMC2", "MC1, MC2", "TruthfulQA: the share of questions whose best answer is likeliest, and the share of "
     "probability on true answers."),
    (r"Wasserstein", "Wasserstein distance", "How far one distribution must be moved to become the other; 0 is the "
     "same."),
    (r"[Cc]onformal", "Conformal threshold", "A threshold set on calibration items so that the promised rate of "
     "mistakes holds on average over their draw."),
    (r"Truth ratio|truth_ratio", "Truth ratio", "How probable wrong answers are beside a right one in other words."),
)  # fmt: skip


def terms_in(text: str) -> tuple[tuple[str, str], ...]:
    """The terms that occur in ``text``, each with its sentence."""
    return tuple((term, meaning) for pattern, term, meaning in _TERMS if re.search(pattern, text))
