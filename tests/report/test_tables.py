from __future__ import annotations

from audit.report.safe_text import width
from audit.report.tables import as_markdown, as_text, markdown_escaped, shown
from audit.runs.schema import Cell, Column, EstimateRecord, Findings, PValueRecord, Table

AUC = EstimateRecord(value=0.95312, low=0.92146, high=0.97333, level=0.95, n=40, method="AUC, DeLong")
WIDE = EstimateRecord(value=0.9, low=0.88, high=0.93, level=0.99, n=1_200, method="AUC, DeLong")
MISSING = EstimateRecord(value=None, low=None, high=None, level=0.95, n=0, method="AUC, DeLong", why="no decoys")
RANK = PValueRecord(value=0.01, attainable=0.01, n=99, method="rank among 99 controls, one-sided")


def table(*rows: dict[str, Cell], title: str = "Results") -> Table:
    columns = (
        Column(key="name", label="Score", help="higher is more like a member"),
        Column(key="value", label="AUC"),
    )
    return Table(name="auc", title=title, note="Exploratory.", columns=columns, rows=rows)


def test_every_estimate_has_its_n_and_a_note_with_method_and_level() -> None:
    ready = shown(table({"name": "loss", "value": AUC}, {"name": "ratio", "value": WIDE}))
    assert [row[1].text for row in ready.rows] == ["0.953 [0.921, 0.973]", "0.900 [0.880, 0.930]"]
    assert [row[1].n for row in ready.rows] == [40, 1_200]
    assert [row[1].notes for row in ready.rows] == [(1,), (2,)]
    assert ready.notes == ("AUC, DeLong; 95% interval", "AUC, DeLong; 99% interval")


def test_the_same_note_is_printed_once() -> None:
    ready = shown(table(*({"name": "loss", "value": AUC} for _ in range(9))))
    assert ready.notes == ("AUC, DeLong; 95% interval",)


def test_an_undefined_estimate_gives_its_reason_in_a_visible_note() -> None:
    for text in (
        as_text(table({"name": "loss", "value": MISSING})),
        as_markdown(table({"name": "a", "value": MISSING})),
    ):
        assert "not estimable, n 0 (1) (2)" in text
        assert "(2) not estimable: no decoys" in text


def test_other_cells_read_as_words_and_numbers() -> None:
    cells: tuple[Cell, ...] = (RANK, True, False, 1_234, 0.12345, "text", None)
    texts = [row[1].text for row in shown(table(*({"name": "x", "value": cell} for cell in cells))).rows]
    assert texts == ["0.01 (smallest possible 0.01)", "yes", "no", "1,234", "0.1235", "text", "-"]


def test_a_missing_cell_says_that_no_value_was_recorded() -> None:
    ready = shown(table({"name": "loss"}))
    assert ready.rows[0][1].text == "-"
    assert ready.notes == ("no value was recorded",)


def test_text_table_is_aligned() -> None:
    lines = as_text(table({"name": "日本", "value": AUC}, {"name": "loss", "value": 3})).splitlines()
    assert lines[:6] == [
        "Results",
        "",
        "Score                             AUC",
        "-----  ------------------------------",
        "日本   0.953 [0.921, 0.973], n 40 (1)",
        "loss                                3",
    ]
    assert len({width(line) for line in lines[2:6]}) == 1


def test_a_table_without_rows_says_so() -> None:
    assert "(no rows)" in as_text(table())


def test_notes_and_explanations_follow_the_text_table() -> None:
    text = as_text(table({"name": "loss", "value": AUC}))
    assert text.endswith("Exploratory.\n\nScore: higher is more like a member\n\n(1) AUC, DeLong; 95% interval")


def test_hostile_text_cannot_leave_its_cell_in_markdown() -> None:
    hostile = "a|b\n<script>[x](http://evil)`*_\\ https://evil www.evil.example"
    lines = as_markdown(table({"name": hostile, "value": 1})).splitlines()
    assert lines[4] == (r"| a\|b \<script\>\[x\](http\://evil)\`\*\_\\ https\://evil www\.evil.example | 1 |")


def test_markdown_keeps_ordinary_words_readable() -> None:
    assert markdown_escaped("AUC (1): 0.5 is chance - nothing more.") == "AUC (1): 0.5 is chance - nothing more."


def test_terminal_tables_hold_no_control_characters() -> None:
    text = as_text(table({"name": "\x1b[2J\x07loss\u202e", "value": 1}, title="a\x1b]0;b\x07"))
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_the_whole_table_of_a_run_is_printed(findings: Findings) -> None:
    auc = findings.sections[0].tables[0]
    assert sum(line.startswith("| ") for line in as_markdown(auc).splitlines()) == len(auc.rows) + 2
