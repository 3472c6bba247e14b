"""A Hugging Face model card with a run's results in it; everything else of the card stays byte for byte.

Two places are ours: the results in the metadata's ``model-index`` whose ``dataset.type`` begins with ``palimpsest-``,
and what stands between two marks in the body. `huggingface_hub` makes and checks the results. Its `ModelCard` would
write the whole metadata anew, without comments and in its own spelling, so the lines are put in place here, and what
came out is read again and compared with what was there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..errors import DataError, InputError
from ..text.safe import quoted
from .card_content import DATASET_PREFIX

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

BEGIN: Final = "<!-- palimpsest:begin -->"
END: Final = "<!-- palimpsest:end -->"
_NOTE: Final = "<!-- Written by `palimpsest card`; what stands between the two marks is replaced by the next call. -->"
_KEY: Final = "model-index"


@dataclass(frozen=True, slots=True)
class _Parts:
    """A card cut where metadata and body meet; the four put together are the card."""

    before: str
    metadata: str
    between: str
    body: str
    newline: str


def updated_card(
    card: str, results: Sequence[EvalResult], section: Sequence[str], *, name: str | None, else_named: str
) -> str:
    """The card with these results and this section; a second time the same changes nothing.

    Args:
        card: The card as it is, line ends included; "" where there is none yet.
        results: For the metadata.
        section: Lines of the body's section.
        name: Of the model in ``model-index``; None for the one that the card has.
        else_named: The name where the card has none either.

    Raises:
        DataError: The card's metadata is no YAML mapping, or its ``model-index`` is not as the Hub reads it.
        InputError: The card names several models and ``name`` is None, the marks do not pair up, or the metadata is
            written so that a part cannot be replaced.
    """
    parts = _cut(card)
    metadata = _with_results(parts, results, name, else_named)
    body = _with_section(parts.body, section, parts.newline, first=card.count("\n") - parts.body.count("\n") + 1)
    if metadata and not parts.between:
        line = parts.newline
        return f"{parts.before}---{line}{metadata}{line}---{line}{line}{body}"
    return parts.before + metadata + parts.between + body


# Metadata


def _cut(card: str) -> _Parts:
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    mark = "\ufeff" if card.startswith("\ufeff") else ""  # which the Hub passes by
    text = card.removeprefix(mark)
    newline = "\r\n" if "\r\n" in text else "\n"
    found = REGEX_YAML_BLOCK.search(text)
    if found is None:
        return _Parts(mark, "", "", text, newline)
    return _Parts(mark + found.group(1), found.group(2), found.group(3), text[found.end() :], newline)


def _read(metadata: str) -> dict[str, Any]:
    import yaml
    from huggingface_hub import ModelCard

    try:
        value = yaml.safe_load(metadata)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"the card's metadata is no YAML: {_first_line(error)}. Mend it first.") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"the card's metadata is no YAML mapping but {quoted(value)}. Write `key: value` lines.")
    if _KEY in value:
        try:
            ModelCard(f"---\n{metadata}\n---\n")
            list(value[_KEY])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"the card's {_KEY} is not as the Hub reads it: {_first_line(error)}. Mend it, or remove it."
            ) from None
    return value


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _is_ours(result: dict[str, Any]) -> bool:
    return str(result["dataset"]["type"]).startswith(DATASET_PREFIX)


def _with_results(parts: _Parts, results: Sequence[EvalResult], name: str | None, else_named: str) -> str:
    from huggingface_hub.repocard_data import eval_results_to_model_index

    data = _read(parts.metadata)
    models = data.get(_KEY) or []
    names = [str(model["name"]) for model in models]
    if name is None:
        if len(set(names)) > 1:
            listed = ", ".join(quoted(one) for one in names)
            raise InputError(f"the card's {_KEY} has several models ({listed}). Say which with --name.")
        name = names[0] if names else else_named
    new = eval_results_to_model_index(name, list(results))[0]["results"] if results else []
    wanted = _expected(models, new, name)
    if _same(wanted, models):
        return parts.metadata
    written = _edited(parts, models, new, name)
    after = _read(written)
    kept = {key: value for key, value in data.items() if key != _KEY}
    if not _same(after.get(_KEY) or [], wanted) or not _same({k: v for k, v in after.items() if k != _KEY}, kept):
        raise _unlike_block()
    return written


def _expected(models: list[Any], new: list[Any], name: str) -> list[Any]:
    """The ``model-index`` that is to come out: ours where ours were, else last; other people's as they were."""
    out, placed = [], not new
    for model in models:
        results = model["results"]
        others = [one for one in results if not _is_ours(one)]
        if model["name"] == name and not placed:
            place = next((at for at, one in enumerate(results) if _is_ours(one)), len(results))
            others[place:place] = new
            placed = True
        if others or not results:
            out.append({**model, "results": others})
    return out if placed else [*out, {"name": name, "results": new}]


def _same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # NaN included


def _unlike_block() -> InputError:
    return InputError(
        f"the card's {_KEY} cannot be changed without touching what stands beside it. Write it as a block, one "
        '"- name: ..." with "results:" and one "- task: ..." for each result, or remove it.'
    )


def _edited(parts: _Parts, models: list[Any], new: list[Any], name: str) -> str:
    """The metadata's text with our results replaced, line by line."""
    import yaml

    newline = parts.newline
    text = _ended(parts.metadata, newline)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    key, index = next(((key, value) for key, value in pairs if key.value == _KEY), (None, None))
    if key is None or index is None or not models:
        if key is not None or (isinstance(root, yaml.MappingNode) and root.flow_style):
            raise _unlike_block()
        added = _lines([{"name": name, "results": new}], 0, newline)
        return text + f"{_KEY}:{newline}" + added.removesuffix(newline)
    edits: list[tuple[int, int, str]] = []  # from, to, what takes its place
    placed, left = not new, 0
    for model, node in zip(models, _block(index), strict=True):
        results = next(value for key_, value in node.value if key_.value == "results")
        nodes = _block(results) if results.value or new else []
        ours = [one for one, result in zip(nodes, model["results"], strict=True) if _is_ours(result)]
        here = model["name"] == name and not placed
        if len(ours) == len(nodes) and ours and not here:
            edits.append((*_span(text, node, index), ""))
            continue
        left += 1
        edits += [(*_span(text, one, results), "") for one in ours]
        if here:
            if not nodes:
                raise _unlike_block()
            at = _span(text, ours[0], results)[0] if ours else _span(text, nodes[-1], results)[1]
            edits.append((at, at, _lines(new, results.start_mark.column, newline)))
            placed = True
    if not placed:
        at = _span(text, _block(index)[-1], index)[1]
        edits.append((at, at, _lines([{"name": name, "results": new}], index.start_mark.column, newline)))
    elif left == 0:
        edits = [(_line_start(text, key.start_mark.index), _span(text, _block(index)[-1], index)[1], "")]
    written = text
    for start, end, instead in sorted(edits, key=lambda edit: (edit[0], edit[1]), reverse=True):
        written = written[:start] + instead + written[end:]
    return written if text == parts.metadata else written.removesuffix(newline)


def _block(node: Any) -> list[Any]:
    """The items of a block sequence."""
    import yaml

    if not isinstance(node, yaml.SequenceNode) or node.flow_style or not node.value:
        raise _unlike_block()
    return list(node.value)


def _ended(text: str, newline: str) -> str:
    return text if not text or text.endswith("\n") else text + newline


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _span(text: str, item: Any, sequence: Any) -> tuple[int, int]:
    """Where the lines of one item of a block sequence begin and end; refuses an item that shares a line."""
    start, column = _line_start(text, item.start_mark.index), sequence.start_mark.column
    if not re.fullmatch(r" *- +", text[start : item.start_mark.index]) or text[start : start + column].strip():
        raise _unlike_block()
    last = item
    while last.value and not isinstance(last.value, str):
        final = last.value[-1]
        last = final[1] if isinstance(final, tuple) else final
    end = max(last.end_mark.index, last.start_mark.index)
    if end > 0 and text[end - 1 : end] == "\n":  # a block of text, which ends with its last line
        return start, end
    return start, text.index("\n", end) + 1


def _lines(value: Any, column: int, newline: str) -> str:
    import yaml

    written = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=float("inf")).rstrip("\n").split("\n")
    return "".join(f"{' ' * column}{line}{newline}" for line in written)


# Body


def _with_section(body: str, section: Sequence[str], newline: str, *, first: int) -> str:
    starts, ends = ([found.start() for found in re.finditer(re.escape(mark), body)] for mark in (BEGIN, END))
    written = newline.join([BEGIN, _NOTE, "", *section, "", END])
    if not starts and not ends:
        gap = "" if not body else newline if body.endswith("\n") else newline * 2
        return body + gap + written + newline
    if len(starts) != 1 or len(ends) != 1 or starts[0] > ends[0]:
        lines = [str(body.count("\n", 0, at) + first) for at in sorted(starts + ends)]
        raise InputError(
            f"the card's marks {BEGIN} and {END} do not pair up (about line {', '.join(lines)}): one of each is "
            "expected, the first one first. Remove the others."
        )
    return body[: starts[0]] + written + body[ends[0] + len(END) :]
