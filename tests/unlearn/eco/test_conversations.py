"""A promise for whole conversations: what is scored, and how often harmless ones are flagged under the null."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pytest
from numpy.typing import NDArray

from audit.answers.rows import ChoiceRow, QaRow
from audit.errors import InputError
from audit.progress import silent
from unlearn.eco.calibration import one_sided
from unlearn.eco.classifier import PromptScores
from unlearn.eco.conversations import conversations
from unlearn.eco.fit import scores_of
from unlearn.eco.judge import Judge, conversation_scores

KEY = bytes(range(16))
TURNS = 5


class Noise:
    """Every text has a score of its own, uniform in [0, 1], whatever it says: nothing is there to be recognised."""

    def scores(self, texts: Sequence[str]) -> PromptScores:
        digests = [sha256(text.encode()).digest()[:8] for text in texts]
        p = np.array([int.from_bytes(one, "big") / 2**64 for one in digests])
        return PromptScores(p, np.ones(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_))


def rows(n: int, world: int) -> list[QaRow]:
    """Prompts that may pass, others in each world, some with an answer."""
    return [QaRow(f"{i}", "a", f"prompt {i} of world {world}", f"answer {i}" if i % 3 else "") for i in range(n)]


def flagged(prompts: Sequence[object], threshold: float) -> NDArray[np.bool_]:
    verdicts = Judge(Noise(), threshold, key=KEY).verdicts(prompts)  # type: ignore[arg-type]
    return np.array([verdict.flagged for verdict in verdicts])


def test_conversations_hold_each_prompt_once_with_the_rows_answers_between() -> None:
    given = rows(11, 0)
    found = conversations(given, 3, seed=1)
    asked = [one["content"] for talk in found for one in talk.prompt if one["role"] == "user"]  # type: ignore[index]
    assert len(found) == 3
    assert len(set(asked)) == len(asked) == 9
    first = [message["content"] for message in found[0].prompt]  # type: ignore[index]
    ids = found[0].id.split(" + ")
    by_id = {row.id: row for row in given}
    assert first[::2] == [by_id[one].prompt for one in ids]
    assert first[1::2] == [by_id[one].answer or "I see." for one in ids[:-1]]
    assert conversations(given, 1, seed=1) == [(row.id, row.cluster, row.prompt) for row in given]
    choices = [ChoiceRow(str(i), "a", "which?", ("x", "y"), 1) for i in range(2)]
    (talk,) = conversations(choices, 2, seed=0)
    assert talk.prompt[1] == {"role": "assistant", "content": "B"}
    with pytest.raises(InputError, match="2 prompts that may pass make no conversation of 3 turns"):
        conversations(given[:2], 3, seed=1)


def test_a_conversation_is_flagged_exactly_if_its_score_is_above_the_threshold() -> None:
    """Also where an assistant's message, or the users' messages joined, decides."""
    prompts = [talk.prompt for talk in conversations(rows(400, 0), 4, seed=0)] + ["alone"]
    scores = scores_of(Noise(), None, prompts, "", silent)
    for threshold in (0.5, 0.8, 0.9, 0.95):
        assert (flagged(prompts, threshold) == (scores > threshold)).all()
    assert 0.1 < (scores > 0.9).mean() < 0.9


def test_a_conversations_score_never_falls_as_it_goes_on() -> None:
    for talk in conversations(rows(60, 1), 6, seed=0):
        parts = [talk.prompt[: 2 * n + 1] for n in range(6)]
        scores = conversation_scores(lambda texts: Noise().scores(texts).p_forget, parts)
        assert (np.diff(scores) >= 0).all()


@pytest.mark.slow
def test_under_the_null_conversations_are_flagged_at_the_rate_that_was_promised_for_them() -> None:
    """40 worlds of 300 calibration prompts (60 conversations, so a rate of at most 6/61) and 200 test prompts. A
    threshold for single prompts breaks the promise by far on the same conversations."""
    alpha, rates, broken = 0.1, [], []
    for world in range(40):
        given = rows(500, world)
        order = np.random.default_rng(world).permutation(500)
        calibration, test = ([given[i] for i in part] for part in (order[:300], order[300:]))
        new = scores_of(Noise(), None, [talk.prompt for talk in conversations(test, TURNS, seed=world)], "", silent)
        for n_turns, told in ((TURNS, rates), (1, broken)):
            prompts = [one.prompt for one in conversations(calibration, n_turns, seed=world)]
            threshold = one_sided(scores_of(Noise(), None, prompts, "", silent), alpha=alpha)
            told.append((new > threshold.value).mean())
    error = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) == pytest.approx(6 / 61, abs=3 * error)
    assert np.mean(rates) <= alpha + 3 * error
    assert np.mean(broken) > 0.5
