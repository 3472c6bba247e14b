"""A task as lm-eval reads it: a YAML file, and the items as JSON lines beside it.

What users' files say is data: the YAML names fields, and lm-eval takes a named field as it is, where a template would
be rendered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from audit.text.files import make_folder

from .files import KINDS, Item, TaskFile


def write_task(task: TaskFile, items: Sequence[Item], folder: Path) -> str:
    """Write NAME.yaml and NAME.jsonl.

    Args:
        task: Which.
        items: One or more.
        folder: Where; made if it is not there. lm-eval's cache of the items goes below it.

    Returns:
        The task's name in lm-eval.

    Raises:
        StorageError: The folder cannot be written.
    """
    make_folder(folder)
    name = f"palimpsest_{task.name}"
    data = folder / f"{task.name}.jsonl"
    data.write_text("".join(json.dumps(_document(task.kind, one)) + "\n" for one in items), encoding="utf-8")
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "num_fewshot": 0,
        **_fields(task.kind),
        "metric_list": [_metric(metric) for metric in KINDS[task.kind].metrics],
        "metadata": {"version": 1.0},
    }
    (folder / f"{task.name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return name


def _document(kind: str, item: Item) -> dict[str, Any]:
    if kind == "text":
        return {"id": item.id, "text": item.endings[0]}
    if kind == "winogrande":
        return {"id": item.id, "choices": list(item.contexts), "ending": item.endings[0], "gold": item.right}
    return {"id": item.id, "query": item.contexts[0], "choices": list(item.endings), "gold": item.right}


def _fields(kind: str) -> dict[str, str]:
    """Which field is what; a number as "text" tells lm-eval that the options are beginnings."""
    if kind == "text":
        return {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "text"}
    if kind == "winogrande":
        fields = {"doc_to_text": "gold", "doc_to_choice": "choices", "doc_to_target": "ending"}
    else:
        fields = {"doc_to_text": "query", "doc_to_choice": "choices", "doc_to_target": "gold"}
    return {"output_type": "multiple_choice", **fields}


def _metric(name: str) -> dict[str, Any]:
    accuracy = name.startswith("acc")
    return {"metric": name, "aggregation": "mean" if accuracy else name, "higher_is_better": accuracy}
