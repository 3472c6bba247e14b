"""Options that several verbs share, spelt the same everywhere."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError, StorageError
from ..lm.subject import Subject

Device = Annotated[str, typer.Option(help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:N or mps.")]
DeviceMap = Annotated[str | None, typer.Option(help='"auto" spreads the model over several GPUs.')]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16; auto is float32 on a CPU.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that the checkpoint brings along. Read it first.")
]
Revision = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit of the model, when it is a Hugging Face id; not of a reference."),
]
Adapter = Annotated[
    str | None, typer.Option(help="PEFT adapter (folder or id) laid over the model; not over a reference.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]


def subject(
    model: str,
    *,
    revision: str | None,
    adapter: str | None,
    dtype: str,
    device: str,
    device_map: str | None,
    trust_remote_code: bool,
) -> Subject:
    """The model that the flags name."""
    return Subject(
        model=model,
        revision=revision,
        adapter=adapter,
        dtype=dtype,  # type: ignore[arg-type]  # checked there, with a message
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )


def refuse_inside_run(out: Path) -> None:
    """Refuses a place in a run's folder or below it, which holds evidence alone.

    Raises:
        InputError: Which run it is.
    """
    home = next((folder for folder in out.resolve().parents if (folder / "run.json").exists()), None)
    if home is not None:
        raise InputError(f"--out {out} lies in the run {home}, which holds evidence alone. Choose another place.")


def quiet_libraries() -> None:
    """Keep transformers' own bars and advice off the screen: ours say what is going on.

    Raises:
        StorageError: There is no temporary folder, without which torch cannot be imported.
    """
    _require_temporary_folder()
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _require_temporary_folder() -> None:
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise StorageError(
            "no temporary folder can be written, and torch needs one: neither $TMPDIR nor /tmp, /var/tmp, /usr/tmp or "
            "the working folder takes a file. Free some space there, raise the limit (ulimit -f), or set TMPDIR to a "
            "folder that can be written."
        ) from error


def require_one_process() -> None:
    """Refuses to run several times over, for a command that cannot share its work.

    Raises:
        InputError: The launch environment (WORLD_SIZE) says that there are several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("this command is one process, but WORLD_SIZE says that there are several. Start it alone.")


def gpus() -> dict[str, Any]:
    """The GPUs' names for a run's provenance."""
    import torch

    return {"gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]}


def shown(path: Path) -> str:
    """A path as a user would type it: relative to the working folder where it lies inside."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
