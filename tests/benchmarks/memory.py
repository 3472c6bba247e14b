"""Peak memory of scoring with a vocabulary of 128k, against the weights plus one chunk.

    python -m tests.benchmarks.memory

Each case runs in a process of its own, because peak resident memory never falls. The base is the same process with
the model loaded and one short text scored, so that libraries and their buffers do not count.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig

from audit.lm.load import load
from audit.lm.logprobs import token_log_probs
from tests.benchmarks.scoring import checkpoint

SHAPE = LlamaConfig(
    vocab_size=128_256, hidden_size=1024, intermediate_size=2816, num_hidden_layers=4, num_attention_heads=16,
    num_key_value_heads=16, max_position_embeddings=2048, tie_word_embeddings=True,
)  # fmt: skip
CASES = ((1, 512), (8, 512), (32, 512), (64, 512))  # texts of a batch, tokens of a text


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(folder: str, way: str, n_texts: int, n_tokens: int) -> None:
    """Print the peak before and after scoring, in MiB."""
    lm = load(folder)
    torch.manual_seed(0)
    texts = torch.randint(3, SHAPE.vocab_size, (n_texts, n_tokens)).tolist()
    token_log_probs(lm, [texts[0][:16]], prefix=[0], moments=True)
    before = peak_mib()
    if way.startswith("palimpsest"):
        budget = n_texts * (n_tokens + 1) if "one batch" in way else None
        token_log_probs(lm, texts, prefix=[0], moments=True, token_budget=budget)
    else:
        with torch.inference_mode():
            ids = torch.tensor(texts)
            lm.model(input_ids=ids).logits.float().log_softmax(-1).gather(2, ids[..., None])
    print(before, peak_mib())


def main() -> None:
    if len(sys.argv) > 1:
        one(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    with tempfile.TemporaryDirectory() as folder:
        lm = checkpoint(Path(folder), SHAPE)
        weights = sum(parameter.numel() * 4 for parameter in lm.model.parameters()) / 2**20
        chunk = 2**25 * 4 / 2**20
        del lm
        print(f"weights {weights:,.0f} MiB, one chunk of logits {chunk:.0f} MiB, vocabulary {SHAPE.vocab_size:,}\n")
        print("| Way | texts x tokens | full log-softmax | added by scoring | (weights + added) / (weights + chunk) |")
        print("|---|---|---|---|---|")
        for way, cases in (
            ("palimpsest", CASES[-1:]),
            ("palimpsest, all in one batch", CASES),
            ("full log-softmax", CASES[:2]),
        ):
            for n_texts, n_tokens in cases:
                command = [sys.executable, "-m", "tests.benchmarks.memory", folder, way, str(n_texts), str(n_tokens)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                before, after = map(float, done.stdout.split()[-2:])
                full = n_texts * n_tokens * SHAPE.vocab_size * 4 / 2**20
                ratio = (weights + after - before) / (weights + chunk)
                sizes = f"{n_texts} x {n_tokens} | {full:,.0f} MiB | {after - before:,.0f} MiB"
                print(f"| {way} | {sizes} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
