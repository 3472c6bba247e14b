"""The application: its pages, and both themes' colours."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.theme import SIDEBARS, THEMES
from tests.dashboards.conftest import SECONDS

APP = Path(__file__).parents[2] / "dashboards" / "start" / "dashboard.py"
PAGES = ("overview", "run", "extraction", "traps", "unlearning", "eco", "steering", "gate", "compare", "playground")


def test_no_file_of_ours_is_taken_for_a_page_of_the_old_kind() -> None:
    """Streamlit would run files of a folder ``pages`` beside the script by themselves."""
    assert not (APP.parent / "pages").exists()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_has_its_file(name: str) -> None:
    assert callable(import_module(f"dashboards.pages.{name}").page)


def test_the_application_opens_on_the_overview(
    tmp_path: Path, make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "one")
    monkeypatch.setenv("PALIMPSEST_DASHBOARD_RUNS", str(tmp_path))
    test = AppTest.from_file(str(APP), default_timeout=SECONDS).run()
    assert not test.exception, test.exception
    assert test.title[0].value == "Runs"
    assert test.dataframe[0].value["Run"].tolist() == ["one"]


def luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_read_has_contrast_with_every_ground(theme: str) -> None:
    colors = THEMES[theme]
    grounds = {colors["backgroundColor"], colors["secondaryBackgroundColor"], *SIDEBARS[theme].values()}
    read = {name: color for name, color in colors.items() if name.endswith("TextColor") or name in (
        "textColor", "linkColor", "primaryColor")}  # fmt: skip
    for ground in grounds:
        for name, color in read.items():
            assert contrast(color, ground) >= 4.5, (name, ground)


def test_contrast_is_measured_as_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
