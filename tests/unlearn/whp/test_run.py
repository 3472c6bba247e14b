"""The whole method on a small model: made once, gone on with after a kill, and the baseline stays as it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.errors import DataError, InputError
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": Anchors((Anchor("Quumbal", ("Peter",)),))}, "none of the 1 anchor term stands in the forget text"),
        ({"anchors": Anchors((Anchor("\u00e9\u00e8", ("Peter",)),)), "base": "letters"}, "has no tokens in this token"),
        ({"anchors": Anchors((Anchor("the", ("once upon a time",)),)), "block": 120}, "once its anchor terms are repl"),
        (
            {"text": TEXT[:40], "share": 0.05},
            "one block of 22 tokens, so none can be kept out .* fewer tokens",
        ),
        ({"retain": TEXT[400:]}, "7 of 8 lines of the retain text stand in the forget text"),
        ({"retain": ""}, 'the retain term is "mixed", but no retain text was given'),
        ({"retain": "the dog ran", "share": 0.05}, "the retain text is one block"),
        ({"block": 8}, "block is 8; expected 9 tokens or more"),
    ],
    ids=lambda one: "" if isinstance(one, str) else "-".join(one),
)
def test_what_could_not_be_tuned_is_refused_before_anything_is_trained(
    base: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if changes.get("base") == "letters":
        base = build_checkpoint(tmp_path / "letters", "llama", letters_only=True)
    plan = dataclasses.replace(plan_of("full"), block=changes.get("block", 48))
    tuning = dataclasses.replace(plan.tune, validation_share=changes.get("share", 0.0))
    with pytest.raises((DataError, InputError), match=message):
        unlearn(
            Subject(str(base), device="cpu"),
            changes.get("text", TEXT),
            changes.get("anchors", ANCHORS),
            dataclasses.replace(plan, tune=tuning),
            out=tmp_path / "a",
            retain=changes.get("retain", RETAIN),
        )
    assert not (tmp_path / "a").exists()


def test_a_text_shorter_than_the_block_is_unlearned_when_nothing_is_validated(base: Path, tmp_path: Path) -> None:
    made = unlearn(Subject(str(base), device="cpu"), TEXT[:40], ANCHORS, plan_of("full"), out=tmp_path, retain=RETAIN)
    assert (made.n_blocks, made.n_replaced) == (1, 1)


def test_a_text_without_words_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokens"):
        unlearn(Subject(str(base), device="cpu"), "", ANCHORS, WhpPlan(), out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
