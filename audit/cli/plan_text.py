"""Flags written out as the plan that they stand for, so that a run keeps a plan that can be run again."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..errors import InputError


def model_tables(
    model: str, reference: str | None, *, revision: str | None, adapter: str | None, **loading: object
) -> dict[str, dict[str, object]]:
    """The tables ``[subject]`` and, where there is one, ``[reference]``, both loaded as ``loading`` tells."""
    tables = {"subject": {"model": model, "revision": revision, "adapter": adapter, **loading}}
    if reference is not None:
        tables["reference"] = {"model": reference, **loading}
    return tables


def plan_text(
    tables: Mapping[str, Mapping[str, object]], *, made_by: str, is_plan: bool = True, run_by: str = "palimpsest audit"
) -> str:
    """TOML of the tables; what is None is left out. ``is_plan``: whether ``run_by`` can run it.

    Raises:
        InputError: A value is not UTF-8.
    """
    again = f"; change it and run it with `{run_by}`" if is_plan else ""
    lines = [f"# What `{made_by}` was asked{again}."]
    for name, table in tables.items():
        lines += [
            "",
            f"[{name}]",
            *(f"{key} = {_toml(key, value)}" for key, value in table.items() if value is not None),
        ]
    return "\n".join(lines) + "\n"


def _toml(key: str, value: object) -> str:
    """A value as TOML spells it: JSON's texts, numbers, lists and truth values, but for U+007F, nan, inf and tables."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(key, one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key, name)} = {_toml(key, one)}" for name, one in value.items()) + " }"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"{key} is {value!a}, which is not UTF-8. Give it in UTF-8.") from None
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
