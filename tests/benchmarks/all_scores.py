"""All membership scores of the same texts: shared passes against one pass for each method, in one run.

    python -m tests.benchmarks.all_scores [--texts 10000] [--neighbourhoods 50] [--repeats 1] [--shape 0]

Texts are random words, some with capitals, of 25 to 100 tokens; models have random weights. Ways are timed in turn:

- loop: each method runs its own forward pass of each text, one text at a time, with the library's own logits;
- padded: the same in batches of 16 texts, padded to the longest, as the released code of SoK does;
- shared: padded, but the mean loss is computed once for all methods that need only it, as that code does too.

The largest difference of any score to the loop stands beside each time, in the score's own unit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import encode
from audit.membership.context import score_in_context
from audit.membership.joined import join
from audit.membership.lowercase import lowercase_scores, lowered_tokens
from audit.membership.neighbourhood import neighbourhood_scores
from audit.membership.recall import recall_scores, shot_tokens
from audit.membership.score import score_texts
from tests.benchmarks.scoring import BOS, SHAPES, checkpoint

WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "dog",
    "ran",
    "over",
    "hill",
    "The",
    "Cat",
    "Hill",
    "HOUSE",
    "lilac",
)
Scores = dict[str, np.ndarray]
Way = Callable[[LanguageModel, list[str], str], Scores]
ONE_PASS = ("loss", "zlib", "min_k", "min_k_plus_plus")


def make_texts(lm: LanguageModel, n: int, seed: int = 0) -> list[str]:
    """Random words, cut where they reach a length drawn from 25 to 100 tokens."""
    rng = np.random.default_rng(seed)
    texts = []
    for length in rng.integers(25, 101, size=n):
        words = " ".join(rng.choice(WORDS, size=length))
        (ids,) = encode(lm, [words])
        texts.append(str(lm.tokenizer.decode(ids[:length])))
    return texts


def batches(lm: LanguageModel, texts: Sequence[str], size: int) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """Full log-softmax (B, T, V), targets (B, T) and the real number of targets in each row."""
    with torch.inference_mode():
        for start in range(0, len(texts), size):
            rows = [[BOS, *ids] for ids in encode(lm, texts[start : start + size])]
            width = max(map(len, rows))
            ids = torch.tensor([row + [2] * (width - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            logits = lm.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            yield logits.log_softmax(-1), ids[:, 1:], [len(row) - 1 for row in rows]


def token_rows(lm: LanguageModel, texts: Sequence[str], size: int, *, moments: bool = False) -> list[np.ndarray]:
    """l_t of each text, or (l_t - mu_t) / sd_t."""
    found = []
    for log_p, targets, lengths in batches(lm, texts, size):
        values = log_p.gather(2, targets[..., None])[..., 0]
        if moments:
            p = log_p.exp()
            mean = (p * log_p).sum(-1)
            values = (values - mean) / ((p * log_p.square()).sum(-1) - mean.square()).sqrt()
        found += [row[:length].double().numpy() for row, length in zip(values, lengths, strict=True)]
    return found


def mean_loss(lm: LanguageModel, texts: Sequence[str], size: int) -> np.ndarray:
    return np.array([-row.mean() for row in token_rows(lm, texts, size)])


def lowest(rows: list[np.ndarray]) -> np.ndarray:
    return np.array([np.sort(row)[: max(1, int(0.2 * len(row) + 1e-9))].mean() for row in rows])


def one_pass_each(size: int, *, shared: bool = False) -> Way:
    def run(lm: LanguageModel, texts: list[str], _shots: str) -> Scores:
        loss = mean_loss(lm, texts, size)
        again = loss if shared else mean_loss(lm, texts, size)
        return {
            "loss": loss,
            "zlib": -again / [len(zlib.compress(text.encode())) for text in texts],
            "min_k": lowest(token_rows(lm, texts, size)),
            "min_k_plus_plus": lowest(token_rows(lm, texts, size, moments=True)),
        }

    return run


def all_each(size: int, *, shared: bool = False) -> Way:
    def run(lm: LanguageModel, texts: list[str], shots: str) -> Scores:
        found = one_pass_each(size, shared=shared)(lm, texts, shots)
        for name in ("lowercase", "recall"):
            loss = found["loss"] if shared else mean_loss(lm, texts, size)
            if name == "lowercase":
                found[name] = -loss / mean_loss(lm, [text.lower() for text in texts], size)
            else:
                rows = token_rows(lm, [shots + text for text in texts], size)
                lengths = [len(ids) for ids in encode(lm, texts)]
                found[name] = np.array([-row[-n:].mean() for row, n in zip(rows, lengths, strict=True)]) / loss
        return found

    return run


def ours_one_pass(lm: LanguageModel, texts: list[str], _shots: str) -> Scores:
    scores = score_texts(lm, texts, ids=texts)
    return {name: getattr(scores, name) for name in ONE_PASS}


def ours_all(lm: LanguageModel, texts: list[str], shots: str) -> Scores:
    found, ids = ours_one_pass(lm, texts, shots), [str(place) for place in range(len(texts))]
    lowered = lowered_tokens(lm, texts, ids=ids, truncate=False)
    found["lowercase"] = lowercase_scores(lm, lowered, found["loss"])
    before = shot_tokens(lm, shots.splitlines(), texts, ids=ids)
    found["recall"] = recall_scores(lm, encode(lm, texts), found["loss"], shots=before)
    return found


def neighbours_whole(size: int) -> Way:
    """The same neighbours, chosen in a pass of their own, spelled out and run whole."""

    def run(lm: LanguageModel, texts: list[str], _shots: str) -> Scores:
        means = []
        for text in texts:
            ((log_p, targets, _),) = batches(lm, [text], 1)
            own = log_p[0].gather(1, targets[0][:, None])
            proposed = log_p[0].clone()
            proposed[:, [0, 1, 2, *range(len(lm.tokenizer), log_p.shape[2])]] = -torch.inf
            top = proposed.topk(10, dim=1)
            odds = (top.values - torch.log1p(-own.exp())).masked_fill(top.indices == targets[0][:, None], -torch.inf)
            rows = []
            for flat in odds.flatten().argsort(descending=True, stable=True)[:50].tolist():
                row = [BOS, *targets[0].tolist()]
                row[1 + flat // 10] = int(top.indices.flatten()[flat])
                rows.append(row)
            losses = []
            with torch.inference_mode():
                for start in range(0, len(rows), size):
                    ids = torch.tensor(rows[start : start + size])
                    all_p = lm.model(input_ids=ids).logits[:, :-1].float().log_softmax(-1)
                    losses += all_p.gather(2, ids[:, 1:, None])[..., 0].double().mean(1).tolist()
            means.append(float(own.double().mean()) - float(np.mean(losses)))
        return {"neighbourhood": np.array(means)}

    return run


def ours_neighbours(lm: LanguageModel, texts: list[str], _shots: str) -> Scores:
    return {"neighbourhood": neighbourhood_scores(lm, encode(lm, texts), texts, ids=texts)}


def context_shared(lm: LanguageModel, texts: list[str], context: str) -> Scores:
    return {"loss": score_in_context(lm, [context] * len(texts), texts, ids=texts).scores.loss}


def context_again(lm: LanguageModel, texts: list[str], context: str) -> Scores:
    """Our own batches, with the context computed anew before every text."""
    joined = join(lm, [context] * len(texts), texts)
    scores = token_log_probs(
        lm, [one.ids for one in joined], prefix=[BOS], n_unscored=[one.n_before for one in joined], moments=True
    )
    return {"loss": np.array([-score.log_probs.mean(dtype=np.float64) for score in scores])}


def tell(title: str, lm: LanguageModel, texts: list[str], given: str, ways: dict[str, Way], repeats: int) -> None:
    """One table; the first way is what the others' scores are compared with, the last is ours."""
    n_tokens = sum(map(len, encode(lm, texts)))
    print(f"\n**{title}; {len(texts):,} texts, {n_tokens:,} tokens**\n")
    print("| Way | seconds | ours is so many times faster | largest difference |\n|---|---|---|---|")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Scores] = {}
    for way in ways.values():
        way(lm, texts[:4], given)
    for _ in range(repeats):  # in turn, so that a slow moment of the machine hits every way
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way(lm, texts, given)
            seconds[name].append(time.perf_counter() - start)
    first, ours = found[next(iter(ways))], float(np.median(seconds[list(ways)[-1]]))
    for name in ways:
        gap = max(float(np.abs(found[name][score] - first[score]).max()) for score in first)
        middle = float(np.median(seconds[name]))
        print(f"| {name} | {middle:.1f} | {middle / ours:.2f} | {gap:.1e} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--neighbourhoods", type=int, default=50, help="texts whose neighbours are scored")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--shape", type=int, default=0, help="0, 1 or 2: which model of tests.benchmarks.scoring")
    arguments = parser.parse_args()
    transformers_logging.disable_progress_bar()
    title, config = list(SHAPES.items())[arguments.shape]
    with tempfile.TemporaryDirectory() as folder:
        lm = checkpoint(Path(folder), config)
        texts = make_texts(lm, arguments.texts)
        shots = "".join(f"{shot}\n" for shot in make_texts(lm, 10, seed=1))
        print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; {title}")
        tell(
            "Loss, zlib, Min-K%, Min-K%++", lm, texts, "",
            {
                "loop, a pass for each": one_pass_each(1),
                "padded 16, a pass for each": one_pass_each(16),
                "padded 16, loss shared": one_pass_each(16, shared=True),
                "palimpsest": ours_one_pass,
            },
            arguments.repeats,
        )  # fmt: skip
        (n_shots,) = map(len, encode(lm, [shots]))
        tell(
            f"These, Lowercase and ReCaLL (10 shots, {n_shots:,} tokens)", lm, texts[: len(texts) // 5], shots,
            {
                "loop, a pass for each": all_each(1),
                "padded 16, a pass for each": all_each(16),
                "padded 16, loss shared": all_each(16, shared=True),
                "palimpsest": ours_all,
            },
            arguments.repeats,
        )  # fmt: skip
        tell(
            "Neighbourhood, 50 neighbours", lm, texts[: arguments.neighbourhoods], "",
            {
                "loop": neighbours_whole(1),
                "batches of 50": neighbours_whole(50),
                "palimpsest": ours_neighbours,
            },
            arguments.repeats,
        )  # fmt: skip
        context = " ".join(make_texts(lm, 8, seed=2))
        (n_context,) = map(len, encode(lm, [context]))
        tell(
            f"Loss after one context of {n_context:,} tokens", lm, texts[: len(texts) // 5], context,
            {"context anew for each text": context_again, "palimpsest": context_shared},
            arguments.repeats,
        )  # fmt: skip


if __name__ == "__main__":
    main()
