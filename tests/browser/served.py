"""The dashboard as a process of its own, and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

ROOT: Final = Path(__file__).parents[2]
BROWSER: Final = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PAGES: Final = (
    "overview",
    "run",
    "extraction",
    "traps",
    "unlearning",
    "eco",
    "steering",
    "gate",
    "compare",
    "playground",
)
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
_SECONDS: Final = 60
_PROBED: Final = ("/_stcore/health", "/_stcore/host-config")


# Every piece of text, its colour laid over the grounds behind it. Disabled controls and hidden ones do not count.
_FAINT: Final = """() => {
  const parse = text => { const m = text.match(/[\\d.]+/g) || [0, 0, 0, 0];
    return {rgb: m.slice(0, 3).map(Number), a: m.length > 3 ? Number(m[3]) : 1}; };
  const over = (top, below) => top.rgb.map((c, i) => c * top.a + below[i] * (1 - top.a));
  const linear = c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = rgb => { const [r, g, b] = rgb.map(c => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = element => { const chain = []; for (let e = element; e; e = e.parentElement) chain.push(e);
    const white = [255, 255, 255];
    return chain.reverse().reduce((rgb, e) => over(parse(getComputedStyle(e).backgroundColor), rgb), white); };
  const skipped = 'script, style, noscript, [disabled], [aria-disabled="true"], [aria-hidden="true"], .vega-embed';
  const found = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element || element.closest(skipped)) continue;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (!box.width || !box.height || style.visibility !== 'visible' || style.clip !== 'auto') continue;
    let opacity = 1; for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
    if (opacity < 0.05) continue;
    const below = ground(element), color = parse(style.color); color.a *= opacity;
    const [a, b] = [light(over(color, below)), light(below)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.02) found.add(`${ratio.toFixed(2)}: ${text.slice(0, 60)}`);
  }
  return [...found];
}"""


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """Starts ``palimpsest dashboard`` over a folder of runs; yields its address, ends it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "audit", "dashboard", "--runs", str(runs), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=runs.parent, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the dashboard did not start (exit code {process.poll()})")


@contextmanager
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window; none is ever downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()


class Visitor:
    """One tab, which notes everything that a page must not do.

    Attributes:
        page: Playwright's page.
        errors: Errors in the console and scripts that failed.
        strangers: Addresses outside of the dashboard that were asked for.
    """

    def __init__(self, chromium: Browser, address: str, *, size: dict[str, int] = WIDE, theme: str = "light") -> None:
        self._address = address
        self.errors: list[str] = []
        self.strangers: list[str] = []
        context = chromium.new_context(viewport=size, color_scheme=theme)  # type: ignore[arg-type]
        self.page: Page = context.new_page()
        self.page.set_default_timeout(1000 * _SECONDS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self._refuse(dialog))
        self.page.on("request", lambda request: self._note(request.url))

    def _hear(self, said: ConsoleMessage) -> None:
        """Notes errors, but not that Streamlit looks for its server below the page's own path first."""
        where = urlsplit(said.location.get("url", "")).path
        if said.type == "error" and not (where.count("/") > 2 and where.endswith(_PROBED)):
            self.errors.append(f"{said.text} ({where})")

    def _refuse(self, dialog: object) -> None:
        self.errors.append("a dialog opened")
        dialog.dismiss()  # type: ignore[attr-defined]

    def _note(self, url: str) -> None:
        own = (self._address, self._address.replace("http", "ws"), "data:", "blob:")
        if not url.startswith(own):
            self.strangers.append(url)

    def open(self, name: str, **query: str) -> None:
        """Opens a page of the dashboard and waits until it stands still."""
        path = "" if name == "overview" else name
        self.page.goto(f"{self._address}/{path}{'?' if query else ''}{urlencode(query)}")
        self.settle()

    def go(self, name: str) -> None:
        """Follows the navigation's link to another page of the same session, also where the sidebar is shut."""
        self.page.evaluate(
            "name => document.querySelector(`[data-testid='stSidebarNav'] a[href$='/${name}']`).click()",
            "" if name == "overview" else name,
        )
        self.page.wait_for_url(lambda url: urlsplit(url).path == f"/{'' if name == 'overview' else name}")
        self.settle()

    def settle(self) -> None:
        """Waits until the script has run and nothing is drawn anew."""
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        self.page.wait_for_timeout(300)
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')

    def text(self) -> str:
        """What can be read on the page."""
        return self.page.inner_text('[data-testid="stMain"]')

    def exceptions(self) -> list[str]:
        """Boxes that stand for an error of ours."""
        return [box.inner_text() for box in self.page.query_selector_all('[data-testid="stException"]')]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(
            self.page.evaluate(
                "() => { const m = document.querySelector('[data-testid=\"stMain\"]');"
                " return Math.max(document.documentElement.scrollWidth - window.innerWidth,"
                " m ? m.scrollWidth - m.clientWidth : 0); }"
            )
        )

    def faint(self) -> list[str]:
        """Words whose contrast with what lies behind is below 4.5 to 1, or 3 to 1 for large ones (WCAG 2.2, AA)."""
        return list(self.page.evaluate(_FAINT))

    def close(self) -> None:
        self.page.context.close()
