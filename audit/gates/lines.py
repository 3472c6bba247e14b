"""Where the tables and keys of a TOML file stand, which its parser does not tell."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEADER = re.compile(r"\s*\[\[\s*([A-Za-z0-9_.-]+)\s*\]\]\s*(?:#.*)?$")
_TABLE = re.compile(r"\s*\[(?!\[)\s*([A-Za-z0-9_.-]+)\s*\]\s*(?:#.*)?$")
_KEY = re.compile(r"\s*(?:\"([^\"]+)\"|'([^']+)'|([A-Za-z0-9_.-]+))\s*=")
_PLACE = re.compile(r"(?:^|\[)(rules|waivers)\[(\d+)\](?:\.([A-Za-z_]+))?")


@dataclass(frozen=True, slots=True)
class Lines:
    """Line numbers, from 1.

    Attributes:
        header: (table, number) -> line of its header; number counts from 1 in an array of tables, 0 elsewhere.
        key: (table, number, key) -> line.
    """

    header: dict[tuple[str, int], int]
    key: dict[tuple[str, int, str], int]

    @classmethod
    def of(cls, text: str) -> Lines:
        """The lines of a file; what stands in multi-line texts is no table."""
        header: dict[tuple[str, int], int] = {}
        key: dict[tuple[str, int, str], int] = {}
        counts: dict[str, int] = {}
        table, number, inside = "", 0, None
        for at, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            if inside is None:
                if found := _HEADER.match(line):
                    table = found[1]
                    number = counts[table] = counts.get(table, 0) + 1
                    header[table, number] = at
                elif found := _TABLE.match(line):
                    table, number = found[1], 0
                    header[table, number] = at
                elif found := _KEY.match(line):
                    key.setdefault((table, number, found[1] or found[2] or found[3]), at)
            inside = _still_inside(line, inside)
        return cls(header, key)

    def rule(self, number: int) -> int:
        """Line of a rule's id, or of its header; 1 where it was written in another form."""
        return self.key.get(("rules", number, "id")) or self.header.get(("rules", number)) or 1

    def problem(self, message: str) -> int:
        """Line that a message about the policy speaks of; 1 where it names none."""
        if found := re.search(r"\(at line (\d+), column \d+\)", message):
            return int(found[1])
        if found := _PLACE.search(message):
            table, number = found[1], int(found[2])
            named = found[3] or next(iter(re.findall(r"unknown key '([^']+)'", message)), None)
            first = re.match(r".*?: ([a-z_]+) ", message)
            for name in (named, first[1] if first else None):
                if name is not None and (table, number, name) in self.key:
                    return self.key[table, number, name]
            return self.rule(number) if table == "rules" else self.header.get((table, number), 1)
        named = next(iter(re.findall(r"unknown key '([^']+)'", message)), None) or message.split(" ")[0].split(":")[0]
        for table in ("", "self_test", "multiplicity"):
            for name in (named, named.removeprefix(f"{table}.")):
                if (table, 0, name) in self.key and (not table or table in message):
                    return self.key[table, 0, name]
        return 1


def _still_inside(line: str, inside: str | None) -> str | None:
    """The quotes of the multi-line text that goes on after this line; None where none does."""
    at = 0
    while at < len(line):
        if inside is not None:
            end = line.find(inside, at)
            if end < 0:
                return inside
            at, inside = end + 3, None
            continue
        if line.startswith(('"""', "'''"), at):
            inside, at = line[at : at + 3], at + 3
        elif line[at] == "#":
            return None
        elif line[at] in "\"'":
            quote, at = line[at], at + 1
            while at < len(line) and line[at] != quote:
                at += 2 if line[at] == "\\" and quote == '"' else 1
            at += 1
        else:
            at += 1
    return inside
