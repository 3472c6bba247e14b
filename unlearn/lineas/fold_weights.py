r"""Maps as weights: the same network without a hook.

With w' = 1 + s (w - 1) and b' = s b at strength s, in float32:

| Behind | Fold |
|---|---|
| LayerNorm with bias | g <- w' g, beta <- w' beta + b' |
| Linear (GPT-2's Conv1D) | W <- diag(w') W, bias <- w' bias + b'; a bias is added where there was none |
| RMSNorm that feeds linear layers | g <- w' g; W b' is added to the bias of every layer that reads it |
| Gemma's RMSNorm, (1 + g) | g <- w' (1 + g) - 1; a shift has no place |

Whether the model's class can hold an added bias is for `fold_target`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from audit.errors import InputError, ModelError

from .maps import AffineMap, Maps

_QKV: Final = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATED: Final = {"input_layernorm": _QKV, "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj")}
#: Model type -> norm of a layer -> all layers that read its output.
CONSUMERS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "llama": _GATED,
    "mistral": _GATED,
    "qwen2": _GATED,
    "qwen3": _GATED,
    "granite": _GATED,
    "phi3": {"input_layernorm": ("self_attn.qkv_proj",), "post_attention_layernorm": ("mlp.gate_up_proj",)},
}
_RMS: Final = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "GraniteRMSNorm", "Phi3RMSNorm")
_RMS_PLUS_ONE: Final = ("GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm")
_FLOATS: Final = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def folded_weights(model: nn.Module, maps: Maps, strength: float) -> dict[str, Tensor]:
    """The weights that change, in float32, by their names in ``model.state_dict()``; added biases among them.

    The model itself is only read.

    Args:
        model: A model of transformers.
        maps: Site -> map; widths are the modules' (`files.check_maps`).
        strength: At which the maps are folded.

    Raises:
        InputError: A map cannot be folded where it stands; why, and what can be done.
        ModelError: The weights are quantised.
    """
    require_plain_weights(model)
    clipped = next((site for site, one in maps.items() if one.clipped), None)
    if clipped is not None:
        raise InputError(
            f"the map of {clipped} acts within a range only (low, high), which no weight can do. Steer with it, or fit "
            "the method without clipping."
        )
    weights = _Weights(model)
    modules = {site: model.get_submodule(site) for site in maps}
    # What a norm adds to a reader's bias comes before the reader's own map.
    for site in sorted(maps, key=lambda name: not _is_rms(modules[name])):
        _fold_one(weights, site, modules[site], maps[site].at(strength), str(getattr(model.config, "model_type", "")))
    return weights.changed


def require_plain_weights(model: nn.Module) -> None:
    """Refuse packed weights.

    Raises:
        ModelError: The configuration says that they are quantised, or a weight is no plain float.
    """
    config: Any = getattr(model, "config", None)
    method = getattr(config, "quantization_config", None)
    packed = next(
        (f"{name} is {one.dtype}" for name, one in model.named_parameters() if one.dtype not in _FLOATS), None
    )
    if method is not None or packed is not None:
        kind = method.get("quant_method") if isinstance(method, dict) else getattr(method, "quant_method", None)
        told = packed if kind is None else f"quantised with {getattr(kind, 'value', kind)}"
        raise ModelError(
            f"the weights of {type(model).__name__} are packed ({told}), and maps cannot be folded into them. Fold "
            "into the checkpoint that they were quantised from and quantise the result, or steer without folding."
        )


class _Weights:
    """A model's weights in float32, and which of them are other than its own."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._own = dict(model.named_parameters(remove_duplicate=False))
        self._names: dict[int, list[str]] = {}
        for kind in (model.named_parameters, model.named_modules):
            for name, one in kind(remove_duplicate=False):
                self._names.setdefault(id(one), []).append(name)
        self.changed: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.changed or name in self._own

    def __getitem__(self, name: str) -> Tensor:
        return self.changed[name] if name in self.changed else self._own[name].detach().float()

    def __setitem__(self, name: str, value: Tensor) -> None:
        for one in (self._own.get(name), self._model.get_submodule(name.rpartition(".")[0])):
            others = [other for other in self._names.get(id(one), ()) if other not in (name, name.rpartition(".")[0])]
            if others:
                raise InputError(
                    f"{name} is also {others[0]} (tied weights), so a fold there would change that as well. Fit maps "
                    "without this site, or steer without folding."
                )
        self.changed[name] = value


def _fold_one(weights: _Weights, site: str, module: nn.Module, one: AffineMap, model_type: str) -> None:
    name = type(module).__name__
    at = weights[f"{site}.weight"].device if f"{site}.weight" in weights else torch.device("cpu")
    w, b = one.w.to(at).float(), one.b.to(at).float()
    shifts = bool((b != 0).any())
    if type(module) is nn.LayerNorm:
        if f"{site}.weight" not in weights or (shifts and f"{site}.bias" not in weights):
            raise _refused(site, name, "it has no weights of its own to hold the map")
        weights[f"{site}.weight"] = w * weights[f"{site}.weight"]
        if f"{site}.bias" in weights:
            weights[f"{site}.bias"] = w * weights[f"{site}.bias"] + b
    elif type(module) in (nn.Linear, Conv1D):
        across = w[:, None] if type(module) is nn.Linear else w[None, :]  # Conv1D keeps (inputs, outputs)
        weights[f"{site}.weight"] = across * weights[f"{site}.weight"]
        if f"{site}.bias" in weights:
            weights[f"{site}.bias"] = w * weights[f"{site}.bias"] + b
        elif shifts:
            weights[f"{site}.bias"] = b
    elif name in _RMS_PLUS_ONE:
        if shifts:
            raise _refused(
                site,
                name,
                "it has no bias, and its output goes where no bias is; only scales (every b = 0) can be folded",
            )
        weights[f"{site}.weight"] = w * (1 + weights[f"{site}.weight"]) - 1
    elif name in _RMS:
        weights[f"{site}.weight"] = w * weights[f"{site}.weight"]
        if shifts:
            _shift_readers(weights, site, name, b, model_type)
    else:
        raise _refused(site, name, _why_not(module, one))


def _shift_readers(weights: _Weights, site: str, name: str, b: Tensor, model_type: str) -> None:
    """Add W b to the bias of every layer that reads a norm."""
    layer, _, norm = site.rpartition(".")
    readers = CONSUMERS.get(model_type, {}).get(norm)
    if readers is None:
        raise _refused(
            site,
            name,
            f"it has no bias, and which layers of {model_type} models read it is not known or none has a bias",
        )
    for reader in (f"{layer}.{one}" for one in readers):
        if f"{reader}.weight" not in weights:
            raise _refused(site, name, f"there is no {reader} that could take its shift")
        kernel = weights[f"{reader}.weight"]
        added = kernel @ b.to(kernel.device)
        weights[f"{reader}.bias"] = weights[f"{reader}.bias"] + added if f"{reader}.bias" in weights else added


def _is_rms(module: nn.Module) -> bool:
    return type(module).__name__ in _RMS


def _why_not(module: nn.Module, one: AffineMap) -> str:
    if not any(True for _ in module.children()):
        return "it is no LayerNorm, RMSNorm or linear layer that is known here"
    if bool((one.w == 1).all()):
        return (
            "it holds other modules. A shift of a layer's output can be fitted at its last linear layer instead (sites "
            '"mlp_out"), where it folds'
        )
    return "it holds other modules, and the residual stream goes past its weights; a scale of it has no place"


def _refused(site: str, name: str, why: str) -> InputError:
    return InputError(
        f"the map of {site} ({name}) cannot be folded: {why}. Steer without folding, or fit maps at other sites."
    )
