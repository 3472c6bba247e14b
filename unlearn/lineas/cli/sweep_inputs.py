"""What a sweep reads: texts of every kind, and the steerings that it measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.errors import InputError
from audit.lm.load import LanguageModel
from audit.runs.plan import resolve_path
from audit.text.files import sha256_file
from audit.text.safe import counted

from ..arms import Arm
from ..baselines.prompt import prompted
from ..evaluate.judge_texts import JudgeTexts, deal, normalised, shared_places
from ..files import RECORD, Steering, data_hash, load_maps, require_model
from ..maps import support_share
from ..sweep_made import ArmFacts
from .inputs import STEERING, read_sentences, steering_folder
from .sweep_plan import TEXT_FILES

LEAST_PROMPTS = 4


@dataclass(frozen=True, slots=True)
class SweepTexts:
    """All texts of a sweep.

    Attributes:
        by_key: Key of the plan -> texts.
        prompts: Each once.
        validation: Of the prompts, those that choose a strength; empty where none is chosen.
        n_repeated: Prompts that were left out because they stood there before.
        judge: What judges are trained on.
        hashes: Key -> SHA-256 of what was read.
        warnings: What a reader should know of them.
    """

    by_key: Mapping[str, tuple[str, ...]]
    prompts: tuple[str, ...]
    validation: tuple[str, ...]
    n_repeated: int
    judge: JudgeTexts
    hashes: dict[str, str]
    warnings: tuple[str, ...]


def read_sweep_texts(table: Any, path: Path) -> SweepTexts:
    """Read, check and split.

    Raises:
        InputError, DataError: As `read_sentences` and `deal`; or there are too few prompts.
    """
    found: dict[str, tuple[str, ...]] = {}
    hashes: dict[str, str] = {}
    for key in TEXT_FILES:
        where = table.texts(key, path)
        if where is not None:
            found[key], hashes[key] = read_sentences(where, field=table.field)
    shown, hidden = ("wanted", "unwanted") if table.goal == "raise" else ("unwanted", "wanted")
    without = (*found[hidden], *found.get("neither", ()))
    names = {"prompts": "the prompts", "neutral": "the neutral texts", "target_text": "the target texts",
             "source": "the source sentences", "target": "the target sentences"}  # fmt: skip
    judge = deal(
        (*found[shown], *without),
        [True] * len(found[shown]) + [False] * len(without),
        apart_from={name: found[key] for key, name in names.items() if key in found},
        seed=table.seed,
    )
    prompts = tuple({normalised(one): one for one in reversed(found["prompts"])}.values())[::-1]
    n_validation = round(table.validation * len(prompts)) if table.choose else 0
    for n, what in ((n_validation, "to choose by"), (len(prompts) - n_validation, "to report")):
        if n < LEAST_PROMPTS and (table.choose or what == "to report"):
            raise InputError(
                f"of {counted(len(prompts), 'different prompt')} {n} are left {what}; expected {LEAST_PROMPTS} or "
                "more, and some hundred for intervals of a few points. Give more prompts."
            )
    order = np.random.default_rng(table.seed).permutation(len(prompts)).tolist()
    choosing = set(order[:n_validation])
    return SweepTexts(
        found,
        tuple(one for place, one in enumerate(prompts) if place not in choosing),
        tuple(one for place, one in enumerate(prompts) if place in choosing),
        len(found["prompts"]) - len(prompts),
        judge,
        hashes,
        tuple(_warnings(found)),
    )


def _warnings(found: Mapping[str, Sequence[str]]) -> list[str]:
    if "source" not in found:
        return [
            "The sentences that the steerings were fitted on are not in their folders, so that nobody checked whether "
            "judges were trained on them; give them as source and target."
        ]
    fitted = {name: found[name] for name in ("source", "target")}
    told = []
    for key, what in (("prompts", "prompt"), ("target_text", "target text"), ("neutral", "neutral text")):
        shared = shared_places(found[key], fitted)
        if shared:
            told.append(f"{counted(len(shared), what)} of {len(found[key]):,} may have been fitted on: they stand in "
                        "the source or target sentences.")  # fmt: skip
    return told


@dataclass(frozen=True, slots=True)
class Given:
    """A steering that was given.

    Attributes:
        arm: Its maps, with a name that no other has.
        record: What is kept beside them.
        folder: Where they lie.
    """

    arm: Arm
    record: Steering
    folder: Path


def read_steerings(table: Any, path: Path) -> list[Given]:
    """The steerings of a plan, the first of them ours.

    Raises:
        InputError, DataError: As `steering_folder` and `load_maps`.
    """
    found = []
    for name in table.steering:
        folder = steering_folder(resolve_path(name, path))
        maps, record = load_maps(folder)
        found.append(Given(Arm(record.method, maps), record, folder))
    times = Counter(one.record.method for one in found)
    named: list[Given] = []
    for one in found:
        name = one.record.method
        if times[name] > 1:
            name += f" ({(one.folder.parent if one.folder.name == STEERING else one.folder).name})"
        taken = {other.arm.name for other in named}
        number = 2
        unique = name
        while unique in taken:
            unique, number = f"{name} {number}", number + 1
        named.append(replace(one, arm=Arm(unique, one.arm.maps)))
    return named


def steering_hashes(given: Sequence[Given]) -> dict[str, str]:
    """SHA-256 of each ``steering.json``, which names the maps."""
    return {f"steering-{number}": sha256_file(one.folder / RECORD) for number, one in enumerate(given, start=1)}


def require_same_model(given: Sequence[Given], lm: LanguageModel) -> None:
    """Refuse a steering of another model.

    Raises:
        ModelError, InputError: As `require_model`.
    """
    for one in given:
        require_model(one.record, lm, one.arm.maps, folder=one.folder)


def given_facts(one: Given, found: SweepTexts) -> ArmFacts:
    same = None
    if "source" in found.by_key:
        same = one.record.data == data_hash(found.by_key["source"], found.by_key["target"])
    gamma = one.record.settings.get("gamma")
    return ArmFacts(
        one.arm.name, one.record.method, len(one.arm.maps), support_share(one.arm.maps),
        None if gamma is None else float(gamma), same, one.record.n_source,
    )  # fmt: skip


def fitted_facts(arm: Arm) -> ArmFacts:
    """Of a baseline that was fitted here."""
    return ArmFacts(arm.name, arm.name, len(arm.maps), support_share(arm.maps), None, same_sentences=True)


def instruction_arm(table: Any) -> list[Arm]:
    """Words before each prompt, where the plan has them."""
    return [] if table.instruction is None else [prompted(table.instruction)]


def instruction_facts(arm: Arm) -> ArmFacts:
    return ArmFacts(arm.name, "words before the prompt", 0, None, None, None)
