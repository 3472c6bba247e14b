"""Which files of a checkpoint are loaded, and whether they are there, whole and readable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError

CONFIG_FILES = ("config.json", "generation_config.json")
# Patterns, because tokenizer_config.json can name versions (tokenizer.4.0.0.json) and vocabularies vary in name.
TOKENIZER_FILES = (
    "tokenizer*.json",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*.json",
    "vocab*.txt",
    "merges*.txt",
    "*.model",
    "*.tiktoken",
    "chat_template.jinja",
)
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def config_files(folder: Path) -> list[Path]:
    """Configuration, and code that a checkpoint brings along: it decides what is computed."""
    return [folder / name for name in CONFIG_FILES if (folder / name).is_file()] + sorted(folder.glob("*.py"))


def tokenizer_files(folder: Path) -> list[Path]:
    """Everything a tokenizer may be built from, in order of names."""
    return sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()})


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
        return [folder / name for name in _shards(index)]
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


def _shards(index: Path) -> list[str]:
    """Names of the shards in an index, all of them files beside it."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        strange = [name for name in names if not isinstance(name, str)]
        if strange:
            raise ValueError(f"{strange[0]!r} is no file name")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{index} is not a safetensors index: {error}. Copy the file again.") from None
    outside = sorted(name for name in names if Path(name).name != name)
    if outside:
        raise ModelError(f"{index} names a shard outside the folder: {outside[0]!r}. Do not load it.")
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        raise ModelError(
            f"{index.parent} lacks {len(missing)} of {len(names)} weight shards, first {missing[0]}. "
            "Copy the missing files into the folder."
        )
    return sorted(names)


def check_headers(paths: Iterable[Path]) -> None:
    """Read the header of each safetensors file.

    Raises:
        ModelError: A file is cut short, or no safetensors at all.
    """
    from safetensors import SafetensorError, safe_open

    for path in paths:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise ModelError(f"{path} is not a whole safetensors file: {error}. Copy the file again.") from None


def check_readable(paths: Iterable[Path]) -> None:
    """Open each file, so that one that this user may not read is met here, by name."""
    for path in paths:
        with path.open("rb"):
            pass


@contextmanager
def permissions_named() -> Iterator[None]:
    """Inside, a folder or file that this user may not read is a `ModelError` that names it."""
    try:
        yield
    except PermissionError as error:
        raise ModelError(
            f"{error.filename}: permission denied. Let this user read the model's files (chmod -R u+rX FOLDER)."
        ) from None
