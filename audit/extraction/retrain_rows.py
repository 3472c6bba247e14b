"""The rows of the retraining experiment: who may be trained on, who may be asked, and what is left out and counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..errors import DataError, InputError
from ..lm.checkpoint import find_folder
from ..lm.files import check_headers, weight_files
from ..lm.load import Tokens
from ..lm.subject import Subject
from ..matching.clusters import near_duplicates
from ..progress import Progress, silent
from ..text.safe import counted, quoted
from .config import MatchPlan
from .finetune import Fit, Pair, encode_pairs, how_pairs_fit
from .prefixes import prefixes
from .presets import Chat
from .retrain import EXTRACTED, ORIGINAL, SHUFFLED, ArmRows, extracted_rows, shuffled
from .retrain_intervals import LEAST_CLUSTERS, effective_number
from .rows import Rows

HELD_OUT = "held out"
TOO_LONG: Mapping[Fit, str] = {
    "no room": "the question leaves no room for an answer",
    "no tokens": "a side has no tokens",
}


@dataclass(frozen=True, slots=True)
class Arms:
    """What is trained on and what is asked.

    Attributes:
        rows: Arm ("original", "extracted") -> its rows, each as often as it is seen in a pass.
        dealings: Seed of a training -> the extracted rows, their answers dealt to other questions.
        held_out: Rows that are asked, all whole.
        clusters: A label for each of them; what was dealt as one, else near-duplicates.
        left_out: Set ("original", "extracted", "held out") -> reason -> rows.
        cut: Arm -> rows whose end is cut off; of "shuffled", the most in one dealing.
        n_generations: Generations, rejects included.
        n_rejected: Of these, those that were not parsed.
        n_near: Held-out rows that are asked although an extracted row is a near-duplicate of them.
        other_opening: Whether the generations were sampled after another opening than the one that is trained with.
    """

    rows: dict[str, list[Pair]]
    dealings: dict[int, list[Pair]]
    held_out: list[Pair]
    clusters: list[Hashable]
    left_out: dict[str, dict[str, int]]
    cut: dict[str, int]
    n_generations: int
    n_rejected: int
    n_near: int
    other_opening: bool

    def trained_on(self) -> dict[str, ArmRows]:
        """Rows of all three arms, as `audit.extraction.retrain.retrain` takes them."""
        return {**self.rows, SHUFFLED: self.dealings}

    def n_rows(self) -> dict[str, int]:
        """Rows of each arm; a dealing has as many as were extracted."""
        return {name: len(rows) for name, rows in self.rows.items()} | {SHUFFLED: len(self.rows[EXTRACTED])}


def check_base(base: Subject) -> None:
    """Everything that forbids to train a model and shows before its weights are loaded.

    Raises:
        InputError: There is an adapter over it, or its weights are quantised.
        ModelError: There are no weights that can be read.
    """
    if base.adapter is not None:
        raise InputError("the base model has an adapter over it; merge the two, and give the merged folder.")
    folder = find_folder(base.model, revision=base.revision, trust_remote_code=base.trust_remote_code)
    if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config") is not None:
        raise InputError(
            f"{folder} holds quantised weights, which cannot be trained; expected plain ones (float32, bfloat16 or "
            "float16). Give the folder of the model before it was quantised."
        )
    check_headers(weight_files(folder))


def arms_of(
    generations: pa.Table,
    trained: Rows,
    held_out: Rows,
    tokens: Tokens,
    chat: Chat,
    *,
    max_tokens: int,
    bos: bool = False,
    seeds: Sequence[int],
    seed: int,
    progress: Progress = silent,
) -> Arms:
    """The rows of every arm and those that are asked.

    Training rows are seen as often as their ``repeats`` say. Held-out rows with a near-duplicate among the training
    rows, fitting or not, are left out, and so are those that could not be measured whole.

    Args:
        generations: Table of `audit.extraction.sample.SCHEMA`.
        trained: Rows that the model under audit was post-trained on.
        held_out: Rows of the same source that it was not.
        tokens: The base model's tokenizer.
        chat: The format.
        max_tokens: Longest row in tokens.
        bos: As for `audit.extraction.prefixes.encode_prefix`.
        seeds: Of the trainings; the answers are dealt anew for each.
        seed: Of the hashes of near-duplicates.
        progress: Called as the work goes on.

    Raises:
        DataError: Too few rows are left of a set.
        InputError: The format has thinking before its answers, or the answers cannot be shuffled.
    """
    if chat.thinking_end:
        raise InputError(
            f"the format {quoted(chat.name)} has thinking before its answers, which rows do not hold, so no row can be "
            "written in it. Choose the format of a model that was trained on questions and answers."
        )
    left_out: dict[str, dict[str, int]] = {}
    cut: dict[str, int] = {}

    def fitting(name: str, pairs: Sequence[Pair]) -> list[Pair]:
        fits = how_pairs_fit(tokens, pairs, chat, max_tokens=max_tokens, bos=bos)
        left_out[name] = _reasons([TOO_LONG.get(fit) for fit in fits])
        cut[name] = fits.count("cut")
        return [pair for pair, fit in zip(pairs, fits, strict=True) if fit not in TOO_LONG]

    emitted = extracted_rows(generations)
    n_rejected = sum(reject is not None for reject in generations["reject"].to_pylist())
    _require(emitted, f"{counted(generations.num_rows, 'generation')}, {n_rejected:,} of them rejects, give", 2)
    copies = [1 if n is None else n for n in trained.repetitions]  # a control canary was never trained on
    original = fitting(ORIGINAL, [pair for pair, n in zip(_pairs(trained), copies, strict=True) for _ in range(n)])
    _require(original, f"{trained.source}: {counted(len(trained), 'training row')} give", 1)
    if copies.count(0):
        left_out[ORIGINAL]["never trained on (repeats 0)"] = copies.count(0)
    rows = {ORIGINAL: original, EXTRACTED: fitting(EXTRACTED, emitted)}
    _require(rows[EXTRACTED], f"{counted(len(emitted), 'distinct generation')} give", 2)
    dealings = {one: shuffled(rows[EXTRACTED], seed=one) for one in seeds}
    cut[SHUFFLED] = max(
        how_pairs_fit(tokens, dealt, chat, max_tokens=max_tokens, bos=bos).count("cut") for dealt in dealings.values()
    )
    asked, clusters, left_out[HELD_OUT] = _asked(
        trained, held_out, tokens, chat, max_tokens=max_tokens, bos=bos, seed=seed, progress=progress
    )
    measured = encode_pairs(tokens, asked, chat, max_tokens=max_tokens, bos=bos)
    n_answer = [row.answer_stop - row.answer_start for row in measured]
    _require_clusters(n_answer, clusters, held_out.source, left_out[HELD_OUT])
    near = _labels([*asked, *rows[EXTRACTED]], seed, silent)
    known = set(near[len(asked) :])
    seen = {str(sha256) for sha256 in generations["prefix_sha256"].to_pylist() if sha256 is not None}
    return Arms(
        rows=rows,
        dealings=dealings,
        held_out=asked,
        clusters=clusters,
        left_out=left_out,
        cut=cut,
        n_generations=generations.num_rows,
        n_rejected=n_rejected,
        n_near=sum(label in known for label in near[: len(asked)]),
        other_opening=bool(seen) and seen.isdisjoint(one.ids_sha256 for one in prefixes(tokens, chat, bos=bos)),
    )


def _asked(
    trained: Rows,
    held_out: Rows,
    tokens: Tokens,
    chat: Chat,
    *,
    max_tokens: int,
    bos: bool,
    seed: int,
    progress: Progress,
) -> tuple[list[Pair], list[Hashable], dict[str, int]]:
    """Held-out rows that can be asked, their clusters, and why others are left out."""
    pairs = _pairs(held_out)
    labels = _labels([*_pairs(trained), *pairs], seed, progress)
    known, own = set(labels[: len(trained)]), labels[len(trained) :]
    fits = how_pairs_fit(tokens, pairs, chat, max_tokens=max_tokens, bos=bos)
    reasons = [
        "a near-duplicate among the training rows"
        if label in known
        else f"longer than {max_tokens:,} tokens"
        if fit == "cut"
        else TOO_LONG.get(fit)
        for label, fit in zip(own, fits, strict=True)
    ]
    told = held_out.clusters or [None] * len(pairs)
    kept = [
        (pair, label if unit is None else unit)
        for pair, label, unit, reason in zip(pairs, own, told, reasons, strict=True)
        if reason is None
    ]
    return [pair for pair, _ in kept], [label for _, label in kept], _reasons(reasons)


def _pairs(rows: Rows) -> list[Pair]:
    return [Pair(*row) for row in zip(rows.ids, rows.questions, rows.answers, strict=True)]


def _labels(pairs: Sequence[Pair], seed: int, progress: Progress) -> list[int]:
    """Cluster of near-duplicates of each row, by the text that is trained on."""
    found = near_duplicates(
        [f"{pair.question}\n{pair.answer}" for pair in pairs],
        threshold=MatchPlan().near_duplicate,
        seed=seed,
        on_done=lambda done: progress("Comparing rows", done, len(pairs)),
    )
    return [int(label) for label in found]


def _reasons(reasons: Sequence[str | None]) -> dict[str, int]:
    return dict(Counter(reason for reason in reasons if reason is not None).most_common())


def _require(pairs: Sequence[Pair], what: str, least: int) -> None:
    if len(pairs) < least:
        raise DataError(
            f"{what} {counted(len(pairs), 'row')} to train on, and {least} or more are needed. Rejects, repetitions "
            "and questions that leave no room for an answer cannot be used: sample more, with another prefix where "
            "most are rejects, or allow longer rows with --max-tokens."
        )


def _require_clusters(
    n_answer: Sequence[int], clusters: Sequence[Hashable], source: str, left_out: Mapping[str, int]
) -> None:
    """Refuses, before anything is trained, held-out rows that could not give a verdict."""
    effective = effective_number(np.array(n_answer, dtype=np.float64), clusters) if n_answer else 0.0
    if effective < LEAST_CLUSTERS - 1e-6:
        reasons = "".join(f"; {n:,} left out: {reason}" for reason, n in left_out.items())
        raise DataError(
            f"{source}: {counted(len(n_answer), 'held-out row')} in {counted(len(set(clusters)), 'cluster')} can be "
            f"asked{reasons}. By the tokens of their answers they count as {effective:,.1f} equal clusters, and the "
            f"verdict needs {LEAST_CLUSTERS}; hold out more rows."
        )
