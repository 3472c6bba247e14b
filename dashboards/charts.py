"""The report's charts in a page: the same definitions, dressed for a light or a dark theme.

Every colour that a chart names is exchanged for its counterpart where the theme is dark; nothing else is changed. A
chart brings its own background, so that it can be read even while the browser has not told of a change of theme.
"""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import streamlit as st
from altair.typing import ChartType

from audit.report.chart_rows import label
from audit.report.drawing import figures_for
from audit.report.figures import Figure
from audit.report.palette import GRID, INK, QUIET, SERIES, SHADE
from audit.report.safe_text import one_line
from audit.runs.schema import Findings
from audit.runs.store import Run

from .items import require_sound
from .plain import plain
from .theme import THEMES

# Contrast with the dark surface: 4.5 to 1 or more for all that is read, as on white in the report.
DARK: Final = {
    INK: "#f2f2f2",
    QUIET: "#a9adb5",
    GRID: "#33373f",
    SHADE: "#3d424c",
    **dict(
        zip(
            SERIES,
            ("#5cb3ef", "#f19a5f", "#35bd97", "#d695d2", "#f2f2f2", "#d8b445", "#93b2de", "#f37f9a"),
            strict=True,
        )
    ),
}
_FONT = '"Source Sans", Arial, Helvetica, sans-serif'  # no wider than the one that charts are measured with
_TITLE = 80  # characters
_ALONE, _BESIDE = 560, 424  # pixels of a panel
_COLOR = re.compile(r"#[0-9a-f]{6}")
_NO_COLORS = frozenset({"values", "datasets", "domain", "sort", "title", "text", "name", "description"})


@dataclass(frozen=True, slots=True)
class DrawnPanel:
    """A `audit.report.figures.Panel` whose chart is a Vega-Lite definition in plain values."""

    title: str
    description: str
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A `audit.report.figures.Figure` in plain values, which a cache can keep."""

    id: str
    title: str
    caption: str
    panels: tuple[DrawnPanel, ...]


@st.cache_data(show_spinner="Drawing the figures", max_entries=32)
def drawn(key: str, audit: str, _run: Run, _findings: Findings) -> list[Drawn]:
    """Figures of one audit of a run.

    Args:
        key: Of the run's files.
        audit: A key of `audit.report.drawing.DRAWN`.

    Raises:
        DataError: Items are damaged, lie behind a link, lack a column, or would fill the memory.
    """
    require_sound(_run)
    return [plain_figure(figure) for figure in figures_for(_run, _findings, audit)]


def plain_figure(figure: Figure) -> Drawn:
    """The figure with its charts as plain values."""
    panels = tuple(DrawnPanel(one.title, one.description, definition(one.chart)) for one in figure.panels)
    return Drawn(figure.id, figure.title, figure.caption, panels)


def definition(chart: ChartType) -> dict[str, Any]:
    """The chart's Vega-Lite definition, its data as lists.

    A chart with data of its own is put into a layer, for Streamlit would take the data out.
    """
    spec: dict[str, Any] = chart.to_dict(validate=False)
    # Altair gathers the rows, which `inline` gave it as JSON, under names.
    rows = {name: json.loads(text) for name, text in spec.pop("datasets", {}).items()}
    if "data" in spec:
        spec["layer"] = [{key: spec.pop(key) for key in ("data", "mark", "encoding", "layer") if key in spec}]
    if isinstance(room := spec.get("padding"), int):
        spec["padding"] = dict.fromkeys(("left", "right", "top", "bottom"), room)  # Streamlit writes into it
    config = spec.setdefault("config", {})
    config["font"] = _FONT
    config["text"] = {"font": _FONT}
    filled: dict[str, Any] = _filled(spec, rows)
    return filled


def _filled(value: Any, rows: dict[str, Any]) -> Any:
    """The same with rows where their name stood, and clean titles: the browser makes expressions of them."""
    if isinstance(value, dict):
        return {
            key: {"values": rows[inner["name"]]}
            if key == "data" and "name" in inner
            else label(inner, limit=_TITLE)
            if key == "title" and isinstance(inner, str)
            else _filled(inner, rows)
            for key, inner in value.items()
        }
    return [_filled(inner, rows) for inner in value] if isinstance(value, list) else value


def show_figures(figures: Sequence[Drawn]) -> None:
    """Figures one below the other, panels side by side where there is room."""
    for figure in figures:
        show_figure(figure)


def show_figure(figure: Drawn) -> None:
    """Title, where it has one, panels, and how to read them."""
    if figure.title:
        st.subheader(plain(figure.title), anchor=False)
    with st.container(horizontal=True, gap="medium"):
        for panel in figure.panels:
            show_panel(panel, width=_ALONE if len(figure.panels) == 1 else _BESIDE)
    st.caption(plain(figure.caption, 3_000))


def show_panel(panel: DrawnPanel, *, width: int = _ALONE) -> None:
    """One chart under its title, ``width`` pixels wide or as it was made, or as the page where that is narrower."""
    with st.container(width=max(width, int(panel.spec.get("width", 0))), gap="xsmall"):
        if panel.title:
            st.markdown(f"**{plain(panel.title)}**")
        st.vega_lite_chart(
            dressed(panel.spec), theme=None, width="stretch", alt=one_line(panel.description, limit=1_500)
        )


def dressed(spec: dict[str, Any]) -> dict[str, Any]:
    """The definition in the colours of the theme that the browser shows."""
    theme = "dark" if st.context.theme.type == "dark" else "light"
    return recolored(spec, THEMES[theme]["backgroundColor"], is_dark=theme == "dark")


def recolored(spec: dict[str, Any], surface: str, *, is_dark: bool) -> dict[str, Any]:
    """The definition with another background, and with the counterparts of its colours where that is dark."""
    colors = {**DARK, "#ffffff": surface} if is_dark else {"#ffffff": surface}
    changed: dict[str, Any] = _recolored(spec, colors, is_dark=is_dark)
    return changed


def _recolored(value: Any, colors: dict[str, str], *, is_dark: bool) -> Any:
    if isinstance(value, dict):
        return {
            key: inner if key in _NO_COLORS else _recolored(inner, colors, is_dark=is_dark)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_recolored(inner, colors, is_dark=is_dark) for inner in value]
    if isinstance(value, str) and _COLOR.fullmatch(value):
        return colors.get(value, _turned(value) if is_dark else value)
    return value


def _turned(color: str) -> str:
    """The colour as light as it was dark: a ramp from pale to dark leads from dim to bright then."""
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    turned = colorsys.hls_to_rgb(hue, 0.12 + 0.82 * (1 - lightness), saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in turned)
