"""Where the settings of runs differ, and whether that matters for a comparison."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ...errors import InputError
from ...text.safe import counted, did_you_mean, quoted
from ..schema import RunRecord
from .declared import KINDS, Declared, Kind, Standing

ABSENT = "absent"
_UNKNOWN = Kind(tables={}, subject="subject")
_HASH = 64  # hexadecimal digits of a SHA-256
_SHOWN = 12  # of them


class Setting(NamedTuple):
    """A setting that differs: its name, its value in each run as JSON or "absent", and what is known of it."""

    name: str
    values: tuple[str, ...]
    standing: Standing


def kind_of(name: str) -> Kind:
    """What is declared of a kind of runs; of one that declared nothing, every setting counts."""
    return KINDS.get(name, _UNKNOWN)


def model_of(record: RunRecord) -> str:
    """The model that a run is about; "-" where it asked none."""
    roles = record.subjects
    told = roles.get(kind_of(record.kind).subject, next(iter(roles.values()), {}))
    adapter = told.get("adapter")
    return str(told.get("model", "-")) + (f" with the adapter {adapter}" if adapter else "")


def weights_of(record: RunRecord) -> str | None:
    """SHA-256 of the weights that a run is about, None where it recorded none; an adapter counts."""
    prints = record.subjects.get(kind_of(record.kind).subject, {}).get("fingerprint", {})
    weights = prints.get("weights")
    return None if weights is None else str(weights)


def differing(records: Sequence[RunRecord], audits: Collection[str]) -> list[Setting]:
    """Settings that are not the same in all runs, by name.

    Absent and null are one. Models that are part of the measurement, such as a reference model, are compared by the
    SHA-256 of their weights and not by where they lie; so is the tokenizer of the model that is compared, which may
    differ but is told.

    Args:
        records: Of runs of one kind.
        audits: Those that every run made; the settings of others are passed over.
    """
    kind = kind_of(records[0].kind)
    flat = [dict(_settings(record, kind, audits)) for record in records]
    found = []
    for name in sorted(set().union(*flat)):
        values = [one.get(name) for one in flat]
        if any(not _same(value, values[0]) for value in values[1:]):
            found.append(Setting(name, tuple(map(_shown, values)), _standing(kind, name)))
    return found


def require_same(
    settings: Sequence[Setting], runs: Sequence[str], *, allowed: Collection[str], known: Collection[str]
) -> tuple[Setting, ...]:
    """Refuses differences that matter and were not let through by name.

    Args:
        settings: As from `differing`.
        runs: What the runs are called, for the message.
        allowed: Names that may differ.
        known: Names of all settings.

    Returns:
        Those that matter and were let through.

    Raises:
        InputError: One differs that matters, or an allowed name is no setting's.
    """
    for name in allowed:
        if name not in known:
            raise InputError(
                f"--allow {quoted(name)}: these runs have no such setting.{did_you_mean(name, known)} Give a name as "
                "the refusal spells it, or leave this out."
            )
    matter = [one for one in settings if one.standing in ("matters", "unknown")]
    refused = [one for one in matter if one.name not in allowed]
    if refused:
        lines = [f"- {line_of(one, runs)}" for one in refused]
        allow = " ".join(f"--allow {_word(one.name)}" for one in refused)
        are = "setting differs that matters" if len(refused) == 1 else "settings differ that matter"
        raise InputError(
            f"these runs cannot be compared: {len(refused)} {are}:\n"
            + "\n".join(lines)
            + f"\nMake the runs anew with the same settings, or let a difference through by name ({allow}); the table "
            "then says so."
        )
    return tuple(matter)


def names(records: Sequence[RunRecord], audits: Collection[str]) -> set[str]:
    """The names of all settings that any run has."""
    kind = kind_of(records[0].kind)
    return {name for record in records for name, _ in _settings(record, kind, audits)}


def told_of(settings: Sequence[Setting], runs: Sequence[str]) -> list[str]:
    """One line for each setting that may differ and is told."""
    return [f"differs, which may matter: {line_of(one, runs)}" for one in settings if one.standing == "told"]


def line_of(one: Setting, runs: Sequence[str]) -> str:
    """A setting and its value in each run."""
    values = ", ".join(f"{value} in {run}" for value, run in zip(one.values, runs, strict=True))
    note = "; nothing is declared of it, so it counts" if one.standing == "unknown" else ""
    if one.name.startswith("inputs."):
        note = "; the SHA-256 of what was read" + note
    return f"{one.name}: {values}{note}"


def _word(name: str) -> str:
    """A name as it is typed in a shell."""
    return f"'{name}'" if " " in name else name


def _settings(record: RunRecord, kind: Kind, audits: Collection[str]) -> Iterator[tuple[str, Any]]:
    own = kind.inputs or {}
    for name, value in _flattened(record.plan, ""):
        table, _, rest = name.partition(".")
        if table in own and table not in audits:
            continue
        owners = [audit for audit, inputs in own.items() if any(fnmatchcase(rest, pattern) for pattern in inputs)]
        if table == "inputs" and owners and not set(owners) & set(audits):
            continue
        yield name, value
    for role in kind.instruments:
        prints = record.subjects.get(role, {}).get("fingerprint")
        if prints is not None:
            yield f"{role}.fingerprint.weights", prints.get("weights")
            yield f"{role}.fingerprint.tokenizer", _tokenizer(prints)
    prints = record.subjects.get(kind.subject, {}).get("fingerprint")
    if prints is not None and kind.subject not in kind.instruments:
        yield f"{kind.subject}.fingerprint.tokenizer", _tokenizer(prints)
    if not kind.tables:  # nobody said where its seeds stand in the plan
        for name, seed in record.seeds.items():
            yield f"seeds.{name}", seed


def _tokenizer(prints: Mapping[str, Any]) -> Any:
    """tokenizer.json decides how text is cut; the other files may differ in other things."""
    return prints.get("files", {}).get("tokenizer.json", prints.get("tokenizer"))


def _standing(kind: Kind, name: str) -> Standing:
    table, _, rest = name.partition(".")
    if rest.startswith("fingerprint."):
        return "matters" if table in kind.instruments else "told"
    declared: Declared | None = kind.tables.get(table)
    return "unknown" if declared is None else declared.standing(rest)


def _flattened(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a list is one value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flattened(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _same(one: Any, other: Any) -> bool:
    """Whether two plain values are the same; 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _shown(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, str) and len(value) == _HASH and not set(value) - set("0123456789abcdef"):
        return f"{value[:_SHOWN]}..."
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 120 else f"{text[:100]}... ({counted(len(text), 'character')})"
