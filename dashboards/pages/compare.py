"""Runs of one kind side by side: every estimate, and its difference from the first run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
import streamlit as st

from audit.errors import AuditError
from audit.report.compare_section import comparison_figures, comparison_findings
from audit.report.numbers import limits_of
from audit.runs.compare.make import Comparison
from audit.runs.compare.make import compare as compared
from audit.runs.compare.settings import differing, line_of
from audit.text.safe import counted, printable

from ..address import chosen_run, kept
from ..charts import plain_figure, show_figure
from ..plain import cell, plain
from ..shown import show_tables
from ..store import Opened, Store

_MOST_RUNS: Final = 8


def page(shop: Store) -> None:
    """Draws the page."""
    st.title("Compare", anchor=False)
    st.markdown(
        "Finished runs of one kind side by side, each number with its difference from the first run. A difference is "
        "paired where both runs hold the same items, else it comes from the two intervals."
    )
    first = chosen_run(shop)
    if first is None:
        return
    if first.run is None or first.findings is None or not first.run.complete:
        st.markdown("Only a finished run can be compared. Choose another on the left.")
        return
    others = [
        row.id for row in shop.rows()
        if row.id != first.id and row.kind == first.run.record.kind and row.state == "complete" and row.problem is None
    ]  # fmt: skip
    if not others:
        st.info(
            f"There is no other finished run of the kind {plain(first.run.record.kind, 60)} in this folder.",
            icon=":material/info:",
        )
        return
    chosen = st.multiselect(
        "Compare it with", others, format_func=lambda id_: cell(id_, 80), max_selections=_MOST_RUNS - 1,
        placeholder="Choose one run or more", **kept("with", [], others),
    )  # fmt: skip
    if not chosen:
        st.caption(f"{counted(len(others), 'other run')} of this kind can be chosen.")
        return
    _compare([first, *(shop.open(id_) for id_ in chosen)])


def _compare(runs: Sequence[Opened]) -> None:
    allow = _allowed(runs)
    cells = st.toggle("Cells of tables too", **kept("cells", False))
    try:
        found = _made(tuple(one.key for one in runs), tuple(str(one.folder) for one in runs), tuple(allow), cells)
    except (AuditError, OSError) as error:
        st.error(plain(_said(error, runs), 4_000, lines=True), icon=":material/warning:")
        return
    _runs(found, runs)
    _tables(found)


@st.cache_data(show_spinner="Comparing ...", max_entries=50)
def _made(keys: tuple[str, ...], folders: tuple[str, ...], allow: tuple[str, ...], cells: bool) -> Comparison:
    """``keys`` change with the runs' files, so that no old comparison is shown of changed runs."""
    return compared(folders, allow=allow, cells=cells)


def _allowed(runs: Sequence[Opened]) -> list[str]:
    """Settings that differ although they matter, let through by name."""
    records = [one.run.record for one in runs if one.run is not None]
    audits = set(runs[0].audits).intersection(*(one.audits for one in runs))
    try:
        differ = [one for one in differing(records, audits) if one.standing in ("matters", "unknown")]
    except AuditError:
        return []
    names = [one.name for one in differ]
    if not names:
        return []
    called = [f"run {number}" for number in range(1, len(runs) + 1)]
    told = {one.name: cell(line_of(one, called), 200) for one in differ}
    return list(
        st.multiselect(
            f"{counted(len(names), 'setting')} that {'matters differs' if len(names) == 1 else 'matter differ'}: "
            "let through by name",
            names, format_func=told.__getitem__, placeholder="None", **kept("allow", [], names),
        )
    )  # fmt: skip


def _said(error: Exception, runs: Sequence[Opened]) -> str:
    """The message without the folders' paths, in the page's words."""
    said = printable(error)
    for number, one in enumerate(runs, start=1):
        said = said.replace(printable(one.folder), f"run {number} ({one.id})")
    return said


def _runs(found: Comparison, runs: Sequence[Opened]) -> None:
    frame = pd.DataFrame(
        {
            "": [one.name.capitalize() for one in found.runs],
            "Run": [cell(one.id, 80) for one in runs],
            "Model": [cell(one.model, 120) for one in found.runs],
            "Begun": [cell(one.record.provenance.created[:16]) for one in found.runs],
        }
    )
    st.dataframe(frame, hide_index=True, alt="The runs that are compared")
    for line in found.told[:40]:
        st.caption(plain(line, 600))


def _tables(found: Comparison) -> None:
    findings, figures = comparison_findings(found), comparison_figures(found)
    landmarks = frozenset().union(*(limits_of(one.record.plan) for one in found.runs))
    for section in findings.sections:
        st.subheader(plain(section.title, 200), anchor=False)
        for finding in section.findings:
            st.markdown(plain(finding.claim, 1_000))
        for figure in figures.get(section.audit, []):
            show_figure(plain_figure(figure))
        show_tables(section, landmarks)
    if findings.sections:
        st.caption(plain(findings.sections[0].findings[0].how_to_read, 1_500))
    if findings.limitations:
        with st.expander("What was not compared, and what else differs", icon=":material/info:"):
            st.markdown("\n".join(f"- {plain(line, 600)}" for line in findings.limitations[:100]))
