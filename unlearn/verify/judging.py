"""From what was measured of subject, gold and a remedied model to the ingredients of a verdict, and the verdict.

Which measures are direct ones is fixed here and not chosen by what they show: those on which a system is asked, or
continues, as anyone would. Those that read a probability or an argmax at every token (`CLEARING`) can clear a system;
the coarser ones, which round the same knowledge to words that are right or wrong, can only warn: their noise is larger,
and asking all of them to be quiet would leave every verdict open. A measure without a gap between subject and gold says
nothing and is told so.

Attacks are shares of the plain gap (`residual.recovered`), with one exception: soft prompts are divided by the gap of
the attacked subject, because their advantage over controls has no plain value. Where there is a second gold, the
strongest of many ways is measured against the higher of the two golds, above and below the line of the fraction, so
that its denominator is a little smaller than the plain gap (`robustness.strongest`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Final

from audit.errors import InputError
from audit.forgetting.measured import Measured, joined
from audit.stats.estimate import Estimate

from .battery import Battery
from .destroyed import Destroyed, judge_destroyed
from .knowledge import MEASURES as KNOWLEDGE
from .measures import Measure
from .privacy.areas import residual as area_residual
from .privacy.membership import LABELS
from .residual import TOLERANCE, Ingredient, Kind, residual, residual_without_gold
from .robustness.quantise import WHOLE
from .robustness.quantise import ingredients as rounded_ingredients
from .robustness.relearn import Curve
from .robustness.relearn_curves import ingredient as relearned_ingredient
from .robustness.relearn_curves import key_of
from .robustness.strongest import Known, residuals
from .verdict import Verdict, decide, decide_without_gold
from .wording import MEASURES as WORDING

CLEARING: Final = ("knowledge.probability", "knowledge.probability.paraphrased", "wording.exact")
WARNING: Final = (
    "knowledge.rouge", "knowledge.rouge.paraphrased", "knowledge.answered", "knowledge.answered.paraphrased",
    "knowledge.cloze", "knowledge.reworded", "wording.rouge", "wording.extraction", "wording.answer_extraction",
    "wording.answer_exact",
    "wording.said_rouge",
)  # fmt: skip
DIRECT: Final = (*CLEARING, *WARNING)
PLAIN: Final = "as given"  # the way of asking, and the rewording, that change nothing
PLAIN_REWORDING: Final = "untouched"
#: What the strongest of many ways may reach and still be gold's noise: under odd forms a second gold is up to 0.2 of
#: the plain gap above the first, and under soft prompts r was -0.17 and 0.10 with intervals 0.2 to each side
#: (docs/methods/verification.md). Both were seen on the small testbed before this was set; the second gold of another,
#: built afterwards, keeps it (0.18 [0.10, 0.28] under soft prompts).
STRONGEST: Final = 0.5
MEASURES: Final[Mapping[str, Measure]] = {one.key: one for one in (*KNOWLEDGE, *WORDING)}


@dataclass(frozen=True, slots=True)
class Tried:
    """What was made of one system.

    Attributes:
        name: In tables.
        battery: Its measures.
        own_weights: Its weights differ from the subject's.
        prompts: Way of asking -> probability of answers.
        rounded: "whole", "int8", "int4" -> familiarity of forget rows.
        curves: Of relearning.
        soft: Advantage under soft prompts, or None.
        evasion: Rewording -> what leaks through it.
        membership: Score -> set -> scores.
        benchmarks: Task and metric -> its items, where lm-eval ran.
        missing: What was not tried -> why.
        rounded_texts: As ``rounded``, of forget texts.
    """

    name: str
    battery: Battery
    own_weights: bool = True
    prompts: Mapping[str, Measured] = field(default_factory=dict)
    rounded: Mapping[str, Measured] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    soft: Measured | None = None
    evasion: Mapping[str, Measured] = field(default_factory=dict)
    membership: Mapping[str, Mapping[str, Measured]] = field(default_factory=dict)
    benchmarks: Mapping[str, Measured] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    rounded_texts: Mapping[str, Measured] = field(default_factory=dict)

    @property
    def roundings(self) -> dict[str, Mapping[str, Measured]]:
        """What was measured, rows or texts -> its values."""
        return {"rows": self.rounded, "texts": self.rounded_texts}


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict with what it rests on."""

    name: str
    verdict: Verdict
    destroyed: Destroyed


def judge(one: Tried, subject: Tried, gold: Tried | None, *, gold_2: Tried | None = None, rng: int = 0) -> Decided:
    """The verdict on one system.

    Args:
        one: The remedied system, or the subject itself, or the second gold.
        subject: Before the remedy.
        gold: Retrained without the forget set; None where there is none.
        gold_2: Another seed of it, which widens the reference of the ways of asking; not where it is judged itself.
        rng: Seed of the bootstraps.

    Raises:
        InputError: As the comparisons: the systems were not measured alike.
    """
    never = subject.battery.never.measured.get("knowledge.rouge")
    destroyed = judge_destroyed(subject.battery.useful, one.battery.useful, never=never, rng=rng)
    why = destroyed.why if destroyed.answer else None
    missing = dict(one.missing)
    if gold is None:
        found = _without_gold(one, subject, rng)
        if not found:
            missing["never"] = "no row or text that nobody saw was measured of both; give [never]"
        verdict = decide_without_gold(found, destroyed=why, missing=missing)
    else:
        other = None if gold_2 is None or gold_2.name == one.name else gold_2
        found = ingredients(one, subject, gold, gold_2=other, rng=rng, missing=missing)
        intact = destroyed.answer is False
        verdict = decide(
            found,
            own_weights=one.own_weights,
            destroyed=why,
            intact=intact,
            missing=missing,
            required=_required(one, subject, gold),
        )
    return Decided(one.name, verdict, destroyed)


def _required(one: Tried, subject: Tried, gold: Tried) -> list[str]:
    """Without which nothing is called removed: each rounding of the plan, relearning, and other ways of asking where
    there is a row to ask; of these, by its own key, whatever was made of one of the systems and not of all."""
    three = (one, subject, gold)
    rows = bool(subject.prompts) or any(key.startswith("knowledge.") for key in subject.battery.direct.measured)
    found = ["prompts"] if rows else []
    bits = {bits for each in three for rounded in each.roundings.values() for bits in rounded if bits != WHOLE}
    found += [f"quantisation.{each}" for each in sorted(bits)] or ["quantisation"]
    found += [
        f"quantisation.{each}.{what}"
        for each in sorted(bits)
        for what in subject.roundings
        if 0 < sum(each in system.roundings[what] for system in three) < len(three)
    ]
    kinds = dict.fromkeys(curve.kind for each in three for curve in each.curves)
    partly = [kind for kind in kinds if not all(any(curve.kind == kind for curve in each.curves) for each in three)]
    return [*found, "relearning", *map(key_of, partly)]


def ingredients(
    one: Tried, subject: Tried, gold: Tried, *, gold_2: Tried | None, rng: int, missing: dict[str, str]
) -> list[Ingredient]:
    """All residuals of one system; what could not be compared is added to ``missing``."""
    made = [
        *_direct(one, subject, gold, rng, missing),
        *_prompts(one, subject, gold, gold_2, rng, missing),
        *_rounded(one, subject, gold, rng, missing),
        *_relearned(one, subject, gold, rng, missing),
        *_soft(one, subject, gold, rng),
        *_evasion(one, subject, gold, rng, missing),
        *_membership(one, subject, gold, rng, missing),
    ]
    _say_untried(made, (one, subject, gold), missing)
    return [
        replace(each, at=cache(each.at))  # a level may be asked twice
        for each in made
    ]


def _say_untried(made: Sequence[Ingredient], three: Sequence[Tried], missing: dict[str, str]) -> None:
    """A reason for each kind of attack of which nothing could be compared."""
    tried: Mapping[Kind, Callable[[Tried], bool]] = {
        "prompts": lambda each: bool(each.prompts),
        "quantisation": lambda each: any(each.roundings.values()),
        "relearning": lambda each: bool(each.curves),
        "soft prompt": lambda each: each.soft is not None,
        "membership": lambda each: bool(each.membership),
    }
    for kind, has in tried.items():
        if kind in missing or any(each.kind == kind for each in made):
            continue
        lacking = [each for each in three if not has(each)]
        reasons = [f"{each.name}: {each.missing[kind]}" for each in lacking if kind in each.missing]
        if reasons:
            missing[kind] = "; ".join(reasons)
        elif len(lacking) == len(three):
            missing[kind] = "it was tried of no system: [verify] attacks leaves it out"
        elif lacking:
            missing[kind] = f"not measured of {', '.join(each.name for each in lacking)}"
        else:
            missing[kind] = "the systems have nothing in common that could be compared"


def _say_missing(what: str, whys: Mapping[str, str | None], missing: dict[str, str]) -> None:
    """Who has no value of something that another has, and why; nothing where nobody has one."""
    lacking = {name: why for name, why in whys.items() if why is not None}
    if lacking and len(lacking) < len(whys):
        missing[what] = "; ".join(f"{name}: {why}" for name, why in lacking.items())


def _whys(three: Sequence[Tried], there: Sequence[bool], what: str, otherwise: str) -> dict[str, str | None]:
    """Name -> why a system has no value; None where it is there."""
    return {
        each.name: None if has else each.missing.get(what, each.missing.get(what.split(",")[0], otherwise))
        for each, has in zip(three, there, strict=True)
    }


def _direct(one: Tried, subject: Tried, gold: Tried, rng: int, missing: dict[str, str]) -> list[Ingredient]:
    found = []
    for key in DIRECT:
        three = (subject, one, gold)
        before, after, never = (each.battery.direct.measured.get(key) for each in three)
        if before is None or after is None or never is None:
            whys = {
                each.name: None if key in each.battery.direct.measured else each.battery.direct.missing.get(key, "none")
                for each in three
            }
            _say_missing(key, whys, missing)
            continue
        at = partial(_residual, before, after, never, rng)
        found.append(
            Ingredient(key, MEASURES[key].label, "direct", at, clear_at=TOLERANCE if key in CLEARING else None)
        )
    return found


def _residual(subject: Measured, remedied: Measured, gold: Measured, rng: int, level: float) -> Estimate:
    return residual(subject, remedied, gold, rng=rng, level=level)


def _prompts(
    one: Tried, subject: Tried, gold: Tried, gold_2: Tried | None, rng: int, missing: dict[str, str]
) -> list[Ingredient]:
    three = (subject, one, gold)
    for way in dict.fromkeys(way for each in three for way in each.prompts):
        what, there = f"prompts, {way}", [way in each.prompts for each in three]
        _say_missing(what, _whys(three, there, what, "not asked"), missing)
    ways = [way for way in subject.prompts if way in one.prompts and way in gold.prompts]
    if not ways or PLAIN not in subject.prompts or PLAIN not in gold.prompts:
        return []
    others = {} if gold_2 is None else gold_2.prompts
    known = {way: (one.prompts[way], gold.prompts[way], others.get(way)) for way in ways}
    return _ways("prompts", "ways of asking", known, subject.prompts[PLAIN], gold.prompts[PLAIN], rng)


def _ways(
    key: str,
    what: str,
    known: Mapping[str, tuple[Measured, Measured, Measured | None]],
    subject: Measured,
    gold: Measured,
    rng: int,
) -> list[Ingredient]:
    """Many attacks of a kind: all together, and the strongest, each as a share of the plain gap.

    Args:
        key: Of the ingredients.
        what: What the attacks are called.
        known: Attack -> values of the remedied system, of gold, and of a second gold or None, under it.
        subject: Plain values before the remedy.
        gold: Plain values of gold.
        rng: Seed.
    """
    compared_of = {
        way: Known(on_plain_scale(theirs, subject, gold), mine, theirs, other)
        for way, (mine, theirs, other) in known.items()
    }

    @cache
    def compared(level: float) -> Any:
        return residuals(compared_of, rng=rng, level=level)

    return [
        Ingredient(f"{key}.pooled", f"{len(known)} {what}, together", "prompts", lambda level: compared(level).pooled),
        Ingredient(
            f"{key}.strongest",
            f"the strongest of {len(known)} {what}",
            "prompts",
            lambda level: compared(level).largest,
            clear_at=STRONGEST,
        ),
    ]


def on_plain_scale(gold_attacked: Measured, subject: Measured, gold: Measured) -> Measured:
    """What the subject would give under an attack that left its lead over gold as it is, item by item.

    With it as the subject, a residual is (remedied_a - gold_a) / (subject - gold): the share of the plain gap that an
    attack brings back, as in `residual.recovered`.

    Worked: gold .1 under the attack and .2 without, the subject .9 without: .1 + .7 = .8.
    """
    three = [replace(each, name=gold_attacked.name) for each in (gold_attacked, subject, gold)]
    (attacked, before, never), passages, _ = joined(three)
    theirs = set(subject.ids) & set(gold.ids)
    ids = tuple(name for name in gold_attacked.ids if name in theirs)
    return Measured(gold_attacked.name, ids, passages, attacked + before - never)


def _rounded(one: Tried, subject: Tried, gold: Tried, rng: int, missing: dict[str, str]) -> list[Ingredient]:
    """Of rows and of texts apart: a remedy may remove the one and suppress the other."""
    three = (subject, one, gold)
    found: list[Ingredient] = []
    for what in ("rows", "texts"):
        rounded = [each.roundings[what] for each in three]
        for bits in dict.fromkeys(bits for each in rounded for bits in each):
            there = [bits in each for each in rounded]
            name = f"quantisation, {bits}, {what}"
            _say_missing(name, _whys(three, there, name, "not measured"), missing)
        common = [bits for bits in rounded[1] if all(bits in each for each in rounded)]
        if WHOLE in common:
            of_all = [{bits: each[bits] for bits in common} for each in rounded]
            found += [replace(each, key=f"{each.key}.{what}") for each in rounded_ingredients(*of_all, rng=rng)]
    return found


def _relearned(one: Tried, subject: Tried, gold: Tried, rng: int, missing: dict[str, str]) -> list[Ingredient]:
    three = (one, gold, subject)
    found = []
    for kind in dict.fromkeys(curve.kind for each in three for curve in each.curves):
        curves = [[curve for curve in each.curves if curve.kind == kind] for each in three]
        if not all(curves):
            name = f"relearning, {kind}"
            _say_missing(name, _whys(three, [bool(each) for each in curves], name, "no curve"), missing)
            continue
        found.append(relearned_ingredient(*curves, rng=rng))
    return found


def _soft(one: Tried, subject: Tried, gold: Tried, rng: int) -> list[Ingredient]:
    """Divided by the gap under the attack, unlike the others: an advantage has no plain value."""
    if one.soft is None or subject.soft is None or gold.soft is None:
        return []
    at = partial(_residual, subject.soft, one.soft, gold.soft, rng)
    return [Ingredient("soft-prompt.advantage", "advantage under soft prompts", "soft prompt", at, clear_at=STRONGEST)]


def _evasion(one: Tried, subject: Tried, gold: Tried, rng: int, missing: dict[str, str]) -> list[Ingredient]:
    """Of guards alone: a model of its own is asked in other ways already. What leaks through a rewording."""
    if one.own_weights:
        return []
    three = (subject, one, gold)
    for way in dict.fromkeys(way for each in three for way in each.evasion):
        there = [way in each.evasion for each in three]
        _say_missing(
            f"evasion, {way}",
            _whys(three, there, "evasion", "no row could be reworded so, or the guard was taught all of them"),
            missing,
        )
    ways = [way for way in one.evasion if way in subject.evasion and way in gold.evasion]
    if not ways or PLAIN_REWORDING not in subject.evasion or PLAIN_REWORDING not in gold.evasion:
        missing.setdefault("evasion", "the guard, the subject and gold were not asked the same rewordings")
        return []
    known: dict[str, tuple[Measured, Measured, Measured | None]] = {
        way: (one.evasion[way], gold.evasion[way], None) for way in ways
    }
    plain = subject.evasion[PLAIN_REWORDING], gold.evasion[PLAIN_REWORDING]
    return _ways("evasion", "rewordings past the guard", known, *plain, rng)


def _membership(one: Tried, subject: Tried, gold: Tried, rng: int, missing: dict[str, str]) -> list[Ingredient]:
    systems = (subject, one, gold)
    found: list[Ingredient] = []
    for score in dict.fromkeys(score for each in systems for score in each.membership):
        three = [each.membership.get(score, {}) for each in systems]
        there = ["forget" in by_set and "never" in by_set for by_set in three]
        if not all(there):
            name = f"membership, {score}"
            _say_missing(name, _whys(systems, there, name, "no score of both sets"), missing)
            continue
        sets = [(by_set["forget"], by_set["never"]) for by_set in three]
        at = partial(_area, sets, rng)
        label = f"membership by {LABELS.get(score, score)}"
        found.append(Ingredient(f"membership.{score}", label, "membership", at, clear_at=None))
    return found


def _area(sets: Sequence[tuple[Measured, Measured]], rng: int, level: float) -> Estimate:
    subject, remedied, gold = sets
    return area_residual(subject, remedied, gold, rng=rng, level=level)


def _without_gold(one: Tried, subject: Tried, rng: int) -> list[Ingredient]:
    found = []
    for key in DIRECT:
        before, after = (each.battery.direct.measured.get(key) for each in (subject, one))
        before_never, after_never = (each.battery.never.measured.get(key) for each in (subject, one))
        if before is None or after is None or before_never is None or after_never is None:
            continue
        at = partial(_against_never, before, before_never, after, after_never, rng)
        found.append(Ingredient(key, MEASURES[key].label, "direct", at))
    return found


def _against_never(
    before: Measured, before_never: Measured, after: Measured, after_never: Measured, rng: int, level: float
) -> Estimate:
    return residual_without_gold((before, before_never), (after, after_never), rng=rng, level=level)


def require_alike(subject: Any, gold: Any) -> None:
    """Refuse a gold model whose tokenizer is another: probabilities of its tokens say something else.

    Args:
        subject: Fingerprint of the subject as a record.
        gold: Of gold.

    Raises:
        InputError: Both are named.
    """
    files = [one["files"].get("tokenizer.json", one["tokenizer"]) for one in (subject, gold)]
    if files[0] != files[1]:
        raise InputError(
            "subject and gold have different tokenizers, so what they give the same text is not one quantity. Give a "
            f"gold model with the subject's tokenizer (tokenizer.json {files[0][:12]}; gold has {files[1][:12]})."
        )
