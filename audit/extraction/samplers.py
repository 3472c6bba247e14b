"""Who samples: a model in this process, or a server of raw completions. Both give the same record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import IncompleteRunError
from ..lm.generate import Sampling, generate
from ..lm.load import LanguageModel, Tokens
from ..lm.tokens import encode
from ..text.safe import counted
from .completions import Server, complete
from .prefixes import Prefix

LOCAL_PART, SERVER_PART = 256, 128  # samples that are lost at most when the work is killed


class Sample(NamedTuple):
    """One generation as it came.

    Attributes:
        seed: The job's, of which it is stream i; of a server, the request's.
        text: Special tokens kept, where the server keeps them.
        token_ids: None where the server does not tell them.
        n_tokens: New tokens; counted with the tokenizer where the server does not tell them.
        finish_reason: "stop" or "length"; None where the request failed.
        failure: Why there is none.
    """

    seed: int
    text: str
    token_ids: tuple[int, ...] | None
    n_tokens: int
    finish_reason: str | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """Sampling by a model in this process; ``batch_size`` as in `audit.lm.generate.generate`."""

    lm: LanguageModel
    batch_size: int | None = None
    part_size: int = LOCAL_PART

    def to_record(self) -> dict[str, Any]:
        """What the samples depend on."""
        # Another kind of device rounds otherwise, and one table holds one rounding.
        rounding = {"dtype": str(self.lm.model.dtype), "device": self.lm.device.type}
        return {"model": self.lm.fingerprint.to_record(), **rounding, "part_size": self.part_size}

    def draw(
        self,
        prefixes: Sequence[Prefix],
        indices: Sequence[int],
        *,
        sampling: Sampling,
        seed: int,
        on_done: Callable[[int], None],
    ) -> list[Sample]:
        """One sample after each prefix, from stream (seed, index); errors as in `audit.lm.generate.generate`."""
        generations = generate(
            self.lm,
            [prefix.ids for prefix in prefixes],
            sampling=sampling,
            seed=seed,
            indices=indices,
            batch_size=self.batch_size,
            on_done=on_done,
        )
        samples = []
        for one in generations:
            text = self.lm.tokenizer.decode(
                list(one.token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            reason = "stop" if one.stopped else "length"
            samples.append(Sample(seed, str(text), one.token_ids, len(one.token_ids), reason))
        return samples


@dataclass(frozen=True, slots=True)
class Remote:
    """Sampling by a server of raw completions; ``tokens`` is the tokenizer of the model that it serves."""

    server: Server
    tokens: Tokens
    part_size: int = SERVER_PART

    def to_record(self) -> dict[str, Any]:
        """What the samples depend on; not how patiently they are asked for."""
        server = {"url": self.server.url, "model": self.server.model, "dialect": self.server.dialect}
        return {"server": server, "part_size": self.part_size}

    def draw(
        self,
        prefixes: Sequence[Prefix],
        indices: Sequence[int],
        *,
        sampling: Sampling,
        seed: int,
        on_done: Callable[[int], None],
    ) -> list[Sample]:
        """One sample or failure after each prefix.

        Raises:
            InputError: As in `completions.complete`.
            IncompleteRunError: So many requests in a row failed that the rest was not asked for.
        """
        of_text = self.server.dialect == "transformers"
        answers = complete(
            self.server,
            [prefix.bare_text if of_text else prefix.ids for prefix in prefixes],
            sampling=sampling,
            seed=seed,
            indices=indices,
            on_done=on_done,
        )
        if any(answer.failure and not answer.n_tries for answer in answers):
            reasons = Counter(answer.failure for answer in answers if answer.failure and answer.n_tries)
            reason, n = reasons.most_common(1)[0]
            raise IncompleteRunError(
                f"the server was given up: {counted(self.server.give_up_after, 'request')} in a row failed, {n:,} with "
                f"this reason: {reason}. Finished parts are kept; mend it, and the same command goes on from there."
            )
        counts = [len(ids) for ids in encode(self.tokens, [answer.text for answer in answers], parse_special=True)]
        return [
            Sample(
                answer.seed,
                answer.text,
                answer.token_ids,
                n if answer.token_ids is None else len(answer.token_ids),
                answer.finish_reason,
                answer.failure,
            )
            for answer, n in zip(answers, counts, strict=True)
        ]
