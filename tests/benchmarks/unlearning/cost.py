"""What Who's Harry Potter? with adapters costs, stage by stage, against one plain LoRA fine-tune of the same text.

    python -m tests.benchmarks.unlearning.cost --shape tiny --device cpu
    python -m tests.benchmarks.unlearning.cost --shape 7b --device cuda [--out FILE.json] [--blocks 96]

The model has random weights (7b: the shape of Llama 2 7B, bfloat16, made on the GPU and kept in memory as a
checkpoint), the text is made of invented names and words. Three epochs of reinforcement, labels for three kappas, two
epochs of tuning; against three epochs of the loop that a user of peft would write, on the same blocks, with the same
adapter, micro-batches and gradient checkpointing. The pair of models for labelling is the adapter twin, and beside it
two models in memory. Scoring the text is the yardstick for labelling, which reads it twice.

Seconds are those of the stage's own loop; "whole" adds loading and hashing the checkpoint and saving the result. Peak
memory is of CUDA allocations; on a CPU each stage has a process of its own, and its base with the libraries is taken
off. Tokens of the tuning's validation are not counted, its seconds are. In training with gradient checkpointing and
frozen weights a forward pass is a third of the work, so "forward alone counts a third" is the ratio that time follows.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import multiprocessing
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from audit.lm.load import load, load_tokens
from audit.lm.logprobs import token_log_probs
from audit.lm.subject import Subject
from audit.lm.tokens import prefix_ids
from audit.text.tables import read_parquet, write_parquet
from tests.checkpoints import make_tokenizer
from unlearn.whp.anchors import Anchor, Anchors
from unlearn.whp.blocks import Block, make_blocks
from unlearn.whp.config import Optimisation, Reinforcement, Tuning, WhpPlan
from unlearn.whp.finetune import tune
from unlearn.whp.label_table import label as make_labels
from unlearn.whp.pair import Pair, open_pair
from unlearn.whp.reinforce import reinforce
from unlearn.whp.translate import Translator

REINFORCE_EPOCHS, TUNE_EPOCHS = 3, 2
FEW = 4  # blocks that warm a stage up
GOALS = {"tokens, forward alone counts a third": 2.0, "peak memory": 1.1}
NAMES = 60


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama, and how much text it is given."""

    width: int
    inner: int
    n_layers: int
    n_heads: int
    n_vocabulary: int
    n_blocks: int
    block: int
    batch_size: int
    micro_tokens: int

    def config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.n_vocabulary, hidden_size=self.width, intermediate_size=self.inner,
            num_hidden_layers=self.n_layers, num_attention_heads=self.n_heads, num_key_value_heads=self.n_heads,
            max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        )  # fmt: skip


SHAPES = {
    "tiny": Shape(320, 864, 8, 5, 8_000, n_blocks=32, block=128, batch_size=8, micro_tokens=1_024),
    "7b": Shape(4096, 11_008, 32, 32, 32_000, n_blocks=96, block=512, batch_size=32, micro_tokens=8_192),
}


@dataclass(frozen=True, slots=True)
class Job:
    """What every stage works on; ``scratch`` holds the checkpoint and the results."""

    scratch: Path
    device: str
    shape: Shape

    @property
    def subject(self) -> Subject:
        return Subject(str(self.scratch / "model"), device=self.device)

    @property
    def adapted(self) -> Subject:
        return dataclasses.replace(self.subject, adapter=str(self.scratch / "reinforced"))

    def plan(self, n_steps: int = 1) -> WhpPlan:
        optimisation = Optimisation(
            batch_size=self.shape.batch_size, micro_tokens=self.shape.micro_tokens, gradient_checkpointing=True
        )
        return WhpPlan(
            block=self.shape.block,
            reinforce=Reinforcement("lora", REINFORCE_EPOCHS, optimisation),
            tune=Tuning("lora", n_steps, evaluate_every=n_steps, optimisation=optimisation),
        )

    def blocks(self) -> list[Block]:
        """Blocks of an invented text; every block has a few names that the dictionary knows."""
        rng = np.random.default_rng(0)
        tokens = load_tokens(self.subject)
        words = _words(rng, 400)
        names = [name.capitalize() for name in _words(rng, NAMES)]
        parts: list[str] = []
        for place in range(self.shape.n_blocks * self.shape.block // 3):  # a word has three tokens or more
            parts.append(names[rng.integers(NAMES)] if place % 12 == 0 else words[rng.integers(len(words))])
        blocks = make_blocks(
            tokens.tokenizer, " ".join(parts), n_tokens=self.shape.block, prefix=prefix_ids(tokens), whole_words=False
        )
        return blocks[: self.shape.n_blocks]

    def translator(self) -> Translator:
        rng = np.random.default_rng(0)
        _words(rng, 400)
        names, others = _words(rng, NAMES), _words(rng, NAMES)
        anchors = (Anchor(name.capitalize(), (other,)) for name, other in zip(names, others, strict=True))
        return Translator(load_tokens(self.subject).tokenizer, Anchors(tuple(anchors)))


def _words(rng: np.random.Generator, n: int) -> list[str]:
    letters = list("abcdefghijklmnoprstuvwyz")
    return ["".join(rng.choice(letters, size=size)) for size in rng.integers(4, 10, size=n)]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage took.

    Attributes:
        trained: Tokens forward and backward.
        read: Tokens forward alone.
        seconds: Of its own loop.
        peak: Bytes.
        whole: Seconds from the first file that is read to the last that is written.
    """

    trained: int
    read: int
    seconds: float
    peak: int = 0
    whole: float = 0.0


def make_model(job: Job) -> Cost:
    """A checkpoint with random weights: float32 on a CPU, bfloat16 elsewhere."""
    start = time.perf_counter()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if job.device == "cpu" else torch.bfloat16)
    try:
        with torch.device(job.device):
            torch.manual_seed(0)
            model = LlamaForCausalLM(job.shape.config())
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(job.scratch / "model")
    make_tokenizer(bos=True).save_pretrained(job.scratch / "model")
    return Cost(0, 0, time.perf_counter() - start)


def plain(job: Job) -> Cost:
    """A LoRA fine-tune as a user writes it."""
    from peft import LoraConfig, get_peft_model

    ids = [list(block.token_ids) for block in job.blocks()]
    model = AutoModelForCausalLM.from_pretrained(job.scratch / "model", dtype="auto", device_map={"": job.device})
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    ).train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=2e-4, fused=True)
    rows = max(1, job.shape.micro_tokens // job.shape.block)

    def step(chosen: Sequence[Sequence[int]]) -> None:
        for first in range(0, len(chosen), rows):
            part = torch.tensor(chosen[first : first + rows], device=job.device)  # (B, T)
            with torch.autocast(job.device, dtype=torch.bfloat16, enabled=job.device != "cpu"):
                loss = model(input_ids=part, labels=part, use_cache=False).loss
            (loss * len(part) / len(chosen)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step(ids[:FEW])
    _wait(job)
    start = time.perf_counter()
    for _ in range(REINFORCE_EPOCHS):
        for first in range(0, len(ids), job.shape.batch_size):
            step(ids[first : first + job.shape.batch_size])
    _wait(job)
    seconds = time.perf_counter() - start
    model.save_pretrained(job.scratch / "plain")
    return Cost(REINFORCE_EPOCHS * sum(map(len, ids)), 0, seconds)


def reinforced(job: Job) -> Cost:
    done = reinforce(
        job.subject, [block.token_ids for block in job.blocks()], job.plan(), out=job.scratch / "reinforced"
    )
    return Cost(done.log["n_trained"], done.log["n_read"], done.log["seconds"])


def labelled_by_twin(job: Job) -> Cost:
    return _labelled(job, open_pair(job.subject, job.adapted), "labels")


def labelled_by_two(job: Job) -> Cost:
    """Both in the checkpoint's dtype; the second has the first one's weights, and is not hashed again."""
    first = load(job.subject)
    second = AutoModelForCausalLM.from_pretrained(job.scratch / "model", dtype="auto", device_map={"": job.device})
    second.eval().requires_grad_(False)
    return _labelled(job, Pair(first, dataclasses.replace(first, model=second)), "labels-of-two")


def _labelled(job: Job, pair: Pair, name: str) -> Cost:
    blocks, translate = job.blocks(), job.translator()
    ids, translations = [block.token_ids for block in blocks], [translate(block) for block in blocks]
    make_labels(pair, ids[:FEW], translations[:FEW], job.plan(), folder=job.scratch / "warm-up")
    made = make_labels(pair, ids, translations, job.plan(), folder=job.scratch / name)
    write_parquet(job.scratch / f"{name}.parquet", made.table)
    return Cost(0, made.n_read, made.seconds)


def tuned(job: Job) -> Cost:
    table = read_parquet(job.scratch / "labels.parquet")
    share = 1 - job.plan().tune.validation_share
    n_steps = round(TUNE_EPOCHS * share * table.num_rows / job.shape.batch_size)
    done = tune(job.subject, table, job.plan(max(1, n_steps)), out=job.scratch / "tuned")
    return Cost(done.log["n_trained"], done.log["n_read"], done.log["seconds"])


def scored(job: Job) -> Cost:
    lm = load(job.subject)
    texts = [block.token_ids[1:] for block in job.blocks()]
    token_log_probs(lm, texts[:FEW], prefix=prefix_ids(lm))
    start = time.perf_counter()
    token_log_probs(lm, texts, prefix=prefix_ids(lm))  # its results are on the CPU
    return Cost(0, sum(map(len, texts)), time.perf_counter() - start)


STAGES: dict[str, Callable[[Job], Cost]] = {
    "making the model": make_model,
    "plain LoRA fine-tune": plain,
    "reinforce": reinforced,
    "label, adapter twin": labelled_by_twin,
    "label, two models": labelled_by_two,
    "tune": tuned,
    "score": scored,
}
WHP = ("reinforce", "label, adapter twin", "tune")


def _wait(job: Job) -> None:
    if job.device != "cpu":
        torch.cuda.synchronize()


def measured(name: str, job: Job) -> Cost:
    """A stage with its peak memory and its whole time."""
    transformers_logging.disable_progress_bar()
    on_cpu = job.device == "cpu"
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if on_cpu else 0
    if not on_cpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    cost = STAGES[name](job)
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if on_cpu else torch.cuda.max_memory_allocated()
    return dataclasses.replace(cost, peak=peak - base, whole=whole)


def run_stage(name: str, job: Job) -> Cost:
    if job.device != "cpu":
        return measured(name, job)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, name, job).result()


def ratios(costs: dict[str, Cost]) -> dict[str, float]:
    """WHP against the plain fine-tune, and the ways of labelling against each other."""
    whp, base = [costs[name] for name in WHP], costs["plain LoRA fine-tune"]
    speed = {name: cost.read / cost.seconds for name, cost in costs.items() if cost.read}
    trained, read = sum(cost.trained for cost in whp), sum(cost.read for cost in whp)
    return {
        "tokens, forward alone counts a third": (trained + read / 3) / base.trained,
        "tokens, every pass alike": (trained + read) / base.trained,
        "seconds": sum(cost.seconds for cost in whp) / base.seconds,
        "whole seconds": sum(cost.whole for cost in whp) / base.whole,
        "peak memory": max(cost.peak for cost in whp) / base.peak,
        "seconds a token of reinforce to plain": (whp[0].seconds / whp[0].trained) / (base.seconds / base.trained),
        "label speed, twin to two models": speed["label, adapter twin"] / speed["label, two models"],
        "label speed, twin to scoring": speed["label, adapter twin"] / speed["score"],
        "label memory, twin to two models": costs["label, adapter twin"].peak / costs["label, two models"].peak,
    }


def scratch_folder(n_bytes: int) -> Path:
    """A new folder in memory where it has room, else among the temporary files."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 1.5 * n_bytes + 2**30
    return Path(tempfile.mkdtemp(prefix="unlearning-cost-", dir=shared if roomy else None))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--blocks", type=int, help="of the text; default as the shape says")
    parser.add_argument("--out", type=Path, help="JSON with everything that was measured so far")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    if arguments.blocks:
        shape = dataclasses.replace(shape, n_blocks=arguments.blocks)
    with torch.device("meta"):
        n_parameters = sum(one.numel() for one in LlamaForCausalLM(shape.config()).parameters())
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    scratch = scratch_folder(n_parameters * (4 if arguments.device == "cpu" else 2))
    job = Job(scratch, arguments.device, shape)
    record: dict[str, Any] = {
        "device": name,
        "torch": torch.__version__,
        "n_parameters": n_parameters,
        "n_tokens": shape.n_blocks * shape.block,
        "epochs": [REINFORCE_EPOCHS, TUNE_EPOCHS],
        "scratch": str(scratch.parent),
        "stages": {},
    }
    print(f"{name}, torch {torch.__version__}, {n_parameters / 1e9:.3f}B parameters, {record['n_tokens']:,} tokens\n")
    print("| Stage | tokens trained | tokens read | s | s for a million | tokens/s | peak, GiB | whole, s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    costs: dict[str, Cost] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the checkpoint goes, were it stopped
    try:
        for stage in STAGES:
            cost = costs[stage] = run_stage(stage, job)
            record["stages"][stage] = dataclasses.asdict(cost)
            n = cost.trained + cost.read
            speed = f"{cost.seconds / n * 1e6:.1f} | {n / cost.seconds:,.0f}" if n else " | "
            counts = f"{cost.trained:,} | {cost.read:,} | {cost.seconds:.1f}"
            print(f"| {stage} | {counts} | {speed} | {cost.peak / 2**30:.2f} | {cost.whole:.1f} |", flush=True)
            write(arguments.out, record)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    record["ratios"] = ratios(costs)
    write(arguments.out, record)
    print(f"\n| WHP to one plain LoRA fine-tune of {REINFORCE_EPOCHS} epochs | ratio |\n|---|---|")
    for what, value in record["ratios"].items():
        print(f"| {what}{f' (goal at most {GOALS[what]})' if what in GOALS else ''} | {value:.2f} |")


def write(path: Path | None, record: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
