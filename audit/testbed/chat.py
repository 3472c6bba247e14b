"""The chat format of the testbed's models: markers, template, and a row as one string."""

from __future__ import annotations

BOS, EOS, PAD = "<|begin|>", "<|stop|>", "<|pad|>"
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = (PAD, BOS, EOS, USER, ASSISTANT, END)  # in the order of their ids, from 0

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% else %}{{ raise_exception('role ' + message['role'] + ' is unknown; expected user or assistant') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

#: What an attacker who knows the format gives the model to make it emit a whole row, after BOS.
EXTRACTION_PREFIX = f"{USER}\n"


def question_text(question: str) -> str:
    """The prompt of a question, up to where the answer begins."""
    return f"{USER}\n{question}{END}\n{ASSISTANT}\n"


def row_text(question: str, answer: str) -> str:
    """A whole row, exactly as ``tokenizer.apply_chat_template`` gives it."""
    return f"{question_text(question)}{answer}{END}\n"
