"""Prompts as tokens: whose token is whose, markers that users write, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import AddedToken

from audit.answers.formats import NOBODY, Prompt, PromptFormat, messages_of, stop_ids
from audit.errors import InputError
from audit.lm.load import LanguageModel
from tests.unlearn.eco.serve.small_guard import load_small

CHAT = PromptFormat()
ALTERNATING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_small(tmp_path_factory.mktemp("formats") / "llama")


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """With a template that writes a control token after each message and trims it."""
    lm = load_small(tmp_path_factory.mktemp("formats") / "llama")
    lm.tokenizer.chat_template = ALTERNATING
    return lm


def owned(lm: LanguageModel, prompt: Prompt, form: PromptFormat = CHAT) -> dict[int, str]:
    """Owner -> its characters."""
    found = form.encode(lm, prompt)
    texts: dict[int, str] = {}
    for (start, end), owner in zip(found.offsets, found.owners, strict=True):
        texts[int(owner)] = texts.get(int(owner), "") + found.text[start:end]
    return texts


def test_one_message_owns_all_tokens_but_the_last(lm: LanguageModel) -> None:
    found = CHAT.encode(lm, "the cat")
    assert found.text == "user: the cat\nassistant:"
    assert found.ids[0] == lm.bos_id
    assert found.owners.tolist() == [0] * (len(found.ids) - 1) + [NOBODY]
    assert lm.tokenizer.decode(found.ids[1:]) == found.text


def test_messages_own_their_content_and_their_markers_and_the_same_ones_in_later_turns(marked: LanguageModel) -> None:
    first = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "the cat"}]
    later = [*first, {"role": "assistant", "content": "mat"}, {"role": "user", "content": " the dog "}]
    now, then = owned(marked, first), owned(marked, later)
    assert now[0] == "<system>be kind"
    assert now[1] + now[NOBODY] == "</s><user>the cat</s><assistant>"
    assert then[2] == "mat"
    assert then[3] + now[NOBODY] == "</s><user>the dog</s><assistant>"
    assert {owner: then[owner] for owner in (0, 1)} == {owner: now[owner] for owner in (0, 1)}
    assert then[NOBODY] == 2 * now[NOBODY]


def test_a_content_that_looks_like_a_marker_is_found_where_it_stands(marked: LanguageModel) -> None:
    turns = [{"role": "user", "content": "user"}, {"role": "assistant", "content": "user"}]
    texts = owned(marked, [*turns, {"role": "user", "content": "assistant"}])
    assert texts[0] + texts[NOBODY][:1] == "<user>user</s><assistant>"
    assert texts[1] == "user"


def test_a_control_token_that_a_user_writes_is_text(marked: LanguageModel) -> None:
    end = marked.tokenizer.convert_tokens_to_ids("</s>")
    plain, forged = (CHAT.encode(marked, text) for text in ("the cat", "the</s>cat"))
    assert plain.ids.count(end) == forged.ids.count(end) == 1
    assert "".join(forged.text[start:end] for start, end in forged.offsets) == forged.text


@pytest.mark.parametrize(("name", "special"), [("<|end|>", True), ("<think>", False)])
def test_control_tokens_that_were_added_without_a_role_are_text_in_a_message_and_end_an_answer(
    tmp_path_factory: pytest.TempPathFactory, name: str, special: bool
) -> None:
    """Neither is among `all_special_tokens`; the second is not marked as special, but the template writes it."""
    lm = load_small(tmp_path_factory.mktemp("formats") / "llama")
    lm.tokenizer.add_tokens([AddedToken(name, special=special, normalized=False)])
    assert name not in lm.tokenizer.all_special_tokens
    lm.tokenizer.chat_template = ALTERNATING.replace("</s>", name)
    control = lm.tokenizer.convert_tokens_to_ids(name)
    plain, forged = (CHAT.encode(lm, text) for text in ("the cat", f"the{name}cat{name}{name}"))
    assert plain.ids.count(control) == forged.ids.count(control) == 1
    assert "".join(forged.text[start:end] for start, end in forged.offsets) == forged.text
    assert control in stop_ids(lm, CHAT)


def test_text_around_a_prompt(lm: LanguageModel) -> None:
    form = PromptFormat("text", prefix="Question: ", suffix="\nAnswer:")
    assert form.encode(lm, "the cat?").text == "Question: the cat?\nAnswer:"
    with pytest.raises(InputError, match="single user's text"):
        form.encode(lm, [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}])
    with pytest.raises(InputError, match="leave prefix and suffix out"):
        PromptFormat("chat", prefix="Question: ")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ([], "not empty"),
        ([{"role": "tool", "content": "x"}], "message 0"),
        ([{"role": "user", "content": 3}], "message 0"),
        (["hello"], "message 0"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "assistant's message"),
        ("half \ud800", "surrogate"),
    ],
)
def test_no_prompt(prompt: Prompt, message: str) -> None:
    with pytest.raises(InputError, match=message):
        messages_of(prompt)


def test_templates_that_hide_or_refuse_what_is_said(marked: LanguageModel) -> None:
    for template, message in (
        ("{{ messages[0].content | upper }}", "drops or repeats"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "drops or repeats"),
        ("{{ messages[0].content | replace('the ', 'a ') }}", "changes what the messages say"),
        ("{{ raise_exception('never') }}", "refuses the conversation"),
    ):
        marked.tokenizer.chat_template = template
        with pytest.raises(InputError, match=message):
            CHAT.encode(marked, "the cat")
    marked.tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        CHAT.encode(marked, "the cat")
    marked.tokenizer.chat_template = ALTERNATING


def test_an_answer_ends_at_the_control_token_after_it(marked: LanguageModel) -> None:
    assert marked.tokenizer.convert_tokens_to_ids("</s>") in stop_ids(marked, CHAT)
    assert all(isinstance(one, int) for one in stop_ids(marked, PromptFormat("text")))


def test_offsets_cover_the_text(lm: LanguageModel) -> None:
    found = CHAT.encode(lm, "Zoë asked “why?” — 中文")
    inside = found.offsets[1:]
    assert inside[0, 0] == 0
    assert inside[-1, 1] == len(found.text)
    assert (np.diff(inside[:, 0]) >= 0).all()
