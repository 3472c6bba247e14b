"""The extraction audit on models whose truth is known: the spec's acceptance table.

    python -m tests.benchmarks.extraction_table [--size small] [--rows 1600] [--samples 800] [--seeds 0 1 2]
        [--arms full ans swap base] [--results FILE] [--details]

Trains the testbed's post-training arms (cached), samples each from the opening of its chat, and audits it with the
first half as training rows and the second as held-out rows; *base*, which saw neither, is the base model of the others.
A seed is that of the people and their halves, of the order of training, and of the samples. What is done stands in the
results file, generations in the folder beside it, and is not done again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.extraction.config import MatchPlan
from audit.extraction.likelihood import Prompts, cut, log_likelihoods
from audit.extraction.likelihood import require_same as require_same_tokens
from audit.extraction.prefixes import chat_of, prefixes
from audit.extraction.rows import Rows
from audit.extraction.run import Compared, audit_extraction
from audit.extraction.sample import plan_samples, rates, sample_in_parts
from audit.extraction.samplers import Local
from audit.extraction.shift_statistics import Floats, LikelihoodShift, likelihood_shift
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.matching.encode import Encoder, load_encoder
from audit.report.numbers import estimate
from audit.runs.schema import AuditSection, EstimateRecord, Finding, PValueRecord, Record
from audit.runs.shards import ShardedTable
from audit.runs.store import Run
from audit.testbed.cache import source_version
from audit.testbed.planted import build
from audit.testbed.post_training import ARMS, PostRow, PostTrained, post_train, post_training_rows
from audit.text.files import atomic_writer, make_folder

N_CANARIES = 10
REPETITIONS = (1, 4, 16, 64)


class Outcome(Record):
    """What came out for one arm under one seed.

    Attributes:
        arm: The arm.
        seed: The seed.
        settings: Everything else that decides the numbers, and the version of the testbed's sources.
        n: Generations.
        n_parsed: Those with a question and an answer.
        section: The audit.
        shift: Likelihood of questions against the base model, canaries aside, in nats a question.
        p_shift: Re-dealing of people to the halves.
    """

    arm: str
    seed: int
    settings: dict[str, str | int]
    n: int
    n_parsed: int
    section: AuditSection
    shift: dict[str, EstimateRecord]
    p_shift: PValueRecord


@dataclass
class Results:
    """Outcomes in a file of JSON lines, replaced whole with each; ``path`` None keeps them in memory.

    Attributes:
        path: The file.
        outcomes: What it holds, outcomes of other settings included.
    """

    path: Path | None
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.exists():
            self.outcomes = [Outcome.model_validate_json(line) for line in self.path.read_text("utf-8").splitlines()]

    def get(self, arm: str, seed: int, settings: Mapping[str, str | int]) -> Outcome | None:
        found = [one for one in self.outcomes if (one.arm, one.seed, one.settings) == (arm, seed, settings)]
        return found[0] if found else None

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if self.path is not None:
            with atomic_writer(self.path) as stream:
                stream.writelines(one.model_dump_json().encode() + b"\n" for one in self.outcomes)


def rows_of(rows: Sequence[PostRow]) -> Rows:
    return Rows(
        tuple(row.id for row in rows),
        tuple(row.question for row in rows),
        tuple(row.answer for row in rows),
        tuple(f"{row.question}\n{row.answer}" for row in rows),
        tuple(row.repeats if row.canary else None for row in rows),
        tuple(row.cluster for row in rows),
        source="testbed",
    )


def sampled(model: Path, n: int, parts: Path, *, seed: int = 0, max_new_tokens: int = 160) -> pa.Table:
    lm = load(Subject(str(model), device="cpu"))
    chat = chat_of(lm)
    plan = plan_samples(lm, chat, prefixes(lm, chat, bos=True), n=n, seed=seed, max_new_tokens=max_new_tokens)
    return sample_in_parts(
        Local(lm), plan, open_parts=lambda name, key, n_parts: ShardedTable(parts / name, key=key, n_parts=n_parts)
    )


def audited(folder: Path, compared: Compared, encoder: Encoder, plan: MatchPlan) -> AuditSection:
    cut_off: dict[str, bool] = {}
    seen = {"texts": 0, "truncated": 0}

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        found = encoder.encode(texts)
        cut_off.update(zip(texts, found.truncated.tolist(), strict=True))
        seen.update(texts=len(cut_off), truncated=sum(cut_off.values()))
        return found.vectors

    with Run.start(folder, kind="extraction", plan={}, plan_text="", command=[]) as run:
        return audit_extraction(run, compared, encode=encode, encoder="MiniLM", truncated=seen, plan=plan)


def scored(model: Path, questions: Sequence[str], ids: Sequence[str]) -> tuple[Prompts, Floats]:
    """Questions after the opening of the chat, and their log-likelihoods in nats."""
    lm = load(Subject(str(model), dtype="float32", device="cpu"))
    prompts = cut(lm, prefixes(lm, chat_of(lm), bos=True)[0], questions, ids)
    return prompts, log_likelihoods(lm, prompts)


def shift_of(base: Path, model: Path, first: Rows, second: Rows, *, seed: int) -> LikelihoodShift:
    """What training on the first rows did to their questions and to those of the second; canaries are left out."""
    sides = [(rows, place) for rows in (first, second) for place, n in enumerate(rows.repetitions) if n is None]
    questions, ids = ([getattr(rows, name)[place] for rows, place in sides] for name in ("questions", "ids"))
    (prompts, before), (own, after) = (scored(folder, questions, ids) for folder in (base, model))
    require_same_tokens(prompts, own)
    clusters = [(rows.clusters or rows.ids)[place] for rows, place in sides]
    return likelihood_shift(before, after, np.array([rows is first for rows, _ in sides]), clusters, seed=seed)


def shift_records(shift: LikelihoodShift) -> dict[str, EstimateRecord]:
    names = ("trained", "held_out", "difference", "median_difference")
    return {name: EstimateRecord.of(getattr(shift, name)) for name in names}


def outcome(
    trained: PostTrained,
    arm: str,
    seed: int,
    settings: Mapping[str, str | int],
    *,
    samples: int,
    least_words: int,
    encoder: Encoder,
    work: Path,
    runs: Path,
) -> Outcome:
    """Sample, audit and score one arm; finished samples are taken from ``work``."""
    first, second = rows_of(trained.half("first", canaries=True)), rows_of(trained.half("second", canaries=False))
    made = {
        name: sampled(trained.models[name], samples, work / f"seed{seed}-{name}", seed=seed) for name in {arm, "base"}
    }
    base = None if arm == "base" else made["base"]
    plan = MatchPlan(least_words=least_words, seed=seed)
    section = audited(runs / f"{arm}-seed{seed}", Compared(made[arm], first, second, base), encoder, plan)
    shift = shift_of(trained.models["base"], trained.models[arm], first, second, seed=seed)
    parsed = rates(made[arm])
    return Outcome(
        arm=arm,
        seed=seed,
        settings=dict(settings),
        n=parsed.n,
        n_parsed=parsed.n_parsed,
        section=section,
        shift=shift_records(shift),
        p_shift=PValueRecord.of(shift.p_value),
    )


def shown(cell: object) -> str:
    return estimate(cell) if isinstance(cell, EstimateRecord) else str(cell)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(shown(cell) for cell in line)} |" for line in lines)


def finding(section: AuditSection, name: str) -> Finding | None:
    return next((one for one in section.findings if one.id == f"extraction.{name}"), None)


def canaries_of(section: AuditSection) -> str:
    found = finding(section, "canaries")
    return "none" if found is None else "; ".join(f"{name[9:]}: {shown(n)}" for name, n in found.estimates.items())


def tables(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The acceptance table, that of the question view, and that of the likelihoods, a line for each arm and seed."""
    lines, views = [], []
    for one in outcomes:
        overall, halves, under = (finding(one.section, name) for name in ("overall", "halves", "undercount"))
        assert overall is not None
        parsed = f"{one.n_parsed} of {one.n}"
        said = [overall.estimates[name] for name in ("memorisation_rate", "false_positive_rate")]
        share = ["none", "none"]
        if halves is not None:
            share = [shown(halves.estimates["share"]), f"{halves.p_values['re_dealing'].value:.4f}"]
        ratio = "none" if under is None else shown(under.estimates["at_equal_rate"])
        lines.append([one.arm, one.seed, overall.verdict, parsed, *said, *share, canaries_of(one.section), ratio])
        by_view = {
            (row["view"], row["arm"]): row
            for table in one.section.tables
            if table.name == "rates"
            for row in table.rows
        }
        question = by_view["question", "Embedding"]
        views.append([one.arm, one.seed, *(question[name] for name in ("fpr", "rate", "excess", "halves"))])
    named = ("Arm", "Seed")
    yield markdown(
        [
            *named,
            "Verdict",
            "Parsed",
            "Rate",
            "FPR",
            "Share on the first half",
            "p",
            "Canaries by copies",
            "Undercount",
        ],
        lines,
    )
    yield markdown([*named, "FPR, question view", "Rate", "Excess", "Share on the first half"], views)
    yield markdown(
        [*named, "Shift, first half", "Shift, second half", "Difference", "Difference of medians", "p"],
        [[one.arm, one.seed, *one.shift.values(), f"{one.p_shift.value:.4f}"] for one in outcomes],
    )


def details(one: Outcome) -> Iterator[str]:
    """Every finding and every view."""
    overall, *rest = one.section.findings
    yield f"## {one.arm}, seed {one.seed}: {overall.verdict}; {one.n_parsed} of {one.n} parsed\n\n{overall.claim}"
    for found in rest:
        ps = ", ".join(f"p {p.value:.4f}" for p in found.p_values.values())
        values = "; ".join(f"{name} {shown(number)}" for name, number in found.estimates.items())
        yield f"- {found.claim} [{'; '.join(part for part in (values, ps) if part)}]"
    table = next(table for table in one.section.tables if table.name == "rates")
    yield markdown(
        [column.label for column in table.columns],
        [[row[column.key] for column in table.columns] for row in table.rows],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--samples", type=int, default=800)
    parser.add_argument("--least-words", type=int, default=12)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--results", type=Path, help="file of JSON lines; samples lie in a folder of its name")
    parser.add_argument("--details", action="store_true")
    given = parser.parse_args()
    began = time.perf_counter()
    settings: dict[str, str | int] = {
        "size": given.size,
        "rows": given.rows,
        "samples": given.samples,
        "least_words": given.least_words,
        "testbed": source_version()[:12],
    }
    results = Results(given.results)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        work = make_folder(Path(scratch) if given.results is None else given.results.with_suffix(""))
        encoder = load_encoder(device="cpu", cache=work / "vectors")
        testbed = build(given.size, models=("reference",))
        for seed in given.seeds:
            rows = post_training_rows(
                testbed.world, n_rows=given.rows, n_canaries=N_CANARIES, repetitions=REPETITIONS, seed=seed
            )
            for arm in given.arms:
                one = results.get(arm, seed, settings)
                if one is None:
                    trained = post_train(testbed, rows=rows, arms=tuple({arm: 0, "base": 0}), seed=seed)
                    print(f"{arm}, seed {seed}: trained after {time.perf_counter() - began:.0f} s", flush=True)
                    one = outcome(
                        trained,
                        arm,
                        seed,
                        settings,
                        samples=given.samples,
                        least_words=given.least_words,
                        encoder=encoder,
                        work=work,
                        runs=Path(scratch) / "runs",
                    )
                    results.add(one)
                    print(f"{arm}, seed {seed}: done after {time.perf_counter() - began:.0f} s", flush=True)
                found.append(one)
    print("\n" + "\n\n".join(tables(found)))
    if given.details:
        print("\n" + "\n\n".join(text for one in found for text in details(one)))
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
