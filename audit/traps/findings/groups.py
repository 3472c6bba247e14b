"""What is said of all traps of an owner, and of the traps of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...runs.schema import Cell, Column, EstimateRecord, Finding, PValueRecord, Table
from ...text.numbers import fixed, p_number
from ...text.safe import counted, quoted
from ..aggregate import Document, Owner
from ..config import DetectionPlan
from ..evidence import Committed
from ..in_context import InContext
from ..ledger.lottery import dealing_told

SHOWN = 50  # documents that the table names
ITEMS = "items/traps.parquet"


def owner_findings(owners: Sequence[Owner], how_to_read: str) -> list[Finding]:
    """One finding for each owner; of a single one it speaks of all traps together."""
    return [_of_owner(owner, place, len(owners), how_to_read) for place, owner in enumerate(owners, 1)]


def _of_owner(owner: Owner, place: int, n: int, how_to_read: str) -> Finding:
    value = "undefined" if owner.auc.value is None else fixed(owner.auc.value, 3)
    whose = "All planted traps together" if n == 1 else f"All planted traps of {quoted(owner.name)}"
    corrected = "" if n == 1 else f", corrected for {owner.n_tests} tests,"
    remark = " Exploratory: the verdict rests on the numbers of copies." if n == 1 else ""
    return Finding(
        id="traps.all" if n == 1 else f"traps.owner_{place}",
        audit="traps",
        claim=f"{whose} ({owner.n_traps:,}, whatever their copies): AUC {value}, p{corrected} = "
        f"{p_number(owner.p_holm)}.{remark}",
        verdict="information" if n == 1 else owner.verdict,  # type: ignore[arg-type]
        estimates={"auc": EstimateRecord.of(owner.auc)},
        p_values={"all": PValueRecord.of(owner.p_value)} | ({"holm": owner_holm(owner)} if n > 1 else {}),
        items=ITEMS,
        how_to_read=how_to_read,
    )


def owner_table(owners: Sequence[Owner]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "owner": owner.name,
            "n": owner.n_traps,
            "auc": EstimateRecord.of(owner.auc),
            "p": PValueRecord.of(owner.p_value),
            "p_holm": owner_holm(owner),
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
            Column(
                key="p_holm",
                label="p, corrected",
                help="Holm over all owners and numbers of copies.",
            ),
            Column(key="verdict", label="Verdict"),
        ),
        rows=tuple(rows),
    )


def document_finding(documents: Sequence[Document], plan: DetectionPlan) -> Finding:
    """How many documents stand out."""
    named = [document for document in documents if document.q_value <= plan.alpha]
    found = len(named)
    n_traps = len({trap for document in named for trap in document.traps})
    return Finding(
        id="traps.documents",
        audit="traps",
        claim=(
            f"Of {counted(len(documents), 'document')} with traps, {found:,} {'stands' if found == 1 else 'stand'} out "
            f"(Benjamini-Hochberg at {plan.alpha:g})"
            + (f", which rest on {counted(n_traps, 'trap')}." if found else ".")
        ),
        verdict="information",
        items=ITEMS,
        how_to_read=(
            "Each document's traps are compared with the decoys of their strata; a trap that stands in several "
            "documents speaks for each of them. This is for screening: at most "
            f"{plan.alpha:.0%} of the documents named are expected to be named by chance."
        ),
    )


def document_table(documents: Sequence[Document], plan: DetectionPlan) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "document": document.name,
            "n": len(document.traps),
            "copies": document.n_copies,
            "p": PValueRecord.of(document.p_value),
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


def context_finding(found: InContext) -> Finding:
    """What the pairs read in context say; exploratory, because it is one more test of the same traps."""
    higher = round((found.share.value or 0.0) * found.share.n)
    return Finding(
        id="traps.in_context",
        audit="traps",
        claim=(
            f"After up to {counted(found.n_tokens, 'token')} of the text before a copy, planted traps score above a "
            f"decoy in the same place in {higher} of {found.share.n} pairs (p = {p_number(found.p_value.value)}). "
            "Exploratory."
        ),
        verdict="information",
        estimates={
            "share_higher": EstimateRecord.of(found.share),
            "share_higher_without_context": EstimateRecord.of(found.share_alone),
        },
        p_values={"sign_test": PValueRecord.of(found.p_value)},
        items="items/traps-in-context.parquet",
        how_to_read=(
            "Each planted trap is paired with a decoy of its stratum, both after the words that stood before one of "
            "its copies. If the model never saw the traps, each of the two is as likely to score higher: one half. A "
            "pair of equal scores counts as not higher, and is left out of the test. Without context the same pairs "
            "are compared by themselves."
        ),
    )


def tokens_finding(n: int, n_traps: int) -> Finding:
    """That the model cuts traps otherwise than their generator did."""
    return Finding(
        id="traps.tokens",
        audit="traps",
        claim=f"The model cuts {n:,} of {n_traps:,} traps into another number of tokens than their generator did.",
        verdict="information",
        items=ITEMS,
        how_to_read=(
            "The traps were drawn with another tokenizer. Lengths and perplexity buckets speak of the generator's "
            "tokens. Members and decoys are treated alike, so every test holds; the model may see these traps less "
            "sharply."
        ),
    )


def commitment_finding(commitments: Mapping[str, Committed]) -> Finding:
    """What is known of the commitments to the traps tested, and what rests on the publisher's word."""
    told = {owner: _of_commitment(committed) for owner, committed in commitments.items()}
    alone = len(told) == 1
    return Finding(
        id="traps.commitment",
        audit="traps",
        claim=" ".join(said if alone else f"{quoted(owner)}: {said}" for owner, said in told.items()),
        verdict="information",
        items=ITEMS,
        how_to_read=(
            "The commitment is a hash of everything that was fixed beforehand. It is evidence when it was published or "
            "time-stamped under the work's name before the text was; when that was, this report cannot know, nor that "
            "no other commitment to these traps exists. An announced value speaks for a dealing when its source was "
            "named with the first commitment, and when it is written as the source writes it. `palimpsest traps "
            "verify-ledger` checks a ledger, or a disclosure of some of its traps, against a commitment."
        ),
    )


def _of_commitment(committed: Committed) -> str:
    fixed_then = "Traps, dealing and plan of analysis are those of the commitment"
    if committed.compared:
        said = [f"{fixed_then} {committed.value}, compared with the commitment given."]
    else:
        said = [f"No published commitment was given; the ledger's own is {committed.value}."]
    if committed.reference is not None:
        said.append(f"The ledger fixed the reference model: weights of SHA-256 {committed.reference}.")
    said.append(dealing_told(committed.lottery))
    if committed.placements_sha256 is not None:
        said.append(
            f"Which documents carry which trap is the publisher's record, of SHA-256 {committed.placements_sha256}."
        )
    return " ".join(said)


def owner_holm(owner: Owner) -> PValueRecord:
    """An owner's p-value after the correction."""
    return PValueRecord.corrected(
        owner.p_value, owner.p_holm, n_tests=owner.n_tests, over=f"Holm over {owner.n_tests} tests"
    )
