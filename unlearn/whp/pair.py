"""A baseline and its reinforced model, ready to be compared."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from audit.errors import InputError, ModelError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject

from ..lora import open_twin


@dataclass(frozen=True, slots=True)
class Pair:
    """A baseline and its reinforced model, both in memory or as an adapter twin.

    Attributes:
        baseline: Read within ``off``.
        reinforced: The same object in a twin.
        off: A context in which ``baseline`` is the baseline.
    """

    baseline: LanguageModel
    reinforced: LanguageModel
    off: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    @property
    def is_twin(self) -> bool:
        return self.baseline is self.reinforced

    def to_record(self) -> dict[str, Any]:
        """Fingerprints and dtypes: what of the models determines the labels."""
        named = {"baseline": self.baseline, "reinforced": self.reinforced}
        record: dict[str, Any] = {
            name: {**lm.fingerprint.to_record(), "dtype": str(lm.model.dtype)} for name, lm in named.items()
        }
        return record | {"twin": self.is_twin}


def open_pair(subject: Subject, reinforced: Subject) -> Pair:
    """Load a baseline and its reinforced model: one set of weights where the second is an adapter over the first.

    Two sets are read in one dtype, float32 where it is left open: a baseline of a file in half precision beside a
    reinforced model that was saved in float32 would differ from it by the rounding alone.

    Raises:
        InputError: The baseline has an adapter, or the second is an adapter over another model.
        ModelError: The two do not share vocabulary and tokenizer, or an adapter does not fit.
    """
    if subject.adapter is not None:
        raise InputError(f"the baseline {subject.model} has an adapter; merge the two first (unlearn.lora.merge).")
    if reinforced.adapter is not None:
        if dataclasses.replace(reinforced, adapter=None) != subject:
            raise InputError(
                f"the reinforced model is an adapter over {reinforced.model} ({reinforced.dtype}, {reinforced.device}),"
                f" the baseline is {subject.model} ({subject.dtype}, {subject.device}); a twin shares one model. Give "
                "both the same."
            )
        twin = open_twin(reinforced)
        return Pair(twin.lm, twin.lm, twin.off)
    dtype = "float32" if subject.dtype == "auto" else subject.dtype
    both = [load(dataclasses.replace(one, dtype=dtype)) for one in (subject, reinforced)]
    pair = Pair(both[0], both[1])
    rows = pair.baseline.n_vocabulary, pair.reinforced.n_vocabulary
    if rows[0] != rows[1] or pair.baseline.tokenizer.get_vocab() != pair.reinforced.tokenizer.get_vocab():
        raise ModelError(
            f"{reinforced.model} does not share the vocabulary of {subject.model} ({rows[1]:,} and {rows[0]:,} "
            "embedding rows), so their logits cannot be compared. Give the model that was reinforced from it."
        )
    return pair
