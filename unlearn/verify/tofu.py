r"""TOFU's numbers of one system, those that the rows allow, and why the others are missing.

    p, ROUGE-L recall, ln R, max(0, 1 - R)    of forget, retain, real authors, world facts: `audit.answers.qa`
    forget quality                            p-value of a two-sample KS test of R against gold: `audit.answers.quality`
    model utility                             harmonic mean of nine: `audit.answers.utility`

Source: Maini et al. 2024 (arXiv:2401.06121). The utility is a mean of exactly nine numbers: without a file of real
authors or world facts it is undefined, and no mean of six is put in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from audit.answers.qa import MAX_NEW_TOKENS, USEFUL, Part, Qa, measure_qa, measure_rouge
from audit.answers.quality import Tested
from audit.answers.quality import forget_quality as test_quality
from audit.answers.rows import QaRow
from audit.answers.systems import Scope, System
from audit.answers.utility import model_utility
from audit.errors import InputError
from audit.stats.checks import Seed
from audit.stats.estimate import Estimate
from audit.text.safe import quoted

from .found import Found, kept, together
from .measures import Axis, Direction, Measure

PARTS: Final[tuple[Part, ...]] = get_args(Part)
_SOURCE: Final = "TOFU, arXiv:2401.06121"


def _of_part(part: Part) -> tuple[Measure, ...]:
    axis: Axis = "knowledge" if part == "forget" else "utility"
    up: Direction = "more is known" if part == "forget" else "more is useful"
    down: Direction = "less is known" if part == "forget" else "less is useful"
    options = part in USEFUL[1:]
    return (
        Measure(
            _key("probability", part), f"probability, {part}", axis, up, 0.0, 1.0,
            "p_right / (p_right + sum p_wrong)" if options else "p = exp(mean log p(token)) of the answer", _SOURCE,
            "of the options' probabilities, not of an answer" if options else "any change of style lowers it",
        ),
        Measure(
            _key("rouge", part), f"ROUGE-L recall, {part}", axis, up, 0.0, 1.0,
            "LCS of stems / stems of the answer, greedy, 200 new tokens", f"{_SOURCE}; its 200 count the prompt too",
            "words that the question hands over give a floor",
        ),
        Measure(
            _key("log_ratio", part), f"ln truth ratio, {part}", axis, down, None, None,
            "ln R = mean over wrong answers of log p_wrong - log p_right, p of a token", _SOURCE,
            "undefined where a system refuses; a broken model drifts to 0, where a model that never knew is as well",
        ),
        Measure(
            _key("truth", part), f"max(0, 1 - R), {part}", axis, up, 0.0, 1.0,
            "max(0, 1 - R), 0 where the system refuses", _SOURCE, "0 for refusing and for R >= 1 alike",
        ),
    )  # fmt: skip


def _key(name: str, part: Part) -> str:
    return f"tofu.{name}.{part.replace(' ', '_')}"


MEASURES: Final[tuple[Measure, ...]] = (
    *(one for part in PARTS for one in _of_part(part)),
    Measure(
        "tofu.forget_quality", "forget quality", "knowledge", "neither", 0.0, 1.0,
        "p of a two-sample KS test of R on the forget rows, system against gold", _SOURCE,
        "large says only that these rows do not suffice; both answer the same rows: p too large; undefined if refused",
    ),
    Measure(
        "tofu.utility", "model utility", "utility", "more is useful", 0.0, 1.0,
        "harmonic mean of {p, ROUGE-L recall, max(0, 1 - R)} x {retain, real authors, world facts}", _SOURCE,
        "0 as soon as one of the nine is 0; the smallest of the nine rules it",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tofu:
    """TOFU's measures of one system in one scope.

    Attributes:
        parts: What was measured, by part.
        found: The same by key, and why the rest is missing.
    """

    parts: Mapping[Part, Qa]
    found: Found

    def utility(self, *, rng: Seed, level: float = 0.95) -> Estimate:
        """Model utility; undefined, with the parts that are missing, where not all nine numbers are there."""
        absent = [part for part in USEFUL if part not in self.parts]
        if absent:
            why = f"there are no rows of {' and '.join(absent)}, and the utility is a mean of nine numbers"
            return Estimate.undefined(method="model utility", why=why, level=level)
        return model_utility([self.parts[part] for part in USEFUL], rng=rng, level=level)

    def forget_quality(self, gold: Tofu | None, *, level: float = 0.95) -> tuple[Tested, ...]:
        """Raw, folded and by cluster; one undefined test where gold or the forget rows are missing."""
        if gold is None:
            why = "there is no gold model, and forget quality is a comparison with one"
        elif "forget" not in self.parts or "forget" not in gold.parts:
            why = "there are no forget rows"
        else:
            return test_quality(self.parts["forget"], gold.parts["forget"], level=level)
        return (Tested("raw", Estimate.undefined(method="KS distance, raw", why=why, level=level), None),)


def measure_tofu(
    system: System,
    rows: Mapping[Part, Sequence[QaRow]],
    *,
    scope: Scope = "prompt",
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Tofu:
    """Everything of one system.

    Args:
        system: Whose.
        rows: Part -> its rows; parts that are not there, or have no rows, are said to be missing.
        scope: How far a guard's corruption reaches where answers are scored.
        max_new_tokens: Of a greedy answer.

    Raises:
        InputError: A part is not one of TOFU's four.
    """
    if strange := [part for part in rows if part not in PARTS]:
        raise InputError(f"{quoted(strange[0])} is no part of TOFU; expected {', '.join(PARTS)}.")
    parts: dict[Part, Qa] = {}
    found: list[Found] = []
    for part in PARTS:
        if not rows.get(part):
            keys = [_key(name, part) for name in ("probability", "rouge", "log_ratio", "truth")]
            found.append(Found({}, dict.fromkeys(keys, f"there are no rows of {part}")))
            continue
        rouge = measure_rouge(system, rows[part], part, max_new_tokens=max_new_tokens)
        parts[part] = one = measure_qa(system, rows[part], part, rouge, scope=scope)
        named = zip(("probability", "rouge", "log_ratio", "truth"), one.measures, strict=True)
        found += [kept(_key(name, part), measured) for name, measured in named]
    return Tofu(parts, together(*found))
