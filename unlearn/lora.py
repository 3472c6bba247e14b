"""Adapters (LoRA, arXiv:2106.09685, through peft): train, switch off and on, save, merge.

The adapter twin keeps two models in one set of weights: off, it is the baseline to the bit; on, the trained one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from audit.errors import InputError, ModelError
from audit.lm.checkpoint import Fingerprint, find_adapter
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.runs.records import content_key, read_json
from audit.text.safe import quoted

from .checkpoints import RECORD, finished, save_model, write_result
from .ranges import check_ranges


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """Shape of an adapter. The values are common ones, not any unlearning paper's.

    Attributes:
        rank: Of each change, >= 1.
        scale: What the change is multiplied by is ``scale / rank``; > 0.
        dropout: Share of the inputs of each change that is set to 0 in training, in [0, 1).
        targets: Names of the layers that are changed; none for every linear layer but the head.
    """

    rank: int = 16
    scale: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ranges = {
            "rank": (self.rank >= 1, "1 or more"),
            "scale": (0 < self.scale < math.inf, "a positive number"),
            "dropout": (0 <= self.dropout < 1, "from 0 to below 1"),
        }
        check_ranges(self, "adapter", ranges)

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Twin:
    """A model with an adapter that can be switched off.

    Attributes:
        lm: The model, the adapter's layers inside it, switched on.
        wrapped: peft's own handle, for saving; None where the adapter was only read.
    """

    lm: LanguageModel
    wrapped: Any = None

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """The baseline, to the bit, inside the block; the adapter is on again after it, also after an error."""
        layers = _layers(self.lm.model)
        asking = [(one, one.requires_grad) for layer in layers for one in layer.parameters()]
        try:
            for layer in layers:
                layer.enable_adapters(False)
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)
            for parameter, asked in asking:  # peft sets these on its way
                parameter.requires_grad_(asked)

    def save(self, folder: Path) -> None:
        """The adapter alone as a PEFT folder in safetensors."""
        if self.wrapped is None:
            raise InputError("this adapter was read from a folder and not trained here; copy that folder instead.")
        self.wrapped.save_pretrained(str(folder), save_embedding_layers=False)


def attach(lm: LanguageModel, plan: LoraPlan, *, seed: int) -> Twin:
    """Lay a new adapter over a model: at first it changes nothing; only its weights ask for a gradient.

    Args:
        lm: A model without an adapter; its layers are wrapped in place, its weights stay as they are.
        plan: The adapter's shape.
        seed: Of the adapter's first weights.

    Raises:
        InputError: The model has an adapter already.
        ModelError: No layer has such a name, or peft does not know the model's layers.
    """
    from peft import LoraConfig, get_peft_model

    if has_adapter(lm.model):
        raise InputError(
            f"the model {quoted(lm.subject.model, limit=200)} has an adapter already, and one over another cannot be "
            "told apart from it. Merge the first one into a checkpoint of its own (unlearn.lora.merge)."
        )
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.scale,
        lora_dropout=plan.dropout,
        target_modules=list(plan.targets) or "all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )
    lm.model.requires_grad_(False)
    with torch.random.fork_rng(devices=[lm.device] if lm.device.type == "cuda" else []), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out")  # GPT-2's layers; peft sets it itself
        torch.manual_seed(seed)
        try:
            wrapped = get_peft_model(lm.model, config)
        except ValueError as error:
            text = " ".join(str(error).split())[:300]
            raise ModelError(
                f"no adapter can be laid over {type(lm.model).__name__}: {text}. Give the names of its linear layers."
            ) from error
    wrapped.eval()
    return Twin(dataclasses.replace(lm, model=wrapped.get_base_model()), wrapped)


def open_twin(subject: Subject) -> Twin:
    """Read a model and its adapter for inference.

    Args:
        subject: With an adapter.

    Raises:
        InputError: It names no adapter, or no such folder.
        ModelError: The adapter does not fit the model, was trained over another one, or changes more than switching
            it off takes back.
    """
    if subject.adapter is None:
        raise InputError(f"{subject.model} was given without an adapter; a twin needs one.")
    folder = find_adapter(subject.adapter)
    lm = load(subject)
    layers = _layers(lm.model)
    from peft import PeftConfig
    from peft.utils.other import AuxiliaryTrainingWrapper

    config = PeftConfig.from_pretrained(str(folder))
    if any(isinstance(one, AuxiliaryTrainingWrapper) for one in lm.model.modules()) or not layers:
        raise ModelError(
            f"the adapter {folder} also holds whole layers, which cannot be switched off. Train a LoRA one."
        )
    if getattr(config, "bias", "none") != "none":
        raise ModelError(
            f"the adapter {folder} also changes biases (bias = {quoted(config.bias)}), which stay when it is switched "
            'off. Train one with bias = "none".'
        )
    _check_base(folder, lm.fingerprint)
    return Twin(lm)


def base_weights(fingerprint: Fingerprint) -> dict[str, str]:
    """SHA-256 of each weight file of a model, its adapter's left out."""
    return {
        name: digest
        for name, digest in fingerprint.files.items()
        if name.endswith(".safetensors") and not name.startswith("adapter/")
    }


def _check_base(folder: Path, fingerprint: Fingerprint) -> None:
    """Shapes alone cannot tell one base from another; an adapter that was trained here says which one it was."""
    if not (folder / RECORD).is_file():
        return
    record = read_json(folder / RECORD, missing="")
    base = record.get("base") if isinstance(record, dict) else None
    if base is not None and base != base_weights(fingerprint):
        raise ModelError(
            f"the adapter {folder} was trained over a model with other weights than the one given, so the two together "
            "are no model that anybody trained. Give the model that the adapter was trained on."
        )


def merge(subject: Subject, out: Path) -> Path:
    """Add an adapter to its model's weights, in float32, and save an ordinary checkpoint.

    Args:
        subject: Model and adapter; both stay as they are.
        out: Folder of the result; made here.

    Raises:
        InputError: No adapter, or ``out`` is taken or an input's folder.
        ModelError: As in `open_twin`, or the merged weights are not finite.
        StorageError: It cannot be written.
    """
    twin = open_twin(dataclasses.replace(subject, dtype="float32"))
    lm = twin.lm
    key = content_key(merged=lm.fingerprint.to_record())
    if finished(out, key, inputs=subject) is not None:
        return out
    merge_layers(lm.model, adapter=str(subject.adapter))
    record = {"key": key, "kind": "merged", "fingerprint": lm.fingerprint.to_record()}
    write_result(out, lambda folder: save_model(lm, folder), record)
    return out


def merge_layers(model: Any, *, adapter: str) -> None:
    """Add an adapter to the weights of a model in memory, in their precision; its layers are ordinary ones again.

    Args:
        model: With an adapter's layers inside it; without, nothing happens.
        adapter: What messages call it.

    Raises:
        ModelError: The merged weights are not finite.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _is_layer(child):
                try:
                    child.merge(safe_merge=True)
                except ValueError as error:
                    raise ModelError(f"the adapter {adapter} holds weights that are not finite.") from error
                setattr(parent, name, child.get_base_layer())


def has_adapter(module: Any) -> bool:
    """Whether a module is, or holds, a layer that an adapter changes."""
    return bool(_layers(module))


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if _is_layer(module)]


def _is_layer(module: Any) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)
