"""Markdown, JSON and PDF say what the HTML page says, and no text from data acts in them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from audit.errors import DataError, MissingDependencyError
from audit.report import pdf
from audit.report.content import Report
from audit.report.json_record import render_json
from audit.report.limits import LEVELS, fitted
from audit.report.markdown import render_markdown
from audit.report.render import render_html
from audit.report.write import rendered
from audit.runs.schema import Column, Finding, Findings, RunRecord, Table
from tests.report.hostile import PAYLOADS, hostile_report


def kinds(markdown: str) -> list[str]:
    """Kinds of the document's tokens in order, those inside lines too, without text and line breaks."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        found.append(token.type)
        found += [
            child.type for child in token.children or () if child.type not in ("text", "softbreak", "text_special")
        ]
    return found


@pytest.fixture(scope="module")
def harmless(record: RunRecord, findings: Findings) -> list[str]:
    return kinds(render_markdown(hostile_report("word", record, findings)))


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: ascii(payload[:12]))
def test_hostile_text_leaves_markdown_as_it_would_be_without(
    payload: str, record: RunRecord, findings: Findings, harmless: list[str]
) -> None:
    markdown = render_markdown(hostile_report(payload, record, findings))
    if len(payload) < 10_000:  # behind a longer one no word is left that has a line in the glossary
        assert kinds(markdown) == harmless
    assert set(kinds(markdown)) <= set(harmless)
    assert not {"html_block", "html_inline", "link_open", "image", "code_inline", "fence"} & set(harmless)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", markdown)
    assert not re.search(r"(?<!\\)\$|[^\\]://|www\.", markdown)  # formulas and bare addresses, which GitHub acts on
    assert len(markdown.encode()) < 1_000_000


def test_markdown_shows_hostile_text_as_it_is(record: RunRecord, findings: Findings) -> None:
    payload = "<b>[a](b)</b> *c* $d$ | "
    markdown = render_markdown(hostile_report(payload, record, findings))
    shown = "".join(
        child.content
        for token in MarkdownIt("commonmark").enable("table").parse(markdown)
        for child in token.children or ()
        if child.type in ("text", "text_special")
    )
    assert shown.count("<b>[a](b)</b> *c* $d$ |") > 50


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: ascii(payload[:12]))
def test_json_is_canonical_ascii_that_holds_every_text(payload: str, record: RunRecord, findings: Findings) -> None:
    text = render_json(hostile_report(payload, record, findings))
    assert re.fullmatch(r"[\x20-\x7e\n]*", text)
    read = json.loads(text)
    assert text == json.dumps(read, sort_keys=True, indent=2, ensure_ascii=True) + "\n"
    assert (read["format"], read["schema_version"]) == ("palimpsest-report", 1)
    assert read["sections"][0]["findings"][0]["claim"].startswith(payload)


def test_json_gives_the_judged_verdict_beside_the_stated_one(record: RunRecord, findings: Findings) -> None:
    section = findings.sections[0]
    refused = section.findings[1].model_copy(update={"verdict": "confounded"})
    section = section.model_copy(update={"findings": (section.findings[0], refused)})
    read = json.loads(render_json(Report(record, findings.model_copy(update={"sections": (section,)}))))
    first = read["sections"][0]["findings"][0]
    assert (first["stated_verdict"], first["verdict"]) == ("found", "confounded")
    assert first["estimates"]["AUC, 50 tokens, 64 copies"]["n"] == 30
    assert read["gate"] is None


def test_a_pdf_holds_no_action_no_address_and_no_file(record: RunRecord, findings: Findings) -> None:
    pytest.importorskip("weasyprint", reason="WeasyPrint is not installed", exc_type=ImportError)
    try:
        report = hostile_report("<script>alert(1)</script> http://evil.example ", record, findings)
        report = replace(report, figures={}, item_hashes={}, record=report.record.model_copy(update={"plan": {}}))
        made = rendered(report, "pdf")
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert made.startswith(b"%PDF-")
    assert not re.search(rb"/(JavaScript|JS|URI|Launch|EmbeddedFile|SubmitForm|GoToR|OpenAction)\b", made)


def test_without_weasyprint_the_message_says_what_to_install(
    record: RunRecord, findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "weasyprint", None)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'palimpsest-audit[pdf]'")):
        pdf.render_pdf(Report(record, findings))


def large(findings: Findings) -> Findings:
    """Far more findings, numbers, rows and columns than a page holds, with long texts."""
    section = findings.sections[0]
    number = section.findings[0].estimates["TPR at 1% FPR"].model_copy(update={"value": 0.5, "why": "w" * 900})
    listed = tuple(
        Finding(
            id=f"traps.{at}", audit="traps", claim=f"{at} {'claim ' * 300}", verdict="found", how_to_read="r" * 1_900,
            estimates={f"number {one} {'n' * 200}": number for one in range(30)},
        )
        for at in range(300)
    )  # fmt: skip
    columns = tuple(Column(key=f"c{at}", label="l" * 200, help="h" * 900) for at in range(60))
    row = {column.key: "t" * 280 for column in columns}
    tables = tuple(Table(name=f"t{at}", title="many", columns=columns, rows=(row,) * 300) for at in range(30))
    return Findings(sections=(section.model_copy(update={"findings": listed, "tables": tables}),))


def test_a_report_has_a_bound_whatever_the_runs_size_and_says_what_it_left_out(
    record: RunRecord, findings: Findings
) -> None:
    report = Report(record, large(findings))
    html, markdown = render_html(report), render_markdown(report)
    assert len(html.encode()) < 5_000_000
    assert len(markdown.encode()) < 1_000_000
    for text in (html, markdown):
        assert re.search(r"Shown are the gravest \d+ of 300 findings", text)
        assert re.search(r"Not shown here: \d+ more rows and \d+ more columns; they stand in findings.json", text)
        assert re.search(r"Left out for want of room: \d+ more tables", text)


def test_a_page_that_cannot_be_made_small_is_refused() -> None:
    with pytest.raises(DataError, match="would be 6,000 bytes large; 5,000 is the most"):
        fitted(lambda limits: "x" * (6_000 if limits == LEVELS[-1] else 9_000), most=5_000)
