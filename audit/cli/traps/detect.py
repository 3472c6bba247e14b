"""``palimpsest traps detect LEDGER --model MODEL``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ...errors import InputError
from ...text.safe import quoted
from .. import options
from ..plan_text import model_tables, plan_text
from .outputs import LedgerFiles

NAME = Path("detect")  # of the plan that the flags stand for, and of the run's default folder


def detect(
    ledger: LedgerFiles,
    model: Annotated[str, typer.Option(help="Model under audit: folder of a checkpoint, or a Hugging Face id.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Model that never saw the traps, for the ratio: the one that the ledger fixed, if it did."),
    ] = None,
    commitment: Annotated[
        list[str] | None, typer.Option(help="What was published beforehand; checked. OWNER=... with several ledgers.")
    ] = None,
    placements: Annotated[
        list[str] | None,
        typer.Option(help="What `traps inject` wrote; adds a test of each document. OWNER=... with several ledgers."),
    ] = None,
    planted: Annotated[
        list[str] | None,
        typer.Option(help="The planted text itself, for --context-tokens. OWNER=... with several ledgers."),
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option(help="Also read traps after so many tokens of the text before a copy.")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(help="Further scores: ratio_of_losses, min_20, zlib_rate, lowercase, neighbourhood, recall."),
    ] = None,
    shots: Annotated[str | None, typer.Option(help="Texts that no model here saw, for the score recall.")] = None,
    neighbours: Annotated[
        int | None, typer.Option(help="Neighbours of each trap, for the score neighbourhood. [default: 50]")
    ] = None,
    masked: Annotated[
        str | None, typer.Option(help="Masked model that proposes neighbours; default the model under audit.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/detect-<hash of the plan>.")
    ] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Score the first tokens of traps longer than the context.")
    ] = False,
    revision: options.Revision = None,
    adapter: options.Adapter = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    resume: Annotated[bool, typer.Option(help="Go on with a run of the same flags that was interrupted.")] = True,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Test whether a model was trained on the traps of a ledger; write scores, findings and a report.

    The plan of analysis is the ledger's, fixed before publication. Several ledgers, each as OWNER=FILE, are tested
    together with a correction for their number. The run keeps the plan that these flags stand for.
    Exit code: 0 when the audit ended with an answer, 4 when it is inconclusive or confounded, 2 for bad input.
    """
    from ...runs.plan import parse_plan
    from ..audit import execute, tell
    from ..audit_plan import AuditPlan

    tables = model_tables(
        model,
        reference,
        revision=revision,
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    tables["traps"] = {
        "ledger": _of_owners("LEDGER", ledger),
        "commitment": _of_owners("--commitment", commitment),
        "placements": _of_owners("--placements", placements),
        "planted": _of_owners("--planted", planted),
        "context_tokens": context_tokens,
        "scores": None if scores is None else [part.strip() for part in scores.split(",")],
        "shots": shots,
        "neighbours": neighbours,
        "masked": masked,
        "truncate": truncate,
    }
    text = plan_text(tables, made_by="palimpsest traps detect")
    plan = parse_plan(text, AuditPlan, source="the flags")
    run = execute(plan, text, Path.cwd() / NAME, source=None, out=out, resume=resume, quiet=quiet)
    sys.exit(tell(run, as_json=as_json))


def _of_owners(flag: str, given: list[str] | None) -> str | dict[str, str] | None:
    """A single value, or owner -> value from OWNER=VALUE; a file whose name holds "=" can be given as ./a=b."""
    if not given:
        return None
    if len(given) == 1 and ("=" not in given[0] or "/" in given[0].split("=")[0]):
        return given[0]
    found: dict[str, str] = {}
    for one in given:
        owner, equals, value = one.partition("=")
        if not (owner and equals and value):
            raise InputError(f"{flag} {quoted(one)}: with several, give each as OWNER=VALUE, such as Ann=ann.json.")
        if owner in found:
            raise InputError(f"{flag} names the owner {quoted(owner)} twice; give every owner once.")
        found[owner] = value
    return found
