"""A tiny model, another, and sentences of two kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import build_checkpoint
from tests.cli.conftest import call, refused  # noqa: F401  # fixtures

SECRET = "zanzibar"  # stands in each sentence, and must stand in nothing that is written


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``model`` and ``other``, and files ``source.txt`` and ``target.jsonl`` of 24 and 28 sentences."""
    root = tmp_path_factory.mktemp("steer")
    build_checkpoint(root / "model", "llama")
    build_checkpoint(root / "other", "gpt2")
    source = [f"the cat {'sat ' * (n % 3 + 1)}on the mat {SECRET} {n}" for n in range(24)]
    (root / "source.txt").write_text("\n".join(source) + "\n", encoding="utf-8")
    target = [f'{{"text": "the dog {"ran " * (n % 4 + 1)}over the hill {SECRET} {n}"}}\n' for n in range(28)]
    (root / "target.jsonl").write_text("".join(target), encoding="utf-8")
    return root


def fit_command(small: Path, out: Path | str, *more: object) -> list[object]:
    return [
        "steer", "fit", small / "model", "--source", small / "source.txt", "--target", small / "target.jsonl",
        "--device", "cpu", "--quiet", "--out", out, *more,
    ]  # fmt: skip


ADAM = ("--optimizer", "adam", "--lr", 0.05, "--steps", 25, "--held-out", 0.4)
