"""The model in memory and the remedy before it, and how they answer one prompt: the playground's work with torch.

Both answers go through the rooms that audits use (`audit.answers.systems`, `audit.lm.generate`), token by token with
the same random numbers, so that a guard that lets a prompt pass and a steering at strength 0 give the model's own
answer to the bit.
"""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audit.answers.formats import PromptFormat
from audit.answers.systems import Bare, Prepared
from audit.errors import InputError, ModelError
from audit.lm.generate import Sampling, generate
from audit.lm.hooks import pre_hooked
from audit.lm.load import LanguageModel, load
from audit.lm.sharing import out_of_memory
from audit.lm.subject import Subject
from audit.text.files import expanded
from unlearn.eco.guard import EcoGuard
from unlearn.eco.guard_files import load_guard, read_guard
from unlearn.lineas.files import load_maps, require_model
from unlearn.lineas.maps import Maps
from unlearn.lineas.steer import steered

from .asked import Asked, CancelledError

BASE, REMEDIED = "base", "remedied"
Tell = Callable[[Mapping[str, Any]], None]
_BETWEEN = 0.1  # seconds between two words on how far an answer is


class Pair:
    """One model in memory, with one remedy or none; another question may put others in their place.

    A remedy with weights of its own is a second model beside the first.

    Args:
        tell: Hears of each step, in plain JSON values.
        stop: Is set where the question that runs is to end.
    """

    def __init__(self, tell: Tell, stop: threading.Event) -> None:
        self._tell, self._stop = tell, stop
        self._base_key: Any = None
        self._remedy_key: Any = None
        self._lm: LanguageModel | None = None
        self._remedy: Any = None  # EcoGuard, maps, or LanguageModel

    def answer(self, asked: Asked) -> None:
        """Both answers, told as they grow.

        Raises:
            InputError, ModelError, DataError: A folder holds something else, or the prompt does not fit.
            CancelledError: In between; what is loaded stays.
        """
        lm = self._loaded(asked)
        remedy = self._with_remedy(asked, lm)
        form = self._form(asked, lm)
        bare = Bare(lm, form)
        if isinstance(remedy, EcoGuard):
            self._stage("The guard reads the prompt")
            behind = remedy.prepare([asked.prompt])
            self._tell(_decision(remedy, behind, read_guard(asked.remedy_folder).evidence))
            self._say(BASE, bare, asked)
            self._say(REMEDIED, remedy, asked)
            return
        self._say(BASE, bare, asked)
        if isinstance(remedy, LanguageModel):
            self._say(REMEDIED, Bare(remedy, form), asked)
        elif remedy is not None:
            self._say(REMEDIED, bare, asked, maps=remedy)

    # What is loaded

    def _loaded(self, asked: Asked) -> LanguageModel:
        key = (asked.model, asked.adapter, asked.dtype, _marks(asked.model), _marks(asked.adapter))
        if self._lm is None or key != self._base_key:
            self._lm = self._remedy = self._base_key = self._remedy_key = None
            _release()
            self._lm = self._load(asked.model, asked.adapter, asked.dtype, "the model")
            self._base_key = key
        self._tell({"event": "loaded", "what": BASE, **_facts(self._lm)})
        return self._lm

    def _with_remedy(self, asked: Asked, lm: LanguageModel) -> Any:
        if asked.remedy is None:
            return None  # one that is loaded stays for the next question
        key = (self._base_key, asked.remedy, asked.remedy_folder, _marks(asked.remedy_folder, below=True))
        if self._remedy is None or key != self._remedy_key:
            self._remedy = self._remedy_key = None
            _release()
            self._remedy = self._load_remedy(asked, lm)
            self._remedy_key = key
        if isinstance(self._remedy, LanguageModel):
            self._tell({"event": "loaded", "what": REMEDIED, **_facts(self._remedy)})
        return self._remedy

    def _load_remedy(self, asked: Asked, lm: LanguageModel) -> EcoGuard | Maps | LanguageModel:
        folder = asked.remedy_folder
        if asked.remedy == "guard":
            self._stage("Loading the guard and its classifier")
            return load_guard(folder, lm)
        if asked.remedy == "steering":
            self._stage("Loading the maps")
            maps, record = load_maps(folder)
            require_model(record, lm, maps, folder=folder)
            return maps
        if asked.remedy == "adapter":
            if asked.adapter is not None:
                raise InputError("the model has an adapter already, and a second one cannot be laid over it.")
            return self._load(asked.model, folder, asked.dtype, "the model with the adapter")
        return self._load(folder, None, asked.dtype, "the remedied model")

    def _load(self, model: str, adapter: str | None, dtype: str, what: str) -> LanguageModel:
        self._look()
        folders = [Path(one) for one in (model, adapter) if one is not None]
        self._stage(f"Loading {what}", n_bytes=sum(_size(folder) for folder in folders))
        return load(Subject(model=model, adapter=adapter, dtype=dtype))  # type: ignore[arg-type]

    # What is said

    def _form(self, asked: Asked, lm: LanguageModel) -> PromptFormat:
        if isinstance(self._remedy, EcoGuard) and asked.remedy == "guard":
            form = self._remedy.form
        elif asked.put == "auto":
            form = PromptFormat("text" if lm.tokenizer.chat_template is None else "chat")
        else:
            form = PromptFormat(asked.put, *((asked.prefix, asked.suffix) if asked.put == "text" else ()))
        form.encode(lm, asked.prompt)  # a model without a template is refused here, by a message that says so
        self._tell({"event": "format", "kind": form.kind, "prefix": form.prefix, "suffix": form.suffix})
        return form

    def _say(self, side: str, system: Bare, asked: Asked, *, maps: Maps | None = None) -> None:
        lm = system.lm
        n_prompt = len(system.encoded([asked.prompt])[0].ids)
        most = min(asked.max_new_tokens, lm.n_context - n_prompt)
        if most < 1:
            raise InputError(
                f"the prompt has {n_prompt:,} tokens, and the model reads at most {lm.n_context:,} with its answer. "
                "Shorten it."
            )
        self._tell({"event": "begins", "side": side, "most": most})
        prepared = system.prepare([asked.prompt])
        sampling = Sampling(most, temperature=asked.temperature, top_p=asked.top_p, stop_ids=system.stop_ids)
        began = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(system.corrupting(prepared))
            if maps is not None:
                stack.enter_context(steered(lm.model, maps, asked.strength))
            stack.enter_context(self._watched(side, lm))
            try:
                (found,) = generate(lm, prepared.rows(), sampling=sampling, seed=asked.seed, batch_size=1, halve=False)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise ModelError("memory runs out on this prompt; ask for fewer tokens, or a smaller model.") from error
        self._tell(
            {
                "event": "answer",
                "side": side,
                "text": _text(lm, found.token_ids),
                "n": len(found.token_ids),
                "stopped": found.stopped,
                "seconds": time.monotonic() - began,
            }
        )

    @contextmanager
    def _watched(self, side: str, lm: LanguageModel) -> Iterator[None]:
        """Tells of each token as it goes back into the model, and stops between layers where somebody asked to."""
        tokens: list[int] = []
        last = 0.0
        first = True

        def before(_module: nn.Module, _args: Any, named: dict[str, Any]) -> None:
            nonlocal last, first
            if not first:
                tokens.append(int(named["input_ids"][0, -1]))
            first = False
            if tokens and time.monotonic() - last > _BETWEEN:
                last = time.monotonic()
                self._tell({"event": "grows", "side": side, "n": len(tokens), "text": _text(lm, tokens)})

        def look(_module: nn.Module, _args: Any, _named: dict[str, Any]) -> None:
            self._look()

        lists = [list(module) for module in lm.model.modules() if isinstance(module, nn.ModuleList)]
        layers: list[nn.Module] = max(lists, key=len, default=[])
        with ExitStack() as stack:
            stack.enter_context(pre_hooked(lm.model, before))
            for one in [lm.model, *layers]:
                stack.enter_context(pre_hooked(one, look))
            try:
                yield
            except CancelledError:
                self._tell({"event": "grows", "side": side, "n": len(tokens), "text": _text(lm, tokens)})
                raise

    def _stage(self, told: str, n_bytes: int = 0) -> None:
        self._look()
        self._tell({"event": "stage", "told": told, "n_bytes": n_bytes})

    def _look(self) -> None:
        if self._stop.is_set():
            raise CancelledError


def _decision(guard: EcoGuard, prepared: Prepared, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """What the guard says of the prompt, and what its threshold promises."""
    verdict = prepared.verdicts[0]
    settings = guard.settings
    score, threshold = float(verdict.score), guard.judge.threshold
    return {
        "event": "guard",
        "flagged": bool(verdict.flagged),
        "score": score if math.isfinite(score) else None,  # None: a part of it cannot be read
        "threshold": threshold if math.isfinite(threshold) else None,
        "target": settings.target,
        "n_corrupted": sum(int(mask.sum()) for mask, _ in prepared.layers),
        "n_prompt": len(prepared.encoded[0].ids),
        "corruption": f"{settings.corruption.function}, strength {settings.corruption.strength:g}",
        "names": guard.judge.matcher is not None,
        "promise": evidence.get("threshold"),
    }


def _facts(lm: LanguageModel) -> dict[str, Any]:
    return {
        "architecture": type(lm.model).__name__,
        "n_parameters": lm.n_parameters,
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "device": str(lm.device),
        "n_context": lm.n_context,
        "weights": lm.fingerprint.weights,
    }


def _text(lm: LanguageModel, tokens: Any) -> str:
    return str(lm.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


def _marks(folder: str | None, *, below: bool = False) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a folder's files: a model that was trained further there is another one."""
    if folder is None:
        return ()
    found = []
    for place, _, names in os.walk(expanded(folder)):
        for name in names:
            path = Path(place, name)
            with suppress(OSError):
                told = path.stat()
                found.append((str(path), told.st_size, told.st_mtime_ns))
        if not below:
            break
    return tuple(sorted(found))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in expanded(str(folder)).glob("*.safetensors") if path.is_file())


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
