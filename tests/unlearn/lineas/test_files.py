"""Maps on disk: back to the bit, refused on another model, and never half there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.errors import DataError, IncompleteRunError, InputError, ModelError
from audit.lm.load import LanguageModel, load
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from unlearn.lineas import files
from unlearn.lineas.config import FitSettings
from unlearn.lineas.files import Steering, data_hash, load_maps, require_model, save_maps
from unlearn.lineas.maps import AffineMap
from unlearn.lineas.pooling import Pooling

NORM = "model.layers.0.post_attention_layernorm"


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(build_checkpoint(tmp_path_factory.mktemp("files") / "llama", "llama"))


def record_of(lm: LanguageModel) -> Steering:
    return Steering.of(
        lm,
        method="LinEAS",
        pattern=r".*\.post_attention_layernorm",
        pooling=Pooling("last", skip_bos=True),
        settings=FitSettings(gamma=0.01, neurons="mean"),
        data=data_hash(["a"], ["b", "c"]),
        evidence={"loss": 0.5},
    )


def random_map(n: int = 32, seed: int = 0) -> AffineMap:
    source = torch.Generator().manual_seed(seed)
    return AffineMap(torch.randn(n, generator=source), torch.randn(n, generator=source))


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()


def test_maps_come_back_to_the_bit(lm: LanguageModel, tmp_path: Path) -> None:
    sparse = AffineMap(torch.ones(5_000), torch.zeros(5_000))
    sparse.w[[0, 17, 4_999]] = torch.tensor([1 + 2**-23, -3e-39, 1e38])
    sparse.b[[3, 4_998]] = torch.tensor([-0.0, 1e-45])  # a negative zero and the least number are bits as well
    clipped = AffineMap(
        *(getattr(random_map(seed=1), part) for part in "wb"), torch.full((32,), -torch.inf), torch.ones(32)
    )
    double = AffineMap(random_map().w.double() / 3, random_map().b.double() / 7)
    maps = {
        "sparse": sparse,
        "dense": random_map(),
        "clipped": clipped,
        "double": double,
        "same": AffineMap.identity(9),
    }
    save_maps(tmp_path, maps, record_of(lm))
    found, record = load_maps(tmp_path)
    assert list(found) == list(maps)
    for site, one in maps.items():
        for part in ("w", "b", "low", "high"):
            before, after = getattr(one, part), getattr(found[site], part)
            assert (before is None) == (after is None)
            assert before is None or same_bits(before, after), (site, part)
    assert record == record_of(lm)
    stored = load_file(tmp_path / "maps.safetensors")
    assert stored["sparse.w.index"].tolist() == [0, 17, 4_999]
    assert {"dense.w", "double.b", "same.w"} < stored.keys()


def test_one_map_can_stand_at_two_sites(lm: LanguageModel, tmp_path: Path) -> None:
    one = random_map()
    save_maps(tmp_path, {"a": one, "b": one}, record_of(lm))
    assert all(same_bits(found.w, one.w) for found in load_maps(tmp_path)[0].values())


@pytest.mark.parametrize("width", [10**14, 10**30])
def test_a_width_that_is_in_no_file_takes_no_memory(lm: LanguageModel, tmp_path: Path, width: int) -> None:
    save_maps(tmp_path, {"a": AffineMap.identity(5_000)}, record_of(lm))  # sparse: no neuron is in the file
    content = json.loads((tmp_path / "steering.json").read_text())
    (tmp_path / "steering.json").write_text(json.dumps({**content, "sites": {"a": width}}))
    with pytest.raises(DataError, match="more than 67,108,864 neurons"):
        load_maps(tmp_path)


def test_an_open_reader_finds_every_setting(lm: LanguageModel, tmp_path: Path) -> None:
    save_maps(tmp_path, {NORM: random_map()}, record_of(lm))
    content = json.loads((tmp_path / "steering.json").read_text())
    assert content["version"] == 1
    assert content["p"] == 2
    assert content["sites"] == {NORM: 32}
    assert content["pooling"] == {"kind": "last", "skip_bos": True}
    assert content["settings"]["gamma"] == 0.01
    assert content["settings"]["neurons"] == "mean"
    assert content["settings"]["optimizer"] == "sgd"
    assert content["model"]["weights"] == lm.fingerprint.weights
    assert content["support"]["share"] == 1.0
    assert content["maps_sha256"] == sha256_file(tmp_path / "maps.safetensors")


def test_another_model_is_refused_with_what_differs(lm: LanguageModel, tmp_path: Path) -> None:
    maps = {NORM: random_map()}
    require_model(record_of(lm), lm, maps)
    folder = build_checkpoint(tmp_path / "other", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    with pytest.raises(ModelError, match=r"has other config \(SHA-256"):
        require_model(record_of(lm), load(folder), maps)


def test_sites_and_widths_that_are_not_the_models_are_refused(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match=f"Did you mean '{NORM}'"):
        require_model(record_of(lm), lm, {NORM + "s": random_map()})
    with pytest.raises(InputError, match="has 31 neurons, the module 32"):
        require_model(record_of(lm), lm, {NORM: random_map(31)})


def test_a_killed_save_leaves_no_steering(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_maps(tmp_path, {NORM: random_map()}, record_of(lm))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            save_maps(tmp_path, {NORM: random_map(seed=2)}, record_of(lm))
    with pytest.raises(IncompleteRunError, match="no maps were saved there whole"):
        load_maps(tmp_path)
    save_maps(tmp_path, {NORM: random_map(seed=3)}, record_of(lm))
    assert same_bits(load_maps(tmp_path)[0][NORM].w, random_map(seed=3).w)


def rewritten(folder: Path, **changes: object) -> Path:
    content = json.loads((folder / "steering.json").read_text()) | changes
    (folder / "steering.json").write_text(json.dumps(content))
    return folder


def test_newer_and_foreign_records_are_refused(lm: LanguageModel, tmp_path: Path) -> None:
    save_maps(tmp_path, {NORM: random_map()}, record_of(lm))
    whole = (tmp_path / "steering.json").read_text()
    with pytest.raises(DataError, match=r"of format version 7; this Palimpsest reads version 1\. Upgrade"):
        load_maps(rewritten(tmp_path, version=7, unheard_of={}))
    for changes in ({"version": True}, {"sites": {}}, {"pooling": {"kind": "median"}}, {"model": []}, {"sites": [1]}):
        (tmp_path / "steering.json").write_text(whole)
        with pytest.raises(DataError, match=r"steering\.json is no steering of format version 1"):
            load_maps(rewritten(tmp_path, **changes))
    (tmp_path / "steering.json").write_text("[]")
    with pytest.raises(DataError, match="is no steering"):
        load_maps(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({f"{NORM}.w": torch.ones(32)}, f"lacks '{NORM}.b'"),
        ({f"{NORM}.w": torch.ones(31), f"{NORM}.b": torch.zeros(32)}, r"shape \(31,\)"),
        ({f"{NORM}.w": torch.ones(32), f"{NORM}.b": torch.full((32,), torch.nan)}, "not finite"),
        ({f"{NORM}.w": torch.ones(32), f"{NORM}.b": torch.zeros(32), "x.w": torch.ones(1)}, "belongs to no site"),
        (
            {f"{NORM}.w": torch.ones(32), f"{NORM}.b": torch.zeros(32), f"{NORM}.low": torch.zeros(32)},
            "low or high alone",
        ),
        ({f"{NORM}.w": torch.ones(32, dtype=torch.int32), f"{NORM}.b": torch.zeros(32)}, "int32"),
        (
            {
                f"{NORM}.w": torch.ones(32),
                f"{NORM}.b.index": torch.tensor([3, 32]).int(),
                f"{NORM}.b.value": torch.ones(2),
            },
            "out of order or beyond 32",
        ),
        (
            {
                f"{NORM}.w": torch.ones(32),
                f"{NORM}.b.index": torch.tensor([3, 3]).int(),
                f"{NORM}.b.value": torch.ones(2),
            },
            "out of order",
        ),
    ],
)
def test_tensors_that_are_no_maps_are_refused(
    lm: LanguageModel, tmp_path: Path, tensors: dict[str, torch.Tensor], said: str
) -> None:
    save_maps(tmp_path, {NORM: random_map()}, record_of(lm))
    save_file(tensors, tmp_path / "maps.safetensors")
    with pytest.raises(DataError, match="absent or not the file"):
        load_maps(tmp_path)
    with pytest.raises(DataError, match=said):
        load_maps(rewritten(tmp_path, maps_sha256=sha256_file(tmp_path / "maps.safetensors")))


def test_torn_files_and_pickles_are_refused(lm: LanguageModel, tmp_path: Path) -> None:
    save_maps(tmp_path, {NORM: random_map()}, record_of(lm))
    path = tmp_path / "maps.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="torn or changed"):
        load_maps(tmp_path)
    torch.save({f"{NORM}.w": torch.ones(32)}, path)
    with pytest.raises(DataError, match="is no steering"):
        load_maps(rewritten(tmp_path, maps_sha256=sha256_file(path)))


def test_what_cannot_be_kept_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no maps to save"):
        save_maps(tmp_path, {}, record_of(lm))
    with pytest.raises(InputError, match="float16"):
        save_maps(tmp_path, {NORM: AffineMap(torch.ones(2).half(), torch.zeros(2).half())}, record_of(lm))
    assert list(tmp_path.iterdir()) == []
