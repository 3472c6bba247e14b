"""A pydantic error as messages that a person can act on."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ..text.safe import did_you_mean, quoted

_EXPECTED = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
    "path_type": "a path in quotes",
    "none_required": "nothing",
}
_EXPECTED_WITH = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of {ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of {le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_too_short": "a text of {min_length} or more characters",
    "string_too_long": "a text of {max_length} or fewer characters",
    "string_pattern_mismatch": "a text like {pattern}",
    "too_short": "{min_length} or more entries",
    "too_long": "{max_length} or fewer entries",
}


def plain_problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One message for each problem: where it is, what stands there, what was expected, the nearest known key.

    Args:
        error: What validating ``model`` raised.
        model: The class that was validated.
    """
    return list(dict.fromkeys(_problem(dict(item), model) for item in error.errors(include_url=False)))


def _problem(item: dict[str, Any], model: type[BaseModel]) -> str:
    names, owners = _walk(item["loc"], model)
    where, context = _dotted(names), item.get("ctx", {})
    if item["type"] == "extra_forbidden":
        table, key = _dotted(names[:-1]), str(names[-1])
        known = sorted({name for owner in owners for name in _fields(owner)})
        place = f"in [{table}]" if table else "at the top"
        allowed = f"; known here: {', '.join(known)}" if known else ""
        return f"unknown key {quoted(key)} {place}{allowed}.{did_you_mean(key, known)}"
    if item["type"] == "missing":
        is_table = any(_is_model(kind) for owner in owners for kind in _members(_fields(owner).get(str(names[-1]))))
        return f"the table [{where}] is missing; add it." if is_table else f"{where} is missing; it has no default."
    if item["type"] in ("value_error", "assertion_error"):
        return f"{where or 'the whole'}: {context.get('error', item['msg'])}"
    expected = _EXPECTED.get(item["type"])
    if expected is None and item["type"] in _EXPECTED_WITH:
        expected = _EXPECTED_WITH[item["type"]].format(**context)
    if expected is None:
        expected = item["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
    value = item["input"]
    hint = did_you_mean(value, _choices(expected)) if isinstance(value, str) else ""
    return f"{where or 'the whole'} is {_shown(value)}; expected {expected}.{hint}"


def _shown(value: Any) -> str:
    """The value as a plan or JSON file spells it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {len(value)}"
    return quoted(value)


def _choices(expected: str) -> list[str]:
    return expected.split("'")[1::2]


def _dotted(names: Sequence[str | int]) -> str:
    text = ""
    for name in names:
        if isinstance(name, int):
            text += f"[{name + 1}]"
        else:
            text += f".{name}" if text else name
    return text


def _walk(location: Sequence[str | int], model: type[BaseModel]) -> tuple[list[str | int], list[type[BaseModel]]]:
    """The keys that a person wrote, and the models that own the last of them.

    Pydantic puts names of union members between the keys; those are left out.
    """
    names: list[str | int] = []
    here: list[Any] = [model]
    owners: list[type[BaseModel]] = [model]
    last = len(location) - 1
    for position, step in enumerate(location):
        inner = [found for kind in here for found in _step(kind, step)]
        if inner or position == last:
            owners = [kind for kind in here if _is_model(kind)]
            names.append(step)
            here = [member for kind in inner for member in _members(kind)]
        else:  # the tag of a union member: narrow to it where it is a model's name
            here = [kind for kind in here if getattr(kind, "__name__", None) == step] or here
    return names, owners


def _step(kind: Any, step: str | int) -> Iterator[Any]:
    """Types that stand behind key or index ``step`` of a value of type ``kind``."""
    origin = get_origin(kind) or kind
    if _is_model(kind) and isinstance(step, str):
        fields = _fields(kind)
        if step in fields:
            yield fields[step]
    elif origin is dict and isinstance(step, str):
        yield (get_args(kind) or (str, Any))[1]
    elif origin in (list, tuple, set, frozenset) and isinstance(step, int):
        arguments = get_args(kind)
        if arguments:
            yield arguments[0] if len(arguments) <= step or arguments[-1] is Ellipsis else arguments[step]


def _members(kind: Any) -> list[Any]:
    """The types that a union or annotated type stands for."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for argument in get_args(kind) for member in _members(argument)]
    return [] if get_origin(kind) is Literal else [kind]


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Key as written (the alias where there is one) -> annotation."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def open_models(model: type[BaseModel]) -> list[str]:
    """Names of ``model`` and of the models nested in it that would let an unknown key pass in silence."""
    found: list[str] = []
    seen: set[Any] = set()
    waiting: list[Any] = [model]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and kind in seen:
            continue
        if _is_model(kind):
            seen.add(kind)
            if kind.model_config.get("extra") != "forbid":
                found.append(kind.__name__)
            waiting.extend(_fields(kind).values())
        else:
            waiting.extend(argument for argument in get_args(kind) if argument is not Ellipsis)
    return sorted(found)
