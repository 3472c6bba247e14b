r"""How much likelier post-training made the questions that it was given, and questions that it was not.

For a question with tokens q_1 .. q_n after the prefix c that opens a chat,

    log p(q) = sum_t log p(q_t | c, q_<t)        the question's tokens alone, in nats
    Delta(D) = mean over the questions of D of log p_post(q) - log p_base(q)

and what is reported is Delta(trained) - Delta(held out): the template's familiarity and the ways of asking raise both.
The paper plots, for reinforcement learning, how many prompts lie above each likelihood before and after; here is the
same curve for both halves.

Prefix and question are cut into tokens together, as text that a model meets; a token that holds characters of both
belongs to the question. Both models must give the same ids, or their numbers would be about different things.
`audit.membership.context` reads markers as plain text, since what stands in a file must not steer a model; a prefix is
made of markers, so the forward pass is asked for here, with the prefix's keys and values computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DataError, InputError, ModelError
from ..lm.load import LanguageModel, Tokens
from ..lm.logprobs import token_log_probs
from ..lm.tokens import check_ids, encode
from ..progress import Progress
from ..runs.records import content_key
from ..runs.shards import ShardedTable
from ..runs.store import Run
from ..stats.bootstrap import bootstrap
from ..stats.checks import finite_vector, label_codes
from ..stats.estimate import Estimate, PValue
from ..stats.stratified import stratified_permutation
from ..text.safe import counted, quoted
from .prefixes import Prefix

Floats = NDArray[np.float64]
PART_QUESTIONS = 512  # questions that are scored between two writes
MOST_THRESHOLDS = 100
N_DRAWS = 9_999


@dataclass(frozen=True, slots=True)
class Prompts:
    """Questions as token ids after a prefix.

    Attributes:
        ids: A name for each question.
        token_ids: Prefix and question of each.
        n_before: How many of those ids are the prefix alone.
        prefix_ids: The prefix.
    """

    ids: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    n_before: tuple[int, ...]
    prefix_ids: tuple[int, ...]

    @property
    def n_straddling(self) -> int:
        """Questions whose first token also holds characters of the prefix."""
        return sum(n < len(self.prefix_ids) for n in self.n_before)


@dataclass(frozen=True, slots=True)
class Curve:
    """How many questions are at least so likely.

    Attributes:
        log10: Thresholds, powers of ten from likely to unlikely.
        base: Questions at or above each under the base model.
        post: Under the post-trained model.
        n: Questions in all.
    """

    log10: tuple[float, ...]
    base: tuple[int, ...]
    post: tuple[int, ...]
    n: int


@dataclass(frozen=True, slots=True)
class LikelihoodShift:
    """What post-training did to the likelihood of questions; all shifts in nats a question.

    Attributes:
        trained: Mean shift of the trained questions.
        held_out: Of the held-out ones.
        difference: The first less the second; its interval draws clusters of near-duplicates anew in both halves.
        median_difference: The same of the two medians.
        p_value: Re-dealing of whole clusters to the halves, one-sided; valid where the division was random.
        trained_curve: Counts above each likelihood.
        held_out_curve: Likewise, at the same likelihoods.
    """

    trained: Estimate
    held_out: Estimate
    difference: Estimate
    median_difference: Estimate
    p_value: PValue
    trained_curve: Curve
    held_out_curve: Curve


def cut(lm: LanguageModel | Tokens, prefix: Prefix, questions: Sequence[str], ids: Sequence[str]) -> Prompts:
    """Token ids of each question after the prefix.

    Args:
        lm: The model, or its tokenizer alone.
        prefix: What opens the chat; its ids may come from another model, and must then be this one's too.
        questions: The questions.
        ids: A name for each.

    Raises:
        InputError: There is no question, or not one name for each.
        DataError: A question is empty, too long, or holds a special token of the tokenizer.
        ModelError: The tokenizer cuts the prefix otherwise, or a token has no embedding.
    """
    if not questions or len(questions) != len(ids):
        raise InputError(f"{len(questions):,} questions and {len(ids):,} ids; expected one of each, and at least one.")
    _refuse_special(lm, questions, ids)
    lead = require_prefix(lm, prefix)
    whole, n_before = [], []
    for name, found in zip(ids, encode(lm, [prefix.text + one for one in questions], parse_special=True), strict=True):
        tokens = (*lead, *found)
        n_common = next((at for at, (a, b) in enumerate(zip(tokens, prefix.ids, strict=False)) if a != b), None)
        n_common = min(len(tokens), len(prefix.ids)) if n_common is None else n_common
        if len(tokens) == n_common:
            raise DataError(f"question {quoted(name)} is empty; leave it out.")
        if n_common == 0:
            raise DataError(
                f"question {quoted(name)} grows into one token with the whole prefix {quoted(prefix.text)}, so nothing "
                "stands before it. Give a prefix that ends in a marker or in white space."
            )
        if len(tokens) > lm.n_context:
            raise DataError(
                f"question {quoted(name)} has {len(tokens):,} tokens with the prefix; the model "
                f"{quoted(lm.subject.model, limit=200)} accepts at most {lm.n_context:,}. Leave it out."
            )
        whole.append(tokens)
        n_before.append(n_common)
    check_ids(lm, [f"question {quoted(name)}" for name in ids], whole)
    return Prompts(tuple(ids), tuple(whole), tuple(n_before), prefix.ids)


def require_prefix(lm: LanguageModel | Tokens, prefix: Prefix) -> list[int]:
    """Refuse a tokenizer that cuts the prefix otherwise; gives the ids before its text: a BOS, or none.

    Raises:
        ModelError: The ids differ.
    """
    alone = encode(lm, [prefix.text], parse_special=True)[0]
    lead = list(prefix.ids[: max(0, len(prefix.ids) - len(alone))])  # a BOS that is not part of the text
    if tuple(lead + alone) != prefix.ids:
        raise ModelError(
            f"the tokenizer of {quoted(lm.subject.model, limit=200)} cuts the prefix {quoted(prefix.text)} into "
            f"{len(alone)} tokens that are not those it came with ({len(prefix.ids)}, a beginning-of-sequence token "
            "included), so the two models cannot be compared. Put the post-trained model's tokenizer files beside the "
            "base model's weights."
        )
    return lead


def unfit(lm: LanguageModel | Tokens, prefix: Prefix, questions: Sequence[str]) -> list[str | None]:
    """Why each question cannot be asked of the model, or None; `cut` refuses what this names."""
    lead = require_prefix(lm, prefix)
    room = lm.n_context - len(lead)
    plain, parsed = encode(lm, questions), encode(lm, questions, parse_special=True)
    whole = encode(lm, [prefix.text + one for one in questions], parse_special=True)
    reasons: list[str | None] = []
    for own, other, tokens in zip(plain, parsed, whole, strict=True):
        if own != other:
            reasons.append("holds a special token")
        elif not own:
            reasons.append("empty")
        else:
            reasons.append("longer than the context" if len(tokens) > room else None)
    return reasons


def require_same(base: Prompts, post: Prompts) -> None:
    """Refuse two models that cut a question into different tokens.

    Raises:
        ModelError: The first such question is named.
    """
    differing = [
        place
        for place, (one, other) in enumerate(zip(base.token_ids, post.token_ids, strict=True))
        if one != other or base.n_before[place] != post.n_before[place]
    ]
    if differing:
        first = differing[0]
        raise ModelError(
            f"the two models cut {counted(len(differing), 'question')} of {len(base.ids):,} into different tokens; "
            f"first: {quoted(base.ids[first])} ({len(base.token_ids[first]):,} tokens with the prefix under the base "
            f"model, {len(post.token_ids[first]):,} under the post-trained one), so their likelihoods are not of the "
            "same thing. Put the post-trained model's tokenizer files beside the base model's weights."
        )


def log_likelihoods(
    lm: LanguageModel,
    prompts: Prompts,
    *,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Floats:
    """log p of each question after the prefix, in nats, shape (n,): token by token in float32, added up in float64.

    Raises:
        ModelError: As in `audit.lm.logprobs.token_log_probs`, or a value is not a finite number.
    """
    shared = min(prompts.n_before)
    scores = token_log_probs(
        lm,
        [tokens[shared:] for tokens in prompts.token_ids],
        prefix=prompts.prefix_ids[:shared],
        n_unscored=[n - shared for n in prompts.n_before],
        token_budget=token_budget,
        on_done=on_done,
    )
    values = np.array([score.log_probs.sum(dtype=np.float64) for score in scores])
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ModelError(
            f"the model {quoted(lm.subject.model, limit=200)} gives {counted(len(bad), 'question')} a likelihood that "
            f"is not a finite number; first: {quoted(prompts.ids[bad[0]])}. Its weights are broken, or "
            f"{lm.model.dtype} is too small for it: try --dtype float32."
        )
    return values


def log_likelihoods_in_parts(
    lm: LanguageModel,
    prompts: Prompts,
    *,
    open_parts: Callable[[str, int], ShardedTable],
    what: str,
    progress: Progress,
    token_budget: int | None = None,
) -> pa.Table:
    """As `log_likelihoods`, in parts that a killed job does not do again; columns id, n_tokens, log_likelihood.

    Args:
        lm: The model.
        prompts: From `cut`.
        open_parts: (key, number of parts) -> where finished parts are kept.
        what: Name of the work, for ``progress``.
        progress: Told the number of questions done.
        token_budget: As in `audit.lm.logprobs.token_log_probs`.
    """
    n = len(prompts.ids)
    parts = [slice(start, min(start + PART_QUESTIONS, n)) for start in range(0, n, PART_QUESTIONS)]
    key = content_key(
        ids=prompts.ids,
        token_ids=prompts.token_ids,
        n_before=prompts.n_before,
        dtype=str(lm.model.dtype),
        device=lm.device.type,  # another kind of device rounds otherwise, and one table holds one rounding
        model=lm.fingerprint.to_record(),
        parts=PART_QUESTIONS,
    )
    with open_parts(key, len(parts)) as table:
        done = sum(parts[number].stop - parts[number].start for number in table.done())

        def tell(more: int) -> None:
            nonlocal done
            done += more
            progress(what, done, n)

        tell(0)
        for number in table.missing():
            part = parts[number]
            own = Prompts(prompts.ids[part], prompts.token_ids[part], prompts.n_before[part], prompts.prefix_ids)
            values = log_likelihoods(lm, own, token_budget=token_budget, on_done=tell)
            n_tokens = [len(tokens) - n for tokens, n in zip(own.token_ids, own.n_before, strict=True)]
            columns = {
                "id": pa.array(own.ids, pa.string()),
                "n_tokens": pa.array(n_tokens, pa.int64()),
                "log_likelihood": pa.array(values, pa.float64()),
            }
            table.write(number, pa.table(columns))
        return table.assemble()


def scored(
    run: Run, role: str, prompts: Prompts, load: Callable[[], LanguageModel], *, progress: Progress, what: str
) -> Floats:
    """`log_likelihoods` kept in a run under ``extraction-likelihood-<role>`` and read back from it, shape (n,).

    Args:
        run: What an earlier attempt finished is not done again.
        role: "subject" (the post-trained model) or "reference" (its base).
        prompts: From `cut`.
        load: Loads the model; called only when something is left to score.
        progress: Called as the work goes on.
        what: The questions in words: "questions".
    """
    name, stage = f"extraction-likelihood-{role}", f"extraction.likelihood.{role}"
    if not run.has(stage):
        with run.stage(stage) as detail:
            lm = load()
            run.add_subject(role, lm.to_record())
            table = log_likelihoods_in_parts(
                lm,
                prompts,
                open_parts=lambda key, n_parts: run.shards(name, key=key, n_parts=n_parts),
                what=f"Scoring {what} with the {role}",
                progress=progress,
            )
            run.write_items(name, table)
            detail["questions"] = len(prompts.ids)
    return np.asarray(run.read_items(name)["log_likelihood"].to_numpy(), dtype=np.float64)


def likelihood_shift(
    base: Floats,
    post: Floats,
    trained: NDArray[np.bool_],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    level: float = 0.95,
) -> LikelihoodShift:
    """Delta of the trained questions less that of the held-out ones, with interval and exact test.

    Args:
        base: log p under the base model, shape (n,).
        post: Under the post-trained model, shape (n,).
        trained: Whether each question was trained on, shape (n,).
        clusters: A label for each; near-duplicates share one, and a cluster lies in one half.
        seed: Seed of draws and dealings.
        level: Level of the intervals.

    Raises:
        InputError: The columns do not fit each other, a half is empty, or a cluster lies in both.
    """
    base, post = finite_vector(base, "base"), finite_vector(post, "post")
    if not len(base) == len(post) == len(trained):
        raise InputError(f"{len(base):,} base, {len(post):,} post and {len(trained):,} trained; expected one of each.")
    codes, names = label_codes(clusters, "clusters", n=len(base))
    sizes, n_trained = np.bincount(codes), np.bincount(codes, weights=trained)
    if trained.all() or not trained.any():
        raise InputError("all questions are of one half; expected trained and held-out ones.")
    if ((n_trained > 0) & (n_trained < sizes)).any():
        raise InputError("a cluster of near-duplicates lies in both halves; divide the questions by cluster.")
    shift = post - base
    inside = n_trained > 0  # by cluster
    sums = np.bincount(codes, weights=shift)
    # A cluster's deviation from the mean of all questions: their sum over the trained half orders the dealings.
    p_value = stratified_permutation(sums - sizes * shift.mean(), inside, n_draws=N_DRAWS, rng=seed)
    p_value = PValue(
        p_value.value,
        p_value.attainable,
        p_value.n,
        f"re-dealing of {len(names):,} clusters to the halves, {p_value.method}",
    )
    columns = (sums * inside, sizes * inside, sums * ~inside, sizes * ~inside)
    halves = np.where(inside, "trained", "held out")
    halfwise = [
        bootstrap(_ratio, sums[half], sizes[half], paired=True, rng=seed, level=level) for half in (inside, ~inside)
    ]
    labels, at = np.array(codes), powers(base, post)
    return LikelihoodShift(
        trained=halfwise[0],
        held_out=halfwise[1],
        difference=bootstrap(_difference, *columns, paired=True, strata=halves.tolist(), rng=seed, level=level),
        median_difference=bootstrap(
            _median_difference,
            shift[trained],
            shift[~trained],
            clusters=[labels[trained].tolist(), labels[~trained].tolist()],
            rng=seed,
            level=level,
        ),
        p_value=p_value,
        trained_curve=curve(base[trained], post[trained], at),
        held_out_curve=curve(base[~trained], post[~trained], at),
    )


def powers(*values: Floats) -> Floats:
    """Powers of ten from 1 down to where every value counts, as exponents; at most `MOST_THRESHOLDS` or so."""
    lowest = math.floor(min(float(one.min()) for one in values) / math.log(10))
    step = max(1, math.ceil(-lowest / (MOST_THRESHOLDS - 1)))
    return -np.arange(0, -lowest + step, step, dtype=np.float64)


def curve(base: Floats, post: Floats, log10: Floats) -> Curve:
    """Questions at or above each power of ten."""
    counts = [(values[:, None] >= log10 * math.log(10)).sum(axis=0) for values in (base, post)]
    return Curve(tuple(log10.tolist()), tuple(int(n) for n in counts[0]), tuple(int(n) for n in counts[1]), n=len(base))


def _refuse_special(lm: LanguageModel | Tokens, questions: Sequence[str], ids: Sequence[str]) -> None:
    plain, parsed = encode(lm, questions), encode(lm, questions, parse_special=True)
    bad = [name for name, one, other in zip(ids, plain, parsed, strict=True) if one != other]
    if bad:
        raise DataError(
            f"{counted(len(bad), 'question')} of {len(ids):,} hold a special token of the tokenizer of "
            f"{quoted(lm.subject.model, limit=200)} in their text, which would steer the model; first: "
            f"{quoted(bad[0])}. Take it out of the text, or leave such questions out."
        )


def _ratio(sums: Floats, sizes: Floats, axis: int = -1) -> Floats:
    return np.asarray(sums.sum(axis=axis) / sizes.sum(axis=axis))


def _difference(sums: Floats, sizes: Floats, other_sums: Floats, other_sizes: Floats, axis: int = -1) -> Floats:
    return np.asarray(_ratio(sums, sizes, axis) - _ratio(other_sums, other_sizes, axis))


def _median_difference(trained: Floats, held_out: Floats, axis: int = -1) -> Floats:
    return np.asarray(np.median(trained, axis=axis) - np.median(held_out, axis=axis))
