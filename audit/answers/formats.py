"""How a user's text becomes the model's input, and which tokens belong to which message.

A conversation's tokens are divided among its messages, so that each can be corrupted with noise of its own
(`unlearn.eco.turns`): a message has its own content with the markers before it and, where the assistant is to speak
next, the markers after it; the last token before the assistant speaks is nobody's and stays clean. So a conversation
with one message has all tokens but the last, as in the authors' code (arXiv:2406.07933), and a message has the same
tokens in each later turn, if the chat template only adds to what it wrote before.

What users write is text: the name of a control token in it, "<|end|>" say, is not read as that token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..lm.load import LanguageModel, Tokens
from ..lm.tokens import encode
from ..text.safe import quoted

Message: TypeAlias = Mapping[str, str]
Prompt: TypeAlias = str | Sequence[Message]
ROLES = ("system", "user", "assistant")
NOBODY = -1
_MARK = "Palimpsestmessage"


class Encoded(NamedTuple):
    """A prompt as the model reads it.

    Attributes:
        text: What was encoded, without a BOS that is put before it.
        ids: Token ids.
        offsets: Characters (start, end) of each token in ``text``; (0, 0) of a BOS. Shape (T, 2).
        owners: Place of the message that each token belongs to, `NOBODY` for the token before the assistant's turn.
            Shape (T,).
        contents: Text of each message.
        roles: Who wrote it.
    """

    text: str
    ids: list[int]
    offsets: NDArray[np.int64]
    owners: NDArray[np.int64]
    contents: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """A chat template, or fixed text around a single user's text.

    Attributes:
        kind: "chat" is the tokenizer's template; "text" puts ``prefix`` and ``suffix`` around the user's text.
        prefix: For "text" only, such as "Question: ".
        suffix: For "text" only, such as "\\nAnswer:".

    Raises:
        InputError: A chat has a prefix or a suffix, or the kind is unknown.
    """

    kind: Literal["chat", "text"] = "chat"
    prefix: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("chat", "text"):
            raise InputError(f'the format is {quoted(self.kind)}; expected "chat" or "text".')
        if self.kind == "chat" and (self.prefix or self.suffix):
            raise InputError("a chat's template has its own markers; leave prefix and suffix out, or choose text.")

    def encode(self, lm: LanguageModel | Tokens, prompt: Prompt) -> Encoded:
        """One prompt, up to where the assistant begins.

        Raises:
            InputError: The prompt is empty or no conversation; the model has no chat template, or its template refuses
                the conversation, or changes what the messages say.
        """
        messages = messages_of(prompt)
        contents = tuple(message["content"] for message in messages)
        if self.kind == "text":
            if len(messages) != 1 or messages[0]["role"] != "user":
                raise InputError("this format takes a single user's text and no conversation; use a chat model for it.")
            text = self.prefix + contents[0] + self.suffix
            spans = [(len(self.prefix), len(self.prefix) + len(contents[0]))]
        else:
            text = _rendered(lm, messages)
            spans = _spans(lm, text, messages)
        ids, offsets = _tokens(lm, text, spans)
        roles = tuple(message["role"] for message in messages)
        return Encoded(text, ids, offsets, _owners(offsets, _ends(spans, roles, len(text)), roles), contents, roles)


def stop_ids(lm: LanguageModel, form: PromptFormat) -> tuple[int, ...]:
    """What ends an answer: the model's end-of-sequence tokens, and of a chat the control token after an answer."""
    found: dict[int, None] = {}
    sources = (lm.tokenizer, lm.model.config.get_text_config(), getattr(lm.model, "generation_config", None))
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, int):
                found[one] = None
    if form.kind == "chat":
        asked = {"role": "user", "content": _MARK}
        said = {"role": "assistant", "content": _MARK}
        whole = str(lm.tokenizer.apply_chat_template([asked, said], tokenize=False))
        (after,) = encode(lm, [whole.rpartition(_MARK)[2]], parse_special=True)
        if after and after[0] in _control_ids(lm.tokenizer):
            found[after[0]] = None
    return tuple(found)


def messages_of(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as a conversation; a string is one user message.

    Raises:
        InputError: It is no such thing, holds a blank message, or the assistant has the last word.
    """
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, Sequence) or not prompt:
        raise InputError("a prompt is no text and no list of messages; expected one of them, not empty.")
    found = []
    for place, message in enumerate(prompt):
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if role not in ROLES or not isinstance(content, str):
            raise InputError(
                f'message {place} of a prompt is {quoted(message)}; expected {{"role": "system", "user" or '
                '"assistant", "content": a text}.'
            )
        if not content.strip():
            raise InputError(f"message {place} of a prompt is empty; expected a text.")
        if any("\ud800" <= character <= "\udfff" for character in content):
            raise InputError(f"message {place} of a prompt holds half of a surrogate pair, which is no character.")
        found.append({"role": str(role), "content": content})
    if found[-1]["role"] == "assistant":
        raise InputError("a prompt ends with the assistant's message; expected the user's, which is to be answered.")
    return found


def _rendered(lm: LanguageModel | Tokens, messages: Sequence[dict[str, str]]) -> str:
    if lm.tokenizer.chat_template is None:
        raise InputError(
            f"the tokenizer of {quoted(lm.subject.model, limit=200)} has no chat template. Give the text around a "
            "prompt instead (format text: prefix and suffix)."
        )
    try:
        return str(lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template can raise anything
        raise InputError(f"the model's chat template refuses the conversation: {quoted(error, limit=200)}") from error


def _spans(lm: LanguageModel | Tokens, text: str, messages: Sequence[dict[str, str]]) -> list[tuple[int, int]]:
    """Where each message's content stands, found with marks in place of the contents; templates may trim them.

    The contents themselves are not looked for: a user's "user" would be found in the template's markers.
    """
    marks = [f"{_MARK}{_letters(place)}end" for place in range(len(messages))]
    skeleton = _rendered(lm, [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)])
    between = []
    rest = skeleton
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise InputError("the model's chat template drops or repeats a message; send one user message alone.")
        between.append(before)
    contents = [message["content"] for message in messages]
    for shown in (contents, [content.strip() for content in contents]):
        pieces = [piece for pair in zip(between, shown, strict=True) for piece in pair]
        if "".join([*pieces, rest]) == text:
            ends = np.cumsum([len(piece) for piece in pieces])
            return [(int(ends[2 * place]), int(ends[2 * place + 1])) for place in range(len(shown))]
    raise InputError(
        "the model's chat template changes what the messages say, so it cannot be told which tokens are whose. Send "
        "the text in one user message, without markers of the model's own."
    )


def _letters(number: int) -> str:
    """Digits as letters, which no template escapes."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:04d}")


def _ends(spans: Sequence[tuple[int, int]], roles: Sequence[str], length: int) -> list[int]:
    """Character at which each message's part ends: the assistant's next begins, or its own content ends."""
    ends = []
    for place in range(len(spans)):
        if place + 1 == len(spans):
            ends.append(length)
        elif roles[place + 1] == "assistant":
            ends.append(spans[place + 1][0])
        else:
            ends.append(spans[place][1])
    return ends


def _owners(offsets: NDArray[np.int64], ends: Sequence[int], roles: Sequence[str]) -> NDArray[np.int64]:
    starts = offsets[:, 0]
    owners = np.searchsorted(np.asarray(ends), starts, side="right").astype(np.int64)
    owners = np.minimum(owners, len(ends) - 1)
    for place in range(len(ends)):
        own = np.flatnonzero(owners == place)
        before_assistant = place + 1 == len(ends) or roles[place + 1] == "assistant"
        if before_assistant and len(own):
            owners[own[-1]] = NOBODY
    return owners


def _tokens(
    lm: LanguageModel | Tokens, text: str, spans: Sequence[tuple[int, int]]
) -> tuple[list[int], NDArray[np.int64]]:
    """Ids and offsets: at once, or, where a message holds a control token by that, piece by piece."""
    tokenizer = lm.tokenizer
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of {quoted(lm.subject.model, limit=200)} tells no character offsets; a fast one is needed."
        )
    control = _control_ids(tokenizer)
    ids, offsets = _encoded(tokenizer, text, 0, len(text), parse=True)
    told = [first for one, (first, _) in zip(ids, offsets, strict=True) if one in control]
    if any(start <= first < end for first in told for start, end in spans):
        ids, offsets = [], []
        place = 0
        for start, end in [*spans, (len(text), len(text))]:
            for part in (_encoded(tokenizer, text, place, start, parse=True), _as_text(tokenizer, text, start, end)):
                ids, offsets = ids + part[0], offsets + part[1]
            place = end
    if lm.bos_id is not None and (not ids or ids[0] != lm.bos_id):
        ids, offsets = [lm.bos_id, *ids], [(0, 0), *offsets]
    return ids, np.array(offsets, dtype=np.int64).reshape(-1, 2)


_Pieces: TypeAlias = tuple[list[int], list[tuple[int, int]]]


def _encoded(tokenizer: Any, text: str, start: int, end: int, *, parse: bool) -> _Pieces:
    """Ids, and offsets in the whole text, of a part of it."""
    if start >= end:
        return [], []
    found = tokenizer(
        text[start:end],
        add_special_tokens=False,
        split_special_tokens=not parse,
        return_offsets_mapping=True,
        verbose=False,
    )
    places = [(start + first, start + last) for first, last in found["offset_mapping"]]
    return [int(one) for one in found["input_ids"]], places


def _as_text(tokenizer: Any, text: str, start: int, end: int) -> _Pieces:
    """What a user wrote. Tokenizers split the names of special tokens on demand, but not those of other added ones
    (a "<think>"); these are cut after their first character, and the parts encoded each by itself."""
    ids, offsets = _encoded(tokenizer, text, start, end, parse=False)
    control = _control_ids(tokenizer)
    cuts = [first + 1 for one, (first, _) in zip(ids, offsets, strict=True) if one in control]
    if not cuts:
        return ids, offsets
    parts = [_encoded(tokenizer, text, *part, parse=False) for part in pairwise([start, *cuts, end])]
    return [one for part in parts for one in part[0]], [one for part in parts for one in part[1]]


def _control_ids(tokenizer: Any) -> frozenset[int]:
    """Special tokens, named or merely added, and other added ones that the chat template writes; not the unknown one,
    which stands for what a tokenizer cannot read."""
    template = str(tokenizer.chat_template or "")
    added = {
        int(place)
        for place, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content.strip() and token.content in template)
    }
    return frozenset((added | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id})
