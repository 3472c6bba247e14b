"""The audit of found texts as findings and tables that a person can read: indicative, every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..runs.schema import AuditSection, Cell, Column, EstimateRecord, Finding, PValueRecord, Table
from ..stats.estimate import Estimate
from ..text.numbers import fixed, percent
from .blind import BLIND_LEVEL
from .config import MembershipPlan
from .found import FPRS, SIDES, Blind, Comparison, judge
from .inference import DECISION, IID, Inference
from .score_names import NAMES, Score

AUDIT = "membership"
ITEMS = "items/membership.parquet"
HOW_AUC = (
    "AUC is the chance that a random suspect text scores above a random validation text; 0.5 means that the score "
    "tells them apart no better than a coin. It is indicative: texts differ for many reasons, training being one, and "
    "no sound false-positive rate can be had for texts that were not dealt at random beforehand: hence no p-value."
)
HOW_BLIND = (
    "None of these asks the model under audit, so each must be compatible with 0.5 "
    f"({percent(BLIND_LEVEL)} intervals). One that is not shows that the sets differ in themselves, and then a score "
    "that tells them apart proves nothing."
)
HOW_INFERENCE = (
    "The p-value in the table holds only if suspect and validation texts are independent draws from one distribution "
    "(IID), which no number here can show; where they are not, it is void. It says that the sets differ in the scores, "
    "in whatever direction, so read it beside the AUC of each score. The false-positive check cuts the validation set "
    "against itself, so it tests the arithmetic and not that assumption."
)


def make_section(
    items: pd.DataFrame,
    *,
    comparisons: Sequence[Comparison],
    blind: Blind,
    inference: Inference,
    features: Sequence[str],
    plan: MembershipPlan,
    primary: Score,
    left_out: Mapping[str, int],
) -> AuditSection:
    """Everything that the audit says, from its computed parts.

    Args:
        items: One row for each text.
        comparisons: Every score's AUC and TPR.
        blind: The checks without the model.
        inference: Dataset inference with the model's scores, refused where the sets are not alike.
        features: The scores that it put together.
        plan: As fixed beforehand.
        primary: The score of the verdict.
        left_out: Side -> records of its file that could not be used.
    """
    sides = items["side"].value_counts()
    chosen = next(comparison for comparison in comparisons if comparison.score == primary)
    return AuditSection(
        audit=AUDIT,
        title="Membership of found texts (indicative)",
        method=(
            f"{sides[SIDES[0]]} suspect texts, which the model may have been trained on, are compared with "
            f"{sides[SIDES[1]]} validation texts, which it is said not to have seen, by membership inference; the "
            f"score that counts, fixed beforehand, is {NAMES[primary]}. Beside it stand checks that never ask the "
            "model: if they tell the sets apart, the verdict is refused. Nothing was dealt at random, so nothing is a "
            "proof."
        ),
        assumptions=(
            "Suspect and validation texts are independent draws from one distribution (the same source, kind, time and "
            "length). If they are not, neither AUC nor p-value speaks of training.",
            "The model was not trained on any validation text.",
            "Each text is independent of the others. Pieces of one work are not: intervals are then too narrow, and "
            "dataset inference tells works apart instead of training.",
            f"Primary score ({NAMES[primary]}) and tests were fixed before any score was seen.",
            "A reference model, where one is used, was trained on neither set.",
        ),
        cannot_show=(
            "That the model was trained on the suspect texts: this is an indication, never a proof. Only sequences "
            "that were dealt at random beforehand, such as copyright traps, support one.",
            "That the model was not trained on them: most texts leave no trace that these scores see.",
            "Which of the suspect texts the model was trained on.",
            "That the two sets are alike: only words, length and the reference model were tried as other explanations.",
        ),
        findings=(_overall(chosen, blind), _blind(blind), _inference(inference)),
        tables=(_texts(items, left_out), _scores(comparisons), _inference_table(inference, features, blind)),
    )


def _overall(chosen: Comparison, blind: Blind) -> Finding:
    verdict, reason = judge(chosen, blind)
    value = "undefined" if chosen.auc.value is None else fixed(chosen.auc.value, 3)
    score = f"{NAMES[chosen.score]} (AUC {value})"
    claim = {
        "information": f"Indicative only: suspect texts score higher than validation texts by {score}; {reason}.",
        "confounded": f"Refused, and not even indicative: {reason}, so {score} is no evidence of training.",
        "inconclusive": f"Not even indicative: by {score}, {reason}. This is not a pass.",
    }[verdict]
    return Finding(
        id="membership.overall",
        audit=AUDIT,
        claim=claim,
        verdict=verdict,
        estimates={
            "auc": EstimateRecord.of(chosen.auc),
            **{name: EstimateRecord.of(chosen.tpr[name]) for name in FPRS},
        },
        items=ITEMS,
        how_to_read=HOW_AUC,
    )


def _blind(blind: Blind) -> Finding:
    if blind.told_apart:
        claim = f"Without the model under audit the sets can be told apart: by {blind.named}."
    elif blind.bag_of_words.value is None:
        claim = "Whether the sets can be told apart by their words could not be checked."
    else:
        claim = "No check without the model under audit told the sets apart; that does not show that they are alike."
    return Finding(
        id="membership.blind",
        audit=AUDIT,
        claim=claim,
        verdict="confounded" if blind.told_apart else "information",
        estimates={
            "bag_of_words_auc": EstimateRecord.of(blind.bag_of_words),
            "length_auc": EstimateRecord.of(blind.length),
            "reference_only_auc": EstimateRecord.of(blind.reference_only),
        },
        items=ITEMS,
        how_to_read=HOW_BLIND,
    )


def _inference(inference: Inference) -> Finding:
    if inference.p_value is None:
        claim = f"Dataset inference gives no p-value: {inference.why}."
    else:
        outcome = "tells the two sets apart" if inference.below else "does not tell the two sets apart"
        claim = (
            f"Indicative only: dataset inference {outcome} at its published threshold (p < {DECISION:g}); its p-value, "
            f"in the table below, is {IID}, and is no part of the verdict."
        )
    return Finding(
        id="membership.inference",
        audit=AUDIT,
        claim=claim,
        verdict="information",
        estimates={"false_positive_share": EstimateRecord.of(inference.false_positives)},
        items=ITEMS,
        how_to_read=HOW_INFERENCE,
    )


def _texts(items: pd.DataFrame, left_out: Mapping[str, int]) -> Table:
    rows: list[dict[str, Cell]] = []
    for side in SIDES:
        part = items[items["side"] == side]
        rows.append(
            {
                "side": side,
                "n": len(part),
                "left_out": left_out[side],
                "characters": float(part["n_characters"].median()),
                "tokens": float(part["n_tokens"].median()),
                "truncated": int(part["truncated"].sum()),
            }
        )
    return Table(
        name="texts",
        title="The two sets",
        columns=(
            Column(key="side", label="Set"),
            Column(key="n", label="Texts"),
            Column(key="left_out", label="Left out", help="Records of the file that could not be used."),
            Column(key="characters", label="Characters", help="Median; compare it with the AUC of the length."),
            Column(key="tokens", label="Scored tokens", help="Median, of the model under audit."),
            Column(key="truncated", label="Cut", help="Texts of which only the first tokens were scored."),
        ),
        rows=tuple(rows),
    )


def _scores(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        name="scores",
        title="Suspect against validation texts, every score",
        note="Indicative. Only the primary score was fixed beforehand; the other rows are exploratory.",
        columns=(
            Column(key="score", label="Score"),
            Column(key="auc", label="AUC", help="0.5 is chance."),
            *(
                Column(key=name, label=f"TPR at {percent(fpr)} FPR", help=f"{percent(fpr)} is chance.")
                for name, fpr in FPRS.items()
            ),
        ),
        rows=tuple(
            {
                "score": NAMES[comparison.score],
                "auc": EstimateRecord.of(comparison.auc),
                **{name: EstimateRecord.of(comparison.tpr[name]) for name in FPRS},
            }
            for comparison in comparisons
        ),
    )


def _inference_table(inference: Inference, features: Sequence[str], blind: Blind) -> Table:
    named = ", ".join(NAMES.get(name.removesuffix("_score"), name.removesuffix("_score")) for name in features)
    rows = [_inference_row(f"model under audit: {named}", inference)]
    if blind.control is not None:
        rows.append(_inference_row("control, the reference model alone", blind.control))
    return Table(
        name="inference",
        title="Dataset inference",
        note=(
            f"Every p-value here is {IID}: independent draws from one distribution. Nothing in this report shows that "
            "they are. Each is twice the median over random splits, which errs on the safe side."
        ),
        columns=(
            Column(key="features", label="Scores put together"),
            Column(key="n_suspect", label="Suspect"),
            Column(key="n_validation", label="Validation"),
            Column(
                key="p",
                label="p",
                help="One-sided, on texts held out from the fit, in the direction that the fit learned.",
            ),
            Column(key="below", label=f"p below {DECISION:g}", help="The published threshold."),
            Column(key="share", label="Splits with p below 0.1", help="They share their texts, so it is no test."),
            Column(
                key="false_positives",
                label="Validation against itself",
                help="Share of random splits of the validation set with p below 0.1; must be about 10%.",
            ),
        ),
        rows=tuple(rows),
    )


def _inference_row(features: str, inference: Inference) -> dict[str, Cell]:
    p = inference.p_value
    return {
        "features": features,
        "n_suspect": inference.n_suspect,
        "n_validation": inference.n_validation,
        "p": _no_p(inference) if p is None else PValueRecord.of(p),
        "below": "refused" if inference.below is None else inference.below,
        "share": _share(inference),
        "false_positives": EstimateRecord.of(inference.false_positives),
    }


def _no_p(inference: Inference) -> EstimateRecord:
    why = inference.why or "refused"
    return EstimateRecord.of(
        Estimate.undefined(method="dataset inference", why=why, n=inference.n_suspect + inference.n_validation)
    )


def _share(inference: Inference) -> EstimateRecord:
    method, n = "share of random splits with p < 0.1", len(inference.split_p)
    if inference.p_value is None:
        return EstimateRecord.of(Estimate.undefined(method=method, why=inference.why or "refused", n=n))
    why = "all splits share their texts, so the share has no interval and is no test"
    value = float((inference.split_p < DECISION).mean())
    return EstimateRecord.of(Estimate(value, None, None, 0.95, n, method, why))
