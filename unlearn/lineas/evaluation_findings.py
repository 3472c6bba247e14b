"""What an evaluation of a steering says: the section of its report, and its lines in a terminal.

Nothing here is a verdict on a model. A difference whose interval holds 0 is said not to be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from audit.report.numbers import estimate as shown
from audit.runs.schema import AuditSection, EstimateRecord, Finding
from audit.stats.estimate import Estimate
from audit.text.safe import counted, quoted

from .evaluated import BOTH, Choices, Evaluated, Questions, Truthful
from .evaluation_tables import evaluation_tables

AUDIT: Final = "steer-evaluation"
QUESTIONS: Final = "items/evaluation-questions.parquet"
POINTS: Final = "items/evaluation-points.parquet"
_FOUND: Final = (
    "A difference whose whole interval is above 0 is an improvement on questions like these; one that holds 0 is "
)
_CANNOT_SHOW = (
    "What other sentences to fit on would have given: maps are taken as given, and intervals cover the draw of "
    "questions, or of continuations, alone.",
    "That a model knows more or less than before: it puts other probabilities on answers, and without the maps it is "
    "what it was.",
    "What steering does to abilities that no question here asks for.",
)


def evaluation_section(made: Evaluated) -> AuditSection:
    """The section."""
    findings: list[Finding] = []
    methods, assumptions = [], []
    if made.truthful is not None:
        findings += _truthful(made.truthful)
        methods.append(_truthful_method(made.truthful))
        assumptions.append("Questions are drawn independently from what TruthfulQA stands for.")
    if made.choices is not None:
        findings += _choices(made.choices)
        methods.append(_choices_method(made.choices))
        assumptions.append("Multiple-choice questions are drawn independently, whole clusters where the file has them.")
    if made.concept is not None:
        findings += _concept(made)
        methods.append(_concept_method(made))
        assumptions.append("Continuations of one opening are independent draws; another opening gives another rate.")
    findings += [
        _information(f"warning-{number}", told, "A warning of the evaluation itself.")
        for number, told in enumerate(_warnings(made), start=1)
    ]
    if made.maps:
        methods.append(f"Maps of multiple choice and concepts: {made.maps}.")
    return AuditSection(
        audit=AUDIT,
        title="Steering: what it does to answers and to what is written",
        method=" ".join(methods),
        assumptions=tuple(assumptions),
        cannot_show=_CANNOT_SHOW,
        findings=tuple(findings),
        tables=evaluation_tables(made),
    )


def evaluation_record(made: Evaluated) -> dict[str, Any]:
    """For the run's file, and for `evaluation_lines`."""
    return made.to_record() | {"warnings": _warnings(made)}


def evaluation_lines(record: Mapping[str, Any]) -> list[str]:
    """For a terminal, from `evaluation_record`."""
    told = []
    if (one := record["truthfulqa"]) is not None:
        told.append(
            f"TruthfulQA, {counted(one['questions']['asked'], 'question')}, each with {one['method']} maps of the "
            "other half:"
        )
        for row in one["rows"]:
            if row["halves"] == BOTH:
                for name, by_chance in zip(("mc1", "mc2"), one["chance"], strict=True):
                    ends = [_shown(row[f"{name}_{part}"]) for part in ("before", "after", "change")]
                    told.append(
                        f"  {name.upper()} at strength {row['strength']:g}: {ends[0]} unsteered, {ends[1]} steered, "
                        f"difference {ends[2]} (by chance {by_chance:.3f})"
                    )
    if (one := record["choices"]) is not None:
        told.append(
            f"multiple choice, {counted(one['questions']['asked'], 'question')} (by chance {one['chance']:.3f}):"
        )
        told += [
            f"  {row['how']} at strength {row['strength']:g}: {_shown(row['before'])} unsteered, "
            f"{_shown(row['after'])} steered, difference {_shown(row['change'])}"
            for row in one["rows"]
        ]
    if (one := record["concept"]) is not None:
        told.append(f"{one['continuations']:,} continuations of {quoted(one['opening'])} for each strength:")
        for judge, rows in one["rows"].items():
            told += [f"  {judge}, {_at(row['strength'])}: rate {_shown(row['rate']['rate'])}" for row in _once(rows)]
        told += [
            f"  perplexity of neutral texts at strength {row['strength']:g}: "
            f"{_shown(row['perplexity_change']['neutral']['per token'])}%"
            for row in _once(next(iter(one["rows"].values())))
            if row["strength"]
        ]
    return told + [f"warning: {one}" for one in record["warnings"]]


def _at(strength: float) -> str:
    return f"strength {strength:g}" if strength else "unsteered"


def _once(rows: list[Any]) -> list[Any]:
    """The unsteered model once: an arm's strength 0 is the same."""
    return [row for place, row in enumerate(rows) if place == 0 or row["strength"] != 0]


def _warnings(made: Evaluated) -> list[str]:
    told = [] if made.concept is None else list(made.concept.warnings)
    outside = [f"{one:g}" for one in made.strengths() if not 0 <= one <= 1]
    if outside:
        told.append(f"Strengths outside 0 to 1 were measured ({', '.join(outside)}); the paper has none of them.")
    for name, one in (("TruthfulQA", made.truthful), ("multiple choice", made.choices)):
        if one is not None and one.questions.too_long:
            told.append(
                f"{counted(one.questions.too_long, 'question')} of {name} did not fit the model's context and were "
                "left out; short questions may be easier."
            )
    return told


def _truthful_method(one: Truthful) -> str:
    before = "after the benchmark's own six questions" if one.primer else "with nothing before it"
    return (
        f"TruthfulQA (arXiv:2109.07958): {_asked(one.questions)}, in two halves. In each half {one.method} maps were "
        f"fitted on {counted(one.sentences, 'sentence')} of each side, questions with a false answer against questions "
        f"with a true one, and measured on the other half. Each question stands {before}. MC1 is the share of "
        "questions whose best answer is likelier than every false one, MC2 the share of probability that true answers "
        "have; whole answers, not normalised by length. Differences are paired by question."
    )


def _choices_method(one: Choices) -> str:
    return (
        f"Multiple choice: {_asked(one.questions)}, zero-shot. By letter, options are listed in the prompt "
        f"({one.format}) and the likeliest letter is the choice; by option, each stands after the question as plain "
        "text and the one with the highest log-probability per byte is. Differences are paired by question."
    )


def _concept_method(made: Evaluated) -> str:
    assert made.concept is not None
    return (
        f"Concepts: {made.concept.settings} after {quoted(made.opening)}, the same random numbers at each strength. A "
        "continuation shows a concept where one of its words stands in it, so that rates are lower bounds; the paper's "
        "judge is a language model. The cost is the perplexity of neutral texts under the same maps."
    )


def _asked(one: Questions) -> str:
    told = counted(one.asked, "question")
    return told if one.asked == one.given else f"{told} of {one.given:,} in the file"


def _truthful(one: Truthful) -> list[Finding]:
    found = []
    for number, (strength, change) in enumerate(one.whole(), start=1):
        estimates, told = {}, []
        for name, by_chance in zip(("MC1", "MC2"), one.chance, strict=True):
            parts = [getattr(change, f"{name.lower()}_{part}") for part in ("before", "after", "change")]
            for part, value in zip(("unsteered", "steered", "difference"), parts, strict=True):
                estimates[f"{name}, {part}"] = EstimateRecord.of(value)
            told.append(f"{name} {_moved(*parts)} (by chance {by_chance:.3g})")
        found.append(
            _information(
                f"truthfulqa-{number}",
                f"TruthfulQA at strength {strength:g}: {'; '.join(told)}.",
                f"{_FOUND}not shown to be one. The maps saw no question that they are measured on.",
                estimates,
                QUESTIONS,
            )
        )
    return found


def _choices(one: Choices) -> list[Finding]:
    return [
        _information(
            f"choices-{number}",
            f"Multiple choice {row.how} at strength {row.strength:g}: accuracy "
            f"{_moved(row.before, row.after, row.change)} (by chance {one.chance:.3g}).",
            f"{_FOUND}not shown to be one. A model at chance has nothing to lose, so that no cost can be seen on it.",
            {
                "unsteered": EstimateRecord.of(row.before),
                "steered": EstimateRecord.of(row.after),
                "difference": EstimateRecord.of(row.change),
            },
            QUESTIONS,
        )
        for number, row in enumerate(one.rows, start=1)
    ]


def _concept(made: Evaluated) -> list[Finding]:
    assert made.concept is not None
    found = []
    for number, (judge, rows) in enumerate(made.concept.rows.items(), start=1):
        estimates, told = {}, []
        for row in rows[1:]:
            if not row.strength:
                continue
            at = f"strength {row.strength:g}"
            estimates[f"rate, {at}"] = EstimateRecord.of(row.rate.rate)
            estimates[f"difference, {at}"] = EstimateRecord.of(row.rate_change)
            cost = row.perplexity_change["neutral"]["per token"]
            estimates[f"change of perplexity in percent, {at}"] = EstimateRecord.of(cost)
            told.append(f"{_value(row.rate.rate)} at {at} (perplexity {_value(cost)}%)")
        estimates = {"rate, unsteered": EstimateRecord.of(rows[0].rate.rate)} | estimates
        found.append(
            _information(
                f"concept-{number}",
                f"Continuations show {judge} at a rate of {_value(rows[0].rate.rate)} unsteered, {', '.join(told)}.",
                "A difference whose whole interval is above 0 is induction, at that cost. Where perplexity rises far, "
                "words can be said without sense.",
                estimates,
                POINTS,
            )
        )
    return found


def _moved(before: Estimate, after: Estimate, change: Estimate) -> str:
    verdict = ""
    if change.value is not None and (change.low is None or change.high is None or change.low <= 0 <= change.high):
        verdict = ", not shown to be one"
    return f"is {_value(after)} instead of {_value(before)}, difference {shown(EstimateRecord.of(change))}{verdict}"


def _value(one: Estimate) -> str:
    return "not estimable" if one.value is None else f"{one.value:.3g}"


def _information(
    name: str,
    claim: str,
    how_to_read: str,
    estimates: dict[str, EstimateRecord] | None = None,
    items: str | None = None,
) -> Finding:
    return Finding(
        id=f"{AUDIT}.{name}",
        audit=AUDIT,
        claim=claim,
        verdict="information",
        estimates=estimates or {},
        items=items,
        how_to_read=how_to_read,
    )


def _shown(one: Mapping[str, Any]) -> str:
    return shown(EstimateRecord(**one))
