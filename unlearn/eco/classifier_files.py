"""A saved classifier of either kind, told apart by the "kind" of its record; a record without one is logistic."""

from __future__ import annotations

from pathlib import Path

from audit.runs.records import read_json

from .classifier import RECORD, PromptClassifier, load_classifier
from .finetuned import KIND, FineTuned, load_fine_tuned


def load_any_classifier(folder: str | Path, *, device: str = "auto") -> PromptClassifier | FineTuned:
    """What `unlearn.eco.classifier.save` or `unlearn.eco.finetuned.save_fine_tuned` wrote; ``device`` for the latter.

    Raises:
        IncompleteRunError: There is no classifier in the folder.
        DataError: As the two loaders.
        InputError: No such device.
    """
    record = read_json(
        Path(folder) / RECORD, missing=f"{folder} holds no {RECORD}. Fit a classifier and save it there."
    )
    if isinstance(record, dict) and record.get("kind") == KIND:
        return load_fine_tuned(folder, device=device)
    return load_classifier(folder)
