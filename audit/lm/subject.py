"""A model under audit, as the user names it. Needs no torch, so that plans and flags can be checked fast."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..errors import InputError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Which model, and how it is loaded.

    Attributes:
        model: A folder with config.json, tokenizer and ``*.safetensors``, or a Hugging Face id ``owner/name``.
        revision: Branch, tag or commit of a Hugging Face id; None is its main branch.
        adapter: Folder or id of a PEFT adapter that is laid over the model.
        dtype: "auto" is float32 on a CPU and the checkpoint's own type elsewhere.
        device: "auto" (CUDA, then MPS, then CPU), or a torch device such as "cuda:1".
        device_map: "auto" or "balanced" spreads the model over several GPUs through accelerate.
        trust_remote_code: Run Python code that the checkpoint brings along. Off unless asked for by this name.
    """

    model: str
    revision: str | None = None
    adapter: str | None = None
    dtype: Dtype = "auto"
    device: str = "auto"
    device_map: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("the model's name is empty; expected a folder or a Hugging Face id (owner/name)")
        if self.dtype not in get_args(Dtype):
            raise InputError(f'dtype is "{self.dtype}"; expected one of {", ".join(get_args(Dtype))}')

    def to_record(self) -> dict[str, Any]:
        return asdict(self)
