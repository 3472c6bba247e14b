"""Ledgers with traps that are hard to write, and one way to plant them and take them out again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audit.traps.config import DetectionPlan, TrapDesign
from audit.traps.generate import assign
from audit.traps.ledger.checks import id_of
from audit.traps.ledger.make import make_ledger
from audit.traps.ledger.records import Ledger
from audit.traps.planting.hosts.document import HostOptions
from audit.traps.planting.placements import Placements, read_placements
from audit.traps.planting.plant import Planting, Told, plant
from audit.traps.planting.restore import restore
from audit.traps.words import data_watermarks

HARD = (  # what JSON, CSV, HTML and Markdown have signs for, astral, combining and right-to-left characters
    'zq "quoted", comma; \\back\\slash /slash \\n 1',
    "zq <b>bold</b> &amp; & ]]> --> <!-- 2",
    "zq 😀 e\u0301 שלום \u202e عربي | tab 3",
)
DECOYS = ("zq never planted decoy 4", "zq never planted decoy 5 é")


class Planted(NamedTuple):
    """Everything around one planting."""

    source: Path
    out: Path
    placements_path: Path
    placements: Placements
    told: Told


def ledger_of(texts: Sequence[str] = HARD, *, n_rep: int = 2, decoys: Sequence[str] = DECOYS) -> Ledger:
    """A ledger that holds these texts instead of those it was drawn with; planting looks at nothing else of it."""
    design = TrapDesign(
        lengths=(20,), repetitions=(n_rep,), members_per_cell=len(texts), decoys_per_stratum=len(decoys)
    )
    pool = data_watermarks("hex", design, seed=1)
    plan = DetectionPlan(primary="loss")
    ledger = make_ledger(assign(pool.candidates, design, seed=1), design=design, plan=plan, seed=1, drawn_with="hex")
    left = {"member": list(texts), "decoy": list(decoys)}
    traps = []
    for trap in ledger.traps:
        text = left[trap.arm].pop(0)
        traps.append(trap.model_copy(update={"text": text, "id": id_of(text)}))
    return ledger.model_copy(update={"traps": tuple(traps)})


LEDGER = ledger_of()


def planting(ledger: Ledger = LEDGER, *, separator: str = "\n", seed: int = 0, **settings: Any) -> Planting:
    """Scattered, unless told otherwise."""
    of_host = {name: settings.pop(name) for name in ("field", "id_field", "html") if name in settings}
    settings = {"placement": "scattered"} | settings
    return Planting(ledger, HostOptions(separator, **of_host), seed=seed, **settings)


def planted(source: Path, how: Planting | None = None) -> Planted:
    """Plants beside the source, in the same folder."""
    out = source.with_name(f"planted-{source.name}")
    path = source.with_name(f"{source.name}.placements.json")
    told = plant(how or planting(), source, out, path)
    return Planted(source, out, path, read_placements(path), told)


def restored(done: Planted) -> Path:
    """Takes the copies out again."""
    back = done.source.with_name(f"restored-{done.source.name}")
    restore(done.placements_path, done.out, back)
    return back
