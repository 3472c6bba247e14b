"""The trap audit's results as findings and tables that a person can read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ...membership.blind import excludes_half
from ...membership.score_names import NAMES
from ...runs.schema import AuditSection, Cell, Column, EstimateRecord, Finding, PValueRecord, Table, Verdict
from ...text.numbers import fixed, p_number
from ...text.safe import quoted
from .. import detect
from ..aggregate import Document, Owner
from ..config import DetectionPlan
from ..detect import Arm, Blind
from ..evidence import Committed
from ..in_context import InContext
from ..table import near_copies
from .groups import (
    commitment_finding,
    context_finding,
    document_finding,
    document_table,
    owner_findings,
    owner_holm,
    owner_table,
    tokens_finding,
)
from .power import Stated, detectable_by_arm, least_power, power_by_arm, power_finding, power_table

ITEMS = "items/traps.parquet"
HOW_AUC = (
    "AUC is the chance that a random planted trap scores above a random decoy: 0.5 is what a model that never saw the "
    "traps gives on average, 1 means that every planted trap stands out."
)
HOW_P = (
    "The p-value is exact: among n random re-dealings of these traps into planted and unplanted, and the dealing that "
    "chance chose, it is the share that gives the planted ones a score at least as high. Of models that never saw them "
    "at most 5% come to 0.05 or below."
)

LOWER = (
    "Planted traps score below their decoys, which random dealing explains no better than above: they were unlearnt, "
    "or the reference saw them."
)


def make_section(
    items: pd.DataFrame,
    scores: Sequence[str],
    *,
    cells: list[detect.Cell],
    arms: list[Arm],
    blind: Blind,
    owners: list[Owner],
    documents: list[Document],
    plan: DetectionPlan,
    in_context: InContext | None = None,
    commitments: Mapping[str, Committed] | None = None,
    cut_otherwise: int | None = None,
) -> AuditSection:
    """Everything that the audit says, from its computed parts."""
    n_members = int((items["arm"] == "member").sum())
    n_decoys = int((items["arm"] == "decoy").sum())
    primary = NAMES[plan.primary]
    power = detectable_by_arm(items, plan=plan, n_tests=arms[0].n_tests)
    stated = power_by_arm(items, plan=plan, n_tests=arms[0].n_tests)
    judged = [
        *(_of_arm(arm, plan, near_copies(items, arm.n_rep), stated.get(arm.n_rep)) for arm in arms),
        *owner_findings(owners, f"{HOW_AUC} {HOW_P}"),
    ]
    if blind.confounded:  # so that no reader of findings.json sees "found" on scores that are no evidence
        judged = [one.model_copy(update={"verdict": _refused(one.verdict)}) for one in judged]
    findings = [
        _overall(arms, owners if len(owners) > 1 else [], blind, plan, least_power(stated)),
        *judged,
        *([document_finding(documents, plan)] if documents else []),
        *([context_finding(in_context)] if in_context else []),
        _controls(cells, plan),
        _blind(blind),
        *([power_finding(power)] if power else []),
        *([tokens_finding(cut_otherwise, len(items))] if cut_otherwise else []),
        *([commitment_finding(commitments)] if commitments else []),
    ]
    return AuditSection(
        audit="traps",
        title="Copyright traps",
        method=(
            f"{n_members} sequences were planted in the training text, {n_decoys} decoys from the same draw were not; "
            "which is which was dealt before training. The model scores each of them by membership "
            f"inference; the score that counts, fixed beforehand, is {primary}. If planted traps score higher than "
            "their decoys more clearly than random dealing explains, the model was trained on them."
        ),
        assumptions=(
            "Members and decoys were dealt at random inside each stratum before the text was published or used.",
            "Decoys were never published, and no trap was chosen after its score was seen.",
            f"Primary score ({primary}), alpha = {plan.alpha:g} and tests were fixed before any score was seen.",
            "A reference model, where one is used, was not trained on the traps or decoys. The check without the model "
            "sees gross cases only.",
        ),
        cannot_show=(
            "That the model was trained on anything beyond the documents that carry the traps.",
            "That a model is free of the text: traps that were removed, or repeated too rarely, leave no trace.",
            "Who copied the text, or from where.",
            "How another training run of the same model would have come out: the intervals cover the draw of traps, "
            "not the randomness of training.",
        ),
        findings=tuple(findings),
        tables=(
            _arm_table(arms),
            *([power_table(power)] if power else []),
            owner_table(owners),
            *([document_table(documents, plan)] if documents else []),
            _auc_table(cells),
            _score_table(arms, scores),
        ),
    )


def _refused(verdict: Verdict) -> Verdict:
    return "information" if verdict == "information" else "confounded"


def _overall(
    arms: list[Arm], owners: list[Owner], blind: Blind, plan: DetectionPlan, stated: Stated | None = None
) -> Finding:
    """The verdict on everything that can say "found": the arms and, where there are several, the owners."""
    found = [arm for arm in arms if arm.verdict == "found"]
    of_owners = [owner for owner in owners if owner.verdict == "found"]
    decisive: list[Arm | Owner] = [*arms, *owners]
    verdict: Verdict
    if blind.confounded:
        verdict = "confounded"
        claim = (
            "Planted traps and decoys can be told apart without the model under audit, so its scores are not evidence. "
            f"{_advice(blind)}"
        )
    elif found or of_owners:
        verdict = "found"
        where = [f"{_list(str(arm.n_rep) for arm in found)} {_copies(found[-1].n_rep)}"] if found else []
        if of_owners:
            where.append(f"all traps of {_list(quoted(owner.name) for owner in of_owners)}")
        n_tests = arms[0].n_tests
        over = f" after correction for {n_tests} tests" if n_tests > 1 else ""
        claim = f"The model carries planted traps: the test is significant for {', and for '.join(where)}{over}."
    elif all(one.verdict == "not found" for one in decisive):
        verdict = "not found"
        claim = (
            "No trace of the traps was found at any number of copies, and an effect as large as "
            f"AUC {plan.negligible_auc:g} is excluded."
        )
    else:
        verdict = "inconclusive"
        open_ = [arm for arm in arms if arm.verdict != "not found"]
        where = [f"{_list(str(arm.n_rep) for arm in open_)} {_copies(open_[-1].n_rep)}"] if open_ else []
        where += [f"all traps of {quoted(owner.name)}" for owner in owners if owner.verdict != "not found"]
        claim = (
            "No trace of the traps was found, but none is excluded either "
            f"(AUC {plan.negligible_auc:g} or more, at {', and at '.join(where)}). This is not a pass."
        )
        if any(one.lower for one in decisive):
            claim += f" {LOWER}"
    return Finding(
        id="traps.overall",
        audit="traps",
        claim=claim,
        verdict=verdict,
        p_values={f"copies_{arm.n_rep}_holm": _holm(arm) for arm in arms}
        | {f"owner_{place}_holm": owner_holm(owner) for place, owner in enumerate(owners, 1)},
        items=ITEMS,
        how_to_read=HOW_P,
        power=None if stated is None else stated.power,
        power_for=None if stated is None else f"{stated.effect} at the weakest number of copies",
        power_effect=None if stated is None else stated.auc,
    )


def _advice(blind: Blind) -> str:
    """What to look into, from which of the two checks refused."""
    low = blind.reference_only.low
    if low is not None and low > 0.5:
        return (
            "The reference model alone scores planted traps higher: it may have been trained on them. Choose one that "
            "was not, or check that members and decoys come from one draw."
        )
    return "Check that both come from one draw."


def _copies(n: int) -> str:
    return "copy" if n == 1 else "copies"


def _of_arm(arm: Arm, plan: DetectionPlan, copies: str, stated: Stated | None) -> Finding:
    value = "undefined" if arm.auc.value is None else fixed(arm.auc.value, 3)
    return Finding(
        id=f"traps.copies_{arm.n_rep}",
        audit="traps",
        claim=(
            f"Traps planted with {arm.n_rep} {_copies(arm.n_rep)}: AUC {value}, corrected p = "
            f"{p_number(arm.p_holm)}; {arm.n_discoveries} of "
            f"{arm.low_rank_share.n} stand out one by one (Benjamini-Hochberg at {plan.alpha:g})."
            f"{f' {copies}' if copies else ''}{f' {LOWER}' if arm.lower else ''}"
        ),
        verdict=arm.verdict,  # type: ignore[arg-type]
        estimates={
            "auc": EstimateRecord.of(arm.auc),
            "tpr_at_1pct_fpr": EstimateRecord.of(arm.tpr.at_1pct_fpr),
            "low_rank_share": EstimateRecord.of(arm.low_rank_share),
        },
        p_values={"arm": PValueRecord.of(arm.p_value)},
        items=ITEMS,
        how_to_read=f"{HOW_AUC} {HOW_P}",
        power=None if stated is None else stated.power,
        power_for=None if stated is None else stated.effect,
        power_effect=None if stated is None else stated.auc,
    )


def _controls(cells: list[detect.Cell], plan: DetectionPlan) -> Finding:
    controls = [cell for cell in cells if cell.n_rep is None and cell.score == plan.primary]
    known = [cell for cell in controls if cell.auc.low is not None]
    outside = [cell for cell in known if excludes_half(cell.auc)]
    if not known:
        claim = "Decoys cannot be compared with decoys: every stratum has one alone."
    elif outside:
        claim = (
            f"Decoys against decoys: {len(outside)} of {len(known)} intervals of the AUC leave out 0.5, where about "
            f"{1 - plan.level:.0%} are expected to."
        )
    else:
        claim = "Decoys against decoys give an AUC compatible with 0.5, as they should."
    return Finding(
        id="traps.controls",
        audit="traps",
        claim=claim,
        verdict="information",
        estimates={f"auc_{_length_name(cell.length)}": EstimateRecord.of(cell.auc) for cell in controls},
        items=ITEMS,
        how_to_read=(
            "One random half of the decoys is compared with the other; the model saw neither, so 0.5 must lie inside "
            f"the interval in about {plan.level:.0%} of such comparisons."
        ),
    )


def _blind(blind: Blind) -> Finding:
    if blind.confounded:
        claim = "Without the model under audit, planted traps can be told from decoys."
    elif blind.bag_of_words.low is None and blind.reference_only.low is None:
        claim = "Whether planted traps can be told from decoys without the model under audit could not be checked."
    else:
        claim = "No check without the model under audit told planted traps from decoys."
    return Finding(
        id="traps.blind",
        audit="traps",
        claim=claim,
        verdict="confounded" if blind.confounded else "information",
        estimates={
            "bag_of_words_auc": EstimateRecord.of(blind.bag_of_words),
            "reference_only_auc": EstimateRecord.of(blind.reference_only),
        },
        items=ITEMS,
        how_to_read=(
            "Both numbers must be compatible with 0.5 (99% intervals); otherwise members and decoys differ in "
            "themselves, and the model's scores would prove nothing. That they are is no proof: a reference that saw "
            "some of the traps or decoys can turn a ratio before its own AUC shows it."
        ),
    )


def _arm_table(arms: list[Arm]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "n_rep": arm.n_rep,
            "n": arm.low_rank_share.n,
            "auc": EstimateRecord.of(arm.auc),
            "tpr": EstimateRecord.of(arm.tpr.at_1pct_fpr),
            "p": PValueRecord.of(arm.p_value),
            "p_holm": _holm(arm),
            "low_rank_share": EstimateRecord.of(arm.low_rank_share),
            "low_rank_chance": arm.low_rank_chance,
            "median_rank_p": arm.median_rank_p,
            "median_exposure": arm.median_exposure,
            "n_discoveries": arm.n_discoveries,
            "verdict": arm.verdict,
        }
        for arm in arms
    ]
    return Table(
        name="arms",
        title="By number of copies, primary score, all lengths",
        note="Every trap is compared with the decoys of its own stratum.",
        columns=(
            Column(key="n_rep", label="Copies"),
            Column(key="n", label="Traps"),
            Column(
                key="auc",
                label="AUC",
                help="Chance that a planted trap scores above a decoy of its stratum; 0.5 is chance.",
            ),
            Column(key="tpr", label="TPR at 1% FPR", help="Planted traps above what at most 1% of decoys exceed."),
            Column(key="p", label="p", help="Arm test by re-dealing inside the strata, one-sided."),
            Column(key="p_holm", label="p, corrected", help="Holm over all numbers of copies and owners."),
            Column(key="low_rank_share", label="Rank p at most alpha", help="Share of traps."),
            Column(key="low_rank_chance", label="By chance", help="Share of traps with so low a rank p by chance."),
            Column(key="median_rank_p", label="Median rank p", help="About 0.5 by chance."),
            Column(
                key="median_exposure",
                label="Median exposure (bits)",
                help="log2 of the candidates of the stratum over the trap's rank among them; about 1 by chance.",
            ),
            Column(
                key="n_discoveries",
                label="Traps that stand out",
                help="Named one by one (Benjamini-Hochberg over all traps). A trap cannot rank better than above all "
                "decoys of its stratum, so with few decoys many traps must do that before any is named.",
            ),
            Column(key="verdict", label="Verdict"),
        ),
        rows=tuple(rows),
    )


def _auc_table(cells: list[detect.Cell]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "score": cell.score,
            "length": "all" if cell.length is None else cell.length,
            "n_rep": "control" if cell.n_rep is None else cell.n_rep,
            "n_members": cell.n_members,
            "n_decoys": cell.n_decoys,
            "auc": EstimateRecord.of(cell.auc),
            **{f"tpr_{name}": EstimateRecord.of(tpr) for name, tpr in cell.tpr._asdict().items()},
        }
        for cell in cells
    ]
    return Table(
        name="auc",
        title="Every score, length and number of copies",
        note=(
            "AUC compares inside strata; for TPR scores are standardised there by the decoys' mean and standard "
            'deviation. Copies "control" compares one random half of the decoys with the other. Only the primary '
            "score was fixed beforehand; the other rows are exploratory."
        ),
        columns=(
            Column(key="score", label="Score"),
            Column(key="length", label="Length (tokens)"),
            Column(key="n_rep", label="Copies"),
            Column(key="n_members", label="Members"),
            Column(key="n_decoys", label="Decoys"),
            Column(key="auc", label="AUC"),
            Column(key="tpr_at_10pct_fpr", label="TPR at 10% FPR"),
            Column(key="tpr_at_1pct_fpr", label="TPR at 1% FPR"),
            Column(key="tpr_at_01pct_fpr", label="TPR at 0.1% FPR"),
        ),
        rows=tuple(rows),
    )


def _score_table(arms: list[Arm], scores: Sequence[str]) -> Table:
    return Table(
        name="scores",
        title="Arm tests by score (exploratory)",
        note="Each p-value is adjusted for having looked at all scores (largest statistic in the same re-dealings).",
        columns=(
            Column(key="n_rep", label="Copies"),
            *(Column(key=score, label=NAMES[score]) for score in scores),
        ),
        rows=tuple(
            {"n_rep": arm.n_rep, **{score: PValueRecord.of(arm.by_score[score]) for score in scores}} for arm in arms
        ),
    )


def _holm(arm: Arm) -> PValueRecord:
    over = f"Holm over {arm.n_tests} tests"
    return PValueRecord.corrected(arm.p_value, arm.p_holm, n_tests=arm.n_tests, over=over)


def _length_name(length: int | None) -> str:
    return "all" if length is None else f"{length}_tokens"


def _list(words: Iterable[str]) -> str:
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
