"""The application: which pages there are, and over which runs.

Started by ``palimpsest dashboard``, which names the folder of runs in the environment.
"""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from pathlib import Path

import streamlit as st

from dashboards.store import Store
from dashboards.theme import ICON, dress

RUNS = "PALIMPSEST_DASHBOARD_RUNS"
# Heading in the sidebar -> name (file, address), title and icon of each page.
PAGES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "": (("overview", "Overview", "list_alt"), ("run", "Run", "description")),
    "Audits": (("extraction", "Extraction", "content_paste_search"), ("traps", "Traps", "flag")),
    "Remedies": (
        ("unlearning", "Unlearning", "ink_eraser"), ("eco", "ECO", "shield"), ("steering", "Steering", "explore"),
    ),
    "Decisions": (("gate", "Gate", "rule"), ("compare", "Compare", "compare_arrows")),
    "Try": (("playground", "Playground", "science"),),
}  # fmt: skip


@st.cache_resource(show_spinner=False)
def shop_of(root: str) -> Store:
    """One store for all sessions: what it has read of a run, it reads once."""
    return Store(Path(root))


def show(name: str) -> None:
    """Draws one page."""
    import_module(f"dashboards.pages.{name}").page(shop_of(os.environ.get(RUNS, "palimpsest-runs")))


def main() -> None:
    """Draws the navigation and the page that the address names."""
    st.set_page_config(page_title="Palimpsest", page_icon=ICON, layout="wide", initial_sidebar_state="auto")
    dress()
    pages = {
        heading: [
            st.Page(
                partial(show, name),
                title=title,
                icon=f":material/{icon}:",
                url_path=name,
                default=name == "overview",
            )
            for name, title, icon in listed
        ]
        for heading, listed in PAGES.items()
    }
    st.session_state["pages"] = {page.url_path or "overview": page for group in pages.values() for page in group}
    st.navigation(pages).run()
