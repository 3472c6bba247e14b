"""HTML: copies stand in visible text, escaped; `html.parser` says where in the source that text stands.

Text in the title, scripts, styles, forms, graphics, preformatted and quoted code, navigation and the like is none, nor
is that of an element which says itself that it is hidden (``hidden``, ``aria-hidden``, an inline style). What a style
sheet hides cannot be seen here. Where the source is malformed, what is uncertain is left alone.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path

from ..inject import word_starts
from .document import HostOptions, Html, WholeFile, like_the_file, read_whole

HIDDEN = '<span style="display:none" aria-hidden="true">', "</span>"
_CODE = frozenset({"code", "kbd", "listing", "plaintext", "pre", "samp", "script", "style", "var", "xmp"})
_FORM = frozenset({"button", "datalist", "optgroup", "option", "select", "textarea"})
_OTHER = frozenset(
    {"audio", "canvas", "footer", "iframe", "nav", "noembed", "noframes", "noscript", "object", "picture"}
)
_CLOSED = _CODE | _FORM | _OTHER | {"math", "svg", "template", "title", "video"}
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "wbr"}
)
_FOREIGN = frozenset({"svg", "math"})
_UNSEEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HtmlDocument(WholeFile):
    """A .html file; ``text`` is its source. In a file of ASCII other characters are written as references."""

    mode: Html

    def starts(self) -> list[int]:
        text = self.text or ""
        return [start + at for start, end in visible(text) for at in word_starts(text[start:end]) if at]

    def inserted(self, trap: str) -> str:
        escaped = html.escape(f"{self.separator}{trap}{self.separator}", quote=False)
        if (self.text or "").isascii():
            escaped = escaped.encode("ascii", "xmlcharrefreplace").decode()
        return escaped if self.mode == "visible" else escaped.join(HIDDEN)


def documents(path: Path, name: str, options: HostOptions) -> Iterator[HtmlDocument]:
    """The file; errors as `read_whole`."""
    text, first = read_whole(path, name)
    yield HtmlDocument(name, name, text, first, like_the_file(options.separator, text), options.html)


def visible(source: str) -> list[tuple[int, int]]:
    """Start and end (characters) of every run of visible text without markup and references, in order."""
    parser = _Places(source)
    parser.feed(source)
    parser.close()
    return parser.found


class _Places(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=False)
        self.source = source
        self.lines = [0, *accumulate(len(line) + 1 for line in source.split("\n"))]
        self.found: list[tuple[int, int]] = []
        self.inside: str | None = None  # the element that keeps text out, and how many of its name are open
        self.depth = 0
        self.lost = False  # an unfinished tag or comment: nothing after it is certain

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.inside is not None:
            self.depth += tag == self.inside
        elif tag not in _VOID and (tag in _CLOSED or _says_hidden(attrs)):
            self.inside, self.depth = tag, 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _FOREIGN:  # "<p/>" opens a paragraph in HTML
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.depth -= 1
            if self.depth == 0:
                self.inside = None

    def handle_data(self, data: str) -> None:
        line, column = self.getpos()
        start = self.lines[line - 1] + column
        after = self.source[start + 1 : start + 2]
        if data.startswith("<") and (after.isalpha() or after in ("/", "!", "?")):
            self.lost = True
        certain = not self.lost and self.inside is None and not data.startswith(("<", "&"))
        if certain and self.source.startswith(data, start):
            self.found.append((start, start + len(data)))


def _says_hidden(attrs: list[tuple[str, str | None]]) -> bool:
    for name, value in attrs:
        if name == "hidden" or (name == "aria-hidden" and (value or "").strip().lower() == "true"):
            return True
        if name == "style" and _UNSEEN.search(value or ""):
            return True
    return False
