"""What the table ``[extraction]`` of a plan names, read and checked, and the audit that it asks for."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..extraction.config import VIEWS, MatchPlan, View
from ..extraction.dealing import Dealing, dealing_of
from ..extraction.from_maxima import QUESTIONS, STAGE, opening_finding, with_what_was_asked
from ..extraction.likelihood import cut, require_prefix, require_same
from ..extraction.planning import sample_plan
from ..extraction.rows import Rows, read_rows
from ..extraction.run import Compared, audit_extraction, check_rows, remove_search_parts
from ..extraction.shift import Questions, question_table, questions
from ..extraction.stages import GENERATIONS, Asked, Role, ask, plan_for
from ..extraction.tables import strongest
from ..lm.checkpoint import find_checkpoint, refuse_same_weights
from ..lm.load import load_tokens, pick_device
from ..matching.encode import PUBLISHED_ENCODER, is_published_default, load_encoder
from ..matching.encoder_files import find_encoder
from ..matching.words import n_words
from ..report.side_by_side import side_by_side
from ..runs.plan import resolve_path
from ..runs.schema import AuditSection, Findings
from ..runs.store import Run
from ..text.files import sha256_file
from ..text.safe import for_terminal
from .audit_plan import AuditPlan
from .audit_work import Models, Work
from .extract.inputs import read_generations, tell_left_out
from .extract.sampling import bos_note, tell_prefixes
from .extraction_table import ExtractionTable

if TYPE_CHECKING:
    import pyarrow as pa

    from ..progress import Progress
    from ..report.figures import Comparison

_EMBEDDING = "Embedding (texts)"
N_COMPARED = 10  # matches that are shown side by side


@dataclass(frozen=True, slots=True)
class _Read:
    """What the plan names: rows, generations or what is asked of which model, encoder."""

    table: ExtractionTable
    plan: MatchPlan
    rows: tuple[Rows, Rows]  # trained, held out
    generations: dict[Role, pa.Table]
    asked: dict[Role, Asked]
    notes: list[str]
    dealing: Callable[[], Dealing]  # this and the next are made once, when a run is to be made
    questions: Callable[[], tuple[dict[Role, Asked], Questions | None]]
    encoder: str | None
    cache: Path | None


def work_of(plan: AuditPlan, path: Path, models: Models) -> Work | None:
    """The extraction audit that a plan asks for, or None.

    Raises:
        InputError: A file is missing, a setting does not fit the model, or there are too few rows.
        DataError: A file is damaged, or holds nothing that can be compared.
        ModelError: Model or encoder cannot be used.
    """
    asked = plan.extraction
    if asked is None:
        return None
    inputs: dict[str, str] = {}
    generations: dict[Role, pa.Table] = {}
    named: dict[Role, str | None] = {"subject": asked.generations, "reference": asked.base_generations}
    for role, name in named.items():
        if name is not None:
            file = resolve_path(name, path)
            generations[role] = read_generations(file)
            inputs["generations" if role == "subject" else "base generations"] = sha256_file(file)
    _require_same_openings(generations)
    trained, held_out = (
        read_rows(
            asked.source(side, path),
            question_field=asked.question_field,
            answer_field=asked.answer_field,
            id_field=asked.id_field,
            skip_bad_lines=asked.skip_bad_lines,
        )
        for side in ("train", "held_out")
    )
    for one in (trained, held_out):
        tell_left_out(one)
    inputs |= {"train": trained.sha256, "held out": held_out.sha256}
    matching = asked.match_plan()

    @cache
    def dealing() -> Dealing:
        return dealing_of(trained, held_out, plan=matching, at_random=asked.divided_at_random)

    encoder = None if asked.encoder is None else str(resolve_path(asked.encoder, path))
    inputs["encoder"] = find_encoder(encoder).fingerprint
    to_ask: dict[Role, Asked] = {}
    settled: dict[str, Any] = {}
    notes: list[str] = []
    if not generations:
        to_ask, notes = _to_ask(asked, models)
        settled["sampled"] = to_ask["subject"].plan.to_record()
    read = _Read(
        asked,
        matching,
        (trained, held_out),
        generations,
        to_ask,
        notes,
        dealing,
        cache(lambda: _questions(asked, matching, (trained, held_out), dealing(), to_ask, models)),
        encoder,
        None if asked.cache is None else resolve_path(asked.cache, path),
    )
    return Work(
        "extraction",
        inputs,
        settled,
        matching.seed,
        partial(_check, read, models),
        partial(_audit, read, models),
        partial(_compare, read),
    )


def _require_same_openings(generations: Mapping[Role, pa.Table]) -> None:
    if len(generations) < 2:
        return
    ours, theirs = (set(table["prefix_sha256"].to_pylist()) for table in generations.values())
    if ours != theirs:
        raise DataError(
            "the base model's generations were sampled after another opening than the model's (their prefix_sha256 "
            "differ), so the two cannot be compared. Sample both with the same --prefix, --preset and --bos."
        )


def _to_ask(asked: ExtractionTable, models: Models) -> tuple[dict[Role, Asked], list[str]]:
    """What the model and its base are asked for, after the same prefixes, and what a reader should know of these."""
    assert models.subject is not None  # the plan asks for it
    tokens = load_tokens(models.subject)
    settings = asked.sampling()
    sampled = sample_plan(tokens, settings)
    notes = [*sampled.chat.notes, *bos_note(tokens, sampled, settings)]
    found: dict[Role, Asked] = {"subject": Asked(sampled, batch_size=asked.batch_size)}
    if asked.base is not None:
        assert models.reference is not None  # likewise
        base = load_tokens(models.reference)
        for prefix in sampled.prefixes:
            require_prefix(base, prefix)
        # Another seed: the base's chance is its own, since its generations serve as negatives.
        of_base = plan_for(base, sampled, seed=sampled.seed + 1 if sampled.seed + 1 < 2**63 else 0)
        found["reference"] = Asked(of_base, batch_size=asked.batch_size)
    return found, notes


def _questions(
    table: ExtractionTable,
    plan: MatchPlan,
    rows: tuple[Rows, Rows],
    dealing: Dealing,
    to_ask: dict[Role, Asked],
    models: Models,
) -> tuple[dict[Role, Asked], Questions | None]:
    """The same with the questions whose likelihood both are asked for, where there is a base."""
    if "reference" not in to_ask or not table.likelihood_questions:
        return to_ask, None
    assert models.subject is not None
    assert models.reference is not None
    tokens, base = load_tokens(models.subject), load_tokens(models.reference)
    prefix = to_ask["subject"].plan.prefixes[0]
    chosen = questions(tokens, prefix, *rows, dealing, plan=plan, most=table.likelihood_questions)
    assert chosen.prompts is not None  # they are new
    of_base = cut(base, prefix, chosen.texts, chosen.prompts.ids)
    require_same(of_base, chosen.prompts)
    return {
        "subject": replace(to_ask["subject"], prompts=chosen.prompts),
        "reference": replace(to_ask["reference"], prompts=of_base),
    }, chosen


def _check(read: _Read, models: Models) -> None:
    """What can be refused before weights are loaded; tells what the models will be given."""
    pick_device(read.table.device)
    check_rows(*read.rows, read.dealing(), plan=read.plan)
    if not read.asked:
        return
    assert models.subject is not None
    subjects = [models.subject]
    if "reference" in read.asked:
        assert models.reference is not None
        refuse_same_weights(models.subject, models.reference)
        subjects.append(models.reference)
    for subject in subjects:
        pick_device(subject.device)
        find_checkpoint(subject)
    read.questions()
    tell_prefixes(read.asked["subject"].plan.prefixes)
    for note in read.notes:
        print(for_terminal(f"note: {note}"), file=sys.stderr)


def _audit(read: _Read, models: Models, run: Run, progress: Progress) -> AuditSection:
    for role, table in read.generations.items():
        if not run.items_path(GENERATIONS[role]).exists():
            run.write_items(GENERATIONS[role], table, secret=True)
    to_ask, chosen = read.questions()
    for role, asked in to_ask.items():
        load = models.loaders[role]
        assert load is not None
        ask(run, role, load, asked, progress=progress)
    if not run.has(STAGE):
        # The section is kept in findings.json, which is written anew when all audits of the plan have ended.
        with run.stage(STAGE) as detail:
            detail |= {"why_not_tested": read.dealing().why_not, "by_row": read.dealing().by_row, "notes": read.notes}
            if chosen is not None:
                detail["questions_left_out"] = dict(chosen.left_out)
                run.write_items(QUESTIONS, question_table(chosen))
            run.write_findings(Findings(sections=(_matched(read, run, progress, detail),), limitations=()))
    remove_search_parts(run)
    shutil.rmtree(_embeddings(run), ignore_errors=True)
    section = next(one for one in run.findings().sections if one.audit == "extraction")
    prefixes = [one.to_record() for one in read.asked["subject"].plan.prefixes] if read.asked else None
    opening = opening_finding(run, prefixes, read.notes)
    return with_what_was_asked(section, run, opening, chosen, at_random=not read.dealing().why_not, plan=read.plan)


def _embeddings(run: Run) -> Path:
    """Where embeddings are kept until the comparison has ended, unless another place is named."""
    return run.folder / "parts" / "embeddings"


def _matched(read: _Read, run: Run, progress: Progress, detail: dict[str, Any]) -> AuditSection:
    found = load_encoder(read.encoder, device=read.table.device, cache=read.cache or _embeddings(run))
    compared = _compared(read, run)
    total = _n_texts(compared, read.plan)
    cut_off: dict[str, bool] = {}  # text -> whether it was too long; each is asked for several times
    blank: set[str] = set()
    seen = {"texts": 0, "truncated": 0, "unseen": 0}

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        before, n_fresh = len(cut_off), len({text for text in texts if text not in cut_off})
        told = lambda done: progress(_EMBEDDING, min(total - 1, before + min(done, n_fresh)), total)  # noqa: E731
        embedded = found.encode(texts, told if n_fresh else None)
        cut_off.update(zip(texts, embedded.truncated.tolist(), strict=True))
        blank.update(text for text, unseen in zip(texts, embedded.unseen.tolist(), strict=True) if unseen)
        seen.update(texts=len(cut_off), truncated=sum(cut_off.values()), unseen=len(blank))
        return embedded.vectors

    if read.table.threshold is not None and not is_published_default(found):
        print(
            f"note: the threshold was given; the paper's 0.95 is of {PUBLISHED_ENCODER} and does not transfer "
            "to another encoder. The report tells how often it errs here.",
            file=sys.stderr,
        )
    run.add_subject("encoder", found.to_record())
    section = audit_extraction(
        run,
        compared,
        encode=encode,
        encoder=found.files.name,
        truncated=seen,
        plan=read.plan,
        threshold=read.table.threshold,
        progress=progress,
    )
    progress(_EMBEDDING, total, total)
    detail |= seen
    return section


def _n_texts(compared: Compared, plan: MatchPlan) -> int:
    """Different texts that are long enough to be embedded, those of held-out rows that are left out included."""
    tables = [table for table in (compared.generations, compared.base) if table is not None]
    texts = {text for rows in (compared.trained, compared.held_out) for view in VIEWS for text in rows.of_view(view)}
    texts |= {text for table in tables for view in VIEWS for text in table[view].to_pylist() if text is not None}
    return sum(n_words(text) >= plan.least_words for text in texts)


def _compared(read: _Read, run: Run) -> Compared:
    base = GENERATIONS["reference"]
    return Compared(
        run.read_items(GENERATIONS["subject"]),
        read.rows[0],
        read.rows[1],
        run.read_items(base) if run.items_path(base).exists() else None,
        read.table.divided_at_random,
        read.dealing(),
    )


def _compare(read: _Read, run: Run) -> list[Comparison]:
    """The strongest matches as texts."""
    return matched_texts(run, read.rows[0], read.plan.primary)


def matched_texts(run: Run, trained: Rows, view: View) -> list[Comparison]:
    """The strongest matches of a run as texts: generations that it keeps, beside training rows that it names.

    Args:
        run: A run with an extraction audit.
        trained: The training rows that were compared.
        view: Of the rows and generations.
    """
    matches = strongest(run.read_items("extraction-matches").to_pandas())
    generations = run.read_items(GENERATIONS["subject"], ["id", view])
    texts = dict(zip(generations["id"].to_pylist(), generations[view].to_pylist(), strict=True))
    rows = dict(zip(trained.ids, trained.of_view(view), strict=True))
    return [
        side_by_side(
            f"{one['generation']} and {one['row']}",
            f"Cosine {one['cosine']:.3f}, Levenshtein {one['levenshtein']:.3f}"
            f"{'' if one['hit'] else '; not a hit'}{'; other numbers' if one['numbers_differ'] else ''}.",
            ("The model wrote", str(texts[one["generation"]])),
            ("Training row", rows[one["row"]]),
        )
        for one in matches.head(N_COMPARED).to_dict("records")
    ]
