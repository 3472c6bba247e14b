"""Multiple choice while an arm acts: log-probabilities of options after a question, or of their letters.

    total        sum over the option's tokens of log p(token | question, option so far)
    per byte     total / bytes of the option in UTF-8, which does not favour short options

By letters (MMLU) the options are listed in the prompt, and one token after it is read (`audit.answers.choices`);
zero-shot, where the paper's MMLU is five-shot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np

from audit.answers.choices import Accuracy, measure_choices
from audit.answers.formats import PromptFormat
from audit.answers.rows import ChoiceRow
from audit.answers.systems import Bare
from audit.errors import DataError, InputError
from audit.forgetting.continuing import check_room, continued
from audit.forgetting.measured import Measured
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import prefix_ids
from audit.stats.checks import Floats
from audit.text.safe import quoted

from ..arms import Arm
from ..maps import Maps
from ..steer import steered
from .rate import prompted

Score = Literal["total", "per byte"]
_TIE: Final = 1e-9


def option_log_probs(
    lm: LanguageModel, arm: Arm, strength: float, questions: Sequence[str], options: Sequence[Sequence[str]]
) -> list[Floats]:
    """Total log-probability, in nats, of each option after its question.

    Args:
        lm: The model.
        arm: How it is steered; its instruction stands before each question.
        strength: Of the maps; at 0 the arm does nothing.
        questions: One or more.
        options: For each its options, leading space included.

    Returns:
        One array for each question.

    Raises:
        InputError: There is no question.
        DataError: An option has no token of its own, or does not fit the context.
        ModelError: As `audit.lm.logprobs.token_log_probs` and `unlearn.lineas.steer.steered`.
    """
    if not questions:
        raise InputError("there are no questions; expected one or more.")
    asked = prompted(arm, strength, questions)
    flat = [(place, option) for place, listed in enumerate(options) for option in listed]
    whole = continued(lm, [asked[place] for place, _ in flat], [option for _, option in flat])
    for (place, option), one in zip(flat, whole, strict=True):
        if one.n_before >= len(one.ids):
            raise DataError(f"option {quoted(option)} of question {place + 1} has no token; leave the question out.")
    ids = [one.ids for one in whole]
    check_room(lm, [f"question {place + 1} with an option" for place, _ in flat], ids)
    with steered(lm.model, arm.maps, strength):
        scored = token_log_probs(lm, ids, prefix=prefix_ids(lm), n_unscored=[one.n_before for one in whole])
    totals = iter([float(one.log_probs.sum(dtype=np.float64)) for one in scored])
    return [np.array([next(totals) for _ in listed]) for listed in options]


def choice_accuracy(
    lm: LanguageModel, arm: Arm, strength: float, choices: Sequence[ChoiceRow], *, score: Score = "per byte"
) -> Measured:
    """1 where the right option has the highest score, 1/k where k share it, else 0; ``mean`` gives the accuracy.

    Args:
        lm: The model.
        arm: How it is steered.
        strength: Of the maps.
        choices: One or more, ids all different.
        score: See the head of this file.

    Raises:
        InputError: No such score, or a question has fewer than two options or no right one.
        As `option_log_probs`.
    """
    if score not in get_args(Score):
        raise InputError(f'the score is "{score}"; expected {" or ".join(map(repr, get_args(Score)))}.')
    for one in choices:
        if len(one.options) < 2 or not 0 <= one.right < len(one.options):
            raise InputError(
                f"question {quoted(one.id)} has {len(one.options)} options, and the right one's place is {one.right}; "
                "expected two or more, and a place among them."
            )
    spaced = [[f" {option}" for option in one.options] for one in choices]
    totals = option_log_probs(lm, arm, strength, [one.prompt for one in choices], spaced)
    values = []
    for one, total in zip(choices, totals, strict=True):
        sizes = np.array([len(option.encode()) for option in one.options])
        worth = total / sizes if score == "per byte" else total
        highest = worth >= worth.max() - _TIE
        values.append(float(highest[one.right]) / float(highest.sum()))
    ids, clusters = tuple(one.id for one in choices), tuple(one.cluster for one in choices)
    return Measured(f"right choices, {score}", ids, clusters, np.array(values))


def letter_accuracy(
    lm: LanguageModel, maps: Maps, strength: float, choices: Sequence[ChoiceRow], form: PromptFormat
) -> Accuracy:
    """Share of questions whose right letter is the likeliest, of those that are listed.

    Args:
        lm: The model.
        maps: That steer it.
        strength: Of the maps.
        choices: One or more.
        form: How a question becomes the model's input.

    Raises:
        InputError: A question does not fit the context, or letters begin with one token.
    """
    with steered(lm.model, maps, strength):
        return measure_choices(Bare(lm, form), choices, "by letters")
