"""Guarded prompts for vLLM: a flagged one as corrupted embeddings, any other as its token ids.

vLLM runs no hook of ours, but takes embeddings in place of tokens (``--enable-prompt-embeds``). The gateway that holds
the guard asks for them here and sends them on:

    with the guard      guard.prepare(texts) -> token ids, verdicts, noise
    here                e~ = COR(e; sigma) of a flagged prompt, from the table of input embeddings alone
    to vLLM             {"prompt_embeds": e~ (T, D)}  or  {"prompt_token_ids": [T]}

A prompt is one or the other and never a mixture: mixed requests can reuse keys and values of another prompt (vLLM
issue 56655, open in September 2026). The noise follows from the prompt and the secret key, so the same prompt has the
same embeddings and the prefix cache keeps its use.

Only the gateway may send embeddings: who may send their own reaches the model uncorrupted, and embeddings draw out
what a model knows whatever was done to it (arXiv:2502.15836). What comes in here is text; there is no way in for a
client's tensors.

Source: spec of ECO, section 7. This follows vLLM's documentation and source from 0.26.0 on; no vLLM ran it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypedDict, cast

import torch
from packaging.version import InvalidVersion, Version
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from audit.answers.formats import Prompt
from audit.errors import InputError, MissingDependencyError, ModelError
from audit.lm.checkpoint import find_folder, fingerprint
from audit.lm.files import check_headers, weight_files
from audit.lm.load import LanguageModel, load_tokens
from audit.lm.subject import Subject
from audit.text.safe import quoted

from .guard import EcoGuard

MINIMUM: Final = "0.26.0"
_FLAWS: Final = (
    "earlier ones let whoever may send embeddings crash the server or write to its memory (CVE-2025-62164, "
    "CVE-2026-56340, CVE-2026-73557)"
)
_TABLE: Final = "embed_tokens.weight"


_ONE: Final = ("llama", "mistral", "mixtral", "olmo2", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
_ROOT: Final = ("gemma", "gemma2", "gemma3_text")
#: Text models whose input embeddings are the table's rows, or those times the root of their width inside the table's
#: own module: to the power of this. vLLM takes what comes out. Other models may scale in a place that is not known.
POWERS: Final[Mapping[str, float]] = {**dict.fromkeys(_ONE, 0.0), **dict.fromkeys(_ROOT, 0.5)}


class VllmPrompt(TypedDict, total=False):
    """What ``vllm.LLM.generate`` takes as one prompt: exactly one of the two."""

    prompt_embeds: Tensor
    prompt_token_ids: list[int]


class EmbeddingTable(nn.Embedding):
    """A model's input embeddings, scaled as the model scales them; the factor is rounded to the embeddings' dtype."""

    def __init__(self, weight: Tensor, power: float) -> None:
        super().__init__(weight.shape[0], weight.shape[1], _weight=weight, _freeze=True)
        self._power = power

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B, T) -> embeddings (B, T, D)."""
        found = super().forward(ids)
        return found * torch.tensor(found.shape[-1] ** self._power).to(found) if self._power else found


class EmbeddingsOnly(nn.Module):
    """A model that ends where its layers would begin: all that a guard needs to corrupt prompts."""

    def __init__(self, table: EmbeddingTable, config: Any, generation_config: Any) -> None:
        super().__init__()
        self.embed_tokens = table
        self.config, self.generation_config = config, generation_config

    @property
    def dtype(self) -> torch.dtype:
        return self.embed_tokens.weight.dtype

    def get_input_embeddings(self) -> EmbeddingTable:
        return self.embed_tokens


def check_vllm(version: str | None = None) -> None:
    """Refuse a vLLM that must not be sent embeddings.

    Args:
        version: Of the server, as its ``/version`` tells; None for the one that is installed here, if there is one.

    Raises:
        MissingDependencyError: It is older than 0.26.0, or its version cannot be read.
    """
    if version is None:
        if find_spec("vllm") is None:
            return
        try:
            version = installed_version("vllm")
        except PackageNotFoundError:
            version = "unknown"
    try:
        fits = Version(version) >= Version(MINIMUM)
    except InvalidVersion:
        fits = False
    if not fits:
        raise MissingDependencyError(
            f"vLLM has the version {quoted(version)}; expected {MINIMUM} or later: {_FLAWS}. Install it with: "
            f"pip install 'vllm>={MINIMUM}'"
        )


def load_embeddings(subject: Subject) -> LanguageModel:
    """A model's tokenizer and input embeddings, on the CPU, without its layers: in place of `audit.lm.load.load`.

    Args:
        subject: The checkpoint that vLLM serves, without an adapter; ``dtype`` is the one that it serves it in.

    Raises:
        InputError: The dtype is left open, or there is an adapter.
        ModelError: The model's kind is not in `POWERS`, or its files are damaged or do not fit.
    """
    if subject.dtype == "auto" or subject.adapter is not None:
        raise InputError(
            f"the dtype is {subject.dtype!r} and the adapter {subject.adapter!r}; expected the dtype in which vLLM "
            "serves the model (its --dtype), as noise of a large strength is infinite in float16, and no adapter: "
            "merge it first."
        )
    tokens = load_tokens(replace(subject, trust_remote_code=False))
    folder = find_folder(subject.model, revision=subject.revision, trust_remote_code=False)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    power = _power(config)
    weight = _table(folder, int(config.get_text_config().hidden_size)).to(getattr(torch, subject.dtype))
    generation = None
    if (folder / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return LanguageModel(
        model=cast(PreTrainedModel, EmbeddingsOnly(EmbeddingTable(weight, power), config, generation).eval()),
        tokenizer=tokens.tokenizer,
        subject=subject,
        fingerprint=fingerprint(folder),
        device=torch.device("cpu"),
        n_context=tokens.n_context,
        bos_id=tokens.bos_id,
    )


def _power(config: Any) -> float:
    kind = config.get_text_config().model_type
    if kind not in POWERS:
        raise ModelError(
            f"the model is of the kind {quoted(kind)}, of which it is not known how vLLM scales its embeddings; known "
            f"are {', '.join(POWERS)}. Serve it with the guard's own server."
        )
    return POWERS[kind]


def _table(folder: Path, width: int) -> Tensor:
    paths = weight_files(folder)
    check_headers(paths)
    found = []
    for path in paths:
        with safe_open(path, framework="pt") as file:
            found += [file.get_tensor(name) for name in file.keys() if f".{name}".endswith(f".{_TABLE}")]  # noqa: SIM118
    if len(found) != 1 or found[0].dim() != 2 or found[0].shape[1] != width or not found[0].is_floating_point():
        shapes = ", ".join(f"{one.dtype} {tuple(one.shape)}" for one in found) or "none"
        raise ModelError(
            f"{folder} holds as {_TABLE}: {shapes}; expected one table of floating numbers of width {width:,}. Give "
            "the folder of an unquantised text model."
        )
    table: Tensor = found[0]
    return table


def vllm_prompts(guard: EcoGuard, prompts: Sequence[Prompt]) -> list[VllmPrompt]:
    """What vLLM is given for each prompt: a flagged one's embeddings, any other's token ids.

    Args:
        guard: In front of the whole model or of `load_embeddings`.
        prompts: Texts or conversations; never a client's embeddings.

    Raises:
        MissingDependencyError: As `check_vllm`, of the vLLM that is installed here.
        ModelError: As `load_embeddings`.
        InputError: As `EcoGuard.prepare`.
    """
    check_vllm()
    _power(guard.lm.model.config)
    prepared = guard.prepare(prompts)
    with torch.no_grad(), guard.corrupting(prepared):
        embeddings = guard.lm.model.get_input_embeddings()(prepared.input_ids)  # (B, T, D)
    return [
        {"prompt_embeds": embeddings[row, prepared.attention_mask[row].bool()].cpu()}
        if verdict.flagged
        else {"prompt_token_ids": ids}
        for row, (ids, verdict) in enumerate(zip(prepared.rows(), prepared.verdicts, strict=True))
    ]


def completions_fields(prompt: VllmPrompt) -> dict[str, Any]:
    """A prompt as fields of a request to ``/v1/completions``: ``prompt`` or ``prompt_embeds``.

    vLLM takes a tensor as base64 of what ``torch.save`` writes, which is a pickle. It is written here and never read,
    and it goes to the server alone.
    """
    if "prompt_token_ids" in prompt:
        return {"prompt": prompt["prompt_token_ids"]}
    stream = io.BytesIO()
    torch.save(prompt["prompt_embeds"], stream)
    return {"prompt_embeds": base64.b64encode(stream.getvalue()).decode("ascii")}
