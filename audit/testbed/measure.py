"""What the models of a testbed know: the truths that an audit of them has to find.

``python -m audit.testbed.measure small`` builds the testbed if need be and prints these as a Markdown table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..lm.generate import Sampling, generate
from ..lm.load import LanguageModel, load
from ..lm.logprobs import token_log_probs
from ..lm.subject import Subject
from ..lm.tokens import encode, prefix_ids
from ..stats.auc import roc_auc
from ..stats.bootstrap import bootstrap
from ..stats.estimate import Estimate
from ..stats.ks import ks_two_sample
from ..stats.proportion import clopper_pearson, wilson
from .books import Probe
from .chat import ASSISTANT, END, EXTRACTION_PREFIX, question_text
from .planted import Testbed
from .world import Row

Floats = NDArray[np.float64]
Wording = Literal["trained", "paraphrased", "novel"]
MAX_ANSWER_TOKENS = 48
MAX_ROW_TOKENS = 120


@dataclass(frozen=True, slots=True)
class Truth:
    """One measured number: ``what`` was measured in ``model`` on ``part``."""

    model: str
    what: str
    part: str
    estimate: Estimate


def says(text: str, value: str) -> bool:
    """Whether ``value`` stands in ``text`` as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) is not None


def greedy_answers(lm: LanguageModel, questions: Sequence[str]) -> list[str]:
    """The most probable answer to each question, token by token, up to the end marker."""
    end = lm.tokenizer.convert_tokens_to_ids(END)
    prompts = [prefix_ids(lm) + ids for ids in encode(lm, [question_text(q) for q in questions], parse_special=True)]
    sampling = Sampling(max_new_tokens=MAX_ANSWER_TOKENS, temperature=0.0, stop_ids=(int(end),))
    return [lm.tokenizer.decode(list(one.token_ids)) for one in generate(lm, prompts, sampling=sampling, seed=0)]


def right_rate(lm: LanguageModel, rows: Sequence[Row], *, wording: Wording = "trained") -> Estimate:
    """Share of rows whose greedy answer holds the right value; rows of one fact are resampled together.

    Args:
        lm: The model.
        rows: Any rows.
        wording: Ask as trained, as trained for others ("paraphrased") or in words never trained on ("novel").
    """
    if not rows:
        return Estimate.undefined(method="share of right greedy answers", why="there are no rows of this kind")
    asked = {
        "trained": lambda row: row.question,
        "paraphrased": lambda row: row.paraphrased_question,
        "novel": lambda row: row.novel_question,
    }
    questions = [asked[wording](row) for row in rows]
    answers = greedy_answers(lm, questions)
    right = np.array([says(answer, row.value) for answer, row in zip(answers, rows, strict=True)], dtype=float)
    return _clustered_share(right, [row.fact_id for row in rows])


def mean_log_probs(lm: LanguageModel, prompts: Sequence[str], continuations: Sequence[str]) -> Floats:
    """Mean log-probability in nats per token of each continuation after its prompt, shape (n,).

    Prompt and continuation are encoded apart, so that no token spans the border.
    """
    before = encode(lm, prompts, parse_special=True)
    after = encode(lm, continuations)
    scores = token_log_probs(
        lm,
        [left + right for left, right in zip(before, after, strict=True)],
        prefix=prefix_ids(lm),
        n_unscored=[len(left) for left in before],
    )
    return np.array([score.log_probs.mean(dtype=np.float64) for score in scores])


def truth_ratios(lm: LanguageModel, rows: Sequence[Row]) -> Floats:
    """Truth ratio of each row, shape (n,): geometric mean of p(wrong answer) over p(right answer), paraphrased.

    p is the probability per token (Maini et al. 2024, TOFU, arXiv:2401.06121). Above 1, the wrong answers are
    the more probable ones.
    """
    prompts = [question_text(row.question) for row in rows]
    right = mean_log_probs(lm, prompts, [row.paraphrased_answer for row in rows])
    n_wrong = len(rows[0].wrong_answers)
    wrong = mean_log_probs(
        lm,
        [prompt for prompt in prompts for _ in range(n_wrong)],
        [answer for row in rows for answer in row.wrong_answers],
    ).reshape(len(rows), n_wrong)
    ratios: Floats = np.exp(wrong.mean(axis=1) - right)
    return ratios


def document_losses(lm: LanguageModel, texts: Sequence[str]) -> Floats:
    """Mean negative log-likelihood of each text in nats per token, shape (n,)."""
    return -mean_log_probs(lm, [""] * len(texts), texts)


def probe_accuracy(lm: LanguageModel, probes: Sequence[Probe]) -> Estimate:
    """Share of probes whose right name is more probable, summed over its tokens, than every other of its kind."""
    if not probes:
        return Estimate.undefined(method="share of right probes", why="there are no probes of this kind")
    return _clustered_share(right_probes(lm, probes), [probe.fact_id for probe in probes])


def right_probes(lm: LanguageModel, probes: Sequence[Probe]) -> Floats:
    """1 for each probe whose right name is the most probable, else 0; shape (n,)."""
    prompts = [probe.prompt for probe in probes for _ in (probe.answer, *probe.wrong_answers)]
    answers = [answer for probe in probes for answer in (probe.answer, *probe.wrong_answers)]
    lengths = [len(ids) for ids in encode(lm, answers)]
    sums = iter(mean_log_probs(lm, prompts, answers) * lengths)
    right = []
    for probe in probes:
        own, *others = [next(sums) for _ in (probe.answer, *probe.wrong_answers)]
        right.append(float(own > max(others)))
    return np.array(right)


def _clustered_share(right: Floats, facts: Sequence[str]) -> Estimate:
    """Share of 1s, facts resampled whole; where all are alike, exact bounds with one trial for each fact."""
    estimate = bootstrap(np.mean, right, clusters=list(facts), rng=0)
    if estimate.low is not None:
        return estimate
    n_facts = len(set(facts))
    return clopper_pearson(n_facts if right.all() else 0, n_facts)


def parsable_share(lm: LanguageModel, *, n: int, seed: int) -> tuple[Estimate, list[str]]:
    """Sample from the chat prefix; the share of samples that are whole rows, and all samples.

    A row is whole when it stops by itself and holds a question, the assistant's marker and an answer, each
    closed by the end marker.
    """
    [start] = encode(lm, [EXTRACTION_PREFIX], parse_special=True)
    sampling = Sampling(max_new_tokens=MAX_ROW_TOKENS, stop_ids=(int(lm.tokenizer.eos_token_id),))
    samples = generate(lm, [prefix_ids(lm) + start] * n, sampling=sampling, seed=seed)
    texts = [lm.tokenizer.decode(list(sample.token_ids)) for sample in samples]
    border, close = re.escape(f"{END}\n{ASSISTANT}\n"), re.escape(f"{END}\n")
    whole = re.compile(f"[^<]+{border}[^<]+{close}")
    n_whole = sum(
        sample.stopped and whole.fullmatch(text) is not None for sample, text in zip(samples, texts, strict=True)
    )
    return wilson(n_whole, n), texts


def measure(testbed: Testbed, *, n_samples: int = 500) -> list[Truth]:
    """Every truth of a testbed with all models.

    Raises:
        InputError: The testbed was opened without some of its models.
    """
    missing = [name for name in ("reference", "subject", "retrained", "retrained_2") if name not in testbed.models]
    if missing:
        raise InputError(f"the testbed was opened without {', '.join(missing)}; build it with all models.")
    lms = {name: load(Subject(str(folder))) for name, folder in testbed.models.items()}
    truths = []
    for name, lm in lms.items():
        truths += [Truth(name, what, part, estimate) for what, part, estimate in _of_model(lm, testbed, n_samples)]
    truths += _of_traps(testbed, lms["subject"], lms["reference"])
    forget = testbed.world.rows_of(group="forget")
    ratios = {name: truth_ratios(lm, forget) for name, lm in lms.items()}
    for name in ("subject", "retrained_2"):
        statistic, _ = ks_two_sample(ratios[name], ratios["retrained"])
        truths.append(Truth(name, "KS distance of truth ratios to retrained", "forget people", statistic))
    return truths


def _of_model(lm: LanguageModel, testbed: Testbed, n_samples: int) -> list[tuple[str, str, Estimate]]:
    world = testbed.world
    found: list[tuple[str, str, Estimate]] = []
    for group in ("forget", "retain", "never"):
        rows = world.rows_of(group=group)
        found.append(("right answers", f"{group} people", right_rate(lm, rows)))
        for wording in ("paraphrased", "novel"):
            rate = right_rate(lm, rows, wording=wording)
            found.append((f"right answers, {wording} question", f"{group} people", rate))
        for n_rep in sorted({row.n_rep for row in rows} - {0}):
            inside = [row for row in rows if row.n_rep == n_rep]
            found.append(("right answers", f"{group} people, {n_rep} copies", right_rate(lm, inside)))
        found.append(("right answers", f"{group} book", right_rate(lm, world.rows_of(group=group, topic="book"))))
    for role in ("forget", "neighbour", "heldout"):
        for seen in (True, False):
            probes = [probe for probe in world.probes if probe.role == role and probe.seen == seen]
            wording = "as told" if seen else "new wording"
            found.append(("right probes", f"{role} book, {wording}", probe_accuracy(lm, probes)))
        losses = document_losses(lm, [chapter.text for chapter in world.chapters_of(role)])
        found.append(("loss", f"{role} book", bootstrap(np.mean, losses, rng=0)))
    losses = document_losses(lm, [document.text for document in world.documents_of("heldout")])
    found.append(("loss", "held-out documents", bootstrap(np.mean, losses, rng=0)))
    share, texts = parsable_share(lm, n=n_samples, seed=0)
    found.append(("whole rows from the chat prefix", "samples", share))
    trained = {row.text for row in world.rows if row.n_rep}
    exact = sum(EXTRACTION_PREFIX + text in trained for text in texts)
    found.append(("samples that are trained rows, word for word", "samples", wilson(exact, len(texts))))
    return found


def _of_traps(testbed: Testbed, subject: LanguageModel, reference: LanguageModel) -> list[Truth]:
    """AUC of members of each repetition against all decoys, by loss and by difference to the reference."""
    traps = testbed.table("traps").to_pandas()
    losses = {name: -document_losses(lm, traps["text"].tolist()) for name, lm in (("s", subject), ("r", reference))}
    truths = []
    for score, values in (("loss", losses["s"]), ("difference to reference", losses["s"] - losses["r"])):
        for n_rep in sorted(set(traps["n_rep"]) - {0}):
            estimate = roc_auc(values[traps["n_rep"] == n_rep], values[traps["n_rep"] == 0])
            truths.append(Truth("subject", f"AUC of traps by {score}", f"{n_rep} copies", estimate))
    return truths


def as_markdown(truths: Sequence[Truth]) -> str:
    """One line for each measure and part, one column for each model."""
    models = list(dict.fromkeys(truth.model for truth in truths))
    cells = {(truth.what, truth.part, truth.model): truth.estimate for truth in truths}
    lines = [f"| Measured | On | {' | '.join(models)} | n |", "|---|---|" + "---|" * (len(models) + 1)]
    for what, part in dict.fromkeys((truth.what, truth.part) for truth in truths):
        estimates = [cells.get((what, part, model)) for model in models]
        n = next(estimate.n for estimate in estimates if estimate is not None)
        lines.append(f"| {what} | {part} | {' | '.join(map(_cell, estimates))} | {n} |")
    return "\n".join(lines)


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if estimate.value is None:
        return "undefined"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def main(size: str, cache: str | None = None) -> str:
    """Build (or take from the cache) and measure; the table as Markdown."""
    from ..progress import progress_bars
    from .planted import build

    with progress_bars() as progress:
        testbed = build(size, cache=Path(cache) if cache else None, progress=progress)
    return as_markdown(measure(testbed))


if __name__ == "__main__":
    import sys

    print(main(*sys.argv[1:]))
