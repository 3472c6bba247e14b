"""``palimpsest traps generate``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ...errors import IncompleteRunError, InputError
from ...membership.score_names import EXTRA_SCORES, OF_REFERENCE, SCORES
from ...text.safe import counted, for_terminal, quoted
from .. import options
from ..endings import interrupted
from ..outputs import parts_folder
from .inject import WARN_SHARE
from .outputs import LEDGER, PUBLISHED, TABLE, Publish, Table, check_new, counts, export_tables, paths, size, tell_paths

if TYPE_CHECKING:
    from ...lm.load import LanguageModel
    from ...lm.subject import Subject
    from ...traps.config import TrapDesign
    from ...traps.generate import DrawCounts, Pool
    from ...traps.ledger.records import Ledger

Number = TypeVar("Number", int, float)


def generate(
    out: Annotated[Path, typer.Option(help="Where the ledger goes: a new .json file, kept secret until disclosure.")],
    model: Annotated[
        str | None, typer.Option(help="Draw from this model: folder of a checkpoint, or a Hugging Face id.")
    ] = None,
    words: Annotated[
        Path | None, typer.Option(help="Draw random words from this file of one word a line; needs no model.")
    ] = None,
    watermark: Annotated[
        bool, typer.Option("--watermark", help="Draw random strings (data watermarks); needs no model.")
    ] = False,
    alphabet: Annotated[
        str | None, typer.Option(help="Of --watermark: hex or letters (letters and digits). [default: hex]")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="Tokens of --model, words or characters. [default: 25,50,100]")
    ] = None,
    edges: Annotated[
        str | None, typer.Option(help="Edges of the perplexity buckets of --model. [default: 1,11,21,...,101]")
    ] = None,
    repetitions: Annotated[
        str | None, typer.Option(help="Copies that a planted trap gets, one arm for each. [default: 1,10,100,1000]")
    ] = None,
    members: Annotated[
        int | None, typer.Option(help="Planted traps for each length, bucket and number of copies. [default: 50]")
    ] = None,
    decoys: Annotated[
        int | None, typer.Option(help="Controls, never planted, for each length and bucket. [default: 200]")
    ] = None,
    temperatures: Annotated[
        str | None, typer.Option(help="Sampling temperatures of --model, swept. [default: 0.5,1,1.5,...,3.5]")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Sample --model from its k most probable tokens; 0: from all. [default: 0]")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample from the smallest set with this probability. [default: 1, all]")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Sample from tokens with this share of the top one's. [default: 0, all]")
    ] = None,
    max_similarity: Annotated[
        float | None, typer.Option(help="Largest similarity of two traps' letters, 0 to 1. [default: 0.8]")
    ] = None,
    max_jaccard: Annotated[
        float | None, typer.Option(help="Largest Jaccard similarity of two traps' sets of tokens. [default: 0.2]")
    ] = None,
    max_rounds: Annotated[
        int | None, typer.Option(help="Sampling rounds for each length before giving up. [default: 200]")
    ] = None,
    samples_per_round: Annotated[int | None, typer.Option(help="Candidates in a round. [default: 1024]")] = None,
    placement: Annotated[
        str | None, typer.Option(help="All copies of a trap in one document, or scattered. [default: document]")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="Written on both sides of each copy; \\n is a line end. [default: \\n]")
    ] = None,
    primary: Annotated[
        str | None,
        typer.Option(help="Score that claims will rest on, fixed now; ratio needs a reference model. [default: ratio]"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Reference model, fixed now by the hash of its weights: a folder, or a Hugging Face id. "
            "[default: that of --model]"
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Error rate of each family of tests, fixed now. [default: 0.05]")
    ] = None,
    n_draws: Annotated[
        int | None, typer.Option(help="Re-draws of the permutation test, fixed now. [default: 9999]")
    ] = None,
    k: Annotated[float | None, typer.Option(help="Share of tokens of Min-K%, fixed now. [default: 0.2]")] = None,
    level: Annotated[float | None, typer.Option(help="Level of the intervals, fixed now. [default: 0.95]")] = None,
    negligible_auc: Annotated[
        float | None, typer.Option(help='"Not found" excludes this AUC, fixed now. [default: 0.6]')
    ] = None,
    plan_seed: Annotated[int | None, typer.Option(help="Seed of the tests, fixed now. [default: 0]")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of draw and dealing; default a random one below 2^63, recorded. Small ones are guessed."
        ),
    ] = None,
    table: Table = None,
    publish: Publish = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away the rounds of an interrupted draw, and its seed.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hugging Face id.")] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter (folder or id) laid over the model.")] = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw one pool of traps, deal members, copies and decoys at random, and write the secret ledger.

    Give one of --model, --words and --watermark. The ledger holds what an exact p-value rests on: the pool, the
    dealing, its seed, the plan of analysis and the reference model. Commit to it (`palimpsest traps commit`) before
    anything is published, and best deal again afterwards (`palimpsest traps deal`) by a number nobody could choose.
    """
    from ...traps.config import DetectionPlan, TrapDesign

    _check_source(
        model=model,
        words=words,
        watermark=watermark,
        of_model={
            "--edges": edges,
            "--temperatures": temperatures,
            "--top-k": top_k,
            "--top-p": top_p,
            "--min-p": min_p,
            "--revision": revision,
            "--adapter": adapter,
        },
        alphabet=alphabet,
        of_words={"--max-jaccard": max_jaccard, "--max-similarity": max_similarity},
    )
    design = TrapDesign(
        **_given(
            lengths=_numbers("--lengths", lengths, int),
            perplexity_edges=_numbers("--edges", edges, float),
            repetitions=_numbers("--repetitions", repetitions, int),
            members_per_cell=members,
            decoys_per_stratum=decoys,
            temperatures=_numbers("--temperatures", temperatures, float),
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            max_jaccard=max_jaccard,
            max_similarity=max_similarity,
            separator=None if separator is None else separator.replace("\\n", "\n").replace("\\t", "\t"),
            max_rounds=max_rounds,
            samples_per_round=samples_per_round,
            placement=placement,
        )
    )
    plan = DetectionPlan(
        **_given(
            primary=primary,
            alpha=alpha,
            n_draws=n_draws,
            k=k,
            level=level,
            negligible_auc=negligible_auc,
            seed=plan_seed,
        )
    )
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"--seed is {seed}; expected 0 to {2**63 - 1}.")
    _check_reference(plan.primary, reference, model)
    check_new({"--out": (out, LEDGER), "--table": (table, TABLE), "--publish": (publish, PUBLISHED)})
    options.quiet_libraries()

    from ...progress import progress_bars
    from ...traps.generate import assign
    from ...traps.ledger.files import write_ledger
    from ...traps.ledger.make import draw_seed, make_ledger
    from ...traps.rounds import kept_seed, remove_rounds
    from ...traps.words import data_watermarks, random_words, read_words

    fixed = None if reference is None else _weights_of(reference, trust_remote_code=trust_remote_code)
    rounds = parts_folder(out)
    if seed is None:
        kept = None if restart or model is None else kept_seed(rounds)
        seed = draw_seed() if kept is None else kept
    drawn_with: Any
    with progress_bars(quiet=quiet) as progress:
        tell = partial(progress, "traps")
        if model is not None:
            subject = options.subject(
                model,
                revision=revision,
                adapter=adapter,
                dtype=dtype,
                device=device,
                device_map=device_map,
                trust_remote_code=trust_remote_code,
            )
            drawn_with, pool = _draw_from_model(subject, design, seed=seed, rounds=rounds, restart=restart, tell=tell)
            fixed = fixed or drawn_with.fingerprint.weights
        else:
            drawn_with = alphabet or "hex" if words is None else read_words(words)
            with interrupted(
                f"nothing was written. The same command with --seed {seed} draws the same pool from the start."
            ):
                if words is None:
                    pool = data_watermarks(drawn_with, design, seed=seed, on_done=tell)
                else:
                    pool = random_words(drawn_with.words, design, seed=seed, on_done=tell)
    dealt = assign(pool.candidates, design, seed=seed)
    ledger = make_ledger(
        dealt, design=design, plan=plan, seed=seed, drawn_with=drawn_with, counts=pool.counts, reference=fixed
    )
    write_ledger(out, ledger)
    if model is not None:
        remove_rounds(rounds)
    export_tables(ledger, out, table=table, publish=publish)
    needed = _needed(ledger)
    laid_over = "" if adapter is None else f" with the adapter {adapter} (named in a plan's [reference])"
    for note in _notes(ledger, needed, out, reference or f"{model}{laid_over}"):
        print(for_terminal(f"note: {note}"), file=sys.stderr)
    facts = {
        "ledger": str(out),
        "source": ledger.source,
        **counts(ledger),
        "reference": fixed,
        "to_plant": needed,
        "draw": [asdict(count) | {"rejection_rate": count.rejection_rate} for count in pool.counts],
        **paths(table=table, publish=publish),
    }
    if as_json:
        print(json.dumps(facts))
        return
    print(for_terminal(f"{size(ledger)} -> {options.shown(out)} (secret: keep it, and a copy, until disclosure)"))
    for count in pool.counts:
        print(for_terminal(f"  {_told(count)}"))
    tell_paths(facts)
    print(for_terminal(f"Before anything is published: palimpsest traps commit {options.shown(out)}"))


def _draw_from_model(
    subject: Subject, design: TrapDesign, *, seed: int, rounds: Path, restart: bool, tell: Callable[[int, int], None]
) -> tuple[LanguageModel, Pool]:
    """The generator and what was drawn from it; finished rounds are kept until the ledger is written.

    A draw that fails before its first round is finished leaves nothing behind.
    """
    from ...lm.load import load
    from ...traps.generate import generate_pool
    from ...traps.rounds import open_rounds, remove_rounds

    lm = load(subject)
    with open_rounds(rounds, lm, design, seed=seed, restart=restart) as kept:
        try:
            return lm, generate_pool(lm, design, seed=seed, rounds=kept, on_done=tell)
        except BaseException as error:
            if not kept.done():
                remove_rounds(rounds)
                if isinstance(error, KeyboardInterrupt):
                    raise IncompleteRunError(
                        f"interrupted; no round was finished, so nothing is kept. The same command with --seed {seed} "
                        "draws the same pool from the start."
                    ) from None
            raise


def _needed(ledger: Ledger) -> dict[str, int]:
    """What is to be planted with the options of `traps inject` left alone, and the least room that it needs."""
    from ...traps.planting.plant import room

    members = [trap for trap in ledger.traps if trap.arm == "member"]
    around = 2 * len(ledger.design.separator)
    return {
        "n_copies": sum(trap.n_rep for trap in members),
        "n_characters": sum(trap.n_rep * (len(trap.text) + around) for trap in members),
        **room([trap.n_rep for trap in members], ledger.design.placement)._asdict(),
    }


def _notes(ledger: Ledger, needed: dict[str, int], out: Path, reference: str) -> list[str]:
    """What can no longer be changed once the ledger is committed to."""
    copies = f"{needed['n_copies']:,} {'copy' if needed['n_copies'] == 1 else 'copies'}"
    if ledger.design.placement == "document":
        least = f"{counted(needed['n_documents'], 'document')} of {counted(needed['words_each'], 'word')} or more, each"
        least += " for one trap, with room for the most copies of any"
    else:
        least = f"documents with {counted(needed['words'], 'word')} in all"
    shares = round(needed["n_characters"] * (1 - WARN_SHARE) / WARN_SHARE)
    notes = [
        f"{copies} of {counted(counts(ledger)['n_members'], 'trap')} are to be planted. `traps inject` needs {least}; "
        f"and {counted(shares, 'character')} of text, if traps are to be {WARN_SHARE:.0%} of it at most. Whether yours "
        f"are enough, before you commit: palimpsest traps inject {options.shown(out)} SOURCE --out OUT --placements "
        "P.json --dry-run"
    ]
    if ledger.plan.reference is not None:
        needs = ledger.plan.primary in OF_REFERENCE
        use = f"claims will rest on the score {ledger.plan.primary!r}, which needs it" if needs else "where one is used"
        notes.append(
            f"the ledger fixes the reference model ({use}): {reference}, weights of SHA-256 {ledger.plan.reference}. "
            "`traps detect` takes no other: keep a copy of its folder as it is."
        )
    return notes


def _check_reference(primary: str, reference: str | None, model: str | None) -> None:
    """Refuses a plan whose reference model nobody named: it could be chosen later, by what it finds."""
    if primary not in OF_REFERENCE or reference is not None or model is not None:
        return
    others = ", ".join(score for score in SCORES if score not in (*OF_REFERENCE, *EXTRA_SCORES))
    raise InputError(
        f"claims would rest on the score {primary!r}, which compares with a reference model, and the ledger fixes "
        "which one: give --reference MODEL, one that cannot have read your texts. Or test without a reference: "
        f"--primary and one of {others}."
    )


def _weights_of(reference: str, *, trust_remote_code: bool) -> str:
    """SHA-256 of a reference's weights, as `traps detect` will compare it."""
    from ...lm.checkpoint import find_folder, fingerprint

    return fingerprint(find_folder(reference, revision=None, trust_remote_code=trust_remote_code)).weights


def _told(count: DrawCounts) -> str:
    """What became of the samples of one length."""
    reasons = {
        "another text once decoded and encoded": count.not_canonical,
        "of no bucket": count.outside,
        "too similar": count.too_similar,
    }
    because = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number)
    rejected = f"{count.rejection_rate:.1%} rejected" + (f" ({because})" if because else "")
    full = f", {count.full:,} not needed" if count.full else ""
    return f"length {count.length}: {count.sampled:,} sampled, {rejected}{full}"


def _check_source(
    *,
    model: str | None,
    words: Path | None,
    watermark: bool,
    of_model: dict[str, object],
    alphabet: str | None,
    of_words: dict[str, float | None],
) -> None:
    """Refuses flags that would be passed over in silence."""
    given = [name for name, there in (("--model", model), ("--words", words), ("--watermark", watermark)) if there]
    if len(given) != 1:
        what = " and ".join(given) + " were given" if given else "nothing to draw from"
        raise InputError(f"{what}; give one of --model FOLDER, --words FILE and --watermark.")
    for flag, value in of_model.items():
        if value is not None and model is None:
            raise InputError(f"{flag} goes with --model only; leave it out.")
    if alphabet is not None and not watermark:
        raise InputError("--alphabet goes with --watermark only; leave it out.")
    for flag, value in of_words.items():
        if value is not None and watermark:
            raise InputError(f"{flag} does not go with --watermark, whose strings are all of the same few characters.")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _numbers(flag: str, text: str | None, kind: type[Number]) -> tuple[Number, ...] | None:
    """The numbers of a list such as ``25,50,100``."""
    if text is None:
        return None
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(math.isfinite(number) for number in numbers):
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{flag} is {quoted(text)}; expected {what} with commas between, such as 25,50,100.")
    return numbers
