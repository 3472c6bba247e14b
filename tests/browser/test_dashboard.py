"""Every page in a real browser: it draws, says the numbers of the run's files, and no text of a run acts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.report.numbers import estimate, p_value
from audit.runs.schema import Findings
from tests.browser.conftest import HOSTILE
from tests.browser.served import NARROW, PAGES, WIDE, Visitor

Visit = Callable[..., Visitor]
TITLES = {"overview": "Overview", "run": "Run", "eco": "ECO"} | {
    name: name.capitalize() for name in PAGES if name not in ("overview", "run", "eco")
}
VIEWS = ("Findings", "Plan", "Provenance", "Seal", "Time and cost", "Downloads")


def assert_sound(visitor: Visitor, what: str) -> None:
    assert visitor.exceptions() == [], what
    assert visitor.overflow() <= 0, f"{what} scrolls sideways by {visitor.overflow()} pixels"
    assert visitor.page.evaluate("() => window.__ran") is None, f"{what} ran a script of a run"


def assert_inert(visitor: Visitor, what: str) -> None:
    """No text of the run became an element, or is gone from sight."""
    assert_sound(visitor, what)
    main = visitor.page.locator('[data-testid="stMain"]')
    assert main.locator(".katex, iframe, script, del, blockquote, object, embed, foreignObject").count() == 0, what
    places = main.locator("a, img").evaluate_all("all => all.map(one => one.getAttribute('href') || one.src)")
    assert not [place for place in places if re.search("evil|javascript|alert|mailto", place)], what
    said = visitor.text()
    assert not re.search("[\\x00\\x1b\\u202e\\u2066]", said), what


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_a_click_leads_to_every_page_and_each_is_sound_wide_and_narrow(theme: str, visit: Visit) -> None:
    visitor = visit(theme=theme)
    visitor.open("run", run="one")
    for name in PAGES:
        visitor.page.get_by_test_id("stSidebarNav").get_by_role("link", name=re.compile(f"{TITLES[name]}$")).click()
        visitor.page.wait_for_url(f"**/{'' if name == 'overview' else name}*")
        visitor.settle()
        if name != "overview":
            assert "run=one" in visitor.page.url, name
        assert_sound(visitor, f"{name}, {theme}, 1280")
        assert visitor.faint() == [], f"{name}, {theme}"
        visitor.page.set_viewport_size(NARROW)
        visitor.page.wait_for_timeout(300)
        assert_sound(visitor, f"{name}, {theme}, 390")
        visitor.page.set_viewport_size(WIDE)
        visitor.page.wait_for_timeout(300)


def test_hostile_texts_stay_text_on_every_page_and_in_every_view(visit: Visit) -> None:
    visitor = visit()
    visitor.open("run", run=HOSTILE)
    for name in PAGES:
        visitor.go(name)
        assert_inert(visitor, name)
    visitor.go("run")
    for view in VIEWS:
        visitor.page.get_by_test_id("stMain").get_by_role("radio", name=view, exact=True).click()
        visitor.settle()
        assert_inert(visitor, view)


def test_markdown_colours_emoji_and_arrows_of_a_run_are_shown_letter_for_letter(visit: Visit) -> None:
    visitor = visit()
    visitor.open("run", run=HOSTILE)
    said = visitor.text().replace("\u2060", "")
    for text in (":red[red]", ":smile:", ":material/delete:", ":streamlit:", "$x^2$", "-> <- <-> -- >= <= ~=",
                 "**bold**", "[link](javascript:", "<script>", "~~out~~", "&lt;b&gt;"):  # fmt: skip
        assert text in said, text


def test_the_numbers_on_the_page_are_those_of_the_runs_files(runs: Path, visit: Visit) -> None:
    findings = Findings.model_validate_json((runs / "one" / "findings.json").read_text())
    visitor = visit()
    visitor.open("run", run="one")
    said = visitor.text()
    numbers = 0
    for finding in (one for section in findings.sections for one in section.findings):
        assert finding.claim in said
        for name, record in finding.estimates.items():
            assert f"{name}: {estimate(record)}, n {record.n:,}; {record.method}" in said
            numbers += 1
        for name, p in finding.p_values.items():
            assert f"{name}: p = {p_value(p)}, n {p.n:,}; {p.method}" in said
            numbers += 1
    assert numbers > 4


def test_a_row_of_the_overview_opens_its_run(visit: Visit) -> None:
    visitor = visit()
    visitor.open("overview", find="sealed")
    table = visitor.page.get_by_test_id("stDataFrame").first
    box = table.bounding_box()
    assert box is not None
    visitor.page.mouse.click(box["x"] + 16, box["y"] + 38 + 17)
    visitor.page.wait_for_url("**/run?run=sealed*")
    visitor.settle()
    assert "Seal holds" in visitor.text()


@pytest.mark.parametrize(
    ("run", "said", "pages"),
    [("changed", "Not as it was sealed", PAGES[1:-1]), ("damaged", "is not JSON", ("traps", "gate", "compare"))],
)
def test_what_is_wrong_with_a_run_is_said_on_every_page(
    run: str, said: str, pages: tuple[str, ...], visit: Visit
) -> None:
    visitor = visit()
    visitor.open("run", run=run)
    for name in pages:
        visitor.go(name)
        assert_sound(visitor, name)
        assert said in visitor.text(), name


@pytest.mark.parametrize(("name", "run"), [("run", "../runs"), ("gate", "x" * 3_000)])
def test_a_run_that_is_not_in_the_folder_is_said(name: str, run: str, visit: Visit) -> None:
    visitor = visit()
    visitor.open(name, run=run)
    assert_sound(visitor, name)
    assert "There is no run" in visitor.text()


def test_a_deep_link_opens_page_run_and_filters_again(visit: Visit) -> None:
    visitor = visit()
    visitor.open("run", run="one")
    visitor.page.get_by_test_id("stMain").get_by_role("radio", name="Provenance", exact=True).click()
    visitor.settle()
    visitor.page.wait_for_url("**view=Provenance*")
    again = visit()
    again.page.goto(visitor.page.url)
    again.settle()
    assert "Packages" in again.text()


def test_downloads_are_the_runs_files(runs: Path, visit: Visit) -> None:
    visitor = visit()
    visitor.open("run", run="one", view="Downloads")
    for label, expected in (
        ("findings.json", (runs / "one" / "findings.json").read_bytes()),
        ("Parquet", (runs / "one" / "items" / "scores.parquet").read_bytes()),
        ("CSV", None),
        ("Report (HTML)", None),
    ):
        with visitor.page.expect_download() as got:
            visitor.page.get_by_role("button", name=label, exact=True).click()
        content = Path(got.value.path()).read_bytes()
        if expected is not None:
            assert content == expected
        elif label == "CSV":
            assert b"'=1+1" in content
        else:
            assert b"<html" in content
            assert json.loads((runs / "one" / "run.json").read_text())["id"].encode() in content


def test_every_control_can_be_reached_by_keyboard(visit: Visit) -> None:
    """Tab leads through the navigation, the picker of runs and the page's controls."""
    visitor = visit()
    visitor.open("run", run="one")
    seen = set()
    for _ in range(40):
        visitor.page.keyboard.press("Tab")
        seen.add(
            visitor.page.evaluate(
                "() => { const e = document.activeElement;"
                " return (e.getAttribute('aria-label') || e.innerText || e.tagName).trim().slice(0, 60); }"
            )
        )
    said = " | ".join(seen)
    for name in ("Overview", "Gate", "Playground", "Run", "Findings", "Verdict"):
        assert name in said, said
    visitor.page.get_by_test_id("stMain").get_by_role("radio", name="Findings", exact=True).focus()
    visitor.page.keyboard.press("ArrowRight")  # the views are one group: arrows lead through it
    visitor.page.keyboard.press("Space")
    visitor.settle()
    assert "As it was carried out" in visitor.text()


def test_nothing_is_asked_for_from_elsewhere_and_a_strange_host_is_refused(address: str) -> None:
    import http.client
    from urllib.parse import urlsplit

    place = urlsplit(address)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
    upgrade = {
        "Host": "evil.example", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": "http://evil.example",
    }  # fmt: skip
    connection.request("GET", "/_stcore/stream", headers=upgrade)
    assert connection.getresponse().status != 101
