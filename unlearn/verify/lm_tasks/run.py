r"""Run tasks through lm-eval's Python API, and give a number for each item, so that intervals are ours.

    acc              1 where the right option has the highest log-probability, else 0; of tied ones the first is taken
    acc_norm         the same of log-probability / characters of the option
    bits per byte    -log2 p(text) / bytes of the text, whole texts, windows as long as the context

Source: lm-eval 0.4.13 (Gao et al.), whose own number and standard error are kept beside ours; the two means must agree,
and its standard error must be that of our items, or the run is refused. Departures: the beginning-of-sequence token is
put before each text where the tokenizer has one, and names of control tokens in a text are ordinary text, as everywhere
here; an item that does not fit the context is left out and told, where lm-eval cuts the question's beginning.

The model is read by its own weights: a guard, a filter or an instruction around it is not seen.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from audit.errors import InputError, InstrumentError, MissingDependencyError
from audit.forgetting.measured import Measured
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.progress import Progress, silent
from audit.text.safe import quoted

from ..found import Found
from ..measures import Measure
from .files import KINDS, Item, TaskFile, read_items
from .task_files import write_task

AGREEMENT: Final = 1e-9
_OFFLINE: Final = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
_BATCH: Final = 16
STAGE: Final = "lm-eval tasks"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task of one model.

    Attributes:
        task: Which.
        measured: Metric -> a number for each item.
        own: Metric -> lm-eval's number; of bits per byte it is weighted by bytes, ours is the mean over texts.
        own_error: Metric -> lm-eval's standard error; None where it has none.
        chance: Mean of 1 / options; None for text.
        n_tied: Items whose highest log-probability is shared; there the first option was taken.
        version: Of lm-eval.
    """

    task: TaskFile
    measured: Mapping[str, Measured]
    own: Mapping[str, float]
    own_error: Mapping[str, float | None]
    chance: float | None
    n_tied: int
    version: str

    @property
    def found(self) -> Found:
        """Under the keys of `measure_of`."""
        return Found({f"lm_tasks.{self.task.name}.{metric}": one for metric, one in self.measured.items()}, {})


def measure_of(task: TaskFile, metric: str) -> Measure:
    """What a metric of a task is, for tables."""
    key, name = f"lm_tasks.{task.name}.{metric}", task.name
    if metric == "bits_per_byte":
        return Measure(
            key, f"{name}, bits per byte", "utility", "less is useful", 0.0, None, "-log2 p(text) / bytes",
            "lm-eval 0.4.13", "a text that was trained on has few",
        )  # fmt: skip
    formula = {"acc": "argmax of log p(option) is right", "acc_norm": "argmax of log p(option) / characters is right"}
    return Measure(
        key, f"{name}, {metric}", "utility", "more is useful", 0.0, 1.0, formula[metric], "lm-eval 0.4.13",
        "chance is 1 / options, and small models stand there before and after: no loss can be seen; ties go to the "
        "first option",
    )  # fmt: skip


def run_tasks(
    lm: LanguageModel,
    tasks: Sequence[TaskFile],
    *,
    folder: Path | None = None,
    batch_size: int = _BATCH,
    progress: Progress = silent,
) -> list[TaskResult]:
    """Evaluate a model on tasks over local files; nothing is fetched from a network.

    Args:
        lm: The model.
        tasks: One or more, with different names.
        folder: Where task files are written, to be kept; None is a temporary folder.
        batch_size: Texts at a time.
        progress: Called with ("lm-eval tasks", rows done, rows at most).

    Returns:
        One result for each task.

    Raises:
        MissingDependencyError: lm-eval is not installed.
        InputError: Two tasks share a name, no item of a task fits the context, or as `files.read_items`.
        DataError: As `files.read_items`.
        InstrumentError: lm-eval's numbers are not those of its own items.
    """
    names = [task.name.lower() for task in tasks]
    if not tasks or len(set(names)) < len(names):
        raise InputError(f"the tasks are {', '.join(names) or 'none'}; expected one or more, each with its own name.")
    read = [_that_fit(lm, task, read_items(task)) for task in tasks]
    with _quiet_and_offline(), _folder(folder) as where:
        harness = _Harness()
        n_rows = sum(len(item.pairs) for items, _ in read for item in items)
        names = [write_task(task, items, where) for task, (items, _) in zip(tasks, read, strict=True)]
        with harness.without_bars():
            told = harness.evaluate(
                model=_wrapped(harness, lm, batch_size, lambda done: progress(STAGE, min(done, n_rows), n_rows)),
                tasks=names,
                task_manager=harness.manager(include_path=str(where), include_defaults=False),
                log_samples=True,
                bootstrap_iters=1,  # its standard errors of means are a formula; others would be bootstrapped
                random_seed=None,  # the caller's random streams are left alone
                numpy_random_seed=None,
                torch_random_seed=None,
            )
        progress(STAGE, n_rows, n_rows)
    return [
        _result(harness.version, task, items, left_out, told["samples"][name], told["results"][name])
        for task, name, (items, left_out) in zip(tasks, names, read, strict=True)
    ]


def _that_fit(lm: LanguageModel, task: TaskFile, items: list[Item]) -> tuple[list[Item], dict[str, str]]:
    """Items whose every option fits the context behind its question, and why the others do not."""
    if task.kind == "text":
        return items, {}
    room = lm.n_context - len(prefix_ids(lm))
    flat = [f"{context} {ending}" for item in items for context, ending in item.pairs]
    sizes = iter(map(len, encode(lm, flat)))
    longest = [max(next(sizes) for _ in item.pairs) for item in items]
    left_out = {
        item.id: f"{size:,} tokens with its longest option; the model reads at most {room:,}"
        for item, size in zip(items, longest, strict=True)
        if size > room
    }
    kept = [item for item in items if item.id not in left_out]
    if not kept:
        raise InputError(
            f"no item of task {quoted(task.name)} fits the context of {lm.n_context:,} tokens; the shortest has "
            f"{min(longest):,}. Leave the task out for this model."
        )
    return kept, left_out


class _Harness:
    """What is used of lm-eval; imported here alone, because it is an extra and takes seconds."""

    def __init__(self) -> None:
        try:
            import datasets
            import lm_eval
            from lm_eval.models.huggingface import HFLM
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise MissingDependencyError(
                "benchmark tasks need the packages lm-eval and datasets. Install them with: "
                "pip install 'palimpsest-audit[utility]'; or leave the tasks out."
            ) from error
        from importlib.metadata import version

        datasets.disable_progress_bars()
        self.evaluate: Callable[..., Any] = lm_eval.simple_evaluate
        self.model: Any = HFLM
        self.manager: Any = TaskManager
        self.version = version("lm-eval")
        self._task: Any = importlib.import_module("lm_eval.api.task")

    @contextmanager
    def without_bars(self) -> Iterator[None]:
        """Inside, lm-eval draws no bar for each task's questions; it has no switch for that one."""
        drawn = self._task.tqdm
        self._task.tqdm = lambda listed, **_: listed
        try:
            yield
        finally:
            self._task.tqdm = drawn


def _wrapped(harness: _Harness, lm: LanguageModel, batch_size: int, on_rows: Callable[[int], None]) -> Any:
    """lm-eval's view of the model, which encodes as the rest of the project does and draws no bars."""

    base: Any = harness.model

    class Own(base):  # type: ignore[misc]
        whole = False  # a whole text is scored; lm-eval puts the first token before it itself
        n_rows = 0

        def tok_encode(
            self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: Any
        ) -> list[int]:
            lead = [] if self.whole or add_special_tokens is False else prefix_ids(lm)
            ids = lead + encode(lm, [string])[0]
            return ids[-left_truncate_len:] if left_truncate_len else ids

        def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
            logits = super()._model_call(inps, *args, **kwargs)
            self.n_rows += len(inps)
            on_rows(self.n_rows)
            return logits

        def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, **kwargs: Any) -> Any:
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, **kwargs)

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
            self.whole = True
            try:
                return super().loglikelihood_rolling(requests, disable_tqdm=True)
            finally:
                self.whole = False

    return Own(
        pretrained=lm.model,
        tokenizer=lm.tokenizer,
        max_length=lm.n_context,
        batch_size=batch_size,
        device=str(lm.device),
    )


def _result(
    version: str,
    task: TaskFile,
    items: list[Item],
    left_out: dict[str, str],
    samples: Sequence[Mapping[str, Any]],
    own: Mapping[str, Any],
) -> TaskResult:
    if [sample["doc"]["id"] for sample in samples] != [item.id for item in items]:
        raise InstrumentError(
            f"lm-eval's samples of task {task.name} are not the items that were given, in their order."
        )
    metrics = KINDS[task.kind].metrics
    numbers, errors, measured = {}, {}, {}
    ids = tuple(item.id for item in items)
    for metric in metrics:
        values, weights = _values(metric, samples)
        numbers[metric] = float(own[f"{metric},none"])
        error = own.get(f"{metric}_stderr,none")
        errors[metric] = float(error) if isinstance(error, float | int) and math.isfinite(error) else None
        _require_agreement(task, metric, values, weights, numbers[metric], errors[metric])
        measured[metric] = Measured(f"{task.name}, {metric}, lm-eval {version}", ids, ids, values, left_out)
    choices = task.kind != "text"
    return TaskResult(
        task,
        measured,
        numbers,
        errors,
        float(np.mean([1 / len(item.pairs) for item in items])) if choices else None,
        sum(map(_tied, samples)) if choices else 0,
        version,
    )


def _values(metric: str, samples: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    """The metric of each sample, and its weight in lm-eval's mean."""
    if metric == "bits_per_byte":
        pairs = np.array([sample[metric] for sample in samples], dtype=np.float64)  # log p(text), bytes
        return -pairs[:, 0] / pairs[:, 1] / math.log(2), pairs[:, 1]
    return np.array([float(sample[metric]) for sample in samples]), np.ones(len(samples))


def _tied(sample: Mapping[str, Any]) -> bool:
    scores = [float(one[0][0]) for one in sample["resps"]]
    return scores.count(max(scores)) > 1


def _require_agreement(
    task: TaskFile, metric: str, values: Any, weights: Any, number: float, error: float | None
) -> None:
    mean = float((values * weights).sum() / weights.sum())
    spread = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    apart = abs(mean - number) > AGREEMENT * max(1.0, abs(mean))
    wide = error is not None and spread is not None and abs(spread - error) > AGREEMENT * max(1.0, spread)
    if apart or wide:
        raise InstrumentError(
            f"task {task.name}, {metric}: lm-eval says {number!r} with error {error!r}, its own items give {mean!r} "
            f"with {spread!r}. Report this with the version of lm-eval."
        )


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="palimpsest-lm-tasks-") as made:
        yield Path(made)


@contextmanager
def _quiet_and_offline() -> Iterator[None]:
    """Inside, no library is to ask a network, and lm-eval says only what went wrong."""
    before = {name: os.environ.get(name) for name in _OFFLINE}
    logger = logging.getLogger("lm_eval")
    level = logger.level
    os.environ.update(_OFFLINE)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
