"""What the table ``[traps]`` of a plan names, read and checked: ledgers, placements, planted text, shots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..lm.checkpoint import find_checkpoint, fingerprint
from ..lm.subject import Subject
from ..runs.plan import resolve_path
from ..text.files import sha256_file
from ..text.safe import quoted
from ..text.tables import read_parquet
from ..traps.config import DetectionPlan
from ..traps.evidence import evidence_of, refuse_other_reference
from ..traps.in_context import contexts_of
from ..traps.ledger.files import read_ledger
from ..traps.ledger.make import check_ledger, verify_ledger
from ..traps.planting.placements import read_placements
from ..traps.run import Asked, audit_traps, check_inputs
from ..traps.table import ALL
from .audit_extras import extras_of
from .audit_plan import AuditPlan, TrapsTable
from .audit_work import Models, Work
from .checks import check_models

if TYPE_CHECKING:
    import pyarrow as pa

    from ..lm.load import LanguageModel


def work_of(plan: AuditPlan, path: Path, models: Models) -> Work | None:
    """The trap audit that a plan asks for, or None; errors as in `read_traps` and `audit.traps.run.check_inputs`."""
    if plan.traps is None:
        return None
    read = read_traps(plan.traps, path)
    loaders = models.loaders
    if models.load_reference is not None:
        loaders["reference"] = partial(load_fixed, models.load_reference, read.reference)
    items = check_inputs(
        read.table,
        source=read.source,
        plan=read.plan,
        has_reference=models.reference is not None,
        asked=read.asked,
    )
    truncate = plan.traps.truncate

    def check() -> None:
        refuse_other(models.reference, read.reference)
        assert models.subject is not None  # the plan asks for it
        check_models(
            models.subject,
            models.reference,
            ids=items["trap_id"].tolist(),
            texts=items["text"].tolist(),
            truncate=truncate,
        )

    settings: dict[str, Any] = {"source": read.source, "plan": read.plan, "asked": read.asked, "truncate": truncate}
    settings |= loaders
    return Work(
        "traps",
        read.inputs,
        read.plan.to_record() | ({} if read.reference is None else {"fixed_reference": read.reference}),
        read.plan.seed,
        check,
        lambda run, progress: audit_traps(run, read.table, **settings, progress=progress),
    )


@dataclass(frozen=True, slots=True)
class ReadTraps:
    """The traps of a plan.

    Attributes:
        table: As `audit.traps.table`.
        source: Where they came from, for messages.
        plan: What is tested.
        reference: SHA-256 of the weights of the only reference model that may be used; None lets every one pass.
        asked: What is done beyond the five scores.
        inputs: Name -> SHA-256 of every file that the run rests on.
    """

    table: pa.Table
    source: str
    plan: DetectionPlan
    reference: str | None
    asked: Asked
    inputs: dict[str, str]


def read_traps(given: TrapsTable, plan: Path) -> ReadTraps:
    """Reads what ``[traps]`` names; relative paths start at the plan's folder.

    Raises:
        InputError: A file is missing, owners do not match, or a commitment is malformed.
        DataError: A file was changed or is another's.
    """
    extras, shots = extras_of(given, plan, seed=given.seed)
    if given.table is not None:
        table = resolve_path(given.table, plan)
        asked = Asked(scores=given.scores, extras=extras)
        traps = read_parquet(table)  # which tells better than the hash what is wrong with a path
        inputs = {"traps": sha256_file(table), **shots}
        return ReadTraps(traps, str(table), given.detection(), None, asked, inputs)
    paths = {owner: resolve_path(name, plan) for owner, name in given.of_owners("ledger", ALL).items()}
    commitments = _of_owners(given, "commitment", paths)
    ledgers = {}
    for owner, path in paths.items():
        ledgers[owner] = read_ledger(path)
        if owner in commitments:
            verify_ledger(ledgers[owner], commitments[owner], source=str(path))
        else:
            check_ledger(ledgers[owner], source=str(path))
    places = {owner: resolve_path(name, plan) for owner, name in _of_owners(given, "placements", paths).items()}
    placements = {owner: read_placements(path) for owner, path in places.items()}
    files = {f"ledger of {owner}": path for owner, path in paths.items()}
    files |= {f"placements of {owner}": path for owner, path in places.items()}
    inputs = {name: sha256_file(path) for name, path in files.items()}
    evidence = evidence_of(
        ledgers,
        placements,
        compared=commitments,
        placements_sha256={owner: inputs[f"placements of {owner}"] for owner in places},
    )
    contexts: dict[str, str] = {}
    for owner, name in _of_owners(given, "planted", places).items():
        contexts |= contexts_of(
            placements[owner],
            resolve_path(name, plan),
            n_tokens=given.context_tokens or 0,
            seed=evidence.plan.seed,
        )
    asked = Asked(
        scores=given.scores,
        extras=extras,
        commitments=evidence.commitments,
        in_tokens=evidence.in_tokens,
        contexts=contexts,
        context_tokens=given.context_tokens or 0,
    )
    source = ", ".join(map(str, paths.values()))
    return ReadTraps(evidence.table, source, evidence.plan, evidence.reference, asked, {**inputs, **shots})


def refuse_other(reference: Subject | None, fixed: str | None) -> None:
    """Refuses a reference model that is not the one fixed in the ledger, before anything is loaded or written.

    Raises:
        InputError: As in `audit.traps.evidence.refuse_other_reference`.
        ModelError: The checkpoint cannot be used.
    """
    if reference is None or fixed is None:
        return
    folder, *adapters = find_checkpoint(reference)
    refuse_other_reference(fingerprint(folder, adapter=adapters[0] if adapters else None).weights, fixed)


def load_fixed(load: Callable[[], LanguageModel], fixed: str | None) -> LanguageModel:
    """The reference model, refused when its weights were exchanged since the run began; errors as in `refuse_other`."""
    lm = load()
    refuse_other_reference(lm.fingerprint.weights, fixed)
    return lm


def _of_owners(given: TrapsTable, field: str, owners: dict[str, Path]) -> dict[str, str]:
    """Owner -> value of a field, every owner one of ``owners``."""
    found = given.of_owners(field, next(iter(owners), ALL) if len(owners) == 1 else ALL)  # type: ignore[arg-type]
    for owner in found:
        if owner not in owners:
            names = ", ".join(map(quoted, owners)) or "none"
            raise InputError(f"[traps] {field} is given for {quoted(owner)}; expected one of these owners: {names}.")
    return found
