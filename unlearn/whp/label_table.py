"""Labels of a whole text: made once, in parts on disk, and read again as something to train on or to look at."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.errors import DataError
from audit.progress import Progress, silent
from audit.runs.records import content_key, plain
from audit.runs.shards import ShardedTable
from audit.text.files import make_folder

from ..sequences import NO_LABEL, Labelled, checked
from .config import WhpPlan
from .generic_labels import BlockLabels, Labeller, Translation
from .pair import Pair

BLOCKS_OF_A_PART = 64


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a text.

    Attributes:
        table: One row for each block, in the order given; columns as in `schema`.
        folder: Where they are kept.
        n_tokens: Tokens of the text.
        n_read: Tokens that went through a model, in this call; 0 when all was there already.
        seconds: That the labelling took in this call, the models' loading left out.
    """

    table: pa.Table
    folder: Path
    n_tokens: int
    n_read: int
    seconds: float


def schema(plan: WhpPlan) -> pa.Schema:
    """Columns of the labels' table: one row for each block.

    ``block`` (its number), ``token_ids``, ``log_p_original`` and ``log_p_label`` (see `BlockLabels`), ``labels@K`` for
    each kappa, and for soft labels ``soft_ids@K`` and ``soft_probs@K``, ``top_k`` for each labelled place, in order.
    """
    columns = [
        ("block", pa.int64()),
        ("token_ids", pa.list_(pa.int32())),
        ("log_p_original", pa.list_(pa.float32())),
        ("log_p_label", pa.list_(pa.float32())),
        *((f"labels@{kappa:g}", pa.list_(pa.int32())) for kappa in plan.kappas),
    ]
    if plan.labels == "soft":
        for kappa in plan.kappas:
            columns += [
                (f"soft_ids@{kappa:g}", pa.list_(pa.int32())),
                (f"soft_probs@{kappa:g}", pa.list_(pa.float16())),
            ]
    return pa.schema(columns)


def label(
    pair: Pair,
    blocks: Sequence[Sequence[int]],
    translations: Sequence[Translation],
    plan: WhpPlan,
    *,
    folder: Path,
    numbers: Sequence[int] | None = None,
    token_budget: int | None = None,
    progress: Progress = silent,
) -> Labels:
    """Labels of a text's blocks, made once: parts that are there already are read, a killed call goes on.

    They are kept in a folder of their own inside ``folder``, named by the hash of everything that determines them: the
    models and adapter, the plan, and each block with its translation, into which dictionary and seed went. A text can
    be shared out among machines by giving each some of the blocks.

    Args:
        pair: The models.
        blocks: Token ids of each block.
        translations: One for each block.
        plan: How logits are combined.
        folder: Cache; made when absent.
        numbers: The blocks' numbers in the whole text; 0, 1, 2, ... without.
        token_budget: As for `Labeller`.
        progress: Called after each part with blocks done.

    Raises:
        DataError: A block or translation does not fit the model, or the two do not belong together.
        ModelError: As in `Labeller`.
        StorageError: Disk full or not writable; finished parts stay.
    """
    texts = checked(pair.baseline, blocks, what="forget text")
    checked(pair.baseline, [one.token_ids for one in translations], what="translated text")
    numbers = range(len(texts)) if numbers is None else numbers
    _check_translations(texts, translations)
    key = content_key(
        models=pair.to_record(),
        plan=plain(plan.labelling_record(), "plan"),
        text=_digest(texts, translations, numbers),
        blocks_of_a_part=BLOCKS_OF_A_PART,
    )
    home = make_folder(folder / f"labels-{key[:20]}")
    home.chmod(0o700)  # the labels hold the text
    starts = range(0, len(texts), BLOCKS_OF_A_PART)
    began, n_read = time.monotonic(), 0
    with ShardedTable(home, key=key, n_parts=len(starts)) as parts:
        labeller = None
        for number in parts.missing():
            labeller = labeller or Labeller(pair, plan, token_budget=token_budget)
            part = slice(starts[number], starts[number] + BLOCKS_OF_A_PART)
            progress("label", part.start, len(texts))
            found = dict(labeller.label(texts[part], translations[part]))
            parts.write(number, _table(numbers[part], texts[part], found, plan))
            n_read = labeller.n_read
        progress("label", len(texts), len(texts))
        table = parts.assemble()
    return Labels(table, home, sum(map(len, texts)), n_read, time.monotonic() - began)


def _check_translations(blocks: Sequence[Sequence[int]], translations: Sequence[Translation]) -> None:
    if len(blocks) != len(translations):
        raise DataError(f"{len(blocks)} blocks, but {len(translations)} translations; give one for each.")
    for number, (ids, one) in enumerate(zip(blocks, translations, strict=True)):
        if len(one.places) != len(ids) or max(one.places, default=-1) >= len(one.token_ids):
            raise DataError(
                f"block {number} has {len(ids)} tokens, but its translation maps {len(one.places)} of them, to at most "
                f"place {max(one.places, default=-1)} of {len(one.token_ids)}; translate this very block."
            )


def _digest(blocks: Sequence[Sequence[int]], translations: Sequence[Translation], numbers: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for number, ids, one in zip(numbers, blocks, translations, strict=True):
        begun = [[place, *sorted(first)] for place, first in one.begun]
        for values in ([number], ids, one.token_ids, one.places, *begun):
            digest.update(len(values).to_bytes(8, "little") + np.asarray(values, dtype="<i8").tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def _table(
    numbers: Sequence[int], blocks: Sequence[Sequence[int]], found: Mapping[int, BlockLabels], plan: WhpPlan
) -> pa.Table:
    ordered = [found[place] for place in range(len(blocks))]
    columns: dict[str, Any] = {
        "block": list(numbers),
        "token_ids": blocks,
        "log_p_original": [one.log_p_original for one in ordered],
        "log_p_label": [one.log_p_label for one in ordered],
    }
    for kappa in plan.kappas:
        columns[f"labels@{kappa:g}"] = [one.labels[kappa] for one in ordered]
        if plan.labels == "soft":
            columns[f"soft_ids@{kappa:g}"] = [one.soft[kappa][0].ravel() for one in ordered]
            columns[f"soft_probs@{kappa:g}"] = [one.soft[kappa][1].ravel() for one in ordered]
    return pa.table(columns, schema=schema(plan))


def labelled_blocks(table: pa.Table, plan: WhpPlan) -> list[Labelled]:
    """The blocks of a labels' table as something to train on, with the labels of the plan's kappa.

    Raises:
        DataError: The table has no labels of this kind and kappa.
    """
    names = [f"labels@{plan.kappa:g}"]
    if plan.labels == "soft":
        names += [f"soft_ids@{plan.kappa:g}", f"soft_probs@{plan.kappa:g}"]
    lacking = [name for name in names if name not in table.column_names]
    if lacking:
        raise DataError(f"the labels have no column {lacking[0]}; make them with this plan.")
    found = []
    for row in range(table.num_rows):
        ids, labels, *soft = (
            table.column(name)[row].values.to_numpy(zero_copy_only=False) for name in ("token_ids", *names)
        )
        if soft:
            n = int((labels != NO_LABEL).sum())
            soft_ids = soft[0].reshape(n, -1).astype(np.int64)
            probs = soft[1].reshape(n, -1).astype(np.float32)
            soft = [soft_ids, probs / probs.sum(axis=1, keepdims=True)]  # float16 rounds the sum off 1
        found.append(Labelled(ids.astype(np.int64), labels.astype(np.int64), *soft))
    return found


def movements(table: pa.Table, plan: WhpPlan) -> pa.Table:
    """How far each label moved from the block's own token, for a report.

    Returns:
        One row for each labelled token: ``block``, ``place``, ``token`` (the block's own), ``label``,
        ``log_p_original`` and ``nats`` = log p(label) - log p(own token), both under the baseline on the translated
        text. 0 where the two are one token.
    """
    columns: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("block", "place", "token", "label", "log_p_original", "nats")
    }
    for row, one in enumerate(labelled_blocks(table, plan)):
        at = np.flatnonzero(one.labels != NO_LABEL)
        own, label_p = (table.column(name)[row].values.to_numpy() for name in ("log_p_original", "log_p_label"))
        values = (np.full(len(at), table.column("block")[row].as_py()), at, one.ids[at], one.labels[at], own[at])
        for name, column in zip(columns, (*values, label_p[at] - own[at]), strict=True):
            columns[name].append(column)
    return pa.table({name: np.concatenate(parts) if parts else [] for name, parts in columns.items()})
