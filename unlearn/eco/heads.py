"""An encoder with a head, from a local folder: safetensors only, no code of its own, every weight there.

Long texts are read in windows of the tokens that the model takes, each beginning half a window after the last, so that
nothing is dropped. Windows are cut from the tokens and not from the text: each has exactly the tokens that it had
inside the whole. What users write is text: the name of a control token in it is not read as that token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from audit.errors import InputError, ModelError
from audit.lm.checkpoint import Fingerprint, find_folder, fingerprint
from audit.lm.files import check_headers, weight_files
from audit.lm.load import pick_device
from audit.lm.sharing import out_of_memory
from audit.matching.encode import BATCH_TOKENS, DEVICE_BATCH_TOKENS
from audit.stats.checks import count
from audit.text.files import expanded, sha256_file
from audit.text.safe import quoted

WINDOW: Final = 512  # tokens, control tokens included
LEAST: Final = 8
_AT_ONCE: Final = 2**20  # characters that are tokenised together
_LAYER: Final = re.compile(r"(^|\.)(layers?|h|blocks?)\.\d+\.")
_UNUSED: Final = re.compile(r"(^|\.)(position_ids$|pooler\.)")
_LOST: Final = ("missing_keys", "mismatched_keys")


class Window(NamedTuple):
    """A part of a text as the model reads it.

    Attributes:
        owner: Place of its text.
        ids: Token ids, control tokens included.
        offsets: Characters (start, end) of each token in the whole text; (0, 0) of control tokens.
        words: Number of the word of each token, counted in the whole text; None of control tokens.
        seen: Whether any token is one that the tokenizer knows.
    """

    owner: int
    ids: list[int]
    offsets: list[tuple[int, int]]
    words: list[int | None]
    seen: bool


@dataclass(frozen=True, slots=True)
class Head:
    """A model with a head and its tokenizer, in evaluation mode and float32; made by `load_head`.

    Attributes:
        model: The transformers model.
        tokenizer: A fast one.
        fingerprint: SHA-256 of what was loaded.
        window: Tokens of a window, control tokens included.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: Fingerprint
    window: int

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def windows(self, texts: Sequence[str], sizes: Sequence[int] = ()) -> list[Window]:
        """The windows of all texts; those of one text that are equal come once, a text of white space has none.

        Args:
            texts: Any texts.
            sizes: Tokens of a window, each at least 8, cut in turn; none for the widest that the model reads.

        Raises:
            InputError: A text is no string or holds half of a surrogate pair, or a size is too small.
        """
        widths = dict.fromkeys(min(self.window, count(size, "sizes", least=LEAST)) for size in sizes or [self.window])
        found: list[Window] = []
        group: list[int] = []
        size = 0
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"text {place} is a {type(text).__name__}; expected a string.")
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise InputError(f"text {place} holds half of a surrogate pair, which is no character. Remove it.")
            if text.strip():
                group.append(place)
                size += len(text)
            if size >= _AT_ONCE:
                found += self._cut(texts, group, list(widths))
                group, size = [], 0
        return found + self._cut(texts, group, list(widths))

    def _cut(self, texts: Sequence[str], places: Sequence[int], widths: Sequence[int]) -> list[Window]:
        """Windows of some texts, text after text."""
        found: dict[tuple[int, tuple[int, ...]], Window] = {}
        control = set(self.tokenizer.all_special_ids)  # the one for what is unknown among them
        for width in widths if places else ():
            free = width - self.tokenizer.num_special_tokens_to_add()
            batch = self.tokenizer(
                [texts[place] for place in places],
                truncation=True,
                max_length=width,
                stride=free - free // 2,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                split_special_tokens=True,
                verbose=False,
            )
            parts = zip(batch["overflow_to_sample_mapping"], batch["input_ids"], batch["offset_mapping"], strict=True)
            for (sample, ids, offsets), encoding in zip(parts, batch.encodings, strict=True):
                owner = places[sample]
                window = Window(owner, ids, offsets, encoding.word_ids, not control.issuperset(ids))
                found.setdefault((owner, tuple(ids)), window)
        return list(found.values())

    def logits(self, windows: Sequence[Window], on_done: Callable[[int], None] | None = None) -> list[Tensor]:
        """The head's output for each window, in their order, float32 on the CPU; windows of like length together.

        Raises:
            InputError: Memory runs out.
            ModelError: An output is not finite.
        """
        found: list[Tensor | None] = [None] * len(windows)
        n_done = 0
        for rows in self._batches([len(window.ids) for window in windows]):
            batch = padded([windows[row].ids for row in rows], self.tokenizer, self.device)
            try:
                with torch.inference_mode():
                    outputs = self.model(**batch).logits.float().cpu()
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise InputError(
                    f"memory runs out while {len(rows)} windows of up to {batch['input_ids'].shape[1]} tokens are read "
                    f"on {self.device}. Take another device."
                ) from error
            if not bool(torch.isfinite(outputs).all()):
                raise ModelError(
                    "the classifier's output is not finite; its weights are broken. Load or train it anew."
                )
            for row, output in zip(rows, outputs, strict=True):
                # A tagger has an output for each token; those of padding are left out.
                found[row] = output if output.dim() == 1 else output[: len(windows[row].ids)]
            n_done += len(rows)
            if on_done is not None:
                on_done(n_done)
        return [one for one in found if one is not None]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        budget = BATCH_TOKENS.get(self.device.type, DEVICE_BATCH_TOKENS)
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        while order:
            n = max(1, budget // lengths[order[0]])
            yield order[:n]
            order = order[n:]


def padded(
    rows: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> dict[str, Tensor]:
    """Ids and attention mask of a batch, shape (B, T), padded on the right."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), int(tokenizer.pad_token_id))
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(list(row))
        mask[place, : len(row)] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, and in those in it, by its path inside."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def load_head(
    folder: str | Path,
    kind: Any,
    *,
    device: str = "auto",
    window: int = WINDOW,
    settings: dict[str, Any] | None = None,
    may_lack_head: bool = False,
) -> Head:
    """Load a model with a head.

    Args:
        folder: With config.json, a fast tokenizer and safetensors; nothing is downloaded.
        kind: ``AutoModelForSequenceClassification``, for one.
        device: As for `audit.lm.load`.
        window: Tokens of a window at most; fewer where the model has places for fewer.
        settings: Of the configuration, in place of the file's.
        may_lack_head: Whether weights outside the encoder may be missing, which are then drawn at random from torch's
            generator, and what a pretraining left over is not read.

    Raises:
        InputError: No such folder or device, or a window of fewer than 8 tokens.
        ModelError: Weights that are a pickle, damaged or missing; code of its own; a tokenizer that is not the
            model's; or a model that does not read plain text.
    """
    count(window, "window", least=LEAST)
    path = expanded(str(folder))
    if not path.is_dir():
        raise InputError(f"no folder {path}; expected a transformers model on this machine.")
    where = pick_device(device)
    path = find_folder(str(path), revision=None, trust_remote_code=False)
    check_headers(weight_files(path))
    model, tokenizer = _loaded(path, kind, settings or {}, may_lack_head)
    window = min(window, _places(path, model, tokenizer))
    head = Head(model, tokenizer, fingerprint(path), window)
    _try_out(path, head)
    try:
        model.to(where)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise InputError(f"memory runs out while {path} is moved to {where}; use another device.") from error
    return head


def _loaded(
    path: Path, kind: Any, settings: dict[str, Any], may_lack_head: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        for name, value in settings.items():
            setattr(config, name, value)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        model, info = kind.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # hostile files can make transformers raise anything
        text = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(
            f"{path} cannot be loaded as an encoder with a head ({kind.__name__}; {type(error).__name__}: {text}). "
            "Give the folder of an encoder such as BERT or RoBERTa whose files belong together, and of a head that "
            "fits, or of none."
        ) from error
    lost = sorted(str(key[0] if isinstance(key, tuple) else key) for name in _LOST for key in info[name])
    unread = sorted(map(str, info["unexpected_keys"]))
    if may_lack_head:
        encoder = f"{model.base_model_prefix}."
        lost = [name for name in lost if name.startswith(encoder) and not name.startswith(f"{encoder}pooler.")]
        unread = [name for name in unread if _LAYER.search(name)]  # what only a pretraining uses may be left over
    else:
        unread = [name for name in unread if not _UNUSED.search(name)]
    if lost or unread:
        what = "lacks" if lost else "holds more than"
        raise ModelError(
            f"{path} {what} the weights of {type(model).__name__}: {len(lost or unread)} of them, first "
            f"{quoted((lost or unread)[0])}. Its configuration and its weights do not belong together, or it has no "
            "such head: copy the whole model again, or take another."
        )
    model.eval()
    model.requires_grad_(False)
    return model, tokenizer


def _places(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the model reads at once; the tokenizer is checked on the way."""
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise ModelError(
            f"{path}: the tokenizer {'has no padding token' if tokenizer.is_fast else 'is not a fast one'}; expected "
            "tokenizer.json of an encoder. Save it again with transformers."
        )
    n_rows = int(model.get_input_embeddings().weight.shape[0])
    highest = max(tokenizer.get_vocab().values())
    if highest >= n_rows:
        raise ModelError(
            f"{path}: the tokenizer has ids up to {highest:,}, the model {n_rows:,} embedding rows, so they do not "
            "belong together. Put the model's own tokenizer files beside its weights."
        )
    named = min(int(tokenizer.model_max_length), WINDOW * 2**10)
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(places, int) and named > places:
        # Two fewer, because RoBERTa counts positions from its padding token's id plus one.
        named = places - 2
    if named < LEAST:
        raise ModelError(f"{path}: the model reads {named} tokens at once; expected {LEAST} or more.")
    return named


def _try_out(path: Path, head: Head) -> None:
    """One window of the full length, on the CPU, where a place that is not there is an error that can be told."""
    ids = [int(head.tokenizer.pad_token_id == 0)] * head.window  # any token but padding
    try:
        with torch.inference_mode():
            shape = head.model(**padded([ids], head.tokenizer, head.device)).logits.shape
    except Exception as error:  # hostile files can make transformers raise anything
        raise ModelError(
            f"{path}: {type(head.model).__name__} does not read {head.window} tokens of plain text: "
            f"{type(error).__name__}: {quoted(str(error), limit=200)}. Check max_position_embeddings and the tokenizer."
        ) from error
    if shape[-1] != head.model.config.num_labels:
        raise ModelError(f"{path}: the head has {shape[-1]} outputs for {head.model.config.num_labels} labels.")
