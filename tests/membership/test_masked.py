from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from audit.errors import DataError, ModelError
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode
from audit.membership import masked as masked_module
from audit.membership.extras import Extras, FurtherPasses
from audit.membership.masked import MaskedModel, load_masked
from audit.membership.neighbourhood import neighbourhood_scores
from audit.membership.swaps import best_swaps
from tests.checkpoints import build_checkpoint

TEXTS = ["the cat sat on the mat", "Über 東 dog", " a\r\n hill"]
NAMES = ["a", "b", "c"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def make_masked(folder: Path, *, lower: bool = False) -> Path:
    """A random RoBERTa of 30 positions (28 tokens with its frame) over bytes and a few words."""
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġthe", "at", "cat", "Ġcat"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "t"), ("c", "at"), ("Ġ", "cat")]
    tokenizer = Tokenizer(models.BPE({piece: place for place, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", **names).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(pieces) + 3, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=32, type_vocab_size=1,
            pad_token_id=1, bos_token_id=0, eos_token_id=2,
        )
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> MaskedModel:
    return load_masked(make_masked(tmp_path_factory.mktemp("roberta")), device="cpu")


def test_each_neighbour_differs_in_one_token_of_the_masked_model(masked: MaskedModel) -> None:
    for text in TEXTS:
        ids = masked.tokenizer(text, add_special_tokens=False)["input_ids"]
        around = [
            (masked.tokenizer.decode(ids[:t]).rstrip("\ufffd"), masked.tokenizer.decode(ids[t + 1 :]).lstrip("\ufffd"))
            for t in range(len(ids))
        ]
        neighbours = masked.neighbours(text, name="a", n=15, top_k=8, seed=0)
        assert len(set(neighbours)) == len(neighbours) == 15
        for neighbour in neighbours:
            assert neighbour != text
            assert "\ufffd" not in neighbour  # no half characters
            assert any(neighbour.startswith(before) and neighbour.endswith(after) for before, after in around)


def test_candidates_are_those_of_a_plain_loop_over_the_places(masked: MaskedModel) -> None:
    """Dropout as drawn, one place a pass; the row beside it in a batch has another place dropped."""
    text, frame = TEXTS[0], ([0], [2])
    ids = masked.tokenizer(text, add_special_tokens=False)["input_ids"]
    row = [*frame[0], *ids, *frame[1]]
    drops = masked_module._dropout_masks(text, 3, len(ids), 16)
    own, tokens, log_p = masked._candidates(row, 1, len(ids), 4, text, 3)
    words = masked.model.get_input_embeddings()(torch.tensor([row]))
    for place, token in enumerate(ids):
        changed = words.clone()
        changed[0, 1 + place] *= drops[place].float()
        with torch.no_grad():
            expected = masked.model(inputs_embeds=changed).logits[0, 1 + place].log_softmax(-1)
        assert own[place] == pytest.approx(float(expected[token]), abs=1e-5)
        expected[[0, 1, 2, 3, 4, *range(len(masked.tokenizer), len(expected))]] = -torch.inf
        top = expected.topk(4)
        assert tokens[place].tolist() == top.indices.tolist()
        kept = top.indices.numpy() != token
        np.testing.assert_allclose(log_p[place][kept], top.values.numpy()[kept], atol=1e-5)
        assert np.isneginf(log_p[place][~kept]).all()


def test_without_dropout_the_masked_model_reads_the_text_as_it_always_does(
    masked: MaskedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions and layer norm come in once: the word embeddings alone are given, and they are the text's own."""
    monkeypatch.setattr(masked_module, "DROPOUT", 0.0)
    ids = masked.tokenizer(TEXTS[0])["input_ids"]
    own, _, _ = masked._candidates(ids, 1, len(ids) - 2, 4, TEXTS[0], 0)
    with torch.no_grad():
        log_p = masked.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [float(log_p[place, ids[place]]) for place in range(1, len(ids) - 1)]
    np.testing.assert_allclose(own, expected, atol=1e-5)


def test_dropout_lets_three_tenths_through_and_keeps_the_mean() -> None:
    drops = masked_module._dropout_masks("x", 0, 500, 100).numpy()
    assert set(np.unique(drops)) == {0.0, 1 / (1 - 0.7)}
    assert drops.mean() == pytest.approx(1.0, abs=0.03)  # 50,000 draws: standard error 0.007


def test_the_seed_and_the_text_alone_decide(masked: MaskedModel) -> None:
    first = masked.neighbours(TEXTS[0], name="a", n=9, top_k=4, seed=0)
    masked.neighbours(TEXTS[1], name="b", n=9, top_k=4, seed=0)
    assert masked.neighbours(TEXTS[0], name="z", n=9, top_k=4, seed=0) == first
    assert masked.neighbours(TEXTS[0], name="a", n=9, top_k=4, seed=1) != first


def test_only_the_first_part_of_a_long_text_is_changed(masked: MaskedModel) -> None:
    text = "dog " * 20
    for neighbour in masked.neighbours(text, name="a", n=30, top_k=4, seed=0):
        assert neighbour.endswith(text[28:])


def test_the_score_is_the_text_less_the_mean_of_its_neighbours(byte_level: LanguageModel, masked: MaskedModel) -> None:
    done: list[int] = []
    found = neighbourhood_scores(
        byte_level,
        encode(byte_level, TEXTS),
        TEXTS,
        ids=NAMES,
        n=6,
        top_k=4,
        masked=masked,
        seed=5,
        on_done=done.append,
    )
    for text, score in zip(TEXTS, found, strict=True):
        near = masked.neighbours(text, name="a", n=6, top_k=4, seed=5)
        means = []
        for one in [text, *near]:
            ids = torch.tensor([[0, *encode(byte_level, [one])[0]]])
            with torch.no_grad():
                means.append(-float(byte_level.model(input_ids=ids, labels=ids).loss))
        assert score == pytest.approx(means[0] - np.mean(means[1:]), abs=1e-4)
    assert sum(done) == 18


def test_a_tokenizer_that_loses_capitals_is_refused(tmp_path: Path) -> None:
    lossy = load_masked(make_masked(tmp_path, lower=True), device="cpu")
    with pytest.raises(DataError, match="does not give text 'a' back unchanged.*RoBERTa"):
        lossy.neighbours("The cat", name="a", n=3, top_k=3, seed=0)


@pytest.mark.parametrize("break_it", [lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 20)])
def test_broken_weights_are_refused(tmp_path: Path, break_it: Callable[[Path], object]) -> None:
    break_it(make_masked(tmp_path))
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        load_masked(tmp_path, device="cpu")


def test_a_causal_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded as a masked language model.*RoBERTa"):
        load_masked(build_checkpoint(tmp_path, "llama"), device="cpu")


def test_the_parts_depend_on_the_masked_model_and_its_seed(masked: MaskedModel) -> None:
    record = Extras(neighbours=2, masked=masked, seed=7).to_record()["neighbourhood"]
    assert record["masked"] == masked.fingerprint.to_record()
    assert record["seed"] == 7


def test_a_text_that_the_masked_model_cannot_spell_is_refused_before_the_first_pass(
    byte_level: LanguageModel, tmp_path: Path
) -> None:
    lossy = load_masked(make_masked(tmp_path, lower=True), device="cpu")
    texts = ["a hill", "The cat"]
    with pytest.raises(DataError, match="does not give text 'b' back unchanged"):
        FurtherPasses.prepare(
            byte_level,
            Extras(neighbours=2, masked=lossy),
            encode(byte_level, texts),
            texts,
            ids=["a", "b"],
            cut=[],
            truncate=False,
        )


def test_best_swaps_of_one_place_only() -> None:
    places, ranks = best_swaps(np.log([0.5]), np.log([[0.1, 0.3]]), 1)
    assert (places.tolist(), ranks.tolist()) == ([0], [1])
