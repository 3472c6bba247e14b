from __future__ import annotations

import pytest

from tests.unlearn.eco.serve.small_guard import guard_of, load_small
from unlearn.eco.guard import EcoGuard


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> EcoGuard:
    return guard_of(load_small(tmp_path_factory.mktemp("served")))
