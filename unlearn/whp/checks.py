"""What can be refused before a model is trained: hours earlier than otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from audit.errors import DataError, InputError
from audit.lm.load import Tokens
from audit.text.safe import counted

from ..apart import check_apart
from .anchors import Anchors
from .blocks import Block
from .config import WhpPlan
from .finetune import FEWEST
from .translate import Translated


def check_translations(
    tokens: Tokens, blocks: Sequence[Block], translations: Sequence[Translated], anchors: Anchors, plan: WhpPlan
) -> None:
    """Refuses what would make the labels or the tuning impossible, or all labels those of another dictionary.

    Raises:
        DataError: No key stands in the text, a translated block exceeds the model's context, or there is one block and
            none could be kept out to validate on.
    """
    if len(blocks) < FEWEST and plan.tune.validation_share:
        raise DataError(
            f"the forget text is one block of {len(blocks[0].token_ids):,} tokens, so none can be kept out to validate "
            "on. Give a block of fewer tokens (--block) or more text."
        )
    if len(anchors) and not any(one.replaced for one in translations):
        raise DataError(
            f"none of the {counted(len(anchors), 'anchor term')} stands in the forget text, so nothing would be "
            "replaced. Give the dictionary of this text; case and spelling count."
        )
    for block, one in zip(blocks, translations, strict=True):
        if len(one.token_ids) > tokens.n_context:
            raise DataError(
                f"block {block.number} has {len(block.token_ids):,} tokens, and {len(one.token_ids):,} once its anchor "
                f"terms are replaced; the model reads at most {tokens.n_context:,}. Give a smaller block or shorter "
                "substitutes."
            )


def check_retain(forget: str, retain: str, n_blocks: int, plan: WhpPlan) -> None:
    """Refuses a retain text that is lacking or too short for the plan, or that is the forget text, in the main.

    Raises:
        InputError: There is none, and the plan keeps some.
        DataError: It is one block and none could be kept out, or more than half of its lines stand in the forget text.
    """
    kind = plan.tune.retain.kind
    if kind == "none":
        return
    if not n_blocks:
        raise InputError(f'the retain term is "{kind}", but no retain text was given. Give some, or set "none".')
    if n_blocks < FEWEST and plan.tune.validation_share:
        raise DataError(
            f"the retain text is one block of at most {plan.block:,} tokens, so none can be kept out to validate on. "
            "Give more text or a smaller block (--block)."
        )
    check_apart(retain, forget, names=("retain", "forget"), why="the same text would be kept and forgotten")
