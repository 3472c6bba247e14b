"""The stages of a run in which a guard is evaluated; each keeps what it measured, so that a killed run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from audit.answers.choices import Accuracy
from audit.answers.qa import Part, Qa, measure_qa
from audit.answers.rewordings import Attack, Kind, attacks
from audit.answers.rows import ChoiceRow, QaRow
from audit.answers.systems import Bare, System
from audit.errors import InputError
from audit.forgetting.measured import Measured
from audit.lm.load import LanguageModel, load
from audit.matching.encode import Encoder, load_encoder
from audit.progress import Progress
from audit.report.numbers import estimate as shown
from audit.runs.records import plain, read_json
from audit.runs.schema import AuditSection, EstimateRecord
from audit.runs.store import Run
from audit.text.files import make_folder, write_json
from audit.text.safe import counted

from ..baselines import FilterRefuse, PromptPrefix
from ..conversations import conversations
from ..evaluate.copyright import Continued, measure_continuations
from ..evaluate.latency import timings
from ..evaluate.recall import Judged, under
from ..evaluate.report import BEFORE, GOLD, SCOPES, evaluate_choices, evaluate_qa
from ..evaluated import BEGINNINGS, Evaluated, Facts, guard_facts, item_tables, skeleton
from ..evaluation_findings import PASSAGE_LINES, Left, asked_unit, turns_of
from ..evaluation_tables import Noise
from ..from_verdicts import noise_record, section_of
from ..guard import EcoGuard
from ..guard_files import GuardRecord, load_guard, read_guard
from .measured_records import (
    choice_of,
    choice_record,
    continued_of,
    continued_record,
    judged_of,
    judged_record,
    timed_of,
    timed_record,
)
from .parts import Parts, unseen
from .plan import Baseline

MEASURED = "measured"
_TIMED_TOKENS = 64
_TURNS: Final = 5
_NO_ROUGE = Measured("not measured under this noise", (), (), np.zeros(0))


class Measuring:
    """One evaluation in a run.

    Args:
        run: Open.
        measures: The plan's table of what is measured.
        path: The plan's path.
        folder: Of the guard.
        lm: Gives the model.
        encoder: Folder of the classifier's encoder, None for the embedded one.
        table: The plan's table of models: seed, kind of rows, how models are loaded.
        parts: What else is measured.
        forget: Rows about what is to be forgotten.
        retain: Rows that may pass.
    """

    def __init__(
        self,
        run: Run,
        measures: Any,
        path: Path,
        folder: Path,
        lm: Callable[[], LanguageModel],
        encoder: Path | None,
        table: Any,
        parts: Parts,
        forget: Sequence[QaRow] | Sequence[ChoiceRow],
        retain: Sequence[QaRow] | Sequence[ChoiceRow],
    ) -> None:
        self._run, self._measures, self._path, self._folder = run, measures, path, folder
        self._lm, self._encoder, self._table, self._parts = lm, encoder, table, parts
        self.record: GuardRecord = read_guard(folder)
        given: dict[str, Sequence[Any]] = {"forget": forget, "retain": retain, "general": parts.general}
        if parts.passages:
            given["passage"] = parts.passages
        asked = {name: unseen(self.record, rows) for name, rows in given.items()}
        self._forget, self._retain, self._general = (asked[name] for name in ("forget", "retain", "general"))
        self._passages = asked.get("passage", [])
        self.left = Left(
            {name: len(rows) for name, rows in given.items()},
            {name: len(rows) for name, rows in asked.items()},
            measures.max_rows,
        )
        self.show_text = bool(table.show_text)
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.noise: tuple[Noise, ...] = ()
        self.kept: dict[str, Any] = {}
        self.not_measured: dict[str, str] = {}

    # What is asked

    @cached_property
    def guard(self) -> EcoGuard:
        """The guard with noise of its own, decided by the seed and no secret."""
        encoder = None if self._encoder is None else self._text_encoder
        return load_guard(self._folder, self._lm(), encoder=encoder, key=self._key(0))

    def _key(self, number: int) -> bytes:
        return hashlib.sha256(f"palimpsest eco evaluation {self._table.seed} {number}".encode()).digest()

    def _under(self, number: int) -> EcoGuard:
        return self.guard.with_key(self._key(number))

    def _systems(self) -> Iterator[tuple[str, Callable[[], System]]]:
        def bare() -> Bare:
            return Bare(self._lm(), self.record.settings.format)

        def gold() -> Bare:
            subject = self._table.subject_of(self._measures.gold, self._path)
            return Bare(load(subject), self.record.settings.format)

        def prefix() -> System:
            inner, target = bare(), self.record.settings.target
            made = PromptPrefix(inner, target)
            try:
                inner.encoded([made.prefixed("a")])
            except InputError:  # the template knows no system message
                made = PromptPrefix(inner, target, place="user")
            return made

        yield BEFORE, bare
        yield "guard", lambda: self.guard
        if self._measures.gold is not None:
            yield GOLD, gold
        if "filter" in self._measures.baselines:
            yield "filter", lambda: FilterRefuse(bare(), self.guard.judge)
        if "prefix" in self._measures.baselines:
            yield "prefix", prefix

    def _drawn(self, rows: Sequence[Any], most: int, name: str) -> list[Any]:
        """At most so many rows, by the seed, in their order."""
        if len(rows) <= most:
            return list(rows)
        digest = hashlib.sha256(f"{self._table.seed}\0{name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return [rows[place] for place in sorted(rng.permutation(len(rows))[:most].tolist())]

    # What is measured

    def section(self, progress: Progress) -> AuditSection:
        """Measure what is not measured yet, and keep it by row; the section of the report."""
        made = self._measured(progress)
        for name, table in item_tables(made).items():
            self._run.write_items(name, table)
        self.kept = {"guard": guard_facts(self.record), "max_rows": self.left.most, **skeleton(made)}
        facts = Facts(self.record, self.left, self.not_measured, self._table.seed, self.show_text)
        section, self.tables, self.noise = section_of(made, facts)
        return section

    def _measured(self, progress: Progress) -> Evaluated:
        qa, choices, continued = self._answers(progress)
        answered = self._flagged(qa, progress)
        found = self._recall(progress)
        passing = self._staged("prompts that may pass", self._passing, progress)
        noise = self._noise(qa, progress)
        timed = self._staged("seconds", self._seconds, progress) if self._measures.latency_prompts else []
        passages = self._drawn(self._passages, self._measures.max_rows, "passages") if continued else []
        begun = self._staged("beginnings of passages", partial(self._begun, passages), progress) if passages else None
        return Evaluated(
            qa,
            choices,
            continued,
            tuple(map(judged_of, answered)),
            found,
            tuple((one["promised"], judged_of(one["judged"])) for one in passing),
            None if begun is None else judged_of(begun),
            noise,
            tuple(map(timed_of, timed)),
            {row.id: row.answer for row in passages},
        )

    def _kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What a stage measured, from its file where it has ended."""
        file = make_folder(self._run.folder / MEASURED) / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        stage = f"evaluate: {name}"
        if not self._run.has(stage):
            with self._run.stage(stage):
                write_json(file, plain(make(), name), secret=True)  # it may quote prompts
        return read_json(file, missing=f"{file} is gone, though its stage has ended. Begin anew with another --out.")

    def _staged(self, name: str, make: Callable[[], Any], progress: Progress) -> Any:
        progress(name, 0, 1)
        found = self._kept(name, make)
        progress(name, 1, 1)
        return found

    def _answers(self, progress: Progress) -> tuple[
        dict[str, tuple[Qa, ...]], dict[str, tuple[Accuracy, ...]], dict[str, Continued]
    ]:  # fmt: skip
        """Each system on each part, a stage for each, and on the passages; one of the first two results is empty."""
        most = self._measures.max_rows
        parts: list[tuple[Part, Sequence[Any]]] = [("forget", self._forget), ("retain", self._retain)]
        parts += self._parts.useful.items()
        rows = {name: self._drawn(listed, most, name) for name, listed in parts}
        systems = list(self._systems())
        passages = self._drawn(self._passages, most, "passages")
        n_done, total = 0, len(systems) * (sum(map(len, rows.values())) + len(passages))
        continued: dict[str, Continued] = {}
        qa: dict[str, tuple[Qa, ...]] = {}
        choices: dict[str, tuple[Accuracy, ...]] = {}
        for name, system in systems:
            once = cache(system)
            for part, own in rows.items():
                progress("answers", n_done, total)
                told = self._kept(f"answers of {name}, {part}", partial(self._answered, name, once, part, own))
                if isinstance(told, dict):
                    self.not_measured[f"{name}, {part}"] = told["why"]
                elif self._table.choices:
                    choices[name] = (*choices.get(name, ()), *map(choice_of, told))
                else:
                    qa[name] = (*qa.get(name, ()), *map(Qa.of_record, told))
                n_done += len(own)
            if passages:
                progress("answers", n_done, total)
                told = self._kept(f"passages of {name}", partial(self._continued, name, once, passages))
                if "why" in told:
                    self.not_measured[f"{name}, passages"] = told["why"]
                else:
                    continued[name] = continued_of(told)
                n_done += len(passages)
        progress("answers", total, total)
        return qa, choices, continued

    def _answered(
        self, name: str, system: Callable[[], System], part: Part, rows: Sequence[Any]
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """Records of the measures; of a baseline that does not fit the model, why not, so that the rest is kept."""
        try:
            if self._table.choices:
                return [choice_record(one) for one in evaluate_choices({"": system()}, {part: rows})[""]]
            found = evaluate_qa({"": system()}, {part: rows}, max_new_tokens=self._measures.max_new_tokens)
            return [one.to_record() for one in found[""]]
        except InputError as error:
            if name not in get_args(Baseline):
                raise
            return {"why": str(error)}

    def _continued(self, name: str, system: Callable[[], System], rows: Sequence[QaRow]) -> dict[str, Any]:
        """Record of what a system makes of the passages; of a baseline that does not fit the model, why not."""
        try:
            found = measure_continuations(
                system(), rows, self._lm(), self._text_encoder, max_new_tokens=self._measures.passage_tokens
            )
        except InputError as error:
            if name not in get_args(Baseline):
                raise
            return {"why": str(error)}
        return continued_record(found)

    def _begun(self, rows: Sequence[QaRow]) -> dict[str, Any]:
        """What the guard says of the beginnings of protected texts."""
        return judged_record(self._judged(rows, BEGINNINGS))

    def _judged(self, rows: Sequence[Any], of: str) -> Judged:
        return Judged.by(
            self.guard,
            [row.asked for row in rows],
            of=of,
            ids=[row.id for row in rows],
            clusters=[row.cluster for row in rows],
        )

    @cached_property
    def _text_encoder(self) -> Encoder:
        """For the likeness of texts: the classifier's own where one was named, else the embedded one."""
        lm = self._lm()
        return load_encoder(self._encoder, device=str(lm.device) if lm.device.type == "cuda" else lm.device.type)

    def _flagged(self, qa: dict[str, tuple[Qa, ...]], progress: Progress) -> list[dict[str, Any]]:
        """What the guard says of the rows of each part, where they are answered."""
        if not qa:
            return []
        parts: dict[Part, Sequence[Any]] = {"forget": self._forget, "retain": self._retain, **self._parts.useful}

        def make() -> list[dict[str, Any]]:
            return [judged_record(self._judged(rows, part)) for part, rows in parts.items()]

        found: list[dict[str, Any]] = self._staged("verdicts on rows", make, progress)
        return found

    def _recall(self, progress: Progress) -> tuple[tuple[Kind, Judged], ...]:
        """What the guard says under each attack, a stage for each."""
        drawn = self._drawn(self._forget, self._measures.max_rows, "forget")
        rows = [row if isinstance(row, QaRow) else QaRow(row.id, row.cluster, row.asked) for row in drawn]

        def make(attack: Attack) -> dict[str, Any]:
            return judged_record(under(self.guard, rows, attack, seed=self._table.seed))

        listed = attacks()
        found: list[tuple[Kind, Judged]] = []
        for number, attack in enumerate(listed):
            progress("attacks", number, len(listed))
            found.append((attack.kind, judged_of(self._kept(f"attack, {attack.name}", partial(make, attack)))))
        progress("attacks", len(listed), len(listed))
        return tuple(found)

    def _passing(self) -> list[dict[str, Any]]:
        """What the guard says of prompts that may pass, and whether its promise is for such prompts."""
        # Only of the file that calibration was dealt from: rows of it were left out because the fit saw them.
        dealt_from = self.left.given["retain"] > self.left.measured["retain"]
        fitted_for = turns_of(self.record)
        n_turns = fitted_for if fitted_for > 1 else _TURNS
        found: list[tuple[bool, Judged]] = []
        if len(self._retain) >= n_turns and self.guard.form.kind == "chat":
            talks = conversations(self._retain, n_turns, seed=self._table.seed)
            judged = Judged.by(
                self.guard,
                [talk.prompt for talk in talks],
                of=f"conversations of {n_turns} such prompts",
                ids=[talk.id for talk in talks],
                clusters=[talk.id for talk in talks],
            )
            found.append((dealt_from and fitted_for > 1, judged))
        if self._retain:
            judged = self._judged(self._retain, "prompts that may pass, held out")
            found.append((dealt_from and fitted_for == 1, judged))
        if self._general:
            found.append((False, self._judged(self._general, "general questions")))
        return [{"promised": promised, "judged": judged_record(one)} for promised, one in found]

    def _noise(self, qa: dict[str, tuple[Qa, ...]], progress: Progress) -> tuple[tuple[Qa, ...], ...]:
        """Measures of the guard on forget rows under each further draw of the noise, where there is a gold."""
        if GOLD not in qa:
            return ()
        rows = self._drawn(self._forget, self._measures.max_rows, "forget")

        def make(number: int) -> list[dict[str, Any]]:
            guard = self._under(number)
            return [measure_qa(guard, rows, "forget", _NO_ROUGE, scope=scope).to_record() for scope in SCOPES]

        found = []
        n = self._measures.noise_seeds
        for number in range(1, n):
            progress("noise", number, n)
            found.append(tuple(map(Qa.of_record, self._kept(f"noise {number + 1}", partial(make, number)))))
        progress("noise", n, n)
        return tuple(found)

    def _seconds(self) -> list[dict[str, Any]]:
        n = self._measures.latency_prompts
        flags = self.guard.flagged([row.asked for row in self._forget])
        known = [row for row, flag in zip(self._forget, flags, strict=True) if flag]
        prompts = [row.asked for row in (*self._drawn(self._retain, n, "timed"), *self._drawn(known, n, "timed"))]
        found = timings(
            Bare(self._lm(), self.record.settings.format),
            self.guard,
            prompts,
            n_rounds=self._measures.latency_rounds,
            max_new_tokens=min(_TIMED_TOKENS, self._measures.max_new_tokens),
        )
        return list(map(timed_record, found))


def evaluation_record(measuring: Measuring) -> dict[str, Any]:
    """For the run's file: all tables as plain rows."""
    return {
        "target": measuring.record.settings.target,
        "rows": {"given": measuring.left.given, "measured": measuring.left.measured},
        "tables": measuring.tables,
        "not_measured": measuring.not_measured,
        "noise": noise_record(measuring.noise),
        "kept": measuring.kept,
    }


def evaluation_lines(record: dict[str, Any]) -> list[str]:
    """For a terminal."""
    tables = record["tables"]
    given, measured = record["rows"]["given"], record["rows"]["measured"]
    left = ", ".join(
        f"{given[name] - measured[name]:,} of {given[name]:,} {name} rows" for name in given if given[name]
    )
    told = [f"left out, since the guard was fitted on them: {left}"]
    told += [
        f"recognised, {row['attack']}: {_shown(row['share'])} ({counted(row['n_prompts'], 'prompt')} in "
        f"{counted(row['share']['n'], 'cluster')})"
        for row in tables["recall"]
        if row["share"]["value"] is not None
    ]
    told += [f"flagged by mistake, {row['source']}: {_shown(row['rate'])} "
             f"({counted(row['rate']['n'], asked_unit(row['source']))})"
             for row in tables["false positives"]]  # fmt: skip
    for name, measure in (("questions and answers", "probability"), ("multiple choice", "right choices")):
        told += [
            f"{measure}, forget rows, {row['system']}: {_shown(row['estimate'])} "
            f"({counted(row['estimate']['n'], 'cluster')})"
            for row in tables[name]
            if row["part"] == "forget" and row.get("scope", "prompt") == "prompt" and row["measure"].startswith(measure)
        ]
    told += [
        f"{row['measure']}, passages, {row['system']}: {_shown(row['estimate'])} "
        f"({counted(row['estimate']['n'], 'cluster')})"
        for row in tables["protected texts"]
        if row["measure"] in PASSAGE_LINES
    ]
    told += [
        f"forget quality, {one['test']}: median p {np.median(one['p_values']):.3g}, {min(one['p_values']):.3g} to "
        f"{max(one['p_values']):.3g} over {counted(len(one['p_values']), 'draw')} of the noise (small: told from gold)"
        for one in record["noise"]
        if one["scope"] == "prompt" and one["p_values"]
    ]
    return told + [f"not measured: {name}: {why}" for name, why in record["not_measured"].items()]


def _shown(told: dict[str, Any]) -> str:
    return shown(EstimateRecord(**told))
