"""What the loop reads: rows and texts by what they are for, none of them in two places.

forget      given to the remedies, and measured
lent        half of what is kept, by cluster: retain rows and texts of the remedies
neighbours  the other half: measured, shown to no remedy
general     measured, shown to no remedy
never       from the draw of the forget set, seen by nobody: controls; guards may see its prompts

Ids are unique over all sets: `forget/rows/7` is the row "7" of [forget]; clusters likewise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from audit.answers.rows import QaRow, read_qa
from audit.errors import DataError, InputError
from audit.forgetting.prompts import Passage
from audit.text.files import sha256_file
from audit.text.readers import read_texts
from audit.text.safe import counted, quoted

from ...verify.lm_tasks.files import TaskFile, read_items
from .plan import LoopPlan, TextsTable, file_of

_NAMED = 3
_SETS = ("forget", "keep", "general", "never")
_TUNED = ("forget", "keep")  # what remedies are tuned on
_BEFORE = re.compile(r"^(?:question|q): ")  # in a benchmark's template
_AFTER = re.compile(r" (?:answer|a):$")


@dataclass(frozen=True, slots=True)
class Part:
    """Questions with answers, and texts; either may be empty."""

    rows: tuple[QaRow, ...] = ()
    texts: tuple[Passage, ...] = ()

    @property
    def n_clusters(self) -> int:
        return len({row.cluster for row in self.rows}) + len(self.texts)


@dataclass(frozen=True, slots=True)
class Data:
    """Everything that the loop reads; see the head of this file.

    Attributes:
        forget: See there, and so on.
        names: Names of the forget set; may be empty.
        real_authors: TOFU's, may be empty.
        world_facts: Likewise.
        tasks: Benchmarks for lm-eval.
        inputs: SHA-256 of each file.
    """

    forget: Part
    lent: Part
    neighbours: Part
    general: Part
    never: Part
    names: tuple[str, ...] = ()
    real_authors: tuple[QaRow, ...] = ()
    world_facts: tuple[QaRow, ...] = ()
    tasks: tuple[TaskFile, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)


def read_data(plan: LoopPlan, path: Path) -> Data:
    """Read what a plan names, and refuse what stands in two places.

    Raises:
        InputError, DataError: A file is missing or damaged, or two sets share rows or texts; the first are named.
    """
    inputs: dict[str, str] = {}
    found = {name: _part(name, getattr(plan, name), path, inputs) for name in _SETS}
    names: tuple[str, ...] = ()
    if plan.forget.names is not None:
        file = file_of(plan.forget.names, path)
        names = _names(file)
        inputs["forget.names"] = sha256_file(file)
    useful = {}
    for name in ("real_authors", "world_facts"):
        given = getattr(plan.utility, name)
        useful[name] = () if given is None else _named(f"utility.{name}", read_qa(file_of(given, path)))
        if given is not None:
            inputs[f"utility.{name}"] = sha256_file(file_of(given, path))
    tasks = tuple(
        TaskFile(name, table.kind, file_of(table.path, path), table.limit) for name, table in plan.utility.tasks.items()
    )
    items = {f"utility.tasks.{task.name}": _asked(task) for task in tasks}
    inputs |= {f"utility.tasks.{task.name}": sha256_file(task.path) for task in tasks}
    _refuse_same_file(inputs)
    sets = {name: _told(part) for name, part in found.items()}
    _refuse_shared(sets)
    for name, others in ({f"utility.{name}": _told(Part(rows)) for name, rows in useful.items()} | items).items():
        _refuse_shared(sets, (name, others))
    _refuse_shared_clusters(found)
    lent, neighbours = _halves(found["keep"], seed=plan.verify.seed)
    return Data(
        found["forget"], lent, neighbours, found["general"], found["never"], names, **useful, tasks=tasks, inputs=inputs
    )


def only_clusters(data: Data, clusters: frozenset[str]) -> Data:
    """The same, with the forget rows of some clusters alone, and no forget texts.

    Raises:
        DataError: No row is of them.
    """
    rows = tuple(row for row in data.forget.rows if row.cluster in clusters)
    if not rows:
        raise DataError("none of the forget rows was found by the audit, so there is nothing to treat.")
    return Data(
        Part(rows), data.lent, data.neighbours, data.general, data.never, data.names, data.real_authors,
        data.world_facts, data.tasks, data.inputs,
    )  # fmt: skip


def _part(name: str, table: TextsTable | None, path: Path, inputs: dict[str, str]) -> Part:
    if table is None:
        return Part()
    rows: tuple[QaRow, ...] = ()
    texts: tuple[Passage, ...] = ()
    if table.rows is not None:
        file = file_of(table.rows, path)
        read_rows = read_qa(file, cluster_size=table.cluster_size)
        unanswered = [row.id for row in read_rows if not row.answer.strip()]
        if unanswered:
            raise DataError(f"{file}: row {quoted(unanswered[0])} has no answer; expected one for each question.")
        rows = _named(name, read_rows)
        inputs[f"{name}.rows"] = sha256_file(file)
    if table.texts is not None:
        read = read_texts(file_of(table.texts, path))
        texts = tuple(Passage(f"{name}/texts/{own}", text) for own, text in zip(read.ids, read.texts, strict=True))
        inputs[f"{name}.texts"] = read.sha256
    return Part(rows, texts)


def _names(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"could not read the names in {file}: {error}. Give a file of UTF-8, one name a line."
        ) from error
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise DataError(f"{file} holds no name; expected one a line.")
    return found


def own_id(identifier: str) -> str:
    """An id or a cluster as its file has it."""
    return identifier.split("/", 2)[2]


def _named(name: str, rows: Sequence[QaRow]) -> tuple[QaRow, ...]:
    """Rows with ids and clusters that no other set has, though each file counts from 1."""
    return tuple(replace(row, id=f"{name}/rows/{row.id}", cluster=f"{name}/rows/{row.cluster}") for row in rows)


Told = Sequence[tuple[str, str]]
"""Ids as their files have them, and texts in one case and with single spaces."""


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _told(part: Part) -> Told:
    rows = [(own_id(row.id), _plain(text)) for row in part.rows for text in _wordings(row)]
    return rows + [(own_id(one.id), _plain(one.text)) for one in part.texts]


def _wordings(row: QaRow) -> list[str]:
    return [text for text in (row.asked, row.paraphrased_prompt) if text.strip()]


def _asked(task: TaskFile) -> Told:
    """The questions of a benchmark without its template, whole and line by line, and its texts."""
    found = []
    for item in read_items(task):
        for text in [text for text in item.contexts if text.strip()] or item.endings:
            for part in dict.fromkeys((text, *text.splitlines())):
                found.append((item.id, _AFTER.sub("", _BEFORE.sub("", _plain(part)))))
    return found


def _refuse_same_file(inputs: Mapping[str, str]) -> None:
    """One file in two places, by its SHA-256.

    Raises:
        DataError: Both places are named.
    """
    for name, sha256 in inputs.items():
        role = name.split(".")[0]
        if role not in _TUNED:
            continue
        for other, theirs in inputs.items():
            if theirs == sha256 and other.split(".")[0] != role:
                what = (
                    "Nothing can be forgotten and kept"
                    if other.split(".")[0] in _TUNED
                    else "That is an evaluation set that was used for tuning"
                )
                raise DataError(
                    f"{_table(name)} and {_table(other)} are the same file (SHA-256 {sha256[:12]}). {what}; give "
                    "another file."
                )


def _table(name: str) -> str:
    table, _, key = name.rpartition(".")
    return f"[{table}] {key}"


def _refuse_shared(sets: Mapping[str, Told], beside: tuple[str, Told] | None = None) -> None:
    """Rows and texts that stand in two sets would be forgotten and kept, or trained on and held out.

    Args:
        sets: Name of a table -> what stands in it.
        beside: A further one that is compared with each of these; without it they are compared with each other.

    Raises:
        DataError: The two sets and the first items are named.
    """
    homes: dict[str, str] = {}
    pairs = list(sets.items())
    if beside is not None:
        homes = {text: name for name, told in pairs for _, text in told}
        pairs = [beside]
    for name, told in pairs:
        for _, text in told:
            other = homes.setdefault(text, name)
            if other != name:
                theirs = {each for _, each in sets[other]}
                both = list(dict.fromkeys(identifier for identifier, each in told if each in theirs))
                first = "; ".join(quoted(one) for one in both[:_NAMED])
                raise DataError(
                    f"[{other}] and [{name}] share {counted(len(both), 'item')}, first {first}. Nothing can be both; "
                    "take them out of one of the two files."
                )


def _refuse_shared_clusters(parts: Mapping[str, Part]) -> None:
    """A person of whom some rows are to be forgotten and others are kept, or are seen by nobody.

    Clusters that are counted (``cluster_size``), or are the row's own id, say nothing of other files.

    Raises:
        DataError: The two sets and the first clusters are named.
    """
    homes: dict[str, str] = {}
    for name in ("forget", "never", "keep", "general"):
        rows = parts[name].rows
        given = {own_id(row.cluster) for row in rows if row.cluster != row.id}
        numbers = {own_id(row.cluster) for row in rows if own_id(row.cluster).isdecimal()}
        for cluster in sorted(given - numbers):
            other = homes.setdefault(cluster, name)
            if other in ("forget", "never") and other != name:
                raise DataError(
                    f"[{other}] and [{name}] both have rows of the cluster {quoted(cluster)}. What is measured on one "
                    "of the two would be known from the other; take it out of one of the two files, or give clusters "
                    "that are not about the same thing different names."
                )


Item = TypeVar("Item", QaRow, Passage)


def _halves(part: Part, *, seed: int) -> tuple[Part, Part]:
    """Two halves, clusters together, and clusters that share a question or a text together too."""
    rows = _halved(part.rows, [row.cluster for row in part.rows], [_wordings(row) for row in part.rows], seed, "rows")
    texts = _halved(part.texts, [one.id for one in part.texts], [[one.text] for one in part.texts], seed + 1, "texts")
    return Part(rows[0], texts[0]), Part(rows[1], texts[1])


def _halved(
    items: Sequence[Item], clusters: Sequence[str], wordings: Sequence[Sequence[str]], seed: int, what: str
) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    homes = _joined(clusters, wordings)
    known = list(dict.fromkeys(homes))
    if not known:
        return (), ()
    if len(known) < 2:
        raise DataError(
            f"[keep] has one cluster of {what} (clusters that share a text count as one); expected two or more: one "
            "half is lent, the other measured."
        )
    drawn = np.random.default_rng([seed, 6]).permutation(len(known))[: len(known) // 2]
    chosen = {known[place] for place in drawn}
    pairs = list(zip(items, homes, strict=True))
    return tuple(one for one, home in pairs if home in chosen), tuple(one for one, home in pairs if home not in chosen)


def _joined(clusters: Sequence[str], wordings: Sequence[Sequence[str]]) -> list[str]:
    """For each item the first cluster that its own hangs together with through equal texts."""
    first = {cluster: cluster for cluster in clusters}

    def root(cluster: str) -> str:
        while first[cluster] != cluster:
            cluster = first[cluster]
        return cluster

    homes: dict[str, str] = {}
    for cluster, texts in zip(clusters, wordings, strict=True):
        for text in texts:
            other = homes.setdefault(_plain(text), cluster)
            first[root(cluster)] = root(other)
    return [root(cluster) for cluster in clusters]
