"""Finds names with a tagger: every entity of any kind that a token classifier of this machine marks.

Source: the authors' code of arXiv:2406.07933, which corrupts the entities that ``dslim/bert-base-NER`` finds in TOFU's
questions. Departures: a word is taken whole as soon as one of its tokens is marked, in any window that it stands in;
long texts are read in overlapping windows, where they are cut after 512 tokens; any local model will do.

Who is in the forget set makes no difference to a tagger: it marks every name, and its errors are those of the model.
`unlearn.eco.selection.NameMatcher` looks for a list instead; `unlearn.eco.selection.of_names` takes either.

A guard keeps its tagger in its own folder, in safetensors, with the SHA-256 of each file (`save_tagger`).
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from transformers import AutoModelForTokenClassification
from transformers.utils import logging as transformers_logging

from audit.errors import DataError, ModelError
from audit.lm.checkpoint import Fingerprint
from audit.testbed.tiny_lm import system_errors
from audit.text.files import make_folder, storage_errors
from audit.text.safe import quoted

from .heads import Head, file_hashes, load_head
from .selection import Span

OUTSIDE: Final = "O"
_REMEMBERED: Final = 4_096  # texts


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
        self._known: OrderedDict[bytes, list[Span]] = OrderedDict()

    @property
    def fingerprint(self) -> Fingerprint:
        return self._head.fingerprint

    def find(self, text: str) -> list[Span]:
        """Where entities stand in a text, by start; words beside each other with only white space between are one.

        What was found is remembered by a hash of the text: a search asks for the same prompts at each strength.
        """
        mark = sha256(text.encode("utf-8", "surrogatepass")).digest()
        if mark not in self._known:
            self._known[mark] = self.find_all([text])[0]
        self._known.move_to_end(mark)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return self._known[mark]

    def save(self, folder: str | Path) -> dict[str, str]:
        """Write the tagger into a folder, in place of what is there; the SHA-256 of each file.

        Raises:
            StorageError: The folder cannot be written.
        """
        where = Path(folder)
        with storage_errors(where, kept="no tagger is left there", doing="save the tagger in"), system_errors():
            if where.exists():
                shutil.rmtree(where)
            make_folder(where)
            transformers_logging.disable_progress_bar()
            self._head.model.save_pretrained(str(where))
            self._head.tokenizer.save_pretrained(str(where))
        return file_hashes(where)

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


def load_tagger(folder: str | Path, files: Mapping[str, str], *, device: str = "auto") -> Tagger:
    """Read what `Tagger.save` wrote; another tagger in its place is refused before it is loaded.

    Args:
        folder: Where it was written.
        files: The SHA-256 of each file that was written.
        device: As for `audit.lm.load`.

    Raises:
        DataError: It is missing, or another one.
        As `Tagger`.
    """
    where = Path(folder)
    found = file_hashes(where) if where.is_dir() else {}
    changed = sorted(name for name in {*found, *files} if found.get(name) != files.get(name))
    if changed or not files:
        what = f"{quoted(changed[0])} is not the file that was saved there" if found and changed else "there is none"
        raise DataError(
            f"{where} does not hold the tagger that the guard was fitted with: {what}. Restore it from a copy, or fit "
            "the guard again."
        )
    return Tagger(where, device=device)


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
