"""The whole method on a small model: made once, gone on with after a kill, and the baseline stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from audit.errors import DataError
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from unlearn.lora import LoraPlan
from unlearn.whp import run as module
from unlearn.whp.anchors import Anchor, Anchors
from unlearn.whp.config import Optimisation, Reinforcement, Retain, Tuning, WhpPlan
from unlearn.whp.run import unlearn

TEXT = "the cat Zorblax sat on the mat and Zorblax ran over the hill. the dog saw Zorblax and the cat.\n" * 12
RETAIN = "the dog ran over the hill and sat on the mat with the cat. " * 12
ANCHORS = Anchors((Anchor("Zorblax", ("Peter",), "person", "test"),))
FAST = Optimisation(learning_rate=1e-2, batch_size=4)


def plan_of(weights: str) -> WhpPlan:
    lora = LoraPlan(rank=4)
    return WhpPlan(
        block=48,
        reinforce=Reinforcement(weights=weights, epochs=2, optimisation=FAST, lora=lora),  # type: ignore[arg-type]
        tune=Tuning(
            weights=weights,  # type: ignore[arg-type]
            n_steps=6,
            evaluate_every=3,
            validation_share=0.0,
            optimisation=FAST,
            lora=lora,
            retain=Retain("mixed"),
        ),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("base") / "model", "llama")


def weights_of(subject: Subject) -> torch.Tensor:
    return torch.cat([one.flatten() for one in load(subject).model.state_dict().values()])


@pytest.mark.parametrize("weights", ["full", "lora"])
def test_a_text_is_unlearned_in_one_call_and_a_killed_one_ends_with_the_same_model(
    base: Path, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(str(base), device="cpu")
    before = {path.name: sha256_file(path) for path in base.iterdir()}
    plan = plan_of(weights)
    made = unlearn(subject, TEXT, ANCHORS, plan, out=tmp_path / "a", retain=RETAIN)
    assert made.n_replaced == 36
    assert made.labels.n_read > 0
    assert {path.name: sha256_file(path) for path in base.iterdir()} == before
    found = weights_of(made.model.subject)
    assert torch.isfinite(found).all()
    if weights == "full":
        assert not torch.equal(found, weights_of(subject))
    card = (tmp_path / "a" / "model" / "README.md").read_text(encoding="utf-8")
    assert "1 anchor term, replaced 36 times" in card
    assert "Not verified" in card
    assert unlearn(subject, TEXT, ANCHORS, plan, out=tmp_path / "a", retain=RETAIN).labels.n_read == 0

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "tune", killed)
        with pytest.raises(KeyboardInterrupt):
            unlearn(subject, TEXT, ANCHORS, plan, out=tmp_path / "b", retain=RETAIN)
    again = unlearn(subject, TEXT, ANCHORS, plan, out=tmp_path / "b", retain=RETAIN)
    assert again.labels.n_read == 0
    assert torch.equal(weights_of(again.model.subject), found)


def test_a_text_without_words_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokens"):
        unlearn(Subject(str(base), device="cpu"), "", ANCHORS, WhpPlan(), out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
