"""Find a checkpoint's files, refuse what is unsafe or broken, and fingerprint what will be loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError
from ..text.files import sha256_file
from ..text.safe import did_you_mean
from .subject import Subject

CONFIG_FILES = ("config.json", "generation_config.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


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
    config = {name: sha256_file(folder / name) for name in CONFIG_FILES if (folder / name).is_file()}
    tokenizer = {name: sha256_file(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()}
    # Code that a checkpoint brings along decides what is computed, so it counts as configuration.
    config |= {path.name: sha256_file(path) for path in sorted(folder.glob("*.py"))}
    if adapter is not None:
        weights |= {f"adapter/{path.name}": sha256_file(path) for path in sorted(adapter.glob("*.safetensors"))}
        config |= {"adapter/adapter_config.json": sha256_file(adapter / "adapter_config.json")}
    return Fingerprint(_combined(weights), _combined(config), _combined(tokenizer), {**weights, **config, **tokenizer})


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that transformers would load from ``folder``, in order of names.

    Raises:
        ModelError: There are none (only a pickle, say), or a shard that the index names is missing.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():  # transformers prefers the single file as well
        return [single]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} is not a safetensors index: {error}. Copy the file again.") from None
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise ModelError(f"{index} names a shard outside the folder: {outside[0]!r}. Do not load it.")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                f"{folder} lacks {len(missing)} of {len(names)} weight shards, first {missing[0]}. "
                "Copy the missing files into the folder."
            )
        return [folder / name for name in names]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"{folder} holds its weights only as a pickle ({pickles[0]}), which can run code when it is read. "
            "Palimpsest loads safetensors only. Where you trust the file, convert it in an isolated place: "
            "model.save_pretrained(folder) in transformers writes model.safetensors."
        )
    raise ModelError(
        f"{folder} holds no weights; expected model.safetensors or a safetensors index beside config.json."
    )


def is_local(model: str) -> bool:
    """Whether a name can only be a folder of this machine, not a Hugging Face id."""
    path = Path(model).expanduser()
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
    return [*weight_files(folder), *(adapter / "adapter_model.safetensors" for adapter in adapters)]


def find_folder(model: str, *, revision: str | None, trust_remote_code: bool) -> Path:
    """The folder of a checkpoint: ``model`` itself, or the local snapshot of a Hugging Face id.

    Raises:
        InputError: It is neither a folder nor an id.
        ModelError: The folder is no checkpoint, or the id cannot be fetched.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        if revision is not None:
            raise InputError(
                f"revision {revision!r} was given with the folder {path}; leave it out, or name a Hugging Face id."
            )
        folder = path
    elif path.exists():
        raise InputError(f"{path} is a file; expected the folder that holds config.json and model.safetensors.")
    elif is_local(model):
        raise InputError(f"no folder {path}.{_nearest(path)} Expected a checkpoint folder or an id owner/name.")
    else:
        folder = _snapshot(model, revision=revision, trust_remote_code=trust_remote_code)
    _check_config(folder)
    weight_files(folder)
    return folder


def find_adapter(adapter: str) -> Path:
    """The folder of a PEFT adapter in safetensors, checked like `find_folder`."""
    path = Path(adapter).expanduser()
    if not path.is_dir():
        if path.exists() or adapter.startswith(("/", "./", "../", "~")) or adapter.count("/") != 1:
            raise InputError(f"no adapter folder {path}.{_nearest(path)} Expected a folder with adapter_config.json.")
        path = _snapshot(adapter, revision=None, trust_remote_code=False)
    if not (path / "adapter_config.json").is_file():
        raise ModelError(f"{path} holds no adapter_config.json; expected a PEFT adapter.")
    if not (path / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"{path} holds no adapter_model.safetensors (a pickle such as adapter_model.bin is not loaded). "
            "Save the adapter again with peft, which writes safetensors."
        )
    return path


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))


def _check_config(folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{folder} holds no config.json; expected a Hugging Face checkpoint folder.")
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{config} is not readable JSON: {error}. Copy the file again.") from None
    if not isinstance(content, dict) or "model_type" not in content:
        raise ModelError(f'{config} names no "model_type"; expected a transformers configuration.')


def _snapshot(model: str, *, revision: str | None, trust_remote_code: bool) -> Path:
    """Download the safe files of a Hugging Face id into the hub's cache and return their folder."""
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.jinja", "tokenizer.model"]
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
