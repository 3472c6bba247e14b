"""What is said of all traps of an owner, and of the traps of a document."""

from __future__ import annotations

from collections.abc import Sequence

from ..runs.schema import Cell, Column, EstimateRecord, Finding, PValueRecord, Table
from ..stats.estimate import PValue
from ..text.numbers import fixed, p_number
from ..text.safe import counted, quoted
from .aggregate import Document, Owner
from .config import DetectionPlan

SHOWN = 50  # documents that the table names
ITEMS = "items/traps.parquet"


def owner_findings(owners: Sequence[Owner], how_to_read: str) -> list[Finding]:
    """One finding for each owner; of a single one it speaks of all traps together."""
    return [_of_owner(owner, place, len(owners), how_to_read) for place, owner in enumerate(owners, 1)]


def _of_owner(owner: Owner, place: int, n: int, how_to_read: str) -> Finding:
    value = "undefined" if owner.auc.value is None else fixed(owner.auc.value, 3)
    whose = "All planted traps together" if n == 1 else f"All planted traps of {quoted(owner.name)}"
    corrected = "" if n == 1 else f", corrected for {n} owners,"
    return Finding(
        id="traps.all" if n == 1 else f"traps.owner_{place}",
        audit="traps",
        claim=f"{whose} ({owner.n_traps:,}, whatever their copies): AUC {value}, p{corrected} = "
        f"{p_number(owner.p_holm)}.",
        verdict=owner.verdict,  # type: ignore[arg-type]
        estimates={"auc": EstimateRecord.of(owner.auc)},
        p_values={"all": _p(owner.p_value)} | ({"holm": _holm(owner, n)} if n > 1 else {}),
        items=ITEMS,
        how_to_read=how_to_read,
    )


def owner_table(owners: Sequence[Owner]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "owner": owner.name,
            "n": owner.n_traps,
            "auc": EstimateRecord.of(owner.auc),
            "p": _p(owner.p_value),
            "p_holm": _holm(owner, len(owners)),
            "verdict": owner.verdict,
        }
        for owner in owners
    ]
    return Table(
        name="owners",
        title="By owner, primary score, all numbers of copies together",
        note="Traps of few copies dilute those of many here; by number of copies see the first table.",
        columns=(
            Column(key="owner", label="Owner"),
            Column(key="n", label="Traps"),
            Column(key="auc", label="AUC"),
            Column(key="p", label="p", help="Re-dealing inside the owner's strata, one-sided."),
            Column(key="p_holm", label="p, corrected", help="Holm over all owners."),
            Column(key="verdict", label="Verdict"),
        ),
        rows=tuple(rows),
    )


def document_finding(documents: Sequence[Document], plan: DetectionPlan) -> Finding:
    """How many documents stand out."""
    found = sum(document.q_value <= plan.alpha for document in documents)
    return Finding(
        id="traps.documents",
        audit="traps",
        claim=(
            f"Of {counted(len(documents), 'document')} with traps, {found:,} {'stands' if found == 1 else 'stand'} out "
            f"(Benjamini-Hochberg at {plan.alpha:g})."
        ),
        verdict="information",
        items=ITEMS,
        how_to_read=(
            "Each document's traps are compared with the decoys of their strata. This is for screening: at most "
            f"{plan.alpha:.0%} of the documents named are expected to be named by chance."
        ),
    )


def document_table(documents: Sequence[Document], plan: DetectionPlan) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "document": document.name,
            "n": document.n_traps,
            "copies": document.n_copies,
            "p": _p(document.p_value),
            "q": document.q_value,
        }
        for document in documents[:SHOWN]
    ]
    left = f" The {SHOWN} with the smallest p-values of {len(documents):,}." if len(documents) > SHOWN else ""
    return Table(
        name="documents",
        title="By document (for screening)",
        note=f"A document is named when its q-value is at most {plan.alpha:g}.{left}",
        columns=(
            Column(key="document", label="Document"),
            Column(key="n", label="Traps"),
            Column(key="copies", label="Copies of them"),
            Column(key="p", label="p", help="Re-dealing of its traps among the decoys of their strata, one-sided."),
            Column(key="q", label="q", help="Benjamini-Hochberg over all documents."),
        ),
        rows=tuple(rows),
    )


def _p(p: PValue) -> PValueRecord:
    return PValueRecord(value=p.value, attainable=p.attainable, n=p.n, method=p.method)


def _holm(owner: Owner, n: int) -> PValueRecord:
    return PValueRecord(
        value=owner.p_holm,
        attainable=min(1.0, owner.p_value.attainable * n),
        n=owner.p_value.n,
        method=f"{owner.p_value.method}; Holm over {n} owners",
    )
