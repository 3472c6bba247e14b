"""The whole method: text and dictionary in, a model that answers as one that never read the text out.

    reinforce -> translate -> label -> tune        (arXiv:2310.02238; each step is a file of its name)

Everything is made in one folder and kept by content: ``reinforced``, ``labels``, ``model``. A killed run goes on from
the last checkpoint of its step, and what is there already is not made again. The baseline's files are only read.

Departures: a beginning-of-sequence token, where the tokenizer has one, stands before every block, as the model is asked
later; not with ``compat``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from audit.errors import DataError
from audit.lm.load import LanguageModel, Tokens, load_tokens
from audit.lm.subject import Subject
from audit.lm.tokens import prefix_ids
from audit.progress import Progress, silent
from audit.text.files import make_folder, write_text
from audit.text.safe import counted

from ..card import model_card
from ..findings import Change
from .anchors import Anchors
from .blocks import Block, make_blocks
from .checks import check_retain, check_translations
from .config import WhpPlan
from .finetune import tune
from .label_table import Labels, label
from .own_rules import at_anchors, names_held_back, own_rules
from .pair import open_pair
from .reinforce import Trained, reinforce
from .translate import Translated, Translator


class Prepared(NamedTuple):
    """Blocks of the forget text, blocks of the retain text, and a translation of each block of the forget text."""

    blocks: list[Block]
    kept: list[tuple[int, ...]]
    translations: list[Translated]


@dataclass(frozen=True, slots=True)
class Unlearned:
    """What a run made.

    Attributes:
        model: The unlearned model.
        reinforced: The model that was trained further on the forget text.
        labels: Where the labels lie, and how they were made.
        blocks: Blocks of the forget text that were trained on.
        translations: One for each block, with what was replaced in it.
    """

    model: Trained
    reinforced: Trained
    labels: Labels
    blocks: tuple[Block, ...]
    translations: tuple[Translated, ...]

    @property
    def n_blocks(self) -> int:
        return len(self.blocks)

    @property
    def n_replaced(self) -> int:
        """Anchor terms that were replaced, over all blocks."""
        return sum(len(one.replaced) for one in self.translations)


def prepare(tokens: Tokens, text: str, anchors: Anchors, plan: WhpPlan, *, retain: str = "") -> Prepared:
    """Cut and translate the texts, and refuse what `unlearn.whp.checks` refuses; no weights are read.

    Raises:
        InputError, DataError, ModelError: As in the steps.
    """
    start = prefix_ids(tokens)
    # A block of one token has nothing to predict.
    blocks = [
        block
        for block in make_blocks(tokens.tokenizer, text, n_tokens=plan.block, prefix=start, compat=plan.compat)
        if len(block.token_ids) > max(1, len(start))
    ]
    if not blocks:
        raise DataError("the forget text has too few tokens to be learnt or unlearnt; give a longer one.")
    kept = (
        [block.token_ids for block in make_blocks(tokens.tokenizer, retain, n_tokens=plan.block, prefix=start)]
        if plan.tune.retain.kind != "none" and retain
        else []
    )
    translate = Translator(tokens.tokenizer, anchors, seed=plan.seed, compat=plan.compat)
    translations = [translate(block) for block in blocks]
    if plan.hold_back == "names":
        translations = names_held_back(translate, [block.token_ids for block in blocks], translations)
    if plan.places == "anchors":
        translations = [at_anchors(one) for one in translations]
    check_translations(tokens, blocks, translations, anchors, plan)
    check_retain(text, retain, len(kept), plan)
    return Prepared(blocks, kept, translations)


def unlearn(
    subject: Subject,
    text: str,
    anchors: Anchors,
    plan: WhpPlan,
    *,
    out: Path,
    retain: str = "",
    on_eval: Callable[[int, LanguageModel], None] | None = None,
    progress: Progress = silent,
) -> Unlearned:
    """Make the unlearned model.

    Args:
        subject: The baseline.
        text: The whole forget text.
        anchors: The dictionary; an empty one leaves the reinforced model alone to tell what is idiosyncratic.
        plan: Every setting.
        out: Folder of the run, made when absent.
        retain: Text that the retain term keeps, where the plan has one.
        on_eval: As for `unlearn.whp.finetune.tune`; what is audited on must decide nothing here.
        progress: Called as the work goes on.

    Raises:
        InputError, DataError, ModelError, StorageError: As in the steps.
    """
    blocks, kept, translations = prepare(load_tokens(subject), text, anchors, plan, retain=retain)
    make_folder(out)
    ids = [block.token_ids for block in blocks]
    reinforced = reinforce(subject, ids, plan, out=out / "reinforced", progress=progress)
    pair = open_pair(subject, reinforced.subject)
    labels = label(
        pair,
        ids,
        translations,
        plan,
        folder=out / "labels",
        numbers=[block.number for block in blocks],
        progress=progress,
    )
    del pair  # two models less in memory while the third is trained
    tuned = tune(subject, labels.table, plan, out=out / "model", retain=kept, on_eval=on_eval, progress=progress)
    made = Unlearned(tuned, reinforced, labels, tuple(blocks), tuple(translations))
    write_text(out / "model" / "README.md", whp_card(subject, made, anchors, plan))
    return made


def whp_card(
    subject: Subject,
    made: Unlearned,
    anchors: Anchors,
    plan: WhpPlan,
    *,
    found: Mapping[str, Change] | None = None,
    alarms: Sequence[str] = (),
) -> str:
    """The result's model card; ``found`` and ``alarms`` are of what was measured before and in the result."""
    retain, log = plan.tune.retain, made.model.log
    kept = "none, as in the paper" if retain.kind == "none" else f"{retain.kind}, weight {retain.weight:g}"
    how = (
        "Who's Harry Potter? (arXiv:2310.02238): the model was\ntrained further on the text to be forgotten, and the "
        "baseline was tuned on that text with labels that a model would give\nthat never read it."
    )
    facts = {
        "Forget text": f"{counted(made.n_blocks, 'block')} of at most {plan.block:,} tokens",
        "Dictionary": f"{counted(len(anchors), 'anchor term')}, replaced {counted(made.n_replaced, 'time')}",
        "Labels": f"{plan.labels}, alpha {plan.alpha * plan.kappa:g}. {own_rules(plan)}".strip(),
        "Trained": f"{plan.tune.weights}, {log['n_steps']:,} of at most {plan.tune.n_steps:,} steps; these are the "
        f"weights of step {log['best_step']:,}",
        "Retain term": kept,
        "Beside this folder": "reinforced is a model trained FURTHER on the text, labels holds the text's tokens: "
        "delete both before you hand the run's folder on",
    }
    return model_card(subject.model, how, facts, adapter=plan.tune.weights == "lora", alarms=alarms, found=found)
