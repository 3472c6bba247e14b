"""Maps on disk: ``maps.safetensors`` and ``steering.json``, bound to the model that they were fitted for.

A site has the tensors ``<site>.w`` and ``<site>.b``, and ``<site>.low`` and ``<site>.high`` where its map is clipped.
Where most neurons are left alone, w or b is two tensors instead: ``<site>.w.index`` names the neurons whose bits differ
from 1 (for b, from 0), and ``<site>.w.value`` holds w itself there, because w - 1 would lose bits. Each takes the
smaller form, and both come back to the bit.

``steering.json`` holds the SHA-256 of the tensors and is written last, so that a killed save leaves no steering at all.
Nothing in the folder is a pickle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audit.errors import DataError, InputError, ModelError
from audit.lm.hooks import recorded
from audit.lm.load import LanguageModel
from audit.runs.records import content_key, plain, read_json
from audit.text.files import make_folder, sha256_file, storage_errors, write_bytes, write_json
from audit.text.safe import quoted

from .config import FitSettings
from .maps import TOLERANCE, AffineMap, Maps, support_share
from .pooling import Pooling

RECORD: Final = "steering.json"
WEIGHTS: Final = "maps.safetensors"
FORMAT: Final = 1
_NEUTRAL: Final = {"w": 1.0, "b": 0.0}  # of a neuron that is left alone
_TENSOR_COST: Final = 96  # bytes that one more tensor takes in a safetensors header, about
_DTYPES: Final = (torch.float32, torch.float64)
_BITS: Final = {torch.float32: torch.int32, torch.float64: torch.int64}
_MOST_NEURONS: Final = 2**26  # of all sites; a sparse map takes memory that is in no file
_PARTS: Final = ("weights", "config", "tokenizer")


@dataclass(frozen=True, slots=True)
class Steering:
    """What is kept beside the maps.

    Attributes:
        method: As in tables: "LinEAS", "Mean-AcT".
        model: What the model was called when the maps were fitted.
        revision: Of a Hugging Face id, where one was given.
        fingerprint: SHA-256 of the model's weights, config and tokenizer.
        pattern: The regular expression that the sites were found by.
        pooling: How tokens became one vector.
        settings: `FitSettings` as a record; empty for a method without a fit.
        data: SHA-256 of the sentences (`data_hash`).
        evidence: How the maps were found and judged, for whoever reads the file; but for `strength` and `n_source`
            nothing is computed of it.
    """

    method: str
    model: str
    revision: str | None
    fingerprint: Mapping[str, str]
    pattern: str
    pooling: Pooling
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """At which the method's source applies the maps; 1 where the evidence does not say."""
        told = self.evidence.get("strength")
        return float(told) if isinstance(told, int | float) and math.isfinite(told) else 1.0

    @property
    def n_source(self) -> int | None:
        """Source sentences that were fitted on; None where the evidence does not say."""
        told = self.evidence.get("sentences")
        told = told.get("source") if isinstance(told, Mapping) else None
        return told if isinstance(told, int) and not isinstance(told, bool) else None

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        *,
        method: str,
        pattern: str,
        pooling: Pooling,
        settings: FitSettings | None = None,
        data: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> Steering:
        """Of maps that were fitted on this model."""
        found = {part: str(getattr(lm.fingerprint, part)) for part in _PARTS}
        record = {} if settings is None else settings.to_record()
        name, revision = lm.subject.model, lm.subject.revision
        return cls(method, name, revision, found, pattern, pooling, record, data, evidence or {})


def data_hash(source: Sequence[str], target: Sequence[str]) -> str:
    """SHA-256 of the sentences that maps were fitted on."""
    return content_key(source=list(source), target=list(target))


def save_maps(folder: str | Path, maps: Maps, record: Steering) -> None:
    """Write maps and their record; killed in between, the folder holds no steering.

    Files of other names in the folder stay.

    Args:
        folder: Made where absent; an earlier steering in it is replaced.
        maps: Site -> map, in float32 or float64.
        record: What they are.

    Raises:
        InputError: There is no map, one is of another dtype, or the record holds what JSON cannot.
        StorageError: The folder cannot be written.
    """
    if not maps:
        raise InputError("there are no maps to save; expected one for each site.")
    tensors: dict[str, Tensor] = {}
    for site, one in maps.items():
        tensors |= _encoded(site, one)
    content = save(
        {name: one.clone() for name, one in tensors.items()}, metadata={"format": "pt"}
    )  # one map, two sites
    settings = plain(dict(record.settings), "settings")
    details = {
        "version": FORMAT,
        "method": record.method,
        "model": {"name": record.model, "revision": record.revision, **record.fingerprint},
        "pattern": record.pattern,
        "sites": {site: len(one) for site, one in maps.items()},
        "pooling": {"kind": record.pooling.kind, "skip_bos": record.pooling.skip_bos},
        "p": 2,  # the exponent of the Wasserstein distance
        "settings": settings,  # reductions, gamma, steps, seed, optimiser
        "data_sha256": record.data,
        "support": {"share": support_share(maps), "tolerance": TOLERANCE},
        "evidence": plain(dict(record.evidence), "evidence"),
    }
    where = make_folder(folder)
    with storage_errors(where / RECORD, kept="nothing was changed", doing="replace"):
        (where / RECORD).unlink(missing_ok=True)
    write_bytes(where / WEIGHTS, content)
    write_json(where / RECORD, {**details, "maps_sha256": sha256_file(where / WEIGHTS)})


def load_maps(folder: str | Path) -> tuple[dict[str, AffineMap], Steering]:
    """What `save_maps` wrote, to the bit.

    Whether it is this model's, `require_model` says.

    Raises:
        IncompleteRunError: There is no steering in the folder.
        DataError: It is of a newer format, torn, changed, or no steering.
    """
    where = Path(folder)
    path = where / RECORD
    content = read_json(path, missing=f"{where} holds no {RECORD}, so no maps were saved there whole. Fit them again.")
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is int and version > FORMAT:
        raise DataError(
            f"{path} is of format version {version}; this Palimpsest reads version {FORMAT}. Upgrade Palimpsest, or "
            "save the maps again with this one."
        )
    try:
        if type(version) is not int or version != FORMAT:
            raise ValueError(f"version {quoted(version)}")
        record, widths, expected = _parsed(content)
    except InputError as error:
        raise _foreign(path, error) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _foreign(path, quoted(error)) from error
    if not (where / WEIGHTS).is_file() or sha256_file(where / WEIGHTS) != expected:
        raise DataError(
            f"{where / WEIGHTS} is absent or not the file that {RECORD} names (other SHA-256). It was torn or changed; "
            "restore both files from one copy, or fit the maps again."
        )
    try:
        with safe_open(where / WEIGHTS, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        maps = {site: _decoded(site, width, tensors) for site, width in widths.items()}
        if tensors:
            raise ValueError(f"tensor {next(iter(tensors))} belongs to no site")
    except (SafetensorError, KeyError, ValueError, InputError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise _foreign(where / WEIGHTS, said) from error
    return maps, record


def require_model(record: Steering, lm: LanguageModel, maps: Maps, *, folder: str | Path = "steering") -> None:
    """Refuse maps on another model than theirs.

    Args:
        record: Of the maps.
        lm: The model that is to be steered.
        maps: The maps.
        folder: Where they come from, for messages.

    Raises:
        ModelError: Weights, config or tokenizer differ; both models are named.
        InputError: As `check_maps`.
    """
    found = {part: str(getattr(lm.fingerprint, part)) for part in _PARTS}
    other = [part for part in _PARTS if found[part] != record.fingerprint.get(part)]
    if other:
        raise ModelError(
            f"the maps in {folder} were fitted for {quoted(record.model, limit=200)}, and "
            f"{quoted(lm.subject.model, limit=200)} has other {' and '.join(other)} (SHA-256 {found[other[0]][:12]} "
            f"for {str(record.fingerprint.get(other[0]))[:12]}). Load that model, or fit maps for this one."
        )
    check_maps(lm, maps)


def check_maps(lm: LanguageModel, maps: Maps) -> None:
    """Refuse maps whose sites or widths are not the model's; one forward pass of two tokens tells.

    Raises:
        InputError: A site is not in the model (the nearest is named), is not called, or has another width.
    """
    with torch.inference_mode(), recorded(lm.model, list(maps)) as seen:
        lm.model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=lm.device), use_cache=False)
    for site, one in maps.items():
        if not seen[site]:
            raise InputError(f"module {site} is not called in a forward pass, so a map behind it does nothing.")
        width = int(seen[site][0].shape[-1])
        if width != len(one):
            raise InputError(
                f"the map of {site} has {len(one):,} neurons, the module {width:,}; it is of another model. Fit maps "
                "for this one."
            )


def _encoded(site: str, one: AffineMap) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, dense in (("w", one.w), ("b", one.b), ("low", one.low), ("high", one.high)):
        if dense is None:
            continue
        whole = dense.detach().cpu()
        if whole.dtype not in _DTYPES:
            raise InputError(f"{name} of the map of {site} is {whole.dtype}; expected float32 or float64.")
        if name in _NEUTRAL:
            index = (_bits(whole) != _bits(torch.full_like(whole, _NEUTRAL[name]))).nonzero().flatten()
            if len(index) * (4 + whole.element_size()) + _TENSOR_COST < whole.numel() * whole.element_size():
                tensors |= {f"{site}.{name}.index": index.int(), f"{site}.{name}.value": whole[index]}
                continue
        tensors[f"{site}.{name}"] = whole
    return tensors


def _bits(tensor: Tensor) -> Tensor:
    """Numbers as integers: -0.0 is not 0.0."""
    return tensor.view(_BITS[tensor.dtype])


def _decoded(site: str, width: int, tensors: dict[str, Tensor]) -> AffineMap:
    """A site's map; its tensors are taken out of ``tensors``."""
    w, b = (_whole(f"{site}.{name}", width, _NEUTRAL[name], tensors) for name in ("w", "b"))
    ends = []
    for name in ("low", "high"):
        if f"{site}.{name}" in tensors:
            ends.append(_checked(f"{site}.{name}", tensors.pop(f"{site}.{name}"), width))
    if len(ends) == 1:
        raise ValueError(f"the map of {site} has low or high alone")
    try:
        return AffineMap(w, b, *ends)
    except InputError as error:
        raise ValueError(f"site {site}: {error}") from error


def _whole(name: str, width: int, neutral: float, tensors: dict[str, Tensor]) -> Tensor:
    if f"{name}.index" not in tensors:
        return _checked(name, tensors.pop(name), width)
    index = tensors.pop(f"{name}.index")
    if index.dtype != torch.int32 or index.dim() != 1:
        raise ValueError(f"{name}.index is no row of neurons")
    value = _checked(f"{name}.value", tensors.pop(f"{name}.value"), len(index))
    places = index.long()
    if len(places) and not (int(places[0]) >= 0 and int(places[-1]) < width and bool((places[1:] > places[:-1]).all())):
        raise ValueError(f"{name}.index names neurons out of order or beyond {width:,}")
    whole = torch.full((width,), neutral, dtype=value.dtype)
    whole[places] = value
    return whole


def _checked(name: str, tensor: Tensor, width: int) -> Tensor:
    if tensor.dtype not in _DTYPES or tensor.shape != (width,):
        raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, not numbers of shape ({width:,},)")
    return tensor


def _parsed(content: Any) -> tuple[Steering, dict[str, int], str]:
    model = dict(content["model"])
    name, revision = str(model.pop("name")), model.pop("revision")
    if revision is not None and not isinstance(revision, str):
        raise ValueError("a revision that is no text")
    widths = dict(content["sites"])
    if not widths or not all(type(width) is int and width > 0 for width in widths.values()):
        raise ValueError("sites without widths")
    if sum(widths.values()) > _MOST_NEURONS:
        raise ValueError(f"sites of more than {_MOST_NEURONS:,} neurons together")
    record = Steering(
        method=str(content["method"]),
        model=name,
        revision=revision,
        fingerprint={part: str(model[part]) for part in _PARTS},
        pattern=str(content["pattern"]),
        pooling=Pooling(**content["pooling"]),
        settings=dict(content["settings"]),
        data=str(content["data_sha256"]),
        evidence=dict(content["evidence"]),
    )
    return record, widths, str(content["maps_sha256"])


def _foreign(path: Path, said: object) -> DataError:
    return DataError(
        f"{path} is no steering of format version {FORMAT}: {said}. It was made by another program, changed or "
        "damaged; restore it from a copy, or fit the maps again."
    )
