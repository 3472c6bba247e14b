"""Draw trap candidates from a language model and assign them at random.

One pool is drawn and de-duplicated as a whole, sorted into (length, perplexity bucket) strata, and only then
are members, repetitions and decoys dealt out at random inside each stratum. Under the null hypothesis (the
model never saw the traps) every dealing is equally likely, which is what makes the p-values exact.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from ..errors import InputError
from ..lm.generate import Sampling, generate
from ..lm.load import LanguageModel
from ..lm.logprobs import token_log_probs
from ..lm.tokens import encode, prefix_ids
from ..runs.shards import ShardedTable
from .config import TrapDesign
from .likeness import Likeness

ROUND_SCHEMA = pa.schema([("text", pa.string()), ("token_ids", pa.list_(pa.int64())), ("perplexity", pa.float64())])
TALLIED = ("sampled", "not_canonical", "outside", "full", "too_similar", "accepted")
OVERSAMPLE = 1.25  # tokens sampled for each token kept, because re-encoding shortens what was sampled


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sequence that may become a trap.

    Attributes:
        id: "trap-" and the start of the text's SHA-256; it says nothing about the arm.
        text: The sequence; encoding it gives ``token_ids`` again.
        token_ids: Ids of the generator's tokenizer, shape (length,).
        length: Number of those tokens.
        perplexity: exp(mean negative log-likelihood) under the generator, >= 1.
        bucket: Perplexity bucket as "[1, 11)".
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    length: int
    perplexity: float
    bucket: str

    @property
    def stratum(self) -> str:
        return f"{self.length} tokens, perplexity {self.bucket}"


@dataclass(frozen=True, slots=True)
class Trap:
    """A candidate after the dealing: ``arm`` "member" is planted ``n_rep`` times, "decoy" never (n_rep 0)."""

    candidate: Candidate
    arm: Literal["member", "decoy"]
    n_rep: int


@dataclass(frozen=True, slots=True)
class DrawCounts:
    """What became of everything that was sampled for the traps of one length.

    Attributes:
        length: Tokens, words or characters.
        sampled: Sequences sampled; the sum of those below.
        not_canonical: Not of the wanted length, or another text, once decoded and encoded again.
        outside: Of a perplexity in no bucket.
        full: Of a stratum that needed no more.
        too_similar: To one accepted before (Jaccard of token ids, or letters).
        accepted: Became candidates.
    """

    length: int
    sampled: int
    not_canonical: int
    outside: int
    full: int
    too_similar: int
    accepted: int

    @property
    def rejection_rate(self) -> float:
        """Share of the samples that could not have been used in any stratum, in [0, 1]."""
        return (self.not_canonical + self.outside + self.too_similar) / self.sampled


class Pool(NamedTuple):
    """Candidates by length, then bucket, in order of acceptance; and what was rejected, by length."""

    candidates: list[Candidate]
    counts: tuple[DrawCounts, ...]


def generate_pool(
    lm: LanguageModel,
    design: TrapDesign,
    *,
    seed: int,
    rounds: ShardedTable | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> Pool:
    """Sample candidates until every stratum is full.

    Each round samples from the beginning-of-sequence token at the next temperature of the sweep, makes the
    samples canonical (decode, re-encode, truncate to the length, round trip), drops those too similar to an
    accepted one (over the whole pool) and sorts them by perplexity.

    Args:
        lm: The generator.
        design: Lengths, buckets, numbers, temperatures.
        seed: Seed of the draw.
        rounds: Where finished rounds are kept, opened with `n_rounds` parts; those that are there are not sampled
            again, and the pool is the same.
        on_done: Called after each round with (accepted so far, wanted in all).

    Returns:
        ``design.per_stratum`` candidates for each stratum.

    Raises:
        InputError: The model's window is too short for a length, or the rounds are used up before every stratum is
            full; the message tells the counts.
    """
    _refuse_too_long(lm, design)
    buckets = [f"[{low:g}, {high:g})" for low, high in pairwise(design.perplexity_edges)]
    wanted = design.per_stratum * len(buckets) * len(design.lengths)
    alike = Likeness(design)
    pool: list[Candidate] = []
    counts: list[DrawCounts] = []
    for place, length in enumerate(design.lengths):
        strata: dict[str, list[Candidate]] = {bucket: [] for bucket in buckets}
        tally: Counter[str] = Counter()
        for round_ in range(design.max_rounds):
            number = place * design.max_rounds + round_
            if rounds is not None and number in rounds.done():
                table = rounds.read(number)
            else:
                table = _sample_round(lm, design, length=length, round_=round_, seed=seed)
                if rounds is not None:
                    rounds.write(number, table)
            tally["sampled"] += design.samples_per_round
            tally["not_canonical"] += design.samples_per_round - len(table)
            for candidate in _candidates(table, design.perplexity_edges, buckets):
                stratum = strata.get(candidate.bucket)
                if stratum is None:
                    tally["outside"] += 1
                elif len(stratum) >= design.per_stratum:
                    tally["full"] += 1
                elif not alike.accept(candidate.text, candidate.token_ids):
                    tally["too_similar"] += 1
                else:
                    stratum.append(candidate)
            if on_done is not None:
                on_done(len(pool) + sum(map(len, strata.values())), wanted)
            if all(len(stratum) == design.per_stratum for stratum in strata.values()):
                break
        else:
            found = ", ".join(f"{bucket}: {len(stratum)}" for bucket, stratum in strata.items())
            raise InputError(
                f"traps: after {design.max_rounds} rounds not every perplexity bucket of length {length} holds "
                f"{design.per_stratum} candidates ({found}). Of {tally['sampled']:,} samples "
                f"{tally['not_canonical']:,} did not survive decoding and encoding, {tally['outside']:,} lay in no "
                f"bucket, {tally['too_similar']:,} were too similar. Widen perplexity_edges (--edges), add "
                "temperatures (--temperatures), raise max_jaccard (--max-jaccard) or max_rounds (--max-rounds), or ask "
                "for fewer traps."
            )
        pool += [candidate for bucket in buckets for candidate in strata[bucket]]
        tally["accepted"] = sum(map(len, strata.values()))
        counts.append(DrawCounts(length, *(tally[name] for name in TALLIED)))
    return Pool(pool, tuple(counts))


def n_rounds(design: TrapDesign) -> int:
    """Rounds at most, over all lengths."""
    return len(design.lengths) * design.max_rounds


def assign(pool: Sequence[Candidate], design: TrapDesign, *, seed: int) -> list[Trap]:
    """Deal members, repetitions and decoys at random inside each stratum.

    Args:
        pool: Candidates, ``design.per_stratum`` in each stratum.
        design: Repetitions and numbers.
        seed: Seed of the dealing; recorded, because it is what the p-values rest on.

    Returns:
        One trap for each candidate, in the order of the pool.

    Raises:
        InputError: A stratum has another number of candidates.
    """
    deck = [("member", n_rep) for n_rep in design.repetitions for _ in range(design.members_per_cell)]
    deck += [("decoy", 0)] * design.decoys_per_stratum
    places: dict[str, list[int]] = {}
    for place, candidate in enumerate(pool):
        places.setdefault(candidate.stratum, []).append(place)
    rng = np.random.Generator(np.random.Philox(seed))
    dealt: dict[int, Trap] = {}
    for stratum, inside in places.items():
        if len(inside) != len(deck):
            raise InputError(f"traps: stratum {stratum} holds {len(inside)} candidates; the design needs {len(deck)}")
        for place, card in zip(inside, rng.permutation(len(deck)), strict=True):
            arm, n_rep = deck[card]
            dealt[place] = Trap(pool[place], "member" if arm == "member" else "decoy", n_rep)
    return [dealt[place] for place in range(len(pool))]


def _refuse_too_long(lm: LanguageModel, design: TrapDesign) -> None:
    longest, first = max(design.lengths), len(_first_token(lm))
    if first + _n_sampled(longest) <= lm.n_context:
        return
    most = max((n for n in range(longest) if first + _n_sampled(n) <= lm.n_context), default=0)
    raise InputError(
        f"traps: --lengths holds {longest:,}; for a trap of so many tokens {_n_sampled(longest):,} are sampled after "
        f"the first, and the model's window holds {lm.n_context:,} in all. Ask for {most:,} or fewer, or draw from a "
        "model with a longer window."
    )


def _first_token(lm: LanguageModel) -> list[int]:
    """What every sample begins after."""
    return prefix_ids(lm) or [int(lm.tokenizer.eos_token_id or 0)]


def _n_sampled(length: int) -> int:
    """Tokens that are sampled for a trap of ``length`` tokens."""
    return int(length * OVERSAMPLE) + 4


def _sample_round(lm: LanguageModel, design: TrapDesign, *, length: int, round_: int, seed: int) -> pa.Table:
    """One round's canonical samples with their ids and perplexities, in order of sampling."""
    first = (length * design.max_rounds + round_) * design.samples_per_round
    sampling = Sampling(
        max_new_tokens=_n_sampled(length),
        temperature=design.temperatures[round_ % len(design.temperatures)],
        top_k=design.top_k,
        top_p=design.top_p,
        min_p=design.min_p,
        forbidden_ids=tuple(sorted(lm.tokenizer.all_special_ids)),
    )
    samples = generate(
        lm,
        [_first_token(lm)] * design.samples_per_round,
        sampling=sampling,
        seed=seed,
        indices=range(first, first + design.samples_per_round),
        batch_size=min(design.samples_per_round, 256 if lm.device.type == "cpu" else 1024),
    )
    kept = _canonical(lm, [sample.token_ids for sample in samples], length)
    scores = token_log_probs(lm, [ids for _, ids in kept], prefix=prefix_ids(lm))
    perplexity = [float(np.exp(-score.log_probs.mean(dtype=np.float64))) for score in scores]
    columns = {"text": [text for text, _ in kept], "token_ids": [ids for _, ids in kept], "perplexity": perplexity}
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in ROUND_SCHEMA})


def _canonical(lm: LanguageModel, sampled: Sequence[Sequence[int]], length: int) -> list[tuple[str, list[int]]]:
    """Texts of exactly ``length`` tokens that survive decoding and encoding, with their ids."""
    # White space is made plain, so that a trap survives the copying and re-flowing of a document.
    texts = [" ".join(_decode(lm, ids).split()) for ids in sampled]
    cut = [" ".join(_decode(lm, ids[:length]).split()) for ids in encode(lm, texts)]
    return [
        (text, ids)
        for text, ids in zip(cut, encode(lm, cut), strict=True)
        if len(ids) == length and "\ufffd" not in text and text.isprintable() and _decode(lm, ids) == text
    ]


def _decode(lm: LanguageModel, ids: Sequence[int]) -> str:
    text = lm.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def _candidates(table: pa.Table, edges: Sequence[float], buckets: Sequence[str]) -> Iterator[Candidate]:
    for row in table.to_pylist():
        place = bisect_right(edges, row["perplexity"]) - 1
        yield Candidate(
            id=f"trap-{hashlib.sha256(row['text'].encode()).hexdigest()[:12]}",
            text=row["text"],
            token_ids=tuple(row["token_ids"]),
            length=len(row["token_ids"]),
            perplexity=row["perplexity"],
            bucket=buckets[place] if 0 <= place < len(buckets) else "outside",
        )
