"""Repetition by hand, and losses of completions against a plain pass."""

from __future__ import annotations

import pytest

from audit.errors import DataError, InputError
from audit.forgetting.completion import Completion
from audit.forgetting.fluency import completion_losses, repetition, repetitions
from audit.forgetting.prompts import Prompt
from audit.lm.tokens import encode, prefix_ids
from tests.forgetting.small_models import plain_log_probs, small_model


def made(*texts: str) -> tuple[list[Prompt], list[Completion]]:
    prompts = [Prompt(f"p{i}", f"q{i}", "the cat") for i in range(len(texts))]
    return prompts, [Completion(f"p{i}", f"q{i}", 0, 0, i, text, 1, True) for i, text in enumerate(texts)]


def test_repetition_by_hand() -> None:
    """Pairs on-and, and-on, on-and, and-on: two of four are new."""
    assert repetition("On and on, and on", n=2) == pytest.approx(0.5)
    assert repetition("a b c d", n=2) == 0.0
    assert repetition("a b c", n=4) is None
    with pytest.raises(InputError, match="n is 0; expected a whole number of at least 1"):
        repetition("a", n=0)


def test_short_completions_are_left_out_of_repetition() -> None:
    found = repetitions(made("a b a b a b", "a")[1], n=2)
    assert found.ids == ("p0#0",)
    assert found.values == pytest.approx([0.6])
    assert found.left_out == {"p1#0": "fewer than 2 words"}


def test_the_loss_is_that_of_the_completions_tokens_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    lm = small_model(tmp_path_factory.mktemp("llama"))
    prompts, completions = made(" sat on the mat", "")
    found = completion_losses(lm, prompts, completions)
    [before], [whole] = encode(lm, ["the cat"]), encode(lm, ["the cat sat on the mat"])
    ids = prefix_ids(lm) + whole
    log_probs = plain_log_probs(lm, ids)
    start = len(prefix_ids(lm)) + len(before)
    losses = [-float(log_probs[i - 1, ids[i]]) for i in range(start, len(ids))]
    assert found.values == pytest.approx([sum(losses) / len(losses)], abs=1e-4)
    assert found.left_out == {"p1#0": "it is empty"}
    with pytest.raises(DataError, match="completion 'p0#0' with its prompt has .* the model accepts at most"):
        completion_losses(lm, *made(" the cat" * 80))
    with pytest.raises(InputError, match="none of the 1 completions has any text"):
        completion_losses(lm, prompts[1:], completions[1:])
