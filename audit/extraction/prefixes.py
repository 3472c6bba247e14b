"""The prompt that opens a chat and nothing more: read from a tokenizer's chat template, a preset, or the caller.

Template markers first appear in post-training, so a model that is given only the opening of its template goes on
with a conversation like those it was trained on (Barbero et al. 2025, arXiv:2510.18554). Summaries of the paper print
OLMo 2's prefix without the newline that its template writes, so each chat gives two prefixes, with and without the
white space at the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError
from ..lm.load import LanguageModel, Tokens
from ..lm.tokens import check_ids, encode
from ..text.safe import quoted
from .presets import PRESETS, Chat

# Letters only, so that no template escapes them; none is part of another.
_QUESTION, _ANSWER = "Palimpsestquestion", "Palimpsestanswer"
_SECOND_QUESTION, _SECOND_ANSWER = "Palimpsestnextquestion", "Palimpsestnextanswer"
_FRAGILE = " <b>&amp; \"two\" 'words' é\n\n{{ 1 }} "  # what escaping, changing or trimming would show in


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is given to the model.

    Attributes:
        name: Where it comes from: "template", a preset, "own"; "-trimmed" without the white space at the end.
        text: Exact text, as the format writes it.
        ids: Exact token ids, the BOS included where there is one.
        bos: The BOS string that ``ids`` begin with, or "" where they begin with none.
        bos_from: "text" where the text itself begins with it, "tokenizer" where the tokenizer adds it, "caller" where
            it was asked for, else None.
    """

    name: str
    text: str
    ids: tuple[int, ...]
    bos: str = ""
    bos_from: str | None = None

    @property
    def bare_text(self) -> str:
        """The text without its BOS: for a server that takes no ids and puts a BOS before every text itself."""
        return self.text.removeprefix(self.bos)

    @property
    def text_sha256(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def ids_sha256(self) -> str:
        """Of the ids as a JSON array without spaces."""
        return hashlib.sha256(json.dumps(self.ids, separators=(",", ":")).encode()).hexdigest()

    def to_record(self) -> dict[str, Any]:
        hashes = {"text_sha256": self.text_sha256, "ids_sha256": self.ids_sha256}
        return {**asdict(self), "ids": list(self.ids), **hashes}


@dataclass(frozen=True, slots=True)
class Stops:
    """What ends a sample.

    Attributes:
        ids: End-of-sequence ids of tokenizer, configuration and generation settings that end a sample.
        texts: The same as strings, for a text that was sampled elsewhere.
        passed_over: Those that cannot end one, because the chat has them between question and answer (Zephyr's
            "</s>", Qwen's "<|im_end|>"): every sample would end after its question.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    passed_over: tuple[int, ...]

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def preset(name: str) -> Chat:
    """A chat format by name.

    Raises:
        InputError: No such preset.
    """
    if name not in PRESETS:
        raise InputError(
            f"no preset {quoted(name)}; expected one of {_known()}, or give the text itself with --prefix."
        )
    return PRESETS[name]


def prefixes(lm: LanguageModel | Tokens, chat: Chat, *, bos: bool = False) -> list[Prefix]:
    """The opening of a chat, and the same without the white space at its end where it has any.

    Args:
        lm: The model, or its tokenizer alone.
        chat: The format.
        bos: As for `encode_prefix`.

    Raises:
        InputError: The opening is empty, or a BOS is asked for and the tokenizer has none.
        ModelError: A token of it has no embedding.
    """
    texts = {chat.name: chat.opening, f"{chat.name}-trimmed": chat.opening.rstrip()}
    if texts[chat.name] == texts[f"{chat.name}-trimmed"]:
        del texts[f"{chat.name}-trimmed"]
    return [encode_prefix(lm, text, name=name, bos=bos) for name, text in texts.items()]


def encode_prefix(lm: LanguageModel | Tokens, text: str, *, name: str = "own", bos: bool = False) -> Prefix:
    """A text as a prefix, special tokens recognised.

    The ids begin with the BOS if the text begins with it or the tokenizer puts one before every text, and never with
    two.

    Args:
        lm: The model, or its tokenizer alone.
        text: Exact text; of the caller, or a chat's opening.
        name: What the record calls it.
        bos: Put the BOS first even where neither text nor tokenizer does: for a model whose training code put it
            before every row. A model trained so gives far fewer conversations without it.

    Raises:
        InputError: There is no text beside the BOS, or one is asked for and the tokenizer has none.
        ModelError: A token of it has no embedding.
    """
    bos_text = str(lm.tokenizer.bos_token) if lm.bos_id is not None else ""
    if bos and lm.bos_id is None:
        raise InputError(
            f"a beginning-of-sequence token was asked for, but the tokenizer of {quoted(lm.subject.model, limit=200)} "
            "has none. Leave it out, or write the token in the prefix itself."
        )
    if not text.removeprefix(bos_text).strip():
        raise InputError(
            f"the prefix {quoted(name)} is {quoted(text)}, which opens no chat; expected the text before the user's "
            f"first word. Choose a preset ({_known()}) or give the text itself with --prefix."
        )
    ids = encode(lm, [text], parse_special=True)[0]
    bos_from = None
    if bos_text and text.startswith(bos_text):
        bos_from = "text"
    elif lm.bos_id is not None and (bos or _adds_bos(lm, lm.bos_id)):
        bos_from = "tokenizer" if _adds_bos(lm, lm.bos_id) else "caller"
        ids = [lm.bos_id, *ids]
    check_ids(lm, [f"the prefix {quoted(name)}"], [ids])
    return Prefix(name, text, tuple(ids), bos=bos_text if bos_from else "", bos_from=bos_from)


def _adds_bos(lm: LanguageModel | Tokens, bos_id: int) -> bool:
    ids = lm.tokenizer("a", add_special_tokens=True, verbose=False)["input_ids"]
    return bool(ids) and int(ids[0]) == bos_id


def stops(lm: LanguageModel | Tokens, chat: Chat) -> Stops:
    """What ends a sample after a prefix of this chat.

    Args:
        lm: The model; where only its tokenizer is loaded, the tokenizer's end-of-sequence token alone is known.
        chat: The format; an end-of-sequence token inside its ``assistant`` text cannot end a sample.
    """
    found: dict[int, None] = {}
    sources = [lm.tokenizer]
    if isinstance(lm, LanguageModel):
        config = lm.model.config
        sources += [config, config.get_text_config(), getattr(lm.model, "generation_config", None)]
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        for id_ in value if isinstance(value, (list, tuple)) else [value]:
            if type(id_) is int and 0 <= id_ < len(lm.tokenizer):
                found[id_] = None
    between = set(encode(lm, [chat.assistant], parse_special=True)[0])
    ids = tuple(id_ for id_ in found if id_ not in between)
    texts = tuple(text for id_ in ids if (text := str(lm.tokenizer.decode([id_]))).strip())
    return Stops(ids, texts, tuple(id_ for id_ in found if id_ in between))


def chat_of(lm: LanguageModel | Tokens) -> Chat:
    """The chat format of a tokenizer, read from its own template.

    The template is rendered by transformers' sandboxed environment with messages that are unique words, and what
    stands around the words is cut out. No system message is given, so a default system block is part of the opening.

    Raises:
        InputError: There is no template, it cannot be rendered, or a word does not come back exactly once.
    """
    forms: dict[str, Callable[[str], Any]] = {
        "a string": lambda text: text,
        "a list with one text part": lambda text: [{"type": "text", "text": text}],
    }
    tried = []
    for name, content in forms.items():
        try:
            return _read_template(lm, content)
        except InputError as error:
            tried.append(f"with content as {name}, {error}")
        except Exception as error:  # a template can raise anything
            reason = quoted(" ".join(str(error).split()), limit=200)
            tried.append(f"with content as {name}, it raised {type(error).__name__}: {reason}")
    if getattr(lm.tokenizer, "chat_template", None) is None:
        tried = ["it has none"]
    raise InputError(
        f"no chat can be opened with the chat template of {quoted(lm.subject.model, limit=200)}: {'; '.join(tried)}. "
        f"Choose a preset ({_known()}) or give the text itself with --prefix."
    )


def _read_template(lm: LanguageModel | Tokens, content: Callable[[str], Any]) -> Chat:
    def render(*texts: str, generation: bool = False) -> str:
        roles = ("user", "assistant") * len(texts)
        messages = [{"role": role, "content": content(text)} for role, text in zip(roles, texts, strict=False)]
        return str(lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation))

    opening, closing = _around(render(_QUESTION), _QUESTION)
    asked = _around(render(_QUESTION, generation=True), _QUESTION)[1]
    between, end = _around(_around(render(_QUESTION, _ANSWER), _QUESTION)[1], _ANSWER)
    # A template may write more before a last answer than before an answer to come (Qwen3: an empty <think> block).
    shared = _shared_start(asked, between)
    assistant = shared if asked != closing and shared.strip() else between
    if not assistant.strip():
        raise InputError("nothing stands between a question and its answer")
    notes = []
    user = ""
    try:
        two_turns = render(_QUESTION, _ANSWER, _SECOND_QUESTION, _SECOND_ANSWER)
        user = _around(_around(two_turns, _ANSWER)[1], _SECOND_QUESTION)[0]
    except Exception as error:  # as above
        notes.append(f"The template takes no second turn ({type(error).__name__}).")
    shown = render(_FRAGILE)
    if _FRAGILE not in shown:
        what = "trims" if _FRAGILE.strip() in shown else "changes (escapes, for instance)"
        notes.append(f"The template {what} the user's text.")
    if "strftime_now" in str(lm.tokenizer.chat_template):
        notes.append("The template can write today's date, so that the prefix may be another on another day.")
    return Chat("template", opening, assistant, user=user, end=end, notes=tuple(notes))


def _around(text: str, word: str) -> tuple[str, str]:
    """What stands before and after a word that must stand in a text once."""
    if text.count(word) != 1:
        how = "did not come back" if word not in text else f"came back {text.count(word):,} times"
        raise InputError(f"the message {word!r} {how} in {quoted(text, limit=200)}")
    before, _, after = text.partition(word)
    if before.endswith(("'text': '", '"text": "')):
        raise InputError("the list was written out as it is")
    return before, after


def _shared_start(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _known() -> str:
    return ", ".join(PRESETS)
