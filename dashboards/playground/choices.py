"""What can be loaded: models that a run names or a folder holds, and the remedies that a run made. Needs no torch.

Nothing here reads weights. A run is somebody's file: what it names counts only where it is a folder of this machine,
and what it says lies inside of it must lie inside of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.errors import AuditError, InputError
from audit.lm.checkpoint import find_adapter, find_folder, is_local
from audit.lm.files import ADAPTER_CONFIG
from audit.runs.records import read_json
from audit.runs.schema import Findings, RunRecord
from audit.runs.store import Run
from audit.text.files import expanded
from audit.text.safe import quoted

from .asked import Kind, Put

GUARD, STEERING = "guard.json", "steering.json"
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_FIRST = ("subject", "model", "baseline")  # which of a run's models its remedies belong to, the first that is there


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a run names.

    Attributes:
        name: Its part in the run: "subject".
        folder: Where it lies, as the run says.
        adapter: Folder of its adapter, where it has one.
        dtype: As the run loaded it.
        weights: SHA-256 of its weights in the run; None where the run does not say.
        problem: Why it cannot be loaded; None where it can.
    """

    name: str
    folder: str
    adapter: str | None
    dtype: str
    weights: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Remedy:
    """A remedy that was made.

    Attributes:
        name: In the list.
        kind: Guard, steering, a model of its own, or an adapter.
        folder: Its files.
        told: What was done, as the run says; "" where it does not.
        tried: Of a steering: strengths above 0 that the run measured, the smallest first.
        chosen: Of a steering: the strength that the run's sweep chose, or None.
    """

    name: str
    kind: Kind
    folder: Path
    told: str = ""
    tried: tuple[float, ...] = ()
    chosen: float | None = None

    @property
    def highest(self) -> float:
        """The highest strength that something is known of; 1, as fitted, where nothing was measured."""
        return self.tried[-1] if self.tried else 1.0


def local_model(typed: str) -> Path:
    """The checkpoint folder that somebody typed.

    Raises:
        InputError: It is no folder of this machine; or none at all.
        ModelError: It is no checkpoint, or one that is not loaded: a pickle, code of its own. Both as on the command
            line.
    """
    _require_local(typed, "model")
    return find_folder(typed, revision=None, trust_remote_code=False)


def typed_remedy(typed: str) -> Remedy:
    """The remedy in a folder that somebody typed: a guard, a steering, an adapter or another model.

    A run's folder stands for the guard or the steering in it, as on the command line.

    Raises:
        InputError, ModelError: As `local_model`.
    """
    _require_local(typed, "remedy")
    path = expanded(typed)
    for folder in (path, path / "guard", path / "steering"):
        if (folder / GUARD).is_file():
            return Remedy(path.name, "guard", folder)
        if (folder / STEERING).is_file():
            return Remedy(path.name, "steering", folder)
    if (path / ADAPTER_CONFIG).is_file():
        return Remedy(path.name, "adapter", find_adapter(typed))
    return Remedy(path.name, "model", find_folder(typed, revision=None, trust_remote_code=False))


def models_of(record: RunRecord) -> list[Model]:
    """The models that a run names, that of its remedies first."""
    roles = sorted(record.subjects, key=lambda role: _FIRST.index(role) if role in _FIRST else len(_FIRST))
    return [_model(role, record.subjects[role], record.plan_folder) for role in roles]


def remedies_of(run: Run, findings: Findings | None) -> list[Remedy]:
    """The remedies in a run's folder, and the steerings that its plan names."""
    found: list[Remedy] = []
    for name, folder in _places(run.folder):
        kind: Kind | None = None
        if (folder / GUARD).is_file():
            kind = "guard"
        elif (folder / STEERING).is_file():
            kind = "steering"
        elif (folder / ADAPTER_CONFIG).is_file():
            kind = "adapter"
        elif (folder / "config.json").is_file():
            kind = "model"
        if kind is None:
            continue
        told = _told(run.folder, folder)
        if kind == "steering":
            found.append(_steering(name, folder, told, findings))
        else:
            found.append(Remedy(name, kind, folder, told))
    for path in _named_steerings(run.record):
        if (path / STEERING).is_file():
            found.append(_steering(f"steering {path.name}", path, "", findings))
    return found


def format_of(record: RunRecord) -> tuple[Put, str, str] | None:
    """How the run put prompts to its model: kind, prefix, suffix; None where it does not say."""
    told = record.plan.get("format")
    if not isinstance(told, Mapping):
        own = record.plan.get("eco")
        if not isinstance(own, Mapping):
            return None
        told = {"kind": own.get("format"), "prefix": own.get("prefix"), "suffix": own.get("suffix")}
    if told.get("kind") == "chat":
        return "chat", "", ""
    if told.get("kind") == "text":
        prefix, suffix = (part if isinstance(part := told.get(name), str) else "" for name in ("prefix", "suffix"))
        return "text", prefix, suffix
    return None


def _require_local(typed: str, what: str) -> None:
    if not typed.strip():
        raise InputError(f"there is no {what} folder; type the path of one.")
    if "\0" in typed:
        raise InputError(f"the {what} folder {quoted(typed)} holds a NUL, which no path does.")
    try:
        local = is_local(typed)
    except OSError as error:
        raise InputError(f"no folder {quoted(typed, limit=200)}: {error.strerror}. Give the path of one.") from None
    if not local:
        raise InputError(
            f"no folder {quoted(typed, limit=200)}. The playground loads folders of this machine only, and fetches "
            "nothing; give the path of a checkpoint folder."
        )


def _model(role: str, told: Mapping[str, Any], plan_folder: str | None) -> Model:
    name = told.get("model")
    adapter = told.get("adapter")
    prints = told.get("fingerprint")
    weights = prints.get("weights") if isinstance(prints, Mapping) else None
    dtype = told.get("dtype")
    folder = _placed(name, plan_folder)
    laid = None if adapter is None else str(_placed(adapter, plan_folder) or adapter)
    return Model(
        role,
        str(name if folder is None else folder),
        laid,
        dtype if dtype in _DTYPES else "auto",
        weights if isinstance(weights, str) else None,
        _why_not(name, folder, laid),
    )


def _placed(name: object, plan_folder: str | None) -> Path | None:
    """A folder that a run names, where it is there."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    try:
        path = expanded(name)
        if not path.is_absolute() and plan_folder is not None:
            path = Path(plan_folder) / path
        return path.absolute() if path.is_dir() else None
    except (InputError, OSError):
        return None


def _why_not(name: object, folder: Path | None, adapter: str | None) -> str | None:
    if not isinstance(name, str) or not name:
        return "the run does not say which model it was."
    if folder is None:
        return f"{quoted(name, limit=200)} is no folder on this machine (any more), and the playground fetches nothing."
    try:
        find_folder(str(folder), revision=None, trust_remote_code=False)
        if adapter is not None:
            _require_local(adapter, "adapter")
            find_adapter(adapter)
    except (AuditError, OSError) as error:
        return str(error)
    return None


def _places(root: Path) -> Iterator[tuple[str, Path]]:
    """Where a run may hold a remedy, with a name for each; folders inside of the run only."""
    named = [("guard", root / "guard"), ("steering", root / "steering"), ("unlearned model", root / "model")]
    for group in ("halves", "baselines"):
        named += [(f"{group}/{one.name}", one) for one in _folders(root / group)]
    for one in _folders(root / "remedies"):
        told, run = _json(one / "remedy.json"), one / "run"
        for part in ("adapter", "model"):
            inside = told.get(part)
            if isinstance(inside, str) and "\0" not in inside:
                named.append((one.name, one / inside))
                break
        named += [(one.name, run / "guard"), (f"{one.name}, steering", run / "steering")]
    real = root.resolve()
    for name, path in named:
        try:
            if path.is_dir() and path.resolve().is_relative_to(real):
                yield name, path
        except (OSError, RuntimeError):
            continue


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(one for one in path.iterdir() if one.is_dir())
    except OSError:
        return []


def _told(root: Path, folder: Path) -> str:
    """What the loop says of a remedy."""
    inside = folder.relative_to(root).parts
    if inside[0] != "remedies" or len(inside) < 2:
        return ""
    told = _json(root / "remedies" / inside[1] / "remedy.json").get("told")
    return told if isinstance(told, str) and "steering" not in inside else ""


def _named_steerings(record: RunRecord) -> Iterator[Path]:
    """Folders of maps that a sweep or an evaluation was given."""
    for table in ("sweep", "evaluate"):
        own = record.plan.get(table)
        names = own.get("steering") if isinstance(own, Mapping) else None
        for name in names if isinstance(names, list) else []:
            path = _placed(name, record.plan_folder)
            if path is not None:
                yield path if (path / STEERING).is_file() else path / "steering"


def _steering(name: str, folder: Path, told: str, findings: Findings | None) -> Remedy:
    method = _json(folder / STEERING).get("method")
    tried: set[float] = set()
    chosen = None
    for section in findings.sections if findings is not None else ():
        if not section.audit.startswith("steer"):
            continue
        for row in (row for table in section.tables for row in table.rows):
            strength = row.get("strength")
            if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
                continue
            if row.get("arm", method) == method and strength > 0:
                tried.add(float(strength))
                chosen = float(strength) if row.get("chosen") is True else chosen
    return Remedy(name, "steering", folder, told, tuple(sorted(tried)), chosen)


def _json(path: Path) -> Mapping[str, Any]:
    """A JSON object, or an empty one where there is none that can be read."""
    try:
        found = read_json(path, missing="") if path.is_file() else None
    except (AuditError, OSError):
        return {}
    return found if isinstance(found, Mapping) else {}
