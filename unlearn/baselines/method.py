"""How every baseline method is run: its terms, a retain term, one training, one result on disk.

    loss of a step = forget_weight * mean of the method's forget loss + retain_weight * mean of the retain term

A method is its terms; the loop, resuming, adapters and saving are those of the other remedies, so that what is compared
is the loss and nothing else. Departure from the published trainers: where a loss is one of tokens, the mean is over all
tokens of a step, not first over each text's. The last step's weights are the result; nothing is validated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from audit.errors import DataError, InputError
from audit.lm.load import LanguageModel
from audit.lm.subject import Subject
from audit.progress import Progress, silent
from audit.runs.records import content_key, plain

from ..checkpoints import finished, work_folder
from ..initial import initial
from ..lora import Twin
from ..sequences import Labelled, checked, divergence, label_loss, own_labels
from ..training import Term, processes, shuffled, train
from ..whp.reinforce import SAVE_EVERY, Trained, load_baseline, prepare, result_subject, write
from .config import BaselinePlan, RetainKind

FORGET, RETAIN = "forget", "retain"
OWN_SETTINGS = ("npo", "simnpo", "refusal", "rmu", "task_vector")


@dataclass(frozen=True, slots=True)
class Start:
    """The baseline before its training, which a method builds its terms from.

    Attributes:
        lm: The model; what is to be trained asks for a gradient.
        forget: Rows of the forget text, each with a label.
        retain: Rows of the retain text; none where no term needs them.
        plan: Settings.
        twin: The adapter, where only that is trained.
    """

    lm: LanguageModel
    forget: list[Labelled]
    retain: list[Labelled]
    plan: BaselinePlan
    twin: Twin | None

    def reference(self) -> Callable[[], AbstractContextManager[None]]:
        """A context in which ``lm`` is the baseline: the adapter off, or the weights that are trained as they are now.

        Without an adapter this copies those weights; no second model is loaded.
        """
        return initial(self.lm.model) if self.twin is None else self.twin.off

    def forget_term(
        self,
        items: Sequence[Any],
        loss: Callable[[Any, Sequence[Any]], Any],
        n_targets: Callable[[Any], int],
        *,
        sign: float = 1.0,
    ) -> Term[Any]:
        """A loss on the forget text; ``items`` have a number of tokens, ``n_tokens``."""
        draw = shuffled(items, batch_size=self.plan.batch_size, seed=self.plan.seed)
        weight = sign * self.plan.forget_weight
        return Term(FORGET, draw, loss, attrgetter("n_tokens"), n_targets, weight=weight)

    def retain_term(self, loss: Callable[[Any, Sequence[Labelled]], Any], *, n_reads: int = 0) -> Term[Any]:
        """A loss on the labelled places of the retain text."""
        size = self.plan.retain_batch_size or self.plan.batch_size
        draw = shuffled(self.retain, batch_size=size, seed=self.plan.seed + 1)
        weight = self.plan.retain_weight
        return Term(RETAIN, draw, loss, attrgetter("n_tokens"), n_labels, weight=weight, n_reads=n_reads)


def n_labels(row: Labelled) -> int:
    return row.n_labels


def one(_item: object) -> int:
    """Targets of an item whose loss is one number for the whole text."""
    return 1


@dataclass(frozen=True, slots=True)
class Method:
    """A baseline method.

    Attributes:
        name: What plans and results call it.
        terms: What it minimises, without a "mixed" or "kl" retain term.
        retain: The retain terms that it can have; the first is its usual one. "activations" is made by ``terms``.
        settings: Field of the plan that holds its own settings; None where it has none.
        ending: Called before the training, gives back what is then done to the trained weights.
    """

    name: str
    terms: Callable[[Start], list[Term[Any]]]
    retain: tuple[RetainKind, ...]
    settings: str | None = None
    ending: Callable[[Start], Callable[[], None]] | None = None

    def __call__(
        self,
        subject: Subject,
        forget: Sequence[Sequence[int] | Labelled],
        retain: Sequence[Sequence[int] | Labelled],
        plan: BaselinePlan,
        *,
        out: Path,
        on_eval: Callable[[int, LanguageModel], None] | None = None,
        eval_every: int | None = None,
        progress: Progress = silent,
    ) -> Trained:
        """Train and save in ``out``; killed, the same call goes on from its last checkpoint.

        Args:
            subject: The model that knows the forget text; its files are only read.
            forget: Blocks of the forget text: token ids, or rows whose labels say which tokens count (an answer after
                its question, say).
            retain: Blocks of text that should stay as it is known; not read where the method has no retain term.
            plan: Settings.
            out: Folder of the result: an ordinary checkpoint, or a PEFT adapter.
            on_eval: Called with the number of steps and the model, every ``eval_every`` steps; it decides nothing.
            eval_every: See ``on_eval``.
            progress: Called after every step.

        Raises:
            InputError: ``out`` is taken or an input's folder, the model has an adapter already, the method has no such
                retain term, or there is a retain term and no retain text.
            DataError, ModelError: A block does not fit the model; see also `unlearn.training.train`.
            StorageError: Disk full or not writable.
        """
        kind = self._retain_kind(plan)
        if kind != "none" and not retain:
            raise InputError(f'{self.name}: the retain term is "{kind}", but no retain text was given. Give some.')
        team = processes()
        lm = load_baseline(subject, plan.weights, team)
        rows = texts(lm, forget, what="forget text")
        others = [] if kind == "none" else texts(lm, retain, what="retain text")
        key = content_key(
            stage=self.name,
            model=lm.fingerprint.to_record(),
            dtype=str(lm.model.dtype),
            forget=_record(rows),
            retain=_record(others),
            plan=plain(self._settings(plan, kind), "plan"),
        )
        record = finished(out, key, inputs=subject)
        if record is None:
            twin = prepare(lm, plan.weights, plan.lora, seed=plan.seed)
            start = Start(lm, rows, others, plan, twin)
            end = None if self.ending is None else self.ending(start)
            terms = self.terms(start)
            if kind == "mixed":
                terms.append(start.retain_term(label_loss))
            elif kind == "kl":
                terms.append(start.retain_term(divergence(lm.model, start.reference()), n_reads=1))
            log = train(
                lm.model,
                terms,
                plan.recipe,
                seed=plan.seed,
                stage=self.name,
                key=key,
                work=work_folder(out),
                on_eval=None if on_eval is None else lambda step: on_eval(step, lm),
                eval_every=None if on_eval is None else eval_every,
                save_every=SAVE_EVERY,
                team=team,
                progress=progress,
            )
            if end is not None:
                end()
            record = write(out, lm, twin, key=key, stage=self.name, log=log.to_record(), team=team)
        return Trained(out, result_subject(subject, out, plan.weights), record["log"])

    def _retain_kind(self, plan: BaselinePlan) -> RetainKind:
        kind = plan.retain or self.retain[0]
        if kind not in self.retain:
            raise InputError(
                f'{self.name} has no retain term "{kind}"; expected {" or ".join(self.retain)}, or none given.'
            )
        return kind

    def _settings(self, plan: BaselinePlan, kind: RetainKind) -> dict[str, Any]:
        record = {name: value for name, value in plan.to_record().items() if name not in OWN_SETTINGS}
        own = None if self.settings is None else getattr(plan, self.settings)
        return record | {"retain": kind, "own": None if own is None else dataclasses.asdict(own)}


def texts(lm: LanguageModel, blocks: Sequence[Sequence[int] | Labelled], *, what: str) -> list[Labelled]:
    """Blocks as rows that the model can read, those without a label left out.

    Raises:
        InputError: A row has soft labels.
        DataError, ModelError: See `unlearn.sequences.checked`; or no row has a label.
    """
    rows = [block if isinstance(block, Labelled) else own_labels(block) for block in blocks]
    if any(row.soft_ids is not None for row in rows):
        raise InputError(f"the {what} has soft labels, which no baseline method reads; give the tokens themselves.")
    checked(lm, [row.ids.tolist() for row in rows], what=what)
    kept = [row for row in rows if row.n_labels]
    if not kept:
        raise DataError(f"no block of the {what} has a label, so there is nothing to train on. Give more text.")
    return kept


def _record(rows: Sequence[Labelled]) -> list[list[list[int]]]:
    return [[row.ids.tolist(), row.labels.tolist()] for row in rows]
