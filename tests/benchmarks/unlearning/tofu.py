r"""TOFU's forget10 (arXiv:2401.06121) on a small model, with one that was tuned on the retained rows alone as gold.

The base is that of `oz`: novels only, so that it holds nothing of the questions. The target is tuned on all
rows, retrained on those of retain90, retrained_2 likewise in another order; all take as many steps. Authors, 20 rows
each, are the unit that is dealt and resampled: of forget10's a fifth are validation; of the retained ones the first 20
(retain_perturbed) are audited, others are validation, the rest is what retain terms keep.

    truth ratio   exp(mean over wrong answers of log p / n  -  log p / n of the paraphrased right one),  n its tokens

as in the published code; above 1 the wrong answers are the likelier ones. Forget quality is TOFU's: a two-sample KS
test of truth ratios between a model and retrained, once over questions as there (they are not independent) and once
over authors' means. The base knows no real authors or facts: there the right choice is at chance, 1/4.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audit.errors import InputError
from audit.forgetting.measured import Measured
from audit.forgetting.verbatim import rouge_l
from audit.lm.generate import Sampling, generate
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.testbed.measure import mean_log_probs
from audit.testbed.tiny_lm import make_batches
from tests.benchmarks.unlearning.arms import Gauged, Task
from tests.benchmarks.unlearning.books import Books
from tests.benchmarks.unlearning.models import Size, make_model, read_tokenizer
from tests.benchmarks.unlearning.tables import Aims
from unlearn.sequences import NO_LABEL, Labelled, own_labels
from unlearn.whp.anchor_files import read_anchors, write_anchors
from unlearn.whp.anchor_statistics import anchors_from_statistics

ROWS = 20  # of an author
VALIDATION_AUTHORS = 20
RETAIN_ROWS = 1_000


class Row(NamedTuple):
    """A question with its answer; ``wrong`` and ``paraphrased`` where the file has them."""

    id: str
    author: str
    question: str
    answer: str
    paraphrased: str = ""
    wrong: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        return f"Question: {self.question}\nAnswer:"

    @property
    def text(self) -> str:
        return f"{self.asked} {self.answer}"


def read(corpora: Path, name: str, *, of_authors: bool = True) -> list[Row]:
    """Rows of one of TOFU's files of JSON lines.

    Raises:
        InputError: No such file.
    """
    path = corpora / "tofu" / f"{name}.json"
    if not path.is_file():
        raise InputError(f"there is no {path}; give --corpora the folder that holds gutenberg-books and tofu.")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row: dict[str, Any] = json.loads(line)
        author = f"{name}/{number // ROWS}" if of_authors else f"{name}/{number}"
        wrong = tuple(row.get("perturbed_answer", ()))
        right = row.get("paraphrased_answer", row["answer"])
        found.append(Row(f"{name}/{number}", author, row["question"], row["answer"], right, wrong))
    return found


class Tofu(Books):
    """The experiment; see the module."""

    name = "tofu"
    models = ("target", "retrained", "retrained_2")
    judge = None
    placebos: tuple[str, ...] = ()
    aims = Aims(
        gaps=("probability, forget", "rouge, forget", "truth ratio, forget", "loss, forget"),
        kept=("loss, retain", "loss, novels"),
        quality=("truth ratio, by question", "truth ratio, forget"),
    )

    def __init__(self, corpora: Path, folder: Path, size: Size, *, seed: int, device: str) -> None:
        super().__init__(corpora, folder, size, seed=seed, device=device)
        forget, retained = read(corpora, "forget10_perturbed"), read(corpora, "retain90")
        if size.n_authors is not None:  # as many of each kind as in the whole
            n_forget = max(5, size.n_authors // 10)
            forget, retained = forget[: n_forget * ROWS], retained[: (size.n_authors - n_forget) * ROWS]
        self.forget, self.retained = forget, retained
        rng = np.random.default_rng([seed, 200])
        authors = list(dict.fromkeys(row.author for row in forget))
        chosen = {authors[place] for place in rng.permutation(len(authors))[: max(1, len(authors) // 5)]}
        self.forget_validation = [row for row in forget if row.author in chosen]
        self.forget_audit = [row for row in forget if row.author not in chosen]
        audited = {row.question for row in read(corpora, "retain_perturbed")}
        kept = [row for row in retained if row.question not in audited]
        authors = list(dict.fromkeys(row.author for row in kept))
        n_out = min(VALIDATION_AUTHORS, len(authors) // 2)
        out = {authors[place] for place in rng.permutation(len(authors))[:n_out]}
        self.retain_validation = [row for row in kept if row.author in out][::4]
        self.retain = [row for row in kept if row.author not in out][:RETAIN_ROWS]

    # Models

    def make(self, name: str) -> None:
        """A model tuned on rows: every model sees as many, each retained one a little more often without the others."""
        tokenizer = read_tokenizer(self.model("base"))
        n_seen = (len(self.forget) + len(self.retained)) * self.size.row_passes
        rows = [*self.retained, *self.forget] if name == "target" else list(self.retained)
        order = np.random.default_rng([self.seed, 201]).permutation(len(rows))
        whole, rest = divmod(n_seen, len(rows))
        texts = [row.text for row in rows] * whole + [rows[place].text for place in order[:rest]]
        seed = self.seed + (1 if name == "retrained_2" else 0)
        batches = make_batches([], texts, tokenizer, self.size.rows, seed=seed)
        make_model(
            self.model(name), batches, self.size.rows,
            start=self.model("base"), size=self.size.model, tokenizer=tokenizer, seed=self.seed, device=self.device,
        )  # fmt: skip

    # What is unlearnt

    def draft_anchors(self, which: str) -> str:
        path = self.folder / f"anchors-{which}.toml"
        if not path.is_file():
            text, contrast = ("\n\n".join(f"{row.question} {row.answer}" for row in rows) for rows in
                              (self.forget, self.retain))  # fmt: skip
            found = anchors_from_statistics(text, contrast + "\n\n" + "\n\n".join(self.training_text))
            write_anchors(path, found.anchors)
        anchors = list(read_anchors(path))
        first = "\n".join(f"    {one.key} -> {', '.join(one.substitutes)} ({one.kind})" for one in anchors[:30])
        return f"{len(anchors)} anchors of {which}, the first:\n{first}"

    def task(self, which: str, folder: Path) -> Task:
        """A block for each row, because the target learnt them so; the baselines' losses are on the answers."""
        blocks = [self.blocks(row.text)[0]._replace(number=number) for number, row in enumerate(self.forget)]
        return Task(
            self.subject("target"),
            blocks,
            [_rows_of(block.token_ids, self._n_asked(row)) for block, row in zip(blocks, self.forget, strict=True)],
            [_rows_of(self.blocks(row.text)[0].token_ids, self._n_asked(row)) for row in self.retain],
            read_anchors(self.folder / f"anchors-{which}.toml"),
            self.size,
            4 * self.size.batch,
            self.seed,
            folder,
        )

    def _n_asked(self, row: Row) -> int:
        (ids,) = encode(self.tokens, [row.asked])
        return len(prefix_ids(self.tokens)) + len(ids)

    # What is measured

    @cached_property
    def parts(self) -> dict[str, list[Row]]:
        most = None if self.size.n_authors is None else 2 * ROWS  # a small size measures less
        return {
            "forget": self.forget_audit,
            "retain": read(self.corpora, "retain_perturbed")[:most],
            "real authors": read(self.corpora, "real_authors_perturbed", of_authors=False)[:most],
            "world facts": read(self.corpora, "world_facts_perturbed", of_authors=False)[:most],
        }

    def gauge(self, lm: LanguageModel) -> Gauged:
        """On validation authors alone: mean probability of forgotten answers, mean loss of retained ones."""
        return Gauged(
            float(np.exp(_log_probs(lm, self.forget_validation)).mean()),
            float(-_log_probs(lm, self.retain_validation).mean()),
        )

    def measure(self, lm: LanguageModel, *, is_judge: bool = False) -> dict[str, Measured]:
        """Every measure of one model on what is audited."""
        found = {}
        for part, rows in self.parts.items():
            wrong = _wrong(lm, rows)
            if part in ("forget", "retain"):
                own = _log_probs(lm, rows)
                found[f"probability, {part}"] = _measured(rows, np.exp(own), f"probability of answers, {part}")
                found[f"loss, {part}"] = _measured(rows, -own, f"loss of answers, {part}, nats a token")
                right = mean_log_probs(lm, [row.asked for row in rows], [f" {row.paraphrased}" for row in rows])
                ratios = np.exp(wrong.mean(axis=1) - right)
                found[f"truth ratio, {part}"] = _measured(rows, ratios, f"truth ratio, {part}")
            else:  # the right answer's share of the probability of all choices
                right = _log_probs(lm, rows)
                share = np.exp(right) / (np.exp(right) + np.exp(wrong).sum(axis=1))
                found[f"choice, {part}"] = _measured(rows, share, f"share of the right choice, {part}")
            scores = np.array(
                [rouge_l(row.answer, said) for row, said in zip(rows, _answers(lm, rows, self.size.n_new), strict=True)]
            )
            found[f"rouge, {part}"] = _measured(rows, scores, f"ROUGE-L F1 of greedy answers, {part}")
        each = found["truth ratio, forget"]
        found["truth ratio, by question"] = Measured(each.name, each.ids, each.ids, each.values)
        passages = [one for held in self.audit.values() for one in held]
        return found | {"loss, novels": self.losses(lm, passages, "held-out passages of the novels")}

    def facts(self) -> dict[str, object]:
        return {
            "n_forget_rows": len(self.forget),
            "n_retained_rows": len(self.retained),
            "n_audited": {name: len(rows) for name, rows in self.parts.items()},
            "n_forget_validation": len(self.forget_validation),
            "n_retain_validation": len(self.retain_validation),
            "n_retain_term": len(self.retain),
        }


def _log_probs(lm: LanguageModel, rows: Sequence[Row]) -> Any:
    """Mean log-probability of each answer's tokens after its question, nats."""
    return mean_log_probs(lm, [row.asked for row in rows], [f" {row.answer}" for row in rows])


def _wrong(lm: LanguageModel, rows: Sequence[Row]) -> Any:
    """The same of each row's wrong answers, (rows, wrong answers)."""
    n = len(rows[0].wrong)
    asked = [row.asked for row in rows for _ in row.wrong]
    return mean_log_probs(lm, asked, [f" {answer}" for row in rows for answer in row.wrong]).reshape(len(rows), n)


def _answers(lm: LanguageModel, rows: Sequence[Row], n_tokens: int) -> list[str]:
    """Greedy answers of at most so many tokens."""
    prompts = [prefix_ids(lm) + ids for ids in encode(lm, [row.asked for row in rows])]
    sampling = Sampling(n_tokens, temperature=0.0, stop_ids=(int(lm.tokenizer.eos_token_id),))
    return [lm.tokenizer.decode(list(one.token_ids)) for one in generate(lm, prompts, sampling=sampling, seed=0)]


def _measured(rows: Sequence[Row], values: Any, name: str) -> Measured:
    return Measured(name, tuple(row.id for row in rows), tuple(row.author for row in rows), np.asarray(values, float))


def _rows_of(ids: Sequence[int], n_before: int) -> Labelled:
    """A sequence whose first tokens are not asked."""
    row = own_labels(ids)
    row.labels[:n_before] = NO_LABEL
    return row
