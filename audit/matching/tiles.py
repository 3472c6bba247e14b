r"""Unit vectors, tiles of their products, and what a product in a tile may be wrong by.

A matrix product of q and c rows gives each dot product to within

    |computed - exact| <= e = 3 u + (d + 6) 2^-24        of vectors of length 1 and d dimensions,

u the rounding of the tile's numbers (2^-11 for fp16, 2^-8 for bf16, none for fp32): two roundings of a vector, one of
the result, and a sum of d products in fp32. Whatever a tile says is therefore taken to e only; what could matter is
computed again for that pair alone, in fp64 from the vectors as they were given, and rounded to fp32 (`exact_scores`).
So no decision depends on the tile, the precision or the device, and equal vectors have equal scores. (Sums of fp64 in
another order, on another device, differ in the last of 53 bits; they round to another fp32 once in 10^8 pairs.)

Source: spec of the extraction, section 6; at worst of 20,000 pairs it measured fp16 9e-5 and bf16 7e-4, inside e.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..stats.checks import choice, count

Vectors: TypeAlias = Tensor | NDArray[Any]
Precision: TypeAlias = Literal["float32", "float16", "bfloat16"]
OnDone: TypeAlias = Callable[[int], None]
LENGTH_TOLERANCE: Final = 1e-3  # vectors kept in fp16 are off by up to 5e-4
_MAX_BYTES: Final = {"cpu": 2**30}
_DEVICE_MAX_BYTES: Final = 2**33
_BYTES_PER_CELL: Final = 32  # the product, a copy of it, a comparison, and an eighth of all places
_PLACES_AT_ONCE: Final = 8  # that eighth
_LEAST_BYTES: Final = 2**22
_ROWS_CHECKED: Final = 2**14
_TILE: Final = {"cpu": (2048, 1024)}  # stays in the cache; the quickest of eight shapes at 384 and 768 dimensions
_DEVICE_TILE: Final = (4096, 65_536)
_TYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Block(NamedTuple):
    """Products of the queries from ``query`` and the corpus rows from ``row`` on, shape (q, c); used up by the next."""

    query: int
    row: int
    scores: Tensor


class Setting(NamedTuple):
    """Where and how products are computed, in how many bytes beside the vectors and the result."""

    device: torch.device
    precision: Precision
    max_bytes: int


def setting(device: torch.device | str, precision: Precision, max_bytes: int | None) -> Setting:
    """The checked setting; unless told otherwise 1 GiB is worked in on the CPU, 8 GiB on another device.

    Raises:
        InputError: No such precision, or fewer than 4 MiB to work in.
    """
    choice(precision, "precision", tuple(_TYPES))
    where = torch.device(device)
    most = _MAX_BYTES.get(where.type, _DEVICE_MAX_BYTES) if max_bytes is None else max_bytes
    return Setting(where, precision, count(most, "max_bytes", least=_LEAST_BYTES))


def unit_rows(vectors: Vectors, name: str, *, width: int | None = None) -> Tensor:
    """``vectors`` as a tensor where they are, shape (n, d); fp64 becomes fp32, fp16 and bf16 stay.

    Args:
        vectors: One a row; a memory-mapped array is read in parts.
        name: For the message.
        width: The d that is expected.

    Raises:
        InputError: Not a matrix of floats with a row and a column, not of that width, not finite, or a row is not of
            length 1 to within 0.001.
    """
    if isinstance(vectors, np.ndarray):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # read-only: it is not written to
            rows = torch.from_numpy(vectors) if vectors.dtype.kind == "f" else torch.zeros(0, dtype=torch.int8)
    else:
        rows = vectors.detach()
    if not rows.is_floating_point():
        raise InputError(f"{name} holds {vectors.dtype}; expected vectors of floating-point numbers.")
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"{name} has shape {tuple(rows.shape)}; expected one vector a row, one row or more.")
    if width is not None and rows.shape[1] != width:
        raise InputError(
            f"{name} has {rows.shape[1]} dimensions and the queries have {width}; expected the same encoder, cut to "
            "the same width, on both sides."
        )
    if rows.dtype == torch.float64:
        rows = rows.float()
    for first in range(0, len(rows), _ROWS_CHECKED):
        lengths = rows[first : first + _ROWS_CHECKED].float().norm(dim=1)
        bad = torch.nonzero(~((lengths - 1).abs() <= LENGTH_TOLERANCE))  # NaN too
        if len(bad):
            at = int(bad[0])
            length = float(lengths[at])
            raise InputError(
                f"{name} row {first + at} has length {length:.4f}; expected 1, to within {LENGTH_TOLERANCE}. Divide "
                "each vector by its length, once more after cutting it to fewer dimensions."
                if math.isfinite(length)
                else f"{name} row {first + at} holds NaN or infinity; expected finite numbers. Encode that text again."
            )
    return rows


def error_bound(width: int, precision: Precision) -> float:
    """e of the equation above; with the coarser products of fp32 that torch can be told to use, that of bf16."""
    coarse = precision == "float32" and torch.get_float32_matmul_precision() != "highest"
    rounding = torch.finfo(torch.bfloat16 if coarse else _TYPES[precision]).eps / 2
    subnormal = math.sqrt(width) * 2.0**-24 if precision == "float16" else 0.0
    of_inputs = 0.0 if precision == "float32" and not coarse else 3 * rounding + subnormal
    return (1 + LENGTH_TOLERANCE) ** 2 * (of_inputs + (width + 6) * 2.0**-24)


def tile_shape(n_queries: int, n_rows: int, how: Setting) -> tuple[int, int]:
    """Queries and corpus rows of a tile: at most what the ceiling allows."""
    queries, rows = _TILE.get(how.device.type, _DEVICE_TILE)
    queries, rows = min(queries, n_queries), min(rows, n_rows)
    while queries * rows * _BYTES_PER_CELL > how.max_bytes // 2:  # the other half is for `exact_scores`
        queries, rows = (queries, (rows + 1) // 2) if rows >= queries else ((queries + 1) // 2, rows)
    return queries, rows


def blocks(queries: Tensor, corpus: Tensor, how: Setting, on_done: OnDone | None = None) -> Iterator[Block]:
    """The whole product, tile by tile: a corpus tile meets all queries before the next one is fetched.

    Args:
        queries: Shape (G, d); held on the device.
        corpus: Shape (N, d), on any device.
        how: The setting.
        on_done: Called with the number of corpus rows that met all queries.
    """
    n_queries, n_rows = tile_shape(len(queries), len(corpus), how)
    kind = _TYPES[how.precision]
    ours = queries.to(how.device, kind)
    buffer = torch.empty(n_queries * n_rows, dtype=kind, device=how.device)
    for row in range(0, len(corpus), n_rows):
        tile = corpus[row : row + n_rows].to(how.device, kind).T
        for query in range(0, len(ours), n_queries):
            part = ours[query : query + n_queries]
            scores = buffer[: len(part) * tile.shape[1]].view(len(part), tile.shape[1])
            torch.mm(part, tile, out=scores)
            yield Block(query, row, scores)
        if on_done is not None:
            on_done(min(row + n_rows, len(corpus)))


def places(mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Row and column of all cells that are true; in parts where they are many."""
    step = len(mask) if int(mask.sum()) * _PLACES_AT_ONCE <= mask.numel() else max(1, len(mask) // _PLACES_AT_ONCE)
    for first in range(0, len(mask), max(1, step)):
        own, columns = torch.nonzero(mask[first : first + step], as_tuple=True)
        if len(own):
            yield own + first, columns


def exact_scores(queries: Tensor, corpus: Tensor, own: Tensor, rows: Tensor, how: Setting) -> Tensor:
    """Dot product of query ``own[i]`` and corpus row ``rows[i]``, summed in fp64, as fp32; shape (n,)."""
    step = max(1, how.max_bytes // (2 * 24 * queries.shape[1]))
    found = torch.empty(len(own), dtype=torch.float32, device=how.device)
    for first in range(0, len(own), step):
        left = queries[own[first : first + step].to(queries.device)].to(how.device)
        right = corpus[rows[first : first + step].to(corpus.device)].to(how.device)
        found[first : first + step] = (left.double() * right.double()).sum(dim=1)
    return found
