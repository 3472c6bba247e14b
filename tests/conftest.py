"""Fixtures for all rooms."""

from __future__ import annotations

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: as many workers as cores, one thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from audit.testbed.planted import Testbed, build

# How long an example takes says how busy the machine is; timings are benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def testbed_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this test session alone; workers of pytest-xdist share it, and only one of them builds."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "testbed-cache"


@pytest.fixture(scope="session")
def testbed_tiny(testbed_cache: Path) -> Testbed:
    """The tiny testbed with all four models, seed 0. Read only: do not write into its folder."""
    return build("tiny", cache=testbed_cache, device="cpu")
