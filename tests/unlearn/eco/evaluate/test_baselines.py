"""The filter and the prefix, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit.answers.formats import PromptFormat
from audit.answers.systems import Bare, System
from audit.errors import InputError
from tests.forgetting.small_models import small_model
from tests.unlearn.eco.evaluate.small_systems import FORM, Told, judge
from unlearn.eco.baselines import REFUSAL, FilterRefuse, PromptPrefix

PROMPTS = ["the cat sat", "who is Zorbla", "the dog ran over"]
ANSWERS = [" on the mat", " the cat", " the hill"]
CHAT = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    return Bare(small_model(tmp_path_factory.mktemp("model")), FORM)


def test_a_filter_refuses_what_is_flagged_and_leaves_the_rest_to_the_bit(bare: Bare) -> None:
    filtered: System = FilterRefuse(bare, judge())
    assert filtered.flagged(PROMPTS).tolist() == [False, True, False]
    said, own = (one.answers(PROMPTS, max_new_tokens=8) for one in (filtered, bare))
    assert said == [own[0], REFUSAL, own[2]]
    scores, plain = (one.log_probs(PROMPTS, ANSWERS) for one in (filtered, bare))
    assert np.array_equal(scores[0], plain[0])
    assert np.array_equal(scores[2], plain[2])
    assert scores[1].tolist() == [-np.inf] * len(plain[1])
    assert set(filtered.log_probs(PROMPTS, [REFUSAL] * 3)[1].tolist()) == {0.0}
    logits, free = (one.option_logits(PROMPTS, ["A", "B"]) for one in (filtered, bare))
    assert np.isnan(logits[1]).all()
    assert np.array_equal(logits[[0, 2]], free[[0, 2]])


def test_no_prompts_are_no_trouble(bare: Bare) -> None:
    filtered = FilterRefuse(bare, judge())
    assert filtered.flagged([]).shape == (0,)
    assert filtered.answers([], max_new_tokens=4) == filtered.log_probs([], []) == []
    with pytest.raises(InputError, match="refusal is blank"):
        FilterRefuse(bare, judge(), " ")


def test_a_prefix_stands_before_the_users_text(bare: Bare) -> None:
    prefix: System = PromptPrefix(bare, "Zorbla", instruction="Forget {target}.")
    whole = [f"Forget Zorbla.\n\n{prompt}" for prompt in PROMPTS]
    assert prefix.answers(PROMPTS, max_new_tokens=8) == bare.answers(whole, max_new_tokens=8)
    scores = zip(prefix.log_probs(PROMPTS, ANSWERS), bare.log_probs(whole, ANSWERS), strict=True)
    assert all(np.array_equal(one, other) for one, other in scores)
    assert np.array_equal(prefix.option_logits(PROMPTS, ["A", "B"]), bare.option_logits(whole, ["A", "B"]))
    assert not prefix.flagged(PROMPTS).any()
    with pytest.raises(InputError, match="place is 'system' for the format 'text'"):
        PromptPrefix(bare, "Zorbla", place="system")
    with pytest.raises(InputError, match="target is blank"):
        PromptPrefix(bare, " ")


def test_in_a_chat_it_is_the_system_message(tmp_path: Path) -> None:
    lm = small_model(tmp_path)
    lm.tokenizer.chat_template = CHAT
    prefix = PromptPrefix(Bare(lm, PromptFormat()), "Zorbla", instruction="Forget {target}.")
    asked = {"role": "user", "content": "Hello"}
    assert prefix.prefixed("Hello") == [{"role": "system", "content": "Forget Zorbla."}, asked]
    both = [{"role": "system", "content": "Be kind."}, asked]
    assert prefix.prefixed(both) == [{"role": "system", "content": "Forget Zorbla.\n\nBe kind."}, asked]
    assert prefix.answers(["Hello"], max_new_tokens=4) == Bare(lm, PromptFormat()).answers(
        [prefix.prefixed("Hello")], max_new_tokens=4
    )


def test_the_filter_takes_any_system() -> None:
    with pytest.raises(AttributeError):
        _ = Told().lm.tokenizer
    assert FilterRefuse(Told(said=lambda _: "yes"), judge()).answers(["a", "Zorbla"], max_new_tokens=1) == [
        "yes",
        REFUSAL,
    ]
