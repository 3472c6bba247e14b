r"""Neighbours of a text by a masked language model, as published (arXiv:2305.18462; released code of arXiv:2406.17975).

For each place t: the word embedding of x_t goes through dropout (rate 0.7, the rest scaled by 1 / 0.3), the masked
model gives p(v | what is left of x_t, all other tokens), and the ``top_k`` likeliest v are candidates.

Departures from the released code: it feeds embeddings to which position and layer norm were already applied, so that
both come in twice; here the word embedding alone is replaced. Neighbours are spelled by the masked model's own
tokenizer; a text that this tokenizer does not give back unchanged is refused, because all its neighbours would differ
from it everywhere. A candidate that would leave half a character is passed over. Dropout is seeded by the text, not by
the order of the work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import DataError, ModelError
from ..lm.checkpoint import Fingerprint, find_folder, fingerprint
from ..lm.files import check_headers, weight_files
from ..lm.load import pick_device
from ..text.safe import quoted
from .swaps import best_swaps, never_proposed

DROPOUT = 0.7
BATCH_LOGITS = 2**25  # of the masked model at once: 128 MiB


@dataclass(frozen=True, slots=True)
class MaskedModel:
    """A masked language model in evaluation mode with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: Path
    fingerprint: Fingerprint

    def neighbours(self, text: str, *, name: str, n: int, top_k: int, seed: int) -> list[str]:
        """The n best texts that differ from ``text`` in one token; fewer where the text is short.

        Of a text that is too long for the masked model, tokens in its first part are replaced.

        Args:
            text: The text.
            name: What it is called in messages.
            n: Neighbours at most.
            top_k: Likeliest tokens of a place that are tried.
            seed: Seed of the dropout, with the text.

        Raises:
            DataError: The masked model's tokenizer does not give the text back unchanged.
        """
        ids = self._tokens(text, name)
        before, after = self._frame()
        room = self._n_context() - len(before) - len(after)
        shown = ids[:room]
        own, tokens, log_p = self._candidates([*before, *shown, *after], len(before), len(shown), top_k, text, seed)
        places, ranks = best_swaps(own, log_p, log_p.size)
        found: dict[str, None] = {}
        for t, j in zip(places, ranks, strict=True):
            neighbour = self._decode([*ids[:t], int(tokens[t, j]), *ids[t + 1 :]])
            if neighbour != text and neighbour.count("\ufffd") <= text.count("\ufffd"):
                found[neighbour] = None
            if len(found) == n:
                break
        return list(found)

    def check(self, texts: Sequence[str], *, ids: Sequence[str]) -> None:
        """Raises the `DataError` of `neighbours` for the first text that cannot have any."""
        for text, name in zip(texts, ids, strict=True):
            self._tokens(text, name)

    def _tokens(self, text: str, name: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        if self._decode(ids) != text:
            raise DataError(
                f"the tokenizer of the masked model {self.folder} does not give text {quoted(name)} back unchanged "
                "(capitals, accents or white space are lost), so every neighbour would differ from it in more than one "
                "token. Take a masked model with byte-level tokens (RoBERTa, ModernBERT), or none."
            )
        return list(ids)

    def _candidates(
        self, row: list[int], first: int, n_places: int, top_k: int, text: str, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log p of each place's own token (T,), and tokens and log p of its candidates (T, k)."""
        drops = _dropout_masks(text, seed, n_places, self._width()).to(self._device())  # (T, D)
        own, tokens, log_probs = [], [], []
        size = max(1, BATCH_LOGITS // (len(row) * int(self.model.get_input_embeddings().weight.shape[0])))
        with torch.inference_mode():
            ids = torch.tensor(row, device=self._device())
            words = self.model.get_input_embeddings()(ids)  # (L, D)
            for start in range(0, n_places, size):
                places = torch.arange(start, min(start + size, n_places), device=ids.device)  # (B,)
                embeddings = words.repeat(len(places), 1, 1)  # (B, L, D)
                embeddings[torch.arange(len(places)), first + places] *= drops[places].to(words.dtype)
                logits = self.model(inputs_embeds=embeddings).logits  # (B, L, V)
                log_p = logits[torch.arange(len(places)), first + places].float().log_softmax(-1)  # (B, V)
                target = ids[first + places][:, None]
                own.append(log_p.gather(1, target)[:, 0].cpu())
                log_p[:, never_proposed(self.tokenizer, log_p.shape[1])] = -torch.inf
                top = log_p.topk(min(top_k, log_p.shape[1]), dim=1)
                tokens.append(top.indices.cpu())
                log_probs.append(top.values.masked_fill(top.indices == target, -torch.inf).cpu())
        return torch.cat(own).double().numpy(), torch.cat(tokens).numpy(), torch.cat(log_probs).double().numpy()

    def _frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text."""
        probe = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self.tokenizer("a")["input_ids"]
        for start in range(len(whole) - len(probe) + 1):
            if whole[start : start + len(probe)] == probe:
                return list(whole[:start]), list(whole[start + len(probe) :])
        raise ModelError(f"{self.folder}: the tokenizer changes a text when it frames it with control tokens.")

    def _n_context(self) -> int:
        longest = int(getattr(self.model.config, "max_position_embeddings", 512))
        # Two fewer, because RoBERTa counts positions from its padding token's id plus one: 514 of them hold 512 tokens.
        return max(4, min(longest - 2, int(min(self.tokenizer.model_max_length, 10**9))))

    def _width(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[1])

    def _device(self) -> torch.device:
        return torch.device(self.model.get_input_embeddings().weight.device)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def load_masked(folder: str | Path, *, device: str = "auto") -> MaskedModel:
    """Load a masked language model from a folder: safetensors only, no code of its own, every weight there.

    Raises:
        InputError: No such folder, or no such device.
        ModelError: It is no masked language model, its weights are no whole safetensors, or it has no tokenizer.
    """
    path = find_folder(str(folder), revision=None, trust_remote_code=False)
    check_headers(weight_files(path))
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            device_map={"": pick_device(device)},
        )
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # hostile files can make transformers raise anything
        text = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(
            f"{path} cannot be loaded as a masked language model: {type(error).__name__}: {text}. Give a folder "
            "such as RoBERTa's, with config.json, tokenizer.json and model.safetensors."
        ) from error
    lost: list[Any] = sorted(str(key) for key in (*info["missing_keys"], *info["mismatched_keys"]))
    if lost:
        raise ModelError(
            f"{path} lacks {len(lost)} weights of {type(model).__name__}, first {lost[0]}; they would be random. Give "
            "a checkpoint with its masked-language-model head."
        )
    model.eval()
    model.requires_grad_(False)
    return MaskedModel(model, tokenizer, path, fingerprint(path))


def _dropout_masks(text: str, seed: int, n_places: int, width: int) -> Tensor:
    """0 or 1 / (1 - rate), shape (T, D), from the seed and the text alone."""
    digest = hashlib.sha256(text.encode()).digest()
    rng = np.random.Generator(
        np.random.Philox(key=np.array([seed, int.from_bytes(digest[:8], "big")], dtype=np.uint64))
    )
    kept = rng.random((n_places, width)) >= DROPOUT
    return torch.from_numpy(kept / (1 - DROPOUT))
