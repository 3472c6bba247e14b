"""A steered model as an ordinary Hugging Face folder: maps folded into the weights, then proven on what was written.

The proof runs in float32 on random tokens and on given texts. What was written is loaded again, as any reader would,
and three things must hold, or nothing is left behind:

1. with the numbers before rounding put into the loaded model, its logits are those of the hooked source up to the
   rounding of float32: the fold, the class and its configuration are right. How far rounding goes in this network is
   measured: what the logits do when each folded weight is moved by one unit in its last place;
2. each weight in the files is its number rounded to the checkpoint's own dtype, to the bit: the files are right;
3. the tokenizer beside it splits the texts as before.

So whatever difference is left between the written model and the hooked source is the rounding of weights to that dtype,
and it is reported.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from audit.errors import AuditError, InputError, ModelError, StorageError
from audit.lm.checkpoint import find_folder
from audit.lm.files import weight_files
from audit.lm.load import LanguageModel, load
from audit.lm.tokens import encode, prefix_ids
from audit.text.files import make_folder, storage_errors, write_json

from ..checkpoints import check_out, check_saveable, keep_apart, save_model
from .files import Steering, check_maps
from .fold_target import empty_target
from .fold_weights import folded_weights, require_plain_weights
from .maps import Maps, check_strength
from .steer import steered
from .texts import encode_texts

RECORD: Final = "steering-folded.json"
_VERSION: Final = 1
_ROWS, _TOKENS = 4, 64  # random texts, and tokens of a text at most
_SEED: Final = 0
_SENTENCE: Final = "The quick brown fox, aged 12, jumps over the lazy dog."
_ROUNDING: Final = 1e-5  # of the largest logit; always allowed, as in the acceptance of folding
_NUDGES: Final = (
    8  # times what one unit in the last place does; right folds of 13 deep and wide networks had 0.8 to 1.4
)
_STORED: Final = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Folded:
    """What was written, and how near it is to the hooked model.

    Attributes:
        folder: The Hugging Face folder.
        architecture: Class of the written model.
        dtype: That most of its numbers have, as in the source's checkpoint.
        strength: At which the maps were folded.
        n_sites: Maps.
        n_weights: Weights that are other than the source's, added biases included.
        n_added: Biases that the source's class has not; most are zero where a switch adds them to all layers.
        n_tokens: Tokens whose logits were compared.
        difference: Largest absolute difference of a logit between the written model and the hooked source.
        exact_difference: The same before weights were rounded to ``dtype``; at most ``tolerance``.
        tolerance: Rounding of float32.
        largest_logit: For scale.
    """

    folder: str
    architecture: str
    dtype: str
    strength: float
    n_sites: int
    n_weights: int
    n_added: int
    n_tokens: int
    difference: float
    exact_difference: float
    tolerance: float
    largest_logit: float

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def fold(
    lm: LanguageModel,
    maps: Maps,
    strength: float,
    out: str | Path,
    *,
    as_llama: bool = False,
    texts: Sequence[str] = (),
    record: Steering | None = None,
) -> Folded:
    """Write the steered model as a checkpoint of its own; neither the model in memory nor its folder is changed.

    Args:
        lm: The source. Where it is not in float32, its checkpoint is loaded once more, in float32.
        maps: Site -> map.
        strength: At which they are folded.
        out: A new or empty folder.
        as_llama: Write a Qwen2 or Mistral model as the Llama checkpoint that it equals, which can hold every bias.
        texts: Compared beside random tokens; the first 64 tokens of each.
        record: Of the maps; what is kept of it goes into ``steering-folded.json``.

    Raises:
        InputError: A map cannot be folded, the strength is 0 or not finite, the model is steered at this moment, or
            ``out`` is not to be written to.
        ModelError: Packed weights, an adapter, or the written model is not the hooked one; nothing is then left behind.
        StorageError: The folder cannot be written.
    """
    s = check_strength(strength)
    where = Path(out)
    if lm.subject.adapter is not None:
        raise ModelError(
            f"the adapter {lm.subject.adapter} lies over the weights, and maps cannot be folded below it. Merge it "
            "into the model (merge_and_unload in peft), save that, and fold into the result."
        )
    check_out(where, lm.subject)
    keep_apart(_half_written(where), lm.subject)
    if where.is_dir() and any(where.iterdir()):
        raise InputError(f"{where} is not empty. Choose another --out.")
    if not maps or not s:
        raise InputError(f"there is nothing to fold ({len(maps):,} maps at strength {s:g}); the model is what it was.")
    require_plain_weights(lm.model)
    _require_unhooked(lm)
    check_saveable(lm)
    check_maps(lm, maps)
    source = lm if _is_float32(lm.model) else load(replace(lm.subject, dtype="float32"))
    changed = folded_weights(source.model, maps, s)
    own = source.model.state_dict()
    target = empty_target(source.model, [*own, *changed], as_llama=as_llama)
    exact = _complete(target, {**own, **changed})
    stored, usual = _dtypes(lm)
    rounded = _rounded(exact, own, stored, usual)
    probes = _probes(source, texts)
    hooked = _logits(source, probes, maps, s)
    del source
    make_folder(where.parent)
    temporary = _half_written(where)
    with storage_errors(where, kept="nothing was left behind", doing="write the folded model to"):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            _write(lm, target, rounded, temporary)
            proof = _proven(lm, temporary, exact, rounded, changed, probes, hooked, texts)
            told = Folded(
                str(where),
                type(target).__name__,
                str(usual).removeprefix("torch."),
                s,
                len(maps),
                len(changed.keys() | (exact.keys() - own.keys())),
                len(exact.keys() - own.keys()),
                sum(len(row) for row in probes),
                **proof,
            )
            write_json(temporary / RECORD, _record(lm, maps, told, record))
            if where.is_dir():
                where.rmdir()
            os.rename(temporary, where)
        except SafetensorError as error:
            raise StorageError(
                f"could not write the folded model to {where}: {error}; nothing was left behind. Free some space "
                "there, then run the same command again."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return told


def _half_written(out: Path) -> Path:
    return out.with_name(f".{out.name}.part")


def _is_float32(model: nn.Module) -> bool:
    return all(one.dtype == torch.float32 for one in model.parameters())


def _require_unhooked(lm: LanguageModel) -> None:
    for name, module in lm.model.named_modules():
        hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        # transformers leaves hooks of its own, which only look, wherever hidden states were once asked for
        if any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks):
            raise InputError(
                f"module {name or type(module).__name__} has a hook, so the model is steered or watched at this "
                "moment. Stop that (SteeredModel.stop), then fold."
            )


def _complete(target: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, and zeros for biases that a switch adds where nothing is folded."""
    device = next(iter(weights.values())).device
    empty = {
        name: torch.zeros(one.shape, device=device) for name, one in target.state_dict().items() if name not in weights
    }
    return {**weights, **empty}


def _dtypes(lm: LanguageModel) -> tuple[dict[str, torch.dtype], torch.dtype]:
    """The dtype of each weight in the source's files, and that of most numbers."""
    subject = lm.subject
    folder = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    stored: dict[str, torch.dtype] = {}
    numbers: Counter[torch.dtype] = Counter()
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                dtype = _STORED.get(part.get_dtype())
                if dtype is not None:
                    stored[name] = dtype
                    numbers[dtype] += int(np.prod(part.get_shape()))
    if not numbers:
        raise ModelError(f"{folder} holds no plain floating-point weights; maps cannot be folded into packed ones.")
    return stored, numbers.most_common(1)[0][0]


def _rounded(
    exact: Mapping[str, Tensor], own: Mapping[str, Tensor], stored: Mapping[str, torch.dtype], usual: torch.dtype
) -> dict[str, Tensor]:
    """Each weight in the dtype that it is written in; what is one tensor under two names stays one."""
    done: dict[tuple[int, torch.Size, torch.dtype], Tensor] = {}
    found = {}
    for name, one in exact.items():
        if not one.is_floating_point():
            found[name] = one
            continue
        dtype = stored.get(name, usual)
        if name not in own and name.endswith(".bias"):
            dtype = stored.get(name.removesuffix("bias") + "weight", usual)
        found[name] = done.setdefault((one.data_ptr(), one.shape, dtype), one.to(dtype))
        if not bool(torch.isfinite(found[name]).all()):
            raise InputError(
                f"{name} does not fit {str(dtype).removeprefix('torch.')} after the fold (largest number "
                f"{float(one.abs().max()):.3g}). Fold at a lower strength, or steer without folding."
            )
    return found


def _probes(lm: LanguageModel, texts: Sequence[str]) -> list[list[int]]:
    """Rows of token ids: random ones, and the beginnings of the texts."""
    most = min(_TOKENS, lm.n_context)
    random = np.random.default_rng(_SEED)
    prefix = prefix_ids(lm)
    rows = [[*prefix, *random.integers(lm.n_vocabulary, size=most - len(prefix)).tolist()] for _ in range(_ROWS)]
    return rows + (encode_texts(lm, texts, "given", max_tokens=most) if texts else [])


@torch.inference_mode()
def _logits(lm: LanguageModel, rows: Sequence[Sequence[int]], maps: Maps, strength: float) -> list[Tensor]:
    """(T, V) for each row, in float32 on the CPU."""
    with steered(lm.model, maps, strength):
        return [
            lm.model(input_ids=torch.tensor([row], device=lm.device), use_cache=False).logits[0].float().cpu()
            for row in rows
        ]


def _write(lm: LanguageModel, target: Any, weights: Mapping[str, Tensor], folder: Path) -> None:
    target.load_state_dict(dict(weights), strict=True, assign=True)
    target.tie_weights()
    save_model(replace(lm, model=target), folder)


def _proven(
    lm: LanguageModel,
    folder: Path,
    exact: Mapping[str, Tensor],
    rounded: Mapping[str, Tensor],
    changed: Iterable[str],
    probes: Sequence[Sequence[int]],
    hooked: Sequence[Tensor],
    texts: Sequence[str],
) -> dict[str, float]:
    """Differences of logits, as in `Folded`.

    Raises:
        ModelError: What was written is not the hooked model.
    """
    try:
        written = load(replace(lm.subject, model=str(folder.absolute()), revision=None, dtype="float32"))
    except AuditError as error:
        raise _unlike(f"it cannot be loaded ({error})") from error
    loaded = written.model.state_dict()
    other = [name for name, one in rounded.items() if name not in loaded or not _same(loaded[name], one)]
    if other:
        raise _unlike(f"{len(other):,} weights are not what was written, first {other[0]}")
    if encode(written, [_SENTENCE, *texts]) != encode(lm, [_SENTENCE, *texts]) or written.bos_id != lm.bos_id:
        raise _unlike("its tokenizer splits texts otherwise")
    found = _difference(_logits(written, probes, {}, 0.0), hooked)
    written.model.load_state_dict({name: one.float() for name, one in exact.items()}, strict=True)
    unrounded = _logits(written, probes, {}, 0.0)
    exactly = _difference(unrounded, hooked)
    largest = max(float(one.abs().max()) for one in hooked)
    _nudge(written.model, changed)
    tolerance = max(_ROUNDING * max(1.0, largest), _NUDGES * _difference(_logits(written, probes, {}, 0.0), unrounded))
    if not exactly <= tolerance:  # also where it is no number
        raise _unlike(f"logits differ by up to {exactly:.3g}, and rounding explains {tolerance:.3g}")
    return {
        "difference": found,
        "exact_difference": exactly,
        "tolerance": tolerance,
        "largest_logit": largest,
    }


def _nudge(model: nn.Module, names: Iterable[str]) -> None:
    """Move each number of these weights by one unit in its last place, up or down."""
    state = model.state_dict()
    random = torch.Generator().manual_seed(_SEED)
    for name in names:
        one = state[name]
        up = torch.randint(2, one.shape, generator=random).to(one.device) == 1
        one.copy_(torch.nextafter(one, torch.where(up, torch.inf, -torch.inf).to(one)))


def _same(loaded: Tensor, written: Tensor) -> bool:
    return torch.equal(loaded.float().cpu(), written.float().cpu())


def _difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return max(
        float((a - b).abs().max()) if a.shape == b.shape else float("inf") for a, b in zip(one, other, strict=True)
    )


def _unlike(what: str) -> ModelError:
    return ModelError(
        f"the folded model, loaded again, is not the steered one: {what}. It was removed. Steer without folding, "
        "and please report this with the model's config.json."
    )


def _record(lm: LanguageModel, maps: Maps, told: Folded, record: Steering | None) -> dict[str, Any]:
    kept = {} if record is None else {"method": record.method, "data_sha256": record.data, "pattern": record.pattern}
    found = lm.fingerprint
    return {
        "version": _VERSION,
        "maps": {**kept, "sites": list(maps)},
        "source": {
            "name": lm.subject.model,
            "revision": lm.subject.revision,
            "weights": found.weights,
            "config": found.config,
            "tokenizer": found.tokenizer,
        },
        "folded": {key: value for key, value in told.to_record().items() if key != "folder"},
    }
