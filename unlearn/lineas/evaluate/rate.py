"""How often what a model writes shows an attribute: continuations of prompts, the prompt removed, judged.

    rate = continuations that the judge flags / continuations that are not empty

Source: spec of activation steering, section 3. Decoding as in the code of Linear-AcT (arXiv:2410.23054), since LinEAS's
own for toxicity is not sourced: one continuation, 32 new tokens, temperature 1, top_p 0.3. Departure: its repetition
penalty of 1.2 is left out; our generator has none, and so weak models repeat themselves more here.

Prompts are what was drawn, so that they are resampled, with all seeds of a prompt together. Two arms that are given one
seed use the same random numbers, and at strength 0 they write the same, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from audit.errors import DataError, InputError
from audit.forgetting.continuing import check_room, text_after
from audit.forgetting.measured import Measured
from audit.lm.generate import Sampling, generate
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.stats.checks import Seed
from audit.stats.estimate import Estimate
from audit.text.safe import quoted

from ..arms import Arm
from ..steer import steered
from .judges import Judge

DECODING: Final = Sampling(max_new_tokens=32, temperature=1.0, top_p=0.3)
EMPTY: Final = "the continuation is empty"


@dataclass(frozen=True, slots=True)
class Continuations:
    """What an arm wrote.

    Attributes:
        arm: Whose.
        strength: At which.
        prompts: n prompts, without any instruction.
        seeds: Of the samples.
        texts: For each seed the text after each prompt.
    """

    arm: str
    strength: float
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...]

    def to_record(self) -> dict[str, Any]:
        """Plain JSON, from which `from_record` makes it again."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Continuations:
        return cls(
            record["arm"],
            float(record["strength"]),
            tuple(record["prompts"]),
            tuple(record["seeds"]),
            tuple(map(tuple, record["texts"])),
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """An attribute's rate.

    Attributes:
        judge: Who judged.
        rate: Over prompts and seeds.
        by_seed: Of each seed alone.
        n_empty: Continuations that count nowhere.
        n: Continuations in all.
    """

    judge: str
    rate: Estimate
    by_seed: tuple[Estimate, ...]
    n_empty: int
    n: int

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def continue_prompts(
    lm: LanguageModel,
    arm: Arm,
    strength: float,
    prompts: Sequence[str],
    *,
    sampling: Sampling = DECODING,
    seeds: Sequence[int] = (0,),
    batch_size: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Continuations:
    """One continuation of each prompt for each seed, the arm acting on prompt and continuation.

    Args:
        lm: The model.
        arm: How it is steered.
        strength: Of the maps; at 0 the arm does nothing, its instruction included.
        prompts: One or more.
        sampling: Without stop tokens the tokenizer's end-of-sequence token stops.
        seeds: One or more, all different.
        batch_size: As for `audit.lm.generate`.
        on_done: Called after each batch with the number of continuations in it.

    Raises:
        InputError: No prompts or seeds, or a seed twice.
        DataError: A prompt has no token, or no room for the new ones.
        ModelError: As `audit.lm.generate` and `unlearn.lineas.steer.steered`.
    """
    if not prompts or not seeds or len(set(seeds)) < len(seeds):
        raise InputError(
            f"there are {len(prompts):,} prompts and the seeds {list(seeds)}; expected one prompt or more, and one or "
            "more different seeds."
        )
    eos = lm.tokenizer.eos_token_id
    if not sampling.stop_ids and eos is not None:
        sampling = replace(sampling, stop_ids=(int(eos),))
    whole = prompted(arm, strength, prompts)
    encoded = encode(lm, whole)
    names = [f"prompt {place + 1} ({quoted(prompt)})" for place, prompt in enumerate(prompts)]
    check_room(lm, names, encoded, n_new=sampling.max_new_tokens, least=0 if lm.bos_id is not None else 1)
    empty = next((place for place, prompt in enumerate(prompts) if not prompt.strip()), None)
    if empty is not None:
        raise DataError(f"prompt {empty + 1} is blank; expected text that can be continued.")
    ids = [[*prefix_ids(lm), *one] for one in encoded]
    texts = []
    with steered(lm.model, arm.maps, strength):
        for seed in seeds:
            found = generate(lm, ids, sampling=sampling, seed=seed, batch_size=batch_size, on_done=on_done)
            texts.append(
                tuple(text_after(lm, before, one.token_ids) for before, one in zip(encoded, found, strict=True))
            )
    return Continuations(arm.name, float(strength), tuple(prompts), tuple(seeds), tuple(texts))


def prompted(arm: Arm, strength: float, prompts: Sequence[str]) -> list[str]:
    """Prompts as the model reads them: behind the arm's instruction and a space, except at strength 0."""
    if not arm.instruction or strength == 0:
        return list(prompts)
    gap = "" if arm.instruction[-1].isspace() else " "
    return [f"{arm.instruction}{gap}{prompt}" for prompt in prompts]


def judged(judge: Judge, found: Continuations) -> Measured:
    """1 or 0 for each continuation; a blank one has no value.

    Raises:
        InputError: The judge gives another number of flags.
    """
    rows = zip(found.seeds, found.texts, strict=True)
    items = [(place, seed, text) for seed, row in rows for place, text in enumerate(row)]
    kept = [item for item in items if item[2].strip()]
    texts = list(dict.fromkeys(text for _, _, text in kept))
    flags = judge.flags(texts) if texts else np.zeros(0, dtype=np.bool_)
    if flags.shape != (len(texts),):
        raise InputError(f"{judge.name} gave {flags.shape} flags for {len(texts)} texts; expected one for each.")
    said = dict(zip(texts, flags.tolist(), strict=True))
    return Measured(
        f"attribute rate by {judge.name}",
        tuple(_item(place, seed) for place, seed, _ in kept),
        tuple(_unit(place) for place, _, _ in kept),
        np.array([float(said[text]) for _, _, text in kept]),
        {_item(place, seed): EMPTY for place, seed, text in items if not text.strip()},
    )


def attribute_rate(judge: Judge, found: Continuations, *, rng: Seed = 0, level: float = 0.95) -> Rate:
    """The rate with its interval: Wilson's for one seed, a bootstrap of prompts for several.

    Args:
        judge: Who judges.
        found: What was written.
        rng: Seed or generator of the bootstrap.
        level: Confidence level, in (0, 1).
    """
    return rate_of(judged(judge, found), judge.name, found.seeds, rng=rng, level=level)


def rate_of(shown: Measured, judge: str, seeds: Sequence[int], *, rng: Seed = 0, level: float = 0.95) -> Rate:
    """As `attribute_rate`, of what was `judged` already."""
    by_seed = tuple(_of_seed(shown, seed).mean(rng=rng, level=level) for seed in seeds)
    n_empty = len(shown.left_out)
    return Rate(judge, shown.mean(rng=rng, level=level), by_seed, n_empty, n_empty + len(shown.values))


def unit_of(item: str) -> str:
    """The prompt of a continuation, by its id in what `judged` gives."""
    return item.partition(",")[0]


def _of_seed(shown: Measured, seed: int) -> Measured:
    kept = [place for place, item in enumerate(shown.ids) if item.endswith(f", seed {seed}")]
    return Measured(
        shown.name,
        tuple(shown.ids[place] for place in kept),
        tuple(shown.passages[place] for place in kept),
        shown.values[kept],
        {item: why for item, why in shown.left_out.items() if item.endswith(f", seed {seed}")},
    )


def _unit(place: int) -> str:
    return f"prompt {place + 1}"


def _item(place: int, seed: int) -> str:
    return f"prompt {place + 1}, seed {seed}"
