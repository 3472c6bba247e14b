"""Markdown: copies stand inside the lines of paragraphs, where nothing but words surrounds them.

markdown-it (CommonMark, with tables) says which lines are paragraphs, also inside lists and quotations; headings, code,
tables, HTML blocks, link definitions and front matter are none. In a paragraph a copy never begins a line, and white
space with a line end in the separator becomes one space, so that no line is added whose first characters could begin
another block. Code spans, links, images, HTML, comments and mathematics inside a paragraph are left alone.

What a trap's own marks (``*``, ``_``, a backtick ...) do when the file is rendered is not prevented: the file holds
the trap character for character, which is what a model is trained on when it is trained on the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

from ....errors import DataError
from ..inject import word_starts
from .document import HostOptions, Insertion, WholeFile, read_whole, with_copies

MARKS = re.compile(r"[*_`~\[\]<>|\\$&#]")  # characters that may be read as Markdown where a trap stands
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|$)")
_FRONT_MATTER = re.compile(
    r"(---|\+\+\+)[ \t]*(?:\r\n|\n|\r)(?:[^\r\n]*(?:\r\n|\n|\r))*?(?:\1|\.\.\.)[ \t]*(?:\r\n|\n|\r|$)"
)
# Inside a paragraph: comments, tags and autolinks, mathematics, code spans.
_NO_WORDS = re.compile(r"<!--[\s\S]*?-->|<[^<>]*>|\$\$[\s\S]*?\$\$|\$[^$]+\$|(?<!`)(`+)(?!`)[\s\S]*?(?<!`)\1(?!`)")


@dataclass(frozen=True, slots=True)
class MarkdownDocument(WholeFile):
    """A .md file."""

    def starts(self) -> list[int]:
        text = self.text or ""
        return [start for first, paragraph in paragraphs(text) for start in _places(text, first, paragraph)]

    def insertions(self, copies: Sequence[tuple[int, str]]) -> list[Insertion]:
        text = self.text or ""
        if _blocks(with_copies(text, copies)) != _blocks(text):
            raise DataError(
                f"{self.place}: with the copies in it, the file would have other paragraphs or other blocks. Leave it "
                "out of the source, or name it .txt."
            )
        return super(MarkdownDocument, self).insertions(copies)


def documents(path: Path, name: str, options: HostOptions) -> Iterator[MarkdownDocument]:
    """The file; errors as `read_whole`."""
    text, first = read_whole(path, name)
    separator = re.sub(r"\s*[\r\n]\s*", " ", options.separator)
    yield MarkdownDocument(name, name, text, first, separator)


def paragraphs(text: str) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Lines of every paragraph: its place among all, and (character offset, content without what leads into it)."""
    lines = _lines(text)
    tokens = _parser().parse(_without_front_matter(text))
    for number, (before, token) in enumerate(pairwise(tokens)):
        if before.type != "paragraph_open" or token.type != "inline" or token.map is None:
            continue
        contents = token.content.split("\n")
        if len(contents) != token.map[1] - token.map[0]:
            continue
        found: list[tuple[int, str]] = []
        for (offset, line), content in zip(lines[token.map[0] : token.map[1]], contents, strict=True):
            line, content = line.rstrip(), content.strip()
            if not line.endswith(content):  # a character was replaced by the parser: where it stands is not certain
                found.clear()
                break
            found.append((offset + len(line) - len(content), content))
        if found:
            yield number, found


def _places(text: str, number: int, paragraph: list[tuple[int, str]]) -> Iterator[int]:
    """Word starts inside a paragraph's lines, but not at their beginning."""
    whole = "\n".join(content for _, content in paragraph)
    closed = bytearray(len(whole) + 1)
    for start, end in [*(found.span() for found in _NO_WORDS.finditer(whole)), *_brackets(whole)]:
        closed[start:end] = b"\1" * (end - start)
    at = 0  # of the line in `whole`
    for offset, content in paragraph:
        for start in word_starts(content):
            if start and not closed[at + start]:
                yield offset + start
        at += len(content) + 1


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """Links, images and references: from ``[`` to its ``]``, and on to the end of ``(...)`` or ``[...]`` after it."""
    opened: list[int] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 2
            continue
        if character == "[":
            opened.append(at)
        elif character == "]" and opened:
            start, end = opened.pop(), at + 1
            closing = {"(": ")", "[": "]"}.get(text[end : end + 1])
            if closing is not None:
                found = text.find(closing, end)
                end = found + 1 if found >= 0 else len(text)
            yield start, end
        at += 1


def _lines(text: str) -> list[tuple[int, str]]:
    """(character offset, line without its end), cut where Markdown cuts."""
    return [(found.start(), found[0].rstrip("\r\n")) for found in _LINE.finditer(text)]


def _without_front_matter(text: str) -> str:
    """The text with the lines of its YAML or TOML head blank, so that all other lines keep their numbers."""
    head = _FRONT_MATTER.match(text)
    if head is None:
        return text
    return re.sub(r"[^\r\n]", "", head[0]) + text[head.end() :]


def _blocks(text: str) -> list[tuple[str, int, bool]]:
    return [(token.type, token.level, token.hidden) for token in _parser().parse(_without_front_matter(text))]


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    # Block structure is all that is read from it, so the text inside paragraphs is not parsed.
    return MarkdownIt("commonmark").enable("table").disable("inline")
