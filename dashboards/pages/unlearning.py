"""Unlearning: what changed while a model was tuned, and whether it worked: before, after, and beside gold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from audit.report.figures import Figure, Panel
from audit.runs.schema import AuditSection, Findings
from audit.text.safe import counted

from ..address import Between, kept
from ..charts import Drawn, drawn, plain_figure, show_figure, show_figures
from ..items import Items, Where
from ..paged import distinct, open_items, show_items
from ..parts import Part, chosen_part
from ..plain import cell, plain
from ..ratio_chart import BINS, ratio_chart
from ..shown import (
    asks_for_text,
    each_section,
    quoted,
    show_findings,
    show_legend,
    show_marked,
    show_tables,
    told,
    told_apart,
)
from ..store import Store

AUDITS = ("unlearning", "remediation")
KINDS = ("unlearning", "remediation")
VERIFICATION, CURVES, LABELS = "verification", "unlearning-curves", "unlearning-labels"
RATIOS = "tofu.log_ratio."  # measures of items: ln truth ratio of each part
SUBJECT, GOLD = "subject", "gold"
_BESIDE_GOLD = ("measures", "utility", "changes")  # tables of a loop that everybody reads
_MODELS = (SUBJECT, GOLD, "gold_2")
_VALUES = {"system": "System", "measure": "Measure", "id": "Item", "cluster": "Cluster", "value": "Value"}
_STEPS = {
    "step": "Step",
    "measure": "Measure",
    "id": "Item",
    "passage": "Passage",
    "value": "Value",
    "left_out": "Left out",
}
_TOKENS = {"text": "Token", "label": "Label", "nats": "Label less token, nats"}


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("Unlearning", anchor=False)
    st.markdown(
        "A remedy was to make a model forget something. It is compared with the model before it, and with **gold**, a "
        "model that was trained alike but never learnt it."
    )
    part = chosen_part(
        shop,
        AUDITS,
        KINDS,
        what="unlearning",
        how="`palimpsest unlearn METHOD` makes one, `palimpsest remediate PLAN` a whole loop with its verdicts.",
    )
    if part is None:
        return
    show_text = asks_for_text("unlearning", "Passages, prompts and tokens of what was to be forgotten")
    for _, section in each_section(part, AUDITS, show_text=show_text):
        if section.audit == "remediation":
            _loop(part, section)
        else:
            _training(part, section, show_text=show_text)


# One training


def _training(part: Part, section: AuditSection, *, show_text: bool) -> None:
    with told(part, "The findings could not be shown"):
        show_findings(section, part.landmarks)
    with told(part, "The curves could not be drawn"):
        show_figures(drawn(part.key, section.audit, part.run, part.findings))
    with told(part, "The tables could not be shown"):
        show_tables(section, part.landmarks, ("changes",))
    st.caption(
        "This run measured one model before and after. Gold, truth ratios and a verdict on the remedy belong to a "
        "loop: palimpsest remediate makes one."
    )
    _labels(part, show_text=show_text)
    with told(part, "The tables could not be shown"):
        show_tables(section, part.landmarks, but=("changes",))
    _measures(part)


@told_apart("The measures could not be shown")
def _measures(part: Part) -> None:
    items = open_items(part, CURVES)
    if items is None:
        return
    st.subheader("Every measure", anchor=False)
    measures = ["all", *map(str, distinct(part.key, CURVES, "measure", items))]
    measure = st.selectbox("Measure", measures, format_func=cell, **kept("measure", "all", measures))
    where = [] if measure == "all" else [Where("measure", "==", measure)]
    show_items(part, items, CURVES, _STEPS, prefix="step", where=where)


@told_apart("The labels could not be shown")
def _labels(part: Part, *, show_text: bool) -> None:
    """The token heat view: what the model was tuned to say at each place."""
    st.subheader("Labels, token by token", anchor=False)
    items = open_items(part, LABELS)
    if items is None:
        st.caption(
            "This run keeps no view of its tokens: only Who's Harry Potter? has labels, and keeps some passages when "
            "its plan asks for texts."
        )
        return
    if not show_text:
        st.info("The passages are hidden. “Show texts”, at the top of the page, shows them.", icon="🔒")
        return
    marked = quoted(part, "unlearning")
    if marked is None or not marked.texts:
        return
    st.markdown(plain(marked.how_to_read, 2_000))
    show_legend(marked.legend)
    numbers = list(range(1, len(marked.texts) + 1))
    number = st.selectbox(
        "Passage", numbers, format_func=lambda one: cell(f"{one}: {marked.texts[one - 1].title}", 90),
        **kept("passage", 1, Between(1, len(numbers))),
    )  # fmt: skip
    show_marked(marked.texts[number - 1])
    with st.expander("The numbers of each token"):
        views = distinct(part.key, LABELS, "view", items)
        show_items(part, items, LABELS, _TOKENS, prefix="token", where=[Where("view", "==", views[number - 1])])


# A loop


def _loop(part: Part, section: AuditSection) -> None:
    st.subheader("Verdict on each remedy", anchor=False)
    with told(part, "The verdicts could not be shown"):
        show_tables(section, part.landmarks, ("verdicts",))
        show_findings(section, part.landmarks)
    st.subheader("Before, after, and gold", anchor=False)
    with told(part, "The tables could not be shown"):
        show_tables(section, part.landmarks, _BESIDE_GOLD)
    with told(part, "The figures could not be drawn"):
        _residuals(drawn(part.key, section.audit, part.run, part.findings))
    _truth_ratios(part)
    st.subheader("Curves over steps", anchor=False)
    st.caption(
        "A loop measures each model when its remedy has ended, so it holds no curve over the steps of a training; a "
        "run of palimpsest unlearn does. What it holds by step is how fast each model learns the text again:"
    )
    with told(part, "The tables could not be shown"):
        show_tables(section, part.landmarks, ("relearning",))
    with told(part, "The tables could not be shown"), st.expander("Every other table of the loop"):
        show_tables(section, part.landmarks, but=("verdicts", *_BESIDE_GOLD, "relearning"))
    _values(part)


def _residuals(figures: Sequence[Drawn]) -> None:
    """The report's figure, of one system at a time: each has many rows."""
    for figure in figures:
        names = [panel.title for panel in figure.panels]
        if len(names) < 2:
            show_figure(figure)
            continue
        treated = [name for name in names if name not in _MODELS]
        name = st.selectbox(
            "System in the next figure", names, format_func=lambda one: cell(one, 60),
            **kept("residuals", (treated or names)[0], names),
        )  # fmt: skip
        panel = figure.panels[names.index(name)]
        show_figure(Drawn(figure.id, f"{figure.title}: {name}", figure.caption, (panel,)))


@told_apart("The truth ratios could not be drawn")
def _truth_ratios(part: Part) -> None:
    """How truth ratios of single items are distributed before, after and in gold."""
    st.subheader("Truth ratios before, after, and in gold", anchor=False)
    items = open_items(part, VERIFICATION)
    measures = (
        []
        if items is None
        else [str(one) for one in distinct(part.key, VERIFICATION, "measure", items) if str(one).startswith(RATIOS)]
    )
    if items is None or not measures:
        st.caption("This loop holds no truth ratios: its rows have no wrong answers beside the right one.")
        return
    first = f"{RATIOS}forget" if f"{RATIOS}forget" in measures else measures[0]
    measure = st.selectbox(
        "Rows", measures, format_func=lambda one: cell(one.removeprefix(RATIOS), 60), **kept("rows", first, measures)
    )
    found = _ratios(part.key, measure, items)
    treated = [name for name in found if name not in _MODELS and len(found[name])]
    shown = [values for name, values in found.items() if name in (SUBJECT, GOLD, *treated) and len(values)]
    edges = np.histogram_bin_edges(np.concatenate(shown or [np.zeros(1)]), BINS)  # the same for every panel
    panels = []
    for name in treated or [SUBJECT]:
        own = {one: found[one] for one in (SUBJECT, name, GOLD) if one in found and len(found[one])}
        if not own:
            continue
        words = "; ".join(f"{one}: n {len(values):,}, median {np.median(values):.3g}" for one, values in own.items())
        panels.append(Panel(name, f"ln truth ratio. {words}.", ratio_chart(own, edges, before=SUBJECT, gold=GOLD)))
    lacking = [name for name in _systems(part.findings) if name not in found]
    caption = (
        "Share of rows by the logarithm of the truth ratio, which compares wrong answers with a right one in other "
        "words: the further right, the more probable the wrong ones. A remedy that worked lies on gold. Nothing is "
        "estimated here; the test of the difference is in the table “TOFU's forget quality”."
    )
    if lacking:
        caption += f" Not recorded for {', '.join(lacking)}: a system that refuses has no truth ratio."
    figure = Figure("ratios", "", caption, tuple(panels))
    show_figure(plain_figure(figure))


@st.cache_data(show_spinner=False, max_entries=16)
def _ratios(key: str, measure: str, _items: Items) -> dict[str, NDArray[np.float64]]:
    """System -> finite values of one measure."""
    rows = _items.table(("system", "value"), (Where("measure", "==", measure),)).to_pandas()
    found = {str(name): part.to_numpy(dtype=np.float64) for name, part in rows.groupby("system", sort=False)["value"]}
    return {name: values[np.isfinite(values)] for name, values in found.items()}


def _systems(findings: Findings) -> list[str]:
    """Systems that the loop's verdicts name."""
    return [
        str(row.get("system"))
        for section in findings.sections
        if section.audit == "remediation"
        for table in section.tables
        if table.name == "verdicts"
        for row in table.rows
    ]


@told_apart("The items could not be shown")
def _values(part: Part) -> None:
    st.subheader("Every measured item", anchor=False)
    items = open_items(part, VERIFICATION)
    if items is None:
        st.caption("This loop kept no items.")
        return
    left, right = st.columns(2)
    systems = ["all", *map(str, distinct(part.key, VERIFICATION, "system", items))]
    system = left.selectbox("System", systems, format_func=cell, **kept("system", "all", systems))
    measures = [
        "all",
        *map(
            str,
            distinct(
                part.key,
                VERIFICATION,
                "measure",
                items,
            ),
        ),
    ]
    measure = right.selectbox("Measure", measures, format_func=cell, **kept("measure", "all", measures))
    where = [
        Where(column, "==", value) for column, value in (("system", system), ("measure", measure)) if value != "all"
    ]
    show_items(part, items, VERIFICATION, _VALUES, prefix="value", where=where)
    st.caption(f"{counted(items.n_rows, 'value')} in all; a measure's name says what was asked, and how.")
