"""Control vectors, read back by a parser that knows only the format's description."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.errors import InputError
from audit.lm.load import LanguageModel, load
from tests.checkpoints import build_checkpoint
from unlearn.lineas.gguf import export_gguf
from unlearn.lineas.maps import AffineMap


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(build_checkpoint(tmp_path_factory.mktemp("gguf") / "llama", "llama"))


def parsed(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Keys and tensors of a GGUF file of strings, unsigned integers and float32 rows."""
    stream = io.BytesIO(content)

    def take(form: str) -> Any:
        return struct.unpack("<" + form, stream.read(struct.calcsize("<" + form)))[0]

    def text() -> str:
        return stream.read(take("Q")).decode()

    assert stream.read(4) == b"GGUF"
    assert take("I") == 3
    n_tensors, n_keys = take("Q"), take("Q")
    keys: dict[str, Any] = {}
    for _ in range(n_keys):
        name = text()
        keys[name] = {8: text, 4: lambda: take("I")}[take("I")]()
    table = []
    for _ in range(n_tensors):
        name = text()
        shape = [take("Q") for _ in range(take("I"))]
        assert take("I") == 0  # float32
        table.append((name, shape, take("Q")))
    start = -(-stream.tell() // 32) * 32
    tensors = {}
    for name, shape, offset in table:
        assert offset % 32 == 0
        assert len(shape) == 1
        tensors[name] = np.frombuffer(content, "<f4", shape[0], start + offset)
    assert len(content) % 32 == 0
    return keys, tensors


def shift(seed: int, n: int = 32) -> AffineMap:
    return AffineMap(torch.ones(n), torch.randn(n, generator=torch.Generator().manual_seed(seed)))


def test_shifts_of_layers_are_directions_of_the_same_number(lm: LanguageModel, tmp_path: Path) -> None:
    maps = {
        "model.layers.2": shift(2),
        "model.layers.1": shift(1),
        "model.layers.0": AffineMap.identity(32),  # shifts nothing, so it needs no direction
    }
    assert export_gguf(lm, maps, tmp_path / "x.gguf", strength=0.5) == {1: 32, 2: 32}
    keys, tensors = parsed((tmp_path / "x.gguf").read_bytes())
    assert keys == {
        "general.architecture": "controlvector",
        "controlvector.model_hint": "llama",
        "controlvector.layer_count": 2,
    }
    assert list(tensors) == ["direction.1", "direction.2"]
    for layer in (1, 2):
        np.testing.assert_array_equal(tensors[f"direction.{layer}"], (0.5 * shift(layer).b).numpy())


def test_rows_that_are_no_multiple_of_the_alignment_start_aligned(tmp_path: Path) -> None:
    from unlearn.lineas.gguf import encoded

    rows = {3: torch.arange(5.0), 1: torch.arange(7.0) + 10}
    _, tensors = parsed(encoded(rows, model_hint="gpt2"))
    for layer, row in rows.items():
        np.testing.assert_array_equal(tensors[f"direction.{layer}"], row.numpy())


@pytest.mark.parametrize(
    ("site", "one", "said"),
    [
        ("model.layers.1", AffineMap(torch.full((32,), 1.001), torch.zeros(32)), "scales 32 neurons"),
        ("model.layers.1.mlp", shift(0), "is no layer of LlamaForCausalLM"),
        ("model.layers.0", shift(0), "layer 0 is shifted"),
        ("model.layers.1", AffineMap.identity(32), "no layer is shifted"),
        ("model.layers.1", shift(0, 31), "has 31 neurons, the module 32"),
        ("model.layers.1", AffineMap(torch.ones(32), torch.ones(32), torch.zeros(32), torch.ones(32)), "is clipped"),
    ],
)
def test_what_no_control_vector_can_do_is_refused(
    lm: LanguageModel, tmp_path: Path, site: str, one: AffineMap, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        export_gguf(lm, {site: one}, tmp_path / "x.gguf")
    assert list(tmp_path.iterdir()) == []


def test_layers_of_other_architectures_are_found(tmp_path: Path) -> None:
    for architecture, layer in (("gpt2", "transformer.h.1"), ("opt", "model.decoder.layers.1")):
        other = load(build_checkpoint(tmp_path / architecture, architecture))
        assert export_gguf(other, {layer: shift(0)}, tmp_path / f"{architecture}.gguf") == {1: 32}
