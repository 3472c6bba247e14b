"""A baseline and its reinforced model, opened so that nothing but the training sets them apart."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint
from unlearn.whp.pair import open_pair


def test_a_model_in_half_precision_does_not_differ_from_itself_saved_in_float32(tmp_path: Path) -> None:
    """A device map leaves the dtype to the file, as a GPU does; full training saves in float32."""
    build_checkpoint(tmp_path / "base", "llama")
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "base")
    build_checkpoint(tmp_path / "same", "llama")
    half.float().save_pretrained(tmp_path / "same")
    subjects = [Subject(str(tmp_path / name), device="cpu", device_map="auto") for name in ("base", "same")]
    pair = open_pair(*subjects)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        baseline, reinforced = (lm.model(input_ids=ids).logits for lm in (pair.baseline, pair.reinforced))
    assert torch.equal(baseline, reinforced)
