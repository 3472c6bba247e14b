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
from audit.answers.quality import forget_quality
from audit.answers.rewordings import Attack, attacks
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
from ..calibration import Threshold
from ..conversations import conversations
from ..evaluate.copyright import Continued, measure_continuations
from ..evaluate.latency import measure_latency
from ..evaluate.recall import false_positives, recall, share
from ..evaluate.report import BEFORE, GOLD, SCOPES, Evaluation, evaluate_choices, evaluate_qa
from ..evaluation_findings import PASSAGE_LINES, Left, asked_unit, evaluation_section, turns_of
from ..evaluation_tables import Noise
from ..guard import EcoGuard
from ..guard_files import GuardRecord, load_guard, read_guard
from .measured_records import (
    choice_of,
    choice_record,
    continued_of,
    continued_record,
    item_table,
    passage_table,
)
from .parts import Parts, unseen
from .plan import Baseline

QUESTIONS = "eco-questions"
PASSAGES = "eco-passages"
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
        """Measure what is not measured yet; the section of the report."""
        qa, choices, continued = self._answers(progress)
        evaluation = Evaluation(
            self.record.settings.target, qa=qa, flagged=self._flagged(qa, progress), choices=choices,
            continuations=continued, seed=self._table.seed,
        )  # fmt: skip
        tables = evaluation.tables()
        tables["recall"] = self._recall(progress)
        tables["false positives"] = self._staged("false positives", self._false_positives, progress)
        self.noise = self._noise(qa, progress)
        if self._measures.latency_prompts:
            tables["latency"] = self._staged("latency", self._latency, progress)
        self.tables = tables
        if qa:
            self._run.write_items(QUESTIONS, item_table(qa))
        if continued:
            self._run.write_items(PASSAGES, passage_table(continued))
            tables["passages written"] = self._written(continued)
            tables["protected texts"].append(self._staged("passages recognised", self._passages_known, progress))
        return evaluation_section(
            self.record, tables, self.left, self.noise, self.not_measured, show_text=self.show_text
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

    def _written(self, continued: dict[str, Continued]) -> list[dict[str, Any]]:
        """What each system wrote beside the original, for the run's file; the report quotes it where that is asked."""
        rows = self._drawn(self._passages, self._measures.max_rows, "passages")
        return [
            {"id": row.id, "system": name, "likeness": float(likeness), "written": text, "original": row.answer}
            for name, one in continued.items()
            for row, text, likeness in zip(rows, one.written, one.similar[0].values, strict=True)
        ]

    def _passages_known(self) -> dict[str, Any]:
        """A row of the table: whose beginning the guard flags."""
        rows = self._drawn(self._passages, self._measures.max_rows, "passages")
        hits = self.guard.flagged([row.asked for row in rows])
        found = share(hits, [row.cluster for row in rows], name="beginnings recognised", rng=self._table.seed)
        return {
            "measure": "beginnings recognised", "system": "guard",
            "estimate": EstimateRecord.of(found).model_dump(),
        }  # fmt: skip

    @cached_property
    def _text_encoder(self) -> Encoder:
        """For the likeness of texts: the classifier's own where one was named, else the embedded one."""
        lm = self._lm()
        return load_encoder(self._encoder, device=str(lm.device) if lm.device.type == "cuda" else lm.device.type)

    def _flagged(self, qa: dict[str, tuple[Qa, ...]], progress: Progress) -> dict[Part, tuple[str, ...]]:
        """Ids of answered rows that the guard flags, by part."""
        if not qa:
            return {}

        def make() -> dict[Part, list[str]]:
            parts: dict[Part, Sequence[Any]] = {"forget": self._forget, "retain": self._retain, **self._parts.useful}
            return {
                part: [row.id for row, flag in zip(rows, self.guard.flagged([row.asked for row in rows]), strict=True)
                       if flag]
                for part, rows in parts.items()
            }  # fmt: skip

        answered = {one.part: set(one.probability.ids) | set(one.probability.left_out) for one in qa[BEFORE]}
        found = self._staged("flagged rows", make, progress)
        return {part: tuple(name for name in found[part] if name in ids) for part, ids in answered.items()}

    def _recall(self, progress: Progress) -> list[dict[str, Any]]:
        """A row of the table for each attack, a stage for each."""
        drawn = self._drawn(self._forget, self._measures.max_rows, "forget")
        rows = [row if isinstance(row, QaRow) else QaRow(row.id, row.cluster, row.asked) for row in drawn]

        def make(attack: Attack) -> list[dict[str, Any]]:
            found = recall(self.guard, rows, [attack], seed=self._table.seed)
            return Evaluation(self.record.settings.target, recall=tuple(found)).tables()["recall"]

        listed = attacks()
        found = []
        for number, attack in enumerate(listed):
            progress("attacks", number, len(listed))
            found += self._kept(f"recall, {attack.name}", partial(make, attack))
        progress("attacks", len(listed), len(listed))
        return found

    def _false_positives(self) -> list[dict[str, Any]]:
        # Only of the file that calibration was dealt from: rows of it were left out because the fit saw them.
        dealt_from = self.left.given["retain"] > self.left.measured["retain"]
        promised = promised_by(self.record) if dealt_from else None
        found = []
        fitted_for = turns_of(self.record)
        n_turns = fitted_for if fitted_for > 1 else _TURNS
        if len(self._retain) >= n_turns and self.guard.form.kind == "chat":
            talks = conversations(self._retain, n_turns, seed=self._table.seed)
            found.append(
                false_positives(
                    self.guard,
                    [talk.prompt for talk in talks],
                    source=f"conversations of {n_turns} such prompts",
                    ids=[talk.id for talk in talks],
                    promised=promised if fitted_for > 1 else None,
                    seed=self._table.seed,
                )
            )
        for source, rows, threshold in (
            ("prompts that may pass, held out", self._retain, promised if fitted_for == 1 else None),
            ("general questions", self._general, None),
        ):
            if rows:
                found.append(
                    false_positives(
                        self.guard,
                        [row.asked for row in rows],
                        source=source,
                        ids=[row.id for row in rows],
                        clusters=[row.cluster for row in rows],
                        promised=threshold,
                        seed=self._table.seed,
                    )
                )
        return Evaluation(self.record.settings.target, false_positives=tuple(found)).tables()["false positives"]

    def _noise(self, qa: dict[str, tuple[Qa, ...]], progress: Progress) -> tuple[Noise, ...]:
        """Forget quality under each draw of the noise; the first is the one of all other tables."""
        if GOLD not in qa:
            return ()
        gold = {one.scope: one for one in qa[GOLD] if one.part == "forget"}
        rows = self._drawn(self._forget, self._measures.max_rows, "forget")

        def make(number: int) -> list[dict[str, Any]]:
            guard = self._under(number)
            return [measure_qa(guard, rows, "forget", _NO_ROUGE, scope=scope).to_record() for scope in SCOPES]

        by_seed = [[one for one in qa["guard"] if one.part == "forget"]]
        n = self._measures.noise_seeds
        for number in range(1, n):
            progress("noise", number, n)
            by_seed.append(list(map(Qa.of_record, self._kept(f"noise {number + 1}", partial(make, number)))))
        progress("noise", n, n)
        found = []
        for scope in SCOPES:
            tested = [forget_quality(one, gold[scope]) for own in by_seed for one in own if one.scope == scope]
            for place in range(2):  # raw and folded
                values = [p.value for one in tested if (p := one[place].p_value) is not None]
                found.append(Noise(scope, tested[0][place].name, tuple(values), len(tested)))
        return tuple(found)

    def _latency(self) -> list[dict[str, Any]]:
        n = self._measures.latency_prompts
        flags = self.guard.flagged([row.asked for row in self._forget])
        known = [row for row, flag in zip(self._forget, flags, strict=True) if flag]
        prompts = [row.asked for row in (*self._drawn(self._retain, n, "timed"), *self._drawn(known, n, "timed"))]
        found = measure_latency(
            Bare(self._lm(), self.record.settings.format),
            self.guard,
            prompts,
            n_rounds=self._measures.latency_rounds,
            max_new_tokens=min(_TIMED_TOKENS, self._measures.max_new_tokens),
            seed=self._table.seed,
        )
        return Evaluation(self.record.settings.target, latency=tuple(found)).tables()["latency"]


def promised_by(record: GuardRecord) -> Threshold | None:
    """The threshold that bounds false positives, as the guard's file tells it; None where nothing bounds them."""
    told = record.evidence.get("threshold", {})
    if told.get("kind") != "one-sided":
        return None
    values = dict(told["retain"])
    values["rate"] = EstimateRecord(**values["rate"]).estimate()
    values["value"] = record.threshold
    return Threshold(**values)


def evaluation_record(measuring: Measuring) -> dict[str, Any]:
    """For the run's file: all tables as plain rows."""
    return {
        "target": measuring.record.settings.target,
        "rows": {"given": measuring.left.given, "measured": measuring.left.measured},
        "tables": measuring.tables,
        "not_measured": measuring.not_measured,
        "noise": [{"scope": one.scope, "test": one.test, "p_values": list(one.p_values)} for one in measuring.noise],
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
