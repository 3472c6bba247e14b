"""Perplexity under steering: against a plain forward pass, and nothing at strength 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from audit.errors import DataError, InputError, ModelError
from audit.lm.tokens import encode
from tests.forgetting.small_models import plain_log_probs
from tests.unlearn.lineas.evaluate.small_parts import TEXTS, losses, model_and_arm
from unlearn.lineas.arms import UNSTEERED, Arm
from unlearn.lineas.evaluate.perplexity import FIRST, TextLosses, change, perplexity, text_losses
from unlearn.lineas.maps import AffineMap
from unlearn.lineas.steer import steered


def test_both_kinds_are_those_of_a_plain_forward_pass(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    texts = [*TEXTS, "the cat and the dog " * 20]  # longer than the first 50 tokens
    found = text_losses(lm, arm, 0.7, texts, "neutral")
    by_text = []
    with steered(lm.model, arm.maps, 0.7):
        for ids in encode(lm, texts):
            assert lm.bos_id is not None
            scores = plain_log_probs(lm, [lm.bos_id, *ids])
            by_text.append(np.array([-float(scores[place, token]) for place, token in enumerate(ids)]))
    assert len(by_text[-1]) > FIRST
    per_token = np.exp(np.concatenate(by_text).mean())
    per_sentence = np.mean([np.exp(one[:FIRST].mean()) for one in by_text])
    assert perplexity(found, "per token").value == pytest.approx(per_token, rel=1e-4)
    assert perplexity(found, "per sentence").value == pytest.approx(per_sentence, rel=1e-4)


def test_strength_0_costs_nothing_to_the_bit_and_an_instruction_neither(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    plain = text_losses(lm, UNSTEERED, 0.0, TEXTS, "neutral")
    for same in (
        text_losses(lm, arm, 0.0, TEXTS, "neutral"),
        text_losses(lm, Arm("p", {}, "be"), 1.0, TEXTS, "neutral"),
    ):
        assert np.array_equal(same.losses, plain.losses)
        assert change(same, plain, "per token").value == 0
    moved = text_losses(lm, arm, 1.0, TEXTS, "neutral")
    assert change(moved, plain, "per token").value != 0
    again = TextLosses.from_record(plain.to_record())
    assert all(np.array_equal(getattr(again, name), getattr(plain, name)) for name in ("losses", "n_first", "units"))


def test_the_change_is_paired_so_that_a_common_factor_has_no_spread() -> None:
    base = np.linspace(1, 3, 20)
    steered_, plain = losses("a", 1.0, base + np.log(1.1).tolist()), losses("unsteered", 0.0, base)
    found = change(steered_, plain, "per token")
    assert found.value == pytest.approx(10)
    assert found.low == pytest.approx(10)
    assert found.high == pytest.approx(10)


def test_documents_are_the_units(tmp_path: Path) -> None:
    lm, _ = model_and_arm(tmp_path)
    found = text_losses(lm, UNSTEERED, 0.0, TEXTS, "neutral", documents=["a", "a", "b"])
    assert perplexity(found, "per token").n == 2


def test_a_broken_model_gives_no_number() -> None:
    found = losses("a", 1.0, [1.0, np.inf, 2.0])
    assert "not finite" in str(perplexity(found, "per token").why)
    assert change(found, losses("unsteered", 0.0, [1.0, 1, 2]), "per sentence").value is None


def test_sites_that_do_nothing_and_texts_that_differ_are_refused(tmp_path: Path) -> None:
    lm, _ = model_and_arm(tmp_path)
    lm.model.idle = nn.Identity()
    with pytest.raises(ModelError, match="module idle was never called"):
        text_losses(lm, Arm("idle", {"idle": AffineMap.identity(32)}), 1.0, TEXTS, "neutral")
    with pytest.raises(InputError, match="no module"):
        text_losses(lm, Arm("none", {"model.layer": AffineMap.identity(32)}), 1.0, TEXTS, "neutral")
    with pytest.raises(InputError, match="not of the same texts"):
        change(losses("a", 1.0, [1.0, 2.0]), losses("b", 0.0, [1.0]), "per token")
    with pytest.raises(DataError, match="neutral 2"):
        text_losses(lm, UNSTEERED, 0.0, ["the cat", ""], "neutral")
