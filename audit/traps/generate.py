"""Draw trap candidates from a language model and assign them at random.

One pool is drawn and de-duplicated as a whole, sorted into (length, perplexity bucket) strata, and only then
are members, repetitions and decoys dealt out at random inside each stratum. Under the null hypothesis (the
model never saw the traps) every dealing is equally likely, which is what makes the p-values exact.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError
from ..lm.generate import Sampling, generate
from ..lm.load import LanguageModel
from ..lm.logprobs import token_log_probs
from ..lm.tokens import encode, prefix_ids
from .config import TrapDesign

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


def generate_pool(
    lm: LanguageModel, design: TrapDesign, *, seed: int, on_done: Callable[[int, int], None] | None = None
) -> list[Candidate]:
    """Sample candidates until every stratum is full.

    Each round samples from the beginning-of-sequence token at the next temperature of the sweep, makes the
    samples canonical (decode, re-encode, truncate to the length, round trip), drops those too similar to an
    accepted one (Jaccard of token-id sets over the whole pool) and sorts them by perplexity.

    Args:
        lm: The generator.
        design: Lengths, buckets, numbers, temperatures.
        seed: Seed of the draw.
        on_done: Called after each round with (accepted so far, wanted in all).

    Returns:
        ``design.per_stratum`` candidates for each stratum, by length, then bucket, in order of acceptance.

    Raises:
        InputError: The rounds are used up before every stratum is full; the message tells the counts.
    """
    start = prefix_ids(lm) or [int(lm.tokenizer.eos_token_id or 0)]
    buckets = [
        f"[{low:g}, {high:g})"
        for low, high in zip(design.perplexity_edges[:-1], design.perplexity_edges[1:], strict=True)
    ]
    wanted = design.per_stratum * len(buckets) * len(design.lengths)
    overlap = Overlap(design.max_jaccard)
    pool: list[Candidate] = []
    for length in design.lengths:
        strata: dict[str, list[Candidate]] = {bucket: [] for bucket in buckets}
        for round_ in range(design.max_rounds):
            temperature = design.temperatures[round_ % len(design.temperatures)]
            first = (length * design.max_rounds + round_) * design.samples_per_round
            texts = _canonical_samples(
                lm, start, length=length, temperature=temperature, seed=seed, first=first, n=design.samples_per_round
            )
            for candidate in _with_perplexity(lm, texts, design.perplexity_edges, buckets):
                stratum = strata.get(candidate.bucket)
                if stratum is None or len(stratum) >= design.per_stratum or overlap.too_similar(candidate.token_ids):
                    continue
                overlap.add(candidate.token_ids)
                stratum.append(candidate)
            if on_done is not None:
                on_done(len(pool) + sum(map(len, strata.values())), wanted)
            if all(len(stratum) == design.per_stratum for stratum in strata.values()):
                break
        else:
            counts = ", ".join(f"{bucket}: {len(found)}" for bucket, found in strata.items())
            raise InputError(
                f"traps: after {design.max_rounds} rounds not every perplexity bucket of length {length} holds "
                f"{design.per_stratum} candidates ({counts}). Widen perplexity_edges, add temperatures, raise "
                "max_jaccard or max_rounds, or ask for fewer traps."
            )
        pool += [candidate for bucket in buckets for candidate in strata[bucket]]
    return pool


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


def _canonical_samples(
    lm: LanguageModel, start: Sequence[int], *, length: int, temperature: float, seed: int, first: int, n: int
) -> list[tuple[str, list[int]]]:
    """Sampled texts of exactly ``length`` tokens that survive decoding and encoding, with their ids."""
    sampling = Sampling(
        max_new_tokens=int(length * OVERSAMPLE) + 4,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        forbidden_ids=tuple(sorted(lm.tokenizer.all_special_ids)),
    )
    samples = generate(
        lm, [start] * n, sampling=sampling, seed=seed, indices=range(first, first + n), batch_size=min(n, 256)
    )
    # White space is made plain, so that a trap survives the copying and re-flowing of a document.
    texts = [" ".join(_decode(lm, sample.token_ids).split()) for sample in samples]
    cut = [" ".join(_decode(lm, ids[:length]).split()) for ids in encode(lm, texts)]
    round_trip = encode(lm, cut)
    return [
        (text, ids)
        for text, ids in zip(cut, round_trip, strict=True)
        if len(ids) == length and "\ufffd" not in text and text.isprintable() and _decode(lm, ids) == text
    ]


def _decode(lm: LanguageModel, ids: Sequence[int]) -> str:
    text = lm.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def _with_perplexity(
    lm: LanguageModel, texts: Sequence[tuple[str, list[int]]], edges: Sequence[float], buckets: Sequence[str]
) -> list[Candidate]:
    scores = token_log_probs(lm, [ids for _, ids in texts], prefix=prefix_ids(lm))
    candidates = []
    for (text, ids), score in zip(texts, scores, strict=True):
        perplexity = float(np.exp(-score.log_probs.mean(dtype=np.float64)))
        place = bisect_right(edges, perplexity) - 1
        candidates.append(
            Candidate(
                id=f"trap-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
                text=text,
                token_ids=tuple(ids),
                length=len(ids),
                perplexity=perplexity,
                bucket=buckets[place] if 0 <= place < len(buckets) else "outside",
            )
        )
    return candidates


class Overlap:
    """Jaccard similarity of token-id sets against everything accepted so far, through an inverted index."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._sizes: list[int] = []
        self._holders: dict[int, list[int]] = {}

    def too_similar(self, ids: Sequence[int]) -> bool:
        own = set(ids)
        shared = Counter(holder for token in own for holder in self._holders.get(token, ()))
        return any(count > self._most * (len(own) + self._sizes[holder] - count) for holder, count in shared.items())

    def add(self, ids: Sequence[int]) -> None:
        for token in set(ids):
            self._holders.setdefault(token, []).append(len(self._sizes))
        self._sizes.append(len(set(ids)))
