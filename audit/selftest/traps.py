"""Copyright traps: drawn, dealt and detected in a table that holds them, and in one that holds other texts.

Traps are drawn from a table of word pairs, as from any model, and dealt at random. The planted model is the same table
with each member's word pairs added as often as its copies say; the null model got as many texts that are no traps.
Where nothing was planted, each dealing gives a valid p-value: over 40 dealings of one pool the number of those of at
most 0.05 is at most binomial (40, 0.05), and more than 11 have a chance below 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import binom

from ..lm.load import LanguageModel
from ..lm.tokens import encode
from ..runs.schema import AuditSection
from ..runs.store import Run
from ..traps import detect, generate
from ..traps import run as traps
from ..traps import table as trap_table
from ..traps.config import DetectionPlan, TrapDesign
from . import trap_verdicts
from .answers import Instrument, Known, same, within
from .models import BOS, FIRST, Table, table_model, word_list

_N_WORDS = 96
_DESIGN = TrapDesign(
    lengths=(20,),
    perplexity_edges=(1, 1000),
    repetitions=(1, 30),
    members_per_cell=20,
    decoys_per_stratum=160,
    temperatures=(1.0,),
    max_jaccard=0.5,
    samples_per_round=256,
    max_rounds=20,
)
_PLAN = DetectionPlan(primary="ratio", n_draws=999)
_DEALINGS = 40


def ask(work: Path) -> Iterator[Known]:
    """Planted, null, and null over many dealings."""
    rng = np.random.default_rng(5)
    words, n = word_list(_N_WORDS), FIRST + _N_WORDS
    weights = np.full((n, n), 0.01)
    weights[:, FIRST:] += rng.dirichlet(np.full(_N_WORDS, 0.2), size=n) * n
    reference = table_model(work / "reference", words, _shares(weights))
    pool = _candidates(rng, words, _shares(weights))
    dealt = generate.assign(pool, _DESIGN, seed=2)
    table = trap_table.to_table(dealt)
    yield same(
        "traps that were dealt",
        (len(pool), sum(one.arm == "member" for one in dealt)),
        (200, 40),
        "one stratum of 2 x 20 members and 160 decoys",
    )

    planted = weights.copy()
    for one in dealt:
        _learn(planted, encode(reference, [one.candidate.text])[0], one.n_rep if one.arm == "member" else 0)
    other = weights.copy()
    for one in dealt:
        if one.arm == "member":
            _learn(other, rng.integers(FIRST, n, 20).tolist(), one.n_rep)
    subject = table_model(work / "planted", words, _shares(planted))
    clean = table_model(work / "null", words, _shares(other))

    section, arms = _audit(work / "run-planted", table, subject, reference)
    yield same("planted: verdict of 30 copies", arms[30].verdict, "found", "the table holds each of them 30 times")
    yield within(
        "planted: p-value of 30 copies",
        arms[30].p_value.value,
        1 / 1000,
        1 / 1000,
        "no dealing of 999 comes near, and (1 + 0) / (1 + 999) is the smallest that there is",
    )
    yield within(
        "planted: AUC of 30 copies",
        arms[30].auc.value,
        0.95,
        1.0,
        "30 copies weigh 30 times as much as one, and one moves a pair as much as all that was there",
    )
    yield within(
        "planted: AUC of 1 copy lies below",
        arms[1].auc.value,
        0.3,
        (arms[30].auc.value or 0.0) - 1e-9,
        "fewer copies say less",
    )
    yield same("planted: verdict of the audit", section.findings[0].verdict, "found", "an arm is found")
    control = _control(work / "run-planted")
    yield within(
        "planted: AUC of decoys against decoys",
        control,
        0.5 - 0.24,
        0.5 + 0.24,
        "80 and 80 decoys, dealt at random: a standard error of 0.046, five to each side",
        luck=6e-7,
    )

    section, arms = _audit(work / "run-null", table, clean, reference)
    yield within(
        "null: p-value of 30 copies",
        arms[30].p_value.value,
        1e-3 + 1e-9,
        1.0,
        "no smaller than the smallest in 999 of 1,000 dealings; over 40 dealings see below",
        luck=1e-4,
    )
    yield within(
        "null: AUC of 30 copies",
        arms[30].auc.value,
        0.5 - 0.28,
        0.5 + 0.28,
        "20 members and 160 decoys: a standard error of 0.068, four to each side",
        luck=7e-5,
    )

    scored = _items(work / "run-null")
    p = []
    for seed in range(_DEALINGS):
        again = trap_table.to_table(generate.assign(pool, _DESIGN, seed=100 + seed)).to_pandas()
        items = again.merge(scored, on="trap_id", validate="one_to_one")
        p.append(detect.arm_tests(items, plan=DetectionPlan(primary="ratio", n_draws=199, seed=seed))[30].value)
    most = int(binom.isf(1e-6, _DEALINGS, 0.05))
    yield within(
        f"null: p-values of at most 0.05 in {_DEALINGS} dealings",
        sum(one <= 0.05 for one in p),
        0,
        most,
        "at most 5% of dealings",
        luck=1e-6,
    )
    yield within(
        "null: mean p-value",
        float(np.mean(p)),
        0.5 - 0.24,
        0.5 + 0.24,
        "uniform: a standard error of 0.046 over 40 dealings, five to each side",
        luck=6e-7,
    )
    yield from trap_verdicts.ask()


def _candidates(rng: np.random.Generator, words: Sequence[str], table: Table) -> list[generate.Candidate]:
    """Texts drawn from a table, as `generate_pool` draws them from any model, in one stratum."""
    found = []
    for place in range(2 * 20 + 160):
        ids = [BOS]
        for _ in range(20):
            row = table[ids[-1], FIRST:]
            ids.append(FIRST + int(rng.choice(len(row), p=row / row.sum())))
        text = "".join(words[one - FIRST] for one in ids[1:])
        found.append(generate.Candidate(f"trap-{place:03d}", text, tuple(ids[1:]), 20, 50.0, "[1, 1000)"))
    return found


def _shares(weights: Table) -> Table:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _learn(weights: Table, ids: Sequence[int], copies: int) -> None:
    """Add the pairs of a text as often as it was seen; a copy weighs as much as a hundredth of a row."""
    np.add.at(weights, ([BOS, *ids[:-1]], list(ids)), copies * len(weights) / 100)


def _audit(
    folder: Path, table: pa.Table, subject: LanguageModel, reference: LanguageModel
) -> tuple[AuditSection, dict[int, detect.Arm]]:
    with Run.start(folder, kind="traps", plan={}, plan_text="", command=[]) as run:
        section = traps.audit_traps(
            run, table, source="traps", subject=lambda: subject, reference=lambda: reference, plan=_PLAN
        )
        items = run.read_items("traps").to_pandas()
    return section, {one.n_rep: one for one in detect.arms(items, ["ratio", "loss"], plan=_PLAN)}


def _items(folder: Path):  # type: ignore[no-untyped-def]
    items = Run.open(folder).read_items("traps").to_pandas()
    return items[["trap_id", "ratio_score", "loss_score"]]


def _control(folder: Path) -> float | None:
    items = Run.open(folder).read_items("traps").to_pandas()
    (cell,) = [one for one in detect.cells(items, ["ratio"], plan=_PLAN) if one.n_rep is None]
    return cell.auc.value


INSTRUMENT = Instrument("traps", ask)
