"""``palimpsest runs seal|verify|disclose|check-proof|export``; what they need is imported when they are used."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import DataError, InputError
from . import options

if TYPE_CHECKING:
    from ..runs.seal.check import Checked
    from ..runs.seal.disclose import Proof
    from ..runs.seal.record import Signed
    from ..runs.seal.signing import SigningKey

KEY_VARIABLE = "PALIMPSEST_SIGNING_KEY"
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.")]
PublicKey = Annotated[
    Path | None, typer.Option(help="The key that must have signed: PEM, OpenSSH, raw or hexadecimal.")
]
Head = Annotated[str | None, typer.Option(help="The head that was published: 64 hexadecimal digits.")]


def register(app: typer.Typer) -> None:
    """Adds the verbs to ``palimpsest runs``."""
    app.command()(seal)
    app.command()(verify)
    app.command()(disclose)
    app.command("check-proof")(check_proof)
    app.command()(export)


def seal(
    run: RunFolder,
    key: Annotated[
        Path | None, typer.Option(help=f"Ed25519 key to sign with; default: the variable {KEY_VARIABLE}, or none.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy that the release is judged by; the one that the run was begun with.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Seal a complete run: hash every file, chain the hashes to the plan, and write seal.json.

    Publish the head that is printed. Without that or a signature by a known key, a seal shows nothing against whoever
    holds the folder, for they can seal it anew.
    """
    from ..progress import progress_bars
    from ..runs.seal.make import seal_run

    if policy is not None and not policy.is_file():
        raise InputError(f"there is no policy {policy}. Give the file.")
    signing = _signing_key(key, run)
    with progress_bars(quiet=quiet) as progress:
        sealed = seal_run(run, key=signing, policy=policy, progress=progress)
    record = sealed.record
    if as_json:
        told = {"how": sealed.how, "run": record.heading.id, "head": record.head, "public_key": record.public_key}
        print(json.dumps(told | {"files": record.heading.files.count, "tables": record.heading.tables.count}, indent=2))
        return
    size = sum(entry.size for entry in record.files)
    first = {
        "sealed": "sealed",
        "signed": "sealed already, now signed as well; the head is what it was",
        "unchanged": "sealed already, and nothing differs",
    }[sealed.how]
    _say(
        [
            f"{options.shown(run)}: {first}: {record.heading.files.count:,} files ({size / 1e6:,.1f} MB), "
            f"{record.heading.tables.count:,} tables whose rows can be disclosed one by one",
            f"head       {record.head}",
            f"opening    {record.heading.opening_sha256 or 'none: an older version made this run, or it was removed'}",
            f"policy     {record.heading.policy_sha256 or 'none'}"
            + (f" ({record.heading.policy_named})" if record.heading.policy_named else ""),
            f"signed by  {record.public_key or 'nobody'}",
            "",
            *_what_it_shows(record, pinned=False),
        ]
    )


def _signing_key(path: Path | None, run: Path) -> SigningKey | None:
    """The key of ``--key``, else that of the environment."""
    from ..runs.seal.signing import parse_key, read_key

    if path is not None:
        return read_key(path, run=run)
    told = os.environ.get(KEY_VARIABLE, "")
    return parse_key(told.encode("utf-8", "surrogateescape"), where=KEY_VARIABLE) if told.strip() else None


def verify(
    run: RunFolder,
    public_key: PublicKey = None,
    head: Head = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Also compute the roots over the rows of each table anew.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare a sealed run with its seal, and name everything that was changed since.

    Exit code 0: as it was sealed. 2: it is not, or it is not sealed. Give the published --head or the sealer's
    --public-key: without either, a run that was changed and sealed anew passes.
    """
    from ..progress import progress_bars
    from ..runs.seal.check import parse_head, verify_run
    from ..runs.seal.signing import read_public_key

    known_head = None if head is None else parse_head(head)
    known_key = None if public_key is None else read_public_key(public_key)
    with progress_bars(quiet=quiet) as progress:
        checked = verify_run(run, head=known_head, public_key=known_key, rows=rows, progress=progress)
    if as_json:
        print(json.dumps(_checked_json(checked), indent=2))
        sys.exit(2 if checked.problems else 0)
    if checked.is_of_another:
        raise DataError(
            f"{run} agrees with its own seal, and the seal is not the one that you expect:\n{checked.listed()}\n"
            "Give the head and the key that were published, or find out who sealed it anew."
        )
    if checked.problems:
        raise DataError(
            f"{run} is not as it was sealed; it cannot be relied on:\n{checked.listed()}\nRestore it from a copy that "
            "verifies."
        )
    record = checked.record
    assert record is not None  # there would be a problem
    notes = [f"note: {note}" for note in checked.notes]
    _say(
        [
            f"{options.shown(run)} is as it was sealed on {record.heading.created}: "
            f"{record.heading.files.count:,} files, {checked.n_bytes / 1e6:,.1f} MB",
            f"head       {record.head}" + (" (the one that was given)" if checked.pinned_head else ""),
            f"signed by  {record.public_key or 'nobody'}" + (" (the key that was given)" if checked.pinned_key else ""),
            *notes,
            "",
            *_what_it_shows(record, pinned=checked.pinned_head or checked.pinned_key),
        ]
    )


def _checked_json(checked: Checked) -> dict[str, object]:
    record = checked.record
    return {
        "intact": not checked.problems,
        "run": None if record is None else record.heading.id,
        "head": None if record is None else record.head,
        "public_key": None if record is None else record.public_key,
        "head_given": checked.pinned_head,
        "public_key_given": checked.pinned_key,
        "bytes": checked.n_bytes,
        "problems": [{"kind": one.kind, "path": one.path, "says": one.says} for one in checked.problems],
        "notes": list(checked.notes),
    }


def _what_it_shows(record: Signed, *, pinned: bool) -> list[str]:
    """What a seal shows as it stands, and how to make it show more."""
    if pinned:
        return ["What this shows: whoever made that head or holds that key sealed exactly this."]
    lines = [
        "What this shows: nothing was changed by accident. It does not show that nobody changed the run on purpose:",
        "whoever holds the folder can change it and seal it anew. Against that, publish this line where it gets a date",
        "that others trust, and verify with --head:",
        f"  palimpsest run {record.heading.id} sealed {record.head}",
    ]
    if record.public_key is not None:
        lines.append("or hand on the signer's public key by another way than the run, and verify with --public-key.")
    return lines


def disclose(
    run: RunFolder,
    items: Annotated[str, typer.Option(help="The table, as a path inside the run: items/traps.parquet.")],
    id_: Annotated[list[str] | None, typer.Option("--id", help="Id of the rows to show; may be given again.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that holds the ids; default: id, trap_id ...")] = None,
    row: Annotated[list[int] | None, typer.Option("--row", help="Place of a row, from 0; may be given again.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the proof; default: standard output.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Show one document's rows of a sealed table, with a proof up to the head and without the other rows."""
    from ..progress import progress_bars
    from ..runs.seal.disclose import disclose as make_proof
    from ..runs.seal.record import spelled
    from ..text.files import write_bytes

    with progress_bars(quiet=quiet) as progress:
        proof = make_proof(run, items, ids=id_ or (), id_column=id_column, places=row or (), progress=progress)
    if out is None:
        print(spelled(proof).decode(), end="")
        return
    _refuse_inside(out, run)
    write_bytes(out, spelled(proof), secret=True)
    _say(
        [
            f"wrote {options.shown(out)}: {_counted(proof)} of {proof.table.path}, up to the head {proof.head}.",
            "It holds these rows in full; of the others only hashes that tell nothing. Who gets it can run:",
            f"  palimpsest runs check-proof {options.shown(out)} --head {proof.head}",
        ]
    )


def check_proof(
    proof: Annotated[Path, typer.Argument(help="Proof that `palimpsest runs disclose` wrote.")],
    public_key: PublicKey = None,
    head: Head = None,
    as_json: options.AsJson = False,
) -> None:
    """Check that the rows of a proof are those of a sealed run; the run is not needed. Exit code 2: they are not."""
    from ..runs.seal.check import parse_head
    from ..runs.seal.disclose import check_proof as check
    from ..runs.seal.disclose import proof_summary, read_proof
    from ..runs.seal.signing import read_public_key

    known_head = None if head is None else parse_head(head)
    known_key = None if public_key is None else read_public_key(public_key)
    told = read_proof(proof)
    try:
        check(told, head=known_head, public_key=known_key)
    except DataError as error:
        raise DataError(f"{proof} proves nothing: {error}") from error
    if as_json:
        rows = [{"place": row.place, "row": row.row} for row in told.rows]
        given = {"head_given": known_head is not None, "public_key_given": known_key is not None}
        shown = {"holds": True, "run": told.heading.id, "head": told.head, "public_key": told.public_key}
        print(json.dumps(shown | given | {"rows": rows}, indent=2))
        return
    lines = [f"{_counted(told)} of {told.table.path} ({told.table.rows:,} rows), run {told.heading.id}:"]
    for row, values in zip(told.rows, proof_summary(told), strict=True):
        lines += [f"row {row.place}", *(f"  {name}: {value}" for name, value in values.items())]
    pinned = known_head is not None or known_key is not None
    lines += [f"head       {told.head}" + (" (the one that was given)" if known_head else "")]
    lines += [f"signed by  {told.public_key or 'nobody'}" + (" (the key that was given)" if known_key else ""), ""]
    lines += (
        ["What this shows: these rows stood so in that run when it was sealed."]
        if pinned
        else ["The proof agrees with itself, which anybody's does: compare its head with the published one (--head)."]
    )
    _say(lines)


def export(
    run: RunFolder,
    format_: Annotated[Literal["in-toto", "cyclonedx"], typer.Option("--format", help="Which statement.")],
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    gate: Annotated[
        Path | None, typer.Option(help="A gate's result on this run: palimpsest gate RUN --policy FILE --format json.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME", help="Judge the run anew by this policy; --gate must agree. Else it is believed."
        ),
    ] = None,
    today: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD", help="Day on which --policy reads waivers; default: that of --gate, or now."
        ),
    ] = None,
    role: Annotated[str | None, typer.Option(help="Role of the model that it speaks of; default: subject.")] = None,
    assessor: Annotated[str | None, typer.Option(help="Organisation that audited (CycloneDX).")] = None,
    third_party: Annotated[
        bool | None, typer.Option("--third-party/--own", help="Whether it is another one than the model's maker.")
    ] = None,
    location: Annotated[str | None, typer.Option(help="URI of the folder where the run can be fetched.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """State what a sealed run found for other tools: an in-toto statement or CycloneDX 1.7 declarations."""
    from ..progress import progress_bars
    from ..statements.export import export_run
    from ..statements.judged import judge_now
    from ..text.files import write_bytes

    if out is not None:
        _refuse_inside(out, run)
    judged = None if policy is None else judge_now(run, policy, gate, today)
    with progress_bars(quiet=quiet) as progress:
        content, secret = export_run(
            run,
            format_,
            gate=gate,
            judged=judged,
            role=role,
            assessor=assessor,
            third_party=third_party,
            location=location,
            progress=progress,
        )
    if out is None:
        print(content.decode(), end="")
        return
    write_bytes(out, content, secret=secret)
    believed = None if policy is not None else gate
    _say(
        [
            f"wrote {options.shown(out)}. It is not signed: sign it with the tool that your pipeline signs with.",
            *([f"{options.shown(believed)} was believed: --policy judges the run anew."] if believed else []),
        ]
    )


def _refuse_inside(out: Path, run: Path) -> None:
    if out.resolve().is_relative_to(run.resolve()):
        raise InputError(
            f"{out} lies in the sealed run, which would no longer be as it was sealed. Choose another --out."
        )


def _counted(proof: Proof) -> str:
    return f"{len(proof.rows):,} row{'' if len(proof.rows) == 1 else 's'}"


def _say(lines: Iterable[str]) -> None:
    from ..text.safe import for_terminal

    print("\n".join(for_terminal(line).replace("\n", " ") for line in lines))
