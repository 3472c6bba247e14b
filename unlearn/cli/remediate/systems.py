"""The systems of a loop by name, opened one at a time: subject, gold models, remedies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import InputError
from audit.lm.checkpoint import find_checkpoint, fingerprint
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.lm.tokens import encode
from audit.text.safe import counted

from ...verify.battery import Material
from ...verify.judging import require_alike
from .data import Data
from .plan import LoopPlan
from .remedies import Made, Opened, form_of, opened

SUBJECT, GOLD, GOLD_2 = "subject", "gold", "gold_2"
_LOOKED_AT = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A system of the loop.

    Attributes:
        name: In tables.
        own_weights: Its weights differ from the subject's.
        open: A context with the system.
        model: What is loaded; None of a guard or a steering, whose model is the subject.
        files: Folder of the guard's or the steering's files; None of a model.
    """

    name: str
    own_weights: bool
    open: Callable[[], AbstractContextManager[Opened]]
    model: Subject | None
    files: Path | None = None


def entries(plan: LoopPlan, path: Path, made: Sequence[Made]) -> list[Entry]:
    """Subject, gold models, and remedies in the plan's order."""
    form = form_of(plan)
    found = []
    for name in (SUBJECT, GOLD, GOLD_2):
        table = getattr(plan, name)
        if table is not None:
            subject = table.subject(path)
            found.append(Entry(name, name != SUBJECT, partial(_model, subject, form), subject))
    for one in made:
        model = one.model if one.own_weights else None
        files = None if one.own_weights else one.folder / "run"
        found.append(Entry(one.name, one.own_weights, partial(opened, one, form), model, files))
    return found


@contextmanager
def _model(subject: Subject, form: PromptFormat) -> Iterator[Opened]:
    lm = load(subject)
    yield Opened(Bare(lm, form), lm)


def fingerprint_of(subject: Subject) -> dict[str, Any]:
    """SHA-256 of weights, adapter, config and tokenizer, as a record."""
    folder, *adapters = find_checkpoint(subject)
    return fingerprint(folder, adapter=adapters[0] if adapters else None).to_record()


def check_models(prints: Mapping[str, Any]) -> None:
    """Refuse models that cannot be compared, or that are one model twice.

    Args:
        prints: Name of a model -> its fingerprint as a record.

    Raises:
        InputError: Names the table of the plan.
    """
    for name in (GOLD, GOLD_2):
        if name not in prints:
            continue
        try:
            require_alike(prints[SUBJECT], prints[name])
        except InputError as error:
            raise InputError(f"[{name}]: {error}") from error
        if prints[name]["weights"] == prints[SUBJECT]["weights"]:
            raise InputError(
                f"[{name}] has the subject's weights; expected a model that was trained without the forget set."
            )
    if GOLD_2 in prints and prints[GOLD_2]["weights"] == prints[GOLD]["weights"]:
        raise InputError("[gold_2] has the weights of [gold]; expected one that was trained with another seed.")


def require_clusters(given: Material) -> None:
    """Refuse a forget set of one cluster: there is no other to measure on while one is tuned on.

    Raises:
        InputError: Says what is there.
    """
    for what, n in (
        ("rows", len({row.cluster for row in given.forget_rows})),
        ("texts", len({one.id for one in given.forget_texts})),
    ):
        if n > 1:
            return
        if n == 1 and (what == "texts" or not given.forget_texts):
            raise InputError(
                f"the forget {what} are of one cluster; expected two or more (eight for a verdict), to tune on some "
                'and measure on others. Give more, a field "cluster" with more values, or a smaller cluster_size.'
            )


def gives_numbers(entry: Entry, given: Material) -> bool:
    """Whether the logits of a system are finite after what it is asked; of a guard, whose model is the subject, yes.

    Raises:
        ModelError: It cannot be loaded.
    """
    texts = [row.prompt for row in given.forget_rows[:_LOOKED_AT]]
    texts += [one.text for one in given.forget_texts[:_LOOKED_AT]]
    with entry.open() as opened:
        lm = opened.lm
        if lm is None:
            return True
        for ids in encode(lm, texts):
            tokens = torch.tensor([ids[: lm.n_context]], device=lm.device)
            with torch.inference_mode():
                if tokens.numel() and not bool(
                    torch.isfinite(lm.model(input_ids=tokens, use_cache=False).logits).all()
                ):
                    return False
    return True


def material(plan: LoopPlan, data: Data) -> tuple[Material, tuple[str, ...]]:
    """What is measured: of large sets some rows, drawn at random from every cluster; and how many were drawn, told."""
    verify = plan.verify
    told: list[str] = []

    def drawn(name: str, rows: Sequence[QaRow], most: int) -> tuple[QaRow, ...]:
        if len(rows) <= most:
            return tuple(rows)
        kept = limited(rows, most, seed=verify.seed)
        n = len({row.cluster for row in kept})
        told.append(
            f"Of {counted(len(rows), f'{name} row')} {len(kept):,} of {counted(n, 'cluster')} were measured, drawn at "
            "random."
        )
        return kept

    found = Material(
        forget_rows=drawn("forget", data.forget.rows, verify.max_rows),
        forget_texts=data.forget.texts,
        never_rows=drawn("never", data.never.rows, verify.max_controls),
        never_texts=data.never.texts,
        neighbour_rows=drawn("neighbour", data.neighbours.rows, verify.max_controls),
        neighbour_texts=data.neighbours.texts,
        general_texts=data.general.texts,
        real_authors=data.real_authors,
        world_facts=data.world_facts,
    )
    return found, tuple(told)


def limited(rows: Sequence[QaRow], most: int, *, seed: int) -> tuple[QaRow, ...]:
    """At most so many rows, in their order: one of each cluster in turn, clusters and rows in a random order.

    Intervals are over clusters, so that more clusters with fewer rows each say more than the other way round.
    """
    rng = np.random.default_rng([seed, 9])
    turns: dict[str, int] = {}
    order = rng.permutation(len(rows)).tolist()
    numbers = rng.permutation(len(rows)).tolist()
    by_place: dict[int, tuple[int, int]] = {}  # turn of the row in its cluster, and a random number
    for place in order:
        turn = turns.get(rows[place].cluster, 0)
        turns[rows[place].cluster] = turn + 1
        by_place[place] = (turn, numbers[place])
    kept = set(sorted(by_place.values())[:most])
    return tuple(row for place, row in enumerate(rows) if by_place[place] in kept)
