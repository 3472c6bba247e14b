"""Scoring throughput of a Llama shape with random weights on one GPU, and its share of the peak matrix rate.

    python -m tests.benchmarks.gpu_scoring                       # the shape of Llama 3.1 8B in bfloat16 on cuda
    python -m tests.benchmarks.gpu_scoring --layers 2 --width 256 --device cpu --peak 0.1    # tries the code
    ... --profile     # where the time of one batch goes, by kernel
    ... --compiled    # and what compiling the layers would bring, which palimpsest does not do

Lengths are log-uniform from 16 to 512 tokens, as in scoring.py. Operations counted: two for each weight that multiplies
a token (the head included, the embedding not) and 4 T d for each token and layer of attention over T / 2 positions;
padding is not counted as work. Two peaks: that of the data sheet, dense, 989 TFLOP/s for an H100 or H200 (SXM) in
bfloat16, and a large matrix product measured on the same card. First a few texts are held against the plain
log-softmax of the same model's logits.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from audit.lm.checkpoint import Fingerprint
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.subject import Subject
from tests.benchmarks.scoring import BOS, ragged
from tests.checkpoints import make_tokenizer

CHECKED = 8  # texts
MOST_GAP = 0.1  # nats a token, mean; bfloat16 logits of the size of 10 are 0.03 apart


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


def matrix_rate(device: str, size: int) -> float:
    """TFLOP/s of a bfloat16 matrix product of random numbers: ten in a row, the median of five such rows."""
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(10):
            product = a @ b
        float(product[0, 0])  # waits
        seconds.append(time.perf_counter() - start)
    return 10 * 2 * size**3 / float(np.median(seconds[2:])) / 1e12


def gap(lm: LanguageModel, texts: list[list[int]]) -> float:
    """Mean difference to the plain log-softmax, nats a token."""
    found = token_log_probs(lm, texts, prefix=[BOS], moments=True)
    differences = []
    with torch.inference_mode():
        for text, scores in zip(texts, found, strict=True):
            ids = torch.tensor([[BOS, *text]], device=lm.device)
            log_p = lm.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
            differences.append(np.abs(log_p.gather(1, ids[0, 1:, None])[:, 0].cpu().numpy() - scores.log_probs))
    return float(np.concatenate(differences).mean())


def profile(lm: LanguageModel, texts: list[list[int]], budget: int) -> None:
    """The kernels that take most of the time of a few batches."""
    with torch.profiler.profile() as seen:
        token_log_probs(lm, texts, prefix=[BOS], token_budget=budget)
    key = "self_device_time_total" if lm.device.type == "cuda" else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events)
    print("\n| Kernel | calls | share of the time |\n|---|---|---|")
    for event in events[:16]:
        print(f"| {event.key[:90].replace('|', ' ')} | {event.count} | {getattr(event, key) / total:.1%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s of the data sheet")
    parser.add_argument("--budgets", type=int, nargs="+", default=[8_192, 16_384, 32_768])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON of the rows")
    arguments = parser.parse_args()
    on_gpu = arguments.device.startswith("cuda")
    measured = matrix_rate(arguments.device, 8192 if on_gpu else 256)
    start = time.perf_counter()
    lm = random_model(arguments.layers, arguments.width, arguments.device)
    config = lm.model.config
    texts = ragged(arguments.texts, config.vocab_size)
    n_tokens = sum(map(len, texts))
    weights = lm.n_parameters - config.vocab_size * config.hidden_size
    attention = sum(2 * len(text) ** 2 * config.hidden_size for text in texts) * config.num_hidden_layers
    operations = 2 * weights * n_tokens + attention
    name = torch.cuda.get_device_name() if on_gpu else arguments.device
    print(f"{name}, torch {torch.__version__}, {lm.n_parameters / 1e9:.2f}B parameters, {n_tokens:,} tokens")
    print(f"matrix product: {measured:.0f} TFLOP/s; model made in {time.perf_counter() - start:.1f} s")
    off = gap(lm, texts[:CHECKED])
    print(f"mean difference to the plain log-softmax of {CHECKED} texts: {off:.1e} nats a token\n", flush=True)
    if not off < MOST_GAP:
        raise SystemExit("the scores are not those of the plain log-softmax")
    rows: list[dict[str, object]] = []

    def tell(budget: int, *, moments: bool, way: str = "palimpsest") -> float:
        token_log_probs(lm, texts[:: max(1, len(texts) // 200)], prefix=[BOS], moments=moments, token_budget=budget)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        token_log_probs(lm, texts, prefix=[BOS], moments=moments, token_budget=budget)  # its results are on the CPU
        seconds = time.perf_counter() - start
        memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else float("nan")
        rate = operations / seconds / 1e12
        print(
            f"| {way} | {budget:,} | {'yes' if moments else 'no'} | {n_tokens / seconds:,.0f} | {rate:.1f} "
            f"| {rate / arguments.peak:.0%} | {rate / measured:.0%} | {memory:.1f} |",
            flush=True,
        )
        rows.append({"way": way, "budget": budget, "moments": moments, "seconds": seconds, "tflops": rate})
        if arguments.out is not None:
            about = {"device": name, "torch": torch.__version__, "n_tokens": n_tokens, "matrix_tflops": measured}
            arguments.out.write_text(json.dumps({**about, "gap_nats": off, "rows": rows}, indent=1), encoding="utf-8")
        return seconds

    print("| Way | token budget | moments | tokens/s | TFLOP/s | of the data sheet | of the product | peak, GiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    best = min(arguments.budgets, key=lambda budget: tell(budget, moments=False))
    tell(best, moments=True)
    if arguments.profile:
        profile(lm, texts[:200], best)
    if arguments.compiled:
        for layer in lm.model.model.layers:
            layer.compile(dynamic=True)
        start = time.perf_counter()
        token_log_probs(lm, texts[:200], prefix=[BOS], token_budget=best)
        print(f"\nlayers compiled in {time.perf_counter() - start:.0f} s\n", flush=True)
        tell(best, moments=False, way="layers compiled")


if __name__ == "__main__":
    main()
