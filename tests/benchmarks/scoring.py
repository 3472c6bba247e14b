"""Scoring throughput against what a user would pick instead, on one checkpoint in one run.

    python -m tests.benchmarks.scoring [--texts 400] [--repeats 3]

Texts are random tokens with lengths log-uniform from 16 to 512, and, as traps are, from 25 to 50. Larger models get
fewer of them. Every way gives the log-probability of each text after the beginning-of-sequence token; the largest
difference to the plain loop is printed beside the speed. The rate of a large matrix product says how much of what the
machine can do at all each way uses (operations: two for each weight and token; attention is left out).
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from audit.lm.load import LanguageModel, load
from audit.lm.logprobs import token_log_probs
from tests.checkpoints import make_tokenizer

SHAPES = {
    "1.5M parameters, vocabulary 1,024": LlamaConfig(
        vocab_size=1024, hidden_size=160, intermediate_size=432, num_hidden_layers=4, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=1024, tie_word_embeddings=True,
    ),
    "22M parameters, vocabulary 32,000": LlamaConfig(
        vocab_size=32_000, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=1024, tie_word_embeddings=True,
    ),
    "46M parameters, vocabulary 128,256": LlamaConfig(
        vocab_size=128_256, hidden_size=288, intermediate_size=768, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=1024, tie_word_embeddings=True,
    ),
}  # fmt: skip
BOS = 0


def checkpoint(folder: Path, config: LlamaConfig) -> LanguageModel:
    torch.manual_seed(0)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 1, 2
    LlamaForCausalLM(config).save_pretrained(folder)
    make_tokenizer(bos=True).save_pretrained(folder)
    return load(folder)


def ragged(n: int, n_vocabulary: int, shortest: int = 16, longest: int = 512) -> list[list[int]]:
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), size=n)).astype(int)
    return [rng.integers(3, n_vocabulary, size=length).tolist() for length in lengths]


def ours(lm: LanguageModel, texts: list[list[int]]) -> list[float]:
    return [float(score.log_probs.sum(dtype=np.float64)) for score in token_log_probs(lm, texts, prefix=[BOS])]


def ours_with_moments(lm: LanguageModel, texts: list[list[int]]) -> list[float]:
    scores = token_log_probs(lm, texts, prefix=[BOS], moments=True)
    return [float(score.log_probs.sum(dtype=np.float64)) for score in scores]


def loop(lm: LanguageModel, texts: list[list[int]]) -> list[float]:
    sums = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([[BOS, *text]], device=lm.device)
            log_p = lm.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
            sums.append(float(log_p.gather(1, ids[0, 1:, None]).double().sum()))
    return sums


def padded(lm: LanguageModel, texts: list[list[int]], size: int = 16) -> list[float]:
    sums = []
    with torch.inference_mode():
        for start in range(0, len(texts), size):
            rows = [[BOS, *text] for text in texts[start : start + size]]
            width = max(map(len, rows))
            ids = torch.tensor([row + [2] * (width - len(row)) for row in rows], device=lm.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=lm.device)
            log_p = lm.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float().log_softmax(-1)
            chosen = log_p.gather(2, ids[:, 1:, None])[..., 0].double() * mask[:, 1:]
            sums += chosen.sum(1).tolist()
    return sums


def lm_eval(size: int) -> Callable[[LanguageModel, list[list[int]]], list[float]]:
    from lm_eval.models.huggingface import HFLM

    def run(lm: LanguageModel, texts: list[list[int]]) -> list[float]:
        wrapped = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=size, max_length=1024)
        requests = [(("", str(place)), [BOS], text) for place, text in enumerate(texts)]
        return [answer[0] for answer in wrapped._loglikelihood_tokens(requests, disable_tqdm=True)]

    return run


def measure(lm: LanguageModel, texts: list[list[int]], repeats: int) -> list[tuple[str, float, float]]:
    """(name, tokens a second of the median repeat, largest difference to the loop in nats a text)."""
    ways: dict[str, Callable[[LanguageModel, list[list[int]]], list[float]]] = {
        "plain loop": loop,
        "naive padded batch of 16": padded,
        "lm-eval, batch 1": lm_eval(1),
        "lm-eval, batch 8": lm_eval(8),
        "lm-eval, batch 32": lm_eval(32),
        "palimpsest": ours,
        "palimpsest with moments": ours_with_moments,
    }
    n_tokens = sum(map(len, texts))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    sums: dict[str, list[float]] = {}
    for way in ways.values():
        way(lm, texts[:4])
    for _ in range(repeats):  # in turn, so that a slow moment of the machine hits every way
        for name, way in ways.items():
            start = time.perf_counter()
            sums[name] = way(lm, texts)
            seconds[name].append(time.perf_counter() - start)
    lengths = np.array([len(text) for text in texts])
    return [
        (
            name,
            n_tokens / float(np.median(seconds[name])),
            float(np.abs((np.array(sums[name]) - sums["plain loop"]) / lengths).max()),
        )
        for name in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # lm-eval warns each time that it is handed a model
    transformers_logging.disable_progress_bar()
    peak = matrix_rate()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; matrix product of 2,048: {peak:.0f} GFLOP/s")
    for number, (title, config) in enumerate(SHAPES.items()):
        with tempfile.TemporaryDirectory() as folder:
            lm = checkpoint(Path(folder), config)
            for shortest, longest in ((16, 512), (25, 50)):
                texts = ragged(arguments.texts // (1, 4, 10)[number], config.vocab_size, shortest, longest)
                print(f"\n{title}; {len(texts)} texts of {shortest} to {longest}, {sum(map(len, texts)):,} tokens\n")
                tell(measure(lm, texts, arguments.repeats), 2 * lm.n_parameters / 1e9 / peak)


def matrix_rate(size: int = 2048, repeats: int = 10) -> float:
    """GFLOP/s of a float32 matrix product, the best of several."""
    a, b = torch.randn(2, size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def tell(rows: list[tuple[str, float, float]], share_of_one: float) -> None:
    speed = {name: rate for name, rate, _ in rows}
    best = max(rate for name, rate in speed.items() if name.startswith("lm-eval"))
    print("| Way | tokens/s | times the loop | times the best lm-eval | share of peak | difference, nats a token |")
    print("|---|---|---|---|---|---|")
    for name, rate, gap in rows:
        ratios = f"{rate / speed['plain loop']:.2f} | {rate / best:.2f} | {rate * share_of_one:.0%}"
        print(f"| {name} | {rate:,.0f} | {ratios} | {gap:.1e} |", flush=True)


if __name__ == "__main__":
    main()
