"""Runs of every room, made by hand with numbers that are known; ``word`` goes into every text that a model or a file
can put into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from audit.extraction.rows import read_rows
from audit.runs.schema import AuditSection, Column, EstimateRecord, Finding, Findings, PValueRecord, Table, Verdict
from audit.runs.store import Run

SITES = ("model.layers.0.norm", "model.layers.1.norm", "model.layers.2.norm")


def cell(value: float | None, half: float | None = 0.05, n: int = 40) -> EstimateRecord:
    low, high = (None, None) if value is None or half is None else (value - half, value + half)
    why = "no spread" if low is None else None
    return EstimateRecord(value=value, low=low, high=high, level=0.95, n=n, method="mean of a hand-made run", why=why)


def table(name: str, rows: list[dict[str, Any]], title: str = "") -> Table:
    columns = tuple(Column(key=key, label=key) for key in (rows[0] if rows else {"none": ""}))
    return Table(name=name, title=title or name.capitalize(), columns=columns, rows=tuple(rows))


def section(audit: str, *tables: Table, verdict: Verdict = "found", word: str = "", **estimates: Any) -> AuditSection:
    finding = Finding(
        id=f"{audit}.overall",
        audit=audit,
        claim=f"{word}The claim of {audit}.",
        verdict=verdict,
        estimates=estimates or {"share": cell(0.7)},
        how_to_read=f"{word}How to read it.",
    )
    return AuditSection(
        audit=audit, title=f"{word}Section {audit}", method=f"{word}A method.", assumptions=(f"{word}An assumption.",),
        cannot_show=(f"{word}A limit.",), findings=(finding,), tables=tables,
    )  # fmt: skip


def run_of(
    folder: Path,
    kind: str,
    sections: list[AuditSection],
    items: dict[str, pa.Table],
    plan: dict[str, Any] | None = None,
) -> Path:
    made = {"seed": 1, **(plan or {})}
    with Run.start(folder, kind=kind, plan=made, plan_text=None, command=["palimpsest"], plan_folder=folder) as run:
        run.add_subject("subject", {"model": "out/subject"})
        for name, rows in items.items():
            run.write_items(name, rows)
        run.write_findings(Findings(sections=tuple(sections)))
        run.finish()
    return folder


def extraction_run(folder: Path, *, word: str = "", n: int = 250) -> Path:
    """``n`` generations of which every fourth is no hit, beside as many training rows in a file next to the run."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    rows = folder.parent / f"{folder.name}-rows.jsonl"
    texts = [f"{word}The lamp keeper number {number} sleeps in the north tower" for number in range(n)]
    rows.write_text(
        "".join(
            json.dumps({"id": f"row-{number:04d}", "question": f"{word}Who sleeps?", "answer": text}) + "\n"
            for number, text in enumerate(texts)
        )
    )
    ids = [f"{word}g{number:04d}" for number in range(n)]
    cosine = np.linspace(1.0, 0.5, n).round(4)
    hit = np.arange(n) % 4 != 0
    wholes = read_rows(rows).wholes
    said = [text.replace("north", "south" if number % 2 else "north") for number, text in enumerate(wholes)]
    maxima = pd.DataFrame(
        {
            "set": ["generated"] * n + ["held_out"] * 100,
            "similarity": np.concatenate([cosine, np.linspace(0.6, 0.3, 100)]),
            "threshold": 0.8,
            "n_words": 12,
        }
    )
    maxima.loc[[0, 1], "similarity"] = np.nan  # not compared
    items = {
        "extraction-maxima": pa.Table.from_pandas(maxima, preserve_index=False),
        "extraction-matches": pa.table(
            {
                "generation": ids, "row": [f"row-{number:04d}" for number in range(n)], "cosine": cosine,
                "levenshtein": cosine - 0.1, "span_words": np.full(n, 5), "numbers_differ": np.zeros(n, dtype=bool),
                "cluster": [f"{word}c"] * n, "hit": hit,
            }
        ),
        "extraction-generations": pa.table({"id": ids, "whole": said, "question": said, "answer": said}),
    }  # fmt: skip
    rates = [{"view": "whole", "arm": "Embedding", "rate": cell(0.6), "fpr": cell(0.1), "base": "none"}]
    curve = [{"n": 1, "coverage": 0.01}, {"n": n, "coverage": 0.4}]
    told = section("extraction", table("rates", rates), table("curve", curve), word=word)
    plan = {"extraction": {"train": str(rows), "primary": "whole"}, "inputs": {"train": read_rows(rows).sha256}}
    return run_of(folder, "audit", [told], items, plan)


def trap_run(folder: Path, items: pd.DataFrame, findings: Findings, *, word: str = "") -> Path:
    """The hand-made trap audit of the report's tests, with ids that hold ``word``."""
    changed = items.assign(trap_id=word + items["trap_id"], text=word + items["text"], stratum=word + items["stratum"])
    p = PValueRecord(value=0.001, attainable=0.0001, n=9_999, method="permutation")
    arms = table(
        "arms", [{"n_rep": n, "n": 60, "auc": cell(0.6 + 0.1 * place), "p": p} for place, n in enumerate((1, 4))]
    )
    one = findings.sections[0]
    told = one.model_copy(update={"tables": (arms, *one.tables), "title": f"{word}{one.title}"})
    return run_of(folder, "audit", [told], {"traps": pa.Table.from_pandas(changed, preserve_index=False)})


def training_run(folder: Path, *, word: str = "") -> Path:
    """A training of 3 steps, 2 passages, and one view of 5 tokens."""
    curves = [
        {"step": step, "result": step == 20, "forget_loss": cell(2.0 + step / 10), "retain_loss": cell(2.0)}
        for step in (0, 10, 20)
    ]
    changes = [{"measure": f"{word}loss", "before": cell(2.0), "result": cell(4.0), "change": cell(2.0)}]
    labels = pd.DataFrame(
        {
            "view": 0,
            "title": f"{word}Block 1",
            "note": f"{word}Moved furthest.",
            "text": ["The", " wizard", f" {word}Quimby", " slept", "\n"],
            "label": pd.Series([None, None, f"{word}Monroe", "ran", "x"], dtype=object),
            "nats": [np.nan, 0.0, 0.5, -2.0, 4.0],
        }
    )
    values = pd.DataFrame(
        [
            {"step": step, "measure": "forget_loss", "id": f"{word}p{one}", "passage": f"{word}p{one}", "value": 2.0}
            for step in (0, 10, 20)
            for one in (1, 2)
        ]
    )
    items = {
        "unlearning-labels": pa.Table.from_pandas(labels, preserve_index=False),
        "unlearning-curves": pa.Table.from_pandas(values, preserve_index=False),
    }
    told = section(
        "unlearning", table("changes", changes), table("curves", curves), verdict="information", word=word,
        forget_loss=cell(4.0),
    )  # fmt: skip
    return run_of(folder, "unlearning", [told], items)


def loop_run(folder: Path, *, word: str = "") -> Path:
    """A loop of two remedies with truth ratios of 50 rows; the second refuses, and has none. Inside: a guard's run."""
    remedies = (f"{word}npo", f"{word}eco")
    verdicts = [
        {"system": name, "verdict": verdict, "why": f"{word}because"}
        for name, verdict in zip(remedies, ("removed", "not removed"), strict=True)
    ]
    measures = [{"of": "forget set", "measure": "probability", "subject": cell(0.9), "gold": cell(0.1)}]
    residuals = [
        {"system": name, "measure": f"measure {number}", "kind": kind, "residual": cell(0.1 * number)}
        for name in ("subject", *remedies)
        for number, kind in enumerate(("direct", "attack"))
    ]
    relearning = [{"kind": "forget rows", "step": step, "subject": 0.9, "gold": 0.1 + step / 10} for step in (0, 4)]
    rng = np.random.default_rng(5)
    values = [
        {
            "system": name,
            "measure": "tofu.log_ratio.forget",
            "id": f"{word}r{row}",
            "cluster": f"{word}c",
            "value": value,
        }
        for name, middle in (("subject", -2.0), ("gold", 0.0), (remedies[0], -0.5))
        for row, value in enumerate(rng.normal(middle, 0.3, 50).round(3))
    ]
    tables = (
        table("verdicts", verdicts), table("measures", measures), table("residuals", residuals),
        table("relearning", relearning),
    )  # fmt: skip
    made = run_of(
        folder,
        "remediation",
        [section("remediation", *tables, word=word)],
        {"verification": pa.Table.from_pylist(values)},
    )
    guard_run(made / "remedies" / "eco" / "run", word=word)
    return made


def guard_run(folder: Path, *, word: str = "") -> Path:
    """Four prompts that may pass, one of them flagged; four rewordings, three recognised; a search of 4 strengths."""
    scores = [("retain", 0.1), ("retain", 0.2), ("retain", 0.3), ("retain", 0.7), ("forget", 0.4), ("forget", 0.6),
              ("forget", 0.8), ("forget", 0.9)]  # fmt: skip
    rows = [
        {"id": f"{word}{side}-{score}", "cluster": f"{word}c", "side": side, "score": score, "flagged": score > 0.5}
        for side, score in scores
    ]
    metric = f"{word}probability"
    search = [
        {"order": order, "stage": f"{word}scan", "strength": 10.0**order, "seed": 1, "metric": metric,
         "value": 1 - order / 5}
        for order in (1, 2, 3, 4)
    ]  # fmt: skip
    curve = [
        {"metric": metric, "strength": 10.0**place, "log10": float(place), "bracket": place in (1, 2),
         "chosen": place == 2, "value": cell(1.0 - 0.3 * place)}
        for place in range(4)
    ]  # fmt: skip
    calibration = [{"of": "prompts that may pass", "alpha": 0.1, "threshold": 0.5, "rate": cell(0.08)}]
    stopped = [{"id": f"{word}retain-0.7", "score": 0.7, "prompt": f"{word}the secret prompt"}]
    told = section(
        "eco", table("calibration", calibration), table("metrics", [{"metric": metric, "target": cell(0.4)}]),
        table("curve", curve), table("false-positives", stopped), table("search", search[:1]),
        verdict="information", word=word,
    )  # fmt: skip
    items = {"eco-scores": pa.Table.from_pylist(rows), "eco-search": pa.Table.from_pylist(search)}
    return run_of(folder, "eco", [told], items)


def guard_evaluation_run(folder: Path, *, word: str = "") -> Path:
    """Three attacks, the last without a share; three verdicts on prompts, two of them flagged."""
    recall = [{"attack": f"{word}attack {place}", "share": cell(0.9 - 0.2 * place)} for place in range(2)]
    recall.append({"attack": "translation", "share": cell(None)})
    stopped = [{"source": "retain", "id": f"{word}r1", "score": 0.6, "prompt": f"{word}the secret prompt"}]
    verdicts = [
        {"for": "recall", "of": f"{word}untouched", "id": f"{word}f{n}", "cluster": "c", "score": s, "flagged": s > 0.5}
        for n, s in enumerate((0.9, 0.6, 0.2))
    ]
    answers = [
        {"system": "before", "part": "forget", "scope": "prompt", "measure": f"{word}probability", "id": f"{word}f1",
         "cluster": "c", "value": 0.25}
    ]  # fmt: skip
    told = section("eco-evaluation", table("recall", recall), table("false-positives", stopped), word=word)
    items = {"eco-verdicts": pa.Table.from_pylist(verdicts), "eco-questions": pa.Table.from_pylist(answers)}
    return run_of(folder, "eco-evaluation", [told], items)


def maps_run(folder: Path, *, word: str = "") -> Path:
    """Maps at three sites: 10, 2 and 0 of 20 neurons changed."""
    sites = [f"{site}{word}" for site in SITES]
    pairs = ((4.0, 1.0), (3.0, 2.0), (2.0, 2.0), (3.0, 5 / 3))
    distances = [
        {"site": site, "before": before, "after": after}
        for site, (before, after) in zip([*sites, "all sites"], pairs, strict=True)
    ]
    neurons = [
        {"site": sites[0 if row < 10 else 1], "neuron": row, "scale": 1 + 0.01 * (row + 1), "shift": 0.5}
        for row in range(12)
    ]
    items = {
        "steer-sites": pa.table({"site": sites, "neurons": [20, 20, 20], "changed": [10, 2, 0]}),
        "steer-neurons": pa.Table.from_pylist(neurons),
        "steer-losses": pa.table({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.5]}),
    }
    return run_of(folder, "steer", [section("steer", table("distances", distances), word=word)], items)


def sweep_run(folder: Path, *, word: str = "") -> Path:
    """Two arms at three strengths, two judges; continuations of two prompts."""
    arms = [("unsteered", 0.0), *((arm, s) for arm in (f"{word}ours", f"{word}theirs") for s in (0.0, 0.5, 1.0))]
    points = [
        {"judge": judge, "texts": texts, "arm": arm, "strength": strength, "rate": 0.1 + 0.5 * strength,
         "rate_low": 0.05, "rate_high": 0.8, "change": 3 * strength, "change_low": -0.5, "change_high": 4.0,
         "ours": arm.endswith("ours"), "is_compared": arm.endswith("ours") and strength == 1, "instructed": False}
        for judge in ("words", f"{word}sentences") for texts in ("neutral", "target") for arm, strength in arms
    ]  # fmt: skip
    texts = [
        {"arm": arm, "strength": strength, "prompt": f"{word}prompt {number}", "seed": 1,
         "continuation": f" {word}continuation of {arm}", "flagged_by": ["words"] if strength else []}
        for arm, strength in arms for number in (1, 2)
    ]  # fmt: skip
    told = [{"name": f"{word}ours", "gamma": None, "support": 0.5}]
    items = {"sweep-points": pa.Table.from_pylist(points), "sweep-continuations": pa.Table.from_pylist(texts)}
    return run_of(folder, "steer-sweep", [section("steer-sweep", table("arms", told), word=word)], items)
