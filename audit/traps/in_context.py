"""Traps in their context: each planted trap and one decoy, both read after the text that stood before a copy.

Meeus et al. (arXiv:2402.09363, released code): one random occurrence of each trap; the X tokens before it, earlier
copies of the trap taken out; a decoy of the same stratum gets the same context; only the trap's own tokens are scored.
Departures: tokens are told apart by characters, not counted (`audit.membership.context`), and the test is exact:

    d_i = score(trap_i | context_i) - score(decoy_i | context_i),    sign test of d_1, d_2, ... at 1/2

If the model never saw the traps, it was decided by a coin which of the two stood in that place, whatever else of the
document the model knows. Context helps where copies share their surroundings; where they are scattered it need not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import DataError, InputError
from ..stats.estimate import Estimate, PValue
from ..stats.permutation import sign_test
from ..stats.proportion import wilson
from ..text.files import sha256_file
from ..text.safe import quoted
from .config import DetectionPlan
from .planting.corpus import SourceFile, documents, list_sources
from .planting.hosts.document import HostOptions
from .planting.placements import Placements, PlantedDocument

if TYPE_CHECKING:
    from ..lm.load import LanguageModel
    from ..membership.context import ContextScores

CHARACTERS = 64  # kept before a copy for each token of context; more than any tokenizer needs on real text


@dataclass(frozen=True, slots=True)
class InContext:
    """What the pairs say.

    Attributes:
        n_tokens: Tokens of context asked for.
        share: Share of the pairs in which the planted trap scores higher, ties counting as not higher.
        p_value: Sign test, one-sided.
        share_alone: The same pairs without context.
    """

    n_tokens: int
    share: Estimate
    p_value: PValue
    share_alone: Estimate


def contexts_of(placements: Placements, planted: Path, *, n_tokens: int, seed: int) -> dict[str, str]:
    """For each member, what stands before one copy of it, drawn at random; earlier copies of it are taken out.

    Args:
        placements: Where the copies stand.
        planted: The file or folder that `traps inject` wrote.
        n_tokens: Tokens of context that will be asked for; so many characters as they can need are kept.
        seed: Seed of the draw.

    Returns:
        Trap id -> context, the separator before the copy included.

    Raises:
        InputError: The planted text is not there.
        DataError: A file of it was changed, or is missing.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(3,))))
    chosen = {trap.id: int(rng.integers(trap.n_rep)) for trap in placements.traps}
    options = HostOptions(
        separator=placements.options.separator,
        field=placements.options.field,
        id_field=placements.options.id_field,
        html=placements.options.html,
    )
    found: dict[str, str] = {}
    for document, text in _texts(placements, planted, options):
        for copy in document.copies:
            trap = placements.traps[copy.trap]
            if copy.copy != chosen[trap.id]:
                continue
            earlier = [other for other in document.copies if other.trap == copy.trap and other.offset < copy.offset]
            before = text[: copy.offset]
            for other in reversed(earlier):
                before = before[: other.offset] + before[other.offset + other.n_characters :]
            lead = text[copy.offset : copy.offset + copy.n_characters].split(trap.text_of(copy.copy))[0]
            found[trap.id] = before[-CHARACTERS * max(1, n_tokens) :] + lead
    missing = [trap.id for trap in placements.traps if trap.id not in found]
    if missing:
        raise DataError(
            f"{planted} holds no text for {len(missing):,} of {len(placements.traps):,} planted traps, first "
            f"{quoted(missing[0])}. Give all that `traps inject` wrote."
        )
    return found


def _texts(placements: Placements, planted: Path, options: HostOptions) -> Iterator[tuple[PlantedDocument, str]]:
    """The documents with copies, and their texts as planted."""
    there = {file.name: file for file in list_sources(planted).files}
    if placements.single_file and len(there) == 1:
        there = {placements.files[0].path: next(iter(there.values()))}
    for number, group in groupby(placements.documents, key=lambda document: document.file):
        wanted = list(group)
        yield from _of_file(_same_file(placements, number, there, planted), wanted, options)


def _same_file(placements: Placements, number: int, there: Mapping[str, SourceFile], planted: Path) -> SourceFile:
    recorded = placements.files[number]
    file = there.get(recorded.path)
    if file is None:
        raise DataError(f"{planted} lacks {quoted(recorded.path)}, in which traps were planted. Give all of it.")
    if sha256_file(file.path) != recorded.planted_sha256:
        raise DataError(
            f"{file.path} was changed after traps were planted in it. Give the version that `traps inject` wrote."
        )
    return replace(file, name=recorded.path)  # unnamed documents are named after the file


def _of_file(
    file: SourceFile, wanted: Sequence[PlantedDocument], options: HostOptions
) -> Iterator[tuple[PlantedDocument, str]]:
    names = {document.id: document for document in wanted}
    for document in documents(file, options):
        if document.id in names and document.text is not None:
            yield names[document.id], document.text


def pair_up(items: pd.DataFrame, contexts: Mapping[str, str], *, seed: int) -> pd.DataFrame:
    """One decoy of its own stratum for each member with a context, at random; no decoy serves twice.

    Args:
        items: Traps: ``trap_id, arm, stratum``.
        contexts: Trap id -> context of members.
        seed: Seed of the pairs.

    Returns:
        Columns ``member`` and ``decoy`` (rows of ``items``) and ``context``. In a stratum with fewer decoys than
        members only so many pairs are made.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(4,))))
    ids = items["trap_id"].to_numpy()
    pairs: list[tuple[int, int]] = []
    for stratum in sorted(items["stratum"].unique()):
        inside = (items["stratum"] == stratum).to_numpy()
        members = np.flatnonzero(inside & (items["arm"] == "member").to_numpy() & items["trap_id"].isin(contexts))
        decoys = np.flatnonzero(inside & (items["arm"] == "decoy").to_numpy())
        pairs += list(zip(rng.permutation(members).tolist(), rng.permutation(decoys).tolist(), strict=False))
    if not pairs:
        raise InputError("no planted trap has both a context and a decoy of its own stratum; leave context_tokens out.")
    table = pd.DataFrame(pairs, columns=["member", "decoy"]).astype("int64")
    return table.assign(context=[contexts[ids[row]] for row in table["member"]])


def score_pairs(
    lm: LanguageModel,
    items: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    plan: DetectionPlan,
    n_tokens: int,
    on_done: Callable[[int], None] | None = None,
) -> tuple[ContextScores, ContextScores]:
    """Scores of the members and of the decoys of the pairs, each after the pair's context; errors as there."""
    from ..membership.context import score_in_context  # with torch, which nothing else here needs

    found = []
    for side in ("member", "decoy"):
        rows = pairs[side].to_numpy()
        found.append(
            score_in_context(
                lm,
                pairs["context"].tolist(),
                items["text"].iloc[rows].tolist(),
                ids=items["trap_id"].iloc[rows].tolist(),
                k=plan.k,
                max_context=n_tokens,
                on_done=on_done,
            )
        )
    return found[0], found[1]


def judged(items: pd.DataFrame, pairs: pd.DataFrame, *, plan: DetectionPlan, n_tokens: int) -> InContext:
    """The sign test of the pairs.

    Args:
        items: Traps with the primary score alone.
        pairs: With ``member_score`` and ``decoy_score``, the primary score in context.
        plan: What is tested.
        n_tokens: Tokens of context asked for.
    """
    differences = (pairs["member_score"] - pairs["decoy_score"]).to_numpy(dtype=np.float64)
    alone = items[f"{plan.primary}_score"].to_numpy(dtype=np.float64)
    without = alone[pairs["member"].to_numpy()] - alone[pairs["decoy"].to_numpy()]
    return InContext(
        n_tokens=n_tokens,
        share=wilson(int((differences > 0).sum()), len(pairs), level=plan.level),
        p_value=sign_test(differences),
        share_alone=wilson(int((without > 0).sum()), len(pairs), level=plan.level),
    )
