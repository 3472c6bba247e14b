"""Reads a request's body as OpenAI's clients write it, and refuses by name what is not done here.

Nothing that would change an answer is ignored in silence. What a client may say and we need not heed is in `_IGNORED`;
what may be said only in so far as it asks for nothing is in `_NEUTRAL`. Embeddings and token ids are refused: a client
that chooses embeddings can have a frozen model say anything (arXiv:2502.15836), and no classifier reads them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from audit.answers.formats import Prompt
from audit.text.safe import did_you_mean, quoted

from .drawing import Draw

Kind: TypeAlias = Literal["chat", "completions"]

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SETTINGS: Final = (
    "model",
    "stream",
    "stream_options",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
)
_IGNORED: Final = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
)
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
MAX_MESSAGES: Final = 128
_DEFAULT_TOKENS: Final = 16  # of a completion, as OpenAI has it
_MOST_STOPS: Final = 4
_MOST_STOP_CHARACTERS: Final = 256


class RefusedError(Exception):
    """A request that gets no answer, with what the client is told in OpenAI's form."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code
        self.headers = dict(headers or {})

    def to_record(self) -> dict[str, Any]:
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be answered.

    Attributes:
        kind: Which of the two doors it came through.
        prompts: One for a chat, one or more for completions.
        draw: How tokens are drawn; its index is 0.
        stream: Whether pieces are sent as they come.
        with_usage: Whether a stream ends with the numbers of tokens.
    """

    kind: Kind
    prompts: tuple[Prompt, ...]
    draw: Draw
    stream: bool
    with_usage: bool


def parse(content: bytes, kind: Kind, *, model: str, max_prompts: int, max_new_tokens: int) -> Asked:
    """A request body.

    Args:
        content: As received.
        kind: Where.
        model: The name under which the model is served.
        max_prompts: Prompts of one request.
        max_new_tokens: Tokens of one answer.

    Raises:
        RefusedError: It is no JSON object, lacks something, or asks for what is not done here.
    """
    body = _object(content)
    own = "messages" if kind == "chat" else "prompt"
    _check_fields(body, own)
    given = {name: value for name, value in body.items() if value is not None}
    _check_model(given.get("model", model), model)
    if own not in given:
        raise RefusedError(f"{own} is missing.", param=own)
    prompts = (_messages(given[own]),) if kind == "chat" else _prompts(given[own], max_prompts)
    if kind == "completions" and "max_completion_tokens" in given:
        raise RefusedError("max_completion_tokens belongs to chats; use max_tokens.", param="max_completion_tokens")
    stream = _flag(given, "stream")
    return Asked(kind, prompts, _draw(given, kind, max_new_tokens), stream, _with_usage(given, stream))


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is no JSON in UTF-8: {str(error)[:120]}.") from None
    if not isinstance(body, dict):
        raise RefusedError(f"the body is a JSON {_name(body)}; expected an object.")
    return body


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _check_fields(body: Mapping[str, Any], own: str) -> None:
    for name, value in body.items():
        if value is None or name == own or name in _SETTINGS or name in _IGNORED:
            continue
        if name in _NEUTRAL:
            if not any(type(value) in (type(one), float) and value == one for one in _NEUTRAL[name]):
                raise RefusedError(
                    f"{name} is not done by this server; leave it out.", param=name, code="unsupported_parameter"
                )
            continue
        if "embed" in name.lower():
            raise RefusedError(
                f"{quoted(name)} is refused: this server takes texts and no embeddings.",
                param=_shown(name),
                code="unsupported_parameter",
            )
        hint = did_you_mean(name[:64], [own, *_SETTINGS, *_NEUTRAL])
        raise RefusedError(f"{quoted(name)} is no field that this server knows.{hint}", param=_shown(name))


def _check_model(value: Any, model: str) -> None:
    if value != model:
        raise RefusedError(
            f"the model {quoted(value)} is not served here; expected {quoted(model)}, see /v1/models.",
            status=404,
            param="model",
            code="model_not_found",
        )


# --- prompts ---------------------------------------------------------------------------------------------------------


def _prompts(value: Any, most: int) -> tuple[Prompt, ...]:
    found = value if isinstance(value, list) else [value]
    if not found:
        raise RefusedError("prompt is an empty list; expected a text or a list of texts.", param="prompt")
    if len(found) > most:
        raise RefusedError(f"prompt has {len(found):,} texts; at most {most:,} are taken at once.", param="prompt")
    for place, one in enumerate(found):
        if not isinstance(one, str):
            raise RefusedError(
                f"prompt {place} is a JSON {_name(one)}; expected a text. Token ids and embeddings are refused.",
                param="prompt",
            )
        _check_text(one, f"prompt {place}", "prompt")
    return tuple(found)


def _messages(value: Any) -> Prompt:
    if not isinstance(value, list) or not value:
        raise RefusedError("messages is no list with a message in it.", param="messages")
    if len(value) > MAX_MESSAGES:  # the classifier reads the conversation up to each of them
        raise RefusedError(
            f"messages has {len(value):,}; at most {MAX_MESSAGES} are taken. Leave the oldest out.", param="messages"
        )
    return [_message(one, place) for place, one in enumerate(value)]


def _message(value: Any, place: int) -> dict[str, str]:
    where = f"messages[{place}]"
    if not isinstance(value, dict):
        raise RefusedError(f"{where} is a JSON {_name(value)}; expected an object.", param=where)
    for name, inner in value.items():
        if name not in ("role", "content", "name") and inner not in (None, []):
            raise RefusedError(f"{where} has {quoted(name)}, which this server does not take.", param=where)
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RefusedError(f"{where} has the role {quoted(role)}; expected one of {', '.join(_ROLES)}.", param=where)
    content = _content(value.get("content"), where)
    _check_text(content, where, where)
    return {"role": _ROLES[role], "content": content}


def _content(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RefusedError(f"{where}.content is a JSON {_name(value)}; expected a text.", param=where)
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str) or len(part) > 2:
            raise RefusedError(
                f"{where} has a part of type {quoted(kind)}; only texts are taken, no embeddings, images or files.",
                param=where,
            )
        texts.append(part["text"])
    return "".join(texts)


def _check_text(text: str, what: str, param: str) -> None:
    if not text.strip():
        raise RefusedError(f"{what} is empty; expected a text.", param=param)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RefusedError(f"{what} holds half of a surrogate pair, which is no character.", param=param)


# --- settings --------------------------------------------------------------------------------------------------------


def _draw(given: Mapping[str, Any], kind: Kind, max_new_tokens: int) -> Draw:
    lengths = [_whole(given, name, least=1, most=max_new_tokens) for name in ("max_tokens", "max_completion_tokens")]
    known = [length for length in lengths if length is not None]
    if len(set(known)) > 1:
        raise RefusedError("max_tokens and max_completion_tokens differ; give one of them.", param="max_tokens")
    length = known[0] if known else None
    if length is None and kind == "completions":
        length = min(_DEFAULT_TOKENS, max_new_tokens)
    seed = _whole(given, "seed", least=-(2**63), most=2**63 - 1)
    return Draw(
        max_new_tokens=length,
        temperature=_number(given, "temperature", most=2.0),
        top_p=_number(given, "top_p", most=1.0),
        seed=secrets.randbits(63) if seed is None else seed,
        stop=_stops(given.get("stop", [])),
    )


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    fits = isinstance(stops, list) and len(stops) <= _MOST_STOPS
    if not fits or not all(isinstance(one, str) and 0 < len(one) <= _MOST_STOP_CHARACTERS for one in stops):
        raise RefusedError(
            f"stop is no text and no list of up to {_MOST_STOPS} texts of 1 to {_MOST_STOP_CHARACTERS} characters.",
            param="stop",
        )
    return tuple(stops)


def _with_usage(given: Mapping[str, Any], stream: bool) -> bool:
    options = given.get("stream_options")
    if options is None:
        return False
    if not stream or not isinstance(options, dict) or not set(options) <= {"include_usage", "include_obfuscation"}:
        raise RefusedError(
            'stream_options goes with "stream": true and holds include_usage alone.', param="stream_options"
        )
    return _flag({name: value for name, value in options.items() if value is not None}, "include_usage")


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise RefusedError(f"{name} is {quoted(value)}; expected true or false.", param=name)
    return value


def _whole(given: Mapping[str, Any], name: str, *, least: int, most: int) -> int | None:
    value = given.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise RefusedError(
            f"{name} is {quoted(value)}; expected a whole number from {least:,} to {most:,}.", param=name
        )
    return value


def _number(given: Mapping[str, Any], name: str, *, most: float) -> float:
    value = given.get(name, 1.0)
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not 0 <= value <= most:
        raise RefusedError(f"{name} is {quoted(value)}; expected a number from 0 to {most:g}.", param=name)
    return float(value)


def _name(value: Any) -> str:
    names: Sequence[tuple[type, str]] = (
        (bool, "boolean"),
        (dict, "object"),
        (list, "list"),
        (str, "string"),
        (int, "number"),
        (float, "number"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _shown(name: str) -> str:
    return quoted(name)[1:-1]
