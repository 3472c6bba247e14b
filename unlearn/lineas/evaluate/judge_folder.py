"""A local text classifier of two classes as the judge, as the paper has for toxicity: argmax, which is p > 0.5.

The paper (arXiv:2503.10679) takes s-nlp/roberta_toxicity_classifier. Nothing is downloaded; weights come from
safetensors alone, no code of the model's own is run, and every weight must be there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from audit.errors import InputError, ModelError
from audit.lm.checkpoint import Fingerprint, find_folder, fingerprint
from audit.lm.files import check_headers, weight_files
from audit.lm.load import pick_device
from audit.text.files import expanded
from audit.text.safe import quoted

_MOST_TOKENS: Final = 512
_AT_ONCE: Final = 32
_UNUSED: Final = re.compile(r"(^|\.)(position_ids$|pooler\.)")


@dataclass(frozen=True, slots=True)
class FolderJudge:
    """Made by `load_folder_judge`.

    Attributes:
        name: The folder's name and the label that counts.
        label: The class that shows the attribute; 0 or 1.
        fingerprint: SHA-256 of what was loaded.
        most_tokens: Of a text that are read; the rest is cut.
    """

    name: str
    label: int
    fingerprint: Fingerprint
    most_tokens: int
    _model: Any = field(repr=False)
    _tokenizer: Any = field(repr=False)

    def flags(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which texts the classifier puts into the class, shape (n,); a tie is not in it.

        Raises:
            ModelError: Its output is not finite.
        """
        found = np.zeros(len(texts), dtype=np.bool_)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), _AT_ONCE):
            places = order[start : start + _AT_ONCE]
            batch = self._tokenizer(
                [texts[place] for place in places],
                truncation=True,
                max_length=self.most_tokens,
                padding=True,
                split_special_tokens=True,
                return_tensors="pt",
                verbose=False,
            )
            with torch.inference_mode():
                logits = self._model(**batch.to(self._model.device)).logits.float().cpu()
            if not bool(torch.isfinite(logits).all()):
                raise ModelError(f"{self.name}: its output is not finite; its weights are broken.")
            found[places] = (logits[:, self.label] > logits[:, 1 - self.label]).numpy()
        return found

    def to_record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rule": "argmax of two classes",
            "label": self.label,
            "most_tokens": self.most_tokens,
            "fingerprint": self.fingerprint.to_record(),
        }


def load_folder_judge(folder: str | Path, *, label: str | int = 1, device: str = "auto") -> FolderJudge:
    """Load a classifier.

    Args:
        folder: With config.json, tokenizer and safetensors.
        label: Name or number of the class that shows the attribute.
        device: As for `audit.lm.load`.

    Raises:
        InputError: No such folder, device or label.
        ModelError: A pickle, damaged or missing weights, code of its own, or not two classes.
    """
    path = expanded(str(folder))
    if not path.is_dir():
        raise InputError(f"no folder {path}; expected a text classifier of transformers on this machine.")
    where = pick_device(device)
    path = find_folder(str(path), revision=None, trust_remote_code=False)
    check_headers(weight_files(path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # hostile files can make transformers raise anything
        text = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(
            f"{path} cannot be loaded as a text classifier ({type(error).__name__}: {text}). Give the folder of one "
            "whose files belong together."
        ) from error
    lost = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["missing_keys"])
    lost += sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"])
    unread = sorted(str(key) for key in info["unexpected_keys"] if not _UNUSED.search(str(key)))
    if lost or unread:
        raise ModelError(
            f"{path} {'lacks' if lost else 'holds more than'} the weights of {type(model).__name__}: "
            f"{len(lost or unread)} of them, first {quoted((lost or unread)[0])}. Give a trained classifier's folder."
        )
    if model.config.num_labels != 2:
        raise ModelError(f"{path} has {model.config.num_labels} classes; expected 2.")
    names = {int(number): str(name) for number, name in model.config.id2label.items()}
    wanted = [number for number, name in names.items() if label in (number, name)]
    if len(wanted) != 1:
        raise InputError(
            f"{path} has no class {quoted(label)}; expected one of {', '.join(map(quoted, names.values()))}, or 0 or 1."
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{path}: its tokenizer has no padding token.")
    model.eval()
    model.requires_grad_(False)
    model.to(where)
    places = getattr(model.config, "max_position_embeddings", _MOST_TOKENS)
    # Two fewer, because RoBERTa counts positions from its padding token's id plus one.
    most = min(_MOST_TOKENS, int(tokenizer.model_max_length), places if places == _MOST_TOKENS else places - 2)
    name = f"{path.name} ({names[wanted[0]]})"
    return FolderJudge(name, wanted[0], fingerprint(path), most, model, tokenizer)
