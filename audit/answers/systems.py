"""What is evaluated: a model behind a guard, behind a filter, behind an instruction, or bare.

All of them read prompts and answers in the same batches and by the same code, so that a prompt that a guard lets pass
gives the bare model's numbers to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError, ModelError
from ..lm.generate import Sampling, generate
from ..lm.load import LanguageModel
from ..lm.sharing import out_of_memory, release_memory, rope_switch
from ..lm.tokens import check_ids, encode
from ..text.safe import quoted
from .formats import Encoded, Prompt, PromptFormat, stop_ids

Scope = Literal["prompt", "prompt+answer"]  # how far a corruption of the input reaches where answers are scored
SCOPES: Final[tuple[Scope, ...]] = ("prompt", "prompt+answer")
_TOKENS = {"cpu": 2_048}  # padded tokens of a batch
_DEVICE_TOKENS = 32_768
_ANSWERS = {"cpu": 64}  # prompts answered at a time
_DEVICE_ANSWERS = 128


class System(Protocol):
    """Something that answers prompts.

    Attributes:
        name: In tables.
        lm: The model behind it.
    """

    name: str
    lm: LanguageModel

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        """The most probable answer to each prompt, token by token."""
        ...

    def log_probs(
        self, prompts: Sequence[Prompt], answers: Sequence[str], *, scope: Scope = "prompt"
    ) -> list[NDArray[np.float64]]:
        """Log-probability in nats of each token of each answer after its prompt; -inf where it is never said.

        Prompt and answer are encoded apart, so that no token spans the border; a space is put between them where
        neither has one.
        """
        ...

    def option_logits(self, prompts: Sequence[Prompt], options: Sequence[str]) -> NDArray[np.float64]:
        """Logit of each option's first token after the last token of each prompt; nan where there is no answer.

        Shape (n, options).
        """
        ...

    def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
        """Which prompts are held to be about what must be forgotten."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """Prompts as one batch, padded on the left.

    Attributes:
        input_ids: Shape (B, T), on the model's device; padding repeats a row's first token and is masked.
        attention_mask: 1 at tokens, 0 at padding; shape (B, T).
        encoded: Each prompt.
        n_answer: Tokens of the answer behind each prompt, 0 where there is none.
        layers: What is corrupted: for each layer a boolean mask (B, T) and each row's noise seed, None where nothing
            is. A row with several flagged messages has one in each of as many layers.
        verdicts: Of each prompt; empty for a bare model.
    """

    input_ids: Tensor
    attention_mask: Tensor
    encoded: tuple[Encoded, ...]
    n_answer: tuple[int, ...]
    layers: tuple[tuple[Tensor, tuple[int | None, ...]], ...] = ()
    verdicts: tuple[Any, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def position_ids(self) -> Tensor:
        """Counted from each row's first token; shape (B, T)."""
        return (self.attention_mask.cumsum(1) - 1).clamp_min(0)

    @property
    def ragged(self) -> bool:
        return bool((self.attention_mask == 0).any())

    def part(self, rows: slice) -> Prepared:
        """Some of the rows, as wide as before."""
        return Prepared(
            self.input_ids[rows],
            self.attention_mask[rows],
            self.encoded[rows],
            self.n_answer[rows],
            tuple((mask[rows], seeds[rows]) for mask, seeds in self.layers),
            self.verdicts[rows],
        )

    def rows(self) -> list[list[int]]:
        """Token ids of each row without padding."""
        return [ids[mask.bool()].tolist() for ids, mask in zip(self.input_ids, self.attention_mask, strict=True)]


class Flagged(NamedTuple):
    """A flagged message: which of the prompt's own tokens are corrupted, (T,) boolean, and the seed of its noise."""

    mask: Tensor
    seed: int


class Judged(NamedTuple):
    """A prompt with what is said of it, before it stands in any batch.

    Attributes:
        encoded: Its tokens.
        verdict: The judge's; None for a bare model.
        flagged: Its flagged messages, in their order.
    """

    encoded: Encoded
    verdict: Any = None
    flagged: tuple[Flagged, ...] = ()


class Bare:
    """A model as it is, behind nothing.

    Args:
        lm: The model.
        form: How a prompt becomes its input.
    """

    name = "bare"

    def __init__(self, lm: LanguageModel, form: PromptFormat) -> None:
        self.lm, self.form = lm, form
        self._stop_ids = stop_ids(lm, form)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return self._stop_ids

    # One batch

    def prepare(
        self,
        prompts: Sequence[Prompt],
        *,
        answers: Sequence[str] | None = None,
        scope: Scope = "prompt",
        room: int = 0,
    ) -> Prepared:
        """Prompts, and answers behind them, as one batch.

        Args:
            prompts: One or more.
            answers: One for each prompt, or none at all.
            scope: How far a corruption reaches where there are answers.
            room: Tokens that must fit behind each row.

        Raises:
            InputError: A prompt is empty, is no conversation that the format takes, or is longer than the context;
                its place is named.
        """
        encoded = self.encoded(prompts)
        told = [[] for _ in encoded] if answers is None else self._answer_ids(encoded, answers)
        self.check_room([len(one.ids) for one in encoded], [len(after) + room for after in told])
        return self.batch(self.judged(encoded), told, scope)

    def encoded(self, prompts: Sequence[Prompt]) -> list[Encoded]:
        """Each prompt's tokens; an error names the prompt's place."""
        if not prompts:
            raise InputError("there is no prompt; expected one or more.")
        found = []
        for place, prompt in enumerate(prompts):
            try:
                found.append(self.form.encode(self.lm, prompt))
            except InputError as error:
                raise InputError(f"prompt {place}: {error}") from error
        check_ids(self.lm, [f"prompt {place}" for place in range(len(found))], [one.ids for one in found])
        return found

    def judged(self, encoded: Sequence[Encoded]) -> list[Judged]:
        """What is said of prompts; here nothing. The model is not asked, so that another thread may do it."""
        return [Judged(one) for one in encoded]

    def check_room(self, lengths: Sequence[int], after: Sequence[int]) -> None:
        """Refuse prompts of so many tokens, with so many behind each, that do not fit the context; by their place."""
        for place, (n, n_after) in enumerate(zip(lengths, after, strict=True)):
            if n + n_after > self.lm.n_context:
                rest = f" and needs {n_after:,} for the answer" if n_after else ""
                raise InputError(
                    f"prompt {place} has {n:,} tokens{rest}; the model reads at most {self.lm.n_context:,}. Shorten it."
                )

    def _answer_ids(self, encoded: Sequence[Encoded], answers: Sequence[str]) -> list[list[int]]:
        """Tokens of answers, after a space where the prompt does not end with white space and they do not begin so."""
        if len(answers) != len(encoded):
            raise InputError(f"there are {len(answers)} answers to {len(encoded)} prompts; expected one for each.")
        blank = next((place for place, answer in enumerate(answers) if not answer.strip()), None)
        if blank is not None:
            raise InputError(f"answer {blank} is empty; expected a text.")
        pairs = zip(encoded, answers, strict=True)
        return encode(self.lm, [("" if answer[:1].isspace() else _gap(one.text)) + answer for one, answer in pairs])

    def batch(
        self, judged: Sequence[Judged], told: Sequence[Sequence[int]] | None = None, scope: Scope = "prompt"
    ) -> Prepared:
        """Prompts, each with the tokens ``told`` behind it, as one batch; the guard adds what is corrupted."""
        encoded = [one.encoded for one in judged]
        told = [[] for _ in encoded] if told is None else told
        rows = [[*one.ids, *after] for one, after in zip(encoded, told, strict=True)]
        width = max(len(row) for row in rows)
        ids = torch.tensor([[row[0]] * (width - len(row)) + row for row in rows], device=self.lm.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.lm.device)
        return Prepared(ids, mask, tuple(encoded), tuple(len(after) for after in told))

    def corrupting(self, prepared: Prepared) -> AbstractContextManager[Any]:
        """Inside, the model is called once with these very prompts; here nothing is done to them."""
        return nullcontext()

    def forward(self, prepared: Prepared, **kwargs: Any) -> Any:
        """One forward pass of the model; further arguments are its own."""
        with self.corrupting(prepared):
            return self.lm.model(
                input_ids=prepared.input_ids,
                attention_mask=prepared.attention_mask if prepared.ragged else None,
                position_ids=prepared.position_ids,
                **kwargs,
            )

    def generate(self, prepared: Prepared, **kwargs: Any) -> Tensor:
        """The model's own ``generate``; the result holds prompts and new tokens."""
        with self.corrupting(prepared):
            found: Tensor = self.lm.model.generate(
                input_ids=prepared.input_ids, attention_mask=prepared.attention_mask, **kwargs
            )
        return found

    # Any number of prompts

    def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
        return np.zeros(len(prompts), dtype=np.bool_)

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        sampling = Sampling(max_new_tokens, temperature=0.0, stop_ids=self._stop_ids)
        size = _ANSWERS.get(self.lm.device.type, _DEVICE_ANSWERS)
        said: dict[int, str] = {}

        def run(places: list[int]) -> None:
            prepared = self.prepare([prompts[place] for place in places], room=max_new_tokens)
            rows = prepared.rows()
            with self.corrupting(prepared):
                found = generate(self.lm, rows, sampling=sampling, seed=0, batch_size=len(rows), halve=False)
            for place, one in zip(places, found, strict=True):
                said[place] = str(self.lm.tokenizer.decode(list(one.token_ids), skip_special_tokens=True)).strip()

        self._in_batches(prompts, None, run, size=size, room=max_new_tokens)
        return [said[place] for place in range(len(prompts))]

    def log_probs(
        self, prompts: Sequence[Prompt], answers: Sequence[str], *, scope: Scope = "prompt"
    ) -> list[NDArray[np.float64]]:
        found: dict[int, NDArray[np.float64]] = {}

        def run(places: list[int]) -> None:
            prepared = self.prepare(
                [prompts[place] for place in places], answers=[answers[place] for place in places], scope=scope
            )
            for place, values in zip(places, self.answer_log_probs(prepared), strict=True):
                found[place] = values

        tokens = _TOKENS.get(self.lm.device.type, _DEVICE_TOKENS)
        self._in_batches(prompts, answers, run, tokens=tokens)
        return [found[place] for place in range(len(prompts))]

    @torch.inference_mode()
    def answer_log_probs(self, prepared: Prepared) -> list[NDArray[np.float64]]:
        """Of one batch with answers: each answer token's log-probability, nats."""
        most = max(prepared.n_answer)
        logits = self.forward(prepared, use_cache=False, logits_to_keep=most + 1).logits[:, -most - 1 : -1]
        targets = prepared.input_ids[:, -most:]
        scores = logits.float().log_softmax(dim=-1).gather(2, targets[..., None])[..., 0].double().cpu().numpy()
        if not np.isfinite(scores).all():
            self._refuse_nan(prepared, scores)
        return [scores[row, most - n :] for row, n in enumerate(prepared.n_answer)]

    def _refuse_nan(self, prepared: Prepared, scores: NDArray[np.float64]) -> None:
        most = max(prepared.n_answer)
        for row, n in enumerate(prepared.n_answer):
            if np.isnan(scores[row, most - n :]).any():
                raise ModelError(
                    f"the model's logits are not finite after {quoted(prepared.encoded[row].text)}. Lower the strength "
                    "of the corruption, or load the model in float32."
                )

    @torch.inference_mode()
    def option_logits(self, prompts: Sequence[Prompt], options: Sequence[str]) -> NDArray[np.float64]:
        found = np.full((len(prompts), len(options)), np.nan)

        def run(places: list[int]) -> None:
            prepared = self.prepare([prompts[place] for place in places])
            logits = self.forward(prepared, use_cache=False, logits_to_keep=1).logits[:, -1].float()
            for row, place in enumerate(places):
                ids = self._option_ids(prepared.encoded[row].text, options)
                found[place] = logits[row, ids].double().cpu().numpy()

        tokens = _TOKENS.get(self.lm.device.type, _DEVICE_TOKENS)
        self._in_batches(prompts, None, run, tokens=tokens)
        return found

    def _option_ids(self, text: str, options: Sequence[str]) -> list[int]:
        """First token of each option, after a gap if that tells them apart, else as a token of its own."""
        for gap in dict.fromkeys((_gap(text), "")):
            found = [ids[0] for ids in encode(self.lm, [gap + option for option in options]) if ids]
            if len(set(found)) == len(options):
                return found
        raise InputError(
            f"the options {quoted(', '.join(options))} begin with the same token, so their logits cannot be told "
            "apart; letter them."
        )

    def _in_batches(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[str] | None,
        run: Callable[[list[int]], None],
        *,
        size: int | None = None,
        tokens: int | None = None,
        room: int = 0,
    ) -> None:
        """Calls ``run`` with the places of prompts of like length; halves a batch when memory runs out."""
        if not prompts:
            return
        encoded = self.encoded(prompts)
        lengths = [len(one.ids) for one in encoded]
        after = [room] * len(lengths)
        if answers is not None:
            after = [len(ids) for ids in self._answer_ids(encoded, answers)]
        self.check_room(lengths, after)
        lengths = [n + more for n, more in zip(lengths, after, strict=True)]
        todo = list(_batches(lengths, size=size, tokens=tokens, switch=rope_switch(self.lm.model)))
        while todo:
            batch = todo.pop()
            try:
                run(batch)
            except RuntimeError as error:
                if not out_of_memory(error) or len(batch) == 1:
                    raise
                release_memory(self.lm.device)
                todo += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]


def _gap(text: str) -> str:
    """What stands between a prompt and what is said next."""
    return "" if text[-1:].isspace() else " "


def _batches(
    lengths: Sequence[int], *, size: int | None, tokens: int | None, switch: int | None
) -> Iterator[list[int]]:
    """Places in order of length; the two sides of a longrope model's switch stay apart."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    batch: list[int] = []
    for place in order:
        width = lengths[place]
        crossed = switch is not None and bool(batch) and lengths[batch[0]] <= switch < width
        full = (size is not None and len(batch) >= size) or (
            tokens is not None and width * (len(batch) + 1) > tokens and bool(batch)
        )
        if batch and (crossed or full):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
