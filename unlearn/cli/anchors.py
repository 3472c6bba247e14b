"""``palimpsest unlearn anchors FORGET --out ANCHORS``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options
from audit.errors import InputError
from audit.text.safe import counted, for_terminal, quoted

SHOWN = 10


def anchors(
    forget: Annotated[Path, typer.Argument(help="The text to be forgotten: txt, or a folder of txt; jsonl, csv, ...")],
    out: Annotated[Path, typer.Option(help="Where the dictionary goes: .toml or .json, to be read and edited.")],
    contrast: Annotated[
        Path | None,
        typer.Option(help="Text of the same kind that the model is to keep; without it only names are found."),
    ] = None,
    min_count: Annotated[int, typer.Option(help="Occurrences of a name at least.")] = 2,
    seed: options.Seed = 0,
) -> None:
    """Find the terms that belong to a text alone, and give each a common substitute; no model and no network.

    Read the file before you use it: a term that other texts hold too is forgotten with the text.
    """
    from ..whp.anchor_files import write_anchors
    from ..whp.anchor_statistics import StatisticsPlan, anchors_from_statistics
    from .texts import whole_text

    if out.suffix.lower() not in (".toml", ".json"):
        raise InputError(f"--out {out} ends in {out.suffix or 'nothing'}; expected .toml or .json.")
    if out.exists():
        raise InputError(f"--out {out} exists, and may hold what you edited. Choose another, or remove it.")
    text = whole_text(forget)[0]
    other = None if contrast is None else whole_text(contrast)[0]
    found = anchors_from_statistics(text, other, plan=StatisticsPlan(min_count=min_count, seed=seed))
    write_anchors(out, found.anchors)
    print(for_terminal(f"{counted(len(found.anchors), 'anchor term')} -> {out}"))
    for one in list(found.anchors)[:SHOWN]:
        print(for_terminal(f"  {quoted(one.key)} -> {', '.join(map(quoted, one.substitutes))} ({one.kind})"))
    if len(found.anchors) > SHOWN:
        print(f"  and {len(found.anchors) - SHOWN:,} more in the file")
