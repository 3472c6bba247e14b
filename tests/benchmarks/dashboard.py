"""How long the dashboard takes to show a page, and how much memory its process takes, by what it serves.

    python -m tests.benchmarks.dashboard [--runs 1,100,1000] [--items 1000000] [--folder DIR] [--times 5]

Runs are copies of a small one with a trap audit, an audit of found texts and an extraction audit of 200 items each; the
large run holds so many items in each of its three audits. A page counts as shown when its title is there, as complete
when the script that draws it has ended. Each row has a server of its own; the browser's memory is not counted.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tests.benchmarks.report import make_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
SMALL = 200
_SHOWN = '[data-testid="stMain"] h1'
_DONE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
_MS = 60_000


class Server:
    """The dashboard's process over a folder of runs."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self._process = process
        self.address = address

    def mib(self, field: str = "VmRSS") -> float:
        """Resident memory now, or its peak ("VmHWM"), in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1024


@contextmanager
def served(runs: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "audit", "dashboard", "--runs", str(runs), "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, **quiet) as process:
        try:
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise SystemExit("the dashboard did not start") from None
                    time.sleep(0.05)
            yield Server(process, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def tab() -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    browser = next(
        (one for name in ("chromium", "chromium-browser", "google-chrome") if (one := shutil.which(name))), None
    )
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        yield found.new_page(viewport={"width": 1280, "height": 900})
        found.close()


def seconds(page: Page, act: Callable[[], object], title: str) -> tuple[float, float]:
    """Until the title ``title`` is there, and until the page is complete, both from ``act`` on."""
    began = time.perf_counter()
    act()
    page.locator(_SHOWN, has_text=title).wait_for(timeout=_MS)
    shown = time.perf_counter() - began
    page.wait_for_timeout(20)  # the script's state changes with the next message
    page.locator(_DONE).wait_for(timeout=_MS)
    return shown, time.perf_counter() - began


def linked(page: Page, name: str) -> Callable[[], None]:
    return lambda: page.locator('[data-testid="stSidebarNav"]').get_by_role("link", name=name, exact=True).click()


def of_many(root: Path, n: int, times: int) -> str:
    """A folder of ``n`` small runs: the first page, switches between Overview and Run, memory."""
    runs = root / f"runs-{n}"
    runs.mkdir()
    make_run(runs / "run-0000", SMALL)
    for number in range(1, n):
        shutil.copytree(runs / "run-0000", runs / f"run-{number:04d}")
    with served(runs) as server, tab() as page:
        before = server.mib()
        first = seconds(page, lambda: page.goto(server.address, wait_until="commit"), "Runs")
        seconds(page, linked(page, "Run"), "Run")
        switches = []
        for _ in range(times):
            switches.append(seconds(page, linked(page, "Overview"), "Runs")[1])
            switches.append(seconds(page, linked(page, "Run"), "Run")[1])
        return _row(
            f"{n:,} run{'s' if n > 1 else ''}, first page", first, switches, (before, server.mib(), server.mib("VmHWM"))
        )


def of_large(root: Path, n: int, times: int) -> Iterator[str]:
    """One run of ``n`` items in each of three audits: its pages, opened by a link, and their tables, leafed through."""
    runs = root / "large"
    make_run(runs / "large", n)
    for name, title, number in (
        ("run", "Run", None),
        ("extraction", "Extraction", "match-page"),
        ("traps", "Traps", "trap-page"),
    ):
        with served(runs) as server, tab() as page:
            before = server.mib()
            page.goto(server.address)
            page.locator(_DONE).wait_for(timeout=_MS)  # what is imported once is not the run's
            link = f"{server.address}/{name}?{urlencode({'run': 'large'})}"
            first = seconds(page, lambda link=link: page.goto(link, wait_until="commit"), title)
            leafed = []
            if number is not None:
                more = page.locator(f".st-key-{number}").get_by_test_id("stNumberInputStepUp")
                leafed = [seconds(page, more.click, title)[1] for _ in range(times)]
            memory = (before, server.mib(), server.mib("VmHWM"))
            yield _row(f"1 run of 3 x {n:,} items, page {title}", first, leafed, memory)


def _row(what: str, first: tuple[float, float], then: list[float], memory: tuple[float, float, float]) -> str:
    later = f"{statistics.median(then):.2f} s (most {max(then):.2f}, n {len(then)})" if then else "-"
    cells = [what, f"{first[0]:.2f} s", f"{first[1]:.2f} s", later, *(f"{one:,.0f}" for one in memory)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", default="1,100,1000", help="numbers of small runs")
    parser.add_argument("--items", type=int, default=1_000_000, help="of the large run; 0 for none")
    parser.add_argument("--folder", type=Path, help="where runs are made; a temporary folder by default")
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    print("| served | title shown | page complete | switch, or next items | MiB at the start | after | peak |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        for n in map(int, filter(None, given.runs.split(","))):
            print(of_many(Path(made), n, given.times), flush=True)
        if given.items:
            for row in of_large(Path(made), given.items, given.times):
                print(row, flush=True)


if __name__ == "__main__":
    main()
