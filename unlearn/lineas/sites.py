r"""Where maps and losses stand: modules named by a regular expression, or by a preset of the architecture.

Names are matched whole (``re.fullmatch``, as in Linear-AcT's code) against ``model.named_modules()``. One expression
can mean different things: in Llama and Qwen ``post_attention_layernorm`` is the norm *before* the MLP; in Gemma 2 and 3
the two norms that match stand on a sublayer's output, just before the residual addition.

| Preset | Stands at | Source |
|---|---|---|
| norms | the norms that LinEAS is best at, per architecture | paper for Qwen 2.5, Gemma 2, DeepSeek; ours elsewhere |
| o_proj | the attention's output projection | ITI, and the paper's table of other sites |
| mlp_out | the MLP's last linear layer | AurA |
| layers | a whole layer's output, the residual stream | CAA |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch

from audit.errors import InputError
from audit.lm.hooks import recorded
from audit.lm.load import LanguageModel
from audit.text.safe import did_you_mean, quoted

_LLAMA: Final = {
    "norms": r".*\.post_attention_layernorm",
    "o_proj": r".*\.o_proj",
    "mlp_out": r".*\.down_proj",
    "layers": r".*\.layers\.\d+",
}
_GEMMA: Final = {**_LLAMA, "norms": r".*post.*layernorm"}
PRESETS: Final[Mapping[str, Mapping[str, str]]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "granite": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gemma3": _GEMMA,
    # Linear-AcT's code takes ".+ln_.+", which matches the last norm before the head too; we leave that one out.
    "gpt2": {
        "norms": r".*\.h\.\d+\.ln_[12]",
        "o_proj": r".*\.attn\.c_proj",
        "mlp_out": r".*\.mlp\.c_proj",
        "layers": r".*\.h\.\d+",
    },
    "gpt_neox": {
        "norms": r".*\.(input|post_attention)_layernorm",
        "o_proj": r".*\.attention\.dense",
        "mlp_out": r".*\.dense_4h_to_h",
        "layers": r".*\.layers\.\d+",
    },
    "opt": {
        "norms": r".*\.layers\.\d+\.(self_attn|final)_layer_norm",
        "o_proj": r".*\.out_proj",
        "mlp_out": r".*\.fc2",
        "layers": r".*\.layers\.\d+",
    },
    "phi": {
        "norms": r".*\.input_layernorm",
        "o_proj": r".*\.self_attn\.dense",
        "mlp_out": r".*\.fc2",
        "layers": r".*\.layers\.\d+",
    },
    "phi3": _LLAMA,
}
PRESET_NAMES: Final = ("norms", "o_proj", "mlp_out", "layers")


@dataclass(frozen=True, slots=True)
class Site:
    """A module that can be mapped: its name, class and number of neurons."""

    name: str
    kind: str
    width: int


def pattern_of(lm: LanguageModel, sites: str) -> str:
    """The regular expression of a preset's name for this architecture; any other text is one itself.

    Raises:
        InputError: The architecture has no presets.
    """
    if sites not in PRESET_NAMES:
        return sites
    kind = str(lm.model.config.model_type)
    if kind not in PRESETS:
        raise InputError(
            f'there is no preset "{sites}" for {quoted(kind)} models (only for {", ".join(PRESETS)}); give a regular '
            f"expression. This model has norms such as {_some(lm, 'norm')}."
        )
    return PRESETS[kind][sites]


def find_sites(lm: LanguageModel, sites: str) -> list[Site]:
    """The dry run: what an expression or preset matches, in the model's own order.

    One forward pass of two tokens tells the widths, and that each module takes part in it at all.

    Args:
        lm: The model.
        sites: A preset's name (`PRESET_NAMES`) or a regular expression over whole module names.

    Raises:
        InputError: It is no expression, matches nothing, or a module that gives no activations of shape
            (texts, tokens, neurons), or that a forward pass does not call once.
    """
    pattern = pattern_of(lm, sites)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"{quoted(pattern)} is no regular expression: {error}.") from None
    modules = {name: module for name, module in lm.model.named_modules() if name and expression.fullmatch(name)}
    if not modules:
        names = [name for name, _ in lm.model.named_modules() if name]
        near = did_you_mean(pattern.replace("\\", "").replace(".*", ""), names)
        raise InputError(
            f"no module of {type(lm.model).__name__} is called {quoted(pattern)} (whole names are matched)."
            f"{near} Modules of the first layer: {_first_layer(names)}."
        )
    with torch.inference_mode(), recorded(lm.model, list(modules)) as seen:
        ids = torch.zeros((2, 2), dtype=torch.long, device=lm.device)
        lm.model(input_ids=ids, use_cache=False)
    found = []
    for name, module in modules.items():
        calls = seen[name]
        if len(calls) != 1:
            raise InputError(
                f"module {name} ran {len(calls)} times in one forward pass; expected once. Leave it out of {pattern}."
            )
        flat = calls[0].dim() == 2 and len(calls[0]) == ids.numel() and "expert" not in name  # OPT's second norm
        if not flat and (calls[0].dim() != 3 or calls[0].shape[:2] != ids.shape):
            raise InputError(
                f"module {name} gives activations of shape {tuple(calls[0].shape)} for 2 texts of 2 tokens; expected "
                f"(2, 2, neurons). Leave it out of {pattern}."
            )
        found.append(Site(name, type(module).__name__, int(calls[0].shape[-1])))
    return found


def _some(lm: LanguageModel, word: str) -> str:
    found = [name for name, module in lm.model.named_modules() if word in type(module).__name__.lower()]
    return ", ".join(found[:3]) or "none that is called so"


def _first_layer(names: list[str]) -> str:
    first = [name for name in names if re.search(r"\.0(\.|$)", name)]
    return ", ".join((first or names)[:12])
