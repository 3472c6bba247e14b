"""Which settings of a plan must agree before two runs are compared, kind by kind.

A setting that stands in neither list counts as one that matters, so a new one can never slip through unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

Standing = Literal["matters", "told", "free", "unknown"]


@dataclass(frozen=True, slots=True)
class Declared:
    """The settings of one table of a plan. Names are below the table; ``*`` stands for anything, dots included.

    Attributes:
        matters: Two runs with different values are refused: their numbers mean different things.
        told: May differ, and the table of results says so.
        free: May differ: it names what is compared, or where and how fast it ran; or the hash of the file that it names
            stands among the inputs.
    """

    matters: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

    def standing(self, name: str) -> Standing:
        """Of a setting below this table; what is nested in a declared one stands as that."""
        lists: tuple[tuple[Standing, tuple[str, ...]], ...] = (
            ("matters", self.matters), ("told", self.told), ("free", self.free),
        )  # fmt: skip
        for standing, patterns in lists:
            if any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns):
                return standing
        return "unknown"


@dataclass(frozen=True, slots=True)
class Kind:
    """How runs of one kind are compared.

    Attributes:
        tables: Table of the plan -> its settings.
        subject: Role of the model that is compared.
        instruments: Roles of models that are part of the measurement: their weights must agree.
        inputs: Audit -> names of its inputs, where a run may hold several audits; an input of an audit that not all
            runs made is passed over.
    """

    tables: Mapping[str, Declared]
    subject: str
    instruments: tuple[str, ...] = ()
    inputs: Mapping[str, tuple[str, ...]] | None = None


_LOADING = ("revision", "device", "device_map", "trust_remote_code")
_FIT = (  # how maps of activations are fitted
    "method", "optimizer", "lr", "final_lr", "steps", "batch", "gamma", "l1", "group", "floor", "microbatch",
    "checkpointing", "check_every", "patience", "forced",
)  # fmt: skip
_SCORES = ("scores", "neighbours", "masked")
_MEASURES = Declared(  # of a guard
    matters=(
        "gold", "noise_seeds", "max_rows", "max_new_tokens", "passage_tokens", "choices", "cluster_size", "seed",
    ),
    told=("dtype",),
    free=(
        *_LOADING, "model", "guard", "forget", "retain", "general", "real_authors", "world_facts", "passages",
        "baselines", "latency_prompts", "latency_rounds", "encoder", "show_text",
    ),
)  # fmt: skip

KINDS: Final[Mapping[str, Kind]] = {
    "audit": Kind(
        tables={
            "schema_version": Declared(matters=("",)),
            "policy": Declared(free=("",)),  # it judges the numbers and makes none
            "subject": Declared(told=("dtype",), free=(*_LOADING, "model", "adapter")),
            "reference": Declared(told=("dtype",), free=(*_LOADING, "model", "adapter")),
            "traps": Declared(
                matters=(
                    *_SCORES, "context_tokens", "truncate", "primary", "alpha", "k", "n_draws", "negligible_auc",
                    "level", "seed", "fixed_reference",
                ),
                free=("ledger", "table", "commitment", "placements", "planted", "shots"),
            ),
            "membership": Declared(
                matters=(
                    *_SCORES, "field", "id_field", "unit", "skip_bad_lines", "truncate", "primary", "k", "level",
                    "n_splits", "n_checks", "seed",
                ),
                free=("suspect", "validation", "shots"),
            ),
            "extraction": Declared(
                matters=(
                    "divided_at_random", "question_field", "answer_field", "id_field", "skip_bad_lines", "base",
                    "prefix", "preset", "assistant", "bos", "n", "temperature", "top_p", "top_k", "max_new_tokens",
                    "likelihood_questions", "threshold", "primary", "target", "least_words", "string_floor",
                    "near_duplicate", "negligible", "alpha", "level", "seed", "sampled",
                ),
                free=(
                    "train", "held_out", "generations", "base_generations", "batch_size", "encoder", "device", "cache",
                ),
            ),
            "inputs": Declared(
                matters=(
                    "traps", "ledger of *", "placements of *", "shots", "suspect", "validation", "train", "held out",
                    "encoder", "base generations",
                ),
                told=("generations",),
                free=("policy",),
            ),
        },
        subject="subject",
        instruments=("reference",),
        inputs={
            "traps": ("traps", "ledger of *", "placements of *", "shots"),
            "membership": ("suspect", "validation", "shots"),
            "extraction": ("train", "held out", "encoder", "generations", "base generations"),
        },
    ),
    "retraining": Kind(
        tables={
            "retraining": Declared(
                matters=(
                    "preset", "bos", "question_field", "answer_field", "id_field", "skip_bad_lines", "seeds", "seed",
                    "level",
                ),
                free=(
                    "base", "revision", "generations", "train", "held_out", "template_from", "keep_models",
                    "trust_remote_code",
                ),
            ),
            "recipe": Declared(matters=("*",)),
            "chat": Declared(matters=("*",)),
            "inputs": Declared(matters=("train", "held out"), told=("generations",)),
        },
        subject="base",
        instruments=("base",),
    ),
    "unlearning": Kind(
        tables={
            "unlearn": Declared(
                matters=("block", "seed"),
                told=("dtype",),
                free=(
                    *_LOADING, "model", "show_text", "forget", "retain", "held_out", "contrast", "prompts", "anchors",
                    "method", "retain_term", "retain_weight", "forget_weight", "weights", "rate", "steps", "batch_size",
                    "evaluate_every", "whp", "npo", "simnpo", "refusal", "rmu", "task_vector",
                ),
            ),
            # Without held-out text a tenth of the retained text is held out, so that text decides what is measured.
            "inputs": Declared(matters=("forget", "retain", "held_out", "contrast", "prompts"), free=("anchors",)),
        },
        subject="baseline",
    ),
    "eco": Kind(
        tables={
            "eco": Declared(
                matters=(
                    "target", "surrogate", "alpha", "alpha_forget", "turns", "group_field", "metric", "scope",
                    "max_new_tokens", "choices", "cluster_size", "format", "prefix", "suffix", "n_each", "seed",
                    "shares", "search.level",
                    *(f"evaluate.{name}" for name in _MEASURES.matters),
                ),
                told=("dtype",),
                free=(
                    *_LOADING, "model", "forget", "retain", "never", "base", "names", "others", "on_both", "on_none",
                    "function", "dims", "strength", "selection", "tagger", "ratio", "classifier", "encoder", "start",
                    "inverse_penalty", "show_text", "search", "fine_tuning",
                    *(f"evaluate.{name}" for name in _MEASURES.free),
                ),
            ),
            "inputs": Declared(
                matters=(
                    "forget", "retain", "never", "general", "real_authors", "world_facts", "passages",
                ),
                free=("names", "others", "tagger", "tagger_config"),
            ),
        },
        subject="model",
    ),
    "eco-evaluation": Kind(
        tables={
            "evaluate": _MEASURES,
            "inputs": Declared(
                matters=("forget", "retain", "general", "real_authors", "world_facts", "passages"), free=("guard",)
            ),
        },
        subject="model",
    ),
    "steer": Kind(
        tables={
            "steer": Declared(
                matters=(
                    "field", "sites", "loss_sites", "pooling", "skip_bos", "max_tokens", "held_out", "neurons",
                    "over_sites", "seed",
                ),
                told=("dtype",),
                free=(*_LOADING, *_FIT, "model", "source", "target"),
            ),
            "inputs": Declared(matters=("source", "target")),
        },
        subject="model",
    ),
    "steer-evaluation": Kind(
        tables={
            "evaluate": Declared(
                matters=(
                    "field", "sentences", "primer", "max_rows", "concept", "opening", "continuations", "max_new_tokens",
                    "temperature", "top_p", "max_tokens", "seed",
                ),
                told=("dtype",),
                free=(
                    *_LOADING, *_FIT, "model", "steering", "strengths", "truthfulqa", "choices", "neutral", "source",
                    "target", "sites", "loss_sites", "pooling", "skip_bos", "held_out", "neurons", "over_sites",
                ),
            ),
            "inputs": Declared(
                matters=("truthfulqa", "choices", "neutral"), told=("source", "target"), free=("steering-*",)
            ),
        },
        subject="model",
    ),
    "remediation": Kind(
        tables={
            "schema_version": Declared(matters=("",)),
            "policy": Declared(free=("",)),  # it judges the numbers and makes none
            "subject": Declared(told=("dtype",), free=(*_LOADING, "model", "adapter")),
            "gold": Declared(told=("dtype",), free=(*_LOADING, "model", "adapter")),
            "gold_2": Declared(told=("dtype",), free=(*_LOADING, "model", "adapter")),
            "forget": Declared(matters=("cluster_size", "found_by"), free=("rows", "texts", "names", "target")),
            "keep": Declared(matters=("cluster_size",), free=("rows", "texts")),
            "general": Declared(matters=("cluster_size",), free=("rows", "texts")),
            "never": Declared(matters=("cluster_size",), free=("rows", "texts")),
            "format": Declared(matters=("kind", "prefix", "suffix")),
            "utility": Declared(
                matters=("tasks.*.kind", "tasks.*.limit"), free=("real_authors", "world_facts", "tasks")
            ),
            "audits": Declared(matters=("*",)),
            "remedies": Declared(free=("*",)),
            "verify": Declared(matters=("*",)),
            "show_text": Declared(free=("",)),
            "inputs": Declared(matters=("*.*",), free=("policy",)),
        },
        subject="subject",
        instruments=("gold",),
    ),
    "steer-sweep": Kind(
        tables={
            "sweep": Declared(
                matters=(
                    "field", "goal", "validation", "encoder", "judge_folder", "judge_label", "max_new_tokens",
                    "temperature", "top_p", "samples", "max_tokens", "seed",
                ),
                told=("dtype", "choose", "rule", "most_percent"),
                free=(
                    *_LOADING, "model", "steering", "prompts", "wanted", "unwanted", "neutral", "target_text",
                    "neither", "source", "target", "instruction", "baselines", "strengths", "baseline_strengths",
                    "strength", "show_text",
                ),
            ),
            "inputs": Declared(
                matters=("prompts", "wanted", "unwanted", "neutral", "target_text", "neither", "source", "target"),
                free=("steering-*",),
            ),
        },
        subject="model",
    ),
}  # fmt: skip
