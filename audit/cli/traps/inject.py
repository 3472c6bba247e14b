"""``palimpsest traps inject|remove``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputError
from ...text.safe import counted, for_terminal, quoted
from .. import options
from ..endings import interrupted
from .outputs import LedgerFile

if TYPE_CHECKING:
    from ...traps.planting.plant import Planting, Told

WARN_SHARE = 0.01  # of the whole corpus; our choice
WARN_SHARE_OF_DOCUMENT = 0.1


def inject(
    ledger: LedgerFile,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="File or folder: .jsonl, .csv, .tsv, .parquet, .txt, .md, .html. It is only read."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the planted copy goes: a new file or folder.")],
    placements: Annotated[
        Path,
        typer.Option(help="Where it is written where each copy stands: a new .json file, as secret as the ledger."),
    ],
    field: Annotated[str, typer.Option(help="Field or column with the text (not for .txt, .md, .html).")] = "text",
    id_field: Annotated[
        str | None, typer.Option(help="Field or column that names the document. [default: file and line]")
    ] = None,
    html: Annotated[
        str, typer.Option(help="Copies in .html: visible, or hidden in a span that browsers do not show.")
    ] = "visible",
    min_words: Annotated[
        int, typer.Option(min=1, help="Documents with fewer words are no hosts. Published: above 5,000 tokens.")
    ] = 1,
    placement: Annotated[
        str | None, typer.Option(help="document or scattered, when it is not to be as in the ledger.")
    ] = None,
    neighbourhood: Annotated[
        bool, typer.Option("--neighbourhood", help="All copies of a trap before consecutive words of its document.")
    ] = False,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of a checkpoint: also record the token offset of each copy.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the positions; default a random one below 2^63, recorded.")
    ] = None,
    variants: Annotated[
        Path | None,
        typer.Option(help="Near copies from `traps fuzz`, planted in place of all copies of a trap but the first."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compute and tell everything, the seed too; write nothing.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Plant a ledger's members into your files: a copy of them is written, the decoys nowhere.

    See with --dry-run whether your documents are enough, then publish or time-stamp the commitment (`palimpsest traps
    commit`), then plant. `palimpsest traps remove` brings every byte back. Files of other kinds are copied as they are;
    hidden ones are left out.
    """
    if html not in ("visible", "hidden"):
        raise InputError(f"--html is {quoted(html)}; expected visible or hidden.")
    if placement not in (None, "document", "scattered"):
        raise InputError(f"--placement is {quoted(placement)}; expected document or scattered.")
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"--seed is {seed}; expected 0 to {2**63 - 1}.")
    real = Path(os.path.realpath(ledger))
    if Path(os.path.realpath(source)) in real.parents:
        raise InputError(f"the ledger {ledger} lies in the source {source}, and would go out with it. Move it away.")
    options.quiet_libraries()

    from ...progress import progress_bars
    from ...traps.fuzzy.files import read_variants
    from ...traps.ledger.files import read_ledger
    from ...traps.ledger.make import check_ledger, draw_seed
    from ...traps.planting.files import token_starts
    from ...traps.planting.hosts.document import HostOptions
    from ...traps.planting.plant import Planting, plant

    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    chosen = placement or opened.design.placement
    if neighbourhood and chosen == "scattered":
        by = "" if placement else " by the ledger's design"
        raise InputError(
            f"--neighbourhood keeps the copies of a trap together, and the placement is scattered{by}; add "
            "--placement document or leave --neighbourhood out."
        )
    members = {trap.id for trap in opened.traps if trap.arm == "member"}
    planting = Planting(
        ledger=opened,
        host=HostOptions(opened.design.separator, field, id_field, html),  # type: ignore[arg-type]  # checked above
        placement=chosen,  # type: ignore[arg-type]  # checked above
        seed=draw_seed() if seed is None else seed,
        neighbourhood=neighbourhood,
        min_words=min_words,
        tokenizer=None if tokenizer is None else token_starts(tokenizer),
        variants={} if variants is None else read_variants(variants, members, whole=True),
    )
    anew = (
        f"nothing was written. The same command with --seed {planting.seed} plants at the same places, from the start."
    )
    with interrupted(anew), progress_bars(quiet=quiet) as progress:
        told = plant(planting, source, out, placements, dry_run=dry_run, progress=progress)
    for note in _notes(planting, told, out):
        print(for_terminal(f"note: {note}"), file=sys.stderr)
    if as_json:
        print(json.dumps(_facts(planting, told, out, placements, dry_run=dry_run)))
        return
    _tell(planting, told, out, placements, dry_run=dry_run)


def remove(
    placements: Annotated[
        Path, typer.Argument(metavar="PLACEMENTS", help="What `traps inject` wrote with --placements.")
    ],
    planted: Annotated[
        Path, typer.Argument(metavar="PLANTED", help="The file or folder that it wrote, unchanged. It is only read.")
    ],
    out: Annotated[Path, typer.Option(help="Where the restored file or folder goes: a new one.")],
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Take all copies out again: the files as they were before, byte for byte, or none."""
    options.quiet_libraries()

    from ...progress import progress_bars
    from ...traps.planting.restore import restore

    with (
        interrupted("nothing was written. The same command starts from the beginning."),
        progress_bars(quiet=quiet) as progress,
    ):
        done = restore(placements, planted, out, progress=progress)
    if done.others:
        print(
            for_terminal(
                f"note: {counted(len(done.others), 'file')} of {options.shown(planted)} came there after planting and "
                f"{'is' if len(done.others) == 1 else 'are'} not in {options.shown(out)}: {_some(done.others)}"
            ),
            file=sys.stderr,
        )
    if as_json:
        facts = {"restored": str(out), "n_files": done.n_files, "n_planted": done.n_planted, "n_copies": done.n_copies}
        print(json.dumps({**facts, "n_bytes": done.n_bytes, "not_restored": list(done.others)}))
        return
    copies = f"{done.n_copies:,} {'copy' if done.n_copies == 1 else 'copies'}"
    print(
        for_terminal(
            f"{copies} taken out of {counted(done.n_planted, 'file')}; {counted(done.n_files, 'file')} as before, byte "
            f"for byte (SHA-256) -> {options.shown(out)}"
        )
    )


def _notes(planting: Planting, told: Told, out: Path) -> list[str]:
    """What the user should know before anything is published."""
    from ...traps.planting.hosts.markdown import MARKS
    from ...traps.planting.whole import left_over

    kinds = told.kinds()
    notes = []
    if told.share > WARN_SHARE:
        notes.append(f"{told.share:.1%} of the planted text is traps; filters and readers may notice more than 1%.")
    if told.largest[0] > WARN_SHARE_OF_DOCUMENT:
        notes.append(
            f"{told.largest[0]:.1%} of {told.largest[1]} is traps; repetition and deduplication filters drop such "
            "documents. Longer documents (--min-words) or fewer repetitions make the share smaller."
        )
    if planting.placement != planting.ledger.design.placement:
        notes.append(f"the ledger's design says {planting.ledger.design.placement}; planted {planting.placement}.")
    unused = sum(max(0, len(trap.variants) - trap.n_rep + 1) for trap in planting.members())
    if unused:
        notes.append(
            f"{counted(unused, 'variant')} {'is' if unused == 1 else 'are'} not planted: of a trap with n copies the "
            "first is exact, and n - 1 variants take the place of the others."
        )
    if kinds["html"] and planting.host.html == "hidden":
        notes.append(
            "text extractors that drop hidden elements drop these traps too; search engines may penalise hidden text; "
            "screen readers are told to skip it (aria-hidden), but not all do."
        )
    if kinds["markdown"]:
        marked = sum(bool(MARKS.search(trap.text)) for trap in planting.members())
        if marked:
            notes.append(
                f"{counted(marked, 'trap')} hold characters that Markdown may read as marks; the files hold them as "
                "they are, a rendered page may not."
            )
    if told.n_without_text:
        notes.append(
            f"{counted(told.n_without_text, 'record')} without a text (null, missing or half a surrogate pair)."
        )
    others = [file.name for file in told.sources.files if file.kind == "other"]
    for names, what in (
        (others, "copied as it is"),
        (told.sources.hidden, "hidden, left out"),
        (told.sources.links, "a link to a folder, left out"),
    ):
        if names:
            notes.append(f"{what}: {_some(names)}")
    if told.kept_bytes:
        notes.append(
            f"parquet cannot be brought back byte for byte from what is planted, so the originals ({told.kept_bytes:,} "
            "bytes) are kept in a folder *.originals beside the placements: keep the two in one folder."
        )
    notes += [f"{path} is left of a start that was broken off; it can be deleted." for path in left_over(out)]
    return notes


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _tell(planting: Planting, told: Told, out: Path, placements: Path, *, dry_run: bool) -> None:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(told.kinds().items()))
    slots, copies, place = told.shortest
    lines = [
        f"{counted(len(told.sources.files), 'file')} ({kinds}), {counted(told.n_documents, 'document')}, "
        f"{told.n_hosts:,} of them long enough",
        f"{counted(told.n_traps, 'trap')}, {told.n_copies:,} {'copy' if told.n_copies == 1 else 'copies'} in "
        f"{counted(told.n_planted, 'document')}; shortest: {place}, {counted(slots, 'word position')} for {copies:,}",
        f"traps are {told.share:.2%} of the planted text, at most {told.largest[0]:.1%} of one ({told.largest[1]})",
    ]
    if dry_run:
        lines.append(f"nothing was written (--dry-run); with --seed {planting.seed} copies go to these very places")
    else:
        lines.append(f"planted -> {options.shown(out)}")
        lines.append(f"placements -> {options.shown(placements)} (secret: they tell which texts are members)")
    for line in lines:
        print(for_terminal(line))


def _facts(planting: Planting, told: Told, out: Path, placements: Path, *, dry_run: bool) -> dict[str, object]:
    return {
        "planted": None if dry_run else str(out),
        "placements": None if dry_run else str(placements),
        "seed": planting.seed,
        "placement": planting.placement,
        "n_files": len(told.sources.files),
        "kinds": dict(sorted(told.kinds().items())),
        "n_documents": told.n_documents,
        "n_hosts": told.n_hosts,
        "n_without_text": told.n_without_text,
        "n_planted_documents": told.n_planted,
        "n_traps": told.n_traps,
        "n_copies": told.n_copies,
        "share": told.share,
        "largest_share": {"value": told.largest[0], "document": told.largest[1]},
        "shortest_host": dict(zip(("word_positions", "copies", "document"), told.shortest, strict=True)),
        "kept_bytes": told.kept_bytes,
        "hidden": list(told.sources.hidden),
        "links": list(told.sources.links),
    }
