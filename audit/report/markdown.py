"""What a report says in GitHub's Markdown: text from data shows as it is, and makes no markup, no HTML and no link.

Drawings are left out; their titles, captions and descriptions in words stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from .content import Report
from .figures import Comparison, MarkedTexts
from .layout import Page, ShownFinding, ShownSection, laid_out, n_cells
from .limits import Limits, fitted
from .sections import VERDICT_WORDS
from .tables import ShownTable, markdown_escaped, markdown_table

_MOST_BYTES: Final = 1_000_000


def render_markdown(report: Report) -> str:
    """The report as Markdown below 1 MB; the same report gives the same text.

    Raises:
        DataError: It cannot be made small enough.
    """
    return fitted(
        lambda limits: _document(laid_out(report, limits), limits), cells=partial(n_cells, report), most=_MOST_BYTES
    )


def _document(page: Page, limits: Limits) -> str:
    lines = [
        line
        for part in (
            _front(page, limits),
            _findings(page, limits),
            *(_section(shown, limits) for shown in page.sections),
            _changes(page, limits),
            _closing(page, limits),
        )
        for line in part
    ]
    return "\n".join(lines).rstrip() + "\n"


def _text(text: str, limits: Limits) -> str:
    return markdown_escaped(text, limit=limits.text)


def _list(lines: Sequence[str], none: str, limits: Limits) -> Iterator[str]:
    yield from (f"- {_text(line, limits)}" for line in lines)
    if not lines:
        yield f"- {none}"
    yield ""


def _front(page: Page, limits: Limits) -> Iterator[str]:
    record = page.record
    yield from (f"# {page.heading}", "")
    run, kind, created = (_text(one, limits) for one in (record.id, record.kind, record.provenance.created))
    model = f". Model: {_text(page.model, limits)}" if page.model else ""
    yield from (f"Palimpsest report on the run {run} ({kind}), {created}{model}", "", "## Verdict", "")
    if record.status != "complete":
        yield from ("**This run has not ended. What follows is incomplete and is not a result.**", "")
    if page.broken_seal:
        told = "This run is not as it was sealed. What follows is not what was sealed, and must not be relied on."
        yield from (f"**{told}**", "")
        yield from _list(page.broken_seal, "", limits)
    if page.gate is not None:
        applied = f" ({_text(page.gate.applied, limits)})" if page.gate.applied else ""
        policy = f" Policy: {_text(page.gate.policy, limits)}{applied}." if page.gate.policy else ""
        yield from (f"**{_text(page.gate.label, limits)}.** {_text(page.gate.meaning, limits)}{policy}", "")
        if page.gate.reading:
            yield from (_text(page.gate.reading, limits), "")
        for title, rules in (("What blocks", page.gate.blocking), ("Other rules", page.gate.others)):
            yield from (f"### {title}", "")
            for rule in rules:
                clause = f"; {_text(f'{rule.evidence}: {rule.clause}', limits)}" if rule.clause else ""
                told = f"{_text(rule.title, limits)} ({_text(rule.id, limits)}{clause}): {_text(rule.reason, limits)}"
                told += f" Not covered: {_text(rule.not_covered, limits)}" if rule.not_covered else ""
                yield f"- **{_text(rule.outcome, limits)}** {told}"
            if not rules:
                yield "- None."
            yield ""
        if page.gate.waivers:
            yield from ("### Waivers", "")
            yield from _list(page.gate.waivers, "none", limits)
    else:
        yield from (
            "No policy was applied here, so this report says what was found and not whether the model may be released.",
            "",
        )
    yield from (f"**{page.overview.label}.** {page.overview.meaning}", "")
    for one in page.overview.most_important:
        yield f"- **{VERDICT_WORDS[one.verdict][0]}** {_text(one.finding.claim, limits)}"
    counts = ", ".join(f"{number} {label.lower()}" for label, number in page.overview.counts)
    yield from ("", f"Findings: {counts or 'none'}.", "", "### In plain words", "")
    yield from (markdown_escaped(page.plain_words, limit=3_000), "")


def _findings(page: Page, limits: Limits) -> Iterator[str]:
    yield from ("## Findings", "")
    if page.n_findings > len(page.findings):
        yield from (f"Shown are the gravest {len(page.findings)} of {page.n_findings} findings.", "")
    for shown in page.findings:
        yield from _finding(shown, limits)
    if not page.findings:
        yield from ("There is no finding. An empty result is not a pass.", "")
    yield from ("### What the verdicts mean", "")
    yield from (f"- **{label}** {meaning}" for label, meaning, _ in page.verdicts)
    yield from ("", "### How to read the numbers", "")
    yield (
        "A number such as 0.70 \\[0.60, 0.80\\], n 40 is an estimate, its interval, and the independent items behind "
        "it; the number in brackets after it leads to its method. An interval at 95% leaves out the true value in "
        'about one of twenty such cases. "Not estimable" is no zero: the note says what was lacking.'
    )
    yield ""
    yield from (f"- {term}: {meaning}" for term, meaning in page.terms)
    yield ""


def _finding(shown: ShownFinding, limits: Limits) -> Iterator[str]:
    yield from (f"### {shown.label}: {_text(shown.finding.claim, limits)}", "")
    if shown.remark:
        yield from (f"**{_text(shown.remark, limits)}**", "")
    yield from (_text(f"How to read it: {shown.finding.how_to_read}", limits), "")
    if shown.numbers is not None:
        yield from (markdown_table(shown.numbers, limit=limits.text), "")
    if shown.n_further:
        yield from (f"{shown.n_further} further numbers of this finding stand in its audit's section.", "")
    notes = " ".join(one for one in (shown.power, shown.p_note) if one)
    if notes:
        yield from (_text(notes, limits), "")
    rests = f"; rests on {_text(shown.finding.items, limits)}" if shown.finding.items else ""
    clause = f"; speaks to the policy's clause {_text(shown.finding.clause, limits)}" if shown.finding.clause else ""
    yield from (f"Finding {_text(shown.finding.id, limits)}{rests}{clause}.", "")


def _section(shown: ShownSection, limits: Limits) -> Iterator[str]:
    section = shown.section
    yield from (
        f"## {_text(section.title, limits)}",
        "",
        "### Method",
        "",
        _text(f"Method: {section.method}", limits),
        "",
    )
    yield from ("### What this assumes", "")
    yield from _list(section.assumptions, "No assumption was stated.", limits)
    yield from ("### What this cannot show", "")
    yield from _list(section.cannot_show, "Nothing was stated.", limits)
    yield from ("### Calibration: what it answers where there is nothing to find", "")
    calibrated = [f"{claim}{f' ({numbers}.)' if numbers else ''} {how}" for claim, numbers, how in shown.calibration]
    yield from _list(calibrated, shown.no_calibration, limits)
    if shown.figures:
        yield from ("### Charts in words", "")
        for figure in shown.figures:
            yield f"- {_text(figure.title, limits)}: {_text(figure.caption, limits)}"
            yield from (f"  - {_text(panel.description, limits)}" for panel in figure.panels[: limits.panels])
        yield ""
    yield from _quoted(shown.comparisons, shown.marked, limits)
    for _, table, reading in shown.tables:
        yield from _table(table, reading, limits)
    if shown.left_out:
        yield from (shown.left_out, "")


def _quoted(comparisons: Sequence[Comparison], marked: MarkedTexts | None, limits: Limits) -> Iterator[str]:
    if comparisons:
        yield from ("### Strongest matches", "")
    for one in comparisons:
        yield f"- {_text(one.title, limits)}: {_text(one.note, limits)}"
        for name, pieces in one.sides:
            yield f"  - {_text(name, limits)}: {_text(''.join(text for text, _ in pieces), limits)}"
    if comparisons:
        yield ""
    if marked is not None:
        yield from (f"### {_text(marked.title, limits)}", "")
        for text in marked.texts:
            yield f"- {_text(text.title, limits)}: {_text(''.join(piece.text for piece in text.pieces), limits)}"
        yield ""


def _table(table: ShownTable, reading: str, limits: Limits) -> Iterator[str]:
    yield from (markdown_table(table, limit=limits.text), "")
    if reading:
        yield from (markdown_escaped(reading), "")


def _changes(page: Page, limits: Limits) -> Iterator[str]:
    if not page.changes:
        return
    yield from ("## Before and after", "")
    for title, tables in page.changes:
        yield from (f"### {_text(title, limits)}", "")
        for _, table, reading in tables:
            yield from _table(table, reading, limits)


def _closing(page: Page, limits: Limits) -> Iterator[str]:
    yield from ("## Deviations from the plan", "")
    yield from _list(page.deviations, "None is on record.", limits)
    yield from ("## Limitations", "")
    yield from _list(page.limitations, "No limitation was stated beyond those of each audit above.", limits)
    yield from ("## Provenance", "")
    record, made = page.record, page.record.provenance
    changed = {True: ", with changes that were not committed", False: "", None: ", not known whether changed"}
    commit = f"{made.commit}{changed[made.dirty]}" if made.commit else "not known"
    yield (
        _text(f"Run {record.id}, begun {made.created}", limits)
        + (f", ended {_text(record.finished, limits)}" if record.finished else "")
        + f". Palimpsest {_text(made.palimpsest, limits)}, commit {_text(commit, limits)}; "
        + f"Python {_text(made.python, limits)}; {_text(made.platform, limits)}."
    )
    yield from ("", f"Command: {_text(page.command, limits)}", "")
    if page.self_test:
        yield from (_text(page.self_test, limits), "")
    groups = [(f"Model: {role}", rows) for role, rows in page.subjects.items()]
    groups += [("Seeds", page.seeds), ("Plan", page.plan), ("Hardware", page.hardware), ("Packages", page.packages)]
    for title, rows in groups:
        yield from (f"### {_text(title, limits)}", "")
        yield from _list([f"{key}: {value}" for key, value in rows], "nothing was recorded", limits)
    yield from (f"### Stages, {page.total} in all", "")
    yield from _list(
        [f"{stage.name}: {time}, ended {stage.finished}. {detail}" for stage, time, detail in page.stages],
        "none",
        limits,
    )
    yield from ("## How to check this report", "")
    yield from _list(_checks(page), "", limits)
    yield from ("### SHA-256 of the files that the findings rest on", "")
    yield from _list([f"{path}: {digest}" for path, digest in page.hashes], "none was given", limits)


def _checks(page: Page) -> list[str]:
    if page.head:
        first = f"Check the seal: palimpsest runs verify RUN --head {page.head}"
    else:
        first = "The run was not sealed when this was written: sha256sum of each file below must print its hash."
    if page.record.kind == "compare":
        return [first, "Do it again: the command above, on the same runs, gives the same files."]
    return [
        first,
        "Recompute the statistics from the stored scores: palimpsest runs replay RUN",
        "Make this report again: palimpsest report RUN --format md",
        f"Do all of it again: palimpsest {page.verb} plan.toml --out NEW, with the run's plan.toml, whose SHA-256 with "
        f"its inputs is {page.record.plan_sha256}",
    ]
