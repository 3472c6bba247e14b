"""Sums of probabilities agree with one plain softmax, on the right tokens."""

from __future__ import annotations

import math

import pytest

from audit.errors import DataError, InputError
from audit.forgetting.continuing import continued, text_after
from audit.forgetting.probability import FirstTokens, expected_probabilities, find_first_tokens, next_token_mass
from audit.forgetting.prompts import Prompt, gap_after
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from tests.forgetting.small_models import TOKENIZERS, plain_log_probs, small_model, tokens_of

PROMPTS = [
    Prompt("a", "p", "the cat sat on", expected=("Zorbla", "Quentis")),
    Prompt("b", "p", "the dog ran over the hill and the", expected=("Zorbla",)),
    Prompt("c", "q", "hill"),
]


@pytest.fixture(scope="module", params=["llama", "phi3", "gpt2"])
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return small_model(tmp_path_factory.mktemp(request.param), request.param, bos=request.param != "gpt2")


def test_the_mass_is_the_sum_of_a_plain_softmax_over_the_set(lm: LanguageModel) -> None:
    ids = {"Zorbla": 40, "Quentis": 41, "Other": 42}
    found = next_token_mass(lm, PROMPTS, FirstTokens(ids, {}, {}))
    for prompt, value in zip(PROMPTS, found.values, strict=True):
        [tokens] = encode(lm, [prompt.text])
        log_probs = plain_log_probs(lm, prefix_ids(lm) + tokens)[-1]
        assert value == pytest.approx(float(log_probs[[40, 41, 42]].exp().sum()), rel=1e-4)


def test_a_name_of_the_prompt_and_its_first_token_are_left_out() -> None:
    first = FirstTokens({"Zorbla": 40, "Zorbis": 40, "Quentis": 41}, {}, {})
    assert first.after(Prompt("a", "p", "They met")) == {40, 41}
    assert first.after(Prompt("a", "p", "Zorbla met")) == {41}
    assert first.after(Prompt("a", "p", "They met", references=("Quentis",))) == {40}


def test_a_name_is_held_where_its_first_word_is() -> None:
    """Its first token is that word's: "Zorbla met" has said it already."""
    first = FirstTokens({"Zorbla Quent": 40, "Other": 41}, {}, {})
    assert first.after(Prompt("a", "p", "Zorbla met")) == {41}
    assert first.after(Prompt("a", "p", "It was ZORBLA's, and so")) == {41}
    assert first.after(Prompt("a", "p", "Quent met")) == {40, 41}


def test_user_marks_say_what_is_due(lm: LanguageModel) -> None:
    found = next_token_mass(lm, PROMPTS)
    assert found.ids == ("a", "b")
    assert found.left_out == {"c": "it marks nothing that is due"}
    [first] = {encode(lm, [f"{PROMPTS[1].text} Zorbla"])[0][len(encode(lm, [PROMPTS[1].text])[0])]}
    log_probs = plain_log_probs(lm, prefix_ids(lm) + encode(lm, [PROMPTS[1].text])[0])[-1]
    assert found.values[1] == pytest.approx(math.exp(log_probs[first]), rel=1e-4)


def test_the_whole_name_has_the_product_of_its_tokens_probabilities(lm: LanguageModel) -> None:
    found = expected_probabilities(lm, PROMPTS)
    for place, prompt in enumerate(PROMPTS[:2]):
        total = 0.0
        for name in prompt.expected:
            [before], [whole] = encode(lm, [prompt.text]), encode(lm, [f"{prompt.text} {name}"])
            ids = prefix_ids(lm) + whole
            log_probs = plain_log_probs(lm, ids)
            start = len(prefix_ids(lm)) + len(before)
            total += math.exp(sum(float(log_probs[i - 1, ids[i]]) for i in range(start, len(ids))))
        assert found.values[place] == pytest.approx(total, rel=1e-3)


def test_a_name_that_begins_another_is_not_counted_twice(lm: LanguageModel) -> None:
    both, one = (
        expected_probabilities(lm, [Prompt("a", "p", "the cat", expected=names)])
        for names in (("Zor", "Zorbla"), ("Zor",))
    )
    assert both.values == pytest.approx(one.values, rel=1e-6)


@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
def test_first_tokens_have_the_form_after_a_space_for_each_kind_of_tokenizer(kind: str) -> None:
    tokens = tokens_of(kind)
    found = find_first_tokens(tokens, ["Zorbla", "Quentis"], ["the cat sat on the mat " * 3])
    for name in ("Zorbla", "Quentis"):
        [whole], [before] = encode(tokens, [f"the cat {name}"]), encode(tokens, ["the cat"])
        assert found.spaced[name] == whole[len(before)]


def test_a_first_token_that_is_frequent_in_the_contrast_text_is_dropped() -> None:
    tokens = tokens_of("byte-level")
    names, often = ["Zorbla", "theodor"], ["the Zebra met the zoo " * 20]
    found = find_first_tokens(tokens, names, [*often, " Z"], max_rate=0.0)
    assert "theodor" not in found.spaced
    with pytest.raises(InputError, match="all 1 names begin with tokens that are frequent in the contrast text"):
        find_first_tokens(tokens, ["theodor"], ["the theodor theodor", "\u201ctheodor \u201ctheodor"], max_rate=0.0)


def test_missing_material_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="there are no names or no contrast text"):
        find_first_tokens(lm, ["Zorbla"], ["  "])
    with pytest.raises(InputError, match="max_rate is 2; expected a number from 0 to 1"):
        find_first_tokens(lm, ["Zorbla"], ["x"], max_rate=2)
    with pytest.raises(InputError, match="none of the 1 prompts has an idiosyncratic next token"):
        next_token_mass(lm, [Prompt("a", "p", "x")])
    long = Prompt("long", "p", "the cat " * 80, expected=("Zorbla",))
    for measure in (next_token_mass, expected_probabilities):
        with pytest.raises(DataError, match="prompt 'long' .* the model accepts at most"):
            measure(lm, [PROMPTS[0], long])
    with pytest.raises(InputError, match="none of the 1 prompts says which name is due"):
        expected_probabilities(lm, [Prompt("a", "p", "x")])


@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
def test_what_follows_a_prompt_keeps_its_space(kind: str) -> None:
    tokens = tokens_of(kind)
    [whole] = continued(tokens, ["the cat"], [" sat on the mat"])
    assert whole.n_before == len(encode(tokens, ["the cat"])[0])
    assert text_after(tokens, whole.ids[: whole.n_before], whole.ids[whole.n_before :]) == " sat on the mat"


def test_a_token_that_spans_the_border_is_the_continuations() -> None:
    tokens = tokens_of("byte-level")
    [whole] = continued(tokens, ["the c"], ["at"])
    assert whole.ids == encode(tokens, ["the cat"])[0]
    assert whole.n_before == 1


@pytest.mark.parametrize(
    ("prompt", "gap"),
    [
        ("He met", " "),
        ('He said, "', ""),
        ('"', ""),
        ('He shouted, "Stop!"', " "),
        ("Chapter\n", ""),
        ("", ""),
        ("the gate\u2014", ""),
        ("the gate \u2014", " "),
        ("Jean-", ""),
    ],
)
def test_no_space_is_due_after_an_opening_mark(prompt: str, gap: str) -> None:
    assert gap_after(prompt) == gap
