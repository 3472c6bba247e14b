"""Load a model under audit: safetensors only, every weight accounted for, fingerprinted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, ModelError
from .adapter import apply_adapter
from .checkpoint import Fingerprint, find_adapter, find_folder, fingerprint
from .files import check_headers, weight_files
from .sharing import out_of_memory
from .subject import Subject

CONFIG = "Check config.json."
UNLIMITED = 2**31  # tokens; the context of a model that names none
# Weights that a causal language model may leave unread, beside those that transformers itself leaves out: buffers
# of older versions that are computed again, and parts for other inputs and outputs (towers for images and sound,
# heads that predict several tokens at once).
UNREAD = re.compile(
    r"rotary_emb\.inv_freq$|(^|\.)attn\.(masked_)?bias$|(^|\.)attention\.(masked_)?bias$|(^|\.)position_ids$"
    r"|^(model\.)*(vision_tower|vision_model|vision_embed_tokens|visual|audio_tower|embed_vision|embed_audio"
    r"|multi_modal_projector|mtp)\."
)


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
    def n_vocabulary(self) -> int:
        """Rows of the input embedding; every token id lies below."""
        return int(self.model.get_input_embeddings().weight.shape[0])

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
    n_vocabulary: int | None = None  # what the configuration says, where it says it


def load_tokens(subject: Subject) -> Tokens:
    """The tokenizer and the context length of a model, without its weights.

    Raises:
        InputError: No such folder or id.
        ModelError: No usable configuration or tokenizer, or the two do not belong together.
    """
    folder = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    return _tokens(folder, subject)


def _tokens(folder: Path, subject: Subject) -> Tokens:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=subject.trust_remote_code, local_files_only=True)
        text_config = config.get_text_config()
    except Exception as error:  # a hostile config.json can make transformers raise anything
        raise ModelError(_why_not(folder, error, "cannot be loaded as a causal language model", CONFIG)) from error
    n_rows = getattr(text_config, "vocab_size", None)
    tokenizer = _load_tokenizer(folder, subject)
    tokens = Tokens(
        tokenizer=tokenizer,
        subject=subject,
        n_context=_n_context(folder, text_config),
        bos_id=tokenizer.bos_token_id,
        n_vocabulary=n_rows if isinstance(n_rows, int) else None,
    )
    _check_vocabulary(folder, tokenizer, tokens.n_vocabulary)
    return tokens


def _n_context(folder: Path, config: Any) -> int:
    """Longest input in tokens: max_position_embeddings, or max_seq_len (MPT); without them there is no limit."""
    for name in ("max_position_embeddings", "max_seq_len"):
        value = getattr(config, name, None)
        if value is None:
            continue
        if type(value) is not int or value < 2:
            raise ModelError(
                f"{folder / 'config.json'} says {name} = {value!r}; expected a whole number of tokens, at least 2. "
                "Write there how many tokens the model can read."
            )
        return value
    return UNLIMITED


def _check_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase, n_rows: int | None) -> None:
    """Refuse a tokenizer that cannot be the model's; a few added tokens without a row are met in `tokens.check_ids`."""
    if n_rows is None:
        return
    highest = max(tokenizer.vocab_size - 1, -1 if tokenizer.bos_token_id is None else tokenizer.bos_token_id)
    if highest >= n_rows:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer):,} tokens, the model only {n_rows:,} embedding rows, so they "
            "do not belong together. Put the model's own tokenizer files beside its weights."
        )


def load(subject: Subject | str | Path) -> LanguageModel:
    """Load a causal language model for audit.

    The weights come from safetensors only, and every weight of the architecture must be in them: a
    checkpoint with gaps would be filled with random numbers and audited as if it were real. Nor may weights be
    left over, which a wrong config.json would drop in silence; left unread on purpose are `UNREAD` and what
    transformers itself leaves out: towers for images and sound, and heads that predict several tokens at once.

    Args:
        subject: What to load; a string or path stands for ``Subject(model=...)``.

    Raises:
        InputError: No such folder, id or device.
        ModelError: Pickled, broken, incomplete or left-over weights, code that was not asked for, no tokenizer, or
            one of another model.
    """
    if not isinstance(subject, Subject):
        subject = Subject(model=str(subject))
    folder = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    adapter = find_adapter(subject.adapter) if subject.adapter else None
    device = pick_device(subject.device)
    check_headers(weight_files(folder))
    tokens = _tokens(folder, subject)
    model = _load_model(folder, subject, device)
    if adapter is not None:
        model = apply_adapter(model, adapter)
    model.eval()
    model.requires_grad_(False)
    lm = LanguageModel(
        model=model,
        tokenizer=tokens.tokenizer,
        subject=subject,
        fingerprint=fingerprint(folder, adapter=adapter),
        device=model.get_input_embeddings().weight.device,
        n_context=tokens.n_context,
        bos_id=tokens.bos_id,
    )
    _check_vocabulary(folder, tokens.tokenizer, lm.n_vocabulary)
    return lm


def pick_device(name: str) -> torch.device:
    """The torch device of a name; "auto" is CUDA, then MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise InputError(f'no device "{name}"; expected auto, cpu, cuda, cuda:N or mps.')
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f'device "{name}" was asked for, but torch sees no CUDA GPU here; pass --device cpu.')
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise InputError(f'no device "{name}"; this machine has {torch.cuda.device_count()} CUDA GPUs, from cuda:0.')
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError('device "mps" was asked for, but torch sees no Apple GPU here; pass --device cpu.')
    return device


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
    except Exception as error:  # hostile files can make transformers raise anything
        what = f"cannot be loaded as a causal language model ({subject.dtype})"
        raise ModelError(_why_not(folder, error, what, CONFIG)) from error
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"])
    if missing or mismatched:
        names = missing or mismatched
        what = "lacks" if missing else "has wrong shapes for"
        raise ModelError(
            f"{folder} {what} {len(names)} weights of {type(model).__name__}, first {names[0]}; they would be random. "
            "Check that config.json and the weights belong together."
        )
    unread = sorted(name for name in info["unexpected_keys"] if not UNREAD.search(name))
    if unread:
        raise ModelError(
            f"{folder} holds {len(unread)} weights that {type(model).__name__} as configured does not use, first "
            f"{unread[0]}; scores without them would be another model's. "
            "Check that config.json (num_hidden_layers, architectures) and the weights belong together."
        )
    return model


def _load_tokenizer(folder: Path, subject: Subject) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=subject.trust_remote_code, local_files_only=True)
    except Exception as error:  # as above
        mend = "Put whole files tokenizer.json and tokenizer_config.json beside the weights."
        raise ModelError(_why_not(folder, error, "holds no usable tokenizer", mend)) from error


def _why_not(folder: Path, error: Exception, what: str, mend: str) -> str:
    """A message for anything that transformers raises: its type and text, because some texts are a bare word."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return (
            f"{folder} brings its own Python code, which is not run unless asked for by name. Read the code, "
            "then pass --trust-remote-code if you trust it."
        )
    if isinstance(error, RuntimeError) and out_of_memory(error):
        return f"memory runs out while {folder} is loaded; use a smaller --dtype or another --device."
    if "ignore_mismatched_sizes" in text:
        return (
            f"{folder} {what}: the shapes of its weights are not those that config.json asks for. "
            "Check vocab_size, hidden_size and the numbers of heads there."
        )
    if len(text) > 300:
        text = text[:297] + "..."
    return f"{folder} {what}: {type(error).__name__}: {text.rstrip('.')}. {mend}"
