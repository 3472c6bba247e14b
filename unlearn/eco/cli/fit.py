"""``palimpsest eco fit MODEL --forget FILE --retain FILE --target TEXT --out DIR``."""

from __future__ import annotations

from typing import Annotated

import typer

from audit.cli import options

from . import flags
from .from_flags import run_tables


def fit(
    model: flags.Model,
    forget: flags.Forget,
    retain: flags.Retain,
    target: Annotated[str, typer.Option(help="What is to be forgotten, in a few words.")],
    out: flags.Out,
    never: Annotated[
        str | None,
        typer.Option(help="Rows in the same template about what the model never met: they give the target."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The model before it was taught; gives the target where there is no --never.")
    ] = None,
    surrogate: Annotated[
        list[float] | None, typer.Option(help="The target itself, one for each metric, in their order.")
    ] = None,
    names: Annotated[str | None, typer.Option(help="Names of what is to be forgotten, one a line.")] = None,
    others: Annotated[
        str | None, typer.Option(help="Other names, one a line; in their place in training prompts: hard negatives.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Highest rate of prompts that may pass and are flagged.")] = 0.01,
    turns: Annotated[
        int,
        typer.Option(
            min=1, help="Above 1, --alpha is promised for whole conversations of up to so many prompts of a user."
        ),
    ] = 1,
    alpha_forget: Annotated[
        float | None, typer.Option(help="Highest rate of misses; needs rewordings (paraphrased_question).")
    ] = None,
    on_both: Annotated[
        str, typer.Option(help="With --alpha-forget, where both labels are plausible: corrupt or pass.")
    ] = "corrupt",
    on_none: Annotated[str, typer.Option(help="Likewise, where neither is.")] = "corrupt",
    group_field: Annotated[
        str | None, typer.Option(help="Field of the retain file (a language): the promise is kept for each value.")
    ] = None,
    function: Annotated[str, typer.Option(help="How embeddings are corrupted.")] = "rand_noise_first_n",
    dims: Annotated[int | None, typer.Option(help="Numbers of each embedding that are changed. [default: 1]")] = None,
    strength: Annotated[float | None, typer.Option(help="Given, nothing is searched.")] = None,
    selection: Annotated[
        str,
        typer.Option(help="Tokens that are corrupted: all (but the last), names, or tagger (what --tagger marks)."),
    ] = "all",
    tagger: Annotated[
        str | None,
        typer.Option(help="Folder of a token classifier in safetensors, such as bert-base-NER's; kept in the guard."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="probability, rouge or accuracy; more than one may be given. [default: probability; "
            "accuracy with --choices]"
        ),
    ] = None,
    scope: Annotated[
        str,
        typer.Option(
            help="How far the corruption reaches where the search scores answers: prompt, as in use, or prompt+answer, "
            "as in the paper's code."
        ),
    ] = "prompt",
    method: Annotated[
        str, typer.Option(help="How the strength is searched: scan, grid, distance or published.")
    ] = "scan",
    lower: Annotated[float, typer.Option(help="Weakest strength that is searched.")] = 0.1,
    upper: Annotated[float, typer.Option(help="Strongest; less where the model's dtype holds less.")] = 1e4,
    choices: flags.Choices = False,
    cluster_size: flags.ClusterSize = None,
    prompt_format: Annotated[
        str, typer.Option("--format", help="chat (the tokenizer's template), or text: --prefix and --suffix around it.")
    ] = "chat",
    prefix: Annotated[str, typer.Option(help=r"Of the format text; \n in it is a new line.")] = "",
    suffix: Annotated[str, typer.Option(help=r"Likewise, such as '\nAnswer:'.")] = "",
    classifier: Annotated[
        str, typer.Option(help="embedding (sentence vectors and kernel logistic regression) or fine-tuned.")
    ] = "embedding",
    encoder: flags.Encoder = None,
    start: Annotated[
        str | None, typer.Option(help="Encoder that is fine-tuned, such as RoBERTa-base's folder.")
    ] = None,
    show_text: flags.ShowText = False,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Embedding-corrupted prompts (arXiv:2406.07933): fit a guard that stands before a model and never changes it.

    A classifier learns which prompts are about what is to be forgotten, held-out prompts set its threshold, and the
    strength of the corruption is searched until the model answers as if it had never learnt. The weights keep what they
    know. Killed at any moment, the same command goes on.
    """
    eco = {
        "model": model,
        "forget": forget,
        "retain": retain,
        "target": target,
        "never": never,
        "base": base,
        "surrogate": surrogate,
        "names": names,
        "others": others,
        "alpha": alpha,
        "turns": turns,
        "alpha_forget": alpha_forget,
        "on_both": on_both,
        "on_none": on_none,
        "group_field": group_field,
        "function": function,
        "dims": dims,
        "strength": strength,
        "selection": selection,
        "tagger": tagger,
        "metric": metric,
        "scope": scope,
        "choices": choices,
        "cluster_size": cluster_size,
        "format": prompt_format,
        "prefix": prefix.replace("\\n", "\n"),  # a shell leaves it as two characters
        "suffix": suffix.replace("\\n", "\n"),
        "classifier": classifier,
        "encoder": encoder,
        "start": start,
        "show_text": show_text,
        "seed": seed,
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
    }
    search = {"method": method, "lower": lower, "upper": upper, "start": lower}
    run_tables({"eco": eco, "eco.search": search}, "fit", out=out, quiet=quiet, as_json=as_json)
