"""How the dashboard looks: one accent colour, that of the report's charts, in a light and a dark theme."""

from __future__ import annotations

from typing import Final, Literal

import streamlit as st

from audit.report.sections import VERDICT_WORDS
from audit.runs.schema import Verdict

# Streamlit's options of that name, for each theme. Contrast with the ground is 4.5 to 1 or more; a test measures it.
THEMES: Final[dict[str, dict[str, str]]] = {
    "light": {
        "primaryColor": "#0067a3",
        "backgroundColor": "#ffffff",
        "secondaryBackgroundColor": "#f3f5f7",
        "textColor": "#1a1a1a",
        "linkColor": "#0067a3",
        "borderColor": "#d3d8de",
        "codeTextColor": "#1a1a1a",
        "codeBackgroundColor": "#eef1f4",
        "redTextColor": "#a3193d",
        "orangeTextColor": "#8f3a00",
        "yellowTextColor": "#6b5000",
        "greenTextColor": "#00664a",
        "blueTextColor": "#005a8f",
        "violetTextColor": "#7a3574",
        "grayTextColor": "#555b61",
    },
    "dark": {
        "primaryColor": "#5cb0e6",
        "backgroundColor": "#12161b",
        "secondaryBackgroundColor": "#1c222a",
        "textColor": "#e6e9ec",
        "linkColor": "#7cc1ef",
        "borderColor": "#39424d",
        "codeTextColor": "#e6e9ec",
        "codeBackgroundColor": "#1c222a",
        "redTextColor": "#ff9dae",
        "orangeTextColor": "#ffb27a",
        "yellowTextColor": "#eacb6a",
        "greenTextColor": "#77d6b0",
        "blueTextColor": "#8fcaf2",
        "violetTextColor": "#dca6d7",
        "grayTextColor": "#b4bcc5",
    },
}
SIDEBARS: Final[dict[str, dict[str, str]]] = {
    "light": {"backgroundColor": "#f3f5f7", "secondaryBackgroundColor": "#ffffff"},
    "dark": {"backgroundColor": "#171c22", "secondaryBackgroundColor": "#232a33"},
}
SHARED: Final[dict[str, str]] = {
    "baseRadius": "6px",
    "showSidebarBorder": "true",
    "showWidgetBorder": "true",
    "headingFontSizes": "['1.9rem','1.35rem','1.1rem','1rem','0.95rem','0.9rem']",
    "headingFontWeights": "[650,620,600,600,600,600]",
    "metricValueFontSize": "1.55rem",
}
Colour = Literal["red", "orange", "yellow", "green", "blue", "violet", "gray"]
_TONES: Final[dict[Verdict, Colour]] = {
    "found": "red",
    "confounded": "violet",
    "inconclusive": "orange",
    "not found": "green",
    "information": "blue",
}
# Readable on both themes' sidebars: 3 to 1 or more, for large letters.
_MARK: Final = """<svg xmlns="http://www.w3.org/2000/svg" width="190" height="34" viewBox="0 0 190 34">
<g fill="none" stroke="#2c86c0" stroke-width="2.4" stroke-linecap="round">
<path d="M4 8h18M4 15h14M4 22h18M4 29h10"/><path d="M10 4l16 26" stroke-opacity="0.45"/></g>
<text x="36" y="24" font-family="Source Sans, Source Sans Pro, Arial, sans-serif" font-size="23" font-weight="650"
fill="#2c86c0">Palimpsest</text></svg>"""
ICON: Final = """<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32" viewBox="0 0 32 34">
<g fill="none" stroke="#2c86c0" stroke-width="3.4" stroke-linecap="round">
<path d="M5 7h20M5 14h16M5 21h20M5 28h11"/><path d="M10 4l17 27" stroke-opacity="0.45"/></g></svg>"""
_STYLE = """
<style>
[data-testid="stMainBlockContainer"] { max-width: 80rem; padding: 3.2rem 2.5rem 4rem; }
[data-testid="stMetricValue"], [data-testid="stTable"] td { font-variant-numeric: tabular-nums; }
[data-testid="stCode"] pre, [data-testid="stText"] { overflow-wrap: anywhere; white-space: pre-wrap; }
[data-testid="stMarkdownContainer"] p, [data-testid="stMarkdownContainer"] li { overflow-wrap: anywhere; }
[data-testid="stHeading"] { overflow-wrap: anywhere; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding: 3.6rem 1rem 3rem; }
  [data-testid="stColumn"]:has(> div [data-testid="stMetric"]) {
    flex: 1 1 calc(50% - 1rem); min-width: calc(50% - 1rem);
  }
}
</style>
"""


# What depends on the theme: small print as dark as a word must be, and dark words on the dark theme's light accent.
_SMALL_PRINT = """<style>
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * {{ opacity: 1; }}
[data-testid="stCaptionContainer"] :is(p, li, code) {{ color: {color}; }}
</style>"""
_ON_ACCENT = """<style>
[data-baseweb="tag"], [data-baseweb="tag"] *, button[kind^="primary"], button[kind^="primary"] * {
  color: #0b1015 !important;
}
</style>"""


def options() -> list[str]:
    """Streamlit's flags for both themes."""
    flags = [f"--theme.{name}={value}" for name, value in SHARED.items()]
    for theme, values in THEMES.items():
        flags += [f"--theme.{theme}.{name}={value}" for name, value in values.items()]
        flags += [f"--theme.{theme}.sidebar.{name}={value}" for name, value in SIDEBARS[theme].items()]
    return flags


def dress() -> None:
    """What every page carries besides its own content."""
    st.html(_STYLE)
    st.logo(_MARK, size="large")
    theme = st.context.theme.type
    if theme in THEMES:
        st.html(_SMALL_PRINT.format(color=THEMES[theme]["grayTextColor"]))
    if theme == "dark":
        st.html(_ON_ACCENT)


def verdict_badge(verdict: Verdict | None) -> None:
    """The verdict as a word on a colour, so that no colour must be told apart; its meaning is the badge's help."""
    if verdict is None:
        st.badge("No result", color="gray", help="Nothing was concluded. An empty result is not a pass.")
    else:
        label, meaning = VERDICT_WORDS[verdict]
        st.badge(label, color=_TONES[verdict], help=meaning)
