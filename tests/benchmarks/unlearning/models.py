"""Small Llamas on real text, each made once: sizes, training, and the text of books without hard line breaks."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.testbed.sizes import SIZES as TESTBEDS
from audit.testbed.sizes import ModelSize, Training
from audit.testbed.tiny_lm import Batch, new_model, train
from audit.testbed.tokenizer import save_tokenizer
from audit.text.files import make_folder

NO_OZ = (
    "alice_in_wonderland",
    "peter_and_wendy",
    "wind_in_the_willows",
    "anne_of_green_gables",
    "frankenstein",
    "pride_and_prejudice",
    "princess_of_mars",
    "secret_garden",
    "sherlock_holmes",
    "treasure_island",
    "war_of_the_worlds",
)
_LINE_BREAK = re.compile(r"(?<!\n)[^\S\n]*\n(?![^\S\n]*\n)[^\S\n]*")


@dataclass(frozen=True, slots=True)
class Size:
    """How large an experiment is; rates are peaks, chosen by hand on CPU runs, never on what is audited.

    Attributes:
        books: The base's.
        n_passages: Of each book at most; None takes whole books.
        n_words: Of a passage at least.
        model: Shape of every model.
        base: Training of the base.
        passes: Of the base over the books.
        further: Training on the text to be forgotten with a replay of the books.
        times: How often the target sees each passage of that text.
        rows: Training on questions with answers.
        row_passes: Of the target over them.
        n_authors: Of TOFU's authors, those of forget10 included; None takes all 200.
        n_prompt: Tokens that a greedy continuation is given.
        n_new: Tokens that it writes.
        steps: Of a training that unlearns.
        every: Steps from one look at the validation data to the next.
        batch: Blocks of the forget text in a step; rows are four times as many.
        tries: Learning rates that each arm is tried at.
        factor: On the first of them: narrow models bear higher ones.
    """

    books: tuple[str, ...]
    n_passages: int | None
    n_words: int
    model: ModelSize
    base: Training
    passes: int
    further: Training
    times: int
    rows: Training
    row_passes: int
    n_authors: int | None
    n_prompt: int
    n_new: int
    steps: int
    every: int
    batch: int
    tries: int
    factor: float = 1.0

    @property
    def block(self) -> int:
        """Tokens of a block that is unlearnt: its translation may be longer, and has to fit the context too."""
        return self.model.n_context * 7 // 8


SIZES: dict[str, Size] = {
    "smoke": Size(
        books=NO_OZ[:3],
        n_passages=40,
        n_words=80,
        model=ModelSize(1024, 64, 2, 2, 128, n_context=384),
        base=Training(6e-3, batch_size=8, block=128),
        passes=3,
        further=Training(4e-3, batch_size=8, block=128),
        times=5,
        rows=Training(4e-3, batch_size=8, row_batch_size=16, block=128),
        row_passes=1,
        n_authors=30,
        n_prompt=16,
        n_new=16,
        steps=2,
        every=1,
        batch=8,
        tries=2,
    ),
    "pilot": Size(
        books=NO_OZ[:3],
        n_passages=150,
        n_words=150,
        model=ModelSize(2048, 160, 4, 4, 384, n_context=384),
        base=Training(3e-3, batch_size=8, block=256),
        passes=4,
        further=Training(2e-3, batch_size=8, block=256),
        times=8,
        rows=Training(2e-3, batch_size=8, row_batch_size=32, block=256),
        row_passes=6,
        n_authors=60,
        n_prompt=48,
        n_new=32,
        steps=40,
        every=4,
        batch=8,
        tries=4,
        factor=2.0,
    ),
    "gpu": Size(
        books=NO_OZ,
        n_passages=None,
        n_words=200,
        model=TESTBEDS["medium"].model,
        base=Training(1e-3, batch_size=16, block=512, warm_up=0.05, weight_decay=0.1),
        passes=6,
        further=Training(6e-4, batch_size=16, block=512),
        times=10,
        rows=Training(6e-4, batch_size=16, row_batch_size=64, block=512),
        row_passes=8,
        n_authors=None,
        n_prompt=64,
        n_new=64,
        steps=48,
        every=4,
        batch=16,
        tries=4,
    ),
}


def say(text: str) -> None:
    """One line of progress with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def book_text(corpora: Path, name: str) -> str:
    """A book with the line breaks inside its paragraphs made spaces; a blank line still ends a paragraph.

    Raises:
        InputError: No such file.
    """
    path = corpora / "gutenberg-books" / f"{name}.txt"
    if not path.is_file():
        raise InputError(f"there is no {path}; give --corpora the folder that holds gutenberg-books and tofu.")
    return _LINE_BREAK.sub(" ", path.read_text(encoding="utf-8")).strip()


def make_model(
    folder: Path,
    batches: Sequence[Batch],
    training: Training,
    *,
    start: Path | None,
    size: ModelSize,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    device: str,
) -> None:
    """Train a model from ``start``, or from scratch, into ``folder``, unless it is there."""
    if folder.is_dir():
        say(f"{folder.name}: taken from {folder}")
        return
    began = time.monotonic()
    transformers_logging.disable_progress_bar()
    model = new_model(size, tokenizer, seed=seed) if start is None else LlamaForCausalLM.from_pretrained(start)
    told = [0.0]

    def progress(stage: str, done: int, total: int) -> None:
        if time.monotonic() - told[0] > 10:
            told[0] = time.monotonic()
            say(f"{stage}: step {done:,} of {total:,}")

    log = train(model.to(device), batches, training, stage=folder.name, progress=progress)
    rate = log.n_tokens / (time.monotonic() - began)
    say(
        f"{folder.name}: {log.n_steps:,} steps, {log.n_tokens:,} tokens, loss {log.first_loss:.3f} to "
        f"{log.last_loss:.3f}, {rate:,.0f} tokens/s"
    )
    temporary = Path(f"{make_folder(folder.parent) / folder.name}.{time.time_ns()}.part")
    model.float().cpu().save_pretrained(temporary)
    save_tokenizer(tokenizer, temporary)
    try:
        temporary.rename(folder)
    except OSError:  # another process has made the same model
        shutil.rmtree(temporary)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    found: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return found


def copied(lm: LanguageModel) -> dict[str, torch.Tensor]:
    """The weights as they are now, on their device."""
    return {name: one.detach().clone() for name, one in lm.model.named_parameters()}


def put(lm: LanguageModel, weights: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, one in lm.model.named_parameters():
            one.copy_(weights[name])
