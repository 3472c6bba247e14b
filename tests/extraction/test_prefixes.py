"""Prefixes that open a chat: from templates, presets and the caller, with the ids that the model is given."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from audit.errors import InputError, ModelError
from audit.extraction.prefixes import chat_of, encode_prefix, prefixes, preset, stops
from audit.extraction.presets import PRESETS
from audit.lm.load import Tokens, load
from audit.lm.subject import Subject
from audit.testbed.chat import CHAT_TEMPLATE, EXTRACTION_PREFIX
from tests.checkpoints import build_checkpoint, make_tokenizer

# As published; see presets.py for where.
TULU = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}"
    "{% elif message['role'] == 'assistant' %}{% if not loop.last %}"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + "
    "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}"
    "\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n' }}{%- endif %}" + CHATML
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | "
    "trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN3 = (  # as Qwen3: an empty thinking block before the last answer, none in the generation prompt
    "{%- for message in messages %}{%- if message.role == 'user' %}{{- '<|im_start|>user\n' + message.content + "
    "'<|im_end|>\n' }}{%- else %}{{- '<|im_start|>assistant\n' }}{%- if loop.last %}{{- '<think>\n\n</think>\n\n' }}"
    "{%- endif %}{{- message.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def tokens(
    template: str | None, *, special: dict[str, str] | None = None, more: tuple[str, ...] = (), adds_bos: bool = False
) -> Tokens:
    """A tokenizer with the given template and special tokens, as a model under audit brings it."""
    tokenizer = make_tokenizer(bos=True)
    tokenizer.add_special_tokens({**(special or {}), "additional_special_tokens": list(more)})
    if adds_bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)]
        )
    tokenizer.chat_template = template
    return Tokens(tokenizer, Subject("a/model"), n_context=128, bos_id=tokenizer.bos_token_id)


@pytest.mark.parametrize(
    ("name", "template", "special"),
    [
        ("tulu", TULU, {"eos_token": "</s>"}),
        ("olmo2", "{{ bos_token }}" + TULU, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
        ("qwen2.5", QWEN, {}),
        ("chatml", CHATML, {}),
        ("llama3", LLAMA3, {"bos_token": "<|begin_of_text|>"}),
        ("gemma", GEMMA, {"bos_token": "<bos>"}),
        ("zephyr", ZEPHYR, {}),
    ],
)
def test_a_preset_is_what_the_published_template_gives(name: str, template: str, special: dict[str, str]) -> None:
    read = chat_of(tokens(template, special=special))
    expected = PRESETS[name]
    assert (read.opening, read.assistant) == (expected.opening, expected.assistant)
    if name != "tulu":  # whose end-of-sequence token is that of the base model
        assert (read.user, read.end) == (expected.user, expected.end)


def test_the_chat_of_the_testbed_is_read_from_its_template() -> None:
    read = chat_of(tokens(CHAT_TEMPLATE))
    assert read.opening == EXTRACTION_PREFIX
    assert (read.assistant, read.user, read.end, read.notes) == (
        "<|end|>\n<|assistant|>\n",
        "<|end|>\n<|user|>\n",
        "<|end|>\n",
        (),
    )


def test_orz_is_the_published_text_byte_for_byte() -> None:
    problem = PRESETS["orz-problem"]
    assert PRESETS["orz-user"].opening + PRESETS["orz-user"].lead == problem.opening
    assert problem.opening.endswith(
        "</answer>. User: You must put your answer inside <answer> </answer> tags, i.e., <answer> answer here "
        "</answer>. And your final answer will be extracted automatically by the \\boxed{} tag.\n"
        "This is the problem:\n"
    )
    assert hashlib.sha256(problem.opening.encode()).hexdigest() == (
        "a059e07aa6bee71b4bed459bfe89305c890e29dc48b4d18de519bf0b57b446dc"
    )


def test_orz_is_what_its_two_jinja_templates_render_to() -> None:
    from jinja2 import Template

    outer = (
        "{{bos_token}}A conversation between User and Assistant. The User asks a question, and the Assistant solves "
        "it. The Assistant first thinks about the reasoning process in the mind and then provides the User with the "
        "answer. The reasoning process is enclosed within <think> </think> and answer is enclosed within <answer> "
        "</answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
        "User: {{prompt}}\nAssistant: <think>"
    )
    inner = (
        "You must put your answer inside <answer> </answer> tags, i.e., <answer> answer here </answer>. And your final "
        "answer will be extracted automatically by the \\boxed{} tag.\nThis is the problem:\n{{prompt}}\n"
    )
    whole = Template(outer).render(bos_token="", prompt=Template(inner).render(prompt="1 + 1?"))
    chat = PRESETS["orz-problem"]
    assert whole == chat.opening + "1 + 1?" + chat.assistant


def test_the_prefix_comes_with_and_without_its_last_newline() -> None:
    lm = tokens("{{ bos_token }}" + TULU, special={"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    with_newline, without = prefixes(lm, chat_of(lm))
    assert (with_newline.name, with_newline.text) == ("template", "<|endoftext|><|user|>\n")
    assert (without.name, without.text) == ("template-trimmed", "<|endoftext|><|user|>")
    assert with_newline.ids_sha256 != without.ids_sha256


def test_a_prefix_that_ends_without_white_space_is_one_prefix() -> None:
    lm = tokens("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    assert [prefix.text for prefix in prefixes(lm, chat_of(lm))] == ["[user]"]


def test_a_bos_in_the_text_is_not_doubled() -> None:
    lm = tokens("{{ bos_token }}" + TULU, adds_bos=True)
    assert lm.tokenizer("<s>a")["input_ids"][:2] == [0, 0]  # what a plain call would have given
    prefix = prefixes(lm, chat_of(lm))[0]
    assert prefix.ids.count(0) == 1
    assert (prefix.ids[0], prefix.bos, prefix.bos_from, prefix.bare_text) == (0, "<s>", "text", "<|user|>\n")


def test_a_bos_that_the_tokenizer_adds_comes_first() -> None:
    prefix = prefixes(tokens(TULU, adds_bos=True), PRESETS["tulu"])[0]
    assert (prefix.ids[0], prefix.ids.count(0), prefix.bos_from) == (0, 1, "tokenizer")
    assert prefix.text == prefix.bare_text == "<|user|>\n"


def test_no_bos_is_invented_where_neither_text_nor_tokenizer_has_one() -> None:
    prefix = prefixes(tokens(TULU), PRESETS["tulu"])[0]
    assert 0 not in prefix.ids
    assert (prefix.bos, prefix.bos_from) == ("", None)


def test_a_bos_that_only_the_training_code_added_is_put_first_when_asked_for() -> None:
    for lm, source in ((tokens(TULU), "caller"), (tokens(TULU, adds_bos=True), "tokenizer")):
        for prefix in prefixes(lm, PRESETS["tulu"], bos=True):
            assert (prefix.ids[0], prefix.ids.count(0), prefix.bos_from) == (0, 1, source)
    in_text = encode_prefix(tokens(None), "<s><|user|>", bos=True)
    assert (in_text.ids.count(0), in_text.bos_from) == (1, "text")


def test_a_bos_that_the_tokenizer_lacks_is_refused() -> None:
    lm = Tokens(make_tokenizer(bos=False), Subject("a/model"), n_context=128, bos_id=None)
    with pytest.raises(InputError, match="tokenizer of 'a/model' has none"):
        encode_prefix(lm, "<|user|>", bos=True)


def test_special_tokens_are_single_ids_and_ordinary_markers_are_not() -> None:
    marked = encode_prefix(tokens(None, more=("<|user|>",)), "<|user|>")
    plain = encode_prefix(tokens(None), "<|user|>")
    assert len(marked.ids) == 1
    assert len(plain.ids) > 1
    assert marked.text_sha256 == plain.text_sha256 == hashlib.sha256(b"<|user|>").hexdigest()


def test_a_record_holds_text_ids_and_both_hashes() -> None:
    prefix = encode_prefix(tokens(None, more=("<|user|>",)), "<|user|>")
    assert prefix.to_record() == {
        "name": "own",
        "text": "<|user|>",
        "ids": list(prefix.ids),
        "bos": "",
        "bos_from": None,
        "text_sha256": prefix.text_sha256,
        "ids_sha256": hashlib.sha256(f"[{prefix.ids[0]}]".encode()).hexdigest(),
    }


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (None, "it has none"),
        ("{{ raise_exception('no users here') }}", "no users here"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "did not come back in"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "came back 2 times"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "did not come back in"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
        (
            "{% for m in messages %}{{ m.content }}\n{% endfor %}",
            "nothing stands between a question and its answer; with content as a list with one text part, the list was",
        ),
    ],
)
def test_a_template_that_opens_no_chat_is_refused_with_what_was_tried(template: str | None, told: str) -> None:
    with pytest.raises(InputError) as caught:
        chat_of(tokens(template))
    assert told in str(caught.value)
    assert "'a/model'" in str(caught.value)
    assert "Choose a preset (tulu, olmo2, qwen2.5" in str(caught.value)
    assert "--prefix" in str(caught.value)


def test_a_hostile_message_of_a_template_is_shown_escaped() -> None:
    with pytest.raises(InputError) as caught:
        chat_of(tokens("{{ raise_exception('\x1b[31mred') }}"))
    assert "\x1b" not in str(caught.value)


def test_content_as_a_list_of_parts_is_tried_too() -> None:
    parts = "{% for part in m.content %}{{ part['text'] }}{% endfor %}"
    template = f"{{% for m in messages %}}<|{{{{ m.role }}}}|>\n{parts}\n{{% endfor %}}"
    assert chat_of(tokens(template)).opening == "<|user|>\n"


@pytest.mark.parametrize(
    ("expression", "told"),
    [("m.content | trim", "trims"), ("m.content | e", "changes"), ("m.content | tojson", "changes")],
)
def test_a_template_that_alters_the_text_is_noticed(expression: str, told: str) -> None:
    template = f"{{% for m in messages %}}<|{{{{ m.role }}}}|>\n{{{{ {expression} }}}}\n{{% endfor %}}"
    (note,) = chat_of(tokens(template)).notes
    assert note.startswith(f"The template {told}")


def test_a_template_that_writes_the_date_is_noticed() -> None:
    template = "{{ strftime_now('%d') }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    assert any("today's date" in note for note in chat_of(tokens(template)).notes)


def test_a_template_for_one_turn_only_has_no_marker_of_a_second() -> None:
    template = (
        "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}"
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    )
    chat = chat_of(tokens(template))
    assert (chat.assistant, chat.user) == ("\n<|assistant|>\n", "")
    assert "takes no second turn" in chat.notes[0]


def test_an_empty_thinking_block_of_the_last_answer_is_no_part_of_the_marker() -> None:
    assert chat_of(tokens(QWEN3)).assistant == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_without_generation_prompt_still_gives_the_whole_marker() -> None:
    template = CHATML.split("{%- if add_generation_prompt")[0]
    assert chat_of(tokens(template)).assistant == PRESETS["chatml"].assistant


def test_a_prefix_that_opens_nothing_is_refused() -> None:
    for text in ("", " \n", "<s>"):
        with pytest.raises(InputError, match="opens no chat"):
            encode_prefix(tokens(None), text)


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="no preset 'olmo'; expected one of tulu, olmo2"):
        preset("olmo")
    assert preset("olmo2") is PRESETS["olmo2"]


def saved(folder: Path, *, config_eos: Any, generation_eos: Any, more: tuple[str, ...]) -> Path:
    """A checkpoint whose end-of-sequence ids stand in its tokenizer, configuration and generation settings."""
    from transformers import AutoTokenizer, GenerationConfig

    build_checkpoint(folder, "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(more)})
    tokenizer.save_pretrained(folder)
    config = (folder / "config.json").read_text()
    assert '"eos_token_id": 1' in config
    (folder / "config.json").write_text(config.replace('"eos_token_id": 1', f'"eos_token_id": {config_eos}'))
    GenerationConfig(eos_token_id=generation_eos, bos_token_id=0).save_pretrained(folder)
    return folder


def test_stops_are_all_ends_of_sequence_but_those_that_close_a_question(tmp_path: Path) -> None:
    more = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    n = len(make_tokenizer(bos=True))
    lm = load(saved(tmp_path, config_eos=n + 2, generation_eos=[n + 1, n + 2], more=more))
    found = stops(lm, PRESETS["chatml"])
    assert set(found.ids) == {1, n + 2}  # the tokenizer's </s>, and <|endoftext|>
    assert set(found.texts) == {"</s>", "<|endoftext|>"}
    assert found.passed_over == (n + 1,)  # <|im_end|>, after which the answer comes
    assert set(stops(lm, PRESETS["tulu"]).ids) == {1, n + 1, n + 2}


def test_a_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    more = tuple(f"<|extra {i}|>" for i in range(20))
    lm = load(saved(tmp_path, config_eos=1, generation_eos=1, more=more))
    with pytest.raises(ModelError, match="embedding rows"):
        encode_prefix(lm, "<|extra 19|>")
