"""How chats are written by models whose format is public: the text around the turns, with its source.

A preset is for a checkpoint whose tokenizer has no chat template, as base models and models trained by
reinforcement learning from them often do. Where a template exists, `prefixes.chat_of` reads it instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# "<|im_start|>", "</s>", "<end_of_turn>", "[/INST]": what stands for a role or an end, and in no ordinary sentence
_CONTROL = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")


@dataclass(frozen=True, slots=True)
class Chat:
    """The text of a chat around what user and assistant say.

    Attributes:
        name: The preset, or "template" where a tokenizer's own template was read.
        opening: All before the user's first word, a default system block and a BOS that the format writes included.
        assistant: Between a question and its answer.
        user: Between an answer and the next question; "" where a chat has one turn only.
        end: What follows the last answer; "" where nothing does.
        thinking_end: What ends the thinking before an answer; "" where there is no thinking.
        answer_start: What opens the answer after the thinking; "" where nothing does.
        lead: A fixed sentence that opens every question and is no part of it.
        notes: What the reader should know, in sentences.
    """

    name: str
    opening: str
    assistant: str
    user: str = ""
    end: str = ""
    thinking_end: str = ""
    answer_start: str = ""
    lead: str = ""
    notes: tuple[str, ...] = ()

    @property
    def markers(self) -> tuple[str, ...]:
        """Strings that stand in no clean question or answer: whole markers, and each control token of one."""
        around = (self.assistant, self.user, self.end, self.thinking_end, self.answer_start)
        whole = [text.strip() for text in around if text.strip()]
        return tuple(dict.fromkeys(whole + [token for text in around for token in _CONTROL.findall(text)]))


# open_instruct/dataset_transformation.py of allenai/open-instruct at 00440da, CHAT_TEMPLATES["tulu"]. With
# add_bos its tokenizers write "{{ bos_token }}" before the template; OLMo 2's BOS is its EOS, "<|endoftext|>".
_TULU = ("<|user|>\n", "\n<|assistant|>\n")
# QwenLM/Qwen2.5 (GitHub), docs/source/getting_started/concepts.md at 2311d8f: format of a turn. The default system
# block, which the chat template of the Qwen2.5 Instruct models writes when no system message is given: the words are
# in docs/source/run_locally/mlx-lm.md at 4da996c.
_CHATML = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n")
_QWEN_SYSTEM = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
# models/llama3/chat_format.py of meta-llama/llama-models at d42f395: _encode_header, encode_message and
# encode_dialog_prompt.
_LLAMA3 = (
    "<|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|eot_id|>",
)
# gemma/gm/text/_template.py of google-deepmind/gemma at 19ced49: PROMPT and ANSWER. The "<bos>" before it and the
# newline between turns: configs/model_configs.json of magpie-align/magpie at 07fc38a, and the public chat template.
_GEMMA = ("<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>\n")
# recipes/zephyr-7b-beta/sft/config_full.yaml of huggingface/alignment-handbook at 19f0345, key chat_template; the
# end-of-sequence token of its base model, Mistral 7B, is "</s>".
_ZEPHYR = ("<|user|>\n", "</s>\n<|assistant|>\n", "</s>\n")
# playground/zero_setting_base.py of Open-Reasoner-Zero, read from the copies Mor-Li/Open-Reasoner-Zero at 73be199
# and, quoting upstream at e008f6d, the evaluation script of "Understanding R1-Zero-Like Training"; both agree. Jinja
# drops the newline that ends each of the two templates. A BOS stands before it only where the tokenizer has one.
_ORZ_OPENING = (
    "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The Assistant "
    "first thinks about the reasoning process in the mind and then provides the User with the answer. The reasoning "
    "process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: "
)
_ORZ_LEAD = (
    "You must put your answer inside <answer> </answer> tags, i.e., <answer> answer here </answer>. And your final "
    "answer will be extracted automatically by the \\boxed{} tag.\nThis is the problem:\n"
)


def _turns(name: str, opening: str, user: str, assistant: str, end: str) -> Chat:
    return Chat(name, opening + user, assistant, user=end + user, end=end)


def _orz(name: str, opening: str, lead: str = "") -> Chat:
    return Chat(
        name,
        opening,
        "\nAssistant: <think>",
        end="</answer>",
        thinking_end="</think>",
        answer_start="<answer>",
        lead=lead,
    )


#: By name. A BOS that only the tokenizer adds (Zephyr, Tulu on Llama) is not in the text; `prefixes` puts its id first.
PRESETS: dict[str, Chat] = {
    chat.name: chat
    for chat in (
        Chat("tulu", *_TULU),
        Chat("olmo2", "<|endoftext|>" + _TULU[0], _TULU[1], user="<|endoftext|>\n" + _TULU[0], end="<|endoftext|>"),
        _turns("qwen2.5", _QWEN_SYSTEM, *_CHATML),
        _turns("chatml", "", *_CHATML),
        _turns("llama3", "<|begin_of_text|>", *_LLAMA3),
        _turns("gemma", "<bos>", *_GEMMA),
        _turns("zephyr", "", *_ZEPHYR),
        _orz("orz-user", _ORZ_OPENING, lead=_ORZ_LEAD),
        _orz("orz-problem", _ORZ_OPENING + _ORZ_LEAD),
    )
}
