r"""A guard in front of a frozen model: flagged prompts reach it corrupted, others to the bit as they are.

    e~ = COR(e; sigma)  where the prompt is about what must be forgotten, else  e~ = e          (arXiv:2406.07933)

The weights keep what they know: whoever has them, or may send embeddings, is not held back. What a guard protects is a
door, and only for prompts that its classifier knows for what they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.answers.formats import Encoded, Prompt, PromptFormat
from audit.answers.systems import Bare, Flagged, Judged, Prepared, Scope
from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.text.safe import did_you_mean, quoted

from .corruptions import Corruption, corrupt, noise_seed
from .hook import Corrupted, corrupted
from .judge import Judge
from .selection import Finder, of_names
from .turns import Turn, Verdict

Selection = Literal["all", "names", "tagger"]
SELECTIONS: Final = ("all", "names", "tagger")


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What a guard does with prompts that its judge flags.

    Attributes:
        target: What is to be forgotten, in words; for reports.
        corruption: Function, strength and dims.
        selection: "all" corrupts a flagged message's tokens but the last before the answer; "names" those of the names
            in it, and all where it holds none; "tagger" likewise those of whatever a token classifier marks.
        format: How prompts become the model's input.

    Raises:
        InputError: No target, or the selection is unknown.
    """

    target: str
    corruption: Corruption
    selection: Selection = "all"
    format: PromptFormat = field(default_factory=PromptFormat)

    def __post_init__(self) -> None:
        if not self.target.strip():
            raise InputError("the target is blank; say in a few words what is to be forgotten.")
        if self.selection not in SELECTIONS:
            hint = did_you_mean(self.selection, SELECTIONS)
            raise InputError(f'the selection is {quoted(self.selection)}; expected "all", "names" or "tagger".{hint}')


class _Part(NamedTuple):
    """A flagged message's corrupted tokens inside a padded row, with its noise seed."""

    row: int
    mask: Tensor  # (T,)
    seed: int


class EcoGuard(Bare):
    """The model behind the guard; use it in place of the model.

    Args:
        lm: The model.
        judge: Says which messages are flagged.
        settings: Says what is then done.
        finder: Finds names, for the selection "names", where None takes the judge's names; or the tagger.

    Raises:
        InputError: The strength or dims do not fit the model's embeddings or their dtype, or there is nothing that
            finds what is to be selected.
    """

    name = "guard"

    def __init__(
        self, lm: LanguageModel, judge: Judge, settings: GuardSettings, *, finder: Finder | None = None
    ) -> None:
        super().__init__(lm, settings.format)
        self.judge, self.settings = judge, settings
        self._finder = finder or (judge.matcher if settings.selection == "names" else None)
        if settings.selection != "all" and self._finder is None:
            lacking = "name to look for; give names" if settings.selection == "names" else "tagger; give one"
            raise InputError(f'the selection is "{settings.selection}", and there is no {lacking}, or choose "all".')
        weight = lm.model.get_input_embeddings().weight
        empty = torch.zeros((1, 1, weight.shape[1]), dtype=lm.model.dtype)
        corrupt(
            empty, torch.zeros((1, 1), dtype=torch.bool), settings.corruption, seeds=[None]
        )  # refuses what is unfit

    def with_corruption(self, corruption: Corruption) -> EcoGuard:
        """The same guard with another corruption."""
        settings = dataclasses.replace(self.settings, corruption=corruption)
        return EcoGuard(self.lm, self.judge, settings, finder=self._finder)

    def with_key(self, key: bytes) -> EcoGuard:
        """The same guard with other noise."""
        return EcoGuard(self.lm, self.judge.with_key(key), self.settings, finder=self._finder)

    def forcing(self, seed: int) -> Forced:
        """The guard as if every prompt were flagged, with noise of this seed: for the search of the strength."""
        return Forced(self.lm, self.judge, self.settings, finder=self._finder, seed=seed)

    def verdicts(self, prompts: Sequence[Prompt]) -> list[Verdict]:
        """What the judge says of each prompt; its turns are all messages, whoever they are from.

        Raises:
            InputError: A prompt is none; its place is named.
        """
        return self._verdicts(self.encoded(prompts))

    def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
        if not prompts:
            return np.zeros(0, dtype=np.bool_)
        return np.array([verdict.flagged for verdict in self.verdicts(prompts)])

    def _verdicts(self, encoded: Sequence[Encoded]) -> list[Verdict]:
        return self.judge.conversations([one.contents for one in encoded], [one.roles for one in encoded])

    def judged(self, encoded: Sequence[Encoded]) -> list[Judged]:
        """The judge's verdict on each prompt, and which tokens of its flagged messages are corrupted."""
        found = []
        for one, verdict in zip(encoded, self._verdicts(encoded), strict=True):
            flagged = tuple(
                Flagged(self._selected(one, torch.from_numpy(one.owners == place)), turn.seed)
                for place, turn in enumerate(verdict.turns)
                if turn.flagged
            )
            found.append(Judged(one, verdict, flagged))
        return found

    def batch(
        self, judged: Sequence[Judged], told: Sequence[Sequence[int]] | None = None, scope: Scope = "prompt"
    ) -> Prepared:
        if scope not in ("prompt", "prompt+answer"):
            raise InputError(f'scope is {quoted(scope)}; expected "prompt" or "prompt+answer".')
        bare = super().batch(judged, told, scope)
        width = bare.input_ids.shape[1]
        parts = [part for row, one in enumerate(judged) for part in _parts(row, one, width, bare.n_answer[row], scope)]
        verdicts = tuple(one.verdict for one in judged)
        return dataclasses.replace(bare, layers=_layers(parts, len(judged), width), verdicts=verdicts)

    def _selected(self, encoded: Encoded, owned: Tensor) -> Tensor:
        if self.settings.selection == "all":
            return owned
        assert self._finder is not None
        offsets = torch.from_numpy(encoded.offsets)[None]
        mask, _ = of_names([encoded.text], offsets, self._finder, among=owned[None])
        return mask[0]

    @contextmanager
    def corrupting(self, prepared: Prepared) -> Iterator[list[Corrupted]]:
        """Corrupts the flagged prompts inside the block, where the model is called once with ``prepared.input_ids``.

        Yields:
            For each layer what was done so far; empty where nothing is flagged.

        Raises:
            InputError: As `hook.corrupted`.
        """
        with ExitStack() as stack:
            yield [
                stack.enter_context(
                    corrupted(self.lm.model, prepared.input_ids, mask, self.settings.corruption, seeds=seeds)
                )
                for mask, seeds in prepared.layers
            ]


class Forced(EcoGuard):
    """A guard that takes every message as flagged; its noise comes from a seed and the message's text."""

    name = "guard, every prompt flagged"

    def __init__(
        self,
        lm: LanguageModel,
        judge: Judge,
        settings: GuardSettings,
        *,
        finder: Finder | None = None,
        seed: int,
    ) -> None:
        super().__init__(lm, judge, settings, finder=finder)
        self._key = hashlib.sha256(f"palimpsest eco search {seed}".encode()).digest()

    def _verdicts(self, encoded: Sequence[Encoded]) -> list[Verdict]:
        return [
            Verdict(tuple(Turn(text, True, noise_seed(text, key=self._key)) for text in one.contents), 1.0, 1.0, None)
            for one in encoded
        ]


def _parts(row: int, judged: Judged, width: int, n_answer: int, scope: Scope) -> list[_Part]:
    """The flagged messages of one row."""
    n = len(judged.encoded.ids)
    first = width - n - n_answer
    parts = []
    for place, one in enumerate(judged.flagged, start=1):
        mask = torch.zeros(width, dtype=torch.bool)
        mask[first : first + n] = one.mask
        if n_answer and scope == "prompt+answer" and place == len(judged.flagged):
            mask[first + n - 1 : -1] = True  # all tokens but the last, as in the authors' code
        parts.append(_Part(row, mask, one.seed))
    return parts


def _layers(parts: Sequence[_Part], n_rows: int, width: int) -> tuple[tuple[Tensor, tuple[int | None, ...]], ...]:
    """Parts of one row lie in layers of their own, since each has noise of its own."""
    layers: list[tuple[Tensor, list[int | None]]] = []
    n_used = [0] * n_rows
    for part in parts:
        depth = n_used[part.row]
        n_used[part.row] += 1
        if depth == len(layers):
            layers.append((torch.zeros((n_rows, width), dtype=torch.bool), [None] * n_rows))
        mask, seeds = layers[depth]
        mask[part.row], seeds[part.row] = part.mask, part.seed
    return tuple((mask, tuple(seeds)) for mask, seeds in layers)
