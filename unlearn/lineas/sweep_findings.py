"""What a sweep says: the section of its report, and its lines in a terminal.

Nothing here is a verdict on a model. It says plainly where our arm does not beat another, where judges are poor, and
where strengths are outside of what the method's paper tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from audit.report.numbers import estimate as shown
from audit.runs.schema import AuditSection, EstimateRecord, Finding
from audit.text.safe import counted

from .sweep_made import Compared, Swept
from .sweep_tables import sweep_tables

AUDIT: Final = "steer-sweep"
POINTS: Final = "items/sweep-points.parquet"
POOR: Final = 0.8  # AUROC below which a judge is called poor; ours, a convention
PRIMARY: Final = "neutral"  # texts at whose perplexity a comparison's claim is made
_CANNOT_SHOW = (
    "That people would see the attribute where a judge does: a rate is the judge's, with its errors on both sides.",
    "What other sentences to fit on would have given: maps are taken as given, and intervals cover the draw of prompts "
    "and texts alone.",
    "What steering does to abilities that no text here asks for.",
)


def sweep_section(made: Swept) -> AuditSection:
    """The section."""
    findings = [*_effect(made), *_comparisons(made), _judges(made)]
    if made.choice:
        findings.append(_choice(made))
    findings += [
        _information(f"warning-{number}", told, "A warning of the sweep itself.")
        for number, told in enumerate(_warnings(made), start=1)
    ]
    rate = "what is wanted" if made.goal == "raise" else "what is unwanted"
    return AuditSection(
        audit=AUDIT,
        title="Steering: effect and cost",
        method=(
            f"Each arm wrote continuations of {counted(len(made.points[0].continuations.prompts), 'prompt')} "
            f"({made.settings}); judges, trained on texts apart from prompts and steering sentences, say which show "
            f"{rate}. Costs are perplexities of texts under the same maps. A strength means another thing in each "
            "method, so that arms are compared where they cost the same: at our perplexity, the other arm's rate "
            "interpolated. Intervals are bootstraps of prompts and texts, or Wilson's; all prompts and texts are the "
            "same for all arms."
        ),
        assumptions=(
            "Prompts and texts are drawn independently from what they stand for.",
            "Between two measured strengths a rate changes with the logarithm of perplexity in a straight line.",
        ),
        cannot_show=_CANNOT_SHOW,
        findings=tuple(findings),
        tables=sweep_tables(made),
    )


def sweep_record(made: Swept) -> dict[str, Any]:
    """For the run's file, and for `sweep_lines`."""
    told = {"warnings": _warnings(made), "text_warnings": list(made.warnings), "settings": made.settings}
    return made.to_record() | told


def sweep_lines(record: Mapping[str, Any]) -> list[str]:
    """For a terminal, from `sweep_record`."""
    ours = record["ours"]
    how = f"chosen: {ours['rule']}" if ours["judge"] else "given"
    told = [f"{ours['arm']} at strength {ours['strength']:g} ({how}), {record['n_prompts']:,} prompts:"]
    for number, (judge, rows) in enumerate(record["rows"].items()):
        plain = rows[0]
        row = next(one for one in rows if one["arm"] == ours["arm"] and one["strength"] == ours["strength"])
        told.append(
            f"  {_of_goal(record['goal'])} rate by {judge}: {_shown(plain['rate']['rate'])} unsteered, "
            f"{_shown(row['rate']['rate'])} steered"
        )
        if number == len(record["rows"]) - 1:
            told += [
                f"  perplexity of {name} texts: {_shown(kinds['per token'])}%"
                for name, kinds in row["perplexity_change"].items()
            ]
    others = dict.fromkeys(one["baseline"] for one in record["compared"])
    for other in others:
        own = [one for one in record["compared"] if one["baseline"] == other and one["texts"] == PRIMARY]
        told.append(f"  {_verdict(ours['arm'], other, [one['outcome'] for one in own])}")
        for one in own:
            if one["difference"]["value"] is not None:
                told.append(f"    by {one['judge']}: difference of rates {_shown(one['difference'])}")
        told += [f"    {why}" for why in dict.fromkeys(_why(one["difference"]) for one in own) if why]
    told += [f"  {line}" for line in _poor(record["judges"])]
    return told + [f"  warning: {one}" for one in record["warnings"]]


def _warnings(made: Swept) -> list[str]:
    """Of the texts, of prompts that were left out, and of strengths that the paper does not have."""
    told = list(made.warnings)
    outside = sorted({point.strength for point in made.points if point.outside_paper})
    if outside:
        listed = ", ".join(f"{one:g}" for one in outside)
        told.append(
            f"Strengths outside 0 to 1 were measured ({listed}); the paper has none of them. Rates can fall again "
            "there, and perplexity rises fast."
        )
    if made.n_repeated:
        told.append(f"{counted(made.n_repeated, 'prompt')} stood there before and counted once.")
    return told


def _effect(made: Swept) -> list[Finding]:
    estimates: dict[str, EstimateRecord] = {}
    told = []
    place = made.our_place
    for judge, rows in made.rows.items():
        plain, row = rows[0].rate.rate, rows[place].rate.rate
        estimates[f"rate by {judge}, unsteered"] = EstimateRecord.of(plain)
        estimates[f"rate by {judge}, steered"] = EstimateRecord.of(row)
        estimates[f"change by {judge}"] = EstimateRecord.of(rows[place].rate_change)
        told.append(f"{_value(row.value)} instead of {_value(plain.value)} by {judge}")
    costs = []
    for name in made.texts:
        change = EstimateRecord.of(next(iter(made.rows.values()))[place].perplexity_change[name]["per token"])
        estimates[f"change of perplexity in percent, {name} texts"] = change
        costs.append(f"{_value(change.value)}% of {name} texts")
    return [
        _information(
            "effect",
            f"{made.ours.arm} at strength {made.ours.strength:g}: continuations show what is {_of_goal(made.goal)} at "
            f"a rate of {'; '.join(told)}. Perplexity changes by {' and by '.join(costs)}.",
            f"The rate is to {'rise' if made.goal == 'raise' else 'fall'}. A change whose interval holds 0 is not "
            "shown to be one. On target texts perplexity may fall because steering works.",
            estimates,
        )
    ]


def _comparisons(made: Swept) -> list[Finding]:
    found = []
    for number, other in enumerate(dict.fromkeys(one.matched.baseline for one in made.compared), start=1):
        own = [one for one in made.compared if one.matched.baseline == other]
        primary = [one for one in own if one.texts == PRIMARY]
        estimates = {
            f"difference by {one.judge}, {one.texts} texts": EstimateRecord.of(one.matched.difference) for one in own
        }
        place = max(place for place, point in enumerate(made.points) if point.arm == other)
        bare = ""
        if not made.points[place].scaled:
            rates = {judge: rows[place].rate.rate for judge, rows in made.rows.items()}
            estimates |= {f"rate of {other} by {judge}": EstimateRecord.of(rate) for judge, rate in rates.items()}
            bare = f" Its rate is {' and '.join(f'{_value(rate.value)} by {judge}' for judge, rate in rates.items())}."
        found.append(
            _information(
                f"against-{number}",
                f"{_verdict(made.ours.arm, other, [one.outcome for one in primary])} {_differences(primary)}{bare}",
                "The claim is of neutral texts' perplexity, and says better or worse only where every judge's whole "
                "interval does; each interval is of a single comparison.",
                estimates,
            )
        )
    return found


def _verdict(ours: str, other: str, outcomes: Sequence[str]) -> str:
    at = "at the same perplexity of neutral texts"
    if all(one in ("not comparable", "no interval") for one in outcomes):
        return f"{ours} cannot be compared with {other} {at}."
    if all(one == "better" for one in outcomes):
        return f"{ours} is better than {other} {at}."
    if all(one == "worse" for one in outcomes):
        return f"{ours} does not beat {other} {at}: it is worse."
    if "better" in outcomes and "worse" in outcomes:
        return f"{ours} does not beat {other} {at}: judges contradict each other."
    if "better" in outcomes:
        return f"{ours} does not beat {other} {at} by every judge."
    return f"{ours} does not beat {other} {at}."


def _differences(compared: Sequence[Compared]) -> str:
    told = []
    for one in compared:
        gap = EstimateRecord.of(one.matched.difference)
        if gap.value is None:
            told.append(str(gap.why))
        else:
            told.append(f"difference of rates by {one.judge} {shown(gap)}")
    whole = "; ".join(dict.fromkeys(told))
    return f"{whole[:1].upper()}{whole[1:]}."


def _why(one: Mapping[str, Any]) -> str:
    """Why there is no difference to tell; "" where there is one."""
    return str(one["why"]) if one["value"] is None else ""


def _judges(made: Swept) -> Finding:
    poor = _poor(made.to_record()["judges"])
    trained = {str(one["name"]): one["quality"] for one in made.judges if one.get("quality")}
    estimates = {f"AUROC of {name}": _as_record(one["auroc"]) for name, one in trained.items()}
    claim = " ".join(poor) or "The trained judges tell validation texts of the two sides apart."
    return _information(
        "judges",
        claim,
        f"0.5 is a judge that tosses a coin, 1 one without error. A judge is called poor below {POOR:g}, "
        "a convention of ours; its rates say little, and two arms are then hard to tell apart.",
        estimates,
    )


def _poor(judges: Sequence[Mapping[str, Any]]) -> list[str]:
    told = []
    for one in judges:
        if not one.get("quality"):
            told.append(f"How good the judge {one['name']} is was not measured: it was trained elsewhere.")
            continue
        auroc = _as_record(one["quality"]["auroc"])
        if auroc.value is None or auroc.low is None:
            told.append(
                f"How good the judge {one['name']} is is not known: {auroc.why or 'its AUROC has no interval'}."
            )
        elif auroc.low <= 0.5:
            told.append(f"The judge {one['name']} is not shown to be better than a coin (AUROC {shown(auroc)}).")
        elif auroc.value < POOR:
            told.append(f"The judge {one['name']} is poor on its validation texts (AUROC {shown(auroc)}).")
        elif auroc.low < POOR:
            told.append(
                f"That the judge {one['name']} is good is not shown: its interval reaches below {POOR:g} (AUROC "
                f"{shown(auroc)}). More labelled texts would tell."
            )
    return told


def _choice(made: Swept) -> Finding:
    none = " No strength that steers was better within that cost." if made.ours.strength == 0 else ""
    return _information(
        "choice",
        f"Our strength is {made.ours.strength:g}: {made.ours.rule} "
        f"({counted(len(made.ours.prompts), 'prompt')}).{none}",
        "Neither that judge nor those prompts are reported.",
    )


def _information(
    name: str, claim: str, how_to_read: str, estimates: dict[str, EstimateRecord] | None = None
) -> Finding:
    return Finding(
        id=f"{AUDIT}.{name}",
        audit=AUDIT,
        claim=claim,
        verdict="information",
        estimates=estimates or {},
        items=POINTS if estimates else None,
        how_to_read=how_to_read,
    )


def _of_goal(goal: str) -> str:
    return "wanted" if goal == "raise" else "unwanted"


def _value(value: float | None) -> str:
    return "not estimable" if value is None else f"{value:.3g}"


def _as_record(one: Any) -> EstimateRecord:
    return EstimateRecord(**one) if isinstance(one, Mapping) else EstimateRecord.of(one)


def _shown(one: Mapping[str, Any]) -> str:
    return shown(EstimateRecord(**one))
