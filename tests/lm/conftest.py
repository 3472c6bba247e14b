from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints import ARCHITECTURES, build_checkpoint


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``make_checkpoint("llama", bos=True)`` -> folder; equal arguments give the same folder."""
    made: dict[tuple[str, bool], Path] = {}

    def make(architecture: str, *, bos: bool = True) -> Path:
        if (architecture, bos) not in made:
            made[architecture, bos] = build_checkpoint(tmp_path_factory.mktemp(architecture), architecture, bos=bos)
        return made[architecture, bos]

    return make


# Falcon-H1 has no fast kernels on a CPU, and LFM2 is a hybrid of attention and state too.
@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name == "falcon_h1" else name for name in sorted(ARCHITECTURES)
    ]
)
def any_checkpoint(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Path:
    """A checkpoint of each architecture in turn."""
    return make_checkpoint(request.param)


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a Llama that a test may damage."""
    return Path(shutil.copytree(make_checkpoint("llama"), tmp_path / "checkpoint"))
