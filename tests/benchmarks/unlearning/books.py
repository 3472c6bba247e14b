"""Novels, dealt to training, validation and audit by passages, and the base that both experiments go on from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage, cut_passages
from audit.lm.load import LanguageModel, Tokens, load_tokens
from audit.lm.logprobs import token_log_probs
from audit.lm.subject import Subject
from audit.lm.tokens import encode, prefix_ids
from audit.progress import silent
from audit.testbed.cache import only_builder
from audit.testbed.tiny_lm import make_batches
from audit.testbed.tokenizer import train_tokenizer
from audit.text.files import make_folder
from tests.benchmarks.unlearning.models import SIZES, Size, book_text, make_model, say
from unlearn.whp.blocks import Block, make_blocks


class Books:
    """Passages of every novel, dealt by a seed, and the base, in a folder that the experiments share."""

    name = "books"
    sizes = SIZES
    limit = 0.02  # rise of the loss on other text, as a share

    def __init__(self, corpora: Path, folder: Path, size: Size, *, seed: int, device: str) -> None:
        self.corpora, self.size, self.seed, self.device = corpora, size, seed, device
        self.shared, self.folder = folder, make_folder(folder / self.name)
        self.trained: dict[str, list[Passage]] = {}
        self.validation: list[Passage] = []
        self.audit: dict[str, list[Passage]] = {}
        for number, book in enumerate(size.books):
            passages = self.passages(book)
            order = np.random.default_rng([seed, number]).permutation(len(passages))
            n_out = max(2, len(passages) // 10)
            out = set(order[:n_out].tolist())
            self.trained[book] = [one for place, one in enumerate(passages) if place not in out]
            self.validation += [passages[place] for place in order[: n_out // 2]]
            self.audit[book] = [passages[place] for place in order[n_out // 2 : n_out]]

    def passages(self, book: str) -> list[Passage]:
        found = cut_passages(book_text(self.corpora, book), n_words=self.size.n_words)
        return [Passage(f"{book}/{one.id}", one.text) for one in found[: self.size.n_passages]]

    @property
    def training_text(self) -> list[str]:
        return [one.text for passages in self.trained.values() for one in passages]

    def model(self, name: str) -> Path:
        return (self.shared if name == "base" else self.folder) / name

    def subject(self, name: str) -> Subject:
        return Subject(str(self.model(name)), device=self.device, dtype="float32")

    @cached_property
    def tokens(self) -> Tokens:
        return load_tokens(self.subject("base"))

    def make_base(self) -> None:
        """Tokenizer and base, unless they are there; the other experiment waits meanwhile."""
        with only_builder(self.model("base"), silent):
            if self.model("base").is_dir():
                say("the base is there")
                return
            shape, documents = self.size.model, self.training_text * self.size.passes
            tokenizer = train_tokenizer(self.training_text, n_vocabulary=shape.n_vocabulary, n_context=shape.n_context)
            batches = make_batches(documents, [], tokenizer, self.size.base, seed=self.seed)
            make_model(
                self.model("base"), batches, self.size.base,
                start=None, size=shape, tokenizer=tokenizer, seed=self.seed, device=self.device,
            )  # fmt: skip

    def losses(self, lm: LanguageModel, passages: Sequence[Passage], what: str) -> Measured:
        """Mean loss of each passage's tokens, nats; a passage longer than the context counts with its beginning."""
        room = lm.n_context - 1
        ids = [one[:room] for one in encode(lm, [passage.text for passage in passages])]
        scores = token_log_probs(lm, ids, prefix=prefix_ids(lm))
        names = tuple(one.id for one in passages)
        values = np.array([-float(one.log_probs.mean(dtype=np.float64)) for one in scores])
        return Measured(f"loss on {what}, nats a token", names, names, values)

    def blocks(self, text: str) -> list[Block]:
        start = prefix_ids(self.tokens)
        made = make_blocks(self.tokens.tokenizer, text, n_tokens=self.size.block, prefix=start)
        return [block for block in made if len(block.token_ids) > len(start) + 1]
