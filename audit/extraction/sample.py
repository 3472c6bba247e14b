"""Samples of a model that was given the opening of a chat and nothing else: generation i from stream (seed, i) alone.

Made part by part, by the local model or by a server, each part safe on disk as soon as it is done. Every generation
becomes one row, parsed or rejected with its reason; so does a request that failed, and the next call asks again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import InputError
from ..lm.generate import Sampling
from ..lm.load import LanguageModel, Tokens
from ..matching.clusters import normalised
from ..progress import Progress, silent
from ..runs.records import content_key
from ..runs.shards import ShardedTable
from ..text.safe import counted, quoted
from .parse import Parsed, parse
from .prefixes import Prefix, Stops, stops
from .presets import Chat
from .samplers import Local, Remote, Sample

MAX_NEW_TOKENS = 2048  # Magpie's; the paper's own is not sourced
FAILED = "request failed"  # the reason before ": " of a request that failed
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "prefix": pa.string(),
        "prefix_sha256": pa.string(),  # of its token ids
        "seed": pa.int64(),
        "token_ids": pa.list_(pa.int64()),
        "n_tokens": pa.int64(),
        "finish_reason": pa.string(),
        "text": pa.string(),
        "question": pa.string(),
        "answer": pa.string(),
        "whole": pa.string(),
        "n_turns": pa.int64(),
        "reject": pa.string(),
    }
)


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """What is sampled.

    Attributes:
        n: Generations.
        seed: Of the whole job, 0 to 2^63 - 1.
        chat: The format that they are parsed by.
        prefixes: What the model is given; generation i gets number i modulo their number.
        stops: What ends a generation.
        sampling: How tokens are drawn, every field.
    """

    n: int
    seed: int
    chat: Chat
    prefixes: tuple[Prefix, ...]
    stops: Stops
    sampling: Sampling

    def prefix(self, index: int) -> Prefix:
        return self.prefixes[index % len(self.prefixes)]

    def to_record(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "seed": self.seed,
            "chat": asdict(self.chat),
            "prefixes": [prefix.to_record() for prefix in self.prefixes],
            "stops": self.stops.to_record(),
            "sampling": self.sampling.to_record(),
        }


def plan_samples(
    lm: LanguageModel | Tokens,
    chat: Chat,
    prefixes: Sequence[Prefix],
    *,
    n: int,
    seed: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new_tokens: int | None = None,
) -> SamplePlan:
    """The plan with what ends a generation and the room that the context leaves.

    Args:
        lm: The model, or its tokenizer alone where a server samples.
        chat: As in `SamplePlan`.
        prefixes: At least one.
        n: As in `SamplePlan`, 1 or more.
        seed: Likewise.
        temperature: As in `Sampling`; the paper's 1.
        top_p: Likewise; nothing is cut off, since the paper names no cut.
        top_k: Likewise.
        max_new_tokens: Default 2,048, or what the context leaves.

    Raises:
        InputError: A number is out of range, there is no prefix, or the context has no room for the new tokens.
    """
    if n < 1:
        raise InputError(f"n is {n}; expected 1 generation or more.")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; expected 0 to {2**63 - 1}.")
    if not prefixes:
        raise InputError("there is no prefix; expected the text that opens a chat.")
    longest = max(len(prefix.ids) for prefix in prefixes)
    room = lm.n_context - longest
    asked = min(MAX_NEW_TOKENS, room) if max_new_tokens is None else max_new_tokens
    if room < 1 or asked > room:
        raise InputError(
            f"the prefix has {counted(longest, 'token')} and {asked if asked > 0 else 'some'} new ones were asked for; "
            f"the model {quoted(lm.subject.model, limit=200)} holds {lm.n_context:,} in all. Shorten the prefix, or "
            "lower --max-new-tokens."
        )
    ends = stops(lm, chat)
    sampling = Sampling(
        max_new_tokens=asked,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=0.0,
        stop_ids=ends.ids,
        forbidden_ids=(),
    )
    return SamplePlan(n, seed, chat, tuple(prefixes), ends, sampling)


def sample_in_parts(
    sampler: Local | Remote,
    plan: SamplePlan,
    *,
    open_parts: Callable[[str, str, int], ShardedTable],
    progress: Progress = silent,
) -> pa.Table:
    """All generations in order, columns `SCHEMA`; parts that an earlier call finished are not made again.

    Requests that failed in an earlier call are asked for again, with the same seeds; those that fail in this call are
    rows with the reason ``request failed: ...`` and no ``finish_reason``.

    Args:
        sampler: Who samples.
        plan: What.
        open_parts: (name, key, number of parts) -> where finished parts are kept. The first name is "generations";
            requests that failed are asked for again in "generations-again-1" and so on.
        progress: Told the number of generations done.

    Raises:
        InputError: The parts are of another job, or as in `Remote.draw`.
        ModelError: As in `audit.lm.generate.generate`; finished parts stay.
        IncompleteRunError: As in `Remote.draw`.
    """
    asked = list(range(plan.n))
    tables: list[pa.Table] = []
    places = np.arange(plan.n)  # of each generation's row in all tables together
    while True:
        name = f"generations-again-{len(tables)}" if tables else "generations"
        table, resumed = _attempt(sampler, plan, name, asked, open_parts=open_parts, progress=progress)
        places[asked] = sum(one.num_rows for one in tables) + np.arange(len(asked))
        tables.append(table)
        failed = [asked[row] for row in np.flatnonzero(table["finish_reason"].is_null().to_numpy())]
        if not failed or not resumed:
            return table if len(tables) == 1 else pa.concat_tables(tables).take(pa.array(places))
        asked = failed


def _attempt(
    sampler: Local | Remote,
    plan: SamplePlan,
    name: str,
    asked: Sequence[int],
    *,
    open_parts: Callable[[str, str, int], ShardedTable],
    progress: Progress,
) -> tuple[pa.Table, bool]:
    """Rows of some generations, and whether an earlier call had begun to ask for them."""
    parts = [asked[start : start + sampler.part_size] for start in range(0, len(asked), sampler.part_size)]
    key = content_key(plan=plan.to_record(), sampler=sampler.to_record(), asked=_asked(asked, plan.n))
    with open_parts(name, key, len(parts)) as table:
        done = sum(len(parts[number]) for number in table.done())
        resumed = done > 0

        def tell(n: int) -> None:
            nonlocal done
            done += n
            progress("Asking again" if len(asked) < plan.n else "Sampling", done, len(asked))

        tell(0)
        for number in table.missing():
            samples = sampler.draw(
                [plan.prefix(index) for index in parts[number]],
                parts[number],
                sampling=plan.sampling,
                seed=plan.seed,
                on_done=tell,
            )
            rows = [_row(plan, index, sample) for index, sample in zip(parts[number], samples, strict=True)]
            table.write(number, pa.Table.from_pylist(rows, schema=SCHEMA))
        return table.assemble(), resumed


def _asked(asked: Sequence[int], n: int) -> list[int] | str:
    """For the key: a million numbers need not be hashed to say that all were asked for."""
    return "all" if len(asked) == n else list(asked)


def _id(index: int) -> str:
    return f"g{index:07d}"


def _row(plan: SamplePlan, index: int, sample: Sample) -> dict[str, Any]:
    prefix = plan.prefix(index)
    row = {
        "id": _id(index),
        "prefix": prefix.name,
        "prefix_sha256": prefix.ids_sha256,
        **sample._asdict(),
        "token_ids": None if sample.token_ids is None else list(sample.token_ids),
    }
    failure = row.pop("failure")
    if failure is not None:
        return {**row, "reject": f"{FAILED}: {failure}"}
    found = parse(sample.text, finish_reason=sample.finish_reason, chat=plan.chat, stops=plan.stops.texts)
    if not isinstance(found, Parsed):
        return {**row, "reject": found.reason}
    return {
        **row,
        "question": found.question,
        "answer": found.answer,
        "whole": found.whole,
        "n_turns": found.n_turns,
    }


@dataclass(frozen=True, slots=True)
class Rates:
    """What became of the generations.

    Attributes:
        n: All of them.
        n_parsed: Those with a question and an answer.
        n_distinct: Different wholes among these, white space and Unicode form aside.
        rejects: Reason -> number, the most frequent first; all failed requests under one reason.
        by_prefix: Name of the prefix -> (generations, parsed ones).
    """

    n: int
    n_parsed: int
    n_distinct: int
    rejects: dict[str, int]
    by_prefix: dict[str, tuple[int, int]]

    @property
    def parsed_rate(self) -> float:
        return self.n_parsed / self.n

    @property
    def n_failed(self) -> int:
        return self.rejects.get(FAILED, 0)

    def to_record(self) -> dict[str, Any]:
        return {**asdict(self), "parsed_rate": self.parsed_rate}


def rates(generations: pa.Table) -> Rates:
    """Counts of a table that `sample_in_parts` made."""
    reasons = generations["reject"].to_pylist()
    prefixes = generations["prefix"].to_pylist()
    rejects = Counter(reason.partition(":")[0] for reason in reasons if reason is not None)
    parsed = Counter(name for name, reason in zip(prefixes, reasons, strict=True) if reason is None)
    return Rates(
        n=generations.num_rows,
        n_parsed=parsed.total(),
        n_distinct=len({normalised(whole) for whole in generations["whole"].to_pylist() if whole is not None}),
        rejects=dict(rejects.most_common()),
        by_prefix={name: (n, parsed[name]) for name, n in Counter(prefixes).items()},
    )
