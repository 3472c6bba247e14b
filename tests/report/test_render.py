from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

import pandas as pd
import pytest

from audit.errors import InputError
from audit.report.charts import auc_by_repetition
from audit.report.content import Report
from audit.report.figures import Comparison, Figure, Panel
from audit.report.render import render_html
from audit.report.side_by_side import side_by_side
from audit.report.traps_section import trap_figures
from audit.runs.schema import Findings, RunRecord
from tests.report.hostile import PAYLOADS, hostile_report, mapped

VOID = {"meta", "br"}
ALLOWED = set(
    """html head meta title style body header main section article nav h1 h2 h3 h4 p div span ul ol li a strong bdi
    code mark dl dt dd sup table caption thead tbody tr th td figure figcaption br
    svg desc g path rect line circle text tspan defs clippath""".split()  # noqa: SIM905
)


class Page(HTMLParser):
    """Reads a page and keeps what the tests ask about; every end tag must match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_harmless(html: str) -> Page:
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= ALLOWED
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in {"src", "style", "action", "formaction", "xlink:href", "srcset"}
            assert name != "href" or (value or "").startswith("#")
    assert not re.search(r"url\((?!#)|@import", html)
    html.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", html)
    return page


@pytest.fixture(scope="module")
def html(record: RunRecord, findings: Findings, figures: list[Figure]) -> str:
    return render_html(Report(record, findings, {"traps": figures}, item_hashes={"items/traps.parquet": "e3" * 32}))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return assert_harmless(html)


def test_the_page_loads_nothing_and_runs_nothing(html: str, page: Page) -> None:
    style = html[html.index("<style>") + len("<style>") : html.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in page.all("meta")
    outside = [address for address in re.findall(r"https?://[^\"'\s<]+", html) if "www.w3.org/2000/svg" not in address]
    assert outside == []


def test_ids_are_unique_and_every_reference_resolves(html: str, page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [(attributes["href"] or "")[1:] for attributes in page.all("a")]
    labels = [name for _, a in page.tags for name in (a.get("aria-labelledby") or "").split()]
    assert {*links, *labels, *re.findall(r"url\(#([^)]+)\)", html)} <= set(ids)
    assert len(links) > 50


def test_headings_descend_without_a_gap(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_tables_have_captions_and_scopes_and_the_page_a_language(page: Page) -> None:
    assert len(page.all("caption")) == len(page.all("table")) > 8
    assert all(attributes.get("scope") in {"row", "col"} for attributes in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]


def test_parts_come_in_the_order_of_decision(page: Page) -> None:
    parts = ["Verdict", "In plain words", "What the verdicts mean", "How to read the numbers", "What this assumes"]
    parts += ["What this cannot show", "Calibration:", "Charts", "Tables", "Deviations from the plan", "Limitations"]
    parts += ["Provenance", "How to check this report"]
    contents = page.text.index("How to check this report")
    at = [page.text.index(part, contents + 1) for part in parts]
    assert at == sorted(at)


def test_each_finding_shows_its_numbers_and_how_to_read_them(page: Page, findings: Findings) -> None:
    text = " ".join(page.text.split())
    for finding in findings.sections[0].findings:
        after = text[text.rindex(finding.claim) :]
        assert after.index(finding.how_to_read) < after.index("n ") < after.index(f"Finding {finding.id}")
    assert re.search(r"p-value: all members\s*0\.0001 \(smallest possible 0\.0001\)", text)
    assert "AUC, DeLong on the logit scale; 95% interval" in text


def test_an_undefined_estimate_has_its_reason_on_the_page(page: Page) -> None:
    assert "not estimable: 50 decoys cannot resolve a false-positive rate of 1%" in page.text


def test_drawings_have_a_title_and_a_description(page: Page) -> None:
    drawings = page.all("svg")
    assert len(drawings) == 5 * 2 + 4
    assert all(attributes["role"] == "img" for attributes in drawings)
    assert len(page.all("desc")) == len(drawings)


def test_provenance_holds_what_is_needed_to_do_it_again(page: Page) -> None:
    text = " ".join(page.text.split())
    for needed in ("3f" * 32, "9c" * 32, "ab" * 32, "e3" * 32, "2.13.0", "assignment", "1 min 15 s", "texts 834"):
        assert needed in text
    assert "palimpsest traps detect 'plan with space.toml' --seed 11" in text
    assert "with changes that were not committed" in text


def test_the_same_run_gives_the_same_page(
    html: str, record: RunRecord, findings: Findings, figures: list[Figure]
) -> None:
    again = render_html(Report(record, findings, {"traps": figures}, item_hashes={"items/traps.parquet": "e3" * 32}))
    assert again == html


def test_a_run_without_anything_still_reads_and_is_no_pass(record: RunRecord) -> None:
    bare = record.model_copy(
        update={"status": "running", "subjects": {}, "seeds": {}, "stages": (), "plan": {}, "finished": None}
    )
    text = assert_harmless(render_html(Report(bare, Findings(sections=()), {}))).text
    assert "This run has not ended." in text
    assert "No result" in text
    assert "An empty result is not a pass." in text
    assert "No hash was given to this report" in text


def test_no_found_effect_is_shown_in_an_audit_that_is_confounded(record: RunRecord, findings: Findings) -> None:
    section = findings.sections[0]
    refused = section.findings[1].model_copy(update={"verdict": "confounded"})
    section = section.model_copy(update={"findings": (section.findings[0], refused)})
    html = render_html(Report(record, findings.model_copy(update={"sections": (section,)}), {}))
    summary = html[html.index('<h2 id="summary">') : html.index("In plain words")]
    assert section.findings[0].claim not in summary
    article = html[html.index('aria-labelledby="finding-1"') : html.index('aria-labelledby="finding-2"')]
    assert 'class="badge confounded">Confounded' in article
    assert "By itself this finding says &#34;found&#34;" in article


def test_figures_of_an_unknown_audit_are_refused(record: RunRecord, findings: Findings) -> None:
    with pytest.raises(InputError, match="figures for the audit 'extraction', which has no section .* are traps"):
        render_html(Report(record, findings, {"extraction": []}))


def matches(record: RunRecord, findings: Findings, *compared: Comparison) -> str:
    """The part of the page that shows comparisons."""
    html = render_html(Report(record, findings, {}, comparisons={"traps": compared}))
    assert_harmless(html)
    return html[html.index("<h3>Strongest matches</h3>") : html.index("<h3>Tables</h3>")]


def test_differing_words_are_marked_in_texts_side_by_side(record: RunRecord, findings: Findings) -> None:
    one = side_by_side("a pair", "cosine 0.98", ("Generation", "nine lamps <b>"), ("Row", "nine doors <b>"))
    shown = matches(record, findings, one, one)
    assert shown.count('<dd dir="auto">nine <mark>lamps</mark> &lt;b&gt;</dd>') == 2
    assert shown.count('<dd dir="auto">nine <mark>doors</mark> &lt;b&gt;</dd>') == 2
    assert 'id="a1-m2"' in shown
    assert shown.index("<mark>bold and underlined</mark> differ") < shown.index("a pair")
    assert "No word shown differs." not in shown


def test_texts_that_are_the_same_or_empty_say_so(record: RunRecord, findings: Findings) -> None:
    same = matches(record, findings, side_by_side("t", "", ("a", "one two"), ("b", "one  two")))
    assert "No word shown differs." in same
    empty = matches(record, findings, side_by_side("t", "", ("a", ""), ("b", "one")))
    assert '<span class="quiet">(no text)</span>' in empty
    assert "No word shown differs." not in empty


def test_a_page_without_comparisons_has_no_heading_for_them(html: str) -> None:
    assert "Strongest matches" not in html


def test_a_long_piece_of_a_quoted_text_is_shown_whole(record: RunRecord, findings: Findings) -> None:
    text = " ".join(f"word{at}" for at in range(400))
    assert matches(record, findings, side_by_side("t", "", ("a", text), ("b", text))).count(text) == 2


def test_comparisons_of_an_unknown_audit_are_refused(record: RunRecord, findings: Findings) -> None:
    with pytest.raises(InputError, match="comparisons for the audit 'extraction', which has no section"):
        render_html(Report(record, findings, {}, comparisons={"extraction": []}))


def test_long_mappings_are_cut_with_a_count(record: RunRecord, findings: Findings) -> None:
    long = record.model_copy(update={"plan": {f"key{at}": at for at in range(1_000)}})
    assert "600 more stand in run.json" in render_html(Report(long, findings, {}))


def test_only_wide_drawings_are_given_more_room(record: RunRecord, findings: Findings) -> None:
    def panels(copies: int) -> tuple[Panel, ...]:
        numbers = {"value": 0.7, "low": 0.6, "high": 0.8, "length": 25}
        rows = [{**numbers, "score": score, "n_rep": n} for score in "abcde" for n in range(copies)]
        return tuple(Panel(name, "words", chart) for name, chart in auc_by_repetition(rows).items())

    figures = [Figure("a", "t", "c", panels(2)), Figure("b", "t", "c", panels(9))]
    html = render_html(Report(record, findings, {"traps": figures}))
    assert (html.count('class="panel"'), html.count('class="panel wide"')) == (1, 1)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: ascii(payload[:12]))
def test_hostile_text_in_every_field_stays_text(payload: str, record: RunRecord, findings: Findings) -> None:
    html = render_html(hostile_report(payload, record, findings))
    page = assert_harmless(html)
    if payload.isprintable() and len(payload) < 100:
        assert page.text.count(payload) > 50
    assert len(html) < 5_000_000


def test_every_field_reaches_the_page(record: RunRecord, findings: Findings) -> None:
    """Each string is given its own mark; all marks but those of table keys and schema ids must be on the page."""
    marks: list[str] = []

    def change(text: str) -> str:
        marks.append(f"mark{len(marks)}of{text[:12]}.")
        return marks[-1]

    section = findings.sections[0].model_copy(update={"tables": (), "audit": "traps"})
    marked = mapped(Findings(sections=(section,), limitations=("x",)), change)
    text = Page(render_html(Report(mapped(record, change), marked, {}))).text
    unseen = {mark.split("of", 1)[1] for mark in marks if mark not in text}
    assert unseen == set()


def test_the_size_of_the_page_does_not_grow_with_the_run(
    items: pd.DataFrame, findings: Findings, record: RunRecord, html: str
) -> None:
    many = pd.concat([items] * 120, ignore_index=True)
    many["ratio_score"] += pd.Series(range(len(many))) * 1e-7
    large = render_html(Report(record, findings, {"traps": trap_figures(many, findings)}))
    assert len(many) > 100_000
    assert len(large) < 1_000_000


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_contrasts_with_its_ground(html: str, scheme: int) -> None:
    """WCAG 2.1 AA: 4.5 to 1 for every text colour on the page, in the verdict's box and, for ink, in a mark."""
    block = [colours(found) for found in re.findall(r":root \{(.*?)\}", html, re.DOTALL)][scheme]
    texts = {"ink", "quiet", "link", "found", "confounded", "inconclusive", "not-found", "information"}
    assert texts <= set(block)
    for ground, shown in (("page", texts), ("box", texts), ("mark", {"ink"})):
        for text in shown:
            high, low = sorted((luminance(block[text]), luminance(block[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
