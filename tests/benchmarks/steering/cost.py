"""What LinEAS costs, against what a user would do instead; a Markdown page.

    python -m tests.benchmarks.steering.cost --shape small
    python -m tests.benchmarks.steering.cost --shape 2b --device cuda        # likewise 7b

Llama shapes with random weights. 32 + 32 invented sentences of 40 tokens; the source batch is all 32.

1. Fit: a step of LinEAS (proximal SGD, maps behind each norm before the MLP), the same with recomputed activations and
   in micro-batches of 8, beside a step of LoRA (peft, rank 16, all linear layers, AdamW, loss of the next token) and a
   plain forward and backward pass through the adapter without optimiser, on the same batch. Memory is the step's own:
   the peak less what the loaded model takes. On a CPU each stage has a process of its own.
2. The loss: seconds of distance and its gradient, of the whole step.
3. Decoding: greedy, 8 prompts of 16 tokens, 48 new ones, in turns: the model as it is, with hooks at strength 1, with a
   strength for each text, and the folded checkpoint.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from tests.benchmarks.unlearning.cost import scratch_folder
from tests.checkpoints import make_tokenizer
from unlearn.lineas.config import FitSettings
from unlearn.lineas.fit import loss_and_gradient
from unlearn.lineas.fold import fold
from unlearn.lineas.loss import Distances
from unlearn.lineas.maps import AffineMap
from unlearn.lineas.network import Sentences, pooled_activations
from unlearn.lineas.pooling import Pooling
from unlearn.lineas.prox import proximal_step
from unlearn.lineas.sites import find_sites
from unlearn.lineas.steer import steered

TEXTS, TOKENS = 32, 40
PROMPTS, PROMPT_TOKENS, NEW = 8, 16, 48
SHAPES = {  # width, inner, layers, heads, key-value heads, vocabulary
    "tiny": (320, 864, 8, 5, 5, 8_000),
    "small": (768, 2_048, 12, 12, 12, 32_000),
    "2b": (2_304, 9_216, 26, 8, 4, 128_000),
    "7b": (3_584, 18_944, 28, 28, 4, 152_000),
}


@dataclass(frozen=True, slots=True)
class Job:
    """What every stage works on."""

    folder: str
    device: str
    steps: int


def make(shape: str, folder: Path, device: str) -> Path:
    width, inner, n_layers, n_heads, n_kv, n_vocabulary = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=n_vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=n_layers,
        num_attention_heads=n_heads, num_key_value_heads=n_kv, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(torch.float32 if device == "cpu" else torch.bfloat16)
    model.save_pretrained(folder)
    make_tokenizer(bos=True).save_pretrained(folder)
    return folder


def rows(lm: LanguageModel, n: int, length: int, seed: int) -> list[list[int]]:
    return [[0, *one] for one in np.random.default_rng(seed).integers(3, lm.n_vocabulary, (n, length - 1)).tolist()]


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


class Memory:
    """Peak of a step beyond what was taken before it."""

    def __init__(self, device: str) -> None:
        self._device = device
        if device == "cpu":
            self._before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        else:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

    @property
    def added(self) -> int:
        if self._device == "cpu":
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self._before
        return torch.cuda.max_memory_allocated() - self._before


def timed(step: Callable[[], object], job: Job) -> dict[str, float]:
    """Median seconds of a step, after two that warm up, and its memory."""
    memory = Memory(job.device)
    seconds = []
    for number in range(job.steps + 2):
        start = time.perf_counter()
        step()
        _wait(job.device)
        if number >= 2:
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "bytes": memory.added}


def lineas(job: Job, *, checkpointing: bool = False, microbatch: int | None = None) -> dict[str, float]:
    lm = load(Subject(job.folder, device=job.device))
    sites = find_sites(lm, "norms")
    names = [site.name for site in sites]
    source, target = (rows(lm, TEXTS, TOKENS, seed) for seed in (1, 2))
    distances = Distances.to(pooled_activations(lm, target, names, Pooling()))
    maps = {
        site.name: (
            torch.nn.Parameter(torch.ones(site.width, device=lm.device)),
            torch.nn.Parameter(torch.zeros(site.width, device=lm.device)),
        )
        for site in sites
    }
    settings = FitSettings()
    optimizer = torch.optim.SGD([one for pair in maps.values() for one in pair], lr=settings.lr)
    network = Sentences(lm, source, names, Pooling(), checkpointing=checkpointing)
    which = list(range(TEXTS))
    with network.opened(maps) as pooled:

        def step() -> None:
            optimizer.zero_grad()
            loss_and_gradient(pooled, which, distances, microbatch)
            optimizer.step()
            proximal_step(
                [w for w, _ in maps.values()], [b for _, b in maps.values()], step=0.1, gamma=1e-3, l1=1, group=1
            )

        found = timed(step, job)
        joined = distances.joined({name: one.detach() for name, one in pooled(which).items()}).requires_grad_()
    share = timed(lambda: torch.autograd.grad(distances.total(joined), joined), job)["seconds"]
    return {**found, "loss": share, "scalars": sum(site.width for site in sites)}


def lora(job: Job, *, plain: bool = False) -> dict[str, float]:
    from peft import LoraConfig, get_peft_model

    lm = load(Subject(job.folder, device=job.device))
    model = get_peft_model(lm.model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.tensor(rows(lm, TEXTS, TOKENS, 1), device=lm.device)

    def step() -> None:
        model.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        if not plain:
            optimizer.step()

    return timed(step, job)


STAGES: dict[str, Callable[[Job], dict[str, float]]] = {
    "plain forward and backward": lambda job: lora(job, plain=True),
    "LoRA step": lora,
    "LinEAS step": lineas,
    "LinEAS step, recomputed": lambda job: lineas(job, checkpointing=True),
    "LinEAS step, micro-batches of 8": lambda job: lineas(job, microbatch=8),
}


def _run(name: str, job: Job) -> dict[str, float]:
    return STAGES[name](job)


def run_stage(name: str, job: Job) -> dict[str, float]:
    if job.device != "cpu":
        return _run(name, job)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, name, job).result()


def decoding(job: Job, scratch: Path, rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each way, round by round."""
    lm = load(Subject(job.folder, device=job.device))
    generator = torch.Generator().manual_seed(0)
    maps = {
        site.name: AffineMap(
            1 + 0.01 * torch.randn(site.width, generator=generator), 0.01 * torch.randn(site.width, generator=generator)
        )
        for site in find_sites(lm, "norms")
    }
    fold(lm, maps, 1.0, scratch / "folded")
    folded = load(Subject(str(scratch / "folded"), device=job.device))
    ids = torch.tensor(rows(lm, PROMPTS, PROMPT_TOKENS, 3), device=lm.device)

    def generate(one: LanguageModel) -> None:
        one.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False,
            pad_token_id=2,
        )  # fmt: skip

    def hooked(strength: Any) -> Callable[[], None]:
        def run() -> None:
            with steered(lm.model, maps, strength):
                generate(lm)

        return run

    ways: dict[str, Callable[[], None]] = {
        "as it is": lambda: generate(lm),
        "hooks": hooked(1.0),
        "hooks, a strength for each text": hooked([place / PROMPTS for place in range(PROMPTS)]),
        "folded": lambda: generate(folded),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            _wait(job.device)
            if number:
                found[name].append(PROMPTS * NEW / (time.perf_counter() - start))
    return found


def page(costs: dict[str, dict[str, float]], speeds: dict[str, list[float]]) -> str:
    base = costs["LoRA step"]
    lines = ["| | seconds a step | of LoRA's | memory, MiB | of LoRA's | 1,000 steps |", "|---|---|---|---|---|---|"]
    for name, one in costs.items():
        lines.append(
            f"| {name} | {one['seconds']:.3f} | {one['seconds'] / base['seconds']:.2f} | {one['bytes'] / 2**20:,.0f} | "
            f"{one['bytes'] / base['bytes']:.2f} | {1000 * one['seconds']:,.0f} s |"
        )
    whole = costs["LinEAS step"]
    share = whole["loss"] / whole["seconds"]
    lines += [
        "",
        f"{whole['scalars']:,} neurons; distance and gradient {1000 * whole['loss']:.2f} ms, {share:.1%} of the step.",
    ]
    if speeds:
        lines += [
            "",
            "| decoding | tokens/s, each round | median | of the model as it is, pairwise median |",
            "|---|---|---|---|",
        ]
        for name, values in speeds.items():
            ratio = statistics.median(a / b for a, b in zip(values, speeds["as it is"], strict=True))
            each = ", ".join(f"{value:.0f}" for value in values)
            lines.append(f"| {name} | {each} | {statistics.median(values):.0f} | {ratio:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7, help="of decoding; 0 leaves it out")
    parser.add_argument("--out", type=Path, help="JSON")
    arguments = parser.parse_args()
    scratch = scratch_folder(2**30)
    try:
        job = Job(str(make(arguments.shape, scratch / "model", arguments.device)), arguments.device, arguments.steps)
        costs = {name: run_stage(name, job) for name in STAGES}
        speeds = decoding(job, scratch, arguments.rounds) if arguments.rounds else {}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(page(costs, speeds))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"costs": costs, "tokens a second": speeds}, indent=1))


if __name__ == "__main__":
    main()
