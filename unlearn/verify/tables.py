"""The tables of a loop's section. Columns are systems, subject first, then gold, then what was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from audit.errors import InputError
from audit.forgetting.measured import Measured, difference
from audit.runs.schema import Cell, Column, EstimateRecord, PValueRecord, Table
from audit.stats.estimate import Estimate

from .judging import DIRECT, MEASURES, Tried
from .muse import MEASURES as MUSE
from .privacy.membership import LABELS
from .privacy.priv_leak import priv_leak
from .privacy.update_leakage import by_pair, update_leakage
from .robustness.relearn_curves import curve_rows
from .utility import MEASURES as UTILITY
from .utility import TextLosses, damage, loss

if TYPE_CHECKING:
    from .findings import Loop

GOLD = "gold"


def all_tables(loop: Loop) -> tuple[Table, ...]:
    """In the order of the report; those with nothing in them are left out."""
    made = (
        _verdicts(loop), _measures(loop), _residuals(loop), _utility(loop), _changes(loop), _intact(loop), _tofu(loop),
        _muse(loop),
        _membership(loop), _privacy(loop), _relearning(loop), _audits(loop), _missing(loop),
    )  # fmt: skip
    return tuple(table for table in made if table.rows)


def _systems(loop: Loop) -> list[str]:
    return list(loop.tried)


def _columns(first: Sequence[Column], systems: Sequence[str]) -> tuple[Column, ...]:
    return (*first, *(Column(key=name, label=name) for name in systems))


def _record(estimate: Estimate) -> EstimateRecord:
    return EstimateRecord.of(estimate)


def _verdicts(loop: Loop) -> Table:
    costs = {cost.name: cost for cost in loop.costs}
    said = [(one.name, one.verdict.word, one.verdict.why) for one in loop.decided]
    failed = [(name, one.word, one.why) for name, one in loop.failed.items()]
    remedies = [one for one in said if one[0] in costs] + failed
    rows: list[dict[str, Cell]] = []
    for name, word, why in [*remedies, *(one for one in said if one not in remedies)]:
        cost = costs.get(name)
        rows.append(
            {
                "system": name,
                "verdict": word,
                "why": why,
                "told": cost.told if cost is not None else "not made" if name in loop.failed else "no remedy",
                "seconds": "" if cost is None else round(cost.seconds, 1),
                "trained": "" if cost is None else cost.trained,
            }
        )
    return Table(
        name="verdicts",
        title="Verdicts",
        note="Subject and a second gold model are judged too: the first must come out as not removed, the second as "
        "removed, or the instrument is not to be believed here.",
        columns=(
            Column(key="system", label="System"),
            Column(key="verdict", label="Verdict"),
            Column(key="why", label="Why"),
            Column(key="told", label="Remedy"),
            Column(key="seconds", label="Seconds to make it"),
            Column(key="trained", label="Tokens trained on"),
        ),
        rows=tuple(rows),
    )


def _measures(loop: Loop) -> Table:
    """Means of what is known, of the forget set and of what nobody saw."""
    rows: list[dict[str, Cell]] = []
    for what in ("forget set", "never seen"):
        for key in dict.fromkeys((*DIRECT, *MEASURES)):
            found = {name: _known(one, what).get(key) for name, one in loop.tried.items()}
            if any(found.values()):
                rows.append({"of": what, "measure": MEASURES[key].label, **_means(found, loop.seed)})
    return Table(
        name="measures",
        title="What is known",
        note="Means over rows or passages; a larger value says that more is known. Never-seen rows are controls.",
        columns=_columns((Column(key="of", label="Of"), Column(key="measure", label="Measure")), _systems(loop)),
        rows=tuple(rows),
    )


def _known(one: Tried, what: str) -> Mapping[str, Measured]:
    return (one.battery.direct if what == "forget set" else one.battery.never).measured


def _means(found: Mapping[str, Measured | None], seed: int) -> dict[str, Cell]:
    return {name: "" if one is None else _record(one.mean(rng=seed)) for name, one in found.items()}


def _residuals(loop: Loop) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "system": one.name,
            "measure": each.label,
            "kind": each.kind,
            "residual": _record(each.estimate),
            "corrected": _record(each.corrected),
            "answer": each.answer,
            "seeds": each.n_seeds,
        }
        for one in loop.decided
        for each in one.verdict.judged
    ]
    return Table(
        name="residuals",
        title="What is left, on one scale",
        note="r = (system - gold) / (subject - gold): 0 as gold, 1 as before. The verdict looks at both intervals: the "
        "first must lie within the tolerance to clear, the second, corrected for how many are looked at, beyond it to "
        'warn. "no warning" marks what can only warn.',
        columns=(
            Column(key="system", label="System"),
            Column(key="measure", label="Measure or attack"),
            Column(key="kind", label="Kind"),
            Column(key="residual", label="r"),
            Column(key="corrected", label="r, corrected interval"),
            Column(key="answer", label="Read as"),
            Column(key="seeds", label="Seeds", help="trainings that the interval is drawn over"),
        ),
        rows=tuple(rows),
    )


def _utility(loop: Loop) -> Table:
    labels = {one.key: one.label for one in UTILITY}
    rows: list[dict[str, Cell]] = []
    for key, label in labels.items():
        cells: dict[str, Cell] = {}
        for name, one in loop.tried.items():
            found = one.battery.useful.found.measured.get(key)
            losses = _losses(one, key)
            cells[name] = (
                ""
                if found is None
                else _record(found.mean(rng=loop.seed) if losses is None else loss(losses, rng=loop.seed))
            )
        if any(cells.values()):
            rows.append({"measure": label, **cells})
    for key in dict.fromkeys(key for one in loop.tried.values() for key in one.benchmarks):
        found_of = {name: one.benchmarks.get(key) for name, one in loop.tried.items()}
        rows.append({"measure": key.removeprefix("lm_tasks."), **_means(found_of, loop.seed)})
    utilities = {name: one.battery.tofu_of().utility(rng=loop.seed) for name, one in loop.tried.items()}
    if any(one.value is not None for one in utilities.values()):
        rows.append(
            {"measure": "model utility, TOFU's nine", **{name: _record(one) for name, one in utilities.items()}}
        )
    return Table(
        name="utility",
        title="What is left of what was to be kept",
        note="Neighbours are rows and texts of the same kind as the forget set; general texts are of other kinds. "
        "Neither was shown to a remedy.",
        columns=_columns((Column(key="measure", label="Measure"),), _systems(loop)),
        rows=tuple(rows),
    )


def _losses(one: Tried, key: str) -> TextLosses | None:
    useful = one.battery.useful
    return {"utility.general_loss": useful.general, "utility.neighbour_loss": useful.neighbour}.get(key)


def _changes(loop: Loop) -> Table:
    """Paired changes of utility against the subject."""
    subject = next(iter(loop.tried.values()))
    others = [one for one in loop.tried.values() if one is not subject]
    rows: list[dict[str, Cell]] = []
    for text, label in (("general", "loss on general texts"), ("neighbour", "loss on neighbour texts")):
        cells = {one.name: _damage(getattr(one.battery.useful, text), getattr(subject.battery.useful, text), loop.seed)
                 for one in others}  # fmt: skip
        if any(cells.values()):
            rows.append({"measure": f"{label}, nats per token", **cells})
    for key in ("utility.probability", "utility.rouge", "utility.sound"):
        before = subject.battery.useful.found.measured.get(key)
        if before is not None:
            label = next(one.label for one in UTILITY if one.key == key)
            rows.append(
                {
                    "measure": label,
                    **{
                        one.name: _change(one.battery.useful.found.measured.get(key), before, loop.seed)
                        for one in others
                    },
                }
            )
    return Table(
        name="changes",
        title="Change of utility against the subject",
        note="System less subject, paired by row or passage. A loss that rises and a share that falls are damage. Gold "
        "was trained anew: what it differs by is no damage.",
        columns=_columns((Column(key="measure", label="Measure"),), [one.name for one in others]),
        rows=tuple(rows),
    )


def _damage(after: TextLosses | None, before: TextLosses | None, seed: int) -> Cell:
    return "" if after is None or before is None else _record(damage(after, before, rng=seed))


def _change(after: Measured | None, before: Measured, seed: int) -> Cell:
    if after is None:
        return ""
    try:
        return _record(difference(after, before, rng=seed))
    except InputError as error:
        return _record(Estimate.undefined(method=f"{before.name}: paired difference", why=str(error)))


def _intact(loop: Loop) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "system": one.name,
            "rule": rule.label,
            "estimate": _record(rule.estimate),
            "border": rule.border,
            "status": rule.status,
            "why": rule.why,
        }
        for one in loop.decided
        for rule in one.destroyed.rules
    ]
    return Table(
        name="intact",
        title="Is the model intact?",
        note="A system whose share lies below the border, by its upper bound, counts as destroyed.",
        columns=(
            Column(key="system", label="System"),
            Column(key="rule", label="What is kept"),
            Column(key="estimate", label="Share kept"),
            Column(key="border", label="Border"),
            Column(key="status", label="Status"),
            Column(key="why", label="Why"),
        ),
        rows=tuple(rows),
    )


def _tofu(loop: Loop) -> Table:
    gold = loop.tried.get(GOLD)
    rows: list[dict[str, Cell]] = []
    for name, one in loop.tried.items():
        if gold is None or one is gold or "forget" not in one.battery.tofu or "forget" not in gold.battery.tofu:
            continue
        for tested in one.battery.tofu_of().forget_quality(gold.battery.tofu_of()):
            rows.append(
                {
                    "system": name,
                    "test": tested.name,
                    "distance": _record(tested.distance),
                    "p": "" if tested.p_value is None else PValueRecord.of(tested.p_value),
                }
            )
    return Table(
        name="tofu",
        title="TOFU's forget quality",
        note="Two-sample KS test of truth ratios against gold. A small p tells the two apart; a large one says only "
        "that these rows do not suffice to.",
        columns=(
            Column(key="system", label="System"),
            Column(key="test", label="Truth ratios"),
            Column(key="distance", label="KS distance"),
            Column(key="p", label="p"),
        ),
        rows=tuple(rows),
    )


def _muse(loop: Loop) -> Table:
    rows: list[dict[str, Cell]] = []
    for measure in MUSE:
        found = {name: one.battery.muse.measured.get(measure.key) for name, one in loop.tried.items()}
        if any(found.values()):
            rows.append({"measure": measure.label, **_means(found, loop.seed)})
    return Table(
        name="muse",
        title="MUSE's criteria",
        note="100 times ROUGE-L F1. PrivLeak, its third, stands below; scalability and sustainability are trends over "
        "several runs (`unlearn.verify.muse`). Read everything beside gold, never beside 0.",
        columns=_columns((Column(key="measure", label="Criterion"),), _systems(loop)),
        rows=tuple(rows),
    )


def _membership(loop: Loop) -> Table:
    from .privacy.areas import auc

    scores = dict.fromkeys(score for one in loop.tried.values() for score in one.membership)
    rows: list[dict[str, Cell]] = []
    for score in scores:
        for pair in (("forget", "never"), ("retain", "never")):
            cells: dict[str, Cell] = {}
            for name, one in loop.tried.items():
                by_set = one.membership.get(score, {})
                there = all(role in by_set for role in pair)
                cells[name] = _record(auc(by_set[pair[0]], by_set[pair[1]], rng=loop.seed)) if there else ""
            if any(cells.values()):
                rows.append({"score": LABELS.get(score, score), "pair": " against ".join(pair), **cells})
    return Table(
        name="membership",
        title="Membership inference",
        note="AUC of each score; read it less gold's, which saw neither set. Indicative: the texts were found and not "
        "dealt. 0.5 says nothing about a destroyed model, and below 0.5 is a trace too.",
        columns=_columns((Column(key="score", label="Score"), Column(key="pair", label="Texts")), _systems(loop)),
        rows=tuple(rows),
    )


def _privacy(loop: Loop) -> Table:
    gold, subject = loop.tried.get(GOLD), next(iter(loop.tried.values()))
    if gold is None:
        return Table(name="privacy", title="", columns=(), rows=())
    rows: list[dict[str, Cell]] = []
    for convention in ("muse", "rel-diff"):
        cells: dict[str, Cell] = {}
        for name, one in loop.tried.items():
            sets = [each.membership.get("min_40", {}) for each in (one, gold)]
            there = one is not gold and all(role in by_set for by_set in sets for role in ("forget", "never"))
            if there:
                pairs = [(by_set["forget"], by_set["never"]) for by_set in sets]
                cells[name] = _record(priv_leak(pairs[0], pairs[1], convention=convention, rng=loop.seed).value)
        if cells:
            rows.append({"measure": f"PrivLeak, per cent, {convention}", **cells})
    leak: dict[str, Cell] = {}
    for name, one in loop.tried.items():
        three: list[Any] = [each.membership.get("loss", {}) for each in (subject, one, gold)]
        if one is not subject and all(three):
            found = by_pair(update_leakage(*three, rng=loop.seed)).get(("forget", "never"))
            leak[name] = "" if found is None else _record(found.auc)
    if any(leak.values()):
        rows.append({"measure": "update leakage: AUC of the change of loss, forget against never", **leak})
    return Table(
        name="privacy",
        title="Privacy against gold",
        note="PrivLeak is 0 as gold; a small one alone says nothing, for a collapsed model has one by chance. Update "
        "leakage: can who has the model before and after tell what was removed? Gold's own is what retraining tells.",
        columns=_columns((Column(key="measure", label="Measure"),), _systems(loop)),
        rows=tuple(rows),
    )


def _relearning(loop: Loop) -> Table:
    rows: list[dict[str, Cell]] = []
    kinds = dict.fromkeys(
        (curve.kind, step) for one in loop.tried.values() for curve in one.curves for step in curve.steps
    )
    for kind, step in kinds:
        cells: dict[str, Cell] = {}
        for name, one in loop.tried.items():
            values = [row.value for row in curve_rows(one.curves) if row.kind == kind and row.step == step]
            if values:
                cells[name] = sum(values) / len(values)
        rows.append({"kind": kind, "step": step, **cells})
    return Table(
        name="relearning",
        title="Relearning",
        note="Mean familiarity of rows that were not tuned on, after so many steps, over seeds; intervals of what is "
        "compared stand among the residuals.",
        columns=_columns((Column(key="kind", label="Tuned on"), Column(key="step", label="Steps")), _systems(loop)),
        rows=tuple(rows),
    )


def _audits(loop: Loop) -> Table:
    names = [name for name in _systems(loop) if any(name in row for row in loop.audits)]
    return Table(
        name="audits",
        title="The audits, before and after",
        note="The same plan with another subject. Guards and steerings are not audited: their weights are "
        "the subject's.",
        columns=_columns((Column(key="finding", label="Finding"), Column(key="estimate", label="Estimate")), names),
        rows=tuple({key: row.get(key, "") for key in ("finding", "estimate", *names)} for row in loop.audits),
    )


def _missing(loop: Loop) -> Table:
    rows: list[dict[str, Cell]] = [
        {"system": one.name, "what": what, "why": why}
        for one in loop.decided
        for what, why in one.verdict.missing.items()
    ]
    return Table(
        name="missing",
        title="Not measured, and why",
        columns=(
            Column(key="system", label="System"),
            Column(key="what", label="What"),
            Column(key="why", label="Why"),
        ),
        rows=tuple(rows),
    )
