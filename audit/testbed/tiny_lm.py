"""Train a small Llama from scratch, or further: short, deterministic and resumable.

Documents are shuffled, each wrapped in a beginning and an end token, concatenated and cut into blocks, as in
pretraining; attention is not reset at document borders. Question-answer rows stand one in a sequence, as in
post-training, with the same two tokens around them. The loss is on all tokens, questions included, so that the
model can emit whole rows. Batches of both kinds come in one random order.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..errors import InputError
from ..progress import Progress, silent
from ..text.files import storage_errors
from .sizes import ModelSize, Training

INIT = 0.4  # standard deviation of new weights times the square root of the width; 0.02 at width 400
Batch = NDArray[np.uint16 | np.uint32]
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """What a training run did.

    Attributes:
        n_steps: Optimiser steps.
        n_tokens: Tokens predicted.
        resumed_at: Step of the checkpoint that it went on from, 0 for none.
        first_loss: Mean cross-entropy of the first tenth of the steps that were run here, in nats per token.
        last_loss: Of the last tenth.
    """

    n_steps: int
    n_tokens: int
    resumed_at: int
    first_loss: float
    last_loss: float


def new_model(size: ModelSize, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights drawn from ``seed``; torch's global random state is left as it was."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.n_inner,
        num_hidden_layers=size.n_layers,
        num_attention_heads=size.n_heads,
        num_key_value_heads=size.n_heads,
        max_position_embeddings=size.n_context,
        tie_word_embeddings=True,
        initializer_range=INIT / math.sqrt(size.width),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def make_batches(
    documents: Sequence[str],
    rows: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    training: Training,
    *,
    seed: int,
) -> list[Batch]:
    """Packed batches of documents and padded batches of rows, in one random order.

    Args:
        documents: Given as often as they are to be seen.
        rows: Likewise.
        tokenizer: Wraps each text in its bos and eos tokens and pads rows with its pad token.
        training: Sizes of blocks and batches.
        seed: Seed of every order.

    Raises:
        InputError: There is less text than one block.
    """
    size = training.batch_size
    batches: list[Batch] = []
    if documents or not rows:
        blocks = pack(documents, tokenizer, block=training.block, seed=seed)
        batches += [blocks[start : start + size] for start in range(0, len(blocks), size)]
    if rows:
        batches += pad_rows(rows, tokenizer, batch_size=training.row_batch_size, seed=seed)
    order = _order("batches", len(batches), seed)
    return [batches[place] for place in order]


def _order(what: str, n: int, seed: int) -> NDArray[np.int64]:
    """A random order of ``n`` things; documents, rows and batches of one seed have independent streams."""
    stream = np.random.SeedSequence([seed, ("documents", "rows", "batches").index(what)])
    return np.random.Generator(np.random.Philox(stream)).permutation(n)


def pad_rows(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, *, batch_size: int, seed: int) -> list[Batch]:
    """Shuffled rows, one in a sequence, each batch padded on the right to its longest."""
    order = _order("rows", len(texts), seed)
    encoded = _wrapped(texts, tokenizer)
    batches = []
    for start in range(0, len(texts), batch_size):
        inside = [encoded[texts[place]] for place in order[start : start + batch_size]]
        width = max(len(ids) for ids in inside)
        batch = np.full((len(inside), width), tokenizer.pad_token_id, dtype=inside[0].dtype)
        for row, ids in zip(batch, inside, strict=True):
            row[: len(ids)] = ids
        batches.append(batch)
    return batches


def _wrapped(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> dict[str, Batch]:
    """Token ids of each different text between bos and eos."""
    distinct = list(dict.fromkeys(texts))
    encoded = tokenizer(distinct, add_special_tokens=False, verbose=False)["input_ids"] if distinct else []
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    return {
        text: np.array([tokenizer.bos_token_id, *ids, tokenizer.eos_token_id], dtype=dtype)
        for text, ids in zip(distinct, encoded, strict=True)
    }


def pack(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, *, block: int, seed: int) -> Batch:
    """Shuffle, wrap, concatenate and cut.

    Args:
        texts: Documents; repeated ones are given as often as they are to be seen. The chat markers in them
            are read as markers.
        tokenizer: Its bos and eos tokens wrap each document.
        block: Tokens that each block predicts.
        seed: Seed of the order.

    Returns:
        Blocks of shape (n, block + 1): row i predicts its tokens 1 ... block from those before; its last token
        is the first of row i + 1. The end is filled up from the start of the stream.

    Raises:
        InputError: There is less text than one block.
    """
    pieces = _wrapped(texts, tokenizer)
    order = _order("documents", len(texts), seed)
    n_tokens = sum(len(pieces[text]) for text in texts)
    if n_tokens <= block:
        raise InputError(f"the text has {n_tokens} tokens; training needs more than one block of {block}.")
    stream = np.concatenate([pieces[texts[place]] for place in order])
    n_blocks = math.ceil((n_tokens - 1) / block)
    stream = np.concatenate([stream, stream[: n_blocks * block + 1 - n_tokens]])
    return np.lib.stride_tricks.sliding_window_view(stream, block + 1)[::block].copy()


def train(
    model: LlamaForCausalLM,
    batches: Sequence[Batch],
    training: Training,
    *,
    stage: str,
    checkpoints: Path | None = None,
    progress: Progress = silent,
) -> TrainingLog:
    """Train ``model`` in place, one step for each batch, in their order.

    On a CPU in float32; on a GPU with float32 weights under bfloat16 autocast. The same arguments, device and
    number of threads give the same weights, also when the run was killed and went on from a checkpoint.

    Args:
        model: On the device to train on.
        batches: From `make_batches`; each holds token ids of shape (B, T + 1), the model's pad id where there
            is nothing to predict.
        training: Rates and sizes.
        stage: Name for ``progress``.
        checkpoints: Folder for a checkpoint, which is removed at the end; None keeps none.
        progress: Called after every step with (stage, steps done, steps in all).

    Raises:
        StorageError: A checkpoint cannot be written; the last whole one stays.
    """
    device = next(model.parameters()).device
    n_steps = len(batches)
    pad_id = int(model.config.pad_token_id)
    optimizer = _optimizer(model, training)
    key = _key(model, batches, training)
    path = checkpoints / CHECKPOINT if checkpoints is not None else None
    start = _resume(path, key, model, optimizer) if path is not None else 0
    losses: list[Tensor] = []
    model.train()
    progress(stage, start, n_steps)
    for step in range(start, n_steps):
        ids = torch.from_numpy(batches[step].astype(np.int64)).to(device)  # (B, T + 1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, n_steps, training)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # (B, T, V)
        targets = ids[:, 1:].flatten()
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), targets, ignore_index=pad_id)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        if path is not None and (step + 1) % training.checkpoint_every == 0 and step + 1 < n_steps:
            _save_checkpoint(path, key, step + 1, model, optimizer)
        progress(stage, step + 1, n_steps)
    model.eval()
    if path is not None:
        path.unlink(missing_ok=True)
    n_tokens = sum(int((batch[:, 1:] != pad_id).sum()) for batch in batches)
    return _log(losses, n_steps=n_steps, n_tokens=n_tokens, resumed_at=start)


def learning_rate(step: int, n_steps: int, training: Training) -> float:
    """Rate of a step, counted from 0: linear from 0 to the peak, then a cosine to 1% of it."""
    rising = max(1, round(training.warm_up * n_steps))
    if step < rising:
        return training.learning_rate * (step + 1) / rising
    done = (step - rising) / max(1, n_steps - 1 - rising)
    return training.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _optimizer(model: LlamaForCausalLM, training: Training) -> torch.optim.AdamW:
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.95), fused=True)


def _key(model: LlamaForCausalLM, batches: Sequence[Batch], training: Training) -> str:
    """What a checkpoint must belong to: starting weights, data and settings."""
    digest = hashlib.sha256(json.dumps(asdict(training), sort_keys=True).encode())
    for batch in batches:
        digest.update(str(batch.shape).encode() + batch.tobytes())
    for name, parameter in model.named_parameters():
        digest.update(name.encode() + parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _save_checkpoint(path: Path, key: str, step: int, model: LlamaForCausalLM, optimizer: torch.optim.AdamW) -> None:
    tensors = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        tensors[f"weight/{name}"] = parameter.detach()
        tensors[f"mean/{name}"] = state["exp_avg"]
        tensors[f"square/{name}"] = state["exp_avg_sq"]
    temporary = path.with_suffix(".tmp")
    with storage_errors(path, kept="the last whole checkpoint stays"):
        with system_errors():
            save_file(tensors, temporary, metadata={"key": key, "step": str(step)})
        os.replace(temporary, path)


@contextmanager
def system_errors() -> Iterator[None]:
    """Turns a safetensors error that wraps an operating system's error back into that `OSError`."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _resume(path: Path, key: str, model: LlamaForCausalLM, optimizer: torch.optim.AdamW) -> int:
    """Load the checkpoint when it belongs to this run; the step to go on with, else 0."""
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return 0
            step = int(metadata["step"])
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(file.get_tensor(f"weight/{name}"))
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(step), device=parameter.device),
                        "exp_avg": file.get_tensor(f"mean/{name}").to(parameter.device),
                        "exp_avg_sq": file.get_tensor(f"square/{name}").to(parameter.device),
                    }
            return step
    except SafetensorError:  # a torn file: start afresh
        return 0


def _log(losses: Sequence[Tensor], *, n_steps: int, n_tokens: int, resumed_at: int) -> TrainingLog:
    tenth = max(1, len(losses) // 10)
    values = torch.stack(list(losses)).float().cpu() if losses else torch.zeros(1)
    return TrainingLog(n_steps, n_tokens, resumed_at, float(values[:tenth].mean()), float(values[-tenth:].mean()))
