r"""Completion familiarity: does a model go on with what only the book says?

Each prompt is continued by sampling; a completion is scored by the references that stand in it but not in the prompt:

    3  names or details unique to the book       2  a typical theme, unprompted
    1  could be a lucky guess                    0  none

Paper: Eldan & Russinovich 2023, arXiv:2310.02238, which asks GPT-4. How it normalises the score could not be confirmed.

    scale "unit"   (5 n_3 + n_2) / (5 N)     in [0, 1]; the normaliser is inferred from the paper's baseline of 0.290
    scale "lynch"  (5 n_3 + n_2) / N         in [0, 5]; the code of Lynch et al. 2024, arXiv:2402.16835

Departures: the scorer is a list of expressions, not a language model, so it needs no network and gives one score for
one text; a judge model can be asked as well (`judge`). 1 adds nothing in either scale, and is given only where a list
says what can be guessed. Raw counts are always kept. Sampling defaults (20 new tokens, temperature 1, top-k 5) are
those of Lynch et al.'s code; the paper's own are not sourced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..errors import InputError
from ..lm.generate import Sampling, generate
from ..lm.load import LanguageModel
from ..lm.tokens import encode, prefix_ids
from ..stats.checks import Seed, choice
from ..stats.estimate import Estimate
from ..text.safe import quoted
from .continuing import check_room, text_after
from .measured import Measured
from .prompts import Prompt, check_prompts
from .terms import Case, Terms, canonical

LYNCH = Sampling(max_new_tokens=20, temperature=1.0, top_k=5)
WEIGHTS = {3: 5, 2: 1, 1: 0, 0: 0}
MAX_FAILED = 0.1  # share of completions without a score above which there is no familiarity
Scale = Literal["unit", "lynch"]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample after one prompt.

    Attributes:
        prompt_id: Whose.
        passage: Of the prompt.
        sample: 0, 1, ... of this prompt.
        seed: Of the whole job.
        index: Random stream of that seed, as in `audit.lm.generate`.
        text: What the model wrote, special tokens left out.
        n_tokens: New tokens.
        stopped: Whether it ended by itself.
    """

    prompt_id: str
    passage: str
    sample: int
    seed: int
    index: int
    text: str
    n_tokens: int
    stopped: bool


def sample_completions(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling = LYNCH,
    seed: int,
    n_samples: int = 1,
    on_done: Callable[[int], None] | None = None,
) -> list[Completion]:
    """``n_samples`` completions of each prompt; two models given one seed use the same random numbers.

    Args:
        lm: The model.
        prompts: At least one.
        sampling: How tokens are drawn; the end-of-sequence token ends a sample unless it names other stop ids.
        seed: >= 0.
        n_samples: 1 or more.
        on_done: Called with the number of samples finished.

    Raises:
        InputError: There are no prompts, or two share an id.
        DataError: A prompt does not fit the context beside its new tokens.
        ModelError: As `audit.lm.generate.generate`.
    """
    check_prompts(prompts)
    if n_samples < 1:
        raise InputError(f"n_samples is {n_samples}; expected 1 or more.")
    if not sampling.stop_ids and lm.tokenizer.eos_token_id is not None:
        sampling = replace(sampling, stop_ids=(int(lm.tokenizer.eos_token_id),))
    lead = prefix_ids(lm)
    texts = encode(lm, [prompt.text for prompt in prompts])
    check_room(lm, [f"prompt {quoted(prompt.id)}" for prompt in prompts], texts, n_new=sampling.max_new_tokens)
    ids = [lead + one for one in texts for _ in range(n_samples)]
    made = generate(lm, ids, sampling=sampling, seed=seed, on_done=on_done)
    return [
        Completion(
            prompt_id=prompts[one.index // n_samples].id,
            passage=prompts[one.index // n_samples].passage,
            sample=one.index % n_samples,
            seed=seed,
            index=one.index,
            text=text_after(lm, before, one.token_ids),
            n_tokens=len(one.token_ids),
            stopped=one.stopped,
        )
        for one, before in zip(made, ids, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Rubric:
    """What the scorer without a network looks for.

    Attributes:
        unique: Names and expressions of this book alone: 3.
        typical: Themes that are typical of it and of others (wizards): 2. Empty: no completion gets a 2.
        guessable: What a model could have guessed: 1. Empty: none gets a 1.
        case: As in `terms.Terms`, for all three.
    """

    unique: tuple[str, ...]
    typical: tuple[str, ...] = ()
    guessable: tuple[str, ...] = ()
    case: Case = "as written"

    def __post_init__(self) -> None:
        if not self.unique:
            raise InputError("the rubric names nothing that is unique to the book; expected at least one expression.")
        lists = [("unique", self.unique), ("typical", self.typical), ("guessable", self.guessable)]
        homes: dict[str, str] = {}
        for name, listed in lists:
            Terms(listed, self.case)
            for term in listed:
                if homes.setdefault(term, name) != name:
                    raise InputError(f"{quoted(term)} stands in the lists {homes[term]} and {name}; keep it in one.")


@dataclass(frozen=True, slots=True)
class Scored:
    """One completion's score.

    Attributes:
        prompt_id: Whose.
        passage: Of the prompt.
        sample: Number of the completion.
        score: 3, 2, 1 or 0; None where the scorer failed.
        found: References that stand in the completion and not in the prompt.
        scorer: "rubric" or "judge".
        failure: Why there is no score.
    """

    prompt_id: str
    passage: str
    sample: int
    score: int | None
    found: tuple[str, ...]
    scorer: str
    failure: str | None = None


def score_by_rubric(prompts: Sequence[Prompt], completions: Sequence[Completion], rubric: Rubric) -> list[Scored]:
    """Score each completion by the lists of the rubric.

    A reference counts where it begins in the completion, whose first letters may belong to the prompt's last word. It
    does not count where the prompt holds it, in any case, or lists it (or an expression that holds it) among its
    references: a name that was handed over is no knowledge. So keep everyday words ("Will") out of the lists.

    Raises:
        InputError: A completion's prompt is not among ``prompts``.
    """
    lists = [(3, rubric.unique), (2, rubric.typical), (1, rubric.guessable)]
    terms = [(score, Terms(listed, rubric.case)) for score, listed in lists]
    by_id = prompts_of(prompts, completions)
    scored = []
    for one in completions:
        prompt = by_id[one.prompt_id]
        known = "\n".join([prompt.text, *prompt.references])
        new = [(score, new_references(prompt.text, one.text, listed, known)) for score, listed in terms]
        best = max((score for score, found in new if found), default=0)
        references = tuple(term for _, found in new for term in found)
        scored.append(Scored(one.prompt_id, one.passage, one.sample, best, references, "rubric"))
    return scored


def new_references(prompt: str, completion: str, terms: Terms, known: str) -> tuple[str, ...]:
    """Terms that begin in ``completion``, read as it follows ``prompt``, and do not stand in ``known`` in any case."""
    found = terms.found_in(prompt + completion, start=len(canonical(prompt)))
    given = set(Terms(found, "any").found_in(known)) if found else set()
    return tuple(term for term in found if term not in given)


@dataclass(frozen=True, slots=True)
class Familiarity:
    """Completion familiarity of one model.

    Attributes:
        estimate: On the scale that was asked for, whole passages resampled.
        scale: Which.
        counts: Score -> completions with it, all four named.
        n_failed: Completions without a score.
        share_unique: Share of prompts' completions with a score of 3.
        measured: The mean of (5 [3] + [2]) / 5 over each prompt's completions, for comparisons.
    """

    estimate: Estimate
    scale: Scale
    counts: dict[int, int]
    n_failed: int
    share_unique: Estimate
    measured: Measured


def familiarity(scored: Sequence[Scored], *, scale: Scale = "unit", rng: Seed, level: float = 0.95) -> Familiarity:
    """Aggregate scores; completions without one are left out and said to be, never counted as 0.

    Args:
        scored: Of one model and one scorer.
        scale: See the head of this file.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).

    Returns:
        Both estimates are undefined where more than a tenth of the completions have no score; ``why`` says between
        which numbers they lie, whatever the missing scores are.

    Raises:
        InputError: There are no scores, or two scorers are mixed.
    """
    choice(scale, "scale", ("unit", "lynch"))
    scorers = sorted({one.scorer for one in scored})
    if len(scorers) != 1:
        raise InputError(f"the scores come from {scorers or 'no scorer'}; expected those of one scorer.")
    counts = Counter(one.score for one in scored if one.score is not None)
    failed = [one for one in scored if one.score is None]
    measured = _measured(scored, f"completion familiarity ({scorers[0]})", lambda score: WEIGHTS[score] / 5)
    estimate = measured.mean(rng=rng, level=level)
    unique = _measured(scored, f"share of completions with a 3 ({scorers[0]})", lambda score: float(score == 3))
    factor = 5.0 if scale == "lynch" else 1.0
    formula = "(5 n3 + n2) / N, Lynch et al." if scale == "lynch" else "(5 n3 + n2) / 5N"
    sure = factor * sum(WEIGHTS[score] * n for score, n in counts.items()) / 5
    sizes = len(failed), len(scored)
    return Familiarity(
        estimate=_with_failures(
            _times(replace(estimate, method=f"{estimate.method}; {formula}"), factor), sure, factor, *sizes
        ),
        scale=scale,
        counts={score: counts[score] for score in WEIGHTS},
        n_failed=len(failed),
        share_unique=_with_failures(unique.mean(rng=rng, level=level), counts[3], 1.0, *sizes),
        measured=measured,
    )


def _with_failures(estimate: Estimate, sure: float, most: float, n_failed: int, n_all: int) -> Estimate:
    """The estimate with its bounds for any missing scores, of which each adds 0 to ``most`` to the sum ``sure``."""
    if not n_failed:
        return estimate
    low, high = sure / n_all, (sure + most * n_failed) / n_all
    bounds = f"{n_failed} of {n_all} completions have no score; with any for them {low:.4g} to {high:.4g}"
    if n_failed > MAX_FAILED * n_all:
        return Estimate.undefined(method=estimate.method, why=bounds, n=estimate.n, level=estimate.level)
    return replace(estimate, why="; ".join(part for part in (estimate.why, bounds) if part))


def _measured(scored: Sequence[Scored], name: str, value: Callable[[int], float]) -> Measured:
    values: dict[str, list[float]] = {}
    passages: dict[str, str] = {}
    failures: dict[tuple[str, int], str] = {}
    for one in scored:
        if one.score is None:
            failures[one.prompt_id, one.sample] = one.failure or "no reason was recorded"
        else:
            values.setdefault(one.prompt_id, []).append(value(one.score))
            passages[one.prompt_id] = one.passage
    means = np.array([float(np.mean(of_prompt)) for of_prompt in values.values()])
    left_out = {f"{name}#{sample}" if name in values else name: why for (name, sample), why in failures.items()}
    return Measured(name, tuple(values), tuple(passages[identifier] for identifier in values), means, left_out)


def _times(estimate: Estimate, factor: float) -> Estimate:
    value, low, high = (
        None if number is None else factor * number for number in (estimate.value, estimate.low, estimate.high)
    )
    return replace(estimate, value=value, low=low, high=high)


def prompts_of(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> dict[str, Prompt]:
    """Id -> prompt, with one for every completion.

    Raises:
        InputError: A completion's prompt is missing.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    strange = next((one.prompt_id for one in completions if one.prompt_id not in by_id), None)
    if strange is not None:
        raise InputError(f"a completion is of prompt {quoted(strange)}, which is not there; give the prompts it is of.")
    return by_id
