"""Load a model under audit: safetensors only, every weight accounted for, fingerprinted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, ModelError
from .checkpoint import Fingerprint, find_adapter, find_folder, fingerprint, weight_files
from .subject import Subject


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model in evaluation mode with its tokenizer.

    Attributes:
        model: The transformers model; an adapter's layers are inside it.
        tokenizer: Its tokenizer.
        subject: What was asked for.
        fingerprint: SHA-256 of what was loaded.
        device: Where token ids go; with a device map, the device of the input embedding.
        n_context: Longest input in tokens, beginning-of-sequence token included.
        bos_id: Id that is put before every text, or None where the tokenizer has none.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    subject: Subject
    fingerprint: Fingerprint
    device: torch.device
    n_context: int
    bos_id: int | None

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def to_record(self) -> dict[str, Any]:
        """What a run keeps about this model."""
        return {
            **self.subject.to_record(),
            "architecture": type(self.model).__name__,
            "n_parameters": self.n_parameters,
            "dtype_used": str(self.model.dtype).removeprefix("torch."),
            "device_used": str(self.device),
            "n_context": self.n_context,
            "bos_id": self.bos_id,
            "fingerprint": self.fingerprint.to_record(),
        }


@dataclass(frozen=True, slots=True)
class Tokens:
    """What is needed to cut and measure texts before a model is loaded; fields as in `LanguageModel`."""

    tokenizer: PreTrainedTokenizerBase
    subject: Subject
    n_context: int
    bos_id: int | None


def load_tokens(subject: Subject) -> Tokens:
    """The tokenizer and the context length of a model, without its weights.

    Raises:
        InputError: No such folder or id.
        ModelError: No usable configuration or tokenizer.
    """
    folder = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=subject.trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(_why_not(folder, subject, error)) from error
    tokenizer = _load_tokenizer(folder, subject)
    return Tokens(tokenizer, subject, _n_context(config), tokenizer.bos_token_id)


def _n_context(config: Any) -> int:
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 2**31)


def load(subject: Subject | str | Path) -> LanguageModel:
    """Load a causal language model for audit.

    The weights come from safetensors only, and every weight of the architecture must be in them: a
    checkpoint with gaps would be filled with random numbers and audited as if it were real.

    Args:
        subject: What to load; a string or path stands for ``Subject(model=...)``.

    Raises:
        InputError: No such folder, id or device.
        ModelError: Pickled, broken or incomplete weights, code that was not asked for, no tokenizer.
    """
    if not isinstance(subject, Subject):
        subject = Subject(model=str(subject))
    folder = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    adapter = find_adapter(subject.adapter) if subject.adapter else None
    device = pick_device(subject.device)
    _check_headers(folder)
    model = _load_model(folder, subject, device)
    if adapter is not None:
        model = _apply_adapter(model, adapter)
    tokenizer = _load_tokenizer(folder, subject)
    model.eval()
    model.requires_grad_(False)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        subject=subject,
        fingerprint=fingerprint(folder, adapter=adapter),
        device=model.get_input_embeddings().weight.device,
        n_context=_n_context(model.config),
        bos_id=tokenizer.bos_token_id,
    )


def pick_device(name: str) -> torch.device:
    """The torch device of a name; "auto" is CUDA, then MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f'no device "{name}"; expected auto, cpu, cuda, cuda:N or mps.') from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f'device "{name}" was asked for, but torch sees no CUDA GPU here; pass --device cpu.')
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise InputError(f'no device "{name}"; this machine has {torch.cuda.device_count()} CUDA GPUs, from cuda:0.')
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError('device "mps" was asked for, but torch sees no Apple GPU here; pass --device cpu.')
    return device


def _check_headers(folder: Path) -> None:
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise ModelError(f"{path} is not a whole safetensors file: {error}. Copy the file again.") from None


def _load_model(folder: Path, subject: Subject, device: torch.device) -> PreTrainedModel:
    dtype: Any = subject.dtype
    if dtype == "auto" and device.type == "cpu" and subject.device_map is None:
        dtype = "float32"  # a CPU gains nothing from half precision, and float32 is the reference
    placed = {"device_map": subject.device_map} if subject.device_map else {"device_map": {"": device}}
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=subject.trust_remote_code,
            output_loading_info=True,
            local_files_only=True,
            **placed,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(_why_not(folder, subject, error)) from error
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"])
    if missing or mismatched:
        names = missing or mismatched
        what = "lacks" if missing else "has wrong shapes for"
        raise ModelError(
            f"{folder} {what} {len(names)} weights of {type(model).__name__}, first {names[0]}; they would be random. "
            "Check that config.json and the weights belong together."
        )
    return model


def _why_not(folder: Path, subject: Subject, error: Exception) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return (
            f"{folder} brings its own Python code, which is not run unless asked for by name. Read the code, "
            "then pass --trust-remote-code if you trust it."
        )
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return f"{folder} cannot be loaded as a causal language model ({subject.dtype}): {first}"


def _apply_adapter(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Lay a PEFT adapter over ``model``; its layers end up inside, so that one model is scored."""
    from peft import PeftConfig, PeftModel

    try:
        config = PeftConfig.from_pretrained(str(adapter))
        if config.is_prompt_learning:
            raise ModelError(
                f"{adapter} is a {config.peft_type} adapter, which adds virtual tokens instead of changing layers; "
                "only adapters whose layers go into the model (LoRA and its kin) can be audited."
            )
        wrapped = PeftModel.from_pretrained(model, str(adapter), config=config, use_safetensors=True)
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the adapter {adapter} does not fit the model: {first}") from error
    return wrapped.get_base_model()


def _load_tokenizer(folder: Path, subject: Subject) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=subject.trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{folder} holds no usable tokenizer: {first} "
            "Put tokenizer.json and tokenizer_config.json beside the weights."
        ) from error
