"""Pictures of every page of the dashboard.

    python -m tests.browser.screenshots --runs palimpsest-runs --out screenshots

Each page at 1280 and 390 pixels, light and dark, of the newest run or of ``--run``. The folder is git-ignored.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .served import NARROW, PAGES, WIDE, Visitor, browser, served


def main() -> None:
    """Starts the dashboard and takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("palimpsest-runs"), help="folder of runs")
    parser.add_argument("--run", default="", help="name of the run that is shown; default the newest")
    parser.add_argument("--out", type=Path, default=Path("screenshots"), help="folder of the pictures")
    parser.add_argument("--pages", nargs="*", default=list(PAGES), help="pages, by their names in the address")
    parser.add_argument("--query", nargs="*", default=[], metavar="NAME=VALUE", help="filters of the address")
    parser.add_argument("--only", choices=("wide", "narrow"), help="one width alone")
    parser.add_argument("--theme", choices=("light", "dark"), help="one theme alone")
    parser.add_argument("--screen", action="store_true", help="the first screen alone, not the whole page")
    parser.add_argument("--at", type=int, default=0, metavar="PIXELS", help="with --screen, how far down it begins")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    query = dict(one.partition("=")[::2] for one in given.query)
    sizes = {"wide": WIDE, "narrow": NARROW}
    with served(given.runs.absolute()) as address, browser() as chromium:
        for theme in [given.theme] if given.theme else ["light", "dark"]:
            for width in [given.only] if given.only else list(sizes):
                visitor = Visitor(chromium, address, size=sizes[width], theme=theme)
                for name in given.pages:
                    visitor.open(name, **({"run": given.run} if given.run else {}), **query)
                    visitor.page.wait_for_timeout(700)
                    if given.screen:
                        _scroll(visitor, given.at)
                    else:
                        _grow(visitor, sizes[width])
                    path = given.out / f"{name}-{width}-{theme}.png"
                    visitor.page.screenshot(path=path)
                    visitor.page.set_viewport_size(sizes[width])
                    print(path, *visitor.exceptions(), *visitor.errors, sep="\n  ")
                    visitor.errors.clear()
                visitor.close()


def _scroll(visitor: Visitor, pixels: int) -> None:
    visitor.page.evaluate(f"() => document.querySelector('[data-testid=\"stMain\"]').scrollTo(0, {pixels})")
    visitor.page.wait_for_timeout(1_500)  # figures are drawn when they are reached


def _grow(visitor: Visitor, size: dict[str, int]) -> None:
    """Makes the window as high as the page, within reason: its inner part scrolls, not the page."""
    height = visitor.page.evaluate(
        "() => { const m = document.querySelector('[data-testid=\"stMain\"]'); return m ? m.scrollHeight : 0; }"
    )
    visitor.page.set_viewport_size({"width": size["width"], "height": max(size["height"], min(int(height), 4_000))})
    visitor.page.wait_for_timeout(400)


if __name__ == "__main__":
    main()
