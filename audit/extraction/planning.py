"""From settings to a plan of samples: the chat, what opens it, and how tokens are drawn."""

from __future__ import annotations

from dataclasses import replace

from ..lm.load import LanguageModel, Tokens
from .config import SampleSettings
from .prefixes import Prefix, chat_of, encode_prefix, prefixes, preset
from .presets import Chat
from .sample import SamplePlan, plan_samples


def sample_plan(lm: LanguageModel | Tokens, settings: SampleSettings) -> SamplePlan:
    """Chat, prefixes and sampling that the settings name; of a model also the stop ids of its own configuration.

    Raises:
        InputError: No such preset, no usable template, or as in `audit.extraction.sample.plan_samples`.
        ModelError: The template cannot be read.
    """
    if settings.assistant is not None:
        chat = Chat("own", settings.prefix[0], settings.assistant)
    else:
        chat = chat_of(lm) if settings.preset is None else preset(settings.preset)
    bos = settings.bos is True
    if settings.prefix:
        numbers = range(1, len(settings.prefix) + 1)
        names = ["own"] if len(settings.prefix) == 1 else [f"own-{number}" for number in numbers]
        found = [encode_prefix(lm, text, name=name, bos=bos) for name, text in zip(names, settings.prefix, strict=True)]
    else:
        found = prefixes(lm, chat, bos=bos)
    if settings.bos is False:
        found = [_without_bos(prefix) for prefix in found]
    return plan_samples(
        lm,
        chat,
        found,
        n=settings.n,
        seed=settings.seed,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_new_tokens=settings.max_new_tokens,
    )


def _without_bos(prefix: Prefix) -> Prefix:
    if prefix.bos_from is None:
        return prefix
    return replace(prefix, text=prefix.bare_text, ids=prefix.ids[1:], bos="", bos_from=None)
