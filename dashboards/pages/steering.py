"""Steering: what maps change in the model, site by site, and what their effect costs at each strength."""

from __future__ import annotations

import streamlit as st

from audit.report.drawing import QUOTED

from ..address import Between, kept, numbered
from ..charts import drawn, show_figures
from ..items import Where
from ..paged import distinct, open_items, show_items
from ..parts import Part, chosen_part
from ..plain import cell, plain
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

FIT, SWEEP, EVALUATION = "steer", "steer-sweep", "steer-evaluation"
AUDITS = (FIT, SWEEP, EVALUATION)
KINDS = (*AUDITS, "remediation")
_ALL = "all"
_NOT_HELD = {
    FIT: "This run fitted maps. Effect and perplexity by strength belong to a sweep: palimpsest steer sweep.",
    SWEEP: "This run measured strengths. Distances by layer and the map of changed neurons belong to the run that "
    "fitted the maps: palimpsest steer fit.",
    EVALUATION: "This run evaluated maps. Distances by layer and the map of changed neurons belong to the run that "
    "fitted them: palimpsest steer fit.",
}
# Audit -> table of single items: name, column to filter by, columns and their headings.
_ITEMS = {
    FIT: (
        "steer-neurons", "site", "Every changed neuron",
        {"site": "Site", "neuron": "Neuron", "scale": "Scale", "shift": "Shift"},
    ),
    SWEEP: (
        "sweep-continuations", "arm", "Every continuation",
        {"arm": "Arm", "strength": "Strength", "seed": "Seed", "flagged_by": "Flagged by", "prompt": "Prompt",
         "continuation": "Continuation"},
    ),
    EVALUATION: (
        "evaluation-continuations", "arm", "Every continuation",
        {"arm": "Arm", "strength": "Strength", "seed": "Seed", "flagged_by": "Flagged by", "prompt": "Prompt",
         "continuation": "Continuation"},
    ),
}  # fmt: skip
_TEXTS = ("prompt", "continuation")


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("Steering", anchor=False)
    st.markdown(
        "Maps move the model's activations while it writes, so that it shows a property more often or less; how far is "
        "set by the strength. What that costs is seen in the perplexity of texts that it should still find easy."
    )
    part = chosen_part(
        shop,
        AUDITS,
        KINDS,
        what="steering",
        how="`palimpsest steer fit` fits maps, `palimpsest steer sweep` measures them at several strengths, "
        "`palimpsest steer evaluate` evaluates them.",
    )
    if part is None:
        return
    show_text = asks_for_text("steering", "Prompts and what was written after them")
    for place, section in each_section(part, AUDITS, show_text=show_text):
        with told(part, "The findings could not be shown"):
            show_findings(section, part.landmarks)
        with told(part, "The figures could not be drawn"):
            figures = drawn(part.key, section.audit, part.run, part.findings)
            if not figures:
                st.info("This run kept no items of this audit, so there is nothing to draw.", icon=":material/info:")
            show_figures(figures)
        st.caption(_NOT_HELD[section.audit])
        if section.audit in QUOTED:
            _examples(part, section.audit, place, show_text=show_text)
        with told(part, "The tables could not be shown"):
            show_tables(section, part.landmarks)
        _items(part, section.audit, place, show_text=show_text)


@told_apart("The examples could not be shown")
def _examples(part: Part, audit: str, place: int, *, show_text: bool) -> None:
    st.subheader("What was written", anchor=False)
    if not show_text:
        st.info("Prompts and continuations are hidden. “Show texts”, at the top of the page, shows them.", icon="🔒")
        return
    marked = quoted(part, audit)
    if marked is None or not marked.texts:
        st.caption("This run kept no continuations.")
        return
    st.markdown(plain(marked.how_to_read, 2_000))
    show_legend(marked.legend)
    numbers = list(range(1, len(marked.texts) + 1))
    number = st.selectbox(
        "Prompt", numbers, format_func=lambda one: cell(marked.texts[one - 1].title, 60),
        **kept(numbered("prompt", place), 1, Between(1, len(numbers))),
    )  # fmt: skip
    show_marked(marked.texts[number - 1])


@told_apart("The items could not be shown")
def _items(part: Part, audit: str, place: int, *, show_text: bool) -> None:
    name, group, title, columns = _ITEMS[audit]
    items = open_items(part, name)
    if items is None:
        return
    st.subheader(title, anchor=False)
    groups = [_ALL, *map(str, distinct(part.key, name, group, items))]
    of = st.selectbox(
        columns[group], groups, format_func=lambda one: cell(one, 100), **kept(numbered(group, place), _ALL, groups)
    )
    where = [] if of == _ALL else [Where(group, "==", of)]
    shown = columns if show_text else {key: words for key, words in columns.items() if key not in _TEXTS}
    show_items(part, items, name, shown, prefix=numbered("item", place), where=where)
    if not show_text and set(_TEXTS) & columns.keys():
        st.caption("🔒 Prompts and continuations are hidden. “Show texts”, at the top of the page, shows them.")
