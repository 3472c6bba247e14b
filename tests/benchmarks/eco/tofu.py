"""TOFU's forget01, 05 and 10 (arXiv:2401.06121): full is tuned on all rows, gold of each on the retained ones alone.

The base is that of `tests.benchmarks.unlearning`: novels only. Target of the strength: answers about the 20 authors of
holdout10, whom no model met. Names, where they are used, are those words in capitals that stand together five times or
more in questions and answers about forgotten authors and nowhere else. Where the models are tuned on fewer authors than
TOFU's 200, these are all of forget10 and the first of the others; classifier and threshold come from the whole files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from audit.answers.formats import PromptFormat
from audit.answers.qa import Part
from audit.answers.rows import QaRow, read_qa
from audit.errors import InputError
from audit.testbed.tiny_lm import make_batches
from tests.benchmarks.unlearning.books import Books
from tests.benchmarks.unlearning.models import Size, make_model, read_tokenizer
from unlearn.eco.fit import Texts

ROWS = 20  # of an author
FORGET = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
FORM = PromptFormat("text", prefix="Question: ", suffix="\nAnswer:")


def rows(corpora: Path, name: str, *, of_authors: bool = True) -> list[QaRow]:
    """A file of TOFU."""
    found = read_qa(corpora / "tofu" / f"{name}.json", cluster_size=ROWS if of_authors else None)
    return [replace(row, id=f"{name}/{row.id}") for row in found]


class TofuModels(Books):
    """Models tuned on TOFU; all take as many steps.

    Args:
        n_authors: In place of the size's.
        passes: Of the full model over its rows, in place of the size's.
        batch: Rows of a step, in place of the size's.
    """

    models = ("full", *FORGET.values())

    def __init__(
        self,
        corpora: Path,
        folder: Path,
        size: Size,
        *,
        seed: int,
        device: str,
        n_authors: int | None = None,
        passes: int | None = None,
        batch: int | None = None,
    ) -> None:
        size = replace(
            size,
            n_authors=n_authors or size.n_authors,
            row_passes=passes or size.row_passes,
            rows=replace(size.rows, row_batch_size=batch or size.rows.row_batch_size),
        )
        self.name = f"eco-tofu-{size.n_authors or 'all'}-{size.row_passes}-{size.rows.row_batch_size}"
        super().__init__(corpora, folder, size, seed=seed, device=device)

    def learnt(self, name: str) -> list[QaRow]:
        """Rows of a file that a model of this size is tuned on."""
        found = rows(self.corpora, name)
        if self.size.n_authors is None:
            return found
        n_forget = len(rows(self.corpora, "forget10"))
        n_retained = self.size.n_authors * ROWS - n_forget
        if n_retained < ROWS:
            raise InputError(f"{self.size.n_authors} authors; expected more than forget10's {n_forget // ROWS}.")
        everything = rows(self.corpora, "full")
        known = {row.prompt for row in (*everything[:n_retained], *everything[-n_forget:])}
        return [row for row in found if row.prompt in known]

    def make(self, name: str) -> None:
        tokenizer = read_tokenizer(self.model("base"))
        own, everything = self.learnt(name), self.learnt("full")
        n_seen = len(everything) * self.size.row_passes
        texts = [f"{FORM.prefix}{row.prompt}{FORM.suffix} {row.answer}" for row in own]
        whole, rest = divmod(n_seen, len(texts))
        order = np.random.default_rng([self.seed, 201]).permutation(len(texts))
        texts = texts * whole + [texts[place] for place in order[:rest]]
        make_model(
            self.model(name), make_batches([], texts, tokenizer, self.size.rows, seed=self.seed), self.size.rows,
            start=self.model("base"), size=self.size.model, tokenizer=tokenizer, seed=self.seed, device=self.device,
        )  # fmt: skip


def texts_of(corpora: Path, forget: str, *, with_names: bool) -> Texts:
    own = rows(corpora, f"{forget}_perturbed")
    retain = rows(corpora, FORGET[forget])
    never = rows(corpora, "holdout10")
    names = names_of(own, retain) if with_names else ()
    return Texts(own, retain, never, names=names)


def names_of(own: Sequence[QaRow], retain: Sequence[QaRow]) -> tuple[str, ...]:
    """As the head of this file says."""
    found = Counter(
        name for row in own for name in set(re.findall(r"[A-Z][\w-]+(?: [A-Z][\w-]+)+", f"{row.prompt} {row.answer}"))
    )
    other = "\n".join(f"{row.prompt} {row.answer}" for row in retain)
    return tuple(name for name, n in found.most_common() if n >= 5 and name not in other)


def parts_of(found: TofuModels, forget: Sequence[QaRow]) -> dict[Part, list[QaRow]]:
    """TOFU's four parts; retain_perturbed are authors that every model learnt."""
    return {
        "forget": list(forget),
        "retain": found.learnt("retain_perturbed"),
        "real authors": rows(found.corpora, "real_authors_perturbed", of_authors=False),
        "world facts": rows(found.corpora, "world_facts_perturbed", of_authors=False),
    }


def general(corpora: Path) -> list[str]:
    """Questions of other sources."""
    return [row.prompt for name in ("real_authors", "world_facts") for row in rows(corpora, name, of_authors=False)]
