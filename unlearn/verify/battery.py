"""Everything that is measured of one system, in pieces that are kept as they are made.

    direct        what it knows of the forget set, asked as it was trained and in other words; wording of forget texts
    never         the same of rows and texts that nobody saw: controls
    useful        losses on general and neighbour texts, knowledge of neighbour rows, soundness of its answers
    tofu          TOFU's measures on real authors and world facts, for the model utility
    muse          VerbMem and KnowMem; greedy answers are the other measures', with as many tokens (MUSE: 32)

The same rows, texts, tokens and settings for every system; a piece that was made is read again to the bit. A guard has
no logits that may be read as its own: what needs them is missing, with the reason. What a remedy was tuned on is left
out of its measures, item by item, with the reason: forget rows, and never rows that it was shown as harmless. A guard's
classifier is taught all plain forget questions, so that it is judged on other wordings of them (paraphrased, by another
name, translated). These are new as prompts and not as facts: of facts that it was not shown they say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final

from audit.answers.formats import PromptFormat
from audit.answers.qa import Part as QaPart
from audit.answers.qa import Qa
from audit.answers.rows import QaRow
from audit.answers.systems import System
from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage
from audit.forgetting.verbatim import VerbatimPlan
from audit.lm.load import LanguageModel

from .found import Found, together
from .knowledge import measure_knowledge
from .muse import measure_knowmem, measure_verbmem
from .tofu import Tofu, measure_tofu
from .utility import Knowledge, TextLosses, Useful, measure_losses
from .utility import measure_knowledge as measure_neighbours
from .wording import measure_answer_wording, measure_said_wording, measure_wording

NO_LOSS: Final = "it only answers: the loss of the model behind it is not its own"
TUNED: Final = "the remedy was tuned on this prompt"
_OTHER_PROMPT: Final = (".paraphrased", ".alias", ".translated")  # suffixes of keys that ask in other words


@dataclass(frozen=True, slots=True)
class Subjected:
    """What is measured of: a system, and what may be read of it.

    Attributes:
        name: In tables.
        system: Who answers.
        lm: The model whose logits are the system's own; None for a guard.
        form: How a question becomes its input.
        saw: Whether the remedy was tuned on a prompt.
    """

    name: str
    system: System
    lm: LanguageModel | None
    form: PromptFormat
    saw: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Material:
    """The rows and texts of a verification; any but the forget set may be empty."""

    forget_rows: Sequence[QaRow] = ()
    forget_texts: Sequence[Passage] = ()
    never_rows: Sequence[QaRow] = ()
    never_texts: Sequence[Passage] = ()
    neighbour_rows: Sequence[QaRow] = ()
    neighbour_texts: Sequence[Passage] = ()
    general_texts: Sequence[Passage] = ()
    real_authors: Sequence[QaRow] = ()
    world_facts: Sequence[QaRow] = ()


@dataclass(frozen=True, slots=True)
class Battery:
    """See the head of this file.

    Attributes:
        direct: By key of `measures.Measure`.
        never: By the same keys.
        useful: Utility, and what of it is missing.
        tofu: Part -> TOFU's measures; the neighbours are its retain part.
        muse: By key of `muse.MEASURES`.
    """

    direct: Found
    never: Found
    useful: Useful
    tofu: Mapping[QaPart, Qa]
    muse: Found

    def tofu_of(self) -> Tofu:
        return Tofu(self.tofu, Found({}, {}))

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values, to the bit."""
        useful = self.useful
        return {
            "direct": _found_record(self.direct),
            "never": _found_record(self.never),
            "general": None if useful.general is None else useful.general.to_record(),
            "neighbour": None if useful.neighbour is None else useful.neighbour.to_record(),
            "knowledge": None if useful.knowledge is None else _knowledge_record(useful.knowledge),
            "missing": dict(useful.missing),
            "tofu": {part: one.to_record() for part, one in self.tofu.items()},
            "muse": _found_record(self.muse),
        }

    @classmethod
    def of_record(cls, told: Mapping[str, Any]) -> Battery:
        """What `to_record` wrote."""
        texts = [None if told[name] is None else TextLosses.of_record(told[name]) for name in ("general", "neighbour")]
        knowledge = None if told["knowledge"] is None else _knowledge(told["knowledge"])
        tofu = {part: Qa.of_record(one) for part, one in told["tofu"].items()}
        useful = Useful(texts[0], texts[1], knowledge, told["missing"])
        return cls(_found(told["direct"]), _found(told["never"]), useful, tofu, _found(told["muse"]))


def measure_battery(
    one: Subjected,
    material: Material,
    *,
    max_new_tokens: int,
    plan: VerbatimPlan,
    on_part: Callable[[int, int], None] = lambda done, total: None,
) -> Battery:
    """Measure one system.

    Args:
        one: The system.
        material: Rows and texts.
        max_new_tokens: Of an answer.
        plan: How texts are continued.
        on_part: Called with the number of parts finished, and of all.

    Raises:
        InputError, DataError, ModelError: As the measures.
    """
    n_parts = 5
    on_part(0, n_parts)
    direct = _known(one, material.forget_rows, material.forget_texts, "forget", max_new_tokens, plan)
    on_part(1, n_parts)
    never = _known(one, material.never_rows, material.never_texts, "never", max_new_tokens, plan)
    on_part(2, n_parts)
    useful = _useful(one, material, max_new_tokens)
    on_part(3, n_parts)
    rows: dict[QaPart, Sequence[QaRow]] = {"real authors": material.real_authors, "world facts": material.world_facts}
    given = {part: listed for part, listed in rows.items() if listed}
    tofu = dict(measure_tofu(one.system, given, max_new_tokens=max_new_tokens).parts) if given else {}
    if useful.knowledge is not None:
        tofu["retain"] = useful.knowledge.qa
    unseen = [row for row in material.forget_rows if not one.saw(row.prompt)]
    if unseen:
        tofu |= measure_tofu(one.system, {"forget": unseen}, max_new_tokens=max_new_tokens).parts
    on_part(4, n_parts)
    muse = _muse(one, unseen, material, max_new_tokens, plan)
    on_part(5, n_parts)
    return Battery(direct, never, useful, tofu, muse)


def _muse(
    one: Subjected, forget: Sequence[QaRow], material: Material, max_new_tokens: int, plan: VerbatimPlan
) -> Found:
    found = [
        measure_knowmem(one.system, rows, retained=retained, max_new_tokens=max_new_tokens)
        for rows, retained in ((forget, False), (material.neighbour_rows, True))
        if rows
    ]
    if material.forget_rows and not forget:
        found.append(Found({}, {"muse.knowmem_forget": f"all {len(material.forget_rows):,} rows: {TUNED}"}))
    if one.lm is not None and material.forget_texts:
        found.append(measure_verbmem(one.lm, material.forget_texts, plan=plan))
    return together(*found)


def without_seen(found: Found, seen: set[str], seen_in_other_words: set[str]) -> Found:
    """The same without items that the remedy was tuned on; a measure of which none is left is missing.

    Args:
        found: By key.
        seen: Ids of rows whose own question was seen.
        seen_in_other_words: Ids of rows whose other wording was.
    """
    measured: dict[str, Measured] = {}
    missing = dict(found.missing)
    for key, whole in found.measured.items():
        left = without(whole, seen_in_other_words if key.endswith(_OTHER_PROMPT) else seen)
        if len(left.ids):
            measured[key] = left
        else:
            missing[key] = f"all {len(whole.ids):,} items: {TUNED}"
    return Found(measured, missing)


def without(measured: Measured, seen: set[str]) -> Measured:
    """The same without some items, which are told."""
    kept = [place for place, name in enumerate(measured.ids) if name not in seen]
    if len(kept) == len(measured.ids):
        return measured
    return replace(
        measured,
        ids=tuple(measured.ids[place] for place in kept),
        passages=tuple(measured.passages[place] for place in kept),
        values=measured.values[kept],
        left_out=dict(measured.left_out) | {name: TUNED for name in measured.ids if name in seen},
    )


def _known(
    one: Subjected,
    rows: Sequence[QaRow],
    texts: Sequence[Passage],
    part: str,
    max_new_tokens: int,
    plan: VerbatimPlan,
) -> Found:
    """Of rows, those that the remedy was not tuned on; a text may have a row's id and is not left out for it."""
    found = []
    if rows:
        asked = measure_knowledge(one.system, rows, part, max_new_tokens=max_new_tokens)
        if one.lm is not None:
            asked = together(asked, measure_answer_wording(one.lm, one.form, rows, part))
        seen, seen_in_other_words = (
            {row.id for row in rows if one.saw(prompt(row))}
            for prompt in (attrgetter("prompt"), attrgetter("paraphrased_prompt"))
        )
        found.append(without_seen(asked, seen, seen_in_other_words))
    if texts and one.lm is not None:
        found.append(measure_wording(one.lm, texts, plan=plan))
    elif texts:
        found.append(measure_said_wording(one.system, texts, plan=plan))
    return together(*found)


def _useful(one: Subjected, material: Material, max_new_tokens: int) -> Useful:
    missing: dict[str, str] = {}
    losses: dict[str, TextLosses | None] = {"general": None, "neighbour": None}
    for name, texts in (("general", material.general_texts), ("neighbour", material.neighbour_texts)):
        if not texts:
            missing[f"utility.{name}_loss"] = f"no {name} texts were given"
        elif one.lm is None:
            missing[f"utility.{name}_loss"] = NO_LOSS
        else:
            losses[name] = measure_losses(one.lm, texts, name)  # type: ignore[arg-type]
    knowledge = None
    if material.neighbour_rows:
        knowledge = measure_neighbours(one.system, material.neighbour_rows, max_new_tokens=max_new_tokens)
    else:
        missing["utility.probability"] = "no neighbour rows were given"
    return Useful(losses["general"], losses["neighbour"], knowledge, missing)


def _found_record(found: Found) -> dict[str, Any]:
    measured = {key: one.to_record() for key, one in found.measured.items()}
    return {"measured": measured, "missing": dict(found.missing)}


def _found(told: Mapping[str, Any]) -> Found:
    return Found({key: Measured.of_record(one) for key, one in told["measured"].items()}, told["missing"])


def _knowledge_record(one: Knowledge) -> dict[str, Any]:
    return {
        "qa": one.qa.to_record(),
        "said": list(one.said),
        "repetition": one.repetition.to_record(),
        "sound": one.sound.to_record(),
    }


def _knowledge(told: Mapping[str, Any]) -> Knowledge:
    repetition, sound = (Measured.of_record(told[name]) for name in ("repetition", "sound"))
    return Knowledge(Qa.of_record(told["qa"]), tuple(told["said"]), repetition, sound)
