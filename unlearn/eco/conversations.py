"""Conversations of prompts that may pass, made from single ones.

A threshold that was calibrated on single prompts promises its rate for single prompts. In a conversation every turn is
one more chance to be flagged, and the turns joined are texts of a kind that no single prompt is (`unlearn.eco.turns`).
Where the promise is to hold for whole conversations, the unit that is exchangeable has to be the conversation: its
score (`unlearn.eco.judge.conversation_scores`) is above the threshold exactly if any of its messages is ever flagged.
A conversation's score never falls as it goes on, so that the promise holds for shorter ones as well.

Prompts are drawn without replacement and stand in one conversation each, so that conversations of calibration and test
are exchangeable. Between two prompts stands the answer that the first one's row has, in place of the model's.

A limit: the turns of a real conversation hang together, and these do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from audit.answers.formats import Prompt
from audit.answers.rows import ChoiceRow, QaRow
from audit.errors import InputError
from audit.text.safe import counted

SILENT: Final = "I see."  # the answer of a row that has none


class Asked(NamedTuple):
    """What is judged as one.

    Attributes:
        id: Of its row, or of its rows.
        cluster: Likewise; a conversation is a cluster of its own.
        prompt: A text, or a conversation's messages.
    """

    id: str
    cluster: str
    prompt: Prompt


def conversations(rows: Sequence[QaRow | ChoiceRow], n_turns: int, *, seed: int) -> list[Asked]:
    """The rows as conversations, the same for the same seed; what is left over is in none.

    Args:
        rows: Whose prompts are asked.
        n_turns: Prompts in a conversation, 1 or more; 1 gives the single prompts in their order.
        seed: Of the drawing.

    Raises:
        InputError: There are fewer rows than turns.
    """
    if n_turns < 1:
        raise InputError(f"the number of turns is {n_turns}; expected 1 or more.")
    if n_turns == 1:
        return [Asked(row.id, row.cluster, row.asked) for row in rows]
    if len(rows) < n_turns:
        raise InputError(
            f"{counted(len(rows), 'prompt')} that may pass make no conversation of {n_turns} turns. Give more, or ask "
            "for fewer turns."
        )
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    found = []
    for start in range(0, len(rows) - n_turns + 1, n_turns):
        own = [rows[place] for place in order[start : start + n_turns]]
        messages: list[dict[str, str]] = []
        for row in own:
            messages += [{"role": "user", "content": row.asked}, {"role": "assistant", "content": _answer(row)}]
        name = " + ".join(row.id for row in own)
        found.append(Asked(name, name, messages[:-1]))
    return found


def units(n_turns: int) -> str:
    """What a promise is for, in words."""
    return "prompts" if n_turns == 1 else f"conversations of {n_turns} prompts"


def counted_units(n: int, n_turns: int, which: str = "") -> str:
    """ "1 held-out prompt"; "14 held-out conversations of 5 prompts"."""
    if n_turns == 1:
        return counted(n, f"{which}prompt")
    return f"{counted(n, f'{which}conversation')} of {n_turns} prompts"


def _answer(row: QaRow | ChoiceRow) -> str:
    told = row.answer if isinstance(row, QaRow) else row.letters[row.right]
    return told if told.strip() else SILENT
