"""The stages of an extraction audit that ask a model: sampling it, and the likelihood of questions. Each is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..lm.load import LanguageModel, Tokens
from ..progress import Progress
from ..runs.shards import ShardedTable
from ..runs.store import Run
from ..text.files import make_folder, storage_errors
from .likelihood import Prompts, scored
from .sample import SamplePlan, plan_samples, rates, sample_in_parts
from .samplers import Local

Role = Literal["subject", "reference"]
#: Role -> table of what the model wrote.
GENERATIONS: dict[Role, str] = {"subject": "extraction-generations", "reference": "extraction-base-generations"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What one model is asked.

    Attributes:
        plan: Samples; chat and prefixes are the post-trained model's for both.
        prompts: Questions whose likelihood is wanted, as this model's tokens, or None.
        batch_size: As for `audit.lm.generate.generate`.
    """

    plan: SamplePlan
    prompts: Prompts | None = None
    batch_size: int | None = None


def plan_for(lm: LanguageModel | Tokens, plan: SamplePlan, *, seed: int) -> SamplePlan:
    """The same chat, prefixes and sampling for another model, or for this one once its configuration is known.

    Raises:
        InputError: As in `audit.extraction.sample.plan_samples`.
    """
    drawn = plan.sampling
    return plan_samples(
        lm,
        plan.chat,
        plan.prefixes,
        n=plan.n,
        seed=seed,
        temperature=drawn.temperature,
        top_p=drawn.top_p,
        top_k=drawn.top_k,
        max_new_tokens=drawn.max_new_tokens,
    )


def ask(run: Run, role: Role, load: Callable[[], LanguageModel], asked: Asked, *, progress: Progress) -> None:
    """Sample a model and score the questions, unless the run holds the results; the model is loaded once at most.

    Generations go to `GENERATIONS` and likelihoods to ``extraction-likelihood-<role>``. Generations may be training
    text, so they and their parts can be read by their owner alone.

    Raises:
        ModelError, InputError: As in `audit.extraction.sample.sample_in_parts`; finished parts stay.
    """
    loaded: list[LanguageModel] = []

    def model() -> LanguageModel:
        if not loaded:
            loaded.append(load())
        return loaded[0]

    stage, name = f"extraction.sample.{role}", GENERATIONS[role]
    if not run.has(stage):
        parts = make_folder(run.folder / "parts")
        with storage_errors(parts, kept="nothing was changed", doing="protect"):
            parts.chmod(0o700)

        def open_parts(part: str, key: str, n_parts: int) -> ShardedTable:
            return run.shards(part.replace("generations", name), key=key, n_parts=n_parts)

        with run.stage(stage) as detail:
            lm = model()
            run.add_subject(role, lm.to_record())
            generations = sample_in_parts(
                Local(lm, batch_size=asked.batch_size),
                plan_for(lm, asked.plan, seed=asked.plan.seed),
                open_parts=open_parts,
                progress=lambda what, done, total: progress(f"{what} the {role}", done, total),
            )
            run.write_items(name, generations, secret=True)
            found = rates(generations)
            detail |= {"generations": found.n, "parsed": found.n_parsed, "distinct": found.n_distinct}
    if asked.prompts is not None:
        scored(run, role, asked.prompts, model, progress=progress, what="questions")
