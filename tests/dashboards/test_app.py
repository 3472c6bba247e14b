"""The application: its pages, and both themes' colours."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from audit.runs.schema import Findings
from dashboards.theme import SIDEBARS, THEMES
from tests.dashboards import rooms
from tests.dashboards.conftest import SECONDS, drawn, words

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


def _twice(folder: Path) -> None:
    """Every section of the run's findings once more, as a changed file can hold them."""
    path = folder / "findings.json"
    record = json.loads(path.read_text())
    record["sections"] *= 2
    path.write_text(json.dumps(record))


def test_two_sections_of_one_audit_on_the_page_traps_have_widgets_of_their_own(
    tmp_path: Path, items: pd.DataFrame, findings: Findings
) -> None:
    _twice(rooms.trap_run(tmp_path / "one", items, findings))
    test = drawn("traps", tmp_path, run="one", **{"arm-2": "decoy"})
    assert [test.selectbox(key=key).value for key in ("arm", "arm-2")] == ["member", "decoy"]


@pytest.mark.parametrize("make", [rooms.maps_run, rooms.sweep_run], ids=["fit", "sweep"])
def test_two_sections_of_one_audit_on_the_page_steering_have_widgets_of_their_own(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    _twice(make(tmp_path / "one"))
    test = drawn("steering", tmp_path, run="one")
    assert {"item-sort", "item-2-sort"} <= {str(box.key) for box in test.selectbox}


def test_answers_say_what_they_are_of_and_that_the_choice_has_changed(
    tmp_path: Path, make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashboards.pages.playground import Choice, Question
    from dashboards.playground.asked import Asked
    from dashboards.playground.choices import Remedy
    from dashboards.playground.keeper import Job, Side

    monkeypatch.setenv("PALIMPSEST_DASHBOARD_PLAYGROUND", "on")
    make_run(tmp_path / "one")
    job = Job(Asked("Who?", "/a/model"), state="done")
    job.sides = {"base": Side(1, 1, "Nobody.", True)}
    remedy = Remedy("maps", "steering", tmp_path)
    choice = Choice("/a/model", remedy=remedy, strength=0.5, run="other-run", name="subject")
    test = AppTest.from_function(_playground, args=(str(tmp_path),), default_timeout=SECONDS)
    test.session_state["playground-job"] = Question(job, choice)
    test.run()
    assert not test.exception, test.exception
    said = words(test).replace("\\", "").replace("*", "")
    assert "Asked of the model subject of the run other-run, remedy maps at strength 0.5." in said
    assert "Another choice stands above now" in said
    monkeypatch.setattr("dashboards.pages.playground._choose", lambda shop: choice)
    assert "Another choice stands above now" not in words(test.run())


def _playground(root: str) -> None:
    from pathlib import Path

    from dashboards.pages.playground import page
    from dashboards.store import Store

    page(Store(Path(root)))


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
