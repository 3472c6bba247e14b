"""ECO: a guard before the model: whom its classifier stops, how its strength was found, what it flagged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from audit.report.figures import Figure, Panel
from audit.report.numbers import estimate
from audit.runs.schema import AuditSection, EstimateRecord
from audit.text.numbers import fixed, percent

from ..address import kept
from ..charts import Drawn, drawn, plain_figure, show_figure
from ..items import Items, Where
from ..paged import distinct, open_items, show_items
from ..parts import Part, chosen_part
from ..plain import cell, plain
from ..search_chart import search_chart
from ..shown import (
    asks_for_text,
    each_section,
    show_findings,
    show_table,
    show_tables,
    told,
    told_apart,
)
from ..store import Store

FIT, EVALUATION = "eco", "eco-evaluation"
AUDITS = (FIT, EVALUATION)
KINDS = (FIT, EVALUATION, "remediation")
SCORES, SEARCH, VERDICTS, QUESTIONS = "eco-scores", "eco-search", "eco-verdicts", "eco-questions"
_ALL, _FLAGGED, _PASSED = "all", "flagged", "let through"
_SCORES = {"id": "Prompt", "side": "Kind", "cluster": "Cluster", "score": "Score", "flagged": "Flagged"}
_VERDICTS = {"for": "For", "of": "Of", "id": "Prompt", "cluster": "Cluster", "score": "Score", "flagged": "Flagged"}
_ANSWERS = {
    "system": "System", "part": "Rows", "scope": "Corrupted", "measure": "Measure", "id": "Row", "cluster": "Cluster",
    "value": "Value",
}  # fmt: skip
_APART = ("calibration", "false-positives", "search")  # tables with a place of their own


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("ECO", anchor=False)
    st.markdown(
        "A guard stands before the model. Its classifier recognises prompts about what is to be forgotten, and "
        "corrupts their embeddings; the model's weights stay as they are."
    )
    part = chosen_part(
        shop,
        AUDITS,
        KINDS,
        what="guard by embedding-corrupted prompts",
        how="`palimpsest eco fit` makes one, `palimpsest eco evaluate` measures it.",
    )
    if part is None:
        return
    show_text = asks_for_text("eco", "Prompts")
    for _, section in each_section(part, AUDITS, show_text=show_text):
        with told(part, "The findings could not be shown"):
            show_findings(section, part.landmarks)
        with told(part, "The figures could not be drawn"):
            _figures(section, drawn(part.key, section.audit, part.run, part.findings))
        if section.audit == FIT:
            with told(part, "The search could not be shown"):
                _search(part, section)
        _flagged(part, section, show_text=show_text)
        with told(part, "The tables could not be shown"):
            show_tables(section, part.landmarks, but=_APART)
        if section.audit == EVALUATION:
            _answers(part)


def _figures(section: AuditSection, figures: Sequence[Drawn]) -> None:
    for figure in figures:
        show_figure(figure)
        if figure.id == "roc":
            _threshold(section)


def _threshold(section: AuditSection) -> None:
    """The calibrated threshold and what it promises."""
    table = next((one for one in section.tables if one.name == "calibration"), None)
    if table is None:
        return
    for row in table.rows:
        rate, threshold, alpha = row.get("rate"), row.get("threshold"), row.get("alpha")
        if not (isinstance(rate, EstimateRecord) and isinstance(threshold, float) and isinstance(alpha, float)):
            continue
        st.markdown(
            f"For **{plain(row.get('of'))}**: flagged above a score of **{fixed(threshold, 3)}**, set on n {rate.n:,} "
            f"calibration prompts so that at most {percent(alpha)} are flagged on average. The rate of this very "
            f"threshold is expected at **{plain(estimate(rate))}**."
        )
    show_table(table)


def _search(part: Part, section: AuditSection) -> None:
    """Every evaluation of the search, in its order."""
    st.subheader("The search for the strength", anchor=False)
    items = open_items(part, SEARCH)
    if items is None or not items.n_rows:
        st.caption("No strength was searched in this run: it was given.")
        return
    panels = _search_panels(part.key, _targets(section), items)
    caption = (
        "Every evaluation in the order of the search: the strength that was tried, and the metric that it gave under "
        "one noise seed. The dashed line is the target. Single evaluations carry no interval; means over seeds, with "
        "theirs, are in the figure above."
    )
    show_figure(Drawn("search", "", caption, panels.panels))
    with st.expander("The search as a table"):
        show_tables(section, part.landmarks, ("search",))


def _targets(section: AuditSection) -> tuple[tuple[str, float], ...]:
    """Metric -> target, where it is a number."""
    rows = next((one.rows for one in section.tables if one.name == "metrics"), ())
    cells = [(str(row.get("metric")), row.get("target")) for row in rows]
    return tuple((name, one.value) for name, one in cells if isinstance(one, EstimateRecord) and one.value is not None)


@st.cache_data(show_spinner=False, max_entries=16)
def _search_panels(key: str, targets: tuple[tuple[str, float], ...], _items: Items) -> Drawn:
    rows: list[dict[str, Any]] = _items.table(("order", "stage", "strength", "metric", "value")).to_pylist()
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_metric.setdefault(str(row["metric"]), []).append(row)
    first = next(iter(by_metric.values()))
    positive = all(row["strength"] > 0 for row in first)
    title = "strength" + (", logarithmic" if positive else "")
    chart = search_chart(first, value="strength", title=title, logarithmic=positive)
    panels = [Panel("Strength", f"Strengths of {len(first):,} evaluations, in order.", chart)]
    wanted = dict(targets)
    for name, own in by_metric.items():
        told_target = f", target {wanted[name]:.3g}" if name in wanted else ""
        chart = search_chart(own, value="value", title=name, rule=wanted.get(name))
        panels.append(Panel(name, f"{name} of {len(own):,} evaluations, in order{told_target}.", chart))
    return plain_figure(Figure("search", "", "", tuple(panels)))


@told_apart("The flagged prompts could not be shown")
def _flagged(part: Part, section: AuditSection, *, show_text: bool) -> None:
    """Single prompts with their scores."""
    st.subheader("Prompts and their scores", anchor=False)
    name, columns, group = (SCORES, _SCORES, "side") if section.audit == FIT else (VERDICTS, _VERDICTS, "of")
    items = open_items(part, name)
    if items is None:
        st.caption("This run kept no score of a single prompt.")
    else:
        left, right = st.columns(2)
        choices = (_FLAGGED, _PASSED, _ALL)
        which = left.selectbox("Show", choices, **kept("flagged", _FLAGGED, choices))
        groups = [_ALL, *map(str, distinct(part.key, name, group, items))]
        of = right.selectbox(
            "Kind" if group == "side" else "Of", groups, format_func=cell, **kept("kind", _ALL, groups)
        )
        where = [] if which == _ALL else [Where("flagged", "==", which == _FLAGGED)]
        if of != _ALL:
            where.append(Where(group, "==", of))
        show_items(part, items, name, columns, prefix="prompt", where=where, sort="score", descending=True)
        st.caption(
            "The items name prompts by id and keep no text. “retain” may pass, “forget” is to be recognised."
            if section.audit == FIT
            else "The items name prompts by id and keep no text."
        )
    show_tables(section, part.landmarks, ("false-positives",))
    quotes = any(
        column.key == "prompt"
        for table in section.tables
        if table.name == "false-positives"
        for column in table.columns
    )
    if quotes and not show_text:
        st.caption("🔒 The prompts are hidden. “Show texts”, at the top of the page, shows them.")


@told_apart("The answers could not be shown")
def _answers(part: Part) -> None:
    items = open_items(part, QUESTIONS)
    if items is None:
        return
    st.subheader("Every answer", anchor=False)
    left, right = st.columns(2)
    systems = [_ALL, *map(str, distinct(part.key, QUESTIONS, "system", items))]
    system = left.selectbox("System", systems, format_func=cell, **kept("system", _ALL, systems))
    measures = [_ALL, *map(str, distinct(part.key, QUESTIONS, "measure", items))]
    measure = right.selectbox("Measure", measures, format_func=cell, **kept("measure", _ALL, measures))
    where = [
        Where(column, "==", value) for column, value in (("system", system), ("measure", measure)) if value != _ALL
    ]
    show_items(part, items, QUESTIONS, _ANSWERS, prefix="answer", where=where)
