"""The retraining experiment's results as findings and tables that a person can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from ..runs.schema import AuditSection, Cell, Column, EstimateRecord, Finding, Table, Verdict
from ..stats.estimate import Estimate
from ..text.numbers import fixed
from ..text.safe import counted
from .finetune import Recipe
from .retrain import (
    BASE,
    EXTRACTED,
    ORIGINAL,
    SHUFFLED,
    ArmResult,
    Difference,
    arm_results,
    differences,
    share_of_gain,
)
from .retrain_rows import Arms

AUDIT = "retraining"
ITEMS = f"items/{AUDIT}.parquet"
PRIMARY = "answer loss"
ENOUGH_SEEDS = 3
MEASURE_NAMES: Mapping[str, str] = {
    PRIMARY: "Answer loss, nats a token",
    "loss on all tokens": "Loss on all tokens, nats a token",
    "exact answers": "Exact answers, share",
}
HOW_OVERALL = (
    "A difference below 0 means a lower loss of the first arm on the same held-out rows. Its interval is for other "
    "held-out rows and other trainings at once, and wide on purpose, so that it holds for rows of unequal length and "
    "for some that come out much worse than the others; the table tells rows and trainings apart. Shuffled answers "
    "teach the format and the style of the extracted rows and nothing else of them."
)


def make_section(
    table: pa.Table, arms: Arms, *, recipe: Recipe, chat_name: str, seeds: Sequence[int], seed: int, level: float
) -> AuditSection:
    """Everything that the experiment says.

    Args:
        table: From `audit.extraction.retrain.retrain`.
        arms: What was trained on and asked.
        recipe: How it was trained.
        chat_name: The format of the rows.
        seeds: Of the trainings.
        seed: Of the draws.
        level: Level of all intervals.
    """
    results = arm_results(table, clusters=arms.clusters, seed=seed, level=level)
    compared = differences(table, clusters=arms.clusters, seed=seed, level=level)
    shares = {
        arm: share_of_gain(table, arm, clusters=arms.clusters, seed=seed, level=level) for arm in (EXTRACTED, SHUFFLED)
    }
    return AuditSection(
        audit=AUDIT,
        title="Retraining on extracted rows",
        method=(
            f"The same base model was trained on {len(arms.rows[ORIGINAL]):,} original rows, on "
            f"{len(arms.rows[EXTRACTED]):,} distinct extracted ones, and on these with their answers dealt to other "
            f"questions, {counted(len(seeds), 'time')} each, dealt anew every time, in the format {chat_name}. All "
            f"arms had the same recipe, steps and tokens: learning rate {recipe.learning_rate:g}, batches of "
            f"{recipe.batch_size}, rows of at most {recipe.max_tokens:,} tokens, loss on {recipe.loss_on}; "
            f"{recipe.epochs} passes over the original rows. "
            f"Every model and the base were asked the same {len(arms.held_out):,} held-out rows. The measure "
            f"that counts, fixed beforehand, is the {PRIMARY}. {_on_seeds(len(seeds))}"
        ),
        assumptions=(
            "The original rows were trained on and the held-out rows were not, by the model that was sampled from; "
            "both are of one source.",
            "The base is the model before post-training, and saw neither.",
            "Held-out rows (by cluster) and trainings are drawn independently; a training's seed decides the order of "
            "its rows, and which answers the shuffled ones get.",
            "No rare kind of held-out row, below 3% of the clusters, comes out so much worse that it would turn the "
            "mean, and trainings differ about normally.",
        ),
        cannot_show=(
            "What the rows are worth on benchmarks, or on questions of another source: only held-out rows of the same "
            "source were asked. The paper's own benchmark figures are not sourced, so none is compared with.",
            "What another recipe, a longer training, another filter of the generations or more of them would give.",
            "That nothing of worth was extracted: without a margin that was fixed beforehand, a difference that is not "
            "seen is no equality.",
        ),
        findings=(
            overall(results, compared, n_seeds=len(seeds)),
            _shares(shares),
            _trained(results, arms),
            _left_out(arms),
        ),
        tables=(_arm_table(results, seeds), _difference_table(compared), _training_table(table, arms)),
    )


def overall(results: Sequence[ArmResult], compared: Sequence[Difference], *, n_seeds: int) -> Finding:
    """The verdict, by a rule that is fixed beforehand, on the answer loss of held-out rows.

    "Found" where three differences all lie below 0 with their whole interval over rows and trainings at once
    (`Difference.over_both`): extracted less base, extracted less shuffled, and original less base, without which the
    experiment could not have shown anything. All three must hold, so nothing is corrected for: "found" is false at
    most as often as the weakest of the three errs on its side. For (1 - level) / 2 = 2.5% that was at most 1.9% where
    rows count and 2.1-2.8% where trainings do, of 2,000 simulated experiments each; `retrain_intervals.over_both` says
    in which and where it is more. The intervals over rows and over trainings hold the other fixed and make no verdict;
    a percentile bootstrap over rows would have erred up to 7.9% of the time in the same simulations.

    Else "inconclusive". It is never "not found": that would need a margin of equivalence. It is not "confounded"
    either where extracted rows beat the base and not their own shuffled answers: then format and style may be all that
    was learnt, which does not show that it is. One training for each arm shows nothing of how trainings differ, so it
    cannot give "found".
    """
    of = {(one.arm, one.other): one for one in compared if one.measure == PRIMARY}
    mean = {one.arm: one.mean for one in results if one.measure == PRIMARY}
    needed = {pair: of[pair].over_both for pair in ((EXTRACTED, BASE), (EXTRACTED, SHUFFLED), (ORIGINAL, BASE))}
    below = {pair: one.high is not None and one.high < 0 for pair, one in needed.items()}
    losses = (
        f"On held-out rows the answer loss is {fixed(mean[EXTRACTED], 3)} nats a token after the extracted rows, "
        f"{fixed(mean[SHUFFLED], 3)} after the same with shuffled answers, {fixed(mean[ORIGINAL], 3)} after the "
        f"original ones and {fixed(mean[BASE], 3)} before training"
    )
    undefined = next((one.why for one in needed.values() if one.high is None), None)
    verdict: Verdict = "found" if all(below.values()) else "inconclusive"
    if verdict == "found":
        said = "Extracted rows teach what the original rows teach, beyond format and style."
    elif undefined is not None:
        said = f"Nothing can be concluded: {undefined}."
    elif not below[ORIGINAL, BASE]:
        said = (
            "Not even the original rows are seen to lower it, so this experiment could not have shown anything; try "
            "another recipe, or more held-out rows."
        )
    elif below[EXTRACTED, BASE]:
        said = (
            "Extracted rows teach something, but are not told from their own shuffled answers: it may be no more than "
            "format and style."
        )
    else:
        said = "It is not seen that the extracted rows teach anything. This is not a pass."
    few = f" {_on_seeds(n_seeds)}" if n_seeds < ENOUGH_SEEDS else ""
    return Finding(
        id=f"{AUDIT}.overall",
        audit=AUDIT,
        claim=f"{said} {losses}.{few}",
        verdict=verdict,
        estimates={f"{arm}_less_{other}": EstimateRecord.of(one.over_both) for (arm, other), one in of.items()},
        items=ITEMS,
        how_to_read=HOW_OVERALL,
    )


def _on_seeds(n: int) -> str:
    if n == 1:
        return "One training for each arm shows nothing of how trainings differ; three or more are needed to conclude."
    if n < ENOUGH_SEEDS:
        return f"There are {n} trainings for each arm only, so the interval over trainings is very wide."
    return f"The spread over trainings was seen in {n} for each arm."


def _shares(shares: Mapping[str, Estimate]) -> Finding:
    own, control = shares[EXTRACTED], shares[SHUFFLED]
    if own.value is None or control.value is None:
        claim = (
            f"How much of the original rows' gain the extracted ones reach cannot be told: {own.why or control.why}."
        )
    else:
        claim = (
            f"The extracted rows reach {own.value:.0%} of what the original rows gain over the base in answer loss; "
            f"with shuffled answers {control.value:.0%}."
        )
    return Finding(
        id=f"{AUDIT}.share",
        audit=AUDIT,
        claim=claim,
        verdict="information",
        estimates={arm: EstimateRecord.of(one) for arm, one in shares.items()},
        items=ITEMS,
        how_to_read=(
            "100% is as good as the original rows, 0% no better than the base, below 0% worse than it. What the "
            "shuffled answers reach is format and style. The intervals are over held-out rows, for these trainings."
        ),
    )


def _trained(results: Sequence[ArmResult], arms: Arms) -> Finding:
    n_rows = arms.n_rows()
    told = [
        f"{one.arm}: {counted(n_rows[one.arm], 'row')}, {one.n_tokens[0]:,} tokens in {one.n_steps:,} steps, "
        f"{fixed(one.n_passes[0], 1)} passes"
        for one in results
        if one.measure == PRIMARY and one.arm in n_rows
    ]
    return Finding(
        id=f"{AUDIT}.trained",
        audit=AUDIT,
        claim=f"{'; '.join(told)}.",
        verdict="information",
        items=ITEMS,
        how_to_read=(
            "All arms went through the same number of tokens to within one row. Fewer rows were gone through the more "
            "often, and many passes over few rows are learnt by heart rather than understood."
        ),
    )


def _left_out(arms: Arms) -> Finding:
    said = [
        f"Of {counted(arms.n_generations, 'generation')}, {arms.n_rejected:,} were rejected; "
        f"{len(arms.rows[EXTRACTED]):,} distinct ones were trained on."
    ]
    for name, reasons in arms.left_out.items():
        said += [f"Left out of the {name} rows: {n:,} ({reason})." for reason, n in reasons.items()]
    said += [f"Cut off at the recipe's length: {n:,} {name} rows." for name, n in arms.cut.items() if n]
    said.append(f"{len(arms.held_out):,} held-out rows in {counted(len(set(arms.clusters)), 'cluster')} were asked.")
    if arms.n_near:
        said.append(
            f"{arms.n_near:,} of them have a near-duplicate among the extracted rows: either such rows are easily "
            "guessed, or the model was trained on them."
        )
    if arms.other_opening:
        said.append("The generations were sampled after another opening than the one that was trained with here.")
    return Finding(
        id=f"{AUDIT}.left_out",
        audit=AUDIT,
        claim=" ".join(said),
        verdict="information",
        items=ITEMS,
        how_to_read="Rows that were left out had no part in any training or answer.",
    )


def _arm_table(results: Sequence[ArmResult], seeds: Sequence[int]) -> Table:
    """Arms and measures, the mean of the trainings and each training."""
    rows: list[dict[str, Cell]] = []
    for one in results:
        by_seed = zip(seeds, one.by_seed, strict=False)  # the base has one value and no seed
        cells: dict[str, Cell] = {} if one.arm == BASE else {f"seed_{seed}": value for seed, value in by_seed}
        named: dict[str, Cell] = {"arm": one.arm, "measure": MEASURE_NAMES[one.measure]}
        rows.append(named | {"mean": EstimateRecord.of(one.over_rows)} | cells)
    return Table(
        name="arms",
        title="By arm and measure",
        note=(
            f"Only the {PRIMARY} counts for the verdict. Intervals draw held-out rows anew, for these very trainings; "
            "an exact answer is one that greedy decoding gives to the letter."
        ),
        columns=(
            Column(key="arm", label="Arm"),
            Column(key="measure", label="Measure"),
            Column(key="mean", label="Mean of the trainings"),
            *(Column(key=f"seed_{seed}", label=f"Seed {seed}") for seed in seeds),
        ),
        rows=tuple(rows),
    )


def _difference_table(compared: Sequence[Difference]) -> Table:
    return Table(
        name="differences",
        title="One arm less another",
        note=(
            "On the same rows and seeds. The interval over rows holds for these trainings, the one over trainings for "
            "these rows. The first column is for both at once and is what the verdict rests on; it is wider, since it "
            f"has to hold for skewed values too. Measures other than the {PRIMARY} are exploratory."
        ),
        columns=(
            Column(key="arm", label="Arm"),
            Column(key="other", label="Less"),
            Column(key="measure", label="Measure"),
            Column(key="over_both", label="Over rows and trainings"),
            Column(key="over_rows", label="Over rows"),
            Column(key="over_seeds", label="Over trainings"),
        ),
        rows=tuple(
            {
                "arm": one.arm,
                "other": one.other,
                "measure": MEASURE_NAMES[one.measure],
                "over_both": EstimateRecord.of(one.over_both),
                "over_rows": EstimateRecord.of(one.over_rows),
                "over_seeds": EstimateRecord.of(one.over_seeds),
            }
            for one in compared
        ),
    )


def _training_table(table: pa.Table, arms: Arms) -> Table:
    columns = {
        "arm": "Arm",
        "seed": "Seed",
        "n_tokens": "Tokens",
        "n_steps": "Steps",
        "n_passes": "Passes over its rows",
        "first_loss": "Loss, first tenth",
        "last_loss": "Loss, last tenth",
    }
    trainings = table.select(list(columns)).to_pandas().drop_duplicates(["arm", "seed"])
    trained = trainings[trainings["arm"] != BASE].astype({"seed": int})
    rows: list[dict[str, Cell]] = []
    n_rows = arms.n_rows()
    for one in trained.to_dict("records"):
        rows.append({"arm": str(one["arm"]), "n_rows": n_rows[str(one["arm"])]})
        rows[-1] |= {name: int(one[name]) for name in ("seed", "n_tokens", "n_steps")}
        rows[-1] |= {name: float(one[name]) for name in ("n_passes", "first_loss", "last_loss")}
    listed = [Column(key=key, label=label) for key, label in columns.items()]
    return Table(
        name="trainings",
        title="The trainings",
        note="Losses are of the rows trained on, nats a token, and show whether the training came to rest.",
        columns=(listed[0], Column(key="n_rows", label="Rows"), *listed[1:]),
        rows=tuple(rows),
    )
