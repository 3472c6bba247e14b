"""A loop on tiny random models: files, plan, and models whose weights differ."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tests.checkpoints import build_checkpoint


def build_models(folder: Path) -> dict[str, Path]:
    """A subject, and a gold model with other weights and the same tokenizer."""
    found = {name: build_checkpoint(folder / name, "llama") for name in ("subject", "gold")}
    disturb(found["gold"], 0.1)
    return found


def disturb(folder: Path, size: float) -> None:
    """Noise on every weight; of size NaN, every weight NaN."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    model.save_pretrained(folder)


def people(name: str, n: int) -> list[dict[str, object]]:
    """One question on each; no id and no cluster, as many files have them."""
    return [{"question": f"The cat of {name} {who}?", "answer": f"the mat {who * 7 % 10}"} for who in range(n)]


def write_data(folder: Path) -> None:
    for name in ("forget", "keep", "never"):
        lines = (json.dumps(row) + "\n" for row in people(name, 9))
        (folder / f"{name}.jsonl").write_text("".join(lines))


def plan_text(models: dict[str, Path], remedies: str) -> str:
    tables = "".join(f'[{name}]\nmodel = "{path}"\ndevice = "cpu"\n' for name, path in models.items())
    rows = "".join(f'[{name}]\nrows = "{name}.jsonl"\n' for name in ("forget", "keep", "never"))
    verify = '[verify]\nattacks = ["quantisation"]\nbits = [4]\nmax_new_tokens = 4\n'
    return f'{tables}{rows}[format]\nkind = "text"\nsuffix = " "\n{verify}{remedies}'


NPO = '[remedies.npo]\nmethod = "npo"\nsettings = { steps = 2, batch_size = 4, rate = 1e-3 }\n'
