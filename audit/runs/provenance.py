"""Where and with what a run is made: versions, source commit, machine, command."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..text.safe import printable
from .moments import now
from .schema import Provenance

# Those whose version can change a number or a chart.
PACKAGES = (
    "accelerate",
    "altair",
    "jinja2",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
_SOURCE = Path(__file__).resolve().parents[2]  # the folder that holds audit/
_SOURCE_PATHS = ("audit", "unlearn", "pyproject.toml")
_GIT_SECONDS = 10


def provenance(command: Sequence[str], *, hardware: Mapping[str, Any] | None = None) -> Provenance:
    """What is known of this process and machine, for the record of a run.

    Args:
        command: The command line as given, program first.
        hardware: Further facts that need another library, such as ``{"gpu": ["NVIDIA H200"]}``; they are added to
            ``cpu`` (model), ``cores`` (of the machine), ``cores_allowed`` (to this process) and ``ram_gib``.

    Returns:
        The record. ``commit`` and ``dirty`` are those of Palimpsest's own source tree when it is a git checkout,
        else None; ``dirty`` is about the code alone, not about other files beside it.
    """
    commit, dirty = source_state(_SOURCE)
    return Provenance(
        created=now(),
        palimpsest=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        commit=commit,
        dirty=dirty,
        packages=package_versions(PACKAGES),
        hardware={**_machine(), **(hardware or {})},
        command=tuple(printable(argument) for argument in command),
    )


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Installed version of each distribution of ``names``; those that are not installed are left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def source_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the git checkout whose root is ``folder`` and whether its code differs from that commit.

    Returns:
        (commit as 40 or 64 hexadecimal digits, dirty), or (None, None) when ``folder`` is no checkout's root, git is
        missing or does not answer, or there is no commit yet.
    """
    if not (folder / ".git").exists():
        return None, None
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None, None
    present = [name for name in _SOURCE_PATHS if (folder / name).exists()]
    changes = _git(folder, "status", "--porcelain", "--untracked-files=normal", "--", *present)
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command that changes nothing, or None when it cannot be had."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            check=True,
            text=True,
            timeout=_GIT_SECONDS,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _machine() -> dict[str, Any]:
    """CPU model, cores and memory (GiB) of this machine; what the system does not tell is None."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_model(), "cores": os.cpu_count(), "cores_allowed": allowed, "ram_gib": _memory_gib()}


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine() or None


def _memory_gib() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    return round(size / 2**30, 1)
