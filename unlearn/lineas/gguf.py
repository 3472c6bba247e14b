"""Shifts of layers as a GGUF control vector, which llama.cpp reads.

A control vector is added to the residual stream behind a layer, so only maps with w = 1 at whole layers (preset
"layers") can be one. ``direction.<n>`` belongs to the layer of number n, counted from 0; llama.cpp has no place for
layer 0, and keeps the same numbers as repeng. It multiplies by the scale that it is started with
(``--control-vector-scaled FILE:SCALE``), which is our strength. Not every architecture of llama.cpp adds control
vectors; it says nothing where it does not.

The file (GGUF version 3, little-endian): a magic number, counts, keys with values, a table of tensors, and their
numbers, each aligned to 32 bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from audit.errors import InputError
from audit.lm.head import decoder_of
from audit.lm.load import LanguageModel
from audit.text.files import write_bytes

from .files import check_maps
from .maps import Maps, check_strength

ARCHITECTURE: Final = "controlvector"
_ALIGNMENT: Final = 32
_UINT32, _STRING = 4, 8  # types of values
_F32 = 0  # type of tensors


def export_gguf(lm: LanguageModel, maps: Maps, path: str | Path, *, strength: float = 1.0) -> dict[int, int]:
    """Write shifts of layers as a control vector.

    Args:
        lm: The model that they belong to.
        maps: Site -> map; sites are layers, scales are 1.
        path: The file; replaced where it exists.
        strength: Multiplies the shifts; llama.cpp can scale them again.

    Returns:
        Layer -> neurons, of the directions that were written.

    Raises:
        InputError: A map scales, is clipped or stands elsewhere than behind a layer; or layer 0 is shifted.
        StorageError: The file cannot be written.
    """
    s = check_strength(strength)
    check_maps(lm, maps)
    layers = _layers(lm)
    directions = {}
    for site, one in maps.items():
        if site not in layers:
            raise InputError(
                f"{site} is no layer of {type(lm.model).__name__}, and a control vector is added to the residual "
                'stream behind a layer. Fit a shift at the sites "layers", or keep the maps in our own format.'
            )
        n_scaled = int((one.w != 1).sum())
        if n_scaled or one.clipped:
            raise InputError(
                f"the map of {site} {f'scales {n_scaled:,} neurons' if n_scaled else 'is clipped to a range'}, and a "
                "control vector can only shift (w = 1). Export a mean shift, or keep the maps in our own format."
            )
        if bool((one.b != 0).any()):
            directions[layers[site]] = (s * one.b).float().contiguous()
    if 0 in directions:
        raise InputError(
            "layer 0 is shifted, and llama.cpp has no control vector for it. Fit without the first layer, for instance "
            r"with the sites '.*\.layers\.[1-9]\d*'."
        )
    if not directions:
        raise InputError("no layer is shifted (every b is 0), so there is no control vector to write.")
    hint = str(lm.model.config.model_type)
    write_bytes(path, encoded(directions, model_hint=hint))
    return {layer: len(one) for layer, one in sorted(directions.items())}


def encoded(directions: Mapping[int, torch.Tensor], *, model_hint: str) -> bytes:
    """A control vector as the bytes of its file.

    Args:
        directions: Layer -> shift, float32 of shape (D,).
        model_hint: The model's type, for whoever reads the file.
    """
    values = [
        _key("general.architecture", _STRING) + _string(ARCHITECTURE),
        _key(f"{ARCHITECTURE}.model_hint", _STRING) + _string(model_hint),
        _key(f"{ARCHITECTURE}.layer_count", _UINT32) + struct.pack("<I", len(directions)),
    ]
    table, data = b"", b""
    for layer, shift in sorted(directions.items()):
        data += b"\0" * (-len(data) % _ALIGNMENT)
        table += _string(f"direction.{layer}") + struct.pack("<IQIQ", 1, len(shift), _F32, len(data))
        data += struct.pack(f"<{len(shift)}f", *shift.tolist())
    data += b"\0" * (-len(data) % _ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(directions), len(values)) + b"".join(values) + table
    return head + b"\0" * (-len(head) % _ALIGNMENT) + data


def _string(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _key(name: str, kind: int) -> bytes:
    return _string(name) + struct.pack("<I", kind)


def _layers(lm: LanguageModel) -> dict[str, int]:
    """Name of each whole layer -> its number, from 0."""
    names = {id(module): name for name, module in lm.model.named_modules()}
    stem = names[id(decoder_of(lm.model))]
    found = re.compile(re.escape(stem + "." if stem else "") + r"(layers|h|blocks)\.(\d+)")
    matches = (found.fullmatch(name) for name in names.values())
    return {match[0]: int(match[2]) for match in matches if match}
