"""``palimpsest extract match GENERATIONS --train ROWS --held-out ROWS``."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import DataError, InputError
from ...text.safe import counted, for_terminal, quoted
from .. import options
from ..plan_text import plan_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from ...extraction.rows import Rows

STAGE = "extraction.match"
NAME = "match"  # of the run's default folder


def match(
    generations: Annotated[Path, typer.Argument(help="What `extract sample` wrote: .parquet or .jsonl.")],
    train: Annotated[str, typer.Option(help="Post-training rows: jsonl, json, csv, tsv, parquet or hf:owner/name.")],
    held_out: Annotated[str, typer.Option(help="Rows of the same source that the model was not trained on.")],
    base: Annotated[
        Path | None,
        typer.Option(help="What `extract sample` wrote for the model before post-training, with the same prefix."),
    ] = None,
    divided_at_random: Annotated[
        bool,
        typer.Option(
            "--random/--not-random",
            help="Whether training and held-out rows were divided at random, near-duplicates together. Only then can "
            "the one be tested against the other.",
        ),
    ] = True,
    question_field: Annotated[str | None, typer.Option(help="Field that holds the question, in both sets.")] = None,
    answer_field: Annotated[str | None, typer.Option(help="Field that holds the answer, in both sets.")] = None,
    id_field: Annotated[str | None, typer.Option(help='Field that names each row; default "id" where it is.')] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Folder of a sentence-transformers model; default the embedded MiniLM.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Cosine of a hit, given beforehand; default set on the held-out rows. The paper's 0.95 is of another "
            "encoder and does not transfer; the rate at which it errs here is told."
        ),
    ] = None,
    primary: Annotated[str, typer.Option(help="View of the verdict: whole, question or answer.")] = "whole",
    target: Annotated[float, typer.Option(help="False-positive rate at which the threshold is set.")] = 0.01,
    least_words: Annotated[int, typer.Option(help="Words of a text at least; shorter ones are not compared.")] = 20,
    negligible: Annotated[float, typer.Option(help='Rate that "not found" excludes.')] = 0.01,
    alpha: Annotated[float, typer.Option(help="Error rate of the test of trained against held-out rows.")] = 0.05,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps embeddings for other runs; default inside the run.")
    ] = None,
    skip_bad_lines: Annotated[bool, typer.Option("--skip-bad-lines", help="Leave malformed rows out.")] = False,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show the strongest matches side by side; they are training text.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/match-<hash of the plan>.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run of the same flags that was interrupted.")] = True,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare generations with the rows that a model was post-trained on; write items, findings and a report.

    Three views (question, answer, whole) by embedding, Levenshtein and Indel. The threshold is set on maxima of
    held-out rows and checked on others of them; where training and held-out rows were divided at random, the one is
    tested against the other exactly.
    Exit code: 0 when the audit ended with an answer, 4 when it is inconclusive or confounded, 2 for bad input.
    """
    from ...extraction.config import MatchPlan
    from ...extraction.rows import read_rows
    from ...text.files import sha256_file

    plan = MatchPlan(
        primary=primary,  # type: ignore[arg-type]  # checked there, with a message
        target=target,
        least_words=least_words,
        negligible=negligible,
        alpha=alpha,
        level=level,
        seed=seed,
    )
    if threshold is not None and not -1 < threshold <= 1:
        raise InputError(f"--threshold is {threshold}; expected a cosine above -1 and at most 1.")
    tables = [_read_generations(generations), None if base is None else _read_generations(base)]
    fields = {"question_field": question_field, "answer_field": answer_field, "id_field": id_field}
    rows = [
        read_rows(
            source,
            question_field=question_field,
            answer_field=answer_field,
            id_field=id_field,
            skip_bad_lines=skip_bad_lines,
        )
        for source in (train, held_out)
    ]
    for one in rows:
        _tell_left_out(one)
    inputs = {"generations": sha256_file(generations), "train": rows[0].sha256, "held out": rows[1].sha256}
    if base is not None:
        inputs["base generations"] = sha256_file(base)
    settings = {
        "generations": str(generations),
        "train": train,
        "held_out": held_out,
        "base": None if base is None else str(base),
        "divided_at_random": divided_at_random,
        **fields,
        "encoder": None if encoder is None else str(encoder),
        "threshold": threshold,
        "skip_bad_lines": skip_bad_lines,
        **asdict(plan),
    }
    sys.exit(
        _compare(
            tables, rows, settings, inputs, device=device, cache=cache, out=out, resume=resume, quiet=quiet,
            as_json=as_json, show_text=show_text,
        )
    )  # fmt: skip


def _compare(
    tables: list[pa.Table | None],
    rows: list[Rows],
    settings: dict[str, object],
    inputs: dict[str, str],
    *,
    device: str,
    cache: Path | None,
    out: Path | None,
    resume: bool,
    quiet: bool,
    as_json: bool,
    show_text: bool,
) -> int:
    """Make or resume the run, and tell what was found; returns the exit code."""
    options.quiet_libraries()  # before torch is imported
    from ...extraction.config import MatchPlan
    from ...extraction.run import Compared, audit_extraction, check_inputs
    from ...matching.encode import PUBLISHED_ENCODER, is_published_default, load_encoder
    from ...matching.encoder_files import find_encoder
    from ...progress import progress_bars
    from ...runs.records import content_key
    from ...runs.schema import Findings
    from ...runs.store import Run
    from ..audit import draw_report, tell

    plan = MatchPlan(**{name: settings[name] for name in MatchPlan.__slots__})  # type: ignore[arg-type]
    assert tables[0] is not None
    compared = Compared(tables[0], rows[0], rows[1], tables[1], bool(settings["divided_at_random"]))
    check_inputs(compared, plan=plan)
    chosen = settings["encoder"]
    inputs["encoder"] = find_encoder(None if chosen is None else str(chosen)).fingerprint
    whole = {"extraction": settings, "inputs": inputs}
    folder = out or Path("palimpsest-runs") / f"{NAME}-{content_key(**whole)[:8]}"
    with Run.start(
        folder,
        kind="extraction",
        plan=whole,
        plan_text=plan_text({"extraction": settings}, made_by="palimpsest extract match"),
        command=sys.argv,
        resume=resume,
        hardware=options.gpus(),
        plan_folder=Path.cwd(),
    ) as run:
        kept = run.folder / "parts" / "embeddings"  # so that an interrupted run goes on
        if not run.has(STAGE):
            found = load_encoder(None if chosen is None else str(chosen), device=device, cache=cache or kept)
            cut: dict[str, bool] = {}  # text -> whether it was too long; each is asked for several times
            seen = {"texts": 0, "truncated": 0}

            def encode(texts: Sequence[str]) -> NDArray[np.float32]:
                embedded = found.encode(texts)
                cut.update(zip(texts, embedded.truncated.tolist(), strict=True))
                seen.update(texts=len(cut), truncated=sum(cut.values()))
                return embedded.vectors

            if settings["threshold"] is not None and not is_published_default(found):
                print(
                    f"note: the threshold was given; the paper's 0.95 is of {PUBLISHED_ENCODER} and does not transfer "
                    "to another encoder. The report tells how often it errs here.",
                    file=sys.stderr,
                )
            run.add_subject("encoder", found.to_record())
            run.add_seed("extraction", plan.seed)
            with progress_bars(quiet=quiet) as progress, run.stage(STAGE) as detail:
                section = audit_extraction(
                    run,
                    compared,
                    encode=encode,
                    encoder=found.files.name,
                    truncated=seen,
                    plan=plan,
                    threshold=settings["threshold"],  # type: ignore[arg-type]
                    progress=progress,
                )
                run.write_findings(Findings(sections=(section,), limitations=()))
                detail |= seen
        if not run.complete:
            shutil.rmtree(kept, ignore_errors=True)
            run.finish()
    finished = Run.open(folder)
    if not (folder / "report.html").exists():
        draw_report(finished)
    code = tell(finished, as_json=as_json)
    if show_text and not as_json:
        _show(finished, compared)
    return code


def _read_generations(path: Path) -> pa.Table:
    """The table that `extract sample` wrote.

    Raises:
        InputError: There is no such file, or its extension is another.
        DataError: It is damaged or something else.
    """
    import pyarrow as pa
    import pyarrow.json as pa_json

    from ...extraction.sample import SCHEMA
    from ...text.sources import require_exists
    from ...text.tables import read_parquet

    require_exists(path)
    if path.suffix.lower() not in (".parquet", ".jsonl"):
        raise InputError(f"{path} ends in {path.suffix or 'nothing'}; expected what `extract sample` wrote.")
    try:
        table = read_parquet(path) if path.suffix.lower() == ".parquet" else pa_json.read_json(path)
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if not missing:
            return table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as generations: {str(error)[:200].rstrip('.')}.") from error
    raise DataError(f"{path} lacks the columns {', '.join(missing)}; expected what `extract sample` wrote.")


def _tell_left_out(rows: Rows) -> None:
    """How many rows are not compared, and why."""
    for note in rows.notes:
        print(for_terminal(f"note: {rows.source}: {note}"), file=sys.stderr)
    if rows.left_out:
        reasons = "; ".join(f"{reason}: {n:,}" for reason, n in rows.reasons.items())
        said = f"{rows.source}: {counted(len(rows.left_out), 'row')} left out ({reasons})"
        print(for_terminal(said), file=sys.stderr)


def _show(run, compared, n: int = 5) -> None:  # type: ignore[no-untyped-def]
    """The strongest matches side by side, words of the generation that the row does not hold in brackets."""
    matches = run.read_items("extraction-matches").to_pandas()
    if not len(matches):
        return
    view = run.record.plan["extraction"]["primary"]
    texts = dict(zip(compared.generations["id"].to_pylist(), compared.generations[view].to_pylist(), strict=True))
    rows = {
        "question": compared.trained.questions,
        "answer": compared.trained.answers,
        "whole": compared.trained.wholes,
    }
    of_row = dict(zip(compared.trained.ids, rows[view], strict=True))
    for _, one in matches.sort_values("cosine", ascending=False).head(n).iterrows():
        ours, theirs = str(texts[one["generation"]]), of_row[one["row"]]
        held = set(theirs.split())
        marked = " ".join(word if word in held else f"[{word}]" for word in ours.split())
        print(for_terminal(f"{one['generation']} ~ {one['row']}: cosine {one['cosine']:.3f}"))
        print(for_terminal(f"  model: {quoted(marked, limit=1_000)}"))
        print(for_terminal(f"  row:   {quoted(theirs, limit=1_000)}"))
