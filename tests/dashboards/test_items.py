"""Pages of items: the right rows in the right order, no more of the file than is needed, and what is wrong said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.errors import DataError, InputError
from audit.runs.store import Run
from dashboards.items import MOST_ROWS, Items, Where, require_sound

N = 5_000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=N).round(2)  # with ties
    return pa.table(
        {
            "id": [f"Row-{number:05d}" for number in range(N)],
            "arm": ["member" if number % 3 else "decoy" for number in range(N)],
            "score": pa.array([None if number % 97 == 0 else score for number, score in enumerate(scores)]),
            "hit": scores > 0,
        }
    )


@pytest.fixture(scope="module")
def run(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("items") / "run"
    with Run.start(folder, kind="audit", plan={"seed": 1}, plan_text=None, command=["palimpsest"]) as run:
        run.write_items("small", table)
        pq.write_table(table, run.items_path("groups"), row_group_size=700)
        run.finish()
    return Run.open(folder)


def of(run: Run, name: str) -> Items:
    items = Items.of(run, name)
    assert items is not None
    return items


@pytest.mark.parametrize("name", ["small", "groups"])
@pytest.mark.parametrize("descending", [False, True])
def test_a_page_is_what_a_whole_sort_would_give(run: Run, table: pa.Table, name: str, descending: bool) -> None:
    items = of(run, name)
    where = (Where("arm", "==", "member"), Where("score", ">=", -1.0))
    places = items.order(where, "score", descending=descending)
    frame = table.to_pandas()
    passing = frame[(frame["arm"] == "member") & (frame["score"] >= -1.0)]
    expected = passing.sort_values("score", ascending=not descending, kind="stable")
    assert items.count(where) == len(expected)
    for begin in (0, 300, len(expected) - 50):
        rows = items.rows(["id", "score"], places[begin : begin + 100])
        assert rows["id"].to_pylist() == expected["id"].tolist()[begin : begin + 100]


def test_rows_without_a_value_come_last_either_way(run: Run) -> None:
    items = of(run, "small")
    n_lacking = items.count((Where("score", "is null"),))
    assert n_lacking == -(-N // 97)
    for descending in (False, True):
        places = items.order((), "score", descending=descending)
        assert set(places[-n_lacking:]) == set(range(0, N, 97))


def test_texts_are_found_whatever_their_case(run: Run) -> None:
    items = of(run, "groups")
    assert items.rows(["id"], items.order((Where("id", "contains", "row-00042"),)))["id"].to_pylist() == ["Row-00042"]
    assert items.order((Where("id", "contains", "a(b|"),)).size == 0  # a text, not a pattern


def test_numbers_and_distinct_values(run: Run, table: pa.Table) -> None:
    items = of(run, "small")
    values = items.numbers("score", (Where("hit", "==", True),))
    frame = table.to_pandas()
    np.testing.assert_array_equal(values, frame.loc[frame["hit"], "score"].to_numpy())
    assert items.distinct("arm") == ["decoy", "member"]
    assert len(items.distinct("id", most=7)) == 7


def test_nothing_is_read_behind_the_rows_that_are_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    of(run, "groups").rows(["id"], np.array([0]))  # measured whole, once for each state of the file
    groups: list[int] = []
    original = pq.ParquetFile.iter_batches

    def counting(self: pq.ParquetFile, *args: object, **named: object) -> object:
        groups.extend(named["row_groups"])  # type: ignore[call-overload]
        return original(self, *args, **named)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counting)
    items = of(run, "groups")
    items.rows(["id"], np.array([1_500, 1_450, 4_999]))
    assert groups == [2, 7]


def test_a_page_has_an_end(run: Run) -> None:
    with pytest.raises(InputError, match=f"at most {MOST_ROWS}"):
        of(run, "small").rows(["id"], np.arange(MOST_ROWS + 1))


def test_a_column_that_is_not_there_is_named(run: Run) -> None:
    with pytest.raises(InputError, match=r"items/small.parquet has no column nothing; it has id, arm, score, hit"):
        of(run, "small").order((), "nothing")
    with pytest.raises(InputError, match="no column nothing"):
        of(run, "small").count((Where("nothing", "==", 1),))


def test_a_condition_that_does_not_fit_its_column_is_told(run: Run) -> None:
    with pytest.raises(DataError, match=r"could not read items/small.parquet"):
        of(run, "small").count((Where("arm", ">", 0.5),))


def test_what_is_no_table_is_told(run: Run, tmp_path: Path) -> None:
    assert Items.of(run, "none") is None
    run.items_path("cut").write_bytes(run.items_path("small").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"could not read items/cut.parquet"):
        Items.of(run, "cut")
    run.items_path("link").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(DataError, match=r"items/link.parquet is no plain file"):
        Items.of(run, "link")
    os.mkfifo(run.items_path("pipe"))
    with pytest.raises(DataError, match="no plain file"):
        Items.of(run, "pipe")


def test_a_changed_page_of_the_file_is_noticed(run: Run) -> None:
    content = bytearray(run.items_path("small").read_bytes())
    content[2_000] ^= 0xFF
    run.items_path("flipped").write_bytes(content)
    items = of(run, "flipped")
    with pytest.raises(DataError, match=r"could not read items/flipped.parquet"):
        items.rows(["id"], np.arange(300))
    with pytest.raises(DataError, match=r"could not read items/flipped.parquet"):
        items.order((Where("id", "contains", "x"),))


# --- memory, and links -----------------------------------------------------------------------------------------------


def one_text(n_rows: int, n_characters: int) -> pa.Array:
    """A text ``n_rows`` times, which a file holds once."""
    texts = pa.array(["x" * n_characters])
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, np.int32)), texts)


@pytest.fixture
def bomb(tmp_path: Path) -> Run:
    """A run whose column "arm" takes 2 GB in memory, of a file of some kilobytes."""
    with Run.start(tmp_path / "run", kind="audit", plan={}, plan_text=None, command=["palimpsest"]) as run:
        n_rows = 100_000
        table = pa.table({"id": np.arange(n_rows), "arm": one_text(n_rows, 20_000), "a.b": one_text(n_rows, 20_000)})
        pq.write_table(table, run.items_path("traps"), store_schema=False, compression="zstd")
        run.finish()
    assert run.items_path("traps").stat().st_size < 2_000_000
    return Run.open(tmp_path / "run")


@pytest.mark.parametrize("column", ["arm", "a.b"])
def test_a_column_that_would_fill_the_memory_is_not_read(bomb: Run, column: str) -> None:
    items = of(bomb, "traps")
    where = (Where(column, "==", "x"),)
    whole_reads: tuple[Callable[[], object], ...] = (
        lambda: items.distinct(column),
        lambda: items.table([column]),
        lambda: items.order((), column),
        lambda: items.order(where),
        lambda: items.count(where),
        lambda: items.numbers("id", where),
    )
    for read in whole_reads:
        with pytest.raises(DataError, match=r"items/traps.parquet is too large to be shown: of .*memory"):
            read()
    assert items.rows(["id", column], np.array([99_999]))[column].to_pylist() == ["x" * 20_000]  # a page of it can
    assert items.numbers("id").sum() == 99_999 * 50_000


def test_a_page_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    with Run.start(tmp_path / "run", kind="audit", plan={}, plan_text=None, command=["palimpsest"]) as run:
        pq.write_table(pa.table({"text": one_text(300, 2_000_000)}), run.items_path("texts"), store_schema=False)
    with pytest.raises(DataError, match="of the 300 rows of this page, more would have to be held in memory"):
        of(run, "texts").rows(["text"], np.arange(300))


def test_lists_that_would_fill_the_memory_are_not_read(tmp_path: Path) -> None:
    with Run.start(tmp_path / "run", kind="audit", plan={}, plan_text=None, command=["palimpsest"]) as run:
        lists = pa.ListArray.from_arrays(pa.array([0, 60_000, 120_000], pa.int32()), one_text(120_000, 20_000))
        pq.write_table(pa.table({"lists": lists}), run.items_path("lists"), store_schema=False)
    with pytest.raises(DataError, match="too large to be shown"):
        of(run, "lists").table(["lists"])
    with pytest.raises(DataError, match="too large to be shown"):
        of(run, "lists").rows(["lists"], np.arange(2))


def test_the_reports_drawing_does_not_read_such_a_table_either(bomb: Run) -> None:
    with pytest.raises(DataError, match=r"traps.parquet is too large to be read here: with its column arm"):
        require_sound(bomb)


def test_texts_lists_and_numbers_come_as_they_are(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", None, "ä"], pa.large_string()),
            "lists": pa.array([["p", "q"], [], None]),
            "kind": pa.array(["k", "k", None]).dictionary_encode(),
            "n": [1, 2, 3],
        }
    )
    with Run.start(tmp_path / "run", kind="audit", plan={}, plan_text=None, command=["palimpsest"]) as run:
        run.write_items("all", table)
    rows = of(run, "all").rows(table.column_names, np.array([2, 0, 1]))
    assert rows.to_pylist() == table.take(pa.array([2, 0, 1])).to_pylist()
    require_sound(run)


def test_a_linked_folder_of_items_is_not_followed(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy, ignore=shutil.ignore_patterns("pipe.parquet", "link.parquet"))
    (copy / "items").rename(tmp_path / "elsewhere")
    (copy / "items").symlink_to(tmp_path / "elsewhere")
    for read in (lambda: Items.of(Run.open(copy), "small"), lambda: require_sound(Run.open(copy))):
        with pytest.raises(DataError, match="is no plain file, or lies behind a link"):
            read()
