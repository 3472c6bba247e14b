"""Finds names with a tagger: every entity of any kind that a token classifier of this machine marks.

Source: the authors' code of arXiv:2406.07933, which corrupts the entities that ``dslim/bert-base-NER`` finds in TOFU's
questions. Departures: a word is taken whole as soon as one of its tokens is marked, in any window that it stands in;
long texts are read in overlapping windows, where they are cut after 512 tokens; any local model will do.

Who is in the forget set makes no difference to a tagger: it marks every name, and its errors are those of the model.
`unlearn.eco.selection.NameMatcher` looks for a list instead; `unlearn.eco.selection.of_names` takes either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoModelForTokenClassification

from audit.errors import ModelError
from audit.lm.checkpoint import Fingerprint

from .heads import Head, load_head
from .selection import Span

OUTSIDE = "O"


class Tagger:
    """A token classifier as a finder of names.

    Args:
        folder: Local folder of a transformers model with a token-classification head, in safetensors.
        device: As for `audit.lm.load`.
        outside: Its label of tokens that belong to no entity; every other label marks one.

    Raises:
        InputError: No such folder or device.
        ModelError: As `unlearn.eco.heads.load_head`, or the model has no such label, or no other one.
    """

    def __init__(self, folder: str | Path, *, device: str = "auto", outside: str = OUTSIDE) -> None:
        self._head: Head = load_head(folder, AutoModelForTokenClassification, device=device)
        labels = self._head.model.config.id2label
        self._outside = [int(place) for place, label in labels.items() if label == outside]
        if len(self._outside) != 1 or len(labels) < 2:
            raise ModelError(
                f"{folder} has the labels {', '.join(map(repr, labels.values()))[:200]}; expected {outside!r} once, "
                "for tokens of no entity, and others. Give the folder of a tagger, or name that label."
            )

    @property
    def fingerprint(self) -> Fingerprint:
        return self._head.fingerprint

    def find(self, text: str) -> list[Span]:
        """Where entities stand in a text, by start; words beside each other with only white space between are one."""
        return self.find_all([text])[0]

    def find_all(self, texts: Sequence[str]) -> list[list[Span]]:
        """As `find`, all texts in batches.

        Raises:
            InputError: A text is no string or holds half of a surrogate pair, or memory runs out.
        """
        windows = self._head.windows(texts)
        words: list[dict[int, Span]] = [{} for _ in texts]  # of each text, all of its words by number
        marked: list[set[int]] = [set() for _ in texts]
        for window, logits in zip(windows, self._head.logits(windows), strict=True):
            is_entity = (logits.argmax(dim=1) != self._outside[0]).tolist()  # (T,)
            own = words[window.owner]
            for word, (start, end), hit in zip(window.words, window.offsets, is_entity, strict=True):
                if word is None:
                    continue
                known = own.get(word, Span(start, end))
                own[word] = Span(min(known.start, start), max(known.end, end))
                if hit:
                    marked[window.owner].add(word)
        return [
            _joined(text, [one[word] for word in sorted(hits)])
            for text, one, hits in zip(texts, words, marked, strict=True)
        ]


def _joined(text: str, spans: Sequence[Span]) -> list[Span]:
    """Spans without white space at their ends, those with only white space between them as one."""
    found: list[Span] = []
    for start, end in spans:
        piece = text[start:end]
        start, end = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
        if start >= end:
            continue
        if found and not text[found[-1].end : start].strip():
            found[-1] = Span(found[-1].start, end)
        else:
            found.append(Span(start, end))
    return found
