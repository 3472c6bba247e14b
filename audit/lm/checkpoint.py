"""Find a checkpoint's files, refuse what is unsafe or broken, and fingerprint what will be loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError
from ..text.files import expanded, sha256_file
from ..text.safe import did_you_mean
from .files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    check_readable,
    config_files,
    permissions_named,
    tokenizer_files,
    weight_files,
)
from .subject import Subject


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 of what was loaded: reproducible with ``sha256sum``.

    Each of the three is the SHA-256 of the lines ``<sha256 of the file>  <file name>`` in order of names;
    ``files`` holds the single files' hashes.
    """

    weights: str
    config: str
    tokenizer: str
    files: dict[str, str]

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def _combined(files: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def fingerprint(folder: Path, *, adapter: Path | None = None) -> Fingerprint:
    """Fingerprint of the safetensors, configuration and tokenizer of ``folder`` and of an adapter over it."""
    weights = {path.name: sha256_file(path) for path in weight_files(folder)}
    config = {path.name: sha256_file(path) for path in config_files(folder)}
    tokenizer = {path.name: sha256_file(path) for path in tokenizer_files(folder)}
    if adapter is not None:
        weights |= {f"adapter/{path.name}": sha256_file(path) for path in sorted(adapter.glob("*.safetensors"))}
        config |= {f"adapter/{ADAPTER_CONFIG}": sha256_file(adapter / ADAPTER_CONFIG)}
    return Fingerprint(_combined(weights), _combined(config), _combined(tokenizer), {**weights, **config, **tokenizer})


def is_local(model: str) -> bool:
    """Whether a name can only be a folder of this machine, not a Hugging Face id."""
    path = expanded(model)
    return path.exists() or model.startswith(("/", "./", "../", "~")) or model.count("/") != 1 or path.parent.is_dir()


def find_checkpoint(subject: Subject) -> list[Path]:
    """Folder of a subject and, where it has one, of its adapter; errors as in `find_folder`."""
    folder = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    return [folder] if subject.adapter is None else [folder, find_adapter(subject.adapter)]


def refuse_same_weights(subject: Subject, reference: Subject) -> None:
    """A model compared with itself gives 0 for every text, which looks like a result.

    Raises:
        InputError: Both have the same weights, whatever their folders are called.
    """
    own, other = _all_weights(subject), _all_weights(reference)
    if len(own) == len(other) and all(
        mine.stat().st_size == theirs.stat().st_size and sha256_file(mine) == sha256_file(theirs)
        for mine, theirs in zip(own, other, strict=True)
    ):
        raise InputError(
            f"the reference {reference.model} has the same weights as the model {subject.model}, so every ratio would "
            "be 0. Give a reference model that never saw the texts, or none."
        )


def _all_weights(subject: Subject) -> list[Path]:
    folder, *adapters = find_checkpoint(subject)
    return [*weight_files(folder), *(adapter / ADAPTER_WEIGHTS for adapter in adapters)]


def find_folder(model: str, *, revision: str | None, trust_remote_code: bool) -> Path:
    """The folder of a checkpoint: ``model`` itself, or the local snapshot of a Hugging Face id.

    Raises:
        InputError: It is neither a folder nor an id.
        ModelError: The folder is no checkpoint, holds an adapter of its own or may not be read, or the id
            cannot be fetched.
    """
    with permissions_named():
        folder = _locate(model, revision=revision, trust_remote_code=trust_remote_code)
        if (folder / ADAPTER_CONFIG).is_file():  # transformers would lay it over the weights without a word
            raise ModelError(
                f"{folder} holds {ADAPTER_CONFIG}, so it is an adapter or has one laid over its weights. Give the "
                "folder of the base model alone, and the adapter with --adapter FOLDER."
            )
        _check_config(folder)
        check_readable([*config_files(folder), *weight_files(folder), *tokenizer_files(folder)])
    return folder


def _locate(model: str, *, revision: str | None, trust_remote_code: bool) -> Path:
    path = expanded(model)
    if path.is_dir():
        if revision is not None:
            raise InputError(
                f"revision {revision!r} was given with the folder {path}; leave it out, or name a Hugging Face id."
            )
        return path
    if path.exists():
        raise InputError(f"{path} is a file; expected the folder that holds config.json and model.safetensors.")
    if is_local(model):
        raise InputError(f"no folder {path}.{_nearest(path)} Expected a checkpoint folder or an id owner/name.")
    return _snapshot(model, revision=revision, trust_remote_code=trust_remote_code)


def find_adapter(adapter: str) -> Path:
    """The folder of a PEFT adapter in safetensors, checked like `find_folder`."""
    path = expanded(adapter)
    with permissions_named():
        if not path.is_dir():
            if path.exists() or adapter.startswith(("/", "./", "../", "~")) or adapter.count("/") != 1:
                raise InputError(f"no adapter folder {path}.{_nearest(path)} Expected a folder with {ADAPTER_CONFIG}.")
            path = _snapshot(adapter, revision=None, trust_remote_code=False)
        if not (path / ADAPTER_CONFIG).is_file():
            raise ModelError(f"{path} holds no {ADAPTER_CONFIG}; expected a PEFT adapter.")
        if not (path / ADAPTER_WEIGHTS).is_file():
            raise ModelError(
                f"{path} holds no {ADAPTER_WEIGHTS} (a pickle such as adapter_model.bin is not loaded). "
                "Save the adapter again with peft, which writes safetensors."
            )
        check_readable([path / ADAPTER_CONFIG, path / ADAPTER_WEIGHTS])
    return path


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))


def _check_config(folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{folder} holds no config.json; expected a Hugging Face checkpoint folder.")
    check_readable([config])
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{config} is not readable JSON: {error}. Copy the file again.") from None
    if not isinstance(content, dict) or "model_type" not in content:
        raise ModelError(f'{config} names no "model_type"; expected a transformers configuration.')


def _snapshot(model: str, *, revision: str | None, trust_remote_code: bool) -> Path:
    """Download the safe files of a Hugging Face id into the hub's cache and return their folder."""
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken"]
    if trust_remote_code:
        patterns.append("*.py")
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f'cannot fetch "{model}"{f" at revision {revision}" if revision else ""}: {reason.rstrip(".")}. '
            "Check the name and the network, set HF_TOKEN for a gated model, or pass a local folder."
        ) from None
