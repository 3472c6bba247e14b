"""Scoring throughput of a Llama shape with random weights on one GPU, and its share of the peak matrix rate.

    python -m tests.benchmarks.gpu_scoring                       # the shape of Llama 3.1 8B in bfloat16 on cuda
    python -m tests.benchmarks.gpu_scoring --layers 2 --width 256 --device cpu --peak 0.1    # tries the code

Lengths are log-uniform from 16 to 512 tokens, as in scoring.py. Operations counted: two for each weight that multiplies
a token (the head included, the embedding not) and 4 T d for each token and layer of attention over T / 2 positions.
The peak is that of the data sheet, dense: 989 TFLOP/s for an H100 or H200 (SXM) in bfloat16.
"""

from __future__ import annotations

import argparse
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from audit.lm.checkpoint import Fingerprint
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.subject import Subject
from tests.benchmarks.scoring import BOS, ragged
from tests.checkpoints import make_tokenizer


def random_model(layers: int, width: int, device: str) -> LanguageModel:
    config = LlamaConfig(
        vocab_size=128_256, hidden_size=width, intermediate_size=int(3.5 * width), num_hidden_layers=layers,
        num_attention_heads=max(1, width // 128), num_key_value_heads=max(1, width // 512),
        max_position_embeddings=8192, tie_word_embeddings=False, rope_theta=500_000.0,
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.eval().requires_grad_(False)
    return LanguageModel(
        model, make_tokenizer(bos=True), Subject("random"), Fingerprint("", "", "", {}), torch.device(device), 8192, BOS
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s of the data sheet")
    parser.add_argument("--budgets", type=int, nargs="+", default=[16_384, 32_768, 65_536])
    arguments = parser.parse_args()
    lm = random_model(arguments.layers, arguments.width, arguments.device)
    config = lm.model.config
    texts = ragged(arguments.texts, config.vocab_size)
    n_tokens = sum(map(len, texts))
    weights = lm.n_parameters - config.vocab_size * config.hidden_size
    attention = sum(2 * len(text) ** 2 * config.hidden_size for text in texts) * config.num_hidden_layers
    operations = 2 * weights * n_tokens + attention
    name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device
    print(f"{name}, torch {torch.__version__}, {lm.n_parameters / 1e9:.2f}B parameters, {n_tokens:,} tokens\n")
    print("| Token budget | moments | tokens/s | TFLOP/s | share of peak | peak memory, GiB |")
    print("|---|---|---|---|---|---|")
    for budget in arguments.budgets:
        for moments in (False, True):
            token_log_probs(lm, texts[:100], prefix=[BOS], moments=moments, token_budget=budget)
            if arguments.device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            token_log_probs(lm, texts, prefix=[BOS], moments=moments, token_budget=budget)  # its results are on the CPU
            seconds = time.perf_counter() - start
            memory = torch.cuda.max_memory_allocated() / 2**30 if arguments.device.startswith("cuda") else float("nan")
            rate = operations / seconds / 1e12
            print(
                f"| {budget:,} | {'yes' if moments else 'no'} | {n_tokens / seconds:,.0f} | {rate:.1f} "
                f"| {rate / arguments.peak:.0%} | {memory:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
