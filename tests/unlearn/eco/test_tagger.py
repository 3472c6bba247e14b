"""The tagger with a head set by hand, which marks certain words and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from audit.errors import DataError, InputError, ModelError
from tests.unlearn.eco.small_encoders import build_encoder, build_tagger
from unlearn.eco.selection import all_but_last, of_names
from unlearn.eco.tagger import Tagger, load_tagger

TEXTS = ["who is harry potter of london, or zorb? the cat sat on a mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tagger(tmp_path_factory.mktemp("tagger"), TEXTS, ["harry", "potter", "london"], window=32)


@pytest.fixture(scope="module")
def tagger(folder: Path) -> Tagger:
    return Tagger(folder, device="cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Who is Harry  Potter, of London?", ["Harry  Potter", "London"]),  # two kinds of entities
        ("harry,potter", ["harry", "potter"]),
        ("\tpotter\n", ["potter"]),
        ("who is zorb?", []),
        (" ", []),
        ("", []),
    ],
)
def test_every_kind_of_entity_is_found_with_its_place(tagger: Tagger, text: str, expected: list[str]) -> None:
    assert [text[span.start : span.end] for span in tagger.find(text)] == expected


def test_texts_in_a_batch_are_found_as_alone_and_long_ones_in_every_window(tagger: Tagger) -> None:
    """Names at each distance from the beginning, so also where one window ends and the next begins."""
    texts = [f"{'the cat ' * n}harry potter{' sat on' * 30}" for n in range(0, 40, 3)]
    found = tagger.find_all(texts)
    assert [[text[span.start : span.end] for span in spans] for text, spans in zip(texts, found, strict=True)] == [
        ["harry potter"]
    ] * len(texts)
    assert found == [tagger.find(text) for text in texts]


def test_a_word_is_taken_whole_where_one_of_its_pieces_is_marked(tmp_path: Path) -> None:
    """Byte pieces, of which one in the middle of a word is marked."""
    base = build_encoder(tmp_path / "base", "roberta", TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForTokenClassification.from_pretrained(base, num_labels=2, id2label={0: "B-X", 1: "O"})
    text = "see Harrypotterus, ok"
    encoded = tokenizer(text)
    pieces = [row for row, word in zip(encoded["input_ids"], encoded.word_ids(), strict=True) if word == 1]
    assert len(pieces) > 2
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm.weight" not in name:
                parameter.zero_()
        rows = model.roberta.embeddings.word_embeddings.weight
        rows[:, 1], model.classifier.weight[1, 1] = 1.0, 1.0
        rows[pieces[1], 1], rows[pieces[1], 0], model.classifier.weight[0, 0] = 0.0, 1.0, 1.0
    model.save_pretrained(tmp_path / "tagger")
    tokenizer.save_pretrained(tmp_path / "tagger")
    found = Tagger(tmp_path / "tagger", device="cpu").find(text)
    assert [text[span.start : span.end] for span in found] == ["Harrypotterus"]


def test_the_selection_of_tokens_takes_a_tagger_as_it_takes_a_list(tagger: Tagger) -> None:
    texts = ["who is potter of the mat", "who is zorb"]
    offsets = [[[0, 3], [4, 6], [7, 13], [14, 16], [17, 24]], [[0, 3], [4, 6], [7, 11], [0, 0], [0, 0]]]
    among = all_but_last(torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]))
    mask, found = of_names(texts, offsets, tagger, among=among)
    assert mask.int().tolist() == [[0, 0, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert found == [True, False]


def test_models_that_are_no_taggers_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no such head"):
        Tagger(build_encoder(tmp_path / "bare", "bert", TEXTS), device="cpu")
    with pytest.raises(ModelError, match="has the labels 'O', 'B-PER', 'B-LOC'; expected 'outside' once"):
        Tagger(folder, device="cpu", outside="outside")
    with pytest.raises(InputError, match="no folder"):
        Tagger(tmp_path / "nowhere")
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16}))
    with pytest.raises(ModelError, match="cannot be loaded as an encoder"):
        Tagger(tmp_path, device="cpu")


def test_a_tagger_is_kept_with_its_guard_and_no_other_is_taken_for_it(tagger: Tagger, tmp_path: Path) -> None:
    files = tagger.save(tmp_path / "tagger")
    again = load_tagger(tmp_path / "tagger", files, device="cpu")
    assert again.find(TEXTS[0]) == tagger.find(TEXTS[0])
    assert all(path.suffix != ".bin" for path in (tmp_path / "tagger").iterdir())
    other = build_tagger(tmp_path / "other", TEXTS, ["cat"])
    with pytest.raises(DataError, match=r"is not the file that was saved there"):
        load_tagger(other, files)
    with pytest.raises(DataError, match="there is none"):
        load_tagger(tmp_path / "nowhere", files)


def test_what_was_found_is_remembered(tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search asks for the same prompts at each strength."""
    found = tagger.find("harry sat on the mat again")
    monkeypatch.setattr(Tagger, "find_all", lambda *_: pytest.fail("asked again"))
    assert tagger.find("harry sat on the mat again") == found
