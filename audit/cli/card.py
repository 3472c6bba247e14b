"""``palimpsest card RUN --model-card FILE``."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError, InputError
from ..text.safe import counted, for_terminal
from . import options

if TYPE_CHECKING:
    from ..gates.opened import Opened
    from ..runs.schema import OpeningRecord
    from ..statements.judged import Judged
    from ..statements.subject import ModelSubject

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def card(
    run: Annotated[Path, typer.Argument(help="Folder of a complete audit.")],
    model_card: Annotated[
        Path, typer.Option(metavar="FILE", help="The card, README.md beside the weights; made where there is none.")
    ],
    gate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What `palimpsest gate RUN --format json --out FILE` wrote on this run."),
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
    name: Annotated[
        str | None, typer.Option(help="The model's name in the card's model-index; default the one that is there.")
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Print what would change, and write nothing.")] = False,
) -> None:
    """Write an audit's results into a Hugging Face model card, or bring them up to date.

    Changed are the results in the metadata's model-index whose dataset.type begins with palimpsest-, and the section
    between two marks in the body; nothing else. A second time the same changes nothing. The card of other weights than
    those that were audited is refused.
    """
    from ..gates.opened import open_run
    from ..report.card_content import CardContent, eval_results, section
    from ..report.content import seal_head
    from ..report.deviations import deviations_of
    from ..report.model_card import updated_card
    from ..runs.schema import KINDS_OF_ONE_MODEL
    from ..statements.subject import model_subject
    from ..text.files import write_bytes

    opened = open_run(run)
    record = opened.record
    if record.kind not in KINDS_OF_ONE_MODEL:
        raise InputError(
            f"{run} is a run of kind {record.kind!r}, which may hold numbers of several models; a card is of one. "
            "Audit that model (palimpsest audit PLAN), and give that run."
        )
    findings = opened.run.findings()
    subject = model_subject(record)
    _refuse_place(model_card)
    judged = _gate(run, gate, policy, today, opened)
    before = _read(model_card)
    unchecked = _unchecked(model_card, subject)
    content = CardContent(
        record=record,
        findings=findings,
        findings_sha256=opened.told.findings_sha256,
        weights=subject.weights,
        gate=None if judged is None else judged.result,
        anew=judged is not None and judged.anew,
        head=seal_head(run),
        deviations=deviations_of(record, findings, opened.run.attempts(), _opening(run)),
    )
    results = eval_results(content)
    after = updated_card(before, results, section(content), name=name, else_named=subject.name)
    if judged is not None and not judged.anew:
        print(for_terminal(f"warning: {gate} was believed: --policy judges the run anew."), file=sys.stderr)
    if unchecked:
        print(for_terminal(f"warning: {unchecked}"), file=sys.stderr)
    shown = options.shown(model_card)
    if diff:
        print(for_terminal(_diff(before, after, shown)), end="")
    elif after == before:
        print(for_terminal(f"{shown} says this already"))
    else:
        write_bytes(model_card, after.encode())
        print(for_terminal(f"{shown}: {counted(len(results), 'result')} in its metadata, and a section in its body"))


def _refuse_place(card: Path) -> None:
    """A run's folder holds its evidence alone."""
    home = next((folder for folder in card.resolve().parents if (folder / "run.json").exists()), None)
    if home is not None:
        raise InputError(f"--model-card {card} lies in the run {home}, which holds evidence alone. Give the model's.")
    if not card.absolute().parent.is_dir():
        raise InputError(f"there is no folder {card.absolute().parent}. Give the README.md beside the model's weights.")


def _read(card: Path) -> str:
    from ..text.files import storage_errors

    if not card.exists():
        return ""
    with storage_errors(card, kept="nothing was changed", doing="read"):
        content = card.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{card} is not UTF-8: byte {error.start + 1} cannot be read. Save it as UTF-8.") from None


def _opening(run: Path) -> OpeningRecord | None:
    from ..runs.records import read_record
    from ..runs.schema import OpeningRecord

    path = run / "opening.json"
    return read_record(path, OpeningRecord, missing=f"there is no {path}") if path.is_file() else None


def _gate(run: Path, path: Path | None, policy: str | None, today: str | None, opened: Opened) -> Judged | None:
    """The verdict, refused where it is of other runs or findings, or not what the policy gives."""
    from ..statements.judged import judge_now, judged_anew, read_judged

    if today is not None and policy is None:
        raise InputError("--today is for --policy, which reads waivers on that day. Give the policy, or leave it out.")
    told = opened.told
    known = {"run_id": told.id, "findings_sha256": told.findings_sha256, "policy_sha256": None}
    given = None if path is None else read_judged(path, **known)  # type: ignore[arg-type]
    if policy is None:
        return given
    return judged_anew(judge_now(run, policy, path, today), given, where=str(path))


def _unchecked(card: Path, subject: ModelSubject) -> str:
    """Why it is not known whether the card is of the audited weights; "" where it is.

    Raises:
        InputError: The weights beside the card are others.
    """
    from ..lm.files import ADAPTER_CONFIG, weight_files
    from ..text.files import sha256_file

    folder, marker = card.absolute().parent, "adapter/"
    audited: dict[str, Any] = dict(subject.weights)
    adapter = {name.removeprefix(marker): sha for name, sha in audited.items() if name.startswith(marker)}
    if (folder / ADAPTER_CONFIG).is_file() and adapter:
        audited, files = adapter, sorted(folder.glob("*.safetensors"))
    elif any(folder.glob("*.safetensors")):
        files = sorted(folder.glob("*.safetensors")) if (folder / ADAPTER_CONFIG).is_file() else weight_files(folder)
    else:
        return (
            f"no safetensors lie beside {options.shown(card)}, so nobody checked that the card is of the audited model "
            f"{subject.name}; the card names the SHA-256 of its weights."
        )
    here = {file.name: sha256_file(file) for file in files}
    if here != audited:
        other = next(name for name in sorted(audited.keys() | here.keys()) if audited.get(name) != here.get(name))
        raise InputError(
            f"{folder} holds other weights than those that were audited: {other} has the SHA-256 "
            f"{here.get(other, '(not here)')}, and in the run {audited.get(other, '(not there)')}. The numbers are of "
            "another model. Audit this one, or give the card of that one."
        )
    return ""


def _diff(before: str, after: str, shown: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"{shown} (now)", f"{shown} (then)"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
