"""Extraction: what of the post-training data the model gave back, how near, and which rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from audit.errors import AuditError
from audit.report.figures import Figure, Panel
from audit.report.side_by_side import side_by_side
from audit.report.similarities import SET_NAMES, SETS, similarity_edges, similarity_histogram
from audit.text.numbers import fixed, percent

from ..address import Between, kept
from ..charts import Drawn, drawn, plain_figure, show_figure, show_panel
from ..items import Items, Where
from ..paged import open_items, show_items
from ..parts import Part, chosen_part
from ..plain import cell, plain
from ..shown import (
    asks_for_text,
    each_section,
    show_comparison,
    show_findings,
    show_tables,
    told,
    told_apart,
)
from ..store import Store
from ..training_rows import compared_view, training_rows

AUDITS = ("extraction", "retraining")
KINDS = ("audit", "extraction", "retraining", "remediation")
MATCHES, MAXIMA, GENERATIONS = "extraction-matches", "extraction-maxima", "extraction-generations"
_COLUMNS = {
    "generation": "Generation",
    "row": "Training row",
    "cosine": "Cosine",
    "levenshtein": "Levenshtein",
    "span_words": "Longest common run, words",
    "numbers_differ": "Other numbers",
    "hit": "Hit",
    "length_ratio": "Length ratio",
    "bleu": "BLEU",
    "cluster": "Cluster",
}
_ALL, _HITS, _MISSES = "all", "hits", "no hits"


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("Extraction", anchor=False)
    st.markdown(
        "The model was sampled from its chat opening alone, and what it wrote was compared with the rows that it was "
        "trained on after its base."
    )
    part = chosen_part(
        shop,
        AUDITS,
        KINDS,
        what="extraction audit",
        how="`palimpsest audit PLAN` with a table `[extraction]`, or `palimpsest extract run`, makes one.",
    )
    if part is None:
        return
    show_text = asks_for_text("extraction", "Generations and training rows")
    for _, section in each_section(part, AUDITS, show_text=show_text):
        with told(part, "The findings could not be shown"):
            show_findings(section, part.landmarks)
        with told(part, "The figures could not be drawn"):
            figures = drawn(part.key, section.audit, part.run, part.findings)
            if not figures:
                st.info("This run kept no items of this audit, so there is nothing to draw.", icon=":material/info:")
            for figure in figures:
                if figure.id == "similarity":
                    _similarity(part, figure)
                else:
                    show_figure(figure)
        if section.audit == "extraction":
            _matches(part, show_text=show_text)
        with told(part, "The tables could not be shown"):
            show_tables(section, part.landmarks, but=("curve", "strongest"))


@told_apart("The similarities could not be shown")
def _similarity(part: Part, figure: Drawn) -> None:
    """The report's histogram; where the run has one threshold, that can be moved in it."""
    items = open_items(part, MAXIMA)
    recorded = [] if items is None or not figure.panels else _thresholds(part.key, items)
    if items is None or not recorded:
        show_figure(figure)
        return
    if len(figure.panels) > 1:
        show_figure(figure)
        st.subheader("At one threshold for every length", anchor=False)
    else:
        st.subheader(plain(figure.title), anchor=False)
    _moved(_similarities(part.key, items), recorded)
    if len(figure.panels) == 1:
        st.caption(plain(figure.caption, 3_000))


def _moved(values: dict[str, NDArray[np.float64]], recorded: list[float]) -> None:
    """A slider that counts the recorded similarities above another threshold."""
    edges = similarity_edges(np.concatenate(list(values.values())), np.array(recorded))
    lowest = float(edges[0])
    threshold = st.slider(
        "Threshold of the cosine",
        lowest,
        1.0,
        step=0.001,
        format="%.3f",
        help="Moved, it counts the recorded similarities anew. The run's own threshold is where it stands at first.",
        **kept("threshold", round(min(max(recorded[0], lowest), 1.0), 3), Between(lowest, 1.0)),
    )
    counts = above(values, threshold)
    words = "; ".join(f"{SET_NAMES[name]} {n_above:,} of {n:,}" for name, n, n_above in counts)
    chart = similarity_histogram(values, threshold=threshold, edges=edges)
    panel = Panel("", f"Similarities with a threshold of {threshold:.3f}: {words}.", chart)
    left, right = st.columns([3, 2], vertical_alignment="center")
    with left:
        show_panel(plain_figure(Figure("threshold", "", "", (panel,))).panels[0])
    right.dataframe(
        pd.DataFrame(
            [
                {"Set": SET_NAMES[name], "Compared": n, "Above": n_above, "Share": _share(n_above, n)}
                for name, n, n_above in counts
            ]
        ),
        hide_index=True,
        width="stretch",
    )
    own = ", ".join(fixed(one, 3) for one in recorded[:4])
    st.caption(
        f"The table counts recorded similarities, without an interval: it shows how much hangs on the threshold, and "
        f"proves nothing. The run's own, {own}{' (by length)' if len(recorded) > 1 else ''}, was fixed without a look "
        "at these generations; only the rates at that one are results."
    )


@st.cache_data(show_spinner=False, max_entries=2)
def _similarities(key: str, _items: Items) -> dict[str, NDArray[np.float64]]:
    """Set -> cosines of the texts that were compared."""
    found = {}
    for name in SETS:
        values = _items.numbers("similarity", (Where("set", "==", name),))
        found[name] = np.clip(values[np.isfinite(values)], -1.0, 1.0)
    return found


@st.cache_data(show_spinner=False, max_entries=16)
def _thresholds(key: str, _items: Items) -> list[float]:
    """Thresholds that the run used, ascending."""
    return [float(one) for one in _items.distinct("threshold") if np.isfinite(float(one))]


def above(values: dict[str, NDArray[np.float64]], threshold: float) -> list[tuple[str, int, int]]:
    """Set, its texts, and those above the threshold, of sets that have any."""
    return [(name, len(one), int((one > threshold).sum())) for name, one in values.items() if len(one)]


def _share(part: int, whole: int) -> str:
    return percent(round(part / whole, 4)) if whole else "-"


@told_apart("The matches could not be shown")
def _matches(part: Part, *, show_text: bool) -> None:
    st.subheader("Matches", anchor=False)
    items = open_items(part, MATCHES)
    if items is None:
        st.info("This run kept no matches.", icon=":material/info:")
        return
    st.markdown("Each generation beside the training row that is nearest to it. Choose one below to read the two.")
    which, by_id, least = st.columns(3, vertical_alignment="bottom")
    hits = which.selectbox("Show", (_ALL, _HITS, _MISSES), **kept("matches", _ALL, (_ALL, _HITS, _MISSES)))
    row = by_id.text_input("Training row's id contains", max_chars=100, **kept("match-row", ""))
    lowest = least.number_input(
        "Cosine at least", -1.0, 1.0, step=0.05, **kept("match-cosine", -1.0, Between(-1.0, 1.0))
    )
    where = []
    if hits != _ALL:
        where.append(Where("hit", "==", hits == _HITS))
    if row:
        where.append(Where("row", "contains", row))
    if lowest > -1:
        where.append(Where("cosine", ">=", lowest))
    rows = show_items(part, items, MATCHES, _COLUMNS, prefix="match", where=where, sort="cosine", descending=True)
    pairs = {
        str(one["generation"]): one
        for one in rows.select([name for name in _COLUMNS if name in rows.column_names]).to_pylist()
    }
    if not pairs:
        return
    chosen = st.selectbox(
        "Match to read",
        list(pairs),
        format_func=lambda one: cell(f"{one} and {pairs[one]['row']}, cosine {fixed(pairs[one]['cosine'], 3)}", 120),
        **kept("match", next(iter(pairs)), list(pairs)),
    )
    if not show_text:
        st.info("The texts are hidden. “Show texts”, at the top of the page, shows them.", icon="🔒")
        return
    _read_match(part, pairs[chosen])


def _read_match(part: Part, match: dict[str, object]) -> None:
    view = compared_view(part.run)
    generation = _generation(part, str(match["generation"]), view)
    if generation is None:
        st.info("This run did not keep the generation's text.", icon=":material/info:")
        return
    try:
        texts, view = training_rows(part.key, part.run)
        row = texts.get(str(match["row"]))
    except (AuditError, OSError) as error:
        st.info(
            f"A run keeps the ids of training rows, not their texts, and they cannot be read again: "
            f"{plain(error, 500)} So the generation stands alone.",
            icon=":material/info:",
        )
        row = None
    if row is None:
        with st.container(border=True):
            st.markdown(f"**The model wrote** ({view})")
            st.text(cell(generation, 5_000))
        return
    cosine, levenshtein = (fixed(float(str(match[name])), 3) for name in ("cosine", "levenshtein"))
    note = f"Cosine {cosine}, Levenshtein {levenshtein}. View: {view}."
    show_comparison(side_by_side("", note, ("The model wrote", generation), ("Training row", row)))


def _generation(part: Part, id_: str, view: str) -> str | None:
    items = open_items(part, GENERATIONS)
    if items is None or view not in items.columns:
        return None
    places = items.order((Where("id", "==", id_),))
    texts: Sequence[str | None] = items.rows([view], places[:1])[view].to_pylist()
    return texts[0] if texts else None
