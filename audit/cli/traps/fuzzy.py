"""``palimpsest traps fuzz``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ...text.safe import counted, for_terminal
from .. import options
from ..endings import interrupted
from .outputs import PUBLISHED, LedgerFile, check_new

if TYPE_CHECKING:
    import pyarrow as pa

    from ...lm.load import LanguageModel, Tokens
    from ...traps.fuzzy.design import FuzzyDesign
    from ...traps.fuzzy.variants import Proposer, Variant


def fuzz(
    ledger: LedgerFile,
    out: Annotated[Path, typer.Option(help="Where the variants go: a new .jsonl or .parquet.")],
    kind: Annotated[str, typer.Option(help="replace, insert, shuffle or scatter.")] = "replace",
    model: Annotated[
        str | None, typer.Option(help="Model that proposes replacements: folder or Hugging Face id.")
    ] = None,
    masked: Annotated[bool, typer.Option("--masked", help="--model is a masked model, as RoBERTa is.")] = False,
    random: Annotated[
        bool, typer.Option("--random", help="Replace by any token of the vocabulary; needs --tokenizer only.")
    ] = False,
    tokenizer: Annotated[
        str | None, typer.Option(help="Whose tokens the traps are cut into. [default: those of --model]")
    ] = None,
    n_dup: Annotated[int, typer.Option(help="Copies of a trap, the exact one included; one variant fewer.")] = 10,
    replacements: Annotated[int | None, typer.Option(help="replace: tokens of each variant. [default: 10]")] = None,
    positions: Annotated[
        str | None,
        typer.Option(help="replace: fresh for each variant, same for all, spread evenly, segments. [default: fresh]"),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="replace: draw from the model's top k. [default: 10]")] = None,
    ngram: Annotated[
        int | None, typer.Option(help="insert, shuffle, scatter: length of n-grams. [default: 10]")
    ] = None,
    insertions: Annotated[int | None, typer.Option(help="insert: tokens between two n-grams. [default: 1]")] = None,
    tau: Annotated[float | None, typer.Option(help="shuffle: Kendall tau distance. [default: 0.2]")] = None,
    seed: options.Seed = 0,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Make near copies of a ledger's members, to be planted beside one exact copy; never of a decoy.

    replace changes tokens, insert puts random ones between n-grams, shuffle permutes n-grams, scatter gives the n-grams
    alone, each to be planted at a place of its own. A trap whose variants cannot be made is left out and named.
    """
    from ...traps.fuzzy.design import FuzzyDesign

    _check_flags(
        kind, model, masked, random, tokenizer, top_k,
        {"--replacements": replacements, "--positions": positions, "--top-k": top_k},
        {"--ngram": ngram}, {"--insertions": insertions}, {"--tau": tau},
    )  # fmt: skip
    given = {"replacements": replacements, "positions": positions, "ngram": ngram, "insertions": insertions, "tau": tau}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    design = FuzzyDesign(kind=kind, n_dup=n_dup, **chosen)  # type: ignore[arg-type]  # checked there, with a message
    check_new({"--out": (out, PUBLISHED)})
    options.quiet_libraries()
    from ...progress import progress_bars
    from ...text.tables import write_table
    from ...traps.fuzzy.proposers import codec, ordinary_tokens
    from ...traps.fuzzy.variants import make_variants
    from ...traps.ledger.files import read_ledger
    from ...traps.ledger.make import check_ledger

    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    members = [trap for trap in opened.traps if trap.arm == "member"]
    tokens, propose = _sources(
        design, model, masked, random, tokenizer, 10 if top_k is None else top_k, dtype=dtype, device=device
    )
    codes, vocabulary = codec(tokens), ordinary_tokens(tokens)
    made: list[Variant] = []
    failed: dict[str, str] = {}
    n_other = 0
    anew = f"nothing was written. The same command with --seed {seed} makes the same variants."
    with interrupted(anew), progress_bars(quiet=quiet) as progress:
        for done, trap in enumerate(members):
            progress("traps", done, len(members))
            ids = codes.encode(trap.text)
            n_other += trap.token_ids is not None and list(trap.token_ids) != ids
            try:
                made += make_variants(
                    trap.id, ids, design, codec=codes, seed=seed, propose=propose, vocabulary=vocabulary
                )
            except InputError as error:
                failed[trap.id] = str(error)
        progress("traps", len(members), len(members))
    if not made:
        raise InputError(f"no variant could be made of any of {len(members):,} members. {next(iter(failed.values()))}")
    write_table(out, _table(made, design))
    n_traps = len(members) - len(failed)
    facts = {"variants": str(out), "n_variants": len(made), "n_traps": n_traps, "failed": failed}
    facts |= {"seed": seed, "n_cut_otherwise": n_other, "design": asdict(design)}
    facts |= {"proposer": "random" if random else model, "tokenizer": tokenizer or model}
    _note(failed, n_other)
    if as_json:
        print(json.dumps(facts))
        return
    what = "piece" if kind == "scatter" else "variant"
    print(for_terminal(f"{counted(len(made), what)} of {counted(n_traps, 'trap')} -> {options.shown(out)}"))
    if kind == "scatter":
        print("Put each at a place of its own by hand, and one exact copy; `traps inject` plants no pieces.")
    else:
        print("`traps inject --variants` plants them beside one exact copy of their trap.")
    print("Give the file to `traps simulate --variants` first.")


def _check_flags(
    kind: str,
    model: str | None,
    masked: bool,
    random: bool,
    tokenizer: str | None,
    top_k: int | None,
    of_replace: dict[str, object],
    of_ngrams: dict[str, object],
    of_insert: dict[str, object],
    of_shuffle: dict[str, object],
) -> None:
    """Refuses flags that would be passed over in silence, and a kind without what it needs."""
    kinds = {"replace": of_replace, "insert": of_insert | of_ngrams, "shuffle": of_shuffle | of_ngrams}
    kinds["scatter"] = of_ngrams
    if kind not in kinds:
        raise InputError(f"--kind is {kind!r}; expected one of {', '.join(kinds)}.")
    for flag, value in (of_replace | of_ngrams | of_insert | of_shuffle).items():
        if value is not None and flag not in kinds[kind]:
            fitting = " or ".join(name for name, flags in kinds.items() if flag in flags)
            raise InputError(f"{flag} goes with --kind {fitting} only; leave it out.")
    if kind == "replace":
        if random == (model is not None):
            what = "both were given" if random else "neither was given"
            raise InputError(f"replacements come from --model FOLDER or from --random; {what}.")
        if random and top_k is not None:
            raise InputError("--top-k does not go with --random, which draws from all tokens; leave it out.")
        if random and tokenizer is None:
            raise InputError("--random needs --tokenizer FOLDER, whose vocabulary is drawn from.")
        if masked and random:
            raise InputError("--masked goes with --model; leave it out.")
    elif masked or random:
        raise InputError(f"{'--masked' if masked else '--random'} goes with --kind replace only; leave it out.")
    elif (model is None) == (tokenizer is None):
        raise InputError(f"--kind {kind} needs a tokenizer and no model; give --tokenizer FOLDER alone.")


def _sources(
    design: FuzzyDesign,
    model: str | None,
    masked: bool,
    random: bool,
    tokenizer: str | None,
    top_k: int,
    *,
    dtype: str,
    device: str,
) -> tuple[LanguageModel | Tokens, Proposer | None]:
    """The tokenizer of the traps, and what proposes replacements."""
    from ...lm.load import load, load_tokens
    from ...membership.masked import load_masked
    from ...traps.fuzzy import proposers

    def asked(name: str) -> Any:
        return options.subject(
            name, revision=None, adapter=None, dtype=dtype, device=device, device_map=None, trust_remote_code=False
        )

    if design.kind != "replace":
        return load_tokens(asked(tokenizer or model or "")), None
    if random:
        tokens = load_tokens(asked(tokenizer or ""))
        return tokens, proposers.random_proposer(proposers.ordinary_tokens(tokens))
    assert model is not None
    if masked:
        tokens = load_tokens(asked(tokenizer or model))
        return tokens, proposers.masked_proposer(load_masked(model, device=device), tokens, top_k=top_k)
    if tokenizer is not None:
        raise InputError("--tokenizer does not go with a causal --model, which proposes its own tokens; leave it out.")
    lm = load(asked(model))
    return lm, proposers.causal_proposer(lm, top_k=top_k)


def _table(made: list[Variant], design: FuzzyDesign) -> pa.Table:
    import pyarrow as pa

    whole, many = pa.int64(), pa.list_(pa.int64())
    columns = {
        "trap_id": pa.array([variant.trap_id for variant in made], pa.string()),
        "variant": pa.array([variant.number for variant in made], whole),
        "piece": pa.array([variant.piece for variant in made], whole),
        "text": pa.array([variant.text for variant in made], pa.string()),
        "kind": pa.array([variant.kind for variant in made], pa.string()),
        "positions": pa.array([design.positions if design.kind == "replace" else None] * len(made), pa.string()),
        "n_replaced": pa.array([len(one.places) if one.kind == "replace" else None for one in made], whole),
        "ngram": pa.array([None if design.kind == "replace" else design.ngram] * len(made), whole),
        "insertions": pa.array([design.insertions if design.kind == "insert" else None] * len(made), whole),
        "tau": pa.array([design.tau if design.kind == "shuffle" else None] * len(made), pa.float64()),
        "places": pa.array([list(variant.places) for variant in made], many),
        "token_ids": pa.array([list(variant.token_ids) for variant in made], many),
        "seed": pa.array([variant.seed for variant in made], whole),
        "distance": pa.array([variant.distance for variant in made], whole),
        "shared_with_original": pa.array([variant.shared_with_original for variant in made], whole),
        "shared_among_variants": pa.array([variant.shared_among_variants for variant in made], whole),
    }
    return pa.table(columns)


def _note(failed: dict[str, str], n_other: int) -> None:
    if failed:
        trap_id, why = next(iter(failed.items()))
        note = f"note: {counted(len(failed), 'trap')} left without variants; first, {trap_id}: {why}"
        print(for_terminal(note), file=sys.stderr)
    if n_other:
        print(
            for_terminal(
                f"note: {counted(n_other, 'trap')} cut otherwise than by the generator's tokenizer, so places and "
                "distances count the tokens of this one."
            ),
            file=sys.stderr,
        )
