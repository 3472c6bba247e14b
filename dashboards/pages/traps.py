"""Traps: whether planted sequences are remembered, by number of copies and by length; and found texts beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pandas as pd
import streamlit as st

from audit.runs.schema import AuditSection
from audit.text.numbers import fixed, percent

from ..address import kept, numbered
from ..charts import Drawn, drawn, plain_figure, show_figure
from ..items import Items, Where
from ..paged import distinct, open_items, show_items
from ..parts import Part, chosen_part
from ..plain import cell
from ..shown import asks_for_text, each_section, show_findings, show_tables, told, told_apart
from ..store import Store

AUDITS = ("traps", "membership")
KINDS = ("audit", "traps", "membership", "remediation")
ITEMS = "traps"
_ALL = "all"
_LEVELS = (0.01, 0.05, 0.1)
_LAST = {"traps": ("scores", "auc", "power"), "membership": ()}  # tables that stand after the others
_COLUMNS = {
    "trap_id": "Trap",
    "arm": "Arm",
    "n_rep": "Copies",
    "length": "Length, tokens",
    "stratum": "Stratum",
    "owner": "Owner",
    "rank_p": "Rank p",
    "exposure_bits": "Exposure, bits",
    "ratio_score": "Ratio score",
    "loss_score": "Loss score",
    "min_k_score": "Min-K% score",
    "min_k_plus_plus_score": "Min-K%++ score",
    "zlib_score": "zlib score",
    "truncated": "Cut off",
}
_TEXTS = {
    "text_id": "Text",
    "side": "Set",
    "n_tokens": "Tokens",
    "ratio_score": "Ratio score",
    "loss_score": "Loss score",
    "min_k_score": "Min-K% score",
    "min_k_plus_plus_score": "Min-K%++ score",
    "zlib_score": "zlib score",
    "truncated": "Cut off",
}


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("Traps", anchor=False)
    st.markdown(
        "Sequences drawn at random were planted in the training data, others of the same draw were not. A model that "
        "finds the planted ones likelier remembers them."
    )
    part = chosen_part(
        shop,
        AUDITS,
        KINDS,
        what="audit of traps or of found texts",
        how="`palimpsest audit PLAN` makes one, with a table `[traps]` or `[membership]` in the plan.",
    )
    if part is None:
        return
    show_text = asks_for_text("traps", "Traps, decoys and found texts")
    for place, section in each_section(part, AUDITS, show_text=show_text):
        with told(part, "The findings could not be shown"):
            show_findings(section, part.landmarks)
        with told(part, "The figures could not be drawn"):
            figures = drawn(part.key, section.audit, part.run, part.findings)
            if not figures:
                st.info("This run kept no items of this audit, so there is nothing to draw.", icon=":material/info:")
            for figure in figures:
                _figure(part, figure, place)
        with told(part, "The tables could not be shown"):
            show_tables(section, part.landmarks, but=_LAST[section.audit])
            _documents(section)
        if section.audit == "traps":
            _traps(part, place, show_text=show_text)
        else:
            _found_texts(part, place, show_text=show_text)
        if _LAST[section.audit]:
            with st.expander("Every score, and what this design could have seen"), told(part, "The tables are damaged"):
                show_tables(section, part.landmarks, _LAST[section.audit])


def _figure(part: Part, figure: Drawn, place: int) -> None:
    if figure.id != "ranks" or not figure.panels:
        show_figure(figure)
        return
    items = open_items(part, ITEMS)
    lengths = [] if items is None else [int(one) for one in distinct(part.key, ITEMS, "length", items)]
    if items is None or len(lengths) < 2:
        show_figure(figure)
    else:
        length = st.selectbox(
            "Length of the traps in the next figure",
            [_ALL, *map(str, lengths)],
            format_func=lambda one: "all lengths" if one == _ALL else f"{one} tokens",
            **kept(numbered("length", place), _ALL, [_ALL, *map(str, lengths)]),
        )
        show_figure(figure if length == _ALL else _ranks_of(part.key, int(length), items))
    if items is not None:
        _small_ranks(part, items, place)


@st.cache_data(show_spinner=False, max_entries=16)
def _ranks_of(key: str, length: int, _items: Items) -> Drawn:
    """The report's histogram of rank p-values, of traps of one length."""
    from audit.report.traps_section import rank_figure  # brings scikit-learn, which the page's title need not wait for

    rows = _items.table(("arm", "n_rep", "stratum", "rank_p"), (Where("length", "==", length),))
    figure = rank_figure(rows.to_pandas())
    return plain_figure(replace(figure, title=f"{figure.title}, {length:,} tokens"))


@told_apart("The rank p-values could not be counted")
def _small_ranks(part: Part, items: Items, place: int) -> None:
    """How many traps have a small rank p-value, by copies and length: counts of what is recorded."""
    level = st.segmented_control(
        "Count rank p-values up to", _LEVELS, format_func=percent,
        **kept(numbered("rank-level", place), _LEVELS[1], _LEVELS),
    )  # fmt: skip
    level = _LEVELS[1] if level is None else level
    counted = small_ranks(part.key, level, items)
    if not counted:
        return
    st.dataframe(
        pd.DataFrame(
            {
                "Copies": [one.n_rep for one in counted],
                "Length, tokens": [one.length for one in counted],
                "Traps": [one.n for one in counted],
                f"Rank p up to {level:g}": [one.n_small for one in counted],
                "Share": [percent(round(one.n_small / one.n, 4)) for one in counted],
                "Median rank p": [fixed(one.median, 3) for one in counted],
            }
        ),
        hide_index=True,
        width="stretch",
    )
    st.caption(
        f"Counts of recorded rank p-values, without an interval. Of traps that nobody remembers at most about "
        f"{percent(level)} are expected in each row. The tests of this run are by number of copies, all lengths "
        "together; they stand in the table “By number of copies”, with a correction for their number."
    )


class SmallRanks(NamedTuple):
    """Traps of one number of copies and one length: those with a rank p-value, the small ones, and the median."""

    n_rep: int
    length: int
    n: int
    n_small: int
    median: float


@st.cache_data(show_spinner=False, max_entries=32)
def small_ranks(key: str, level: float, _items: Items) -> list[SmallRanks]:
    """Planted traps with a rank p-value of at most ``level``, by number of copies and length, ascending."""
    rows = _items.table(("n_rep", "length", "rank_p"), (Where("arm", "==", "member"),)).to_pandas()
    groups = rows[rows["rank_p"].notna()].groupby(["n_rep", "length"])["rank_p"]
    return [
        SmallRanks(int(n_rep), int(length), len(p), int((p <= level + 1e-12).sum()), float(p.median()))
        for (n_rep, length), p in groups
    ]


def _documents(section: AuditSection) -> None:
    if not any(table.name == "documents" for table in section.tables):
        st.caption(
            "This run holds no table by document: its plan names no file that says in which documents the traps stand. "
            "Each trap stands below."
        )


@told_apart("The traps could not be shown")
def _traps(part: Part, place: int, *, show_text: bool) -> None:
    st.subheader("Every trap", anchor=False)
    items = open_items(part, ITEMS)
    if items is None:
        st.info("This run kept no traps.", icon=":material/info:")
        return
    which, copies, sought = st.columns(3, vertical_alignment="bottom")
    arms = [_ALL, *map(str, distinct(part.key, ITEMS, "arm", items))]
    arm = which.selectbox("Arm", arms, format_func=cell, **kept(numbered("arm", place), "member", arms))
    counts = [_ALL, *map(str, distinct(part.key, ITEMS, "n_rep", items))]
    n_rep = copies.selectbox("Copies", counts, **kept(numbered("copies", place), _ALL, counts))
    name = sought.text_input("Id contains", max_chars=100, **kept(numbered("trap", place), ""))
    where = []
    if arm != _ALL:
        where.append(Where("arm", "==", arm))
    if n_rep != _ALL:
        where.append(Where("n_rep", "==", int(n_rep)))
    if name:
        where.append(Where("trap_id", "contains", name))
    columns = {**_COLUMNS, **({"text": "Text"} if show_text else {})}
    show_items(part, items, ITEMS, columns, prefix=numbered("trap", place), where=where, sort="rank_p")
    if not show_text:
        st.caption("🔒 The texts are hidden: who knows the decoys can plant them. “Show texts” shows them.")


@told_apart("The texts could not be shown")
def _found_texts(part: Part, place: int, *, show_text: bool) -> None:
    st.subheader("Every text", anchor=False)
    items = open_items(part, "membership")
    if items is None:
        st.info("This run kept no texts.", icon=":material/info:")
        return
    sides = [_ALL, *map(str, distinct(part.key, "membership", "side", items))]
    side = st.selectbox("Set", sides, format_func=cell, **kept(numbered("side", place), _ALL, sides))
    where = [] if side == _ALL else [Where("side", "==", side)]
    columns = {**_TEXTS, **({"text": "Beginning"} if show_text else {})}
    prefix = numbered("text", place)
    show_items(part, items, "membership", columns, prefix=prefix, where=where, sort="ratio_score", descending=True)
