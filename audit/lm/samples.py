"""Many samples, part by part, so that a job that was killed goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa

from .generate import Sampling, generate
from .load import LanguageModel


class Parts(Protocol):
    """Where finished parts of a long job go; `audit.runs.shards.ShardedTable` is one."""

    def done(self) -> set[int]: ...

    def write(self, part: int, table: pa.Table) -> None: ...


def write_samples(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int,
    parts: Parts,
    part_size: int = 512,
    batch_size: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> None:
    """Sample once for each prompt and write part after part; parts that exist already are not made again.

    Each row holds ``sample`` (index of the prompt), ``seed``, ``prompt_ids``, ``token_ids``, ``text`` (special
    tokens kept) and ``stopped``. Killed at any moment and called again, it ends with the same rows.
    """
    finished = parts.done()
    for part, start in enumerate(range(0, len(prompts), part_size)):
        indices = range(start, min(start + part_size, len(prompts)))
        if part in finished:
            if on_done is not None:
                on_done(len(indices))
            continue
        samples = generate(
            lm,
            [prompts[index] for index in indices],
            sampling=sampling,
            seed=seed,
            indices=indices,
            batch_size=batch_size,
            on_done=on_done,
        )
        token_ids = [list(sample.token_ids) for sample in samples]
        parts.write(
            part,
            pa.table(
                {
                    "sample": pa.array(indices, pa.int64()),
                    "seed": pa.array([seed] * len(indices), pa.int64()),
                    "prompt_ids": pa.array([list(prompts[index]) for index in indices], pa.list_(pa.int64())),
                    "token_ids": pa.array(token_ids, pa.list_(pa.int64())),
                    "text": pa.array([lm.tokenizer.decode(ids) for ids in token_ids], pa.string()),
                    "stopped": pa.array([sample.stopped for sample in samples], pa.bool_()),
                }
            ),
        )
