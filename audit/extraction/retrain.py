"""What the extracted rows are worth: train the same base on them and ask both models the same held-out questions.

    original    the rows that the model under audit was post-trained on
    extracted   its parsed generations, exact duplicates left out
    shuffled    the same questions, each with the answer of another, dealt anew for every seed: what is learnt of the
                format and the style alone
    base        not trained

All arms start from the same weights with the same recipe, over the same number of tokens and of steps (`Budget`). The
comparison of interest is extracted against base and against shuffled: an extracted set that taught only what a chat
looks like does no better than the shuffled one. The paper compares extracted with original on benchmarks; here both are
compared on held-out rows of the same source, which needs no further data.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DataError, InputError, ModelError
from ..lm.checkpoint import find_folder, fingerprint
from ..lm.generate import Sampling, generate
from ..lm.load import LanguageModel, load, load_tokens, pick_device
from ..lm.logprobs import token_log_probs
from ..lm.sharing import out_of_memory
from ..lm.subject import Subject
from ..matching.clusters import normalised
from ..progress import Progress, silent
from ..runs.records import content_key
from ..runs.shards import ShardedTable
from ..stats.bootstrap import bootstrap
from ..stats.checks import generator
from ..stats.estimate import Estimate
from ..text.safe import quoted
from .finetune import Budget, Encoded, Pair, Recipe, batches, encode_pairs, save, train
from .parse import Parsed, Reject, distinct
from .prefixes import stops
from .presets import Chat
from .retrain_intervals import over_both, over_trainings

Floats = NDArray[np.float64]
#: Rows of an arm: the same under every seed, or seed -> rows.
ArmRows = Sequence[Pair] | Mapping[int, Sequence[Pair]]
BASE, ORIGINAL, EXTRACTED, SHUFFLED = "base", "original", "extracted", "shuffled"
#: Measure -> (column summed, column divided by).
MEASURES = {
    "answer loss": ("answer_nats", "n_answer"),
    "loss on all tokens": ("all_nats", "n_all"),
    "exact answers": ("exact", "n_rows"),
}
COMPARED = ((EXTRACTED, BASE), (EXTRACTED, SHUFFLED), (ORIGINAL, BASE), (EXTRACTED, ORIGINAL))
#: What is recorded of a training, of the base which has none.
UNTRAINED = {"n_steps": 0, "n_tokens": 0, "first_loss": None, "last_loss": None, "n_passes": 0.0}
AT_ONCE = 64  # answers generated side by side


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One measure of one arm on the held-out rows.

    Attributes:
        arm: Name of the arm.
        measure: One of `MEASURES`; losses are in nats a token, exact answers a share.
        by_seed: Value of each seed, in the order of the seeds; of the base, which has none, one value.
        mean: Of these.
        over_rows: The same, with an interval from drawing held-out rows (whole clusters) anew.
        n_tokens: Tokens that the arm was trained on, by seed.
        n_steps: Optimiser steps.
        n_passes: Passes over the arm's rows that this took, by seed.
    """

    arm: str
    measure: str
    by_seed: tuple[float, ...]
    mean: float
    over_rows: Estimate
    n_tokens: tuple[int, ...]
    n_steps: int
    n_passes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One arm less another on the same held-out rows and seeds.

    Attributes:
        arm: The first.
        other: The second.
        measure: One of `MEASURES`.
        by_seed: Difference under each seed.
        over_rows: Interval from drawing held-out rows (whole clusters) anew, values averaged over the seeds: what other
            questions would show of these very models.
        over_seeds: Student's interval over the seeds: what other trainings would show on these very rows.
        over_both: Both at once, what the verdict rests on (`audit.extraction.retrain_intervals.over_both`): wider than
            the two, since it has to hold on its side for skewed and unequal clusters too, which ``over_rows``, a
            percentile bootstrap, does not.
    """

    arm: str
    other: str
    measure: str
    by_seed: tuple[float, ...]
    over_rows: Estimate
    over_seeds: Estimate
    over_both: Estimate


def extracted(generations: Iterable[Parsed | Reject]) -> list[Pair]:
    """The parsed generations as rows, rejects and exact duplicates left out, in order of first appearance."""
    return _distinct(
        Pair(f"generation-{number}", one.question, one.answer)
        for number, one in enumerate(generations)
        if isinstance(one, Parsed)
    )


def extracted_rows(generations: pa.Table) -> list[Pair]:
    """The same of a table of `audit.extraction.sample.SCHEMA`, with the generations' own ids."""
    columns = (generations[name].to_pylist() for name in ("id", "question", "answer", "reject"))
    return _distinct(
        Pair(str(name), question, answer)
        for name, question, answer, reject in zip(*columns, strict=True)
        if reject is None and question and answer
    )


def _distinct(pairs: Iterable[Pair]) -> list[Pair]:
    kept = list(pairs)
    return [kept[text.first] for text in distinct(f"{normalised(one[1])}\0{normalised(one[2])}" for one in kept)]


def shuffled(pairs: Sequence[Pair], *, seed: int) -> list[Pair]:
    """Each question with the answer of another row, and none with an answer equal to its own where that can be.

    Args:
        pairs: At least two rows.
        seed: Seed of the dealing; another seed deals otherwise.

    Raises:
        InputError: More than half of the rows have the same answer, so that some would keep it.
    """
    if len(pairs) < 2:
        raise InputError(f"{len(pairs)} rows; answers can be dealt anew among two or more.")
    (rng,) = generator(seed).spawn(1)  # a stream of its own: the seed itself orders the rows in training
    answers = [normalised(pair.answer) for pair in pairs]
    order = rng.permutation(len(pairs))
    # Rows sorted by answer, equal answers side by side in a random order: moved on by the size of the largest group,
    # every row gets an answer of another group.
    groups: dict[str, list[int]] = {}
    for place in order:
        groups.setdefault(answers[place], []).append(int(place))
    largest = max(len(group) for group in groups.values())
    if 2 * largest > len(pairs):
        raise InputError(
            f"{largest:,} of {len(pairs):,} rows have the same answer, so a shuffled control would keep it for some. "
            "Leave such rows out of the experiment."
        )
    line = [place for group in groups.values() for place in group]
    shift = largest + int(rng.integers(0, len(line) - 2 * largest + 1))
    given = {place: line[(at + shift) % len(line)] for at, place in enumerate(line)}
    return [Pair(pair.id, pair.question, pairs[given[place]].answer) for place, pair in enumerate(pairs)]


def retrain(
    base: Subject,
    chat: Chat,
    arms: Mapping[str, ArmRows],
    held_out: Sequence[Pair],
    *,
    recipe: Recipe,
    seeds: Sequence[int],
    open_parts: Callable[[str, int], ShardedTable],
    bos: bool = False,
    models: Path | None = None,
    progress: Progress = silent,
) -> pa.Table:
    """Train every arm under every seed and measure each model on the held-out rows.

    One part for each training: a killed one is done again from its start, those that ended are kept.

    Args:
        base: The model before post-training, loaded in float32 for each training.
        chat: Its format.
        arms: Name -> rows, or for each seed its own; "original", the same under all, sets how many tokens and steps
            all are trained on.
        held_out: Rows that no arm should hold; compared by exact text with "original".
        recipe: The same for all.
        seeds: Seeds of the order of the rows; three or more, if the spread over trainings is to be told.
        open_parts: (key, number of parts) -> where finished parts are kept.
        bos: As for `audit.extraction.prefixes.encode_prefix`.
        models: Folder that keeps each trained model as ``<arm>-seed<seed>``; None keeps none.
        progress: Called as the work goes on.

    Returns:
        One row for each arm, seed and held-out row; columns arm, seed (null for the base), id, answer_nats, n_answer,
        all_nats, n_all, exact, n_rows, and, the same in all rows of one training, n_tokens, n_steps, n_passes,
        first_loss, last_loss (null for the base).

    Raises:
        InputError: There is an adapter over the base, there is no arm "original", an arm is empty, lacks a seed or has
            a bad name, seeds repeat, or a held-out row stands in the original ones.
        DataError: A row does not fit (one of a seed's own shows when its training begins), or a held-out row would be
            cut off.
        ModelError: As in `audit.extraction.finetune.train`, or memory runs out.
    """
    _check(arms, held_out, seeds)
    if base.adapter is not None:
        raise InputError("the base model has an adapter over it; merge the two, and give the merged folder.")
    base = replace(base, dtype="float32")
    tokens = load_tokens(base)
    folder = find_folder(base.model, revision=base.revision, trust_remote_code=base.trust_remote_code)
    max_tokens = recipe.max_tokens
    encoded = {
        name: encode_pairs(tokens, rows, chat, max_tokens=max_tokens, bos=bos)
        for name, rows in arms.items()
        if not isinstance(rows, Mapping)
    }
    asked = encode_pairs(tokens, held_out, chat, max_tokens=max_tokens, bos=bos)
    for pair, row in zip(held_out, asked, strict=True):
        if row.cut:
            raise DataError(
                f"held-out row {quoted(pair.id)} is longer than {max_tokens:,} tokens, so it cannot be measured whole. "
                "Leave it out, or allow longer rows."
            )
    budget = Budget.of(encoded[ORIGINAL], recipe)
    jobs = [(BASE, None), *((name, seed) for seed in seeds for name in arms)]
    key = content_key(
        arms={name: _record(rows) for name, rows in arms.items()},
        held_out=[list(pair) for pair in held_out],
        recipe=recipe.to_record(),
        seeds=list(seeds),
        ids=[list(row.ids) for row in asked],  # chat, tokenizer and BOS show in these
        device=pick_device(base.device).type,
        model=fingerprint(folder).to_record(),
    )
    with open_parts(key, len(jobs)) as table:
        progress("Trainings measured", len(table.done()), len(jobs))
        for number in table.missing():
            name, seed = jobs[number]
            lm = load(base)
            trained: dict[str, float | None] = dict(UNTRAINED)
            if seed is not None:
                rows = arms[name]
                own = (
                    encode_pairs(tokens, rows[seed], chat, max_tokens=max_tokens, bos=bos)
                    if isinstance(rows, Mapping)
                    else encoded[name]
                )
                steps = batches(own, budget, seed=seed)
                trained = _train(lm, steps, recipe, seed, f"Training on the {name} rows, seed {seed}", progress)
                trained["n_passes"] = sum(len(step) for step in steps) / len(own)
                if models is not None:
                    save(lm, models / f"{name}-seed{seed}")
            measured = _measure(lm, held_out, asked, chat)
            table.write(number, _part(name, seed, held_out, measured, trained))
            progress("Trainings measured", number + 1, len(jobs))
        return table.assemble()


def arm_results(
    table: pa.Table, *, clusters: Sequence[Hashable] | None = None, seed: int = 0, level: float = 0.95
) -> list[ArmResult]:
    """Each measure of each arm, seed by seed, from what `retrain` gave; arguments as in `differences`."""
    found = []
    frame = table.to_pandas()
    for arm in dict.fromkeys(frame["arm"]):
        own = frame[frame["arm"] == arm]
        trainings = [rows for _, rows in own.groupby("seed", sort=False, dropna=False)]
        for measure, (numerator, denominator) in MEASURES.items():
            by_seed = tuple(float(rows[numerator].sum() / rows[denominator].sum()) for rows in trainings)
            found.append(
                ArmResult(
                    arm,
                    measure,
                    by_seed,
                    float(np.mean(by_seed)),
                    bootstrap(
                        _ratio,
                        _by_seed(frame, arm, numerator).mean(axis=0),
                        _by_seed(frame, arm, denominator)[0],
                        paired=True,
                        clusters=clusters,
                        rng=seed,
                        level=level,
                    ),
                    tuple(int(rows["n_tokens"].iloc[0]) for rows in trainings),
                    int(trainings[0]["n_steps"].iloc[0]),
                    tuple(float(rows["n_passes"].iloc[0]) for rows in trainings),
                )
            )
    return found


def differences(
    table: pa.Table,
    *,
    clusters: Sequence[Hashable] | None = None,
    compared: Sequence[tuple[str, str]] = COMPARED,
    seed: int,
    level: float = 0.95,
) -> list[Difference]:
    """Arms compared on the same rows, from what `retrain` gave.

    Args:
        table: From `retrain`.
        clusters: A label for each held-out row, in their order; near-duplicates share one. None: each on its own.
        compared: Pairs of arms, the first less the second; those with an arm that was not trained are left out.
        seed: Seed of the draws.
        level: Level of the intervals.
    """
    frame = table.to_pandas()
    known = set(frame["arm"])
    found = []
    for arm, other in compared:
        if not {arm, other} <= known:
            continue
        for measure, (numerator, denominator) in MEASURES.items():
            first, second = (_by_seed(frame, name, numerator) for name in (arm, other))  # (seeds or 1, rows)
            weights = _by_seed(frame, arm, denominator)[0]
            gaps = (first - second).sum(axis=1) / weights.sum()
            over_rows = bootstrap(
                _ratio,
                (first.mean(axis=0) - second.mean(axis=0)),
                weights,
                paired=True,
                clusters=clusters,
                rng=seed,
                level=level,
            )
            by_seed = tuple(float(gap) for gap in gaps)
            both = over_both(first - second, weights, clusters, level=level)
            found.append(Difference(arm, other, measure, by_seed, over_rows, over_trainings(gaps, level), both))
    return found


def share_of_gain(
    table: pa.Table, arm: str, *, clusters: Sequence[Hashable] | None = None, seed: int, level: float = 0.95
) -> Estimate:
    """How much of what the original rows gain over the base this arm gains too, in answer loss.

        (base - arm) / (base - original), sums over held-out rows of the means over seeds

    Args:
        table: From `retrain`, with the arms "base" and "original".
        arm: Another arm of it.
        clusters: As in `differences`.
        seed: Likewise.
        level: Likewise.

    Returns:
        1 where the arm gains as much; above 1 where it gains more, below 0 where it is worse than the base. The
        interval is over rows, for these very trainings. Undefined where the original rows gain nothing.
    """
    frame = table.to_pandas()
    base, original, own = (_by_seed(frame, name, "answer_nats").mean(axis=0) for name in (BASE, ORIGINAL, arm))
    if (base - original).sum() <= 0:
        why = "the original rows gain nothing over the base, so there is nothing to have a share in"
        return Estimate.undefined(method="share of the gain in answer loss", why=why, n=len(base), level=level)
    found = bootstrap(_share, base - own, base - original, paired=True, clusters=clusters, rng=seed, level=level)
    return replace(found, method=f"share of the gain in answer loss, {found.method}")


def _record(rows: ArmRows) -> object:
    if isinstance(rows, Mapping):
        return {str(seed): [list(pair) for pair in own] for seed, own in rows.items()}
    return [list(pair) for pair in rows]


def _check(arms: Mapping[str, ArmRows], held_out: Sequence[Pair], seeds: Sequence[int]) -> None:
    original = arms.get(ORIGINAL)
    if original is None or isinstance(original, Mapping):
        raise InputError(f'there is no arm "{ORIGINAL}", one for all seeds, whose rows set how long all are trained.')
    for name, rows in arms.items():
        if isinstance(rows, Mapping) and (absent := [seed for seed in seeds if not rows.get(seed)]):
            raise InputError(
                f"the arm {quoted(name)} has no rows for seed {absent[0]}; give some for each of the seeds."
            )
        if not rows:
            raise InputError(f"the arm {quoted(name)} has no rows; leave it out, or give it some.")
        if name == BASE or not name.replace("_", "").isalnum():
            raise InputError(f'{quoted(name)} is no name for an arm; expected letters and digits, other than "{BASE}".')
    if not held_out:
        raise InputError("there are no held-out rows to ask.")
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"the seeds are {list(seeds)}; expected one or more, all different.")
    known = {(normalised(pair.question), normalised(pair.answer)) for pair in original}
    both = [pair for pair in held_out if (normalised(pair.question), normalised(pair.answer)) in known]
    if both:
        raise InputError(
            f"{len(both):,} of {len(held_out):,} held-out rows stand in the original rows too; first: "
            f"{quoted(both[0].id)}. Hold out rows that were not trained on."
        )


def _train(
    lm: LanguageModel,
    steps: Sequence[Sequence[Encoded]],
    recipe: Recipe,
    seed: int,
    what: str,
    progress: Progress,
) -> dict[str, float | None]:
    try:
        log = train(lm, steps, recipe, seed=seed, on_step=lambda done, total: progress(what, done, total))
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        taken = 16 * lm.n_parameters / 2**30
        raise ModelError(
            f"memory runs out in training: weights, gradients and AdamW's moments take {taken:.1f} GiB, and the rows "
            "theirs beside. Give a smaller base, shorter rows (--max-tokens) or another --device; "
            "trainings that ended are kept."
        ) from error
    return asdict(log)


def _measure(lm: LanguageModel, pairs: Sequence[Pair], rows: Sequence[Encoded], chat: Chat) -> dict[str, Floats]:
    """Losses on each row's tokens, and whether its greedy answer is the right one to the letter.

    The answer's loss is on its own tokens, without what ends the chat, which every arm learns at once. White space and
    Unicode forms are no difference between answers.
    """
    n_opening = rows[0].n_opening
    scores = token_log_probs(lm, [row.ids[n_opening:] for row in rows], prefix=rows[0].ids[:n_opening])
    answers = [slice(row.answer_start - n_opening, row.answer_stop - n_opening) for row in rows]
    given = _greedy_answers(lm, rows, chat)
    right = [normalised(text) == normalised(pair.answer) for text, pair in zip(given, pairs, strict=True)]
    return {
        "answer_nats": np.array(
            [-score.log_probs[answer].sum(dtype=np.float64) for score, answer in zip(scores, answers, strict=True)]
        ),
        "n_answer": np.array([row.answer_stop - row.answer_start for row in rows], dtype=np.float64),
        "all_nats": np.array([-score.log_probs.sum(dtype=np.float64) for score in scores]),
        "n_all": np.array([len(score.log_probs) for score in scores], dtype=np.float64),
        "exact": np.array(right, dtype=np.float64),
        "n_rows": np.ones(len(rows)),
    }


def _greedy_answers(lm: LanguageModel, rows: Sequence[Encoded], chat: Chat) -> list[str]:
    """The most probable answer to each question, token by token, cut at the end of the chat."""
    ends = stops(lm, chat)
    marks = [mark for mark in (chat.end.strip(), *ends.texts) if mark]
    n_end = max(1, *(len(row.ids) - row.answer_stop for row in rows))
    texts: dict[int, str] = {}
    for places in _answered_together(rows, n_end, lm.n_context):
        n_prompt, n_answer = _longest([rows[place] for place in places])
        sampling = Sampling(
            max_new_tokens=min(n_answer + n_end, lm.n_context - n_prompt), temperature=0.0, stop_ids=ends.ids
        )
        prompts = [rows[place].ids[: rows[place].answer_start] for place in places]
        for place, sample in zip(places, generate(lm, prompts, sampling=sampling, seed=0), strict=True):
            text = str(lm.tokenizer.decode(list(sample.token_ids), clean_up_tokenization_spaces=False))
            texts[place] = text[: min((at for mark in marks if (at := text.find(mark)) >= 0), default=len(text))]
    return [texts[place] for place in range(len(rows))]


def _answered_together(rows: Sequence[Encoded], n_end: int, n_context: int) -> list[list[int]]:
    """Groups of rows with answers of like length, whose longest prompt and longest answer fit the context together."""
    groups: list[list[int]] = []
    for place in sorted(range(len(rows)), key=lambda at: rows[at].answer_stop - rows[at].answer_start):
        if groups and len(groups[-1]) < AT_ONCE:
            longest = _longest([rows[at] for at in (*groups[-1], place)])
            if sum(longest) + n_end <= n_context:
                groups[-1].append(place)
                continue
        groups.append([place])
    return groups


def _longest(rows: Sequence[Encoded]) -> tuple[int, int]:
    """Tokens of the longest prompt and of the longest answer."""
    return max(row.answer_start for row in rows), max(row.answer_stop - row.answer_start for row in rows)


def _part(
    arm: str,
    seed: int | None,
    pairs: Sequence[Pair],
    measured: Mapping[str, Floats],
    trained: Mapping[str, float | None],
) -> pa.Table:
    n = len(pairs)
    kinds = {"n_tokens": pa.int64(), "n_steps": pa.int64()}
    columns = {
        "arm": pa.array([arm] * n, pa.string()),
        "seed": pa.array([seed] * n, pa.int64()),
        "id": pa.array([pair.id for pair in pairs], pa.string()),
    }
    columns |= {name: pa.array(values, pa.float64()) for name, values in measured.items()}
    columns |= {name: pa.array([value] * n, kinds.get(name, pa.float64())) for name, value in trained.items()}
    return pa.table(columns)


def _by_seed(frame: pd.DataFrame, arm: str, column: str) -> Floats:
    """A column of one arm, shape (seeds, rows); (1, rows) of the base."""
    own = frame[frame["arm"] == arm]
    parts = [rows[column].to_numpy(dtype=np.float64) for _, rows in own.groupby("seed", sort=False, dropna=False)]
    return np.stack(parts)


def _ratio(sums: Floats, sizes: Floats, axis: int = -1) -> Floats:
    return np.asarray(sums.sum(axis=axis) / sizes.sum(axis=axis))


def _share(gained: Floats, whole: Floats, axis: int = -1) -> Floats:
    total = whole.sum(axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, gained.sum(axis=axis) / total, np.nan)
