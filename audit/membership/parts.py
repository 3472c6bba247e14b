"""Score many texts part by part, so that a job that was killed goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from ..lm.load import LanguageModel
from ..lm.tokens import check_lengths, encode
from ..progress import Progress
from ..runs.records import content_key
from ..runs.shards import ShardedTable
from .extras import NOTHING, Extras, FurtherPasses
from .score import score_tokens

PART_TOKENS = 65_536  # tokens that are scored between two writes
PART_TEXTS = 4_096  # texts, likewise
COLUMNS = ("n_tokens", "loss", "min_k", "min_k_plus_plus", "zlib", "truncated")


def score_in_parts(
    lm: LanguageModel,
    texts: Sequence[str],
    ids: Sequence[str],
    *,
    open_parts: Callable[[str, int], ShardedTable],
    k: float,
    truncate: bool,
    what: str,
    progress: Progress,
    token_budget: int | None = None,
    extras: Extras = NOTHING,
) -> pa.Table:
    """Scores of all texts in their order, columns `COLUMNS` (see `audit.membership.score.TextScores`) and of extras.

    Every text is encoded and its length checked before anything is computed.

    Args:
        lm: The model.
        texts: The texts.
        ids: A name for each, used in messages.
        open_parts: (key, number of parts) -> where finished parts are kept; the key names all that the scores
            depend on.
        k: Share of the tokens that Min-K% and Min-K%++ average over.
        truncate: Score the first tokens of a text that is too long, instead of refusing it.
        what: Name of the work, for ``progress``.
        progress: Told the number of texts done; with extras, of texts and their variants.
        token_budget: As in `audit.lm.logprobs.token_log_probs`.
        extras: Scores beyond those of one pass. Without any, key and columns are what they are without this argument.

    Raises:
        InputError: A shot cannot be used (`audit.membership.recall`).
        DataError: A text is too long or has nothing to score.
        ModelError: As in `audit.membership.score.score_texts`; parts that were finished before stay.
    """
    sequences, cut = check_lengths(lm, ids, encode(lm, texts), truncate=truncate)
    further = FurtherPasses.prepare(lm, extras, sequences, texts, ids=ids, cut=cut, truncate=truncate)
    sequences, cut = further.sequences, further.cut
    truncated = np.isin(np.array(ids, dtype=object), cut)
    parts = _parts([len(sequence) * extras.n_passes for sequence in sequences])
    key = content_key(
        texts=list(texts),
        ids=list(ids),
        k=k,
        truncate=truncate,
        dtype=str(lm.model.dtype),
        device=lm.device.type,  # another kind of device rounds otherwise, and one table holds one rounding
        model=lm.fingerprint.to_record(),
        parts=[part.start for part in parts],
        **({"extras": extras.to_record()} if extras.columns else {}),
    )
    with open_parts(key, len(parts)) as table:
        done = sum(parts[number].stop - parts[number].start for number in table.done()) * extras.n_passes

        def tell(n: int) -> None:
            nonlocal done
            done += n
            progress(what, done, len(texts) * extras.n_passes)

        tell(0)
        for number in table.missing():
            part = parts[number]
            scores = score_tokens(
                lm,
                sequences[part],
                texts[part],
                ids=ids[part],
                truncated=truncated[part],
                k=k,
                token_budget=token_budget,
                on_done=tell,
            )
            columns = {name: getattr(scores, name) for name in COLUMNS}
            columns |= further.columns(part, scores, token_budget=token_budget, on_done=tell)
            table.write(number, pa.table(columns))
        return table.assemble()


def _parts(n_tokens: Sequence[int]) -> list[slice]:
    """Runs of texts with at most so many tokens and texts, but at least one text."""
    parts, start, tokens = [], 0, 0
    for place, n in enumerate(n_tokens):
        if place > start and (tokens + n > PART_TOKENS or place - start == PART_TEXTS):
            parts.append(slice(start, place))
            start, tokens = place, 0
        tokens += n
    return [*parts, slice(start, len(n_tokens))]
