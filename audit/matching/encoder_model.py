"""A sentence-transformers model from checked files: every weight there, plain text in, fp32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import MissingDependencyError, ModelError
from .encoder_files import EncoderFiles


def load_model(files: EncoderFiles, device: torch.device) -> Any:
    """The ``SentenceTransformer`` in evaluation mode.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
        ModelError: It cannot be loaded, lacks weights, or reads no plain text.
    """
    try:
        import sentence_transformers
    except ImportError as error:
        raise MissingDependencyError(
            "encoders need the package sentence-transformers. Install it with: pip install 'palimpsest-audit[offline]'"
        ) from error
    try:
        model = sentence_transformers.SentenceTransformer(
            str(files.folder),
            device=str(device),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
        _require_text(model, files)
        _require_weights(model, files)
    except ModelError:
        raise
    except Exception as error:  # hostile files can make transformers raise anything
        text = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(
            f"{files.folder} cannot be loaded as a sentence-transformers model: {type(error).__name__}: {text}. "
            "Check its configuration files."
        ) from error
    model.eval()
    model.requires_grad_(False)
    return model


def token_counts(model: Any, texts: list[str], prompt: str) -> list[int]:
    """Tokens of each text after the prompt, with both and control tokens, as far as they are read."""
    mask = model.preprocess(texts, prompt=prompt or None)["attention_mask"]
    return [int(n) for n in mask.sum(dim=1)]


def width(model: Any) -> int:
    """Numbers in a vector."""
    with torch.inference_mode():
        features = model.preprocess(["a"])
        batch = {
            name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in features.items()
        }
        return int(model(batch)["sentence_embedding"].shape[1])


def n_context(model: Any) -> int:
    """Tokens that are read; written into the tokenizer too, where that names more than the model has places for."""
    places = getattr(model.transformers_model.config.get_text_config(), "max_position_embeddings", None)
    named = model.max_seq_length
    if places is not None and (named is None or named > places):
        # Two fewer, because RoBERTa counts positions from its padding token's id plus one.
        model.max_seq_length = max(4, places - 2)
    return int(min(model.max_seq_length or 2**31, 2**31))


def _require_text(model: Any, files: EncoderFiles) -> None:
    """Refuse encoders that read images, sound or chats, and those whose tokenizer does not tell what it dropped."""
    if list(model.modalities) != ["text"] or not getattr(model.tokenizer, "is_fast", False):
        raise ModelError(
            f"{files.folder} reads {', '.join(map(str, model.modalities))} with {type(model.tokenizer).__name__}; "
            "expected an encoder of plain text with a fast tokenizer (tokenizer.json)."
        )
    model[0].unpad_inputs = False  # rows stay rows


def _require_weights(model: Any, files: EncoderFiles) -> None:
    """Refuse a checkpoint with gaps, which transformers fills with random numbers; a pooler may be missing unused."""
    inner = model.transformers_model
    _, info = type(inner).from_pretrained(
        files.transformer,
        config=inner.config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    pooled = "pooler" in str(model[0].modality_config["text"])
    lost = sorted(str(key) for key in (*info["missing_keys"], *info["mismatched_keys"]))
    lost = [key for key in lost if pooled or not key.startswith("pooler.")]
    if lost:
        raise ModelError(
            f"{files.transformer} lacks {len(lost)} weights of {type(inner).__name__}, first {lost[0]}; they would be "
            "random. Check that config.json and the weights belong together."
        )
