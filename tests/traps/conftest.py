from __future__ import annotations

import pytest

from audit.lm.load import LanguageModel, load
from tests.checkpoints import build_checkpoint


@pytest.fixture(scope="session")
def random_llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random model: a generator of nonsense, which is what most trap code needs."""
    return load(build_checkpoint(tmp_path_factory.mktemp("llama"), "llama", letters_only=True))
