"""A training's state on disk, and the folder that its result goes to: whole or absent, never in place of a model."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from audit.errors import InputError, ModelError, StorageError
from audit.lm.checkpoint import find_checkpoint, is_local
from audit.lm.load import LanguageModel
from audit.lm.subject import Subject
from audit.runs.records import read_json
from audit.testbed.tiny_lm import system_errors
from audit.text.files import make_folder, storage_errors, write_json
from audit.text.safe import quoted

RECORD = "training.json"  # beside a result: what it was made of
_CHECKPOINT = "checkpoint.safetensors"
#: AdamW's state of a weight: in the file, in the optimiser. It counts the steps in which that weight had a gradient: an
#: expert that no token chose has fewer than the training.
_MOMENTS = {"mean": "exp_avg", "square": "exp_avg_sq", "count": "step"}


class TrainingState:
    """Trained weights, AdamW's two moments and the log so far, in one safetensors file; and the best weights.

    Args:
        work: Folder; None keeps nothing but the best weights, in the computer's memory.
        key: A checkpoint of another key is not this training's.
        trained: The weights by name.
        optimizer: AdamW over them.
        writes: Whether this process writes.
    """

    def __init__(
        self,
        work: Path | None,
        key: str,
        *,
        trained: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        writes: bool,
    ) -> None:
        self._work, self._key, self._trained, self._optimizer = work, key, trained, optimizer
        self._writes = writes
        self._best: dict[str, Tensor] | None = None
        self.record: dict[str, Any] = {"losses": {}, "evaluations": [], "n_trained": 0, "n_read": 0, "best_step": None}

    def load(self) -> int:
        """The step to go on with: that of a whole checkpoint of this key, else 0."""
        if self._work is None:
            return 0
        make_folder(self._work)
        path = self._work / _CHECKPOINT
        if not path.is_file():
            return 0
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self._key:
                    return 0
                step, record = int(metadata["step"]), json.loads(metadata["record"])
                names = set(file.keys())
                weights = {name: file.get_tensor(f"weight/{name}") for name in self._trained}
                moments = {name: _moments(file, name) for name in self._trained if f"mean/{name}" in names}
        except (SafetensorError, ValueError, KeyError):  # a torn file: start afresh
            return 0
        best = record["best_step"]
        if best is not None and not self._best_path(best).is_file():
            return 0
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(weights[name])
                if name in moments:
                    self._optimizer.state[parameter] = {
                        what: one.to(parameter.device) for what, one in moments[name].items()
                    }
        self.record = record
        return step

    def save(self, step: int) -> None:
        """The state after ``step`` steps, atomically; errors as in `audit.text.files.storage_errors`."""
        if self._work is None or not self._writes:
            return
        tensors = {}
        for name, parameter in self._trained.items():
            tensors[f"weight/{name}"] = parameter.detach()
            if state := self._optimizer.state.get(parameter):  # none yet where a weight never had a gradient
                tensors |= {f"{ours}/{name}": state[theirs] for ours, theirs in _MOMENTS.items()}
        metadata = {"key": self._key, "step": str(step), "record": json.dumps(self.record)}
        _write(self._work / _CHECKPOINT, tensors, metadata)
        kept = None if self.record["best_step"] is None else self._best_path(self.record["best_step"])
        for path in self._work.glob("best-*.safetensors"):
            if path != kept:
                path.unlink(missing_ok=True)

    def keep_if_best(self, step: int) -> None:
        """Keep the weights as they are now when the last evaluation has the lowest criterion so far."""
        *earlier, (_, last) = self.record["evaluations"]
        if any(found["criterion"] <= last["criterion"] for _, found in earlier):
            return
        self.record["best_step"] = step
        if self._work is None:
            self._best = {name: one.detach().to("cpu", copy=True) for name, one in self._trained.items()}
        elif self._writes:
            _write(self._best_path(step), {name: one.detach() for name, one in self._trained.items()}, {})

    def restore_best(self) -> int | None:
        """Put the best weights back; their step, or None where nothing was evaluated."""
        step: int | None = self.record["best_step"]
        if step is None:
            return None
        with torch.no_grad():
            if self._work is None:
                assert self._best is not None
                for name, parameter in self._trained.items():
                    parameter.copy_(self._best[name])
            else:
                with safe_open(self._best_path(step), framework="pt") as file:
                    for name, parameter in self._trained.items():
                        parameter.copy_(file.get_tensor(name))
        return step

    def _best_path(self, step: int) -> Path:
        assert self._work is not None
        return self._work / f"best-{step:08d}.safetensors"


def _moments(file: Any, name: str) -> dict[str, Tensor]:
    return {theirs: file.get_tensor(f"{ours}/{name}") for ours, theirs in _MOMENTS.items()}


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    temporary = path.with_suffix(".tmp")
    with storage_errors(path, kept="the last whole checkpoint stays"):
        with system_errors():
            save_file({name: one.contiguous() for name, one in tensors.items()}, temporary, metadata=metadata)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)


def work_folder(out: Path) -> Path:
    """Where the state of the training whose result goes to ``out`` is kept until it is done."""
    return out.with_name(f"{out.name}.unfinished")


def _half_written(out: Path) -> Path:
    return out.with_name(f".{out.name}.part")


def keep_apart(folder: Path, inputs: Subject) -> None:
    """Refuses to write to a folder that is, holds or lies in that of an input's model or adapter.

    Raises:
        InputError: It does; links are followed.
    """
    here = folder.resolve()
    for source in (path.resolve() for path in (find_checkpoint(inputs) if is_local(inputs.model) else [])):
        if here == source or source in here.parents or here in source.parents:
            raise InputError(
                f"{folder} would be written to, but it and the folder of the model, {source}, lie one in the other; "
                "an input model is never changed. Choose another --out."
            )


def check_out(out: Path, inputs: Subject) -> None:
    """Refuses a file, and the folder of an input's model, also by a link, before anything is written to ``--out``.

    Raises:
        InputError: ``out`` is a file, or as `keep_apart`.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder, or a new one's name.")
    links = [path for path in out.iterdir() if path.is_symlink()] if out.is_dir() else []
    for folder in (out, *links):
        keep_apart(folder, inputs)


def finished(out: Path, key: str, *, inputs: Subject) -> dict[str, Any] | None:
    """The record of a result that is in ``out`` already, or None when it is still to be made.

    Args:
        out: Folder of the result.
        key: Names everything that determines it.
        inputs: The model that is trained from; neither ``out`` nor what is kept beside it may touch its files.

    Raises:
        InputError: As `keep_apart`, or ``out`` holds something else.
    """
    for folder in (out, work_folder(out), _half_written(out)):
        keep_apart(folder, inputs)
    if not out.exists():
        return None
    if not out.is_dir() or (any(out.iterdir()) and not (out / RECORD).is_file()):
        raise InputError(f"{out} holds something that is no result of a training of Palimpsest. Choose another --out.")
    if not (out / RECORD).is_file():
        return None
    record = read_json(out / RECORD, missing=f"there is no {out / RECORD}")
    if not isinstance(record, dict) or record.get("key") != key:
        raise InputError(
            f"{out} holds the result of another training: the plan, the data or the model differ. Choose another "
            "--out, or remove that folder."
        )
    return record


def write_result(out: Path, fill: Callable[[Path], None], record: Mapping[str, Any]) -> None:
    """Writes the folder ``out`` whole or not at all, then removes the unfinished state beside it.

    Args:
        out: Absent or empty; see `finished`.
        fill: Writes the model or adapter into the folder that it is given.
        record: Plain JSON values, kept as ``training.json``.

    Raises:
        StorageError: Disk full or not writable.
    """
    make_folder(out.parent)
    temporary = _half_written(out)
    with storage_errors(out, kept="the unfinished training stays beside it", doing="save the result in"):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            fill(temporary)
        except SafetensorError as error:
            raise StorageError(
                f"could not save the result in {out}: {error}; the unfinished training stays beside it. Free some "
                "space there, then run the same command again."
            ) from error
        write_json(temporary / RECORD, record)
        if out.is_dir():
            out.rmdir()
        os.rename(temporary, out)
    shutil.rmtree(work_folder(out), ignore_errors=True)


def check_saveable(lm: LanguageModel) -> None:
    """Refuses, before anything is trained, a tokenizer that cannot be saved with the result.

    Raises:
        ModelError: It holds what no file can be named by, for one.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            lm.tokenizer.save_pretrained(folder)
        except ValueError as error:
            text = " ".join(str(error).split())[:300]
            raise ModelError(
                f"the tokenizer of {quoted(lm.subject.model, limit=200)} cannot be saved with the result: {text}. Mend "
                "it there (tokenizer_config.json)."
            ) from error


def save_model(lm: LanguageModel, folder: Path) -> None:
    """Model and tokenizer as an ordinary Hugging Face checkpoint in safetensors."""
    transformers_logging.disable_progress_bar()
    lm.model.save_pretrained(str(folder))
    lm.tokenizer.save_pretrained(str(folder))
