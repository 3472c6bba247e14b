"""One direction of imports, and no torch where none is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AUDIT = ROOT / "audit"
# A room may import the rooms of earlier lines and itself. Rooms of one line do not know each other.
LINES: tuple[frozenset[str], ...] = (
    frozenset({"errors", "progress"}),
    frozenset({"text", "stats"}),
    frozenset({"lm"}),
    frozenset({"runs"}),
    frozenset({"matching"}),
    frozenset({"membership"}),
    frozenset({"extraction", "traps", "forgetting"}),
    frozenset({"answers"}),
    frozenset({"testbed"}),
    frozenset({"selftest"}),
    frozenset({"gates"}),
    frozenset({"report", "statements"}),
    frozenset({"cli"}),
)
PLACE = {room: place for place, line in enumerate(LINES) for room in line}


def imported_rooms(path: Path) -> set[str]:
    """Rooms of ``audit`` that a file imports, inside functions as well."""
    package = ["audit", *path.relative_to(AUDIT).with_suffix("").parts[:-1]]
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*full, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        rooms |= {name[1] for name in names if name[0] == "audit" and len(name) > 1 and not name[1].startswith("__")}
    return rooms


def room_of(path: Path) -> str:
    return path.relative_to(AUDIT).parts[0].removesuffix(".py")


SOURCES = sorted(path for path in AUDIT.rglob("*.py") if not room_of(path).startswith("__"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(AUDIT)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in PLACE, f"{room} has no line of its own; give it one here and in docs/decisions"
    for other in imported_rooms(path) - {room}:
        assert PLACE[other] < PLACE[room], f"{room} must not import {other}"


def test_methods_of_unlearn_do_not_know_each_other_nor_the_command_line() -> None:
    """Only ``unlearn.cli`` and a method's own ``cli`` import ``audit.cli``; methods share what lies beside them."""
    unlearn = ROOT / "unlearn"
    sources = sorted(unlearn.rglob("*.py"))
    assert sources
    for path in sources:
        room = path.relative_to(unlearn).parts[0].removesuffix(".py")
        rooms = {one.name for one in unlearn.iterdir() if one.is_dir()} - {room, "cli"}
        if room in ("baselines", "selftest"):  # what is compared with the methods, or asks them, may look at them
            rooms = set()
        package = ["unlearn", *path.relative_to(unlearn).with_suffix("").parts[:-1]]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                full = [*base, *(node.module.split(".") if node.module else [])]
                if "cli" not in path.relative_to(unlearn).parts:
                    assert full[:2] != ["audit", "cli"], path
                if room != "cli":
                    assert not (full[0] == "unlearn" and len(full) > 1 and full[1] in rooms), path


def test_audit_never_imports_unlearn_or_dashboards() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = getattr(node, "module", None) or ""
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [module]
            assert not any(name.split(".")[0] in ("unlearn", "dashboards") for name in names), path


def test_nothing_imports_the_dashboard_but_itself() -> None:
    """It stands at the right-hand end; ``audit.cli`` names it in a string."""
    sources = [*SOURCES, *(ROOT / "unlearn").rglob("*.py")]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert not any(name.split(".")[0] == "dashboards" for name in names), path


def test_the_dashboard_reads_runs_and_imports_no_room_that_makes_them() -> None:
    """But the playground, which loads models and remedies."""
    makers = {"cli", "testbed", "selftest", "lm", "membership", "matching", "forgetting", "answers"}
    pages = [path for path in sorted((ROOT / "dashboards").rglob("*.py")) if "playground" not in str(path)]
    assert pages
    for path in pages:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) and not node.level else None
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [module or ""]
            for name in names:
                parts = name.split(".")
                assert parts[0] != "unlearn", f"{path}: {name}"
                assert not (parts[0] == "audit" and len(parts) > 1 and parts[1] in makers), f"{path}: {name}"


@pytest.mark.parametrize(
    "module",
    [
        "audit",
        "audit.stats.auc",
        "audit.runs.store",
        "audit.text.readers",
        "audit.report.render",
        "audit.cli.main",
        "audit.lm.subject",
        "audit.cli.compare",
        "audit.report.compare_section",
        "dashboards.store",
        "dashboards.pages.overview",
        "dashboards.pages.run",
        "dashboards.pages.gate",
        "dashboards.pages.compare",
    ],
)
def test_no_torch_where_none_is_needed(module: str) -> None:
    code = f"import sys, {module}; heavy = {{'torch', 'transformers'}} & sys.modules.keys(); sys.exit(bool(heavy))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_each_import_name_has_one_owner() -> None:
    from importlib.metadata import packages_distributions

    import audit

    owners = packages_distributions()
    assert set(owners.get("audit", [])) <= {"palimpsest-audit"}
    assert Path(audit.__file__).parent == AUDIT


def test_a_hook_is_registered_in_one_place_only() -> None:
    for path in SOURCES:
        if path != AUDIT / "lm" / "hooks.py":
            assert "register_forward" not in path.read_text(encoding="utf-8"), path
